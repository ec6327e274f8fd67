"Intervals hold what they promise, for every length of history, and again after a shift."

import json

import numpy as np
import pandas as pd
import pytest

from brewcast.common.core import write_json
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


def walked(months: int = 36, stores: int = 50, seed: int = 0, young: int = 0, spread: float = 0.1) -> pd.DataFrame:
    "A recipe's replay: errors of a tenth, twice that in hard stores (the first fifth), three times in young ones."
    rng, first = np.random.default_rng(seed), pd.Timestamp("2021-01-01")
    month = pd.date_range(first, periods=months, freq="MS")
    rows = pd.DataFrame({"series_id": np.repeat([f"S{i:02}" for i in range(stores)], months)})
    rows = rows.assign(month=np.tile(month, stores), forecast=1000.0, seasonal_forecast=1000.0)
    store = rows.series_id.str[1:].astype(int)
    rows = rows.assign(cutoff=rows.month - pd.Timedelta(days=1), has_own_season=(store >= young).astype(int))
    rows = rows.assign(months_of_history=np.where(store < young, 6, np.where(store % 2 == 0, 20, 40)))
    times = np.where(store < young, 3.0, np.where(store < young + stores // 5, 2.0, 1.0))
    rows = rows.assign(actual=1000 * np.exp(rng.normal(0, spread, len(rows)) * times))
    return rows.assign(judged=rows.month >= month[-min(12, months - 1)])


def inside(told: pd.DataFrame) -> pd.Series:
    return told.actual.between(told.lower, told.upper)


def test_four_in_five_are_held_in_all_groups_and_by_every_store():
    # given stores of three ages, some of them hard to forecast
    told = replay_intervals(walked(months=60, stores=60, young=12)).dropna(subset=["lower"])
    # then the intervals hold what they promise, and not by being wide for the easy ones
    assert inside(told).mean() == pytest.approx(0.8, abs=0.02)
    by_group = inside(told).groupby(history_group(told)).mean()
    assert len(by_group) == 3 and by_group.between(0.75, 0.85).all()
    constant = constant_intervals(walked(months=60, stores=60, young=12)).dropna(subset=["lower"])
    assert not inside(constant).groupby(history_group(constant)).mean().between(0.75, 0.85).all()


def test_the_score_is_better_than_a_constant_width_s():
    summary = interval_summary(replay_intervals(walked(young=12)), 0.8)
    assert summary["interval"] < 0.9 * summary["constant_interval"]
    assert set(summary["by_group"]) == set(HISTORY_GROUPS)


def test_an_interval_knows_only_what_its_cutoff_knew():
    rows = walked()
    first, since = replay_intervals(rows), pd.Timestamp("2023-03-01")
    changed = replay_intervals(rows.assign(actual=rows.actual.mask(rows.month >= since, 1.0)))
    same = first.cutoff < since
    pd.testing.assert_frame_equal(first[same][["lower", "upper"]], changed[same][["lower", "upper"]])
    later = first.cutoff > since
    wider = changed.upper[later].groupby(changed.cutoff[later]).mean() > first.upper[later].groupby(first.cutoff).mean()
    assert wider.all() and len(wider) == 9
    assert first.lower.isna().sum() == 3 * 50


def test_all_replayed_outcomes_count_and_each_month_once():
    # given judged months whose errors are half of those before
    rows = walked()
    better = rows.assign(actual=rows.actual.where(~rows.judged, 1000 * (rows.actual / 1000) ** 0.5))
    # then they are known, and the interval of the next month is narrower for it
    assert calibration_rows(better, better.month.max()).judged.sum() == 12 * 50
    half = [np.log(interval_factors(replay_intervals(table), rows.tail(50))["young"][1]) for table in (rows, better)]
    assert half[1] < 0.9 * half[0]
    # given the last month ten times over, as many more stores would be
    last = rows[rows.month == rows.month.max()]
    more = [last.assign(series_id=last.series_id + f"_{i}", actual=1600.0) for i in range(9)]
    crowded = pd.concat([rows.assign(actual=rows.actual.mask(rows.month == rows.month.max(), 1600.0)), *more])
    # then it is one month of thirty-six all the same
    assert calibrate(crowded)["reach"] @ np.array([0, 0, 1]) * calibrate(crowded)["groups"][2] < np.log(1.25)
    assert month_weights(crowded.month, np.zeros(len(crowded), dtype=int))[-1] == pytest.approx(1 / 500)


def steady(seed: int, stores: int = 6, months: int = 41) -> pd.DataFrame:
    "Steady stores with a season of a quarter, forecast by the mean of three until there is last year's month."
    rng, first = np.random.default_rng(seed), pd.Timestamp("2023-01-01")
    month = pd.date_range(first, periods=months, freq="MS")
    days = month.days_in_month.to_numpy()
    sold = np.outer(4 + 1.5 * np.arange(stores), 1 + 0.25 * np.cos(2 * np.pi * np.arange(months) / 12)) * 3 * days
    rate = (sold + rng.normal(0, 1.2, sold.shape) * np.sqrt(3 * days)) / days
    parts = []
    for k in range(6, months):
        said = rate[:, k - 12] if k >= 12 else rate[:, k - 3 : k].mean(axis=1)
        names = [f"S{i}" for i in range(stores)]
        part = pd.DataFrame({"series_id": names, "actual": rate[:, k] * days[k], "forecast": said * days[k]})
        parts.append(part.assign(month=month[k], has_own_season=int(k >= 15), months_of_history=k))
    rows = pd.concat(parts, ignore_index=True)
    cutoff = rows.month - pd.Timedelta(days=1)
    return rows.assign(cutoff=cutoff, seasonal_forecast=rows.forecast, judged=True)


def test_intervals_hold_where_a_group_gets_errors_of_its_own():
    # given stores whose first year is forecast badly, and the years after it well, in twelve worlds
    told = pd.concat([replay_intervals(steady(seed)) for seed in range(12)]).dropna(subset=["lower"])
    told = told[told.month >= "2024-07-01"]
    # then four in five are held over all, and half at least in every month, those of a change of group too
    by_month = inside(told).groupby(told.month).mean()
    assert len(by_month) == 23 and 0.76 < inside(told).mean() < 0.84 and by_month.min() > 0.5
    # and no width vanishes from one month to the next
    half = (np.log(told.upper / told.lower) / 2).groupby(told.month).mean()
    assert half.between(0.015, 0.08).all() and (half / half.shift()).dropna().between(0.6, 1.7).all()


def test_a_group_begins_with_its_parent_s_width_and_soon_has_its_own():
    rows = walked(months=24).assign(has_own_season=1, months_of_history=20)
    wide = rows.assign(actual=1000 * (rows.actual / 1000) ** 4)
    months = sorted(rows.month.unique())
    scales = []
    for n in (0, 1, 3, 6):  # months in which the stores were grown, and well forecast
        grown = pd.concat([wide[wide.month < months[18]], rows[rows.month.isin(months[18 : 18 + n])]])
        grown = grown.assign(months_of_history=np.where(grown.month < months[18], 20, 30))
        scales.append(learn_scales(grown)[0]["groups"])
    second, third = np.array(scales)[:, 1], np.array(scales)[:, 2]
    assert third[0] == pytest.approx(second[0]) and (np.diff(third) < 0).all()
    assert third[2] < 0.6 * second[2] and third[3] < 0.4 * second[3]


def test_a_short_history_begins_after_three_cutoffs():
    told = replay_intervals(walked(months=6))
    assert told.dropna(subset=["lower"]).cutoff.nunique() == 3
    one = walked(months=1)
    said = interval_factors(replay_intervals(one), one.head(3))
    assert said["months"] == 1 and said["factors"]["S00"][0] < 0.9


def test_nothing_known_is_wide():
    nothing = walked(months=2, stores=3).head(0).assign(lower=[], upper=[])
    said = interval_factors(nothing, walked(months=1, stores=2))
    assert said["factors"]["S00"] == pytest.approx([0.5, 2.0]) and said["young"] == pytest.approx([0.5**1.5, 2.0**1.5])


def test_coverage_comes_back_after_a_shift():
    # given errors that double for good, two years before the end
    rows = walked(months=48)
    since = rows.month.drop_duplicates().sort_values().iloc[-24]
    rows = rows.assign(judged=rows.month >= since - pd.DateOffset(months=1))
    shifted = rows.assign(actual=rows.actual.where(rows.month < since, 1000 * (rows.actual / 1000) ** 2))
    told, constant = replay_intervals(shifted), constant_intervals(shifted)
    # then they are held again in half a year, which a constant width never does
    late = told.month >= since + pd.DateOffset(months=6)
    assert inside(told)[late].mean() == pytest.approx(0.8, abs=0.04)
    assert inside(constant)[late].mean() < inside(told)[late].mean() - 0.1


def test_one_month_in_which_everything_misses_does_not_widen_the_year():
    rows = walked()
    bad = rows.month.drop_duplicates().sort_values().iloc[-10]
    struck = replay_intervals(rows.assign(actual=rows.actual.where(rows.month != bad, 300.0)))
    calm = replay_intervals(rows)
    wider = (np.log(struck.upper / struck.lower) / np.log(calm.upper / calm.lower)).groupby(struck.month).mean()
    after = wider[wider.index > bad]
    assert after.iloc[0] < 1.25 and after.iloc[5:].max() < 1.15  # it stays one month of thirty-six


def test_the_miss_rate_follows_what_was_missed_within_bounds():
    # given months in which all missed, then some in which none did
    rate, rates = 0.2, []
    for missed in [1.0] * 20 + [0.0] * 40 + [0.2] * 3:
        rate = update_miss_rate(rate, missed)
        rates.append(rate)
    # then it goes down, comes back, and asks neither for more than 90 % nor for less than 70
    assert min(rates) == rates[19] == pytest.approx(0.2 * MISS_RATE_BOUNDS[0])
    assert max(rates) == rates[59] == pytest.approx(0.2 * MISS_RATE_BOUNDS[1]) and rates[-1] == rates[-3]
    # and what serves recounts the same from what was told
    told = replay_intervals(walked())
    assert miss_rate_after(told) == pytest.approx(interval_factors(told, told.tail(3))["miss_rate"])
    assert (
        0.1
        <= miss_rate_after(told.assign(actual=1e6))
        < 0.2
        < miss_rate_after(told.assign(actual=told.forecast))
        <= 0.3
    )


def test_a_month_without_an_error_says_nothing_of_the_others():
    # given a store that was closed as forecast, and one that might be closed and was
    rows = walked(stores=6)
    shut = rows.series_id.isin(["S04", "S05"]) & (rows.month.dt.month == 10)
    closed = rows.assign(may_be_closed=shut & (rows.series_id == "S05"), actual=rows.actual.mask(shut, 0.0))
    closed = closed.assign(forecast=closed.forecast.mask(shut & (rows.series_id == "S04"), 0.0))
    # then the others' intervals are as if those months had not been
    ahead = rows[rows.month == rows.month.max()].assign(may_be_closed=rows.series_id == "S05")
    said = interval_factors(replay_intervals(closed), ahead)
    alone = interval_factors(replay_intervals(rows[~shut]), ahead.assign(may_be_closed=False))
    assert {name: pair[1] for name, pair in said["factors"].items()} == pytest.approx(
        {name: pair[1] for name, pair in alone["factors"].items()}
    )
    # and the store that may be closed begins at nothing
    assert said["factors"]["S05"][0] == 0.0 and said["factors"]["S04"][0] == alone["factors"]["S04"][0] > 0.5


@pytest.mark.parametrize("outcome", [0.0, 1.0, 1e9])
def test_intervals_are_finite_and_hold_their_forecast(outcome):
    rows = walked()
    told = replay_intervals(rows.assign(actual=rows.actual.where(rows.month < "2022-06-01", outcome)))
    told = told.dropna(subset=["lower"])
    assert np.isfinite(told[["lower", "upper"]]).all().all()
    assert ((0 <= told.lower) & (told.lower <= told.forecast) & (told.forecast <= told.upper)).all()
    assert (told.upper <= told.forecast * np.exp(MAX_LOG_ERROR) * 1.001).all()


def test_a_forecast_far_from_the_season_has_a_wider_interval_where_such_were_wrong():
    rows, rng = walked(), np.random.default_rng(5)
    far = np.exp(np.abs(rng.normal(0, 0.2, len(rows))))
    rows = rows.assign(seasonal_forecast=1000 * far, actual=1000 * (rows.actual / 1000) ** (5 * np.log(far)))
    ahead = rows.tail(2).assign(series_id=["S20", "S21"], has_own_season=1, months_of_history=40)
    near, away = interval_factors(replay_intervals(rows), ahead.assign(seasonal_forecast=[1000.0, 1500.0]))[
        "factors"
    ].values()
    assert away[1] > near[1] and away[0] < near[0]


def test_what_serves_is_finite_json_by_store_and_a_new_store_takes_the_young_s(tmp_path):
    told = replay_intervals(walked(young=10))
    ahead = told[told.month == told.month.max()]
    said = json.loads(write_json(interval_factors(told, ahead), tmp_path / "intervals.json").read_text())
    assert set(said["factors"]) == set(ahead.series_id) and sum(g["stores"] for g in said["groups"].values()) == 50
    hard, easy = said["factors"]["S10"], said["factors"]["S49"]
    assert hard[0] < easy[0] < 1 < easy[1] < hard[1] and easy[0] * easy[1] == pytest.approx(1)
    new = add_intervals(pd.DataFrame({"series_id": ["S49", "opened"], "forecast": 100.0}), said)
    assert (new.upper / 100).tolist() == pytest.approx([easy[1], said["young"][1]])


def test_the_order_of_rows_does_not_matter():
    rows = walked(young=5)
    there, back = (
        replay_intervals(table).sort_values(["series_id", "cutoff"], ignore_index=True)
        for table in (rows, rows.sample(frac=1, random_state=1))
    )
    pd.testing.assert_frame_equal(there, back)
