"Drawings of the pages: valid XML for every name, gaps for missing values, and nothing outside the picture."

import math
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from brewcast.delivery.svg_charts import (
    coverage_chart,
    line_chart,
    sparkline,
    total_chart,
)

MONTHS = pd.date_range("2024-01-01", periods=24, freq="MS")
NEXT = pd.Timestamp("2026-01-01")
ODD = "<b>\"Café\" & 'Co'</b>"


def parse_picture(svg: Markup) -> ET.Element:
    "Parse the picture with a strict parser; check that every coordinate is a number inside the picture."
    assert isinstance(svg, Markup)  # a template does not escape it again
    picture = ET.fromstring(svg)
    _, _, width, height = map(float, picture.get("viewBox").split())
    for element in picture.iter():
        for name, largest in {"x": width, "cx": width, "y": height, "cy": height}.items():
            if element.get(name) is not None:
                assert 0 <= float(element.get(name)) <= largest, (name, element.attrib)
        assert "nan" not in " ".join(element.attrib.values())
    assert picture.get("role") == "img" and picture.get("aria-label")
    return picture


def of_class(picture: ET.Element, kind: str) -> list[ET.Element]:
    return [element for element in picture.iter() if kind in (element.get("class") or "").split()]


def texts(picture: ET.Element) -> list[str]:
    return [element.text for element in picture.iter("text")]


def test_higher_is_more_in_every_drawing():
    # given rising sales, and rising coverage
    rising = np.linspace(100, 200, 24)
    spark = of_class(parse_picture(sparkline(list(rising), 210, 190, 230)), "sl")[0].get("d")
    heights = [float(point.split()[1]) for point in spark[1:].split("L")]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) > 10
    # then bars grow in proportion, and dots rise
    bars = [
        float(bar.get("height"))
        for bar in of_class(parse_picture(total_chart(pd.Series(rising, MONTHS), NEXT, 300, 900)), "bar")
    ]
    assert bars[-1] / bars[0] == pytest.approx(3, rel=0.01) and bars == sorted(bars)
    dots = of_class(parse_picture(coverage_chart(pd.Series(np.linspace(0.5, 1, 24), MONTHS), 0.8, 900)), "dot")
    heights = [float(dot.get("cy")) for dot in dots]
    assert heights == sorted(heights, reverse=True) and len(heights) == 24


@pytest.mark.parametrize("width", [350, 900])
def test_a_total_marks_the_forecast_and_the_same_month_of_earlier_years(width):
    # given more than two years, and a forecast of January
    sold = pd.Series(1000.0, pd.date_range("2023-06-01", periods=31, freq="MS"))
    picture = parse_picture(total_chart(sold, NEXT, 1250, width))
    # then the last 24 months and the forecast are bars, and the two earlier Januaries are darker
    assert len(of_class(picture, "bar")) == 25
    assert len(of_class(picture, "same")) == 2 and len(list(picture.iter("rect"))) == 25
    assert "1,250" in texts(picture) and "January 2024; January 2026 is forecast at 1,250" in picture.get("aria-label")


def test_a_month_with_negative_sales_has_no_bar_and_no_sales_at_all_is_still_a_picture():
    sold = pd.Series([-50.0, 0.0, 100.0], MONTHS[-3:])
    bars = of_class(parse_picture(total_chart(sold, NEXT, 90, 600)), "bar")
    assert [float(bar.get("height")) > 0 for bar in bars] == [False, False, True, True]
    assert len(of_class(parse_picture(total_chart(sold * 0, NEXT, 0, 600)), "bar")) == 4


@pytest.mark.parametrize("width", [350, 900])
def test_line_labels_never_overlap_and_are_never_markup(width):
    # given three lines with the same end, one with a gap, and a name that is markup
    lines = pd.DataFrame({"seasonal": 0.08, "last_month": 0.08, "candidate": 0.08}, MONTHS)
    lines.loc[MONTHS[5], "last_month"] = math.nan
    picture = parse_picture(line_chart(lines, {"candidate": ODD}, "candidate", ODD, width))
    # then each has its own label, and only the highlighted one has dots
    ends = of_class(picture, "end")
    positions = sorted(float(end.get("y")) for end in ends)
    assert len(ends) == 3 and min(np.diff(positions)) >= 15.9
    assert len(of_class(picture, "dot")) == 24 and picture.get("aria-label") == ODD
    points = {line.get("class").split()[1]: line.get("points").count(",") for line in picture.iter("polyline")}
    assert points == {"seasonal": 24, "last-month": 23, "strong": 24}
    assert (ODD in texts(picture)) == (width > 500)  # a narrow chart has no room for it


@pytest.mark.parametrize("width", [350, 1020])
@pytest.mark.parametrize("target", pd.date_range("2025-01-01", periods=12, freq="MS"), ids=lambda month: f"{month:%B}")
def test_each_month_label_is_under_its_own_bar_and_the_forecast_always_has_one(target, width):
    # given a forecast of any month of the year, after more than two years or after five months
    for count in (30, 5):
        months = pd.date_range(end=target - pd.DateOffset(months=1), periods=count, freq="MS")
        picture = parse_picture(total_chart(pd.Series(1000.0, months), target, 1250, width))
        bars = [(float(bar.get("x")), float(bar.get("x")) + float(bar.get("width"))) for bar in picture.iter("rect")]
        bar_by_month = dict(zip([*months[-24:], target], bars, strict=True))
        lowest = max(float(text.get("y")) for text in picture.iter("text"))
        labels = [text for text in picture.iter("text") if float(text.get("y")) == lowest]
        # then each label begins at the bar of its month; the last label ends at its bar
        for text in labels:
            left, right = bar_by_month[pd.Timestamp(text.text)]
            edge = left if text.get("text-anchor") == "start" else right
            assert abs(float(text.get("x")) - edge) < right - left, text.text
        assert pd.Timestamp(labels[-1].text) == target
        # and no two labels overlap
        spans = [(x, x + 58) if anchor == "start" else (x - 58, x) for x, anchor in label_positions(labels)]
        assert all(one[1] <= other[0] for one, other in zip(spans, spans[1:], strict=False)), texts(picture)


def label_positions(labels: list[ET.Element]) -> list[tuple[float, str]]:
    return [(float(text.get("x")), text.get("text-anchor")) for text in labels]
