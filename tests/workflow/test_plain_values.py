"Values as Python shows them become words."

import pytest

from brewcast.workflow.plain_values import printed_html, read_value, value_html, value_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': array([1, 2])}", ValueError),
        ("Pipeline(steps=[])", ValueError),
        ("1 +", ValueError),
        ("", ValueError),
        ("[" * 500, ValueError),
        ("[np.int64(3), np.float64(nan), np.True_]", ValueError),
        ("[np.int64(3), np.float64(nan)]", [3, None]),
        ("np.str_('Oslo')", "Oslo"),
        ("Timestamp('2025-12-31 08:30:00+0000', tz='UTC')", "2025-12-31 08:30:00+0000"),
        ("PosixPath('products/near')", "products/near"),
        ("'nan, and None'", "nan, and None"),
    ],
)
def test_a_literal_is_read_and_nothing_else(text, value):
    if value is ValueError:
        with pytest.raises(ValueError):
            read_value(text)
    else:
        assert read_value(text) == value


def test_values_inside_values_are_words_too():
    value = {"weights": {"seasonal": 0.5, "last_month": 0.25}, "stores": [], "month": None, "trusted": False}
    assert value_text(value) == "weights: seasonal: 0.5; last month: 0.25; stores: none; month: –; trusted: no"
    assert value_text([*range(20)]).endswith("11 and 8 more")


def test_no_value_shows_python():
    for text in ["{'a': {'b': None}}", "('x', 1)", "{1, 2}", "True", "set()", "{}", "[]", "-3", "1e-07"]:
        shown = value_html(text)
        assert not set("{}[]()'") & set(shown.replace("&#39;", "'")) and "None" not in shown and shown


def test_text_is_escaped_and_keeps_its_lines():
    assert value_html("'a < b\\nc'") == '<p class="lines">a &lt; b\nc</p>'
    assert value_html("<b>61</b>\n<i>") == "<pre>&lt;b&gt;61&lt;/b&gt;\n&lt;i&gt;</pre>"
    assert printed_html("\x1b[31m<b>\x1b[0m\n") == '<p class="lines">&lt;b&gt;</p>'
