"Texts for people: numbers are short and correct, names are safe, and labels do not overlap."

import random
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT

from brewcast.common.text import (
    compact_number,
    hide_passwords,
    month_name,
    short_month,
    spread_labels,
)


def test_a_compact_number_of_any_size_is_short():
    generator = random.Random(7)
    for _ in range(2000):
        value = generator.choice([-1, 1]) * 10 ** generator.uniform(4, 11.9)
        text = compact_number(value).lstrip("-")
        digits = [sign for sign in text if sign.isdigit()]
        assert len(digits) == 3, (value, text)
        size = {"k": 1e3, "M": 1e6, "n": 1e9}[text[-1]]
        assert abs(float(text.rstrip("kMbn")) * size / abs(value) - 1) < 0.0051, (value, text)


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
