"Intervals hold what they promise, for every length of history, and again after a shift."

import json

import numpy as np
import pandas as pd
import pytest

from brewcast.common.core import write_json
from brewcast.model.intervals import (
    BOUND,
    GROUPS,
    MOST,
    RATE,
    REACH,
    add_intervals,
    calibrate,
    constant_intervals,
    history_group,
    interval_factors,
    interval_summary,
    level_after,
    move_level,
    replay_intervals,
    residuals,
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
    assert summary["residuals"] == "earlier" and set(summary["by_group"]) == set(GROUPS)


def test_an_interval_knows_only_what_its_cutoff_knew():
    rows = walked()
    first, since = replay_intervals(rows), pd.Timestamp("2023-03-01")
    changed = replay_intervals(rows.assign(actual=rows.actual.mask(rows.month >= since, 1.0)))
    same = first.cutoff < since
    pd.testing.assert_frame_equal(first[same][["lower", "upper"]], changed[same][["lower", "upper"]])
    later = first.cutoff > since
    assert (changed.upper[later] > first.upper[later]).all()
    assert first.lower.isna().sum() == 3 * 50


def test_widths_are_learned_from_months_that_the_gate_does_not_judge():
    # given judged months whose errors are half of those before, as a winner's may be
    rows = walked()
    flattered = rows.assign(actual=rows.actual.where(~rows.judged, 1000 * (rows.actual / 1000) ** 0.5))
    # then the learned reach is that of the months before; only the level moves
    for table in (rows, flattered):
        taken, kind = residuals(table, table.month.max())
        assert kind == "earlier" and not taken.judged.any() and len(taken) == 24 * 50
    told = replay_intervals(flattered)
    assert level_after(told) < 0
    learned = [calibrate(residuals(table, table.month.max())[0])["reach"] for table in (rows, flattered)]
    assert learned[0] == learned[1]


def test_a_short_history_uses_the_judged_months_and_says_so():
    told = replay_intervals(walked(months=6))
    assert residuals(told, told.month.max())[1] == "judged"
    assert interval_summary(told)["residuals"] == "judged"
    assert told.dropna(subset=["lower"]).cutoff.nunique() == 3
    one = walked(months=1)
    said = interval_factors(replay_intervals(one), one.head(3))
    assert said["residuals"] == "judged" and said["factors"]["S00"][0] < 0.9


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
    assert inside(constant)[late].mean() < 0.6


def test_one_month_in_which_everything_misses_does_not_widen_the_year():
    rows = walked()
    bad = rows.month.drop_duplicates().sort_values().iloc[-10]
    struck = replay_intervals(rows.assign(actual=rows.actual.where(rows.month != bad, 300.0)))
    calm = replay_intervals(rows)
    wider = (np.log(struck.upper / struck.lower) / np.log(calm.upper / calm.lower)).groupby(struck.month).mean()
    after = wider[wider.index > bad]
    assert after.iloc[0] <= np.exp(RATE * MOST) * 1.05 and after.iloc[5:].max() < 1.1


def test_the_average_of_misses_is_bounded_whatever_comes():
    # given outcomes that an enemy chooses: everything inside or 60 % outside, as it likes
    rng, level, missed = np.random.default_rng(3), 0.0, []
    for _ in range(200):
        missed.append(0.0 if level > 0 or rng.random() < 0.2 else 0.6)
        level = move_level(level, missed[-1])
        assert abs(level) <= BOUND
    # then the share of misses is the promised one, but for what the level has moved
    assert abs(np.mean(missed) - 0.2) <= abs(level) / (RATE * 200) + 1e-9


@pytest.mark.parametrize("outcome", [0.0, 1.0, 1e9])
def test_intervals_are_finite_and_hold_their_forecast(outcome):
    rows = walked()
    told = replay_intervals(rows.assign(actual=rows.actual.where(rows.month < "2022-06-01", outcome)))
    told = told.dropna(subset=["lower"])
    assert np.isfinite(told[["lower", "upper"]]).all().all()
    assert ((0 <= told.lower) & (told.lower <= told.forecast) & (told.forecast <= told.upper)).all()
    assert (told.upper <= told.forecast * np.exp(REACH) * 1.001).all()


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
