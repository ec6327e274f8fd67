"Drawings in tables: valid XML for every name, gaps for missing values, one scale for all whiskers of a table."

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from markupsafe import Markup

from brewcast.common.pages import STYLE_SHEET
from brewcast.common.palette import PALETTE, contrast_ratio
from brewcast.common.small_charts import (
    WHISKER_SCALES,
    sparkline,
    whisker,
    whisker_axis,
    whisker_position,
    whisker_scale,
)


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
    return [element for element in picture.iter() if element.get("class") == kind]


def test_higher_is_more_in_a_sparkline():
    rising = np.linspace(100, 200, 24)
    spark = of_class(parse_picture(sparkline(list(rising), 210, 190, 230)), "sl")[0].get("d")
    heights = [float(point.split()[1]) for point in spark[1:].split("L")]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) > 10


@pytest.mark.parametrize("recent", [[math.nan] * 12, [7.0] * 12, [0.0], [-5.0, math.nan, 1e9]])
def test_any_history_is_a_picture(recent):
    picture = parse_picture(sparkline(recent, 7.0, math.nan, math.nan))
    assert len(of_class(picture, "sd")) == 1 and not of_class(picture, "sb")


def test_all_whiskers_of_a_table_have_the_scale_of_its_axis():
    # given the biases of some groups, one of them beyond the scale
    groups = [(0.04, 0.01, 0.07), (-0.09, -0.12, -0.06), (0.0, -0.01, 0.01), (0.9, 0.1, math.inf)]
    scale = whisker_scale([share for group in groups[:3] for share in group])
    axis = parse_picture(whisker_axis(scale))
    # when they are drawn
    pictures = [parse_picture(whisker(*group, scale, is_highlighted=True)) for group in groups]
    # then zero and both ends stand below the labels of the axis, in each of them
    zero, low, high = (
        next(float(text.get("x")) for text in axis.iter("text") if text.text == label)
        for label in ("0%", "−20%", "+20%")
    )
    for picture in pictures:
        lines = [
            float(re.match(r"M([\d.]+) ", line.get("d"))[1])
            for line in picture.iter("path")
            if line.get("class") != "sb"
        ]
        assert lines[:3] == [low, high, zero]
        assert picture.get("width") == axis.get("width")  # the column has both
    # and dots stand where the axis says, or at its end
    places = [float(of_class(picture, "sd")[0].get("cx")) for picture in pictures]
    assert places == pytest.approx([zero + (high - zero) * share / 0.2 for share in (0.04, -0.09, 0, 0.2)], abs=0.06)


def test_the_ends_of_a_scale_are_round_and_hold_every_share():
    for largest in (0.0, 0.0004, 0.019, 0.02, 0.0201, 0.3, 0.5):
        scale = whisker_scale([largest, -largest / 2, math.nan])
        assert scale in WHISKER_SCALES and largest <= scale
        assert scale == WHISKER_SCALES[0] or largest > WHISKER_SCALES[WHISKER_SCALES.index(scale) - 1]
    assert math.isnan(whisker_position(math.nan, 0.1))


@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("kind", ["sl", "sb", "sd", "sg", "st"])
def test_marks_and_texts_stand_out_from_the_card(page, kind):
    # given the colours of a drawing's classes in the style sheet
    rules = re.findall(rf"\.{kind}\{{([^}}]*)\}}", STYLE_SHEET)
    rules += re.findall(rf"\.{kind},\.\w+\{{([^}}]*)\}}", STYLE_SHEET)
    roles = {role for rule in rules for role in re.findall(r"var\(--([\w-]+)\)", rule)} - {"card"}
    # then each is told apart from the card: a text by 4.5 to 1, a mark by 3 to 1
    assert roles
    for role in roles:
        needed = 4.5 if kind == "st" else 3
        assert contrast_ratio(PALETTE[role][page], PALETTE["card"][page]) >= needed, role
