"The gate says yes to what is better, and no to everything else, for the right reason."

import numpy as np
import pandas as pd
import pytest

from brewcast.model.backtest import judged_cutoffs, scores
from brewcast.model.evaluate import (
    add_floor,
    backtest_recipes,
    better_baseline,
    gate_verdict,
    naive_scale,
    next_challenger,
    p_value,
)
from brewcast.model.leakage_checks import UNFIT_RULES
from brewcast.model.recipes import BASELINES, FEATURES, build_model


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
    return backtest_recipes(
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
    verdict = gate_verdict(told(rows), same_recipe=False)
    assert verdict["promoted"] and verdict["rule"] == "better"
    assert verdict["figures"]["gain"] > 0.5 and verdict["figures"]["months_won"] == 12


def test_a_month_that_one_store_has_not_is_judged_by_the_others(rows):
    # given a judged month that one store has no outcome of
    gap = (rows.series_id == "S03") & (rows.cutoff == judged_cutoffs(rows)[5])
    verdict, table = gate_verdict(told(rows.assign(actual=rows.actual.mask(gap))), same_recipe=False), told(rows)
    # then the verdict is what it is without that row, over as many months
    row = (table.series_id == "S03") & (table.cutoff == judged_cutoffs(rows)[5])
    without = gate_verdict(table[~row], same_recipe=False)
    assert verdict["figures"]["months"] == 12 and verdict["figures"]["gain"] == pytest.approx(
        without["figures"]["gain"]
    )
    # and a month that nobody has is not judged
    nobody = rows.assign(actual=rows.actual.mask(rows.cutoff == judged_cutoffs(rows)[5]))
    assert judged_cutoffs(rows)[5] not in judged_cutoffs(nobody) and len(judged_cutoffs(nobody)) == 12


def test_a_worse_candidate_is_refused(rows):
    verdict = gate_verdict(told(rows, "last_month", "seasonal"), same_recipe=False)
    assert not verdict["promoted"] and (verdict["verdict"], verdict["rule"]) == ("refuse", "min_gain")
    assert "a gain of -" in verdict["reason"]


def test_a_tie_keeps_the_champion(rows):
    verdict = gate_verdict(told(rows, "seasonal", "seasonal"), same_recipe=False)
    assert not verdict["promoted"] and verdict["rule"] == "min_gain" and verdict["figures"]["gain"] == 0


def test_the_same_recipe_is_no_contest(rows):
    verdict = gate_verdict(told(rows, "seasonal", "seasonal"), same_recipe=True)
    assert (verdict["verdict"], verdict["promoted"]) == ("refit", False)


def alter(table, where, factor, model="candidate"):
    changed = (table.model == model) & where & table.judged
    return table.assign(forecast=table.forecast.mask(changed, table.actual * factor))


def test_one_lucky_month_promotes_nobody(rows):
    table = told(rows, "last_month", "last_month")
    table = alter(alter(table, table.cutoff > "2000", 1.1), table.cutoff > "2000", 1.09, "champion")
    lucky = alter(table, table.cutoff == table[table.judged].cutoff.max(), 1.0)
    verdict = gate_verdict(
        alter(lucky, lucky.cutoff == lucky[lucky.judged].cutoff.max(), 1.5, "champion"), same_recipe=False
    )
    assert verdict["rule"] == "min_months_won" and verdict["figures"]["gain"] > 0.01


@pytest.mark.parametrize(("kind", "group"), [("country", "Mexico"), ("size", "small")])
def test_good_in_total_and_bad_for_a_group_is_refused(rows, kind, group):
    table = told(rows)
    worse = alter(table, (table[kind] == group) & (table.cutoff.dt.month % 2 == 0), 1.25)
    verdict = gate_verdict(worse, same_recipe=False, min_gain=0.0, min_months_won=0.0)
    if verdict["figures"]["gain"] < 0:
        pytest.fail("the sabotage went too far: the candidate is worse in total")
    assert verdict["rule"] == f"max_group_loss_{kind}" and f"{kind} {group} loses" in verdict["reason"]


def test_too_few_months_are_insufficient_evidence(rows):
    short = rows[rows.month < "2022-05-01"]
    verdict = gate_verdict(told(short), same_recipe=False)
    assert verdict["verdict"] == "insufficient_evidence" and not verdict["promoted"]
    fewer = gate_verdict(told(rows[rows.month < "2022-09-01"]), same_recipe=False)
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


def test_a_gain_that_equals_show_by_luck_is_no_evidence(rows):
    table = told(rows, "last_month", "last_month")
    months = sorted(table[table.judged].cutoff.unique())
    factors = {m: 1.05 if i < 7 else 1.10 for i, m in enumerate(months)}  # better in seven months, worse in five
    lucky = table.assign(
        forecast=table.forecast.mask(
            (table.model == "candidate") & table.judged, table.actual * table.cutoff.map(factors)
        )
    )
    lucky = alter(lucky, lucky.cutoff > "2000", 1.075, "champion")
    verdict = gate_verdict(lucky, same_recipe=False)
    assert (verdict["verdict"], verdict["rule"], verdict["promoted"]) == ("insufficient_evidence", "max_p_value", False)
    assert "as equals show by luck in" in verdict["reason"] and verdict["figures"]["gain"] > 0.04
    assert gate_verdict(lucky, same_recipe=False, max_p_value=0.5)["promoted"]


def test_a_country_of_one_store_is_not_refused_for_bad_luck(rows):
    one = rows.assign(country=np.where(rows.series_id == "S03", "Canada", "USA"))
    table = told(one)
    months = sorted(table[table.judged].cutoff.unique())
    unlucky = alter(table, (table.country == "Canada") & table.cutoff.isin(months[:2]), 1.6)
    verdict = gate_verdict(unlucky, same_recipe=False)
    group = next(g for g in verdict["figures"]["groups"] if g["group"] == "Canada")
    assert group["loss"] > 0.1 and group["p_value"] > 0.2 and verdict["rule"] == "better"
    always = gate_verdict(alter(table, table.country == "Canada", 1.3), same_recipe=False)
    assert always["rule"] == "max_group_loss_country" and "country Canada loses" in always["reason"]


def test_intervals_that_are_too_narrow_are_refused_and_one_bad_month_is_not(rows):
    table = told(rows)
    mine, bad = table.model == "candidate", table.cutoff == table.cutoff.max()
    bad_month = table.assign(upper=table.upper.mask(mine & bad, 0.0))
    narrow = table.assign(
        lower=table.lower.mask(mine, table.forecast * 0.999), upper=table.upper.mask(mine, table.forecast * 1.001)
    )
    assert gate_verdict(bad_month, same_recipe=False)["rule"] == "better"
    verdict = gate_verdict(narrow, same_recipe=False)
    assert (verdict["verdict"], verdict["rule"]) == ("refuse", "coverage") and "80% is promised" in verdict["reason"]
    of_champion = table.assign(upper=table.upper.mask(table.model == "champion", 0.0))
    assert gate_verdict(of_champion, same_recipe=False)["rule"] == "better"  # the candidate is judged, not who serves


@pytest.mark.parametrize("same_recipe", [False, True])
def test_what_makes_a_candidate_unfit_comes_before_all_else(rows, same_recipe):
    verdict = gate_verdict(told(rows), same_recipe, unfit={"leak": "it knows", "file": "it was altered"})
    assert (verdict["verdict"], verdict["rule"], verdict["reason"]) == ("refuse", "file", "it was altered")


@pytest.mark.parametrize("rule", UNFIT_RULES)
def test_who_is_unfit_does_not_become_the_challenger(rule):
    forest, other, best = ({"name": name, "params": {}} for name in ("forest", "mean_of_3", "seasonal"))
    verdict = {"rule": rule, "recipe": best, "candidate": forest, "champion": best}
    assert next_challenger(verdict, {"challenger": other}, best) == other
    assert next_challenger(verdict, {"challenger": forest}, best) is None
    assert next_challenger(verdict | {"rule": "min_gain"}, {"challenger": other}, best) == forest


def test_luck_is_that_of_equals():
    draw = np.random.default_rng(0)
    shock = draw.lognormal(0, 0.5, (2000, 12))  # a month is good or bad for both
    chance = [p_value(*pair) for pair in zip(shock * draw.lognormal(0, 0.3, shock.shape), shock, strict=True)]
    assert np.mean(np.array(chance) <= 0.1) == pytest.approx(0.1, abs=0.02)
    assert p_value([1.0], [2.0]) == 1 and p_value([], []) == 1 and p_value([0.0, 0.0], [0.0, 0.0]) == 1
    assert p_value([0.0, 0.0, 0.0], [1.0, 2.0, 1.0]) == 0


def test_a_baseline_that_was_better_than_what_serves_is_said_with_what_the_gate_would_say(rows):
    # given a champion of which three baselines are better / when it is asked
    found = better_baseline(told(rows, "last_month", "last_month"), "champion", {})
    # then the best is named, by how much, since when, what the gate would say and how to bring it before the gate
    assert (found["baseline"], found["gate"]) == ("seasonal", "promote")
    assert "seasonal, a baseline, was better than what serves" in found["said"]
    assert found["said"].endswith("% less; better in 12 of 12 months, and in each since 2023-03")
    assert found["settings"] == "'train.weights=[0]' 'train.partners=[rate_seasonal]'"
    # and where the best of them serves, or is no better, nothing is said
    assert better_baseline(told(rows, "last_month", "seasonal"), "champion", {}) is None
    assert better_baseline(told(rows, "seasonal", "last_month"), "candidate", {}) is None


def test_a_baseline_that_was_better_by_luck_is_held_by_the_gate_and_since_when_is_its_last_run(rows):
    # given one that lost the third month before the last, and won by a hair
    table = told(rows, "seasonal", "seasonal")
    last = sorted(table[table.judged].cutoff.unique())[-3]
    served = table.model == "champion"
    worse = table.actual + (table.forecast - table.actual) * np.where(table.cutoff == last, 0.5, 1.001)
    found = better_baseline(table.assign(forecast=table.forecast.where(~served, worse)), "champion", {})
    # with one half of an error in one month, the champion is better
    assert found is None
    worse = table.actual + (table.forecast - table.actual) * np.where(table.cutoff == last, 0.99, 1.005)
    found = better_baseline(table.assign(forecast=table.forecast.where(~served, worse)), "champion", {})
    assert found["said"].endswith("better in 11 of 12 months, and in each since 2024-01")
    assert found["gate"].startswith("refuse: ") and "1.0% is asked" in found["gate"]


def test_a_baseline_is_a_forest_of_weight_0(rows):
    # what the settings make of a forest is the baseline that they are told of
    asked, forest = rows.assign(rate_mean3=5.0), {"weight": 0.0, "partner": "rate_seasonal", "n_estimators": 3}
    model = build_model({"name": "forest", "params": forest}).fit(asked[FEATURES], asked.actual)
    np.testing.assert_allclose(model.predict(asked[FEATURES]), asked.rate_seasonal * asked.expected_units)
