"Scores, the replay and its intervals."

import numpy as np
import pandas as pd
import pytest

from brewcast.backtest import (
    add_intervals,
    best_baseline,
    bias_error,
    earlier_cutoffs,
    interval_error,
    interval_factors,
    judged_cutoffs,
    replay,
    replay_intervals,
    rmsse_error,
    wape_error,
)
from brewcast.models import FEATURES


def make_rows(months: int = 20, series: int = 5, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    starts = pd.date_range("2022-02-01", periods=months, freq="MS")
    rows = pd.DataFrame(
        {"series_id": np.repeat([f"S{i}" for i in range(series)], months), "month": np.tile(starts, series)}
    )
    rows = rows.assign(cutoff=rows.month - pd.Timedelta(days=1), **dict.fromkeys(FEATURES, 0.0))
    rows = rows.assign(expected_units=30.0, actual=generator.uniform(250, 350, len(rows)).round())
    rates = {"rate_last": 9.0, "rate_mean3": 10.0, "rate_seasonal": 12.0, "rate_last_year": 15.0, "rate_pooled": 11.0}
    return rows.assign(**rates, **dict.fromkeys(["country", "city", "season_next"], "a"))


def test_scores_by_hand():
    actual, forecast = pd.Series([100.0, 0.0, 50.0]), pd.Series([80.0, 10.0, 60.0])
    assert wape_error(actual, forecast) == pytest.approx(40 / 150)
    assert bias_error(actual, forecast) == pytest.approx(0.0)
    assert np.isnan(wape_error(actual * 0, forecast))
    rows = pd.DataFrame({"series_id": ["A", "A", "B"], "actual": actual, "forecast": forecast})
    # A: mean(400, 100) / 250, B: 100 / 400
    assert rmsse_error(rows, pd.Series({"A": 250.0, "B": 400.0})) == pytest.approx((1.0 + 0.5) / 2)
    rows = rows.assign(lower=[90, 0, 0], upper=[120, 20, 40])
    assert interval_error(rows, 0.8) == pytest.approx((30 + 20 + 40 + 10 * 10) / 150)


def test_a_replay_sees_nothing_of_what_comes_later():
    rows, recipe = make_rows(), {"name": "forest", "params": {"n_estimators": 10, "weight": 1.0}}
    cutoffs = judged_cutoffs(rows, 6)
    told = replay(recipe, rows, cutoffs[:3])
    changed = rows.assign(actual=rows.actual.mask(rows.month > cutoffs[2], 9999.0))
    pd.testing.assert_frame_equal(
        told.drop(columns="actual"), replay(recipe, changed, cutoffs[:3]).drop(columns="actual")
    )
    # and it does see the outcomes that were in at the cutoff
    moved = rows.assign(actual=rows.actual.mask(rows.month <= cutoffs[0], 350.0))
    assert not np.allclose(told.forecast, replay(recipe, moved, cutoffs[:3]).forecast)


def test_choices_are_made_before_the_judged_cutoffs():
    rows = make_rows()
    judged = judged_cutoffs(rows, 12)
    assert len(judged) == 12 and max(earlier_cutoffs(rows, judged)) < min(judged)
    assert len(judged_cutoffs(rows[rows.month < "2022-06-01"], 12)) == 3  # few: one is left to choose on
    seasoned = rows.assign(has_own_season=(rows.month >= "2022-06-01").astype(int))
    assert min(earlier_cutoffs(seasoned, judged)) == pd.Timestamp("2022-05-31")


def test_the_first_champion_is_the_best_baseline_of_the_earlier_cutoffs():
    rows = make_rows()
    judged = judged_cutoffs(rows, 12)
    lured = rows.assign(rate_last=np.where(rows.cutoff.isin(judged), rows.actual / 30, 1.0))
    assert best_baseline(lured, earlier_cutoffs(lured, judged))["name"] == "mean_of_3"
    assert best_baseline(rows, [])["name"] == "seasonal"


def test_intervals_hold_what_they_promise_on_months_they_have_not_seen():
    generator = np.random.default_rng(1)
    rows = make_rows(months=40, series=50).assign(has_own_season=1, forecast=300.0)
    rows = rows.assign(actual=300 * np.exp(generator.normal(0, 0.1, len(rows))))
    held = replay_intervals(rows).dropna(subset=["lower"])
    assert held.actual.between(held.lower, held.upper).mean() == pytest.approx(0.8, abs=0.02)


def test_an_interval_is_learned_from_earlier_cutoffs_only():
    rows = make_rows(months=10, series=40).assign(has_own_season=1, forecast=300.0)
    first = replay_intervals(rows)
    changed = replay_intervals(rows.assign(actual=rows.actual.mask(rows.month >= "2022-09-01", 1.0)))
    same = first.cutoff < "2022-09-01"
    pd.testing.assert_frame_equal(first[same][["lower", "upper"]], changed[same][["lower", "upper"]])
    assert first.lower.isna().sum() == 3 * 40


def test_young_series_get_an_interval_at_least_as_wide():
    rows = pd.DataFrame({"forecast": 100.0, "actual": np.linspace(90, 110, 200), "has_own_season": 1})
    factors = interval_factors(rows)
    assert factors["young"][0] < factors["own_season"][0] and factors["young"][1] > factors["own_season"][1]
    both = add_intervals(pd.DataFrame({"forecast": [100.0, 100.0], "has_own_season": [1, 0]}), factors)
    assert both.upper[1] - both.lower[1] > both.upper[0] - both.lower[0]
    assert interval_factors(rows.head(5)) == {"own_season": [0.5, 2.0], "young": [0.5**1.5, 2.0**1.5]}


def test_an_interval_holds_its_forecast_where_all_misses_were_to_one_side():
    growing = pd.DataFrame({"forecast": 100.0, "actual": np.linspace(110, 130, 60), "has_own_season": 0})
    told = add_intervals(growing, interval_factors(growing))
    assert (told.lower <= told.forecast).all() and (told.upper > told.forecast).all()
