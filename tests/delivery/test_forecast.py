"Next month's forecast, and what stops one that is out of proportion."

import csv
import hashlib
import io

import numpy as np
import pandas as pd
import pytest

from brewcast.common.contracts import FORECAST, check
from brewcast.delivery.forecast import bi_table, check_change, fitted, next_month
from brewcast.model.recipes import FEATURES, RATES, build_model, model_bytes

SEASONAL = {"name": "seasonal", "params": {}}
FOREST = {"name": "forest", "params": {"n_estimators": 5}}
FACTORS = {"factors": {"S2": [0.9, 1.1], "S3": [0.9, 1.1]}, "young": [0.7, 1.4]}


@pytest.fixture
def online():
    table = pd.DataFrame({"series_id": ["S2", "S1", "S3"], **dict.fromkeys(FEATURES, 0.0)})
    return table.assign(rate_seasonal=[10.0, 20.0, 5.0], expected_units=31.0, has_own_season=[1, 0, 1], rate_mean3=10.0)


def test_every_open_store_has_a_forecast_in_an_interval(online):
    told = next_month(build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    assert told.series_id.tolist() == ["S1", "S2", "S3"] and told.young.tolist() == [True, False, False]
    assert {str(month) for month in told.month} == {"2024-01-01"}
    assert told.forecast.tolist() == [620, 310, 155]
    np.testing.assert_allclose(told.upper / told.forecast, [1.4, 1.1, 1.1])
    assert (told.lower < told.forecast).all() and set(told.recipe) == {"seasonal"}


@pytest.mark.parametrize("recipe", [SEASONAL, FOREST])
def test_a_store_that_is_expected_to_be_closed_is_forecast_at_nothing(online, recipe):
    # given a store whose next month has no trading days, by its habit or by the plan
    rows = online.assign(**{name: online[name] + 1.0 for name in RATES}, actual=100.0)
    model = build_model(recipe).fit(rows[FEATURES], rows.actual)
    rows = rows.assign(expected_units=[31.0, 0.0, 31.0])
    told = next_month(model, rows, pd.Timestamp("2023-12-31"), FACTORS, recipe).set_index("series_id")
    assert told.loc["S1", ["forecast", "lower", "upper"]].tolist() == [0, 0, 0] and (told.forecast[1:] > 0).all()
    check(told.reset_index(), FORECAST)


def test_a_month_in_which_every_store_is_closed_is_in_proportion(online):
    closed = online.assign(expected_units=0.0)
    told = next_month(build_model(SEASONAL).fit(online), closed, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    assert check_change(told, closed) == 1.0
    with pytest.raises(ValueError, match="raise max_change"):
        check_change(told.assign(forecast=-1.0), closed)


def test_the_order_of_the_rows_does_not_matter(online):
    model = build_model(SEASONAL).fit(online)
    there, back = (
        next_month(model, table, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL) for table in (online, online[::-1])
    )
    pd.testing.assert_frame_equal(there, back)


def test_what_serves_is_the_recipe_of_the_verdict():
    rows = pd.DataFrame({"month": pd.date_range("2022-01-01", periods=6, freq="MS"), **dict.fromkeys(FEATURES, 1.0)})
    rows = rows.assign(actual=100.0, rate_mean3=3.0, expected_units=30.0)
    card = {"recipe": FOREST, "model_sha256": hashlib.sha256(b"as fitted").hexdigest()}
    assert fitted(FOREST, card, b"as fitted", rows, "2022-06-01") == b"as fitted"
    refused = fitted(SEASONAL, card, b"as fitted", rows, "2022-06-01")
    assert refused == model_bytes(build_model(SEASONAL).fit(rows[FEATURES], rows.actual))
    # a file that is not what training wrote is fitted anew, and never unpickled
    anew = fitted(FOREST, card, b"altered", rows, "2022-06-01")
    assert anew == model_bytes(build_model(FOREST).fit(rows[FEATURES], rows.actual))


@pytest.mark.parametrize("factor", [0.2, 4.0, -1.0, np.nan])
def test_a_forecast_out_of_proportion_is_stopped(online, factor):
    told = next_month(build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    assert check_change(told, online) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="raise max_change in env.yaml"):
        check_change(told.assign(forecast=told.forecast * factor), online)


def test_the_bi_table_has_history_and_forecast_in_one(online):
    told = next_month(build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    past = pd.DataFrame(
        {"store_id": ["S1", "S4"], "country": "USA", "city": ["Reno", "Ely"], "quantity_sold": [600.0, 1.0]}
    )
    table = bi_table(told, past.assign(month=pd.Timestamp("2023-12-01")))
    assert table.store_id.tolist() == ["S1", "S1", "S2", "S3", "S4"] and table.kind.tolist()[:2] == [
        "actual",
        "forecast",
    ]
    assert table.city[:2].tolist() == ["Reno", "Reno"]


def test_a_stopped_month_has_no_number_to_order_by(online):
    # given a month whose data was stopped / when its table is written and read by a tool
    told = next_month(build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    past = pd.DataFrame({"store_id": ["S1"], "country": "USA", "city": "Reno", "quantity_sold": 600.0})
    past = past.assign(month=pd.Timestamp("2023-12-01"))
    text = bi_table(told, past, stopped=True).to_csv(index=False)
    rows = list(csv.DictReader(io.StringIO(text)))
    # then no row is a forecast; each store's says that it was stopped, and is empty where a number would stand
    assert [(row["store_id"], row["kind"]) for row in rows] == [
        ("S1", "actual"),
        ("S1", "stopped"),
        ("S2", "stopped"),
        ("S3", "stopped"),
    ]
    assert {row[name] for row in rows[1:] for name in ("quantity", "lower", "upper")} == {""}
    assert {row["month"] for row in rows[1:]} == {"2024-01-01"}
    # and the forecast itself is not changed: what is packaged is checked against it
    assert told.forecast.notna().all()
