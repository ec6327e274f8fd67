"Next month's forecast, and what stops one that is out of proportion."

import csv
import hashlib
import io

import numpy as np
import pandas as pd
import pytest

from brewcast.common.contracts import FORECAST, check_table
from brewcast.delivery.forecast import (
    check_change,
    csv_bytes,
    decimals_of,
    fitted_model_bytes,
    forecast_next_month,
    forecast_table,
    history_table,
    no_forecast_reasons,
)
from brewcast.model.recipes import FEATURES, RATE_FEATURES, build_model, model_bytes

SEASONAL = {"name": "seasonal", "params": {}}
FOREST = {"name": "forest", "params": {"n_estimators": 5}}
FACTORS = {"factors": {"S2": [0.9, 1.1], "S3": [0.9, 1.1]}, "young": [0.7, 1.4]}


@pytest.fixture
def online():
    table = pd.DataFrame({"series_id": ["S2", "S1", "S3"], **dict.fromkeys(FEATURES, 0.0)})
    return table.assign(rate_seasonal=[10.0, 20.0, 5.0], expected_units=31.0, has_own_season=[1, 0, 1], rate_mean3=10.0)


def test_every_open_store_has_a_forecast_in_an_interval(online):
    told = forecast_next_month(build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    assert told.series_id.tolist() == ["S1", "S2", "S3"] and told.young.tolist() == [True, False, False]
    assert {str(month) for month in told.month} == {"2024-01-01"}
    assert told.forecast.tolist() == [620, 310, 155]
    np.testing.assert_allclose(told.upper / told.forecast, [1.4, 1.1, 1.1])
    assert (told.lower < told.forecast).all() and set(told.recipe) == {"seasonal"}


@pytest.mark.parametrize("recipe", [SEASONAL, FOREST])
def test_a_store_that_is_expected_to_be_closed_is_forecast_at_nothing(online, recipe):
    # given a store whose next month has no trading days, by its habit or by the plan
    rows = online.assign(**{name: online[name] + 1.0 for name in RATE_FEATURES}, actual=100.0)
    model = build_model(recipe).fit(rows[FEATURES], rows.actual)
    rows = rows.assign(expected_units=[31.0, 0.0, 31.0])
    told = forecast_next_month(model, rows, pd.Timestamp("2023-12-31"), FACTORS, recipe).set_index("series_id")
    assert told.loc["S1", ["forecast", "lower", "upper"]].tolist() == [0, 0, 0] and (told.forecast[1:] > 0).all()
    check_table(told.reset_index(), FORECAST)


def test_a_month_in_which_every_store_is_closed_is_in_proportion(online):
    closed = online.assign(expected_units=0.0)
    told = forecast_next_month(build_model(SEASONAL).fit(online), closed, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    assert check_change(told, closed) == 1.0
    with pytest.raises(ValueError, match="raise max_change"):
        check_change(told.assign(forecast=-1.0), closed)


def test_the_order_of_the_rows_does_not_matter(online):
    model = build_model(SEASONAL).fit(online)
    there, back = (
        forecast_next_month(model, table, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
        for table in (online, online[::-1])
    )
    pd.testing.assert_frame_equal(there, back)


def test_what_serves_is_the_recipe_of_the_verdict():
    rows = pd.DataFrame({"month": pd.date_range("2022-01-01", periods=6, freq="MS"), **dict.fromkeys(FEATURES, 1.0)})
    rows = rows.assign(actual=100.0, rate_mean3=3.0, expected_units=30.0)
    card = {"recipe": FOREST, "model_sha256": hashlib.sha256(b"as fitted").hexdigest()}
    assert fitted_model_bytes(FOREST, card, b"as fitted", rows, "2022-06-01") == b"as fitted"
    refused = fitted_model_bytes(SEASONAL, card, b"as fitted", rows, "2022-06-01")
    assert refused == model_bytes(build_model(SEASONAL).fit(rows[FEATURES], rows.actual))
    # a file that is not what training wrote is fitted anew, and never unpickled
    anew = fitted_model_bytes(FOREST, card, b"altered", rows, "2022-06-01")
    assert anew == model_bytes(build_model(FOREST).fit(rows[FEATURES], rows.actual))


@pytest.mark.parametrize("factor", [0.2, 4.0, -1.0, np.nan])
def test_a_forecast_out_of_proportion_is_stopped(online, factor):
    told = forecast_next_month(build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    assert check_change(told, online) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="raise max_change in env.yaml"):
        check_change(told.assign(forecast=told.forecast * factor), online)


MAY = pd.Timestamp("2024-05-31")
CALENDAR = {"unit": "day", "open_within_days": None}


def months_of(store, quantity, first="2023-01-01", last="2024-05-01", city="Reno"):
    months = pd.date_range(first, last, freq="MS")
    rows = pd.DataFrame({"store_id": store, "month": months, "quantity_sold": quantity, "country": "USA", "city": city})
    return rows.assign(last_date=months + pd.offsets.MonthEnd(0))


def forecast_of(**quantities):
    rows = pd.DataFrame({"store_id": list(quantities), "forecast": list(quantities.values())})
    lower, upper = rows.forecast * 0.9 + 0.01, rows.forecast * 1.1
    return rows.assign(
        lower=lower.where(rows.forecast > 0, 0), upper=upper, month=MAY + pd.Timedelta(days=1), cutoff=MAY
    )


def as_read(data):
    return {row["store_id"]: row for row in csv.DictReader(io.StringIO(data.decode("utf-8-sig")))}


def test_a_store_without_a_forecast_says_why():
    # given a store that sells, and one each that is closed by the plan, by habit, for long, and since three weeks,
    # one that is too new, one whose data nobody trusts, and one to which more came back than it sold
    past = pd.concat(
        [
            *(months_of(store, 600.0) for store in ("OPEN", "PLAN", "HABIT")),
            months_of("LONG", 600.0, last="2023-11-01"),
            months_of("JUST", 600.0).assign(last_date=pd.Timestamp("2024-05-10")),
            months_of("DOUBT", np.nan),
            months_of("BACK", -5.0),
        ]
    )
    plan = pd.DataFrame({"store_id": ["PLAN", "OPEN"], "month": MAY + pd.Timedelta(days=1), "trading_days": [0, 0]})
    plan = plan.assign(
        published=[MAY - pd.Timedelta(days=9), MAY + pd.Timedelta(days=1)]
    )  # the second is not known yet
    trade = [{"series_id": "HABIT", "does": "closed"}, {"series_id": "OPEN", "does": "may_be_closed"}]
    told = forecast_of(OPEN=612.3, HABIT=0.0)
    # when it is asked for each of them
    why = no_forecast_reasons(
        told, past, plan.assign(promotion_share=0.1), trade, [*past.store_id.unique(), "NEW"], CALENDAR
    )
    # then each has its reason, and who sells has none
    assert why == {
        "PLAN": "the plan has 0 trading days in June 2024",
        "HABIT": "closed in June of both last years",
        "LONG": "taken as closed: last sold on 2023-11-30",
        "JUST": "taken as closed: last sold on 2024-05-10",
        "NEW": "too new: no complete month yet",
        "DOUBT": "no data that is trusted in the last three months",
        "BACK": "no sales above 0 in the last three months",
    }
    # and the planner's file has one line a store, with a number or the reason
    rows = as_read(csv_bytes(forecast_table(told, past, why)))
    assert sorted(rows) == sorted([*why, "OPEN"])
    assert {store: row["reason"] for store, row in rows.items()} == why | {"OPEN": ""}
    kinds = {store: (row["kind"], row["quantity"]) for store, row in rows.items()}
    assert kinds["OPEN"] == ("forecast", "612") and kinds["HABIT"] == ("forecast", "0")
    assert {kinds[store] for store in why if store != "HABIT"} == {("none", "")}


def test_pieces_are_whole_and_money_has_its_cents():
    # given forecasts as a model makes them, of a source that counts pieces
    told = forecast_of(S1=612.5, S2=101.4999, S3=0.3)
    past = pd.concat([months_of(store, 600.0) for store in ("S1", "S2", "S3")])
    # then the nearest whole is ordered, within an interval that was rounded outwards
    rows = as_read(csv_bytes(forecast_table(told, past)))
    assert [rows[store]["quantity"] for store in ("S1", "S2", "S3")] == ["612", "101", "0"]
    assert (rows["S2"]["lower"], rows["S2"]["upper"]) == ("91", "112") and rows["S3"]["reason"] == "rounds to 0"
    assert next(iter(as_read(csv_bytes(history_table(past))).values()))["quantity"] == "600"
    # and of a source of money, or of kilograms, it has as many decimals as the source's own
    for sold, quantity in [(600.25, "101.5"), (600.125, "101.5"), (600.5, "101.5")]:
        rows = as_read(csv_bytes(forecast_table(told, past.assign(quantity_sold=sold))))
        assert rows["S2"]["quantity"] == quantity
    assert [
        decimals_of(pd.Series([1.0, sold, np.nan])) for sold in (2.0, 2.5, 0.1 + 0.2, 600.25, 1e9 + 0.01, 1 / 3)
    ] == [
        0,
        1,
        1,
        2,
        2,
        3,
    ]


def test_what_is_rounded_adds_up_to_the_forecast():
    generator = np.random.default_rng(3)
    told = forecast_of(**{f"S{i}": value for i, value in enumerate(generator.uniform(0, 50, 2000))})
    table = forecast_table(told, months_of("S1", 600.0))
    assert abs(table.quantity.sum() - told.forecast.sum()) < 40  # three times what luck makes of 2,000 roundings
    assert (
        table.quantity.astype(float) - told.set_index("store_id").forecast[table.store_id].to_numpy()
    ).abs().max() <= 0.5
    assert (table.lower <= table.quantity).all() and (table.quantity <= table.upper).all()


def test_the_past_is_in_a_file_of_its_own():
    past = pd.concat([months_of("S1", 600.0), months_of("S4", np.nan, last="2023-02-01", city="Ely")])
    table = history_table(past)
    assert list(table) == ["store_id", "country", "city", "month", "kind", "quantity"] and len(table) == 19
    assert table.city.iloc[-1] == "Ely" and table.quantity.isna().sum() == 2
    told = forecast_table(forecast_of(S1=600.0, S2=1.0), past)
    assert told.store_id.tolist() == ["S1", "S2"] and told.city.fillna("").tolist() == ["Reno", ""]


def test_a_spreadsheet_reads_accents_and_computes_nothing():
    past = pd.concat([months_of("=1+1", 6.0, city="@SUM(A1)"), months_of("Café", 6.0, city="-5")])
    data = csv_bytes(history_table(past))
    assert data.startswith(b"\xef\xbb\xbfstore_id,")
    rows = as_read(data)
    assert {(store, row["city"]) for store, row in rows.items()} == {("'=1+1", "'@SUM(A1)"), ("Café", "-5")}


def test_a_stopped_month_has_no_number_to_order_by(online):
    # given a month whose data was stopped / when its table is written and read by a tool
    told = forecast_next_month(build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL)
    past = pd.DataFrame({"store_id": ["S1"], "country": "USA", "city": "Reno", "quantity_sold": 600.0})
    past = past.assign(month=pd.Timestamp("2023-12-01"))
    table = forecast_table(told, past, {"S4": "too new"}, stopped="the data of December 2023 is not trusted")
    rows = list(as_read(csv_bytes(table)).values())
    # then no row is a forecast; each store's says that it was stopped, and is empty where a number would stand
    assert [(row["store_id"], row["kind"]) for row in rows] == [(name, "stopped") for name in ("S1", "S2", "S3", "S4")]
    assert {row[name] for row in rows for name in ("quantity", "lower", "upper")} == {""}
    assert {row["month"] for row in rows} == {"2024-01-01"}
    assert {row["reason"] for row in rows} == {"the data of December 2023 is not trusted"}
    # and the forecast itself is not changed: what is packaged is checked against it
    assert told.forecast.notna().all()
