"Next month's forecast, the check of its total, and the tables for planners."

import csv
import hashlib
import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from verdicts import FOREST, SEASONAL, make_card, make_decision, make_month, make_verdict

from brewcast.common.contracts import FORECAST, check_table
from brewcast.common.core import read_json, read_parquet, write_json, write_parquet
from brewcast.common.hashing import sha256
from brewcast.common.parameter_types import Calendar
from brewcast.common.records import ModelDescription, StateInputs
from brewcast.delivery import forecast as forecast_stage
from brewcast.delivery.forecast import (
    ForecastInputs,
    PageInputs,
    csv_bytes,
    decimals_of,
    forecast_facts,
    forecast_next_month,
    forecast_sentence,
    forecast_table,
    history_table,
    no_forecast_reasons,
    plot_forecast_total,
    prepare_models,
    prepare_recipe,
    read_forecast_inputs,
    read_page_inputs,
    records_with_month,
    without_forecast_table,
)
from brewcast.model.recipes import FEATURES, RATE_FEATURES, build_model, model_bytes

FACTORS = {"factors": {"S2": [0.9, 1.1], "S3": [0.9, 1.1]}, "young": [0.7, 1.4]}


@pytest.fixture
def online():
    table = pd.DataFrame({"series_id": ["S2", "S1", "S3"], **dict.fromkeys(FEATURES, 0.0)})
    return table.assign(rate_seasonal=[10.0, 20.0, 5.0], expected_units=31.0, has_own_season=[1, 0, 1], rate_mean3=10.0)


def test_every_open_store_has_a_forecast_in_an_interval(online):
    forecast = forecast_next_month(
        build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL
    )
    assert forecast.series_id.tolist() == ["S1", "S2", "S3"] and forecast.young.tolist() == [True, False, False]
    assert {str(month) for month in forecast.month} == {"2024-01-01"}
    assert forecast.forecast.tolist() == [620, 310, 155]
    np.testing.assert_allclose(forecast.upper / forecast.forecast, [1.4, 1.1, 1.1])
    assert (forecast.lower < forecast.forecast).all() and set(forecast.recipe) == {"seasonal"}


@pytest.mark.parametrize("recipe", [SEASONAL, FOREST])
def test_a_store_that_is_expected_to_be_closed_has_a_forecast_of_0(online, recipe):
    # given a store whose next month has no trading days
    rows = online.assign(**{name: online[name] + 1.0 for name in RATE_FEATURES}, actual=100.0)
    model = build_model(recipe).fit(rows[FEATURES], rows.actual)
    rows = rows.assign(expected_units=[31.0, 0.0, 31.0])
    forecast = forecast_next_month(model, rows, pd.Timestamp("2023-12-31"), FACTORS, recipe).set_index("series_id")
    assert (
        forecast.loc["S1", ["forecast", "lower", "upper"]].tolist() == [0, 0, 0] and (forecast.forecast[1:] > 0).all()
    )
    check_table(forecast.reset_index(), FORECAST)


@pytest.fixture
def backtested():
    "Training rows of three stores, and the backtest of a good candidate and a champion that errs twice as much."
    months = pd.date_range("2021-01-01", "2023-12-01", freq="MS")
    rows = pd.MultiIndex.from_product([["S1", "S2", "S3"], months], names=["series_id", "month"]).to_frame(index=False)
    rows = rows.assign(**dict.fromkeys(FEATURES, 1.0), cutoff=rows.month - pd.Timedelta(days=1))
    rows = rows.assign(actual=100.0, rate_mean3=3.0, rate_seasonal=3.0, expected_units=30.0)
    rows = rows.assign(has_own_season=1, months_of_history=36, seasonal_forecast=100.0, judged=True)
    backtest = [
        rows.assign(model=model, forecast=100 * factor, lower=90.0, upper=110.0)
        for model, factor in {"candidate": 1.1, "champion": 1.2}.items()
    ]
    return rows, pd.concat(backtest, ignore_index=True)


def test_a_prepared_recipe_is_its_model_its_intervals_its_forecast_and_what_they_were_made_from(
    tmp_path, online, backtested
):
    # given a card, the candidate's model file and the backtest
    rows, predictions = backtested
    online = online.assign(months_of_history=36)
    model_file = model_bytes(build_model(FOREST).fit(rows[FEATURES], rows.actual))
    digest = hashlib.sha256(model_file).hexdigest()
    inputs = {"card": make_card(FOREST, digest), "candidate": model_file, "champion": SEASONAL}
    inputs |= {"train_through": "2023-12-01", "rows": rows, "predictions": predictions, "online": online}
    # when the candidate and the champion are prepared
    made = {
        recipe.name: prepare_recipe(recipe, tmp_path / recipe.name, coverage=0.8, **inputs)
        for recipe in (FOREST, SEASONAL)
    }
    # then each folder has four files, and its recipe.json says which model was fitted from what
    for recipe in (FOREST, SEASONAL):
        folder = tmp_path / recipe.name
        assert {path.name for path in folder.iterdir()} == {
            "model.joblib",
            "intervals.json",
            "forecast.parquet",
            "recipe.json",
        }
        assert ModelDescription.read(folder / "recipe.json") == ModelDescription(
            recipe=recipe, train_through="2023-12-01", model_sha256=sha256(folder / "model.joblib")
        )
        assert read_json(folder / "recipe.json").keys() == {"recipe", "train_through", "model_sha256"}
        written = read_parquet(folder / "forecast.parquet")
        assert written.forecast.tolist() == made[recipe.name].forecast.tolist()
        assert set(written.recipe) == {recipe.name}
        assert {str(month) for month in made[recipe.name].month} == {"2023-12-01"}  # the month after the last cutoff
    # and the candidate is not fitted again, and the champion's intervals come from its own, larger errors
    assert (tmp_path / "forest/model.joblib").read_bytes() == model_file
    widths = {name: read_json(tmp_path / name / "intervals.json")["factors"]["S1"][1] for name in made}
    assert 1 < widths["forest"] < widths["seasonal"]


MAY = pd.Timestamp("2024-05-31")
CALENDAR = Calendar(unit="day", hemisphere="north", countries={}, decided_after_days=2)


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


def read_csv_rows(data):
    return {row["store_id"]: row for row in csv.DictReader(io.StringIO(data.decode("utf-8-sig")))}


def test_a_store_without_a_forecast_has_a_reason():
    # given an open store; stores that are closed by the plan, every June, for months and for three weeks;
    # a store that is too new, a store without trusted data, and a store with more returns than sales
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
    )  # the second one is published after the cutoff
    trade = [{"series_id": "HABIT", "does": "closed"}, {"series_id": "OPEN", "does": "may_be_closed"}]
    forecast = forecast_of(OPEN=612.3, HABIT=0.0)
    # when the reasons are computed
    reasons = no_forecast_reasons(
        forecast, past, plan.assign(promotion_share=0.1), trade, [*past.store_id.unique(), "NEW"], CALENDAR
    )
    # then each store has its reason, and the open store has none
    assert reasons == {
        "PLAN": "the plan has 0 trading days in June 2024",
        "HABIT": "closed in June of the last two years",
        "LONG": "counted as closed: last sale on 2023-11-30",
        "JUST": "counted as closed: last sale on 2024-05-10",
        "NEW": "too new: no complete month yet",
        "DOUBT": "no trusted data in the last three months",
        "BACK": "no sales above 0 in the last three months",
    }
    # and the planner's file has one line per store, with a number or the reason
    rows = read_csv_rows(csv_bytes(forecast_table(forecast, past, reasons)))
    assert sorted(rows) == sorted([*reasons, "OPEN"])
    assert {store: row["reason"] for store, row in rows.items()} == reasons | {"OPEN": ""}
    kinds = {store: (row["kind"], row["quantity"]) for store, row in rows.items()}
    assert kinds["OPEN"] == ("forecast", "612") and kinds["HABIT"] == ("forecast", "0")
    assert {kinds[store] for store in reasons if store != "HABIT"} == {("none", "")}


def test_pieces_are_whole_numbers_and_money_has_cents():
    # given forecasts with fractions, for a source that counts pieces
    forecast = forecast_of(S1=612.5, S2=101.4999, S3=0.3)
    past = pd.concat([months_of(store, 600.0) for store in ("S1", "S2", "S3")])
    # then quantities are rounded to the nearest whole number, and intervals outwards
    rows = read_csv_rows(csv_bytes(forecast_table(forecast, past)))
    assert [rows[store]["quantity"] for store in ("S1", "S2", "S3")] == ["612", "101", "0"]
    assert (rows["S2"]["lower"], rows["S2"]["upper"]) == ("91", "112") and rows["S3"]["reason"] == "rounds to 0"
    assert next(iter(read_csv_rows(csv_bytes(history_table(past))).values()))["quantity"] == "600"
    # and for a source of money or kilograms, quantities have as many decimals as the source's quantities
    for sold, quantity in [(600.25, "101.5"), (600.125, "101.5"), (600.5, "101.5")]:
        rows = read_csv_rows(csv_bytes(forecast_table(forecast, past.assign(quantity_sold=sold))))
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


def test_rounded_quantities_add_up_to_the_forecast():
    generator = np.random.default_rng(3)
    forecast = forecast_of(**{f"S{i}": value for i, value in enumerate(generator.uniform(0, 50, 2000))})
    table = forecast_table(forecast, months_of("S1", 600.0))
    assert (
        abs(table.quantity.sum() - forecast.forecast.sum()) < 40
    )  # three standard deviations of the sum of 2,000 rounding errors
    assert (
        table.quantity.astype(float) - forecast.set_index("store_id").forecast[table.store_id].to_numpy()
    ).abs().max() <= 0.5
    assert (table.lower <= table.quantity).all() and (table.quantity <= table.upper).all()


def test_past_sales_are_in_a_separate_file():
    past = pd.concat([months_of("S1", 600.0), months_of("S4", np.nan, last="2023-02-01", city="Ely")])
    table = history_table(past)
    assert list(table) == ["store_id", "country", "city", "month", "kind", "quantity"] and len(table) == 19
    assert table.city.iloc[-1] == "Ely" and table.quantity.isna().sum() == 2
    forecast = forecast_table(forecast_of(S1=600.0, S2=1.0), past)
    assert forecast.store_id.tolist() == ["S1", "S2"] and forecast.city.fillna("").tolist() == ["Reno", ""]


def test_a_stopped_month_has_no_number_to_order_by(online):
    # given a month whose data is stopped; when its table is written and a tool reads it
    forecast = forecast_next_month(
        build_model(SEASONAL).fit(online), online, pd.Timestamp("2023-12-31"), FACTORS, SEASONAL
    )
    past = pd.DataFrame({"store_id": ["S1"], "country": "USA", "city": "Reno", "quantity_sold": 600.0})
    past = past.assign(month=pd.Timestamp("2023-12-01"))
    table = forecast_table(forecast, past, {"S4": "too new"}, stopped="the data of December 2023 is not trusted")
    rows = list(read_csv_rows(csv_bytes(table)).values())
    # then no row is a forecast: each row says that the month is stopped, and has no number
    assert [(row["store_id"], row["kind"]) for row in rows] == [(name, "stopped") for name in ("S1", "S2", "S3", "S4")]
    assert {row[name] for row in rows for name in ("quantity", "lower", "upper")} == {""}
    assert {row["month"] for row in rows} == {"2024-01-01"}
    assert {row["reason"] for row in rows} == {"the data of December 2023 is not trusted"}
    # and the forecast itself is not changed, because the package is checked against it
    assert forecast.forecast.notna().all()


# -- what the stage reads and decides


def inputs_of(**fields) -> ForecastInputs:
    "What the stage reads; a test gives the fields that it is about."
    defaults = dict.fromkeys(ForecastInputs._fields) | {"verdict": make_verdict(), "decision": make_decision()}
    return ForecastInputs(**defaults | fields)


def test_the_challenger_is_prepared_where_the_verdict_has_one(tmp_path, online, backtested):
    # given a forest that serves, and the champion before it as its challenger
    rows, predictions = backtested
    model_file = model_bytes(build_model(FOREST).fit(rows[FEATURES], rows.actual))
    card = make_card(FOREST, hashlib.sha256(model_file).hexdigest())
    tables = {"rows": rows, "predictions": predictions, "online": online.assign(months_of_history=36)}
    inputs = inputs_of(card=card, candidate=model_file, verdict=make_verdict(challenger=SEASONAL), **tables)
    folder, challenger = tmp_path / "forecast", tmp_path / "challenger"
    # when both are prepared, then each has a folder, and the forecast is that of the recipe that serves
    forecast = prepare_models(inputs, folder, challenger, coverage=0.8)
    assert set(forecast.recipe) == {"forest"} and set(read_parquet(challenger / "forecast.parquet").recipe) == {
        "seasonal"
    }
    assert ModelDescription.read(challenger / "recipe.json").recipe == SEASONAL
    assert (folder / "model.joblib").read_bytes() == model_file
    # when the next verdict has none, then nothing of the last challenger is left, and its folder says so
    prepare_models(inputs._replace(verdict=make_verdict(challenger=None)), folder, challenger, coverage=0.8)
    assert [path.name for path in challenger.iterdir()] == ["recipe.json"]
    assert ModelDescription.read(challenger / "recipe.json").recipe is None


def test_the_month_joins_the_track_record_once_there_is_something_to_look_back_at(backtested):
    rows, _ = backtested
    past = months_of("S1", 100.0, first="2021-01-01", last="2023-12-01")
    inputs = inputs_of(rows=rows, store_month=past)
    # given an archived forecast of the month, and records of the month before and of a later month
    archived = forecast_of(S1=110.0).assign(series_id="S1", month=pd.Timestamp("2023-12-01"))
    before = [make_month("2023-11"), make_month("2024-01")]
    page = PageInputs([archived], before, dataset={}, cleaned={}, quarantine=None)
    # when the month's record is added
    records = records_with_month(page, inputs, "shop")
    # then it is the last one, with its error and the reports that it links to
    assert [record.month for record in records] == ["2023-11", "2023-12"]
    assert records[-1].errors["served"] == pytest.approx(0.1)
    assert records[-1].reports["drift"] == "products/shop/monitor/drift.html"
    # and with only one of the two there is a record, too, but none in the first build of a source
    assert len(records_with_month(page._replace(records=[]), inputs, "shop")) == 1
    assert len(records_with_month(page._replace(archived_forecasts=[]), inputs, "shop")) == 2
    assert records_with_month(page._replace(records=[], archived_forecasts=[]), inputs, "shop") == []


def test_the_inputs_are_read_from_the_stages(tmp_path, monkeypatch):
    # given the products of the stages before
    def named(name):
        table = pd.DataFrame({"store_id": ["S1"], "cutoff": [MAY], "name": name})
        return write_parquet(table, tmp_path / f"{name}.parquet")

    (tmp_path / "model.joblib").write_bytes(b"fitted")
    upstream_paths = SimpleNamespace(
        ingest=SimpleNamespace(plan=named("plan"), lineage=named("lineage")),
        clean=SimpleNamespace(store_month=named("store_month")),
        features=SimpleNamespace(history=named("history"), features=write_json({"trade": []}, tmp_path / "f.json")),
        monitor=SimpleNamespace(decision=write_json(make_decision(), tmp_path / "decision.json")),
        train=SimpleNamespace(
            rows=named("rows"),
            card=write_json(make_card(FOREST, "0" * 64), tmp_path / "card.json"),
            model=tmp_path / "model.joblib",
        ),
        evaluate=SimpleNamespace(
            predictions=named("predictions"), verdict=write_json(make_verdict(), tmp_path / "verdict.json")
        ),
    )
    monkeypatch.setattr(forecast_stage, "open_series", lambda history, cutoff: (history.name[0], cutoff))
    monkeypatch.setattr(forecast_stage, "online_rows", lambda *asked: asked)
    # when they are read, then each is in its place
    inputs = read_forecast_inputs(upstream_paths, "shop")
    tables = {name: getattr(inputs, name).name[0] for name in ("rows", "predictions", "store_month", "plan")}
    assert tables == {name: name for name in tables}
    assert (inputs.candidate, list(inputs.stores), inputs.features) == (b"fitted", ["S1"], {"trade": []})
    # and the online rows are those of the stores that are open at the last cutoff
    assert inputs.online == (tmp_path, "shop", ("history", MAY))


def test_the_page_reads_what_earlier_builds_left(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast_stage, "find_root", lambda: tmp_path)
    write_parquet(forecast_of(S1=1.0), tmp_path / "archived.parquet")
    write_json(make_month("2024-04"), tmp_path / "2024-04.json")
    state = StateInputs(champion=None, archived_forecasts=["archived.parquet"], months=["2024-04.json"])
    write_json(state, tmp_path / "inputs.json")
    write_json({"of": "dataset"}, tmp_path / "dataset.json")
    write_json({"of": "clean"}, tmp_path / "clean.json")
    write_parquet(pd.DataFrame({"table": ["till"]}), tmp_path / "quarantine.parquet")
    upstream_paths = SimpleNamespace(
        ingest=SimpleNamespace(dataset=tmp_path / "dataset.json", quarantine=tmp_path / "quarantine.parquet"),
        clean=SimpleNamespace(clean=tmp_path / "clean.json"),
    )
    page = read_page_inputs(upstream_paths, "inputs.json")
    assert [table.store_id[0] for table in page.archived_forecasts] == ["S1"]
    assert [record.month for record in page.records] == ["2024-04"]
    assert (page.dataset, page.cleaned, page.quarantine.table[0]) == ({"of": "dataset"}, {"of": "clean"}, "till")


# -- what the report shows


def test_the_answer_of_a_stopped_month_has_no_quantity():
    sold, forecast = months_of("S1", 100.0), forecast_of(S1=120.0)
    table = forecast_table(forecast, sold, stopped="the data of May 2024 is not trusted")
    answer = forecast_sentence(table, sold, "pieces", CALENDAR)
    assert answer == "There is no new forecast for June 2024, because the data of May 2024 is not trusted."
    facts = forecast_facts(table, forecast.assign(young=False), sold, "pieces").values
    assert (facts["Forecast for June 2024"], facts["Stores with a forecast"]) == ("–", "0")
    assert plot_forecast_total(table, sold, "pieces").get_suptitle() == "No forecast for June 2024"
    assert without_forecast_table(table).rows == [["S1", "USA", "Reno", "the data of May 2024 is not trusted"]]


def test_the_answer_of_stores_that_are_all_closed_and_of_one_without_a_country():
    sold = pd.concat([months_of("S1", 100.0, city=None), months_of("S2", 50.0, city=None)])
    closed = forecast_table(forecast_of(S1=0.0, S2=0.0), sold, {"S1": "the plan has 0 trading days in June 2024"})
    assert forecast_sentence(closed, sold, "", CALENDAR) == "2 stores are expected to sell nothing in June 2024."
    assert without_forecast_table(closed).rows[0] == ["S1", "USA", "the plan has 0 trading days in June 2024"]
    one = forecast_table(forecast_of(S1=110.0), sold, {"S2": "counted as closed"})
    assert forecast_sentence(one, sold, "", CALENDAR) == (
        "1 store is expected to sell 110 in June 2024 (−26.7% on a year before); 1 store has no forecast."
    )
