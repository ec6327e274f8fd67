"Scores and the replay."

import numpy as np
import pandas as pd

from brewcast.common.records import Recipe
from brewcast.model.backtest import (
    best_baseline,
    earlier_cutoffs,
    judged_cutoffs,
    replay_recipe,
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
