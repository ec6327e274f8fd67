"Evidently's checks, the errors of the forecasts that served, and the decision that follows from them."

import numpy as np
import pandas as pd
import pytest
from verdicts import make_month

from brewcast.common.parameter_types import TrainingPolicy
from brewcast.common.records import Finding, Recipe, ServingModel
from brewcast.data.quality import accept_findings
from brewcast.model.drift import control_chart
from brewcast.model.monitor import (
    current_and_reference,
    decide_training,
    drift_report,
    drifted_columns,
    quality_findings,
    quality_report,
    realised_errors,
    stopped_months,
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


def test_sound_data_has_no_findings(store_month):
    assert quality_findings(quality_report(store_month), LAST) == []


@pytest.mark.parametrize(
    ("broken", "check", "level", "where"),
    [
        ("stores missing", "completeness", "stop", "all stores"),
        ("a store twice", "duplicates", "stop", "all stores"),
        ("prices missing", "columns", "warn", "price"),
    ],
)
def test_broken_data_is_found(store_month, broken, check, level, where):
    last = store_month.month == store_month.month.max()
    if broken == "stores missing":
        table = store_month[~last | (store_month.series_id < "S2")]
    elif broken == "a store twice":
        table = pd.concat([store_month, store_month[last].head(1)], ignore_index=True)
    else:
        table = store_month.assign(price=store_month.price.mask(last & (store_month.series_id < "S3")))
    (finding,) = quality_findings(quality_report(table), LAST)
    assert (finding.check, finding.level, finding.where) == (check, level, where)
    assert finding.text.startswith(f"2024-06: {where}: ") and finding.figures == {"month": "2024-06"}
    # and a stop says how to accept it, and can be accepted
    if level == "stop":
        name = f"{check}:2024-06"
        assert f"{check}:all stores:2024-06" in finding.text
        assert accept_findings([finding], [name])[0].level == "note"


def test_a_season_is_no_drift_and_a_shift_is(store_month):
    current, reference = current_and_reference(store_month)
    assert drifted_columns(drift_report(current, reference)).share == 0
    spring = store_month[store_month.month.isin(pd.date_range("2024-01-01", periods=3, freq="MS"))]
    drift = drifted_columns(drift_report(current, spring.assign(rate=spring.quantity_sold / 30)))
    assert drift.columns["rate"].drifted
    raised = current.assign(rate=current.rate * 1.3, price=current.price * 1.2)
    drift = drifted_columns(drift_report(raised, reference))
    assert drift.columns["rate"].drifted and drift.columns["price"].drifted and drift.share == 0.5


def test_a_young_source_has_no_reference(store_month):
    current, reference = current_and_reference(store_month[store_month.month < "2023-01-01"])
    assert len(current) == 120 and len(reference) == 0


def outcomes_of(table: pd.DataFrame) -> pd.DataFrame:
    "The outcomes of store-months, as the stage features gives them."
    return table[["series_id", "month"]].assign(actual=table.quantity_sold)


def test_realised_errors_by_hand(store_month):
    june = store_month[store_month.month == "2024-06-01"].reset_index(drop=True)
    forecast = june[["series_id", "month"]].assign(forecast=june.quantity_sold * 1.1)
    forecast = forecast.assign(lower=forecast.forecast * 0.95, upper=forecast.forecast * 1.05)
    july = forecast.assign(month=pd.Timestamp("2024-07-01"))
    errors = realised_errors([forecast, july], outcomes_of(store_month), store_month)
    assert len(errors) == 1 and errors.wape[0] == pytest.approx(0.1) and errors.bias[0] == pytest.approx(0.1)
    assert errors.coverage[0] == 0 and errors.n[0] == 40


def test_a_forecast_of_a_closed_store_and_of_a_month_without_sales(store_month):
    closed = pd.DataFrame(
        {"series_id": ["S1", "GONE"], "month": LAST, "forecast": 100.0, "lower": 50.0, "upper": 150.0}
    )
    unsold = closed.assign(month=pd.Timestamp("2019-01-01"))
    outcomes = [outcomes_of(store_month), closed[1:].assign(actual=0.0), unsold.assign(actual=0.0)]
    errors = realised_errors([closed, unsold], pd.concat(outcomes), store_month)
    sold = store_month[(store_month.series_id == "S1") & (store_month.month == LAST)].quantity_sold.iloc[0]
    assert errors.wape[1] == pytest.approx((abs(sold - 100) + 100) / sold) and np.isnan(errors.wape[0])


def test_a_forecast_of_a_gap_has_no_error(store_month):
    # given a forecast of June for two stores, one of them with a gap, and a forecast for that one alone
    june = pd.DataFrame({"series_id": ["S1", "S2"], "month": LAST, "forecast": 100.0, "lower": 50.0, "upper": 150.0})
    outcomes = outcomes_of(store_month)
    is_gap = (outcomes.series_id == "S2") & (outcomes.month == LAST)
    errors = realised_errors([june, june[1:]], outcomes.assign(actual=outcomes.actual.mask(is_gap)), store_month)
    pd.testing.assert_frame_equal(errors, realised_errors([june[:1]], outcomes, store_month))


def test_a_stopped_month_is_left_out_until_it_is_corrected():
    stopped = [make_month(month, status="stopped") for month in ("2024-01", "2024-02")]
    records = [*stopped, make_month("2024-02")]
    january = pd.Timestamp("2024-01-01")
    assert stopped_months(records, [], LAST) == (january,)
    assert stopped_months(records, [STOP], LAST) == (january, LAST)
    assert stopped_months(records, [WARNING], LAST) == (january,)
    earlier = STOP.model_copy(update={"figures": {"month": "2024-05"}})
    assert stopped_months([], [earlier], LAST) == (pd.Timestamp("2024-05-01"),)
    # and this month counts by today's findings, not by those of its last run
    assert stopped_months([make_month("2024-06", status="stopped")], [], LAST) == ()


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


def test_an_alarm_is_not_lost_while_the_next_month_is_stopped():
    # given an alarm in June, and a July whose data is stopped at first
    table, july = chart_of(True), pd.Timestamp("2024-07-01")
    champion = trained_through("2024-05-01")
    assert decide_training(champion, july, [STOP], table, [], POLICY).rule == "bad_data"
    # when July is corrected
    decision = decide_training(champion, july, [], table, [], POLICY)
    # then the alarm still counts
    assert decision.rule == "drift" and decision.train_through == "2024-07-01"


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


def test_a_month_in_which_no_store_is_trusted_has_a_report(store_month):
    table = store_month.assign(
        **{n: store_month[n].mask(store_month.month == LAST) for n in ("quantity_sold", "price")}
    )
    assert quality_findings(quality_report(table), LAST) == []
