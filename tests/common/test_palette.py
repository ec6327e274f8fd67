"Palette: marks and texts stand out from what is behind them, and what is told apart by colour is told apart."

import re

import pytest

from brewcast.common.palette import PALETTE, SERIES, contrast_ratio, palette_css

TEXTS = ["ink", "soft", "now", "good", "bad"]
MARKS = ["neutral", "band", *(f"series-{number}" for number in range(1, len(SERIES) + 1))]
DECORATION = ["line", *(role for role in PALETTE if role.startswith("heat-"))]  # heat maps have steps, not marks


@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_every_role_is_told_apart_from_the_card_and_the_paper(page):
    assert {*TEXTS, *MARKS, *DECORATION, "paper", "card", "tint"} == set(PALETTE)  # a new role belongs to one of them
    for behind in ("card", "paper"):
        ratios = {role: contrast_ratio(PALETTE[role][page], PALETTE[behind][page]) for role in TEXTS + MARKS}
        assert [role for role in TEXTS if ratios[role] < 4.5] == []
        assert [role for role in MARKS if ratios[role] < 3] == []


@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_what_stands_on_each_other_is_told_apart(page):
    # a badge's text on its tint; the bar of a forecast and of the same month beside other months
    assert contrast_ratio(PALETTE["now"][page], PALETTE["tint"][page]) >= 4.5
    assert contrast_ratio(PALETTE["ink"][page], PALETTE["line"][page]) >= 4.5
    assert contrast_ratio(PALETTE["soft"][page], PALETTE["neutral"][page]) >= 1.5


def test_a_light_colour_has_one_role_since_charts_look_the_role_up_by_it():
    light = [pair[0] for pair in PALETTE.values()]
    assert len(set(light)) == len(light)
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for pair in PALETTE.values() for color in pair)


def test_the_rules_have_every_role_twice_and_paper_stays_light():
    css = palette_css()
    assert all(css.count(f"--{role}:") == 2 for role in PALETTE)
    assert "@media screen and (prefers-color-scheme:dark){:root{" in css
    assert css.count("{") == css.count("}")
    by_theme = palette_css(".start", ".night .start")
    assert re.findall(r"^(.*?)\{", by_theme, flags=re.M) == [".start", ".night .start"]
