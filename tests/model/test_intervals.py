"Intervals contain as many outcomes as they promise, for every history group, and again after a shift."

import json
import platform
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, project_environment

from brewcast.common.core import write_json
from brewcast.model.evaluate import candidate_coverage
from brewcast.model.intervals import (
    HISTORY_GROUPS,
    MAX_LOG_ERROR,
    MISS_RATE_BOUNDS,
    add_intervals,
    calibrate,
    calibration_rows,
    constant_intervals,
    history_group,
    interval_factors,
    interval_summary,
    learn_scales,
    miss_rate_after,
    month_weights,
    replay_intervals,
    update_miss_rate,
)


def walked(months: int = 36, stores: int = 50, seed: int = 0, cold_start: int = 0, spread: float = 0.1) -> pd.DataFrame:
    "A recipe's replay: errors of a tenth, twice that in hard stores (the first fifth), three times in cold-start stores."
    rng, first = np.random.default_rng(seed), pd.Timestamp("2021-01-01")
    month = pd.date_range(first, periods=months, freq="MS")
    rows = pd.DataFrame({"series_id": np.repeat([f"S{i:02}" for i in range(stores)], months)})
    rows = rows.assign(month=np.tile(month, stores), forecast=1000.0, seasonal_forecast=1000.0)
    store = rows.series_id.str[1:].astype(int)
    rows = rows.assign(cutoff=rows.month - pd.Timedelta(days=1), has_own_season=(store >= cold_start).astype(int))
    rows = rows.assign(months_of_history=np.where(store < cold_start, 6, np.where(store % 2 == 0, 20, 40)))
    times = np.where(store < cold_start, 3.0, np.where(store < cold_start + stores // 5, 2.0, 1.0))
    rows = rows.assign(actual=1000 * np.exp(rng.normal(0, spread, len(rows)) * times))
    return rows.assign(judged=rows.month >= month[-min(12, months - 1)])


def inside(rows: pd.DataFrame) -> pd.Series:
    return rows.actual.between(rows.lower, rows.upper)


def test_intervals_contain_four_of_five_outcomes_in_every_group():
    # given stores of all history groups, some of them hard to forecast
    rows = replay_intervals(walked(months=60, stores=60, cold_start=12)).dropna(subset=["lower"])
    # then the intervals contain as many outcomes as they promise, also in each group
    assert inside(rows).mean() == pytest.approx(0.8, abs=0.02)
    by_group = inside(rows).groupby(history_group(rows)).mean()
    assert len(by_group) == 3 and by_group.between(0.75, 0.85).all()
    constant = constant_intervals(walked(months=60, stores=60, cold_start=12)).dropna(subset=["lower"])
    assert not inside(constant).groupby(history_group(constant)).mean().between(0.75, 0.85).all()


def test_the_interval_score_is_better_than_that_of_a_constant_width():
    summary = interval_summary(replay_intervals(walked(cold_start=12)), 0.8)
    assert summary.interval < 0.9 * summary.constant_interval
    assert set(summary.by_group) == set(HISTORY_GROUPS)


def test_the_summary_counts_the_forecasts_that_the_gate_counts():
    # given stores whose forecasts teach no width: of 0, and of a store that may be closed
    rows = walked()
    forecast = rows.forecast.mask(rows.series_id == "S00", 0.0)
    replayed = replay_intervals(rows.assign(forecast=forecast, may_be_closed=rows.series_id == "S01"))
    # then the verdict's coverage is the gate's: each month has the same stores, so months weigh alike in both
    gate = candidate_coverage(replayed.assign(model="candidate"))
    assert interval_summary(replayed).coverage == pytest.approx(gate.share)


def test_an_interval_uses_only_what_its_cutoff_knew():
    rows = walked()
    first, since = replay_intervals(rows), pd.Timestamp("2023-03-01")
    changed = replay_intervals(rows.assign(actual=rows.actual.mask(rows.month >= since, 1.0)))
    earlier = first.cutoff < since
    pd.testing.assert_frame_equal(first[earlier][["lower", "upper"]], changed[earlier][["lower", "upper"]])
    later = first.cutoff > since
    wider = changed.upper[later].groupby(changed.cutoff[later]).mean() > first.upper[later].groupby(first.cutoff).mean()
    assert wider.all() and len(wider) == 9
    assert first.lower.isna().sum() == 3 * 50


def test_all_replayed_outcomes_count_and_every_month_weighs_the_same():
    # given judged months whose errors are half of those before
    rows = walked()
    better = rows.assign(actual=rows.actual.where(~rows.judged, 1000 * (rows.actual / 1000) ** 0.5))
    # then they count, and the interval of the next month is narrower
    assert calibration_rows(better, better.month.max()).judged.sum() == 12 * 50
    half = [np.log(interval_factors(replay_intervals(table), rows.tail(50))["young"][1]) for table in (rows, better)]
    assert half[1] < 0.9 * half[0]
    # given ten times as many stores in the last month
    last = rows[rows.month == rows.month.max()]
    more = [last.assign(series_id=last.series_id + f"_{i}", actual=1600.0) for i in range(9)]
    crowded = pd.concat([rows.assign(actual=rows.actual.mask(rows.month == rows.month.max(), 1600.0)), *more])
    # then it still weighs as one month of thirty-six
    calibration = calibrate(crowded)
    assert calibration.quantiles @ np.array([0, 0, 1]) * calibration.scales.group_scales[2] < np.log(1.25)
    assert month_weights(crowded.month, np.zeros(len(crowded), dtype=int))[-1] == pytest.approx(1 / 500)


def steady(seed: int, stores: int = 6, months: int = 41) -> pd.DataFrame:
    "Steady stores whose season moves sales by a quarter. They are forecast by last year's month, before that by the mean of three."
    rng, first = np.random.default_rng(seed), pd.Timestamp("2023-01-01")
    month = pd.date_range(first, periods=months, freq="MS")
    days = month.days_in_month.to_numpy()
    sold = np.outer(4 + 1.5 * np.arange(stores), 1 + 0.25 * np.cos(2 * np.pi * np.arange(months) / 12)) * 3 * days
    rate = (sold + rng.normal(0, 1.2, sold.shape) * np.sqrt(3 * days)) / days
    parts = []
    for k in range(6, months):
        forecast = rate[:, k - 12] if k >= 12 else rate[:, k - 3 : k].mean(axis=1)
        names = [f"S{i}" for i in range(stores)]
        part = pd.DataFrame({"series_id": names, "actual": rate[:, k] * days[k], "forecast": forecast * days[k]})
        parts.append(part.assign(month=month[k], has_own_season=int(k >= 15), months_of_history=k))
    rows = pd.concat(parts, ignore_index=True)
    cutoff = rows.month - pd.Timedelta(days=1)
    return rows.assign(cutoff=cutoff, seasonal_forecast=rows.forecast, judged=True)


def test_intervals_keep_their_coverage_when_stores_change_their_group():
    # given stores whose first year has large errors and later years small ones, in twelve simulations
    rows = pd.concat([replay_intervals(steady(seed)) for seed in range(12)]).dropna(subset=["lower"])
    rows = rows[rows.month >= "2024-07-01"]
    # then coverage is four of five in total, and at least half in every month, also where the group changes
    by_month = inside(rows).groupby(rows.month).mean()
    assert len(by_month) == 23 and 0.76 < inside(rows).mean() < 0.84 and by_month.min() > 0.5
    # and widths do not jump from one month to the next
    half = (np.log(rows.upper / rows.lower) / 2).groupby(rows.month).mean()
    assert half.between(0.015, 0.08).all() and (half / half.shift()).dropna().between(0.6, 1.7).all()


def test_a_group_starts_with_its_parent_s_width_and_soon_has_its_own():
    rows = walked(months=24).assign(has_own_season=1, months_of_history=20)
    wide = rows.assign(actual=1000 * (rows.actual / 1000) ** 4)
    months = sorted(rows.month.unique())
    scales = []
    for n in (0, 1, 3, 6):  # months in which the stores were mature, with small errors
        mature = pd.concat([wide[wide.month < months[18]], rows[rows.month.isin(months[18 : 18 + n])]])
        mature = mature.assign(months_of_history=np.where(mature.month < months[18], 20, 30))
        scales.append(learn_scales(mature)[0].group_scales)
    second, third = np.array(scales)[:, 1], np.array(scales)[:, 2]
    assert third[0] == pytest.approx(second[0]) and (np.diff(third) < 0).all()
    assert third[2] < 0.6 * second[2] and third[3] < 0.4 * second[3]


def test_the_first_interval_needs_three_cutoffs():
    rows = replay_intervals(walked(months=6))
    assert rows.dropna(subset=["lower"]).cutoff.nunique() == 3
    one = walked(months=1)
    intervals = interval_factors(replay_intervals(one), one.head(3))
    assert intervals["months"] == 1 and intervals["factors"]["S00"][0] < 0.9


def test_coverage_comes_back_after_a_shift():
    # given errors that double two years before the end and stay so
    rows = walked(months=48)
    since = rows.month.drop_duplicates().sort_values().iloc[-24]
    rows = rows.assign(judged=rows.month >= since - pd.DateOffset(months=1))
    shifted = rows.assign(actual=rows.actual.where(rows.month < since, 1000 * (rows.actual / 1000) ** 2))
    rows, constant = replay_intervals(shifted), constant_intervals(shifted)
    # then coverage is back after half a year, but not with a constant width
    late = rows.month >= since + pd.DateOffset(months=6)
    assert inside(rows)[late].mean() == pytest.approx(0.8, abs=0.04)
    assert inside(constant)[late].mean() < inside(rows)[late].mean() - 0.1


def test_one_month_in_which_everything_misses_does_not_widen_the_year():
    rows = walked()
    bad = rows.month.drop_duplicates().sort_values().iloc[-10]
    struck = replay_intervals(rows.assign(actual=rows.actual.where(rows.month != bad, 300.0)))
    calm = replay_intervals(rows)
    wider = (np.log(struck.upper / struck.lower) / np.log(calm.upper / calm.lower)).groupby(struck.month).mean()
    after = wider[wider.index > bad]
    assert after.iloc[0] < 1.25 and after.iloc[5:].max() < 1.15  # it weighs as one month of thirty-six


def test_the_miss_rate_follows_the_misses_within_bounds():
    # given months in which every interval missed, then months in which none did
    rate, rates = 0.2, []
    for missed in [1.0] * 20 + [0.0] * 40 + [0.2] * 3:
        rate = update_miss_rate(rate, missed)
        rates.append(rate)
    # then it falls, comes back, and stays between quantiles of 70 % and 90 %
    assert min(rates) == rates[19] == pytest.approx(0.2 * MISS_RATE_BOUNDS[0])
    assert max(rates) == rates[59] == pytest.approx(0.2 * MISS_RATE_BOUNDS[1]) and rates[-1] == rates[-3]
    # and the serving intervals have the same rate as the replay
    rows = replay_intervals(walked())
    assert miss_rate_after(rows) == pytest.approx(interval_factors(rows, rows.tail(3))["miss_rate"])
    assert 0.1 <= miss_rate_after(rows.assign(actual=1e6)) < 0.2
    assert 0.2 < miss_rate_after(rows.assign(actual=rows.forecast)) <= 0.3


def test_a_month_without_an_error_does_not_change_the_other_intervals():
    # given a store that was closed as forecast, and one that might be closed and was closed
    rows = walked(stores=6)
    shut = rows.series_id.isin(["S04", "S05"]) & (rows.month.dt.month == 10)
    closed = rows.assign(may_be_closed=shut & (rows.series_id == "S05"), actual=rows.actual.mask(shut, 0.0))
    closed = closed.assign(forecast=closed.forecast.mask(shut & (rows.series_id == "S04"), 0.0))
    # then the other intervals are as without those months
    ahead = rows[rows.month == rows.month.max()].assign(may_be_closed=rows.series_id == "S05")
    intervals = interval_factors(replay_intervals(closed), ahead)
    without = interval_factors(replay_intervals(rows[~shut]), ahead.assign(may_be_closed=False))
    assert {name: pair[1] for name, pair in intervals["factors"].items()} == pytest.approx(
        {name: pair[1] for name, pair in without["factors"].items()}
    )
    # and the interval of the store that may be closed starts at zero
    assert intervals["factors"]["S05"][0] == 0.0
    assert intervals["factors"]["S04"][0] == without["factors"]["S04"][0] > 0.5


@pytest.mark.parametrize("outcome", [0.0, 1.0, 1e9])
def test_intervals_are_finite_and_contain_their_forecast(outcome):
    rows = walked()
    rows = replay_intervals(rows.assign(actual=rows.actual.where(rows.month < "2022-06-01", outcome)))
    rows = rows.dropna(subset=["lower"])
    assert np.isfinite(rows[["lower", "upper"]]).all().all()
    assert ((0 <= rows.lower) & (rows.lower <= rows.forecast) & (rows.forecast <= rows.upper)).all()
    assert (rows.upper <= rows.forecast * np.exp(MAX_LOG_ERROR) * 1.001).all()


def test_a_forecast_far_from_the_seasonal_one_has_a_wider_interval_where_such_forecasts_had_larger_errors():
    rows, rng = walked(), np.random.default_rng(5)
    far = np.exp(np.abs(rng.normal(0, 0.2, len(rows))))
    rows = rows.assign(seasonal_forecast=1000 * far, actual=1000 * (rows.actual / 1000) ** (5 * np.log(far)))
    ahead = rows.tail(2).assign(series_id=["S20", "S21"], has_own_season=1, months_of_history=40)
    near, away = interval_factors(replay_intervals(rows), ahead.assign(seasonal_forecast=[1000.0, 1500.0]))[
        "factors"
    ].values()
    assert away[1] > near[1] and away[0] < near[0]


def test_the_serving_intervals_are_json_by_store_and_a_new_store_takes_the_cold_start_pair(tmp_path):
    rows = replay_intervals(walked(cold_start=10))
    ahead = rows[rows.month == rows.month.max()]
    intervals = json.loads(write_json(interval_factors(rows, ahead), tmp_path / "intervals.json").read_text())
    assert set(intervals["factors"]) == set(ahead.series_id)
    assert sum(group["stores"] for group in intervals["groups"].values()) == 50
    hard, easy = intervals["factors"]["S10"], intervals["factors"]["S49"]
    assert hard[0] < easy[0] < 1 < easy[1] < hard[1] and easy[0] * easy[1] == pytest.approx(1)
    new = add_intervals(pd.DataFrame({"series_id": ["S49", "opened"], "forecast": 100.0}), intervals)
    assert (new.upper / 100).tolist() == pytest.approx([easy[1], intervals["young"][1]])


def test_the_order_of_rows_does_not_matter():
    rows = walked(cold_start=5)
    in_order, shuffled = (
        replay_intervals(table).sort_values(["series_id", "cutoff"], ignore_index=True)
        for table in (rows, rows.sample(frac=1, random_state=1))
    )
    pd.testing.assert_frame_equal(in_order, shuffled)


PRINT_BYTES = """
import json
import numpy as np
import pandas as pd
from brewcast.model.intervals import interval_factors, replay_intervals
x, y = np.random.default_rng(0).normal(size=(2, 500))
print([float(x[:n] @ y[:n]) for n in range(500)])
replay = replay_intervals(pd.read_pickle("rows.pickle"))
factors = interval_factors(replay, replay[replay.cutoff == replay.cutoff.max()])
print(json.dumps([replay.lower.dropna().tolist(), replay.upper.dropna().tolist(), factors]))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels' names are those of x86-64")
def test_intervals_have_the_same_bytes_with_every_kernel_of_openblas(tmp_path):
    # given rows, the kernel of this processor, and that of the oldest supported one
    rows = walked(cold_start=12)
    distance = np.abs(np.random.default_rng(1).normal(0, 0.2, len(rows)))
    rows.assign(seasonal_forecast=1000 * np.exp(distance)).to_pickle(tmp_path / "rows.pickle")
    here = {name: value for name, value in project_environment(ROOT).items() if name != "OPENBLAS_CORETYPE"}
    printed = []
    for environment in (here, here | {"OPENBLAS_CORETYPE": "Nehalem"}):
        command = [sys.executable, "-c", PRINT_BYTES]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.splitlines())
    # then BLAS gives other digits, and the intervals have the same
    (blas, intervals), (other_blas, same_intervals) = printed
    assert blas != other_blas and intervals == same_intervals
