"Evidently's checks and the decision that follows from them."

import numpy as np
import pandas as pd
import pytest

from brewcast.monitor import (
    current_and_reference,
    decide,
    drift_report,
    drifted_columns,
    failed_checks,
    quality_report,
    realised_errors,
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


def test_sound_data_raises_no_alarm(store_month):
    assert failed_checks(quality_report(store_month)) == []


@pytest.mark.parametrize("broken", ["stores missing", "a store twice", "prices missing"])
def test_broken_data_does(store_month, broken):
    last = store_month.month == store_month.month.max()
    if broken == "stores missing":
        table = store_month[~last | (store_month.series_id < "S2")]
    elif broken == "a store twice":
        table = pd.concat([store_month, store_month[last].head(1)], ignore_index=True)
    else:
        table = store_month.assign(price=store_month.price.mask(last & (store_month.series_id < "S3")))
    assert len(failed_checks(quality_report(table))) == 1


def test_a_season_is_no_drift_and_a_shift_is(store_month):
    current, reference = current_and_reference(store_month)
    assert drifted_columns(drift_report(current, reference))["share"] == 0
    spring = store_month[store_month.month.isin(pd.date_range("2024-01-01", periods=3, freq="MS"))]
    assert drifted_columns(drift_report(current, spring.assign(rate=spring.quantity_sold / 30)))["columns"]["rate"][
        "drifted"
    ]
    doubled = current.assign(rate=current.rate * 1.3, price=current.price * 1.2)
    found = drifted_columns(drift_report(doubled, reference))
    assert found["columns"]["rate"]["drifted"] and found["columns"]["price"]["drifted"] and found["share"] == 0.5


def test_a_young_source_has_no_reference(store_month):
    current, reference = current_and_reference(store_month[store_month.month < "2023-01-01"])
    assert len(current) == 120 and len(reference) == 0


def test_realised_errors_by_hand(store_month):
    june = store_month[store_month.month == "2024-06-01"].reset_index(drop=True)
    forecast = june[["series_id", "month"]].assign(forecast=june.quantity_sold * 1.1)
    forecast = forecast.assign(lower=forecast.forecast * 0.95, upper=forecast.forecast * 1.05)
    told = realised_errors([forecast, forecast.assign(month=pd.Timestamp("2024-07-01"))], store_month)
    assert len(told) == 1 and told.wape[0] == pytest.approx(0.1) and told.bias[0] == pytest.approx(0.1)
    assert told.coverage[0] == 0 and told.n[0] == 40


LAST, NONE = (
    pd.Timestamp("2024-06-01"),
    realised_errors([], pd.DataFrame({"series_id": [], "month": [], "quantity_sold": []})),
)
BAD = pd.DataFrame({"wape": [0.3], "wape_last_month": [0.2]})
DRIFT = {"share": 0.75, "columns": {"rate": {"drifted": True}}}


@pytest.mark.parametrize(
    ("given", "rule", "retrain", "through"),
    [
        ((None, LAST, ["broken"], DRIFT, BAD), "no_model", True, "2024-06-01"),
        (({"train_through": "2024-05-01"}, LAST, ["broken"], DRIFT, BAD), "bad_data", False, "2024-05-01"),
        (({"train_through": "2024-05-01"}, LAST, [], None, NONE), "age", True, "2024-06-01"),
        (({"train_through": "2024-06-01"}, LAST, [], DRIFT, NONE), "drift", True, "2024-06-01"),
        (({"train_through": "2024-06-01"}, LAST, [], None, BAD), "error", True, "2024-06-01"),
        (({"train_through": "2024-06-01"}, LAST, [], None, NONE), "unchanged", False, "2024-06-01"),
    ],
)
def test_the_first_rule_that_fits_decides(given, rule, retrain, through):
    decision = decide(*given)
    assert (decision["rule"], decision["retrain"]) == (rule, retrain)
    assert str(decision["train_through"].date()) == through and decision["reason"]
