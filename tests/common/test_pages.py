"Pages: every value is escaped, and nothing is loaded from elsewhere."

import re

import pytest
from conftest import ROOT

from brewcast.common.pages import STYLE_SHEET, template_environment

TEMPLATES = [path for path in (ROOT / "brewcast").glob("*/templates/*") if path.suffix in (".html", ".svg")]
PACKAGES = sorted({f"brewcast.{path.parent.parent.name}" for path in TEMPLATES})


def test_values_of_a_page_are_escaped():
    page = template_environment("brewcast.workflow").get_template("report.html")
    # given a title, a line and an address with HTML in them
    odd = "<script>alert(1)</script> & \"co\" 'x'"
    # when the template of the report is filled, in which only the body of the notebook is markup
    text = page.render(title=odd, subtitle=odd, home=odd, body=odd, style=odd)
    # then none of it is markup
    assert "<script" not in text and text.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;co&#34;") == 6


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
