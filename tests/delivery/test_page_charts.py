"Pictures of the month page: what each shows, a unit on every axis, and colours that everybody can tell apart."

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from verdicts import make_month

from brewcast.common.charts import COLOR_ROLES, LINE_COLORS, svg_text
from brewcast.common.palette import PALETTE, contrast_ratio
from brewcast.delivery.page_charts import figure_html, plot_coverage, plot_errors, plot_total
from brewcast.delivery.track_record import plot_track_record
from brewcast.model.evaluate import MODEL_LINES

MONTHS = pd.date_range("2024-01-01", periods=24, freq="MS")
NEXT = pd.Timestamp("2026-01-01")
ODD = "<b>\"Café\" & 'Co'</b>"
LINES = pd.DataFrame({name: np.linspace(0.05, 0.08, 24) + 0.01 * i for i, name in enumerate(MODEL_LINES)}, MONTHS)
ERRORS = {"served": 0.05, "last_month": 0.2, "mean_of_3": 0.15, "same_month_last_year": None, "seasonal": 0.06}
PICTURES = {
    "total": lambda: plot_total(pd.Series(1000.0, MONTHS), NEXT, 1250, "pieces"),
    "errors": lambda: plot_errors(LINES, "candidate", "random forest"),
    "coverage": lambda: plot_coverage(pd.Series(0.8, MONTHS), 0.8),
    "track record": lambda: plot_track_record([make_month(f"2025-{m:02}", errors=ERRORS, n=9) for m in range(1, 13)]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_chart_has_a_unit_and_every_picture_a_caption_and_an_alternative_text(name):
    figure = PICTURES[name]()
    heads = [axis.get_title(loc="left") for axis in figure.axes]
    units = {"pieces a month", "error, share of sales", "stores inside the interval, share", "Error: share of sales"}
    assert heads and all(head in {*units, "What happened"} for head in heads)
    for axis, head in zip(figure.axes, heads, strict=True):
        numbers = [label.get_text() for label in axis.get_yticklabels()]
        assert head == "What happened" or all(re.fullmatch(r"[\d.,]+[kM%]?", number) for number in numbers), numbers
        assert any(re.search(r"20\d\d", label.get_text()) for label in figure.axes[-1].get_xticklabels())
    html = figure_html(figure)
    assert f"<figcaption>{figure.get_label()}" in html and len(figure.get_label()) > 30
    assert heads[0] in re.search('aria-label="(.*?)"', html)[1]


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_every_colour_is_a_role_and_stands_out_from_the_card(name, page):
    # given a picture as SVG
    drawing = svg_text(PICTURES[name]()).split("</style>")[1]
    # then it has no colour of its own, so that all follow the device
    assert not re.search(r"#[0-9a-f]{3,8}\b(?!\))", re.sub(r'(url\(|href=")#[^")]*', "", drawing))
    # and texts and marks can be seen on the card; grid lines need not be
    texts = {role for text in re.findall(r"<text[^>]*>", drawing) for role in re.findall(r"--([\w-]+)", text)}
    marks = set(re.findall(r"var\(--([\w-]+)\)", drawing)) - texts - {"card", "line"}
    card = PALETTE["card"][page]
    assert texts and all(contrast_ratio(PALETTE[role][page], card) >= 4.5 for role in texts), texts
    assert marks and all(contrast_ratio(PALETTE[role][page], card) >= 3 for role in marks), marks


def test_models_are_told_apart_by_colour_and_by_style_and_by_name():
    looks = [*MODEL_LINES.values()]
    assert all(
        look.color in COLOR_ROLES and look.color != LINE_COLORS[0] for look in looks
    )  # that of the model that serves
    for one, other in itertools.combinations(looks, 2):
        assert one.name != other.name and one.style != other.style
    baselines = [look for name, look in MODEL_LINES.items() if name not in ("candidate", "champion")]
    assert len({look.color for look in baselines}) == len(baselines)


def test_higher_is_more_in_every_picture():
    rising = np.linspace(100, 200, 24)
    heights = [bar.get_height() for bar in plot_total(pd.Series(rising, MONTHS), NEXT, 300).axes[0].patches]
    assert heights[-1] / heights[0] == pytest.approx(3) and heights == sorted(heights) and len(heights) == 25
    covered = plot_coverage(pd.Series(np.linspace(0.5, 1, 24), MONTHS), 0.8).axes[0]
    assert covered.lines[0].get_ydata().tolist() == np.linspace(0.5, 1, 24).tolist()
    assert covered.get_ylim()[0] == 0 and not covered.yaxis_inverted()


def test_a_total_marks_the_forecast_and_the_same_month_of_earlier_years():
    # given more than two years, and a forecast of January
    sold = pd.Series(1000.0, pd.date_range("2023-06-01", periods=31, freq="MS"))
    (axis,) = plot_total(sold, NEXT, 1250).axes
    # then the last 24 months and the forecast are bars, and the two earlier Januaries are darker, with their numbers
    colors = [tuple(bar.get_facecolor()) for bar in axis.patches]
    assert len(colors) == 25 and [colors.count(color) for color in (colors[0], colors[1], colors[-1])] == [2, 22, 1]
    assert colors[0] == colors[12]
    assert [text.get_text() for text in axis.texts] == ["1,000", "1,000", "1,250"]
    # when there are negative sales, or none
    loss = plot_total(pd.Series([-50.0, 0.0, 100.0], MONTHS[-3:]), NEXT, 90).axes[0]
    assert [bar.get_height() > 0 for bar in loss.patches] == [False, False, True, True]


@pytest.mark.parametrize("target", pd.date_range("2025-01-01", periods=12, freq="MS"), ids=lambda month: f"{month:%B}")
@pytest.mark.parametrize("count", [1, 3, 5, 12, 13, 30])
def test_each_month_label_is_under_its_own_bar_and_the_forecast_always_has_one(target, count):
    # given a forecast of any month of the year, after a short or a long history of large numbers
    months = pd.date_range(end=target - pd.DateOffset(months=1), periods=count, freq="MS")
    figure = plot_total(pd.Series(1234567.0, months), target, 1250000)
    (axis,) = figure.axes
    bars = dict(zip([*months[-24:], target], axis.patches, strict=True))
    # then each label stands at the bar of its month, and the last one is the forecast's
    labels = [*zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)]
    for place, label in labels:
        bar = bars[pd.Timestamp(label.get_text())]
        assert bar.get_x() < place < bar.get_x() + bar.get_width()
    assert pd.Timestamp(labels[-1][1].get_text()) == target and axis.texts[-1].get_text() == "1.25M"
    # and no two labels overlap, and none leaves the picture
    figure.canvas.draw()
    for texts in ([label for _, label in labels], axis.texts):
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes)), [t.get_text() for t in texts]
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_names_of_lines_never_overlap_and_are_never_markup():
    # given lines with the same end, one with a gap, and a name that is markup
    lines = pd.DataFrame({"seasonal": 0.08, "last_month": 0.08, "candidate": 0.08, ODD[:16]: 0.08}, MONTHS)
    lines.loc[MONTHS[5], "last_month"] = math.nan
    figure = plot_errors(lines, "candidate", "forest")
    # then each has its own label inside the picture
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 4 and not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(box.x1 < figure.bbox.x1 for box in boxes)
    assert "<b>" not in figure_html(figure) and "&lt;b&gt;" in figure_html(figure)
    # and only the line of the model that forecasts has dots
    assert [line.get_marker() for line in figure.axes[0].lines[:4]] == ["None", "None", "None", "o"]
