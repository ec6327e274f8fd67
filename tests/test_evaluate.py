"The gate says yes to what is better, and no to everything else, for the right reason."

import numpy as np
import pandas as pd
import pytest

from brewcast.backtest import judged_cutoffs, scores
from brewcast.evaluate import add_floor, contest, judge, naive_scale
from brewcast.models import BASELINES, FEATURES


@pytest.fixture(scope="module")
def rows():
    "Twelve stores in two countries over 26 months; last year's month is a good forecast, last month's a poor one."
    generator = np.random.default_rng(0)
    months = pd.date_range("2022-01-01", periods=26, freq="MS")
    table = pd.MultiIndex.from_product(
        [[f"S{i:02}" for i in range(12)], months], names=["series_id", "month"]
    ).to_frame(index=False)
    store, n = table.series_id.str[1:].astype(int), len(table)
    table = table.assign(cutoff=table.month - pd.Timedelta(days=1), **dict.fromkeys(FEATURES, 0.0))
    table = table.assign(country=np.where(store % 3 == 0, "Mexico", "USA"), log_size=np.log(100 + 50 * store))
    table = table.assign(
        city="a", season_next="a", weather_last="a", promotion_last="a", holiday_last="a", expected_units=30.0
    )
    truth = 10.0 + store
    rates = {"rate_last": 0.10, "rate_mean3": 0.08, "rate_pooled": 0.05, "rate_seasonal": 0.03, "rate_last_year": 0.06}
    table = table.assign(**{name: truth * generator.lognormal(0, error, n) for name, error in rates.items()})
    return table.assign(actual=truth * 30, has_own_season=1)


NAMED = {name: {"name": name, "params": {}} for name in BASELINES}


def told(rows, candidate="seasonal", champion="last_month", most=12):
    return contest(
        {"candidate": NAMED[candidate], "champion": NAMED[champion], **NAMED}, rows, judged_cutoffs(rows, most)
    )


def test_all_are_scored_on_the_same_rows_of_twelve_cutoffs(rows):
    table = told(rows)
    judged = table[table.judged]
    assert judged.cutoff.nunique() == 12
    keys = judged.groupby("model").apply(
        lambda part: frozenset(zip(part.series_id, part.cutoff, strict=True)), include_groups=False
    )
    assert set(keys.index) == {"candidate", "champion", *BASELINES} and keys.nunique() == 1
    assert judged.lower.notna().all() and table[~table.judged].lower.isna().any()


def test_a_better_candidate_is_promoted(rows):
    verdict = judge(told(rows), same_recipe=False)
    assert verdict["promoted"] and verdict["rule"] == "better"
    assert verdict["figures"]["gain"] > 0.5 and verdict["figures"]["months_won"] == 12


def test_a_worse_candidate_is_refused(rows):
    verdict = judge(told(rows, "last_month", "seasonal"), same_recipe=False)
    assert not verdict["promoted"] and (verdict["verdict"], verdict["rule"]) == ("refuse", "min_gain")
    assert "a gain of -" in verdict["reason"]


def test_a_tie_keeps_the_champion(rows):
    verdict = judge(told(rows, "seasonal", "seasonal"), same_recipe=False)
    assert not verdict["promoted"] and verdict["rule"] == "min_gain" and verdict["figures"]["gain"] == 0


def test_the_same_recipe_is_no_contest(rows):
    verdict = judge(told(rows, "seasonal", "seasonal"), same_recipe=True)
    assert (verdict["verdict"], verdict["promoted"]) == ("refit", False)


def alter(table, where, factor, model="candidate"):
    changed = (table.model == model) & where & table.judged
    return table.assign(forecast=table.forecast.mask(changed, table.actual * factor))


def test_one_lucky_month_promotes_nobody(rows):
    table = told(rows, "last_month", "last_month")
    table = alter(alter(table, table.cutoff > "2000", 1.1), table.cutoff > "2000", 1.09, "champion")
    lucky = alter(table, table.cutoff == table[table.judged].cutoff.max(), 1.0)
    verdict = judge(alter(lucky, lucky.cutoff == lucky[lucky.judged].cutoff.max(), 1.5, "champion"), same_recipe=False)
    assert verdict["rule"] == "min_months_won" and verdict["figures"]["gain"] > 0.01


@pytest.mark.parametrize(("kind", "group"), [("country", "Mexico"), ("size", "small")])
def test_good_in_total_and_bad_for_a_group_is_refused(rows, kind, group):
    table = told(rows)
    worse = alter(table, (table[kind] == group) & (table.cutoff.dt.month % 2 == 0), 1.25)
    verdict = judge(worse, same_recipe=False, min_gain=0.0, min_months_won=0.0)
    if verdict["figures"]["gain"] < 0:
        pytest.fail("the sabotage went too far: the candidate is worse in total")
    assert verdict["rule"] == f"max_group_loss_{kind}" and f"{kind} {group} loses" in verdict["reason"]


def test_too_few_months_are_insufficient_evidence(rows):
    short = rows[rows.month < "2022-05-01"]
    verdict = judge(told(short), same_recipe=False)
    assert verdict["verdict"] == "insufficient_evidence" and not verdict["promoted"]
    fewer = judge(told(rows[rows.month < "2022-09-01"]), same_recipe=False)
    assert fewer["promoted"] and "only 7 months could be judged" in fewer["reason"]


def test_a_closed_store_stays_in(rows):
    gone = rows.assign(actual=rows.actual.mask((rows.series_id == "S01") & (rows.month == rows.month.max()), 0.0))
    judged = told(gone).query("judged and series_id == 'S01'")
    assert (judged.actual == 0).sum() == judged.model.nunique()


def test_the_floor_is_scored_only_where_it_answers_every_row(rows):
    table = told(rows)
    answers = table[table.judged & (table.model == "seasonal")][["series_id", "cutoff"]].assign(forecast=1.0)
    assert "floor" in set(add_floor(table, answers).model)
    assert "floor" not in set(add_floor(table, answers.iloc[1:]).model)
    naive = naive_scale(table, rows, judged_cutoffs(rows))
    scored = scores(add_floor(table, answers).query("judged"), naive, ["model"]).set_index("model")
    assert scored.n.nunique() == 1 and scored.rmsse["last_month"] == pytest.approx(1.0, abs=0.2)
