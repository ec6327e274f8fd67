"Reports show the results of a stage without its code, have the same bytes each time, and open without a network."

import re
import shutil
import subprocess

import nbformat
import pytest

from brewcast.workflow.report import render_report, render_stage_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def executed(tmp_path):
    """An executed stage notebook: a lesson, and a Run with a table, a picture, a warning and a script from the network."""
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
    # then it has the results, but no code, lessons, warnings or scripts from the network
    assert report == again
    for shown in [
        "<h1>Explore</h1>",
        "Pictures of the sales.",
        "1,318,543",
        'alt="Sales by month"',
        "../forecast/month.html",
    ]:
        assert shown in text, shown
    for hidden in ["secret", "lesson", "UserWarning", "https://", "## Run"]:
        assert hidden not in text, hidden


def test_a_report_is_beside_its_notebook_and_links_to_the_month_page(executed):
    # given a notebook in its stage's folder, when it is rendered in the same way as by a build
    folder = executed.parent / "products/shop/explore"
    folder.mkdir(parents=True)
    notebook = executed.rename(folder / "explore.ipynb")
    render_stage_report(notebook, folder.parent / "forecast/month.html")
    # then the link is relative, so the project may be in any folder
    assert 'href="../forecast/month.html"' in (folder / "explore.html").read_text()
    # and without a month page there is no link
    render_stage_report(notebook)
    assert "month page" not in (folder / "explore.html").read_text()


def test_markup_in_title_and_subtitle_is_escaped(tmp_path):
    v4 = nbformat.v4
    cells = [
        v4.new_markdown_cell("# <img src=x>\n\n> a < b & <script>alert(1)</script>"),
        v4.new_markdown_cell("## Run"),
    ]
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "odd.ipynb")
    page = render_report(tmp_path / "odd.ipynb", tmp_path / "odd.html").read_text()
    assert "<h1>&lt;img src=x&gt;</h1>" in page and "a &lt; b &amp; &lt;script&gt;" in page
    assert "<img" not in page and "<script>alert" not in page


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")
def test_a_report_opens_offline_in_a_browser(executed, tmp_path):
    # given a report, when a browser that may not resolve any host opens it
    page = render_report(executed, tmp_path / "explore.html", home="month.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    run = subprocess.run([CHROMIUM, *flags, f"file://{page}"], capture_output=True, text=True, timeout=120, check=True)
    # then the table and the picture are there, and the console is silent
    assert "1,318,543" in run.stdout and re.search(r'<img[^>]+src="data:image/png', run.stdout)
    assert "CONSOLE" not in run.stderr, run.stderr
