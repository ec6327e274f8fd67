"Pages: every value is escaped, and nothing is loaded from elsewhere."

import re

import pytest
from conftest import ROOT

from brewcast.common.pages import STYLE_SHEET, template_environment
from brewcast.common.palette import PALETTE, contrast_ratio

TEMPLATES = [path for path in (ROOT / "brewcast").glob("*/templates/*") if path.suffix in (".html", ".svg")]
STYLE_FILE = ROOT / "brewcast/common/templates/style.css"
PACKAGES = sorted({f"brewcast.{path.parent.parent.name}" for path in TEMPLATES})


def test_values_of_a_page_are_escaped():
    page = template_environment("brewcast.workflow").get_template("report.html")
    # given a title, a line and an address with HTML in them
    odd = "<script>alert(1)</script> & \"co\" 'x'"
    # when the template of the report is filled, in which only the body of the notebook is markup
    links = {"home": odd, "index": odd, "previous": [odd, odd], "following": [odd, odd]}
    text = page.render(title=odd, subtitle=odd, answer=odd, failure=odd, links=links, body=odd, style=odd)
    # then none of it is markup
    assert "<script" not in text and text.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;co&#34;") == 14


@pytest.mark.parametrize("package", PACKAGES)
def test_every_template_of_a_package_is_found_and_can_be_read(package):
    page = template_environment(package)
    names = [name for name in page.list_templates() if name.endswith((".html", ".svg"))]
    assert names
    for name in names:
        assert page.get_template(name).blocks is not None


def test_a_package_without_templates_is_an_error():
    with pytest.raises(ValueError, match="templates"):
        template_environment("brewcast.data")


def test_the_style_sheet_loads_nothing_and_its_braces_match():
    assert not re.search(r"https?://|url\(|@import", STYLE_SHEET)
    assert STYLE_SHEET.count("{") == STYLE_SHEET.count("}") > 10


def own_colours(text: str) -> list[str]:
    "The colours of a template or a style sheet that are not roles of the palette: they are the same in dark mode."
    text = re.sub(r"(?s)\{#.*?#\}|url\(#\w+\)|&#\d+;", "", text)
    text = re.sub(r"(?<=[\s,}])#[\w-]+(?=[^{};]*\{)", "", text)  # ids, which choose the elements of a rule
    return re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(|[:\"]\s*(?:white|black|gr[ae]y|red|green|orange)\b", text)


@pytest.mark.parametrize("path", [STYLE_FILE, *TEMPLATES], ids=lambda path: path.name)
def test_a_page_names_roles_and_no_colours_so_that_all_of_it_can_be_dark(path):
    text = path.read_text()
    assert own_colours(text) == []
    roles = set(re.findall(r"var\(--([\w-]+)\)", text))
    assert roles <= set(PALETTE), roles - set(PALETTE)


@pytest.mark.parametrize(
    "mistake", ["a{color:#7a3c09}", '<rect fill="#222"/>', "body{background:white}", ".x{fill:rgb(0,0,0)}"]
)
def test_a_colour_that_stays_the_same_in_dark_mode_is_found(mistake):
    assert own_colours(STYLE_FILE.read_text() + mistake)


@pytest.mark.parametrize(
    "path", [path for path in TEMPLATES if "<html" in path.read_text()], ids=lambda path: path.name
)
def test_a_page_says_that_it_has_a_dark_side_and_paper_stays_light(path):
    assert '<meta name="color-scheme" content="light dark">' in path.read_text()
    assert "@media screen and (prefers-color-scheme:dark)" in STYLE_SHEET
    assert re.search(r"@media print\{\s*:root\{color-scheme:light\}", STYLE_SHEET)


@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_every_text_of_the_style_sheet_stands_out_from_what_is_behind_it(page):
    # given each rule that sets the colour of a text, on the background that it sets, or else on a card and on paper
    rules = re.findall(r"\{([^{}]*)\}", STYLE_SHEET.split(":dark)", 1)[1])
    pairs = set()
    for rule in rules:
        color = re.search(r"(?<![-\w])color:var\(--([\w-]+)\)", rule)
        behind = re.search(r"background:var\(--([\w-]+)\)", rule)
        if color:
            pairs |= {(color[1], name) for name in ([behind[1]] if behind else ["card", "paper"])}
    # then it can be read
    assert len(pairs) > 8
    for color, behind in pairs:
        assert contrast_ratio(PALETTE[color][page], PALETTE[behind][page]) >= 4.5, (color, behind)


def test_pictures_that_stand_alone_bring_the_palette_along():
    # given the start page, which is as dark as JupyterLab, and a picture of a trace, which is as dark as the device
    fields = {"picture": "<svg/>", "sentence": "", "problems": [], "states": [], "max_reasons": 3}
    start = template_environment("brewcast.workflow").get_template("stage_states.html").render(fields)
    fields = {"width": 9, "height": 9, "title": "", "arrows": [], "boxes": [], "colors": {}}
    trace = template_environment("brewcast.operations").get_template("trace.svg").render(fields)
    ink, dark_ink = (f"--ink:{color}" for color in PALETTE["ink"])
    assert "@media" not in start and "@media screen and (prefers-color-scheme:dark)" in trace
    assert re.search(rf'\[data-jp-theme-light="false"\] \.brewcast-start\{{[^}}]*{dark_ink}', start)
    assert all(ink in text and dark_ink in text for text in (start, trace))
