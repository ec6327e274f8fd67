"HTML and Markdown of any cell become a safe part of a page."

import pandas as pd
import pytest

from brewcast.workflow.safe_html import clean_html, prose_html, readable_frame, readable_number


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0"),
        ("0.0", "0"),
        ("0.052548", "0.05255"),
        ("-1234.5678", "−1,235"),
        ("1e-12", "0"),
        ("2.5e+06", "2,500,000"),
        ("100.0", "100"),
        ("20250131", "20250131"),  # the name of a store may be a number
        ("1.2.3", "1.2.3"),
        ("", ""),
        ("<NA>", "–"),
    ],
)
def test_a_number_has_four_digits_that_count(text, shown):
    assert readable_number(text) == shown


@pytest.mark.parametrize(
    "bad",
    [
        "<script>alert(1)</script>",
        "<SCRIPT src=https://x/y.js></SCRIPT>",
        "<img src=x onerror=alert(1)>",
        "<a href='javascript:alert(1)'></a>",
        "<svg onload=alert(1)></svg",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<div style='background:url(https://x/alert)'></div>",
        "<style>@import 'https://x/alert'</style>",
        "<link rel=stylesheet href=https://x/alert.css>",
        "<object data=alert></object><embed src=alert>",
        "<form action=alert><input value=alert></form>",
        "<div hidden>alert</div>",
        "<template><p>alert</p></template>",
    ],
)
def test_what_could_run_or_load_is_left_out(bad):
    cleaned = clean_html(f"<p>before</p>{bad}<p>after</p>", "Sales").html
    assert "alert" not in cleaned and "http" not in cleaned and cleaned.startswith("<p>before</p>")


def test_open_and_stray_tags_do_not_break_the_page_around():
    assert clean_html("</main></div><table><tr><td>61<p>stores", "").html == (
        "<table><tr><td>61<p>stores</p></td></tr></table>"
    )


def test_a_page_has_one_order_of_headings_over_several_cells():
    first = prose_html("### Months\n\n#### Last\n\n### Next", "")
    second = prose_html("### Stores", "", first.path)
    assert first.html.split() == ["<h2>Months</h2>", "<h3>Last</h3>", "<h2>Next</h2>"]
    assert second.html == "<h2>Stores</h2>"


def test_a_frame_whose_index_has_a_meaning_keeps_it():
    for index, kept in [([0, 1], False), ([1, 2], True), (["a", "b"], True)]:
        html = pd.DataFrame({"stores": [3, 4]}, index=index)._repr_html_()
        assert (f"<th>{index[1]}</th>" in readable_frame(clean_html(html, "").html)) == kept


def test_an_empty_frame_and_one_of_two_headers_are_shown():
    assert "stores" in readable_frame(clean_html(pd.DataFrame({"stores": []})._repr_html_(), "").html)
    frame = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_product([["error"], ["champion", "candidate"]]))
    shown = readable_frame(clean_html(frame._repr_html_(), "").html)
    assert 'colspan="2"' in shown and "candidate" in shown
