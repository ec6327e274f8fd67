"Evidently's checks, the errors of the forecasts that served, and the decision that follows from them."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from verdicts import make_month

from brewcast.common.core import write_json, write_parquet
from brewcast.common.parameter_types import TrainingPolicy
from brewcast.common.records import Finding, Recipe, ServingModel, StateInputs
from brewcast.model.drift import control_chart
from brewcast.model.monitor import (
    current_and_reference,
    decide_training,
    decision_facts,
    drift_report,
    drifted_columns,
    monitor_sentence,
    read_monitor_inputs,
    realised_errors,
    realised_table,
)


@pytest.fixture(scope="module")
def store_month():
    generator = np.random.default_rng(3)
    months = pd.date_range("2022-01-01", periods=30, freq="MS")
    table = pd.MultiIndex.from_product([[f"S{i}" for i in range(40)], months], names=["series_id", "month"]).to_frame(
        index=False
    )
    season = 1 + 0.5 * np.sin(2 * np.pi * table.month.dt.month / 12)
    table = table.assign(quantity_sold=season * generator.normal(1000, 60, len(table)), trading_days=30)
    table = table.assign(
        price=generator.normal(4, 0.2, len(table)), promotion_share=generator.uniform(0, 1, len(table))
    )
    return table.assign(
        is_weekend=generator.uniform(0.25, 0.35, len(table)), weather=generator.choice(["Hot", "Cold"], len(table))
    )


def test_a_season_is_no_drift_and_a_shift_is(store_month):
    current, reference = current_and_reference(store_month)
    assert drifted_columns(drift_report(current, reference)).share == 0
    spring = store_month[store_month.month.isin(pd.date_range("2024-01-01", periods=3, freq="MS"))]
    drift = drifted_columns(drift_report(current, spring.assign(rate=spring.quantity_sold / 30)))
    assert drift.columns["rate"].drifted
    raised = current.assign(rate=current.rate * 1.3, price=current.price * 1.2)
    drift = drifted_columns(drift_report(raised, reference))
    assert drift.columns["rate"].drifted and drift.columns["price"].drifted and drift.share == 0.5


def outcomes_of(table: pd.DataFrame) -> pd.DataFrame:
    "The outcomes of store-months, as the stage features gives them."
    return table[["series_id", "month"]].assign(actual=table.quantity_sold)


LAST = pd.Timestamp("2024-06-01")
STOP = Finding(check="completeness", level="stop", where="2024-06", text="few stores", figures={"month": "2024-06"})
WARNING = STOP.model_copy(update={"level": "warn"})
POLICY = TrainingPolicy(every=1, on_drift=True, max_age=12)


def trained_through(day):
    "A serving model."
    recipe = Recipe(name="forest", params={})
    return ServingModel(recipe=recipe, release="1f0c3a9b2e4d", train_through=day, cutoff="2024-05-31")


def chart_of(drift: bool):
    "A chart of 18 months, with or without an alarm in the last one."
    months = pd.date_range("2022-01-01", LAST, freq="MS")
    table = pd.DataFrame(
        {"month": months, "bias": np.resize([0.02, -0.02, 0.01], 30), "wape": np.resize([0.08, 0.1, 0.09], 30)}
    )
    table = table.assign(bias=table.bias.mask(drift & (table.month == LAST), 0.25))
    return control_chart(table[12:], table[:12])


@pytest.mark.parametrize(
    ("through", "findings", "drift", "policy", "rule"),
    [
        (None, [STOP], True, {}, "no_model"),
        ("2024-05-01", [STOP], True, {}, "bad_data"),
        ("2022-05-01", [STOP], True, {}, "bad_data"),
        ("2024-05-01", [WARNING], False, {}, "calendar"),
        ("2024-05-01", [], True, {}, "drift"),
        ("2024-05-01", [], True, {"on_drift": False}, "calendar"),
        ("2024-05-01", [], True, {"on_drift": False, "every": None}, "unchanged"),
        ("2024-05-01", [], False, {}, "calendar"),
        ("2024-05-01", [], False, {"every": 2}, "unchanged"),
        ("2024-04-01", [], False, {"every": 2}, "calendar"),
        ("2023-06-01", [], False, {"every": None}, "age"),
        ("2023-07-01", [], False, {"every": None}, "unchanged"),
        ("2020-01-01", [], False, {"every": None, "max_age": None}, "unchanged"),
        ("2024-06-01", [], True, {}, "unchanged"),  # already trained through the alarm
    ],
)
def test_the_first_rule_that_applies_decides(through, findings, drift, policy, rule):
    champion = through and trained_through(through)
    decision = decide_training(champion, LAST, findings, chart_of(drift), ["rate"], POLICY.model_copy(update=policy))
    retrain = rule not in ("bad_data", "unchanged")
    assert (decision.rule, decision.retrain) == (rule, retrain) and decision.reason
    assert decision.train_through == ("2024-06-01" if retrain else through)
    assert decision.trusted == (STOP not in findings) and decision.findings == findings
    # an alarm is reported whatever the decision, until a model was trained through its month
    assert bool(decision.figures.alarm) == (drift and through not in (None, "2024-06-01"))


def test_a_drift_is_reported_with_its_figures_and_the_drifted_inputs():
    champion, chart = trained_through("2024-05-01"), chart_of(True)
    decision = decide_training(champion, LAST, [], chart, ["rate", "price"], POLICY)
    for text in ["forecasts too high", "since 2024-06", "+25.0%", "WAPE 9.0%", "is usual", "rate, price"]:
        assert text in decision.reason, text
    assert "no input has drifted" in decide_training(champion, LAST, [], chart, [], POLICY).reason
    assert "no month of the year before" in decide_training(champion, LAST, [], chart, None, POLICY).reason


def test_a_decision_has_the_figures_and_the_policy_in_the_order_of_the_report():
    policy = TrainingPolicy(max_age=None, on_drift=False, every=2)
    decision = decide_training(trained_through("2024-05-01"), LAST, [], chart_of(False), None, policy)
    figures = decision.content()["figures"]
    assert list(figures) == ["age", "alarm", "chart", "moved", "every", "max_age", "on_drift"]
    assert [figures[name] for name in ("age", "alarm", "moved", "every", "max_age", "on_drift")] == [
        1,
        "",
        None,
        2,
        None,
        False,
    ]


def test_forecasts_are_not_scored_by_untrusted_data(store_month):
    # given two stores whose June is not trusted: one has an empty quantity, the other has no row
    june = store_month[store_month.month == LAST].reset_index(drop=True)
    forecast = june[["series_id", "month"]].assign(forecast=june.quantity_sold * 1.1)
    forecast = forecast.assign(lower=forecast.forecast * 0.9, upper=forecast.forecast * 1.2)
    known = store_month[(store_month.month != LAST) | (store_month.series_id != "S2")]
    known = known.assign(quantity_sold=known.quantity_sold.mask((known.month == LAST) & (known.series_id == "S1")))
    outcomes = forecast[["series_id", "month"]].assign(
        actual=june.quantity_sold.mask(june.series_id.isin(["S1", "S2"]))
    )
    # then the other stores score the forecast
    errors = realised_errors([forecast], outcomes, known)
    assert errors.n.tolist() == [38] and errors.wape[0] == pytest.approx(0.1)
    # and where no store's June is trusted, there is no score
    assert realised_errors([forecast], outcomes.assign(actual=np.nan), known).empty


def test_the_stage_reads_archived_forecasts_under_the_ids_of_today(store_month, tmp_path):
    # given a forecast that served while S1 had another id, two records of months, and a finding about the sale lines
    served = store_month[store_month.month == LAST][["series_id", "month"]].assign(
        forecast=1000.0, lower=1.0, upper=9.0
    )
    served = served.assign(series_id=served.series_id.replace({"S1": "S01"}))
    tables = {"store_month": store_month, "served": served, "outcomes": outcomes_of(store_month)}
    tables |= {name: store_month[["series_id", "month"]] for name in ("history", "ahead")}
    paths = {name: tmp_path / f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        write_parquet(table, paths[name])
    findings = write_json([WARNING.content()], tmp_path / "findings.json")
    records = [write_json(make_month(month), tmp_path / f"{month}.json") for month in ("2024-04", "2024-05")]
    state = StateInputs(
        champion=None, archived_forecasts=[str(paths["served"])], months=[str(path) for path in records]
    )
    upstream = SimpleNamespace(
        clean=SimpleNamespace(store_month=paths["store_month"], findings=findings),
        features=SimpleNamespace(**{name: paths[name] for name in ("history", "ahead", "outcomes")}),
    )
    # when the stage reads its inputs
    read = read_monitor_inputs(upstream, str(write_json(state, tmp_path / "inputs.json")), {"S01": "S1"})
    # then the forecast of that store is scored, too
    assert realised_errors(read.archived, read.outcomes, read.store_month).n.tolist() == [40]
    # and the rest is as it was written
    assert (read.champion, read.line_findings) == (None, [WARNING])
    assert [record.month for record in read.records] == ["2024-04", "2024-05"]
    assert len(read.history) == len(read.ahead) == len(store_month)


ANSWERS = {  # the model that serves, findings, an alarm?, months that served; parts of the answer
    "the first build": (None, [], False, 0, ["is sound", "no forecast that served has", "a first model is trained"]),
    "a stopped month": ("2024-05-01", [STOP], False, 18, ["is not trusted (1 finding)", "nothing is trained"]),
    "a warning": ("2024-05-01", [WARNING], False, 18, ["is usable, with 1 warning", "as accurate as usual"]),
    "two months": ("2024-05-01", [], False, 2, ["2 forecasts served, too few to judge (wrong by "]),
    "an alarm": ("2024-05-01", [], True, 18, ["became worse: too high since June 2024", "because of this drift"]),
}


@pytest.mark.parametrize(("through", "findings", "drift", "served", "parts"), ANSWERS.values(), ids=ANSWERS)
def test_the_answer_says_what_is_wrong_and_what_is_done(through, findings, drift, served, parts):
    # given a month of service, or none
    chart = chart_of(drift).head(served)
    realised = pd.DataFrame({"month": chart.month, "wape": chart.wape})
    decision = decide_training(through and trained_through(through), LAST, findings, chart, [], POLICY)
    # then the answer is one sentence, with the figures that matter
    answer = monitor_sentence(decision, LAST, chart, realised)
    assert [part for part in parts if part not in answer] == []
    assert answer.startswith("The data of June 2024 is ") and answer.endswith(".")
    assert all(isinstance(value, str) and "{" not in value for value in decision_facts(decision).values.values())


def test_realised_errors_are_shown_the_last_month_first():
    columns = ["month", "n", "wape", "wape_last_month", "bias", "coverage"]
    months = pd.date_range("2023-01-01", periods=14, freq="MS")
    table = realised_table(pd.DataFrame({"month": months, **dict.fromkeys(columns[1:], 0.1)}))
    assert (len(table.rows), table.rows[0][0], table.rows[-1][0]) == (12, "Feb 2024", "Mar 2023")
    assert realised_table(pd.DataFrame(columns=columns)).values == {"Months with an outcome": "none yet"}
