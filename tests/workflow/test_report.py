"Reports: what a stage showed, without its code, the same each time, and readable without a network."

import nbformat
import pytest

from brewcast.workflow.report import render_report


@pytest.fixture
def executed(tmp_path):
    """An executed stage notebook: a lesson, and a Run that shows a table, a picture, a warning and a fetched script."""
    v4 = nbformat.v4
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    outputs = [
        v4.new_output("execute_result", {"text/html": "<table><tr><td>1,318,543</td></tr></table>"}, execution_count=1),
        v4.new_output("display_data", {"image/png": png}, metadata={"image/png": {"alt": "Sales by month"}}),
        v4.new_output("display_data", {"text/html": '<script src="https://cdn.example.com/x.js"></script>'}),
        v4.new_output("stream", name="stderr", text="/home/someone/x.py: UserWarning"),
    ]
    cells = [v4.new_markdown_cell("# Explore\n\n> Pictures of the sales."), v4.new_code_cell("lesson = 1")]
    cells += [v4.new_markdown_cell("## Run"), v4.new_code_cell("secret = 2", outputs=outputs, execution_count=1)]
    path = tmp_path / "explore.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


def test_a_report_shows_results_without_code(executed, tmp_path):
    # when the executed notebook is rendered, twice
    report = render_report(executed, tmp_path / "a.html", home="../forecast/month.html").read_bytes()
    again = render_report(executed, tmp_path / "b.html", home="../forecast/month.html").read_bytes()
    text = report.decode()
    # then results stand in it; code, lessons, warnings and fetched scripts do not
    assert report == again
    for said in [
        "<h1>Explore</h1>",
        "Pictures of the sales.",
        "1,318,543",
        'alt="Sales by month"',
        "../forecast/month.html",
    ]:
        assert said in text, said
    for hidden in ["secret", "lesson", "UserWarning", "https://", "## Run"]:
        assert hidden not in text, hidden


def test_a_report_needs_a_run(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Core")]), tmp_path / "core.ipynb")
    with pytest.raises(ValueError, match="core.ipynb: no cell with the heading '## Run'"):
        render_report(tmp_path / "core.ipynb", tmp_path / "core.html")
