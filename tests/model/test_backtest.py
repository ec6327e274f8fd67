"Scores and the replay."

import numpy as np
import pandas as pd
import pytest

from brewcast.common.records import Recipe
from brewcast.model.backtest import (
    best_baseline,
    bias_error,
    earlier_cutoffs,
    interval_error,
    judged_cutoffs,
    replay_recipe,
    rmsse_error,
    scores,
    wape_error,
)
from brewcast.model.recipes import FEATURES


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


def test_rows_without_an_outcome_are_not_scored():
    rows = pd.DataFrame({"model": "m", "series_id": ["A", "A", "B"], "actual": [100.0, np.nan, 50.0]})
    rows = rows.assign(forecast=[80.0, 999.0, 60.0], lower=[70.0, 1.0, 55.0], upper=[110.0, 2.0, 70.0])
    known, naive = rows.dropna(), pd.Series({"A": 250.0, "B": 400.0})
    pd.testing.assert_frame_equal(scores(rows, naive, ["model"]), scores(known, naive, ["model"]))
    assert scores(rows, naive, ["model"]).n.tolist() == [2]
    assert (
        bias_error(rows.actual, rows.forecast) == bias_error(known.actual, known.forecast) == pytest.approx(-10 / 150)
    )


def test_a_replay_uses_no_later_data():
    rows = make_rows()
    recipe = Recipe(name="forest", params={"n_estimators": 10, "weight": 1.0})
    cutoffs = judged_cutoffs(rows, 6)
    forecasts = replay_recipe(recipe, rows, cutoffs[:3])
    changed = rows.assign(actual=rows.actual.mask(rows.month > cutoffs[2], 9999.0))
    pd.testing.assert_frame_equal(
        forecasts.drop(columns="actual"), replay_recipe(recipe, changed, cutoffs[:3]).drop(columns="actual")
    )
    # and it uses the outcomes that were known at the cutoff
    changed_past = rows.assign(actual=rows.actual.mask(rows.month <= cutoffs[0], 350.0))
    assert not np.allclose(forecasts.forecast, replay_recipe(recipe, changed_past, cutoffs[:3]).forecast)


def test_choices_are_made_before_the_judged_cutoffs():
    rows = make_rows()
    judged = judged_cutoffs(rows, 12)
    assert len(judged) == 12 and max(earlier_cutoffs(rows, judged)) < min(judged)
    assert (
        len(judged_cutoffs(rows[rows.month < "2022-06-01"], 12)) == 3
    )  # few cutoffs: one is left for choosing settings
    seasoned = rows.assign(has_own_season=(rows.month >= "2022-06-01").astype(int))
    assert min(earlier_cutoffs(seasoned, judged)) == pd.Timestamp("2022-05-31")


def test_the_first_champion_is_the_best_baseline_of_the_earlier_cutoffs():
    rows = make_rows()
    judged = judged_cutoffs(rows, 12)
    last_month_best = rows.assign(rate_last=np.where(rows.cutoff.isin(judged), rows.actual / 30, 1.0), has_own_season=1)
    assert best_baseline(last_month_best, earlier_cutoffs(last_month_best, judged)).name == "mean_of_3"
    # and it is the seasonal one where too few cutoffs have seasons: another would not be good for a year
    assert best_baseline(rows, []).name == "seasonal"
    few_seasons = last_month_best.assign(has_own_season=(rows.month >= judged[0] - pd.DateOffset(months=1)).astype(int))
    assert best_baseline(few_seasons, earlier_cutoffs(few_seasons, judged)).name == "seasonal"


def test_a_store_without_an_outcome_is_not_forecast_once_its_month_is_complete():
    # given a store without an outcome in a complete month, and a month without outcomes yet
    rows = make_rows()
    last, before = sorted(rows.cutoff.unique())[-1], sorted(rows.cutoff.unique())[-2]
    is_gap = (rows.cutoff == before) & (rows.series_id == "S2")
    rows = rows.assign(actual=rows.actual.mask(is_gap | (rows.cutoff == last)))
    forecasts = replay_recipe(Recipe(name="seasonal", params={}), rows, [before, last])
    # then the complete month has no forecast of that store, and the other month has all forecasts
    complete = forecasts[forecasts.cutoff == before]
    assert sorted(complete.series_id) == ["S0", "S1", "S3", "S4"]
    assert len(forecasts[forecasts.cutoff == last]) == 5
    assert np.isfinite(wape_error(complete.actual, complete.forecast))
