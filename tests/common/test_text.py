"Texts for people: numbers are short and correct, names are safe, and labels do not overlap."

import math
import random
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT

from brewcast.common.text import (
    as_sentence,
    axis_number,
    compact_number,
    escape_formula,
    format_count,
    format_if_finite,
    full_number,
    hide_passwords,
    join_names,
    month_name,
    percent,
    relative_change,
    short_month,
    spread_labels,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (8.5, "8.5"), (9_994, "9,994"), (9_996, "10.0k"), (12_345, "12.3k"), (99_949, "99.9k"),
        (99_951, "100k"), (999_499, "999k"), (999_500, "1.00M"), (1_244_000, "1.24M"), (-1_244_000, "-1.24M"),
        (2.5e9, "2.50bn"),
    ],
)  # fmt: skip
def test_a_compact_number_has_three_digits_also_after_rounding(value, text):
    assert compact_number(value) == text


def test_a_compact_number_of_any_size_is_short():
    generator = random.Random(7)
    for _ in range(2000):
        value = generator.choice([-1, 1]) * 10 ** generator.uniform(4, 11.9)
        text = compact_number(value).lstrip("-")
        digits = [sign for sign in text if sign.isdigit()]
        assert len(digits) == 3, (value, text)
        size = {"k": 1e3, "M": 1e6, "n": 1e9}[text[-1]]
        assert abs(float(text.rstrip("kMbn")) * size / abs(value) - 1) < 0.0051, (value, text)


def test_a_number_on_an_axis_has_no_zeros_after_its_decimal_point():
    assert [axis_number(value) for value in (0, 500, 80_000, 2_500_000, 100_000, 1e9)] == [
        "0",
        "500",
        "80k",
        "2.5M",
        "100k",
        "1bn",
    ]


def test_a_missing_number_is_a_dash():
    for unknown in (None, math.nan, math.inf):
        assert (
            full_number(unknown),
            percent(unknown),
            format_if_finite(unknown),
            format_if_finite(unknown, fallback="?"),
        ) == ("–", "–", "–", "?")
    assert (full_number(12_345), full_number(8.5), full_number(8.0), full_number(0.04)) == ("12,345", "8.5", "8", "0.0")
    assert (format_if_finite(0), format_if_finite(0.126), format_if_finite(3, "{:.0%}")) == ("0.00", "0.13", "300%")


@pytest.mark.parametrize(
    ("share", "text", "signed"),
    [(0.042, "4.2%", "+4.2%"), (-0.042, "−4.2%", "−4.2%"), (0, "0.0%", "0.0%"), (-0.0001, "0.0%", "0.0%"), (12, "1,200%", "+1,200%")],
)  # fmt: skip
def test_a_change_has_a_sign_unless_it_rounds_to_zero(share, text, signed):
    assert (percent(share), percent(share, signed=True)) == (text, signed)


def test_a_change_from_zero_is_missing():
    assert relative_change(105, 100) == pytest.approx(0.05)
    assert all(math.isnan(relative_change(105, before)) for before in (0, math.nan, -3, None))


def test_months_are_in_english_on_every_machine():
    script = (
        "import locale; locale.setlocale(locale.LC_ALL, '')\n"
        "from brewcast.common.text import month_name, short_month; print(month_name('2026-05-31'), short_month('2026-05'))"
    )
    spoken = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split()
    other = next((name for name in spoken if name.startswith(("de", "fr", "es")) and "utf" in name.lower()), "C.UTF-8")
    command = ["env", f"LC_ALL={other}", sys.executable, "-c", script]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "May 2026 May 2026"
    assert (month_name(pd.Timestamp("2025-09-30")), short_month("2025-09-01")) == ("September 2025", "Sep 2025")


def test_a_long_list_ends_with_the_number_of_omitted_names():
    assert [join_names(names) for names in ([], ["A"], ["A", "B"], ["A", 2, "C"])] == ["", "A", "A and B", "A, 2 and C"]
    assert join_names(list("ABCDE"), max_names=3) == "A, B, C and 2 more"
    assert join_names(list("ABC"), max_names=3) == "A, B and C"


def test_a_reason_becomes_a_sentence_once():
    for text in ("no model yet", " No model yet.", "No model yet"):
        assert as_sentence(text) == "No model yet." == as_sentence(as_sentence(text))
    assert (as_sentence("why?"), as_sentence(None), as_sentence("  ")) == ("Why?", "", "")
    assert as_sentence("RMSSE fell") == "RMSSE fell."


def test_labels_with_enough_space_never_overlap_or_leave_the_chart():
    generator = random.Random(7)
    for _ in range(500):
        # given labels, many of which have the same best position
        count, gap, low, high = generator.randint(1, 12), 15, -200, 0
        wanted = [generator.choice([-100, generator.uniform(-250, 50)]) for _ in range(count)]
        # when they are moved apart
        placed = spread_labels(wanted, gap, low, high)
        # then each has its space inside the chart, and their order stays the same
        ordered = sorted(placed)
        assert all(b - a >= gap - 0.11 for a, b in zip(ordered, ordered[1:], strict=False)), (wanted, placed)
        assert low - 0.11 <= ordered[0] and ordered[-1] <= high
        assert all(placed[i] < placed[j] for i in range(count) for j in range(count) if wanted[i] < wanted[j])
    # and a label without overlap stays where it is
    assert spread_labels([-150, -20, -90], 15, -200, 0) == [-150, -20, -90]


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (1, ["store"], "1 store"), (0, ["store"], "0 stores"), (2, ["city"], "2 cities"), (1, ["city"], "1 city"),
        (3, ["trading day"], "3 trading days"), (12_345, ["sale line"], "12,345 sale lines"), (2, ["index"], "2 indexes"),
        (2, ["match"], "2 matches"), (2, ["series", "series"], "2 series"),
    ],
)  # fmt: skip
def test_a_count_of_one_has_a_singular_noun(count, words, text):
    assert format_count(count, *words) == text


@pytest.mark.parametrize("text", ["=1+1", "=cmd|' /C calc'!A0", "+1-2", "-2+3", "@SUM(A1)", "\t=1", "-inf", "+a"])
def test_a_name_that_a_spreadsheet_would_run_gets_an_apostrophe(text):
    assert escape_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", ["S1", "001", "-5", "+49", "-1.5", "", "Reno = 1", "'quoted", "Zürich"])
def test_any_other_name_stays_unchanged(text):
    assert escape_formula(text) == text


def test_passwords_are_hidden_in_every_position(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-5ecret")
    for text, expected in {
        "no answer from http://ann:p%40ss@mlflow:5000/api and redis://:x@db:1": "no answer from http://mlflow:5000/api and redis://db:1",
        "postgresql://db/mlflow?user=ann&password=s3cret&x=1": "postgresql://db/mlflow?user=ann&password=***&x=1",
        "Bearer tok-5ecret was refused": "Bearer *** was refused",
        "mail ann@example.com, see https://example.com/a@b": "mail ann@example.com, see https://example.com/a@b",
    }.items():
        assert hide_passwords(text) == expected


@pytest.mark.parametrize("address", ["http://ann:se/cr3t@mlflow:5000", "ann:se/cr3t@mlflow:5000"])
def test_a_login_that_is_not_escaped_is_hidden_too(monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    text = hide_passwords(f"no connection adapters were found for '{address}/api'")
    assert "cr3t" not in text and "ann" not in text and text.endswith("mlflow:5000/api'")
