"The control chart keeps its rate of false alarms, detects changes, and uses no later data."

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from verdicts import make_month

from brewcast.common.charts import picture_of
from brewcast.common.records import Verdict
from brewcast.model.drift import (
    MIN_REFERENCE_MONTHS,
    baseline_errors,
    chart_sentence,
    control_chart,
    plot_control_chart,
    reference_errors,
    replayed_errors,
)

N = 12  # months of reference


def errors(seed, months=40, shift=None, at=24, draw=None):
    "Monthly errors of a sound forecast; from month `at` on, `shift` is added to each error."
    generator = np.random.default_rng(seed)
    error = (draw or generator.normal)(size=months) * 0.03
    error[at:] += 0 if shift is None else shift
    noise = generator.normal(0, 0.07, (months, 40))
    wape = np.abs(error[:, None] + noise).mean(axis=1)
    dates = pd.date_range("2020-01-01", periods=months, freq="MS")
    return pd.DataFrame({"month": dates, "bias": np.expm1(error), "wape": wape})


def alarms(table):
    chart = control_chart(table[N:], table[:N])
    return chart[chart.alarm != ""].reset_index(drop=True)


@pytest.mark.parametrize("n_reference", [6, 12, 24])
def test_the_stated_rate_of_false_alarms_holds(n_reference):
    # given 300 years in which nothing changes
    generator, count, years = np.random.default_rng(n_reference), 0, 300
    for _ in range(years // 10):
        error, magnitude = generator.normal(0, 0.03, n_reference + 120), generator.normal(-2.5, 0.2, n_reference + 120)
        dates = pd.date_range("2000-01-01", periods=len(error), freq="MS")
        table = pd.DataFrame({"month": dates, "bias": np.expm1(error), "wape": np.exp(magnitude)})
        count += (control_chart(table[n_reference:], table[:n_reference], 0.1).alarm != "").sum()
    # then there are about a tenth of an alarm a year: 30, give or take 15; a reference of six months has a few more
    assert 15 <= count <= 45 + (10 if n_reference == 6 else 0), count / years


@pytest.mark.parametrize(("shift", "kind"), [(0.15, "too_high"), (-0.15, "too_low")])
def test_a_level_shift_is_detected_within_three_months(shift, kind):
    for seed in range(10):
        shifted = alarms(errors(seed, shift=shift))
        early = shifted[shifted.month.between("2022-01-01", "2022-03-01")]
        assert kind in ", ".join(early.alarm) and early.since.min() >= pd.Timestamp("2021-11-01")


def test_errors_that_grow_to_both_sides_are_detected():
    # given a season that has changed: too much in one month, too little in the next
    both = np.tile([0.12, -0.12], 8)
    for seed in range(10):
        wrong = alarms(errors(seed, shift=both))
        assert wrong.month.between("2022-01-01", "2022-06-01").any() and wrong.alarm.str.contains("too_").all()
    # and stores that gain what others lose: the sum is right, each is wrong
    table = errors(0)
    larger = alarms(table.assign(wape=table.wape.where(table.month < "2022-01-01", table.wape * 2)))
    assert larger.alarm[0] == "too_large" and larger.month[0] <= pd.Timestamp("2022-03-01")


def test_an_untrusted_month_is_no_drift():
    # given one month whose data was broken
    table = errors(3)
    broken = table.month == "2022-03-01"
    table = table.assign(bias=table.bias.mask(broken, -0.6), wape=table.wape.mask(broken, 0.7))
    assert list(alarms(table).month) == [pd.Timestamp("2022-03-01")]
    # when it is excluded
    chart = control_chart(table[N:], table[:N], excluded_months=(pd.Timestamp("2022-03-01"),))
    # then the chart is the same as without that month
    pd.testing.assert_frame_equal(chart, control_chart(table[~broken][N:], table[:N]))
    assert set(chart.alarm) == {""} and len(chart) == 27


def test_the_chart_starts_again_after_an_alarm_and_does_not_learn_the_drift():
    table = errors(4, shift=np.where(np.arange(16) < 2, 0.2, 0.0))
    chart = control_chart(table[N:], table[:N]).set_index("month")
    assert list(chart.index[chart.alarm != ""]) == [pd.Timestamp("2022-01-01"), pd.Timestamp("2022-02-01")]
    assert chart.too_high["2022-03-01":"2022-06-01"].max() < 1
    # the usual WAPE stays the same
    calm = control_chart(errors(4)[N:], errors(4)[:N]).set_index("month")
    assert chart.usual_wape.iloc[-1] == pytest.approx(calm.usual_wape.iloc[-1], rel=0.1)


def test_the_chart_uses_no_later_data():
    table = errors(5, shift=0.1)
    whole = control_chart(table[N:], table[:N])
    for n in (14, 24, 27, 33):
        pd.testing.assert_frame_equal(control_chart(table[N:n], table[:N]), whole[: n - N])
    # nor do the order of rows and reference months that also served matter
    pd.testing.assert_frame_equal(control_chart(table[N:].sample(frac=1, random_state=0), table), whole)


def test_with_too_few_months_there_is_no_alarm():
    table = errors(2, shift=0.5, at=N)
    nothing = control_chart(table[:0], table)
    assert len(nothing) == 0 and chart_sentence(nothing).startswith("not yet: 0 served months")
    two = control_chart(table[N : N + 2], table[:N])  # far off, but an alarm needs three months of service
    assert set(two.alarm) == {""} and chart_sentence(two).startswith("not yet: 2 served months")
    assert "too_high" in control_chart(table[N : N + 3], table[:N]).alarm.iloc[-1]
    few = control_chart(
        table[N : N + 5], table[N - MIN_REFERENCE_MONTHS + 1 : N]
    )  # the reference is one month too short
    assert few.z_error.isna().tolist() == [True] * 4 + [False]
    without = control_chart(table[N : N + 4].assign(bias=np.nan), table[:N])
    assert len(without) == 0


def test_the_baselines_errors_use_the_first_version_of_each_row():
    # given two cutoffs of two stores, one of them corrected later
    cutoff = pd.to_datetime(["2024-01-31", "2024-02-29"] * 2)
    keys = pd.DataFrame({"series_id": ["A", "A", "B", "B"], "event_timestamp": cutoff.tz_localize("UTC")})
    history = keys.assign(created=keys.event_timestamp, rate_seasonal=[10.0, 11.0, 20.0, 22.0], has_own_season=1)
    later = history.iloc[[0]].assign(created=pd.Timestamp("2024-06-01", tz="UTC"), rate_seasonal=99.0)
    ahead = keys.assign(created=keys.event_timestamp, expected_units=10.0)
    outcomes = pd.DataFrame(
        {"series_id": ["A", "A", "B", "B"], "cutoff": cutoff, "actual": [100.0, 100.0, 250.0, 200.0]}
    )
    outcomes = outcomes.assign(month=cutoff + pd.Timedelta(days=1))
    # when the baseline is replayed
    replayed = baseline_errors(pd.concat([later, history]), ahead, outcomes)
    # then its errors are those computed by hand
    assert replayed.month.tolist() == [pd.Timestamp("2024-02-01"), pd.Timestamp("2024-03-01")]
    assert replayed.bias.tolist() == pytest.approx([-50 / 350, 30 / 300])
    assert replayed.wape.tolist() == pytest.approx([50 / 350, 30 / 300]) and replayed.n.tolist() == [2, 2]
    # and months without seasons are left out
    assert len(baseline_errors(history.assign(has_own_season=0), ahead, outcomes)) == 0


def test_the_reference_is_the_first_replay_that_is_long_enough():
    baseline, by_month = errors(0), []
    for model, bias in [("candidate", 0.01), ("champion", 0.02), ("seasonal", 0.03)]:
        for month in baseline.month[:8]:
            cutoff = f"{month - pd.Timedelta(days=1):%Y-%m-%d}"
            by_month.append({"model": model, "cutoff": cutoff, "bias": bias, "wape": 0.1})
    verdict = Verdict.model_construct(promoted=True, by_month=by_month)  # without the fields that are not read here
    promoted = replayed_errors(verdict)
    refused = replayed_errors(verdict.model_copy(update={"promoted": False}))
    assert {row.bias for row in promoted} == {0.01} and {row.bias for row in refused} == {0.02}
    assert promoted[0].month == "2020-01" and replayed_errors(verdict.model_copy(update={"by_month": []})) == []
    replays = [promoted[:3], [], [], refused, promoted]
    records = [make_month("2021-01", replayed=replayed) for replayed in replays]
    assert set(reference_errors(records, baseline).bias) == {0.02}
    assert reference_errors(records[:3], baseline).equals(baseline)
    # months without seasons are left out
    assert len(reference_errors(records, baseline[2:])) == MIN_REFERENCE_MONTHS
    assert reference_errors(records, baseline[3:]).equals(baseline[3:])


def test_without_seasons_there_is_no_reference_and_no_chart():
    # given two months of one new store
    event = pd.date_range("2024-01-31", periods=2, freq="ME", tz="UTC")
    history = pd.DataFrame({"series_id": "S1", "event_timestamp": event, "created": event, "rate_seasonal": 1.0})
    history["has_own_season"] = 0
    ahead = history[["series_id", "event_timestamp", "created"]].assign(expected_units=30.0)
    cutoff = event.tz_localize(None)
    outcomes = pd.DataFrame(
        {"series_id": "S1", "cutoff": cutoff, "month": cutoff + pd.Timedelta(days=1), "actual": 31.0}
    )
    baseline = baseline_errors(history, ahead, outcomes)
    assert baseline.empty
    # then a month that served cannot be compared, as in the monitor's notebook
    served = pd.DataFrame({"month": [pd.Timestamp("2024-02-01")], "bias": 0.1, "wape": 0.1})
    with_seasons = served[served.month >= baseline.month.min()]
    assert control_chart(with_seasons, reference_errors([], baseline)).empty


@pytest.mark.parametrize("months", [1, 2, 3, 18, 60])
def test_the_picture_of_the_chart_has_readable_labels_in_colors_of_the_palette(months):
    # given a chart that ends with a stopped month, after a shift
    table = errors(1, months=N + months, shift=0.15, at=N + months // 2)
    stopped = tuple(table.month[-1:]) if months > 1 else ()
    figure = plot_control_chart(control_chart(table[N:], table[:N], excluded_months=stopped), stopped)
    figure.canvas.draw()
    for axis in figure.axes:
        # then no label covers another, and none is cut
        boxes = [text.get_window_extent() for text in axis.texts if text.get_text()]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert all(0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
        assert axis.get_title(loc="left")  # what it measures, and in which unit
    # and each colour follows the device's mode
    assert re.findall("#[0-9a-f]{6}", picture_of(figure).svg.split("</style>")[1]) == []
