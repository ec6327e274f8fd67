"""The pages of a build for readers who do not code: readable in a browser, offline, on a phone, in dark mode."""

import re

import nbformat
import pytest
from conftest import ROOT
from looking import complaints_about, open_offline
from planted import PAGES

from brewcast.common.charts import create_figure, label_lines, name_axis, picture_of
from brewcast.common.displays import Answer, Column, Facts, report_table
from brewcast.common.params import read_env, read_stages
from brewcast.workflow.report import ReportLinks, render_report

STAGES = list(read_stages(ROOT, read_env(ROOT)))
EMPTY_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sales</title><meta name="viewport"
content="width=device-width,initial-scale=1"><style>:root{color-scheme:light dark}</style><body><h1>The month</h1>"""


@pytest.fixture(params=PAGES)
def planted_page(request, tmp_path):
    "A page with one mistake, and the text that tells of it."
    mistake, expected = PAGES[request.param]
    (tmp_path / "page.html").write_text(EMPTY_PAGE + mistake)
    return tmp_path / "page.html", expected


def test_a_planted_mistake_is_found(planted_page, offline_browser):
    path, expected = planted_page
    seen = []
    for complaint in complaints_about(offline_browser, path):
        seen.append(complaint)
        if expected in complaint:
            return
    raise AssertionError(seen)


def test_a_page_without_a_mistake_has_no_complaint(tmp_path, offline_browser):
    (tmp_path / "page.html").write_text(EMPTY_PAGE + "<p>61 stores, and none is closed.</p><h2>Stores</h2>")
    assert [*complaints_about(offline_browser, tmp_path / "page.html")] == []


def output(data: dict, metadata: dict | None = None) -> dict:
    return nbformat.v4.new_output("display_data", data, metadata=metadata or {})


def outputs_of_picture(picture) -> list[dict]:
    "What a notebook holds of a picture of `common.charts`."
    metadata = {"brewcast": {"picture": True}}
    drawing = output({"image/svg+xml": picture.svg, "text/plain": picture.alt}, metadata)
    return [drawing, output({"text/plain": picture.caption}, {"brewcast": {"caption": True}})]


def toy_picture(title: str):
    "Two lines with names."
    figure, (axis,) = create_figure(title, "One line a category.")
    axis.plot([1, 2, 3], [40, 50, 45])
    axis.set_ylim(20, 60)
    axis.set_xticks([1.5, 2.5], ["Jan 2025", "Feb 2025"])
    name_axis(axis, "pieces a month")
    label_lines(axis, {"Coffee": (45, "#8f4a12"), "Tea": (44, "#3b8fd9")})
    return picture_of(figure)


def write_stage(path, *cells):
    v4 = nbformat.v4
    opening = [
        v4.new_markdown_cell("# Explore\n\n> What the sales look like."),
        v4.new_markdown_cell("## Run\n\nAll stores."),
    ]
    nbformat.write(v4.new_notebook(cells=[*opening, *cells]), path)
    links = ReportLinks("month.html", "index.html", ("Clean", "clean.html"), ("Features", "features.html"))
    return render_report(path, path.with_suffix(".html"), links)


@pytest.fixture
def good_report(tmp_path):
    "A report with everything that a stage shows."
    import pandas as pd

    v4 = nbformat.v4
    data, metadata = Answer("293k pieces in December 2025, +0.3% on a year before.")._repr_mimebundle_()
    row = {
        "store": "STORE101",
        "city": "Coyoacán, Ciudad de México",
        "error": 0.0504,
        "units": 1234567.0,
        "why": "it is new",
    }
    columns = {"store": "Store", "city": "City", "error": Column("Error (share of sales)", "percent")}
    columns |= {"units": Column("Pieces in December 2025", "amount"), "why": "Why its error is so large"}
    table = report_table(pd.DataFrame([row, row]), "The stores with the largest errors.", columns)
    pictures = [
        *outputs_of_picture(toy_picture("Coffee is the largest")),
        *outputs_of_picture(toy_picture("Coffee is the largest")),
    ]
    cells = [
        v4.new_code_cell("answer", outputs=[output(data, metadata)]),
        v4.new_code_cell("pictures", outputs=pictures),
        v4.new_markdown_cell("### The stores"),
        v4.new_code_cell("table", outputs=[output({"text/html": table._repr_html_()})]),
        v4.new_code_cell("facts", outputs=[output({"text/html": Facts("The month", {"Stores": "66"})._repr_html_()})]),
    ]
    return write_stage(tmp_path / "explore.ipynb", *cells)


def test_a_report_has_no_complaint_on_any_screen(good_report, offline_browser):
    assert [*complaints_about(offline_browser, good_report)] == []


def test_pictures_stand_side_by_side_on_a_desktop_only(good_report, offline_browser):
    for width, columns in [(1280, 2), (390, 1)]:
        page = open_offline(offline_browser, good_report, width)
        boxes = [figure.bounding_box() for figure in page.locator("figure").all()]
        assert len({box["x"] for box in boxes}) == columns
        page.context.close()


def test_sections_with_one_picture_stand_side_by_side_too(tmp_path, offline_browser):
    v4 = nbformat.v4
    cells = []
    for title in ("Months", "Stores", "Prices"):
        cells.append(v4.new_markdown_cell(f"### {title}\n\nWhat it shows."))
        cells.append(v4.new_code_cell("picture", outputs=outputs_of_picture(toy_picture(title))))
    report = write_stage(tmp_path / "explore.ipynb", *cells)
    assert [*complaints_about(offline_browser, report)] == []
    for width, columns in [(1280, 2), (390, 1)]:
        page = open_offline(offline_browser, report, width)
        assert len({heading.bounding_box()["x"] for heading in page.locator("h2").all()}) == columns
        page.context.close()


def test_a_table_of_many_columns_is_blocks_on_a_phone(good_report, offline_browser):
    page = open_offline(offline_browser, good_report, 390)
    cells = page.locator(".report-table tbody td").all()[:4]
    assert len({cell.bounding_box()["y"] for cell in cells}) == 4  # below each other
    headings = [cell.evaluate("cell => getComputedStyle(cell, '::before').content") for cell in cells]
    assert headings[1] == '"Error (share of sales)"'
    page.context.close()


def test_what_a_user_shows_has_no_complaint_either(tmp_path, offline_browser):
    # given cells as a data scientist ends them: a frame, a dict, numbers, a picture of matplotlib, a script
    import pandas as pd

    frame = pd.DataFrame({f"a_long_name_{i}": [0.123456, None] for i in range(9)})
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    shown = [
        {"text/html": frame._repr_html_(), "text/plain": repr(frame)},
        {"text/plain": "{'retrain': True, 'rule': 'no_model', 'wape': np.float64(nan)}"},
        {"text/plain": "'60 stores, 289,333 pieces'"},
        {"text/plain": "np.float64(0.123456)"},
        {"image/png": png, "text/plain": "<Figure size 640x480 with 1 Axes>"},
        {"text/plain": "<Figure size 640x480 with 1 Axes>"},
        {
            "text/html": "<script src='https://cdn.example.com/x.js'></script><h1>Plot</h1><iframe src='https://x'></iframe>"
        },
        {"text/plain": "Pipeline(steps=[('scale', StandardScaler()), ('forest', " + "RandomForestRegressor(), " * 9},
    ]
    cells = [nbformat.v4.new_code_cell("x", outputs=[output(data)]) for data in shown]
    report = write_stage(tmp_path / "explore.ipynb", nbformat.v4.new_markdown_cell("### Mine"), *cells)
    # then each is readable, on every screen
    assert [*complaints_about(offline_browser, report)] == []
    page = open_offline(offline_browser, report)
    text = page.inner_text("main")
    for words in ["0.1235", "60 stores, 289,333 pieces", "no model", "yes", "Pipeline(steps"]:
        assert words in text, words
    assert page.locator("img").get_attribute("alt") == "Mine" and "Figure" not in text and "'60" not in text
    page.context.close()


# -- the pages of a build


@pytest.fixture
def page_of_build(published, request):
    "The path of a page of a small project's build."
    return published.root / "products/simulated" / request.param


READER_PAGES = ["index.html", *(f"{stage}/{stage}.html" for stage in STAGES), "forecast/month.html"]
DIAGNOSES = ["monitor/quality.html", "monitor/drift.html"]


@pytest.mark.parametrize("page_of_build", READER_PAGES, indirect=True)
def test_a_page_of_a_build_has_no_complaint(page_of_build, offline_browser):
    assert [*complaints_about(offline_browser, page_of_build)] == []


@pytest.mark.parametrize("page_of_build", DIAGNOSES, indirect=True)
def test_a_page_of_evidently_asks_no_other_machine(page_of_build, offline_browser):
    page = open_offline(offline_browser, page_of_build)
    page.wait_for_load_state("networkidle")  # its scripts draw after the page was loaded
    assert [text for text in page.complaints if re.match("https?:", text)] == []
    page.context.close()


def follow(link) -> None:
    "Click on a link, and wait until its page is loaded."
    with link.page.expect_navigation():
        link.click()


def test_all_pages_lead_to_each_other(published, offline_browser):
    # given the index of a build
    folder = published.root / "products/simulated"
    page = open_offline(offline_browser, folder / "index.html")
    # when a reader clicks on the first stage, and then on the next one until there is none
    follow(page.locator(".steps a").first)
    seen = [page.title()]
    while (following := page.locator(".pager a", has_text="→")).count():
        follow(following)
        seen.append(page.title())
    # then all stages were seen in their order, and the index knows the month page and Evidently's
    assert [title.lower() for title in seen] == STAGES
    follow(page.locator(".pager a", has_text="All stages"))
    follow(page.get_by_text("The month page:"))
    assert page.url.endswith("forecast/month.html")
    follow(page.get_by_text("How this was made"))
    assert page.url == (folder / "index.html").resolve().as_uri()
    assert page.get_by_text("a diagnosis, no alarm").count() == len(DIAGNOSES)
    for link in page.locator("a").all():
        assert (folder / link.get_attribute("href")).exists()
    page.context.close()


def test_each_stage_answers_in_one_sentence(published):
    text = (published.root / "products/simulated/index.html").read_text()
    assert text.count("<li") >= len(STAGES) and "No answer" not in text and "did not finish" not in text
    assert f"index     {(published.root / 'products/simulated/index.html').resolve().as_uri()}" in published.out
