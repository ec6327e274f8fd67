"Reports show the results of a stage without its code, have the same bytes each time, and open without a network."

import re
import shutil
import subprocess

import nbformat
import pandas as pd
import pytest
from chromium import FLAGS
from looking import CHROMIUM

from brewcast.common.params import Stage
from brewcast.workflow.report import ReportLinks, render_report, render_stage_report, stage_links


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
    report = render_report(executed, tmp_path / "a.html", ReportLinks("../forecast/month.html")).read_bytes()
    again = render_report(executed, tmp_path / "b.html", ReportLinks("../forecast/month.html")).read_bytes()
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


def test_a_report_is_beside_its_notebook_and_links_to_the_month_page(executed, tmp_path):
    # given a notebook in its stage's folder, when it is rendered in the same way as by a build
    folder = executed.parent / "products/shop/explore"
    folder.mkdir(parents=True)
    notebook = executed.rename(folder / "explore.ipynb")
    (tmp_path / "pipeline.yaml").write_text("executor: {home_page: 'products/{{source}}/forecast/month.html'}")
    (tmp_path / "nbs").mkdir()
    shutil.copy(notebook, tmp_path / "nbs/12_explore.ipynb")
    stage = Stage(source="nbs/12_explore.ipynb", params={}, product={"nb": "products/shop/explore/explore.ipynb"})
    render_stage_report(notebook, stage_links(tmp_path, "shop", {"explore": stage}, "explore", folder))
    # then the links are relative, so the project may be in any folder
    report = (folder / "explore.html").read_text()
    assert 'href="../forecast/month.html"' in report and 'href="../index.html"' in report
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
    page = render_report(executed, tmp_path / "explore.html", ReportLinks("month.html"))
    flags = ["--headless", *FLAGS, "--enable-logging=stderr"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    run = subprocess.run([CHROMIUM, *flags, f"file://{page}"], capture_output=True, text=True, timeout=120, check=True)
    # then the table and the picture are there, and the console is silent
    assert "1,318,543" in run.stdout and re.search(r'<img[^>]+src="data:image/png', run.stdout)
    assert "CONSOLE" not in run.stderr, run.stderr


V4 = nbformat.v4


def report_of(folder, *outputs, before=()):
    "The report of a stage whose only cell shows these outputs."
    shown = [output if "output_type" in output else V4.new_output("display_data", output) for output in outputs]
    cells = [*before, V4.new_markdown_cell("# Toy\n\n> A stage."), V4.new_markdown_cell("## Run")]
    nbformat.write(V4.new_notebook(cells=[*cells, V4.new_code_cell("x", outputs=shown)]), folder / "toy.ipynb")
    return render_report(folder / "toy.ipynb", folder / "toy.html").read_text().partition("</style>")[2]


def test_the_answer_stands_above_everything_else(tmp_path):
    answer = V4.new_output(
        "display_data", {"text/plain": "61 stores sell."}, metadata={"brewcast": {"answer": "61 stores sell."}}
    )
    report = report_of(tmp_path, {"text/plain": "'The months.'"}, answer)
    assert report.index("A stage.") < report.index("61 stores sell.") < report.index("The months.")
    assert report.count("61 stores sell.") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'60 stores, 289,333 pieces'", "60 stores, 289,333 pieces</p>"),
        ("np.float64(0.0525481)", "0.05255</p>"),
        ("1318543", "1,318,543</p>"),
        ("{'retrain': True, 'rule': 'no_model'}", "<dt>rule</dt><dd>no model</dd>"),
        ("{'cutoff': Timestamp('2025-12-31 00:00:00')}", "<dd>2025-12-31</dd>"),
        ("['Oslo', 'Lima']", "Oslo and Lima</p>"),
        ("Pipeline(steps=[])", "<pre>Pipeline(steps=[])</pre>"),
    ],
)
def test_a_plain_value_is_written_in_words(tmp_path, text, shown):
    assert shown in report_of(tmp_path, {"text/plain": text})


@pytest.mark.parametrize(
    "text", ["<Figure size 640x480 with 1 Axes>", "Figure(640x480)", "[<matplotlib.lines.Line2D at 0x7f>]", "None", ""]
)
def test_what_says_nothing_is_left_out(tmp_path, text):
    assert "This stage shows nothing." in report_of(tmp_path, {"text/plain": text})


def test_a_frame_has_four_digits_and_no_row_numbers(tmp_path):
    html = pd.DataFrame({"city": ["Oslo", "Lima"], "share": [0.1234567, None]})._repr_html_()
    report = report_of(tmp_path, {"text/html": html})
    assert "<td>0.1235</td>" in report and "<td>–</td>" in report and "<th>0</th>" not in report
    html = pd.DataFrame({"share": [0.5]}, index=["Oslo"])._repr_html_()
    assert "<th>Oslo</th>" in report_of(tmp_path, {"text/html": html})


def test_scripts_styles_and_addresses_of_a_cell_are_left_out(tmp_path):
    bad = "<script>alert(1)</script><style>p{display:none}</style><p onclick='x()' id='a'>61 stores<iframe src='https://x'>"
    report = report_of(tmp_path, {"text/html": bad + "</iframe><img src='https://x/y.png' alt='Sales'></div></main>"})
    assert "61 stores" in report and report.count("</main>") == 1
    for hidden in ["alert", "onclick", "https:", "display:none", 'id="a"', "<iframe", "<img"]:
        assert hidden not in report, hidden


def test_two_pictures_with_the_same_ids_have_different_ones(tmp_path):
    drawing = '<svg role="img" aria-label="Sales"><clipPath id="c"/><g clip-path="url(#c)"/></svg>'
    picture = V4.new_output("display_data", {"image/svg+xml": drawing}, metadata={"brewcast": {"picture": True}})
    ids = re.findall(r' id="([^"]+)"', report := report_of(tmp_path, picture, picture))
    assert len(ids) == len(set(ids)) == 2 and all(f"url(#{name})" in report for name in ids)


def test_a_drawing_of_a_user_is_a_picture_in_which_no_script_runs(tmp_path):
    report = report_of(tmp_path, {"image/svg+xml": "<svg><script>alert(1)</script></svg>"})
    assert "<svg" not in report and 'src="data:image/svg+xml;base64,' in report and 'alt="Toy"' in report


def test_the_report_of_a_failed_stage_says_so(tmp_path):
    # given what papermill leaves: a note at the top and the error
    note = V4.new_markdown_cell("# An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]})
    error = V4.new_output("error", ename="ValueError", evalue="12 rows have no price", traceback=["secret.py"])
    # then the report has its own title, what was shown before, and the error in one line
    report = report_of(tmp_path, {"text/plain": "'The months.'"}, error, before=[note])
    assert "<h1>Toy</h1>" in report and "The months." in report and "An Exception" not in report
    assert "This stage failed" in report and "ValueError: 12 rows have no price" in report and "secret.py" not in report
