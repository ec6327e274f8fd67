"The gate promotes a better candidate and refuses every other, for the right reason."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from pictures import picture_problems
from verdicts import make_card, make_verdict

from brewcast.common.core import write_json, write_parquet
from brewcast.common.params import read_env
from brewcast.common.records import Evidence, GateResult, GateVerdict, GroupEvidence, Recipe, ServingModel, StateInputs
from brewcast.model import evaluate
from brewcast.model.backtest import judged_cutoffs, scores
from brewcast.model.evaluate import (
    DEFAULT_GATE,
    MANUAL_REASONS,
    MODEL_LINES,
    UNFIT_WORDS,
    GateParameters,
    add_floor,
    apply_manual_rule,
    backtest_recipes,
    better_baseline,
    candidate_unfit,
    check_p_value,
    complete_verdict,
    decide_contest,
    equal_models,
    evaluate_answer,
    gate_facts,
    gate_verdict,
    group_table,
    manual_rule,
    model_table,
    naive_scale,
    next_challenger,
    p_value,
    plot_monthly_errors,
    read_evaluate_inputs,
    recipe_table,
    run_contest,
    score_contest,
    serving_role,
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


NAMED = {name: Recipe(name=name, params={}) for name in BASELINES}
FOREST, OTHER, BEST = Recipe(name="forest", params={"weight": 0.5}), NAMED["mean_of_3"], NAMED["seasonal"]
NO_STATE = StateInputs(champion=None)


def backtest(rows, candidate="seasonal", champion="last_month"):
    recipes = {"candidate": NAMED[candidate], "champion": NAMED[champion], **NAMED}
    return backtest_recipes(recipes, rows, judged_cutoffs(rows, 12))


def test_all_are_scored_on_the_same_rows_of_twelve_cutoffs(rows):
    table = backtest(rows)
    judged = table[table.judged]
    assert judged.cutoff.nunique() == 12
    keys = judged.groupby("model").apply(
        lambda part: frozenset(zip(part.series_id, part.cutoff, strict=True)), include_groups=False
    )
    assert set(keys.index) == {"candidate", "champion", *BASELINES} and keys.nunique() == 1
    assert judged.lower.notna().all() and table[~table.judged].lower.isna().any()


def test_a_better_candidate_is_promoted(rows):
    verdict = gate_verdict(backtest(rows), same_recipe=False)
    assert verdict.promoted and verdict.rule == "better"
    assert verdict.figures.gain > 0.5 and verdict.figures.months_won == 12


def test_a_gap_of_one_store_leaves_its_month_to_the_others(rows):
    # given a judged month in which one store has no outcome
    gap = (rows.series_id == "S03") & (rows.cutoff == judged_cutoffs(rows)[5])
    verdict, table = (
        gate_verdict(backtest(rows.assign(actual=rows.actual.mask(gap))), same_recipe=False),
        backtest(rows),
    )
    # then the verdict is the same as without that row, over as many months
    row = (table.series_id == "S03") & (table.cutoff == judged_cutoffs(rows)[5])
    without = gate_verdict(table[~row], same_recipe=False)
    assert verdict.figures.months == 12 and verdict.figures.gain == pytest.approx(without.figures.gain)
    # and a month without any outcome is not judged
    no_outcome = rows.assign(actual=rows.actual.mask(rows.cutoff == judged_cutoffs(rows)[5]))
    assert judged_cutoffs(rows)[5] not in judged_cutoffs(no_outcome) and len(judged_cutoffs(no_outcome)) == 12


def test_a_worse_candidate_is_refused(rows):
    verdict = gate_verdict(backtest(rows, "last_month", "seasonal"), same_recipe=False)
    assert not verdict.promoted and (verdict.verdict, verdict.rule) == ("refuse", "min_gain")
    assert ": gain -" in verdict.reason


def alter(table, where, factor, model="candidate"):
    changed = (table.model == model) & where & table.judged
    return table.assign(forecast=table.forecast.mask(changed, table.actual * factor))


def test_one_good_month_promotes_no_candidate(rows):
    table = backtest(rows, "last_month", "last_month")
    table = alter(alter(table, table.cutoff > "2000", 1.1), table.cutoff > "2000", 1.09, "champion")
    one_month = alter(table, table.cutoff == table[table.judged].cutoff.max(), 1.0)
    verdict = gate_verdict(
        alter(one_month, one_month.cutoff == one_month[one_month.judged].cutoff.max(), 1.5, "champion"),
        same_recipe=False,
    )
    assert verdict.rule == "min_months_won" and verdict.figures.gain > 0.01


@pytest.mark.parametrize(("kind", "group"), [("country", "Mexico"), ("size", "small")])
def test_a_candidate_that_is_worse_for_a_group_is_refused(rows, kind, group):
    table = backtest(rows)
    worse = alter(table, (table[kind] == group) & (table.cutoff.dt.month % 2 == 0), 1.25)
    verdict = gate_verdict(worse, same_recipe=False, gate=GateParameters(min_gain=0.0, min_months_won=0.0))
    if verdict.figures.gain < 0:
        pytest.fail("the change is too large: the candidate is worse in total")
    assert verdict.rule == f"max_group_loss_{kind}" and f"error of {kind} {group} rises by" in verdict.reason


def test_too_few_months_are_insufficient_evidence(rows):
    short = rows[rows.month < "2022-05-01"]
    verdict = gate_verdict(backtest(short), same_recipe=False)
    assert verdict.verdict == "insufficient_evidence" and not verdict.promoted
    fewer = gate_verdict(backtest(rows[rows.month < "2022-09-01"]), same_recipe=False)
    assert fewer.promoted and "only 7 months could be judged" in fewer.reason


def test_the_floor_is_scored_only_where_it_forecasts_every_row(rows):
    table = backtest(rows)
    answers = table[table.judged & (table.model == "seasonal")][["series_id", "cutoff"]].assign(forecast=1.0)
    assert "floor" in set(add_floor(table, answers).model)
    assert "floor" not in set(add_floor(table, answers.iloc[1:]).model)
    naive = naive_scale(rows, judged_cutoffs(rows))
    scored = scores(add_floor(table, answers).query("judged"), naive, ["model"]).set_index("model")
    assert scored.n.nunique() == 1 and scored.rmsse["last_month"] == pytest.approx(1.0, abs=0.2)


def test_a_gain_that_may_be_chance_is_no_evidence(rows):
    table = backtest(rows, "last_month", "last_month")
    months = sorted(table[table.judged].cutoff.unique())
    factors = {m: 1.05 if i < 7 else 1.10 for i, m in enumerate(months)}  # better in seven months, worse in five
    slightly_better = table.assign(
        forecast=table.forecast.mask(
            (table.model == "candidate") & table.judged, table.actual * table.cutoff.map(factors)
        )
    )
    slightly_better = alter(slightly_better, slightly_better.cutoff > "2000", 1.075, "champion")
    verdict = gate_verdict(slightly_better, same_recipe=False)
    assert (verdict.verdict, verdict.rule, verdict.promoted) == ("insufficient_evidence", "max_p_value", False)
    assert ", p = 0." in verdict.reason and verdict.figures.gain > 0.04
    assert gate_verdict(slightly_better, same_recipe=False, gate=GateParameters(max_p_value=0.5)).promoted


def test_a_country_of_one_store_is_not_refused_for_a_loss_by_chance(rows):
    one = rows.assign(country=np.where(rows.series_id == "S03", "Canada", "USA"))
    table = backtest(one)
    months = sorted(table[table.judged].cutoff.unique())
    two_bad_months = alter(table, (table.country == "Canada") & table.cutoff.isin(months[:2]), 1.6)
    verdict = gate_verdict(two_bad_months, same_recipe=False)
    group = next(group for group in verdict.figures.groups if group.group == "Canada")
    assert group.loss > 0.1 and group.p_value > 0.2 and verdict.rule == "better"
    always = gate_verdict(alter(table, table.country == "Canada", 1.3), same_recipe=False)
    assert always.rule == "max_group_loss_country" and "error of country Canada rises by" in always.reason


def test_intervals_that_are_too_narrow_are_refused_and_one_bad_month_is_not(rows):
    table = backtest(rows)
    mine, bad = table.model == "candidate", table.cutoff == table.cutoff.max()
    bad_month = table.assign(upper=table.upper.mask(mine & bad, 0.0))
    narrow = table.assign(
        lower=table.lower.mask(mine, table.forecast * 0.999), upper=table.upper.mask(mine, table.forecast * 1.001)
    )
    assert gate_verdict(bad_month, same_recipe=False).rule == "better"
    verdict = gate_verdict(narrow, same_recipe=False)
    assert (verdict.verdict, verdict.rule) == ("refuse", "coverage") and "80% is promised" in verdict.reason
    of_champion = table.assign(upper=table.upper.mask(table.model == "champion", 0.0))
    assert (
        gate_verdict(of_champion, same_recipe=False).rule == "better"
    )  # the candidate's intervals are judged, not the champion's


@pytest.mark.parametrize("same_recipe", [False, True])
def test_an_unfit_candidate_is_refused_before_all_other_checks(rows, same_recipe):
    verdict = gate_verdict(backtest(rows), same_recipe, unfit={"leak": "it uses the future", "file": "it was altered"})
    assert (verdict.verdict, verdict.rule, verdict.reason) == ("refuse", "file", "it was altered")


@pytest.mark.parametrize("rule", UNFIT_RULES)
def test_an_unfit_candidate_does_not_become_the_challenger(rule):
    verdict = decided("refuse", rule)
    before = StateInputs(champion=None, challenger=OTHER)
    assert next_challenger(verdict, FOREST, BEST, before, BEST) == OTHER
    assert next_challenger(verdict, FOREST, BEST, StateInputs(champion=None, challenger=FOREST), BEST) is None
    assert next_challenger(decided("refuse", "min_gain"), FOREST, BEST, before, BEST) == FOREST


def decided(verdict, rule):
    return GateResult(promoted=verdict == "promote", verdict=verdict, rule=rule, reason="")


def test_the_loser_becomes_the_challenger_and_a_refit_keeps_the_one_before():
    before = StateInputs(champion=None, challenger=OTHER)
    assert next_challenger(decided("promote", "better"), FOREST, BEST, before, BEST) == BEST
    assert next_challenger(decided("insufficient_evidence", "max_p_value"), FOREST, BEST, before, BEST) == FOREST
    assert next_challenger(decided("refuse", "by_hand"), FOREST, BEST, before, BEST) == FOREST
    # where nothing was compared, the challenger stays; without one it is the best baseline
    assert next_challenger(decided("refit", "same_recipe"), FOREST, FOREST, before, BEST) == OTHER
    assert next_challenger(decided("refit", "same_recipe"), FOREST, FOREST, NO_STATE, BEST) == BEST
    # but never the recipe that serves, nor a barred one
    assert next_challenger(decided("refit", "same_recipe"), BEST, BEST, NO_STATE, BEST) is None
    barred = StateInputs(champion=None, challenger=OTHER, barred=[FOREST, OTHER])
    assert next_challenger(decided("refuse", "barred"), FOREST, BEST, barred, BEST) is None


MAY = pd.Timestamp("2024-05-31")
EVIDENCE = Evidence(gain=0.1, p_value=0.05, months_won=9, months=12, wape_candidate=0.09, wape_champion=0.1, groups=[])
PROMOTED = GateVerdict(promoted=True, verdict="promote", rule="better", reason="gain 10.0%", figures=EVIDENCE)


@pytest.mark.parametrize(
    ("state", "champion", "rule"),
    [
        ({"barred": [FOREST]}, BEST, "barred"),
        ({"barred": [FOREST], "by_hand": "2024-05-31"}, BEST, "barred"),
        ({"barred": [OTHER], "by_hand": "2024-05-31"}, BEST, "by_hand"),
        ({"by_hand": "2024-05-31"}, FOREST, None),  # the candidate has the recipe that was promoted by hand
        ({"by_hand": "2024-04-30"}, BEST, None),  # a month of evidence has come since
        ({}, BEST, None),
    ],
)
def test_a_decision_by_hand_overrules_the_gate(state, champion, rule):
    inputs = StateInputs(champion=None, **state)
    assert manual_rule(FOREST, champion, inputs, MAY) == rule
    verdict = apply_manual_rule(PROMOTED, FOREST, champion, inputs, MAY)
    if rule is None:
        assert verdict == PROMOTED
    else:
        expected = {"promoted": False, "verdict": "refuse", "rule": rule, "reason": MANUAL_REASONS[rule]}
        assert verdict == PROMOTED.model_copy(update=expected)


@pytest.mark.parametrize("rule", ["same_recipe", *UNFIT_RULES])
def test_a_refit_and_an_unfit_candidate_are_not_overruled(rule):
    verdict = PROMOTED.model_copy(update={"promoted": False, "verdict": "refuse", "rule": rule})
    barred = StateInputs(champion=None, barred=[FOREST], by_hand="2024-05-31")
    assert apply_manual_rule(verdict, FOREST, BEST, barred, MAY) == verdict


def test_the_default_gate_is_that_of_env_yaml():
    env = read_env(ROOT)
    assert GateParameters(**env["gate"], coverage=env["coverage"]) == DEFAULT_GATE


def test_an_objection_has_the_figures_and_the_limit():
    doubtful = EVIDENCE.model_copy(update={"p_value": 0.234})
    assert check_p_value(EVIDENCE, DEFAULT_GATE) is None
    assert check_p_value(doubtful, GateParameters(max_p_value=0.3)) is None
    objection = check_p_value(doubtful, DEFAULT_GATE)
    assert (objection.verdict, objection.rule) == ("insufficient_evidence", "max_p_value")
    assert objection.reason == (
        "WAPE 0.0900, the champion's is 0.1000, better in 9 of 12 months: gain 10.0%, "
        "p = 0.23 (one-sided, by month), at most 0.10 is allowed"
    )


def test_the_p_value_holds_between_equal_recipes():
    draw = np.random.default_rng(0)
    shock = draw.lognormal(0, 0.5, (2000, 12))  # a month is good or bad for both
    p_values = [p_value(*pair) for pair in zip(shock * draw.lognormal(0, 0.3, shock.shape), shock, strict=True)]
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.02)
    assert p_value([1.0], [2.0]) == 1 and p_value([], []) == 1 and p_value([0.0, 0.0], [0.0, 0.0]) == 1
    assert p_value([0.0, 0.0, 0.0], [1.0, 2.0, 1.0]) == 0


def test_a_better_baseline_is_reported_with_what_the_gate_would_decide(rows):
    # given a champion that is worse than three baselines
    report = better_baseline(backtest(rows, "last_month", "last_month"), "champion", DEFAULT_GATE)
    # then the report has the best baseline, its gain, since when, the gate's verdict and the settings for a candidate
    assert (report.baseline, report.gate) == ("seasonal", "promote")
    assert "the baseline seasonal was better than the serving recipe" in report.said
    assert report.said.endswith("% less; better in 12 of 12 months, and in every month since 2023-03")
    assert report.settings == "'train.weights=[0]' 'train.partners=[rate_seasonal]'"
    # and there is no report where the best baseline serves, or is not better
    assert better_baseline(backtest(rows, "last_month", "seasonal"), "champion", DEFAULT_GATE) is None
    assert better_baseline(backtest(rows, "seasonal", "last_month"), "candidate", DEFAULT_GATE) is None


def test_a_baseline_that_is_hardly_better_is_refused_and_its_last_run_is_reported(rows):
    # given a baseline that lost the third month before the last, and is hardly better in the others
    table = backtest(rows, "seasonal", "seasonal")
    last = sorted(table[table.judged].cutoff.unique())[-3]
    served = table.model == "champion"
    worse = table.actual + (table.forecast - table.actual) * np.where(table.cutoff == last, 0.5, 1.001)
    report = better_baseline(table.assign(forecast=table.forecast.where(~served, worse)), "champion", DEFAULT_GATE)
    # with half of its error in one month, the champion is better
    assert report is None
    worse = table.actual + (table.forecast - table.actual) * np.where(table.cutoff == last, 0.99, 1.005)
    report = better_baseline(table.assign(forecast=table.forecast.where(~served, worse)), "champion", DEFAULT_GATE)
    assert report.said.endswith("better in 11 of 12 months, and in every month since 2024-01")
    assert report.gate.startswith("refuse: ") and "at least 1.0% is required" in report.gate


def test_a_baseline_is_a_forest_of_weight_0(rows):
    # the settings of `better_baseline` make a forest that equals the baseline
    rows = rows.assign(rate_mean3=5.0)
    params = {"weight": 0.0, "partner": "rate_seasonal", "n_estimators": 3}
    model = build_model(Recipe(name="forest", params=params)).fit(rows[FEATURES], rows.actual)
    np.testing.assert_allclose(model.predict(rows[FEATURES]), rows.rate_seasonal * rows.expected_units)


# -- what the stage decides


def serving(recipe, **state):
    "The state after a publication."
    release = {"release": "1f0c3a9b2e4d", "train_through": "2024-01-01", "cutoff": "2024-01-31"}
    return StateInputs(champion=ServingModel(recipe=recipe, **release), **state)


def settle(rows, candidate, state):
    "The verdict of a contest, as the stage computes it."
    contest = run_contest(rows, candidate, state)
    decided = decide_contest(contest, state)
    return contest, complete_verdict(decided, contest, score_contest(contest, rows), state)


def test_a_better_candidate_serves_and_the_champion_becomes_the_challenger(rows):
    contest, verdict = settle(rows, BEST, serving(NAMED["last_month"]))
    assert (verdict.rule, verdict.first_champion) == ("better", False)
    assert (verdict.recipe, verdict.challenger) == (BEST, NAMED["last_month"])
    assert serving_role(verdict, contest) == "candidate" and verdict.better_baseline is None
    assert set(verdict.errors) == set(contest.predictions.model) == {"candidate", "champion", *BASELINES}
    assert [verdict.coverage_asked, len(verdict.cutoffs)] == [0.8, 12]


def test_what_was_decided_by_hand_stands_against_a_better_candidate(rows):
    # given a candidate that the gate would promote
    last_month = NAMED["last_month"]
    newest = str(rows.cutoff.max().date())
    for state, rule, challenger in [
        ({"barred": [BEST], "challenger": OTHER}, "barred", OTHER),
        ({"by_hand": newest}, "by_hand", BEST),
    ]:
        # when a person has barred it, or has promoted another on the same month's evidence
        contest, verdict = settle(rows, BEST, serving(last_month, **state))
        # then the champion stays, and the report says that a baseline was better
        assert (verdict.rule, verdict.recipe, verdict.challenger) == (rule, last_month, challenger)
        assert serving_role(verdict, contest) == "champion"
        assert verdict.better_baseline.baseline == "seasonal"
    # and a promotion by hand on older evidence does not
    month_before = str(sorted(rows.cutoff.unique())[-2].date())
    assert settle(rows, BEST, serving(last_month, by_hand=month_before))[1].rule == "better"


def test_the_first_champion_of_a_source_is_its_best_baseline(rows):
    # given a state without a champion; when the best baseline is the candidate, too
    contest, verdict = settle(rows, BEST, NO_STATE)
    # then it is a refit, the candidate's role serves, and no recipe is left to compare with
    assert (contest.champion, verdict.verdict, verdict.challenger) == (BEST, "refit", None)
    assert serving_role(verdict, contest) == "candidate" and verdict.first_champion


@pytest.mark.parametrize("champion", [BEST, NAMED["last_month"]])
def test_tuning_is_checked_for_a_new_recipe_only(rows, tmp_path, monkeypatch, champion):
    asked = {}
    monkeypatch.setattr(evaluate, "unfit_reasons", lambda *args, **options: asked.update(options) or {"leak": "why"})
    contest = run_contest(rows, BEST, serving(champion))
    tables = {"rows": rows, "known": rows, "plan": rows, "floor": None}
    inputs = evaluate.EvaluateInputs(make_card(BEST, "0"), tmp_path, state_inputs=serving(champion), **tables)
    env = read_env(ROOT)
    assert candidate_unfit(inputs, contest, None, env["train"], tmp_path) == {"leak": "why"}
    choices = asked["choices"]
    if champion == BEST:
        assert choices is None
    else:
        assert (choices.partners, choices.weights) == (env["train"]["partners"], env["train"]["weights"])
        assert set(choices.forest) == {"n_estimators", "min_samples_leaf", "seed"}


@pytest.mark.parametrize("floor", [None, "floor.parquet"])
def test_the_inputs_are_read_from_the_stages_and_the_state(tmp_path, monkeypatch, floor):
    # given what the stages before and the state have
    monkeypatch.setattr(evaluate, "find_root", lambda: tmp_path)
    table = pd.DataFrame({"series_id": ["S1"]})
    files = {name: write_parquet(table.assign(name=name), tmp_path / name) for name in ("rows", "known", "plan")}
    write_parquet(table.assign(name="floor"), tmp_path / "floor.parquet")
    card = write_json(make_card(FOREST, "0" * 64), tmp_path / "card.json")
    write_json(serving(BEST), tmp_path / "inputs.json")
    upstream_paths = SimpleNamespace(
        train=SimpleNamespace(rows=files["rows"], card=card, model=tmp_path / "model.joblib"),
        features=SimpleNamespace(known=files["known"]),
        ingest=SimpleNamespace(plan=files["plan"]),
    )
    # when they are read
    inputs = read_evaluate_inputs(upstream_paths, "inputs.json", floor)
    # then each is in its place, and without a floor there is none
    assert [inputs.rows.name[0], inputs.known.name[0], inputs.plan.name[0]] == ["rows", "known", "plan"]
    assert (inputs.card.recipe, inputs.state_inputs.champion.recipe) == (FOREST, BEST)
    assert (inputs.floor is None) if floor is None else inputs.floor.name[0] == "floor"


# -- what a reader sees


def answer(rule="better", verdict="promote", first=False, reason="why", **figures):
    "The answer to a verdict with these figures."
    evidence = EVIDENCE.model_copy(update=figures)
    fields = {"promoted": verdict == "promote", "verdict": verdict, "rule": rule, "reason": reason}
    return evaluate_answer(make_verdict(first_champion=first, figures=evidence, **fields))


ERRORS = "the candidate is wrong by 9.0% of sales, the champion by 10.0%"
LOST = {
    kind: GroupEvidence(kind=kind, group=group, loss=0.2, p_value=0.1)
    for kind, group in {"country": "Mexico", "size": "small"}.items()
}


@pytest.mark.parametrize(
    ("rule", "verdict", "figures", "expected"),
    [
        ("better", "promote", {}, f"Promoted: {ERRORS}, better in 9 of 12 months."),
        (
            "same_recipe",
            "refit",
            {},
            "Fitted again: the candidate has the recipe of the champion, wrong by 9.0% of sales, so there is nothing to "
            "compare.",
        ),
        (
            "same_recipe",
            "refit",
            {"months": 0},
            "Fitted again: the candidate has the recipe of the champion, so there is nothing to compare.",
        ),
        (
            "fewest_cutoffs",
            "insufficient_evidence",
            {"months": 3},
            "Not enough evidence, the champion stays: only 3 months can be judged, and 4 are needed.",
        ),
        (
            "max_p_value",
            "insufficient_evidence",
            {"p_value": 0.29},
            f"Not enough evidence, the champion stays: {ERRORS}, but the gain may be chance (p = 0.29).",
        ),
        ("min_gain", "refuse", {}, f"The champion stays: {ERRORS}, and its error must be smaller by 1.0% or more."),
        (
            "min_months_won",
            "refuse",
            {"months_won": 1, "months": 1},
            f"The champion stays: {ERRORS}, but it is better in only 1 of 1 month.",
        ),
        (
            "max_group_loss_country",
            "refuse",
            {"groups": [LOST["size"], LOST["country"]]},
            f"The champion stays: {ERRORS}, but its error for Mexico is larger by 20.0%.",
        ),
        (
            "max_group_loss_size",
            "refuse",
            {"groups": [LOST["size"]]},
            f"The champion stays: {ERRORS}, but its error for small stores is larger by 20.0%.",
        ),
        (
            "coverage",
            "refuse",
            {"coverage": 0.6, "coverage_at_most": 0.7},
            f"The champion stays: {ERRORS}, but its intervals hold only 60.0% of the outcomes, and promise 80.0%.",
        ),
        *((rule, "refuse", {}, f"The champion stays: {words}.") for rule, words in UNFIT_WORDS.items()),
        ("a_rule_of_its_own", "refuse", {}, "The champion stays: why."),
    ],
)
def test_the_answer_to_every_verdict_says_who_serves_and_which_figure_decided(rule, verdict, figures, expected):
    assert answer(rule, verdict, **figures) == expected


def test_the_first_champion_is_a_simple_forecast_and_not_called_the_best_one():
    start = "Promoted: the candidate is wrong by 9.0% of sales, a simple forecast ("
    assert answer(first=True).startswith(start) and ") by 10.0%" in answer(first=True)
    assert answer("barred", "refuse", first=True).startswith("A simple forecast (")


def test_every_rule_of_the_gate_has_an_answer_of_its_own():
    rules = {"min_gain", "min_months_won", "max_p_value", "fewest_cutoffs"}
    assert all("why" not in answer(rule, "refuse") for rule in rules | set(UNFIT_RULES) | set(MANUAL_REASONS))


@pytest.mark.parametrize("state", [NO_STATE, serving(NAMED["last_month"], challenger=OTHER)])
def test_the_facts_say_who_serves_and_what_was_weighed(rows, state):
    verdict = settle(rows, BEST, state)[1]
    facts = gate_facts(verdict).values
    assert facts["Serves from now on"] == "Three-month mean × last year's season"
    assert facts["Months better than the champion"].endswith("of 12 (at least 7 are needed)")
    assert not set("{}[]_") & set("".join([*facts, *facts.values()]))
    young = verdict.model_copy(update={"figures": verdict.figures.model_copy(update={"coverage": None, "groups": []})})
    assert len(gate_facts(young).values) == 5


def by_month(models, months=12, wape=0.1):
    "Errors by month of these models: each has its own, unless its name is followed by = and another's."
    cutoffs = pd.date_range("2024-01-31", periods=months, freq="ME")
    errors = {}
    for place, model in enumerate(models):
        name, _, twin = model.partition("=")
        own = wape * (1 + place / 10 + np.sin(np.arange(months) + place) / 5)
        errors[name] = errors[twin] if twin else own
    tables = [pd.DataFrame({"cutoff": cutoffs, "model": name, "wape": values}) for name, values in errors.items()]
    return pd.concat(tables, ignore_index=True)


ALL = list(MODEL_LINES)


@pytest.mark.parametrize(("months", "wape"), [(1, 0.1), (2, 0.002), (6, 0.0), (12, 0.1), (12, 15.0), (30, 0.1)])
@pytest.mark.parametrize(
    "models",
    [
        ALL,
        ["candidate"],
        ["candidate", "champion=candidate", "challenger=candidate", "seasonal=candidate", *ALL[4:]],
        ["candidate", "champion", "seasonal=champion", *ALL[4:]],
        ["candidate", "a_model_with_a_very_long_name_of_its_own_that_does_not_end_soon"],
    ],
    ids=["all", "one", "equal", "champion", "long"],
)
def test_the_lines_of_all_models_can_be_told_apart_and_read(models, wape, months):
    figure = plot_monthly_errors(by_month(models, months, wape))
    assert picture_problems(figure) == []
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == months and line.get_clip_on()]
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn}
    assert len(looks) == len(drawn) == len(equal_models(by_month(models, months, wape)))


def test_a_line_has_all_the_names_of_models_with_equal_errors():
    # given a champion that is the seasonal baseline
    table = by_month(["candidate", "champion", "seasonal=champion", "last_month"])
    # when the months are drawn, then one line has both names
    texts = [text.get_text() for text in plot_monthly_errors(table).axes[0].texts]
    assert sorted(texts) == ["candidate", "champion = seasonal", "last month"]


def test_a_month_without_sales_is_a_gap_and_no_sales_at_all_are_said():
    table = by_month(ALL)
    last = table.cutoff == table.cutoff.max()
    gap = plot_monthly_errors(table.assign(wape=table.wape.mask(last)))
    assert picture_problems(gap) == [] and "of 11 months" in gap.get_suptitle()
    for nothing in (table.assign(wape=np.nan), table.head(0)):
        assert "No month has sales" in plot_monthly_errors(nothing).texts[1].get_text()


def test_models_with_the_same_forecasts_are_one_row(rows):
    contest = run_contest(rows, BEST, serving(NAMED["last_month"]))
    table = model_table(score_contest(contest, rows))
    names = [row[0] for row in table.rows]
    assert sorted(names) == ["3-month mean", "Candidate = seasonal", "Champion = last month", "Last year"]
    won = dict(zip(names, [row[4] for row in table.rows], strict=True))
    assert won["Champion = last month"] == "–" and won["Candidate = seasonal"] == "12 of 12"
    recipes = recipe_table(contest.recipes).rows
    assert ["Candidate = seasonal", "Three-month mean × last year's season"] in recipes
    assert not any("{" in text for row in recipes for text in row)


def test_missing_intervals_are_a_dash(rows):
    contest = run_contest(rows, BEST, serving(NAMED["last_month"]))
    scored = score_contest(contest, rows)
    table = model_table(scored._replace(by_model=scored.by_model.assign(coverage=np.nan)))
    assert {row[3] for row in table.rows} == {"–"}


def groups_of(names, champion=0.1):
    "Errors by country."
    tables = [
        pd.DataFrame({"country": names, "model": model, "wape": wape, "bias": 0.01, "n": 5})
        for model, wape in {"candidate": 0.09, "champion": champion, "seasonal": 0.2}.items()
    ]
    return pd.concat(tables, ignore_index=True)


def test_groups_are_shown_side_by_side_with_the_difference():
    # one country, with a long name
    long = "United Kingdom of Great Britain and Northern Ireland"
    table = group_table(groups_of([long]), "country")
    assert table.rows == [[long, "5", "9.0%", "10.0%", "−10.0%", "+1.0%"]]
    # without an error to compare with
    assert group_table(groups_of(["USA"], champion=0.0), "country").rows[0][4] == "–"
    # more than a reader wants to see
    many = group_table(groups_of([f"C{i:02}" for i in range(30)]), "country")
    assert len(many.rows) == 12 and many.caption.endswith("Shown are 12 of 30; verdict.json has all.")
    # a source without countries
    assert group_table(groups_of(["unknown"]), "country").rows[0][0] == "All stores"
