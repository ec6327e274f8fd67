"Clean: the same values as plain pandas, the same bytes on every run, and nothing from the future."

import datetime
from collections import Counter
from decimal import Decimal
from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from tables import months_at, plan_of

from brewcast.common.contracts import DECIMAL, connect, sales_schema
from brewcast.common.core import LEVELS, SALE_LINE_COLUMNS, write_parquet
from brewcast.common.parameter_types import Calendar
from brewcast.common.params import read_env
from brewcast.common.records import Finding
from brewcast.data.clean import (
    aggregate_by_month,
    blank_untrusted,
    clean,
    cleaning_facts,
    cleaning_sentence,
    describe_gaps,
    excluded_months,
    fill_missing,
    findings_table,
    incomplete_months,
    months_without_lines,
    recent_months_table,
    store_day,
)
from brewcast.data.ingest import ingest
from brewcast.data.simulate import write_export
from brewcast.data.source_files import source_tables

ORDER = {"weather": LEVELS["weather"], "promotion": [True, False], "holiday": [True, False]}
DAILY = Calendar(unit="day", hemisphere="north", countries={}, complete_within_days=0, decided_after_days=2)


def random_sales(seed: int, lines: int = 800, stores: int = 4) -> pd.DataFrame:
    "Sale lines with gaps, ties, negative quantities, six decimals, and a first month without any weather."
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2023-10-01", "2024-03-31").date
    frame = pd.DataFrame({"store_id": rng.choice([f"S{n}" for n in range(stores)], lines)})
    frame["date"] = np.concatenate([[dates[0], dates[-1]], rng.choice(dates, lines - 2)])
    frame[["country", "city", "category", "product"]] = ["USA", "Boston", "Coffee", "Espresso"]
    frame["price"] = [Decimal(int(n)).scaleb(-6) for n in rng.integers(1, 9_000_000, lines)]
    frame["quantity_sold"] = [Decimal(int(n)).scaleb(-2) for n in rng.integers(-200, 5_000, lines)]
    weather = rng.choice(["Hot", "Cold", "Rainy", None], lines, p=[0.3, 0.3, 0.3, 0.1])
    frame["weather"] = np.where(frame.date < datetime.date(2023, 11, 1), None, weather)
    frame["promotion"] = rng.choice([True, False, None], lines, p=[0.4, 0.4, 0.2])
    frame["holiday"] = rng.choice([True, False], lines)
    return frame[SALE_LINE_COLUMNS]


def arrow(frame: pd.DataFrame) -> pa.Table:
    types = {name: spec.dtype.type.to_pyarrow() for name, spec in sales_schema().columns.items()}
    return pa.Table.from_pandas(frame, schema=pa.schema(list(types.items())), preserve_index=False)


def most_frequent(values: list, order: list):
    counts = Counter(value for value in values if value is not None)
    return max(order, key=lambda level: (counts[level], -order.index(level))) if counts else None


def plain_pandas(sales: pd.DataFrame, lacks: list[str]) -> list[dict]:
    "The expected store-months, computed in a slow and obvious way."
    sales = sales.astype(object).where(sales.notna(), None)
    month_of = [date.replace(day=1) for date in sales.date]
    sales = sales.assign(month=month_of)
    raw = sales.copy()
    for column in {"weather", "promotion"} - set(lacks):
        for month in sorted(set(month_of)):
            fill = most_frequent(raw[column][raw.month <= month].tolist(), ORDER[column])
            is_missing = (sales.month == month) & sales[column].isna()
            values = [fill if gap else value for gap, value in zip(is_missing, sales[column], strict=True)]
            sales[column] = pd.Series(values, dtype=object)
    rows = []
    for (store, month), lines in sales.groupby(["store_id", "month"]):
        days = [day for _, day in lines.groupby("date")]
        promoted = [most_frequent(day.promotion.tolist(), ORDER["promotion"]) for day in days]
        promoted = [value for value in promoted if value is not None]
        prices = [price for price in lines.price if price is not None]
        season = {12: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2}.get(month.month, 3)
        row = {
            "series_id": store,
            "store_id": store,
            "month": month,
            "country": days[-1].country.iloc[0],
            "city": days[-1].city.iloc[0],
            "quantity_sold": float(sum(lines.quantity_sold)),
            "price": float(sum(prices)) / len(prices) if prices else None,
        }
        row |= {column: most_frequent(days[-1][column].tolist(), order) for column, order in ORDER.items()}
        row |= {
            "is_weekend": sum(day.date.iloc[0].weekday() >= 5 for day in days) / len(days),
            "season": LEVELS["season"][season],
            "trading_days": len(days),
            "promotion_share": sum(promoted) / len(promoted) if promoted else None,
            "lines": len(lines),
            "first_date": lines.date.min(),
            "last_date": lines.date.max(),
        }
        rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_equal_value_for_value_to_plain_pandas_on_random_lines(seed):
    sales = random_sales(seed)
    table, _ = clean(ibis.memtable(arrow(sales)), [], DAILY)
    assert table.to_pylist() == plain_pandas(sales, [])


def test_what_a_source_lacks_stays_empty():
    sales = random_sales(7).assign(weather=None, price=None, country=None)
    table, report = clean(ibis.memtable(arrow(sales)), ["weather", "price", "country"], DAILY)
    assert table.to_pylist() == plain_pandas(sales, ["weather", "price", "country"])
    assert table["weather"].null_count == table["price"].null_count == len(table)
    assert report["lines_filled_in"] == {"promotion": int(sales.promotion.isna().sum())}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    "A small simulated export, read by ingest."
    folder = tmp_path_factory.mktemp("simulated")
    write_export(folder, months=16, stores=8, lines=12_000)
    env = read_env(ROOT)
    names = "source sql plan_sql files lacks key categories returns max_bad_share".split()
    outputs = SimpleNamespace(
        **{name: folder / f"{name}.parquet" for name in ("sales", "lineage", "largest", "plan", "quarantine")}
    )
    outputs.dataset = folder / "dataset.json"
    env["files"] = source_tables(env["files"])
    ingest(data=folder, **{name: env[name] for name in names}, product_paths=outputs)
    return SimpleNamespace(sales=outputs.sales, env=env)


def test_equal_value_for_value_to_plain_pandas_on_the_simulated_export(simulated):
    sales = pq.read_table(simulated.sales).to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    table, report = clean(
        connect().read_parquet(simulated.sales), [], Calendar.model_validate(simulated.env["calendar"])
    )
    assert table.to_pylist() == plain_pandas(sales, [])
    assert report["incomplete_months"] == {} and report["store_months"] == len(table) > 100


def test_threads_and_the_order_of_lines_make_no_difference(simulated, tmp_path, monkeypatch):
    # given the same lines in three orders and row groups
    sales = pq.read_table(simulated.sales)
    written = set()
    for seed, threads in [(0, "1"), (1, "2"), (2, "4")]:
        shuffled = sales.take(np.random.default_rng(seed).permutation(len(sales)))
        pq.write_table(shuffled, tmp_path / "sales.parquet", row_group_size=700 * (seed + 1))
        # when they are cleaned with one, two and four threads
        monkeypatch.setenv("BREWCAST_THREADS", threads)
        table, _ = clean(connect().read_parquet(tmp_path / "sales.parquet"), [], DAILY)
        written.add(write_parquet(table, tmp_path / "store_month.parquet").read_bytes())
    # then the bytes are the same
    assert len(written) == 1


def test_lines_after_a_month_change_nothing_up_to_it():
    # given sales, and the same with all lines after January changed: their weather is the one that was rare before
    sales, end = random_sales(3), datetime.date(2024, 1, 31)
    later = sales.date > end
    rare = Counter(sales.weather[~later].dropna()).most_common()[-1][0]
    changed = sales.assign(weather=sales.weather.mask(later, rare), promotion=sales.promotion.mask(later, True))
    changed["quantity_sold"] = changed.quantity_sold.mask(later, Decimal(1))
    # when both are cleaned, and the sales without the later lines
    months = [clean(ibis.memtable(arrow(s)), [], DAILY)[0].to_pylist() for s in (sales, changed, sales[~later])]
    to_january = [[row for row in rows if row["month"] <= end] for rows in months]
    # then the months up to January are the same
    assert to_january[0] == to_january[1] == to_january[2] == months[2]
    assert months[0] != months[1]
    # and the test is sensitive: with values from the whole history they would differ
    whole = changed.assign(weather=changed.weather.fillna(most_frequent(changed.weather.dropna().tolist(), [rare])))
    leaked = clean(ibis.memtable(arrow(whole)), [], DAILY)[0].to_pylist()
    assert [row for row in leaked if row["month"] <= end] != to_january[0]


@pytest.mark.parametrize("engine", ["duckdb", "bigquery", "snowflake", "databricks", "postgres", "trino"])
def test_the_same_expressions_compile_for_other_engines(engine):  # databricks: Spark's SQL
    columns = {name: spec.dtype.type for name, spec in sales_schema().columns.items()}
    assert columns["price"] == DECIMAL
    sales = ibis.table(columns, name="sales")
    query = ibis.to_sql(aggregate_by_month(fill_missing(store_day(sales), ["weather", "promotion"])), dialect=engine)
    assert "SELECT" in str(query)


WEEKS = DAILY.model_copy(update={"unit": "week", "weekday": "WED"})
MONTHS = DAILY.model_copy(update={"unit": "month", "complete_within_days": 1})


@pytest.mark.parametrize(
    "calendar, first, last, incomplete",
    [
        (DAILY, "2024-01-01", "2024-02-29", []),
        (DAILY, "2024-01-02", "2024-02-28", ["2024-01", "2024-02"]),
        (DAILY.model_copy(update={"complete_within_days": 1}), "2024-01-02", "2024-02-28", []),
        (WEEKS, "1990-06-20", "1992-10-07", ["1990-06", "1992-10"]),
        (WEEKS, "1990-06-06", "1992-10-28", []),
        (MONTHS, "1997-01-01", "1998-12-30", []),
        (MONTHS, "1997-01-01", "1998-12-29", ["1998-12"]),
        (MONTHS.model_copy(update={"complete_within_days": 0}), "1997-01-01", "1998-12-30", ["1998-12"]),
        # nothing declared, so by the unit: a monthly line may have the first or the last date of its month
        (MONTHS.model_copy(update={"complete_within_days": None}), "2023-01-01", "2024-02-01", []),
        (MONTHS.model_copy(update={"complete_within_days": None}), "2023-01-31", "2024-02-29", []),
        (DAILY.model_copy(update={"complete_within_days": None}), "2024-01-02", "2024-02-28", ["2024-01", "2024-02"]),
        (WEEKS.model_copy(update={"complete_within_days": None}), "1990-06-06", "1992-10-28", []),
        (WEEKS.model_copy(update={"complete_within_days": None}), "1990-06-13", "1992-10-21", ["1990-06", "1992-10"]),
    ],
)
def test_which_months_are_complete(calendar, first, last, incomplete):
    assert list(incomplete_months(pd.Timestamp(first), pd.Timestamp(last), calendar)) == incomplete


def trade(stores: int = 6, last: str = "2025-06-12", first: str = "2023-01-01", freq: str = "D") -> pd.DataFrame:
    "Every store has lines on every date."
    dates = pd.date_range(first, last, freq=freq)
    index = pd.MultiIndex.from_product([[f"S{n}" for n in range(1, stores + 1)], dates], names=["store_id", "date"])
    return index.to_frame(index=False).assign(lines=5)


def with_dates(days: pd.DataFrame, *dates: str, stores: str = "S1") -> pd.DataFrame:
    "The same with one more line of some stores on other dates."
    more = [(store, pd.Timestamp(date), 1) for store in stores.split() for date in dates]
    return pd.concat([days, pd.DataFrame(more, columns=days.columns)], ignore_index=True)


WEDNESDAYS = trade(last="2025-06-18", first="2023-01-04", freq="W-WED")
ONE_A_MONTH = trade(last="2025-06-01", freq="MS")
ALL = "S1 S2 S3 S4 S5 S6"
INCOMPLETE = {  # the dates of the stores, the calendar, and the incomplete months
    "a line months ahead": (with_dates(trade(), "2025-08-15"), DAILY, ["2025-06", "2025-08"]),
    "a line at the end of a month ahead": (with_dates(trade(), "2025-08-31"), DAILY, ["2025-06", "2025-08"]),
    "a line eleven months ahead": (with_dates(trade(), "2026-05-31"), DAILY, ["2025-06", "2026-05"]),
    "a line at the end of the last month": (with_dates(trade(last="2025-06-20"), "2025-06-30"), DAILY, ["2025-06"]),
    "a line ahead of a single store": (with_dates(trade(1, "2025-06-20"), "2025-06-30"), DAILY, ["2025-06"]),
    "a line ahead of one of two": (with_dates(trade(2, "2025-06-20"), "2025-07-31"), DAILY, ["2025-06", "2025-07"]),
    "lines on three days ahead": (with_dates(trade(), "2025-08-29", "2025-08-30", "2025-08-31"), DAILY, ["2025-06", "2025-08"]),
    "a day of all stores, a wrong month": (with_dates(trade(), "2025-08-31", stores=ALL), DAILY, ["2025-06", "2025-08"]),
    "only one store has reported the whole month": (
        with_dates(trade(), *map(str, pd.date_range("2025-06-13", "2025-06-30"))), DAILY, ["2025-06"]
    ),
    "a week ahead": (with_dates(WEDNESDAYS, "2025-08-27"), WEEKS, ["2025-06", "2025-08"]),
    "a month ahead": (with_dates(ONE_A_MONTH, "2025-08-01"), MONTHS.model_copy(update={"complete_within_days": 30}), ["2025-08"]),
    "a line before the first date": (with_dates(trade(last="2025-06-30"), "2022-03-01"), DAILY, ["2022-03"]),
    "a line before a late first date": (
        with_dates(trade(first="2023-01-20", last="2025-06-30"), "2023-01-01"), DAILY, ["2023-01"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("days, calendar, incomplete", INCOMPLETE.values(), ids=INCOMPLETE)
def test_a_lone_line_does_not_complete_a_month(days, calendar, incomplete):
    # given lines that end in June, and one or a few with another date / when the incomplete months are listed
    shuffled = days.sample(frac=1, random_state=0).reset_index(drop=True)
    reasons, _, (first, last) = excluded_months(shuffled, calendar)
    # then most stores decide
    assert list(reasons) == incomplete and all(reasons.values())
    assert len(days) < 100 or first >= pd.Timestamp("2023-01-01")


def seldom(seed: int) -> pd.DataFrame:
    "Nine stores that trade on five random days a month."
    rng, days = np.random.default_rng(seed), pd.date_range("2023-01-01", "2024-12-31")
    chosen = [
        (f"S{n}", day, 1)
        for n in range(9)
        for month in range(24)
        for day in rng.choice(days[(days.year * 12 + days.month) == 24277 + month], 5, replace=False)
    ]
    return with_dates(pd.DataFrame(chosen, columns=["store_id", "date", "lines"]), "2023-01-01", "2024-12-31")


def kiosks() -> pd.DataFrame:
    "Four of six stores trade from April to September."
    days = trade(first="2023-01-01", last="2024-10-31")
    return days[days.store_id.isin(["S5", "S6"]) | days.date.dt.month.between(4, 9)]


CHRISTMAS = trade(last="2025-01-02")
COMPLETE = {  # the dates of the stores, and the calendar: only the last month of `CHRISTMAS` is incomplete
    "one of two stores closes": (pd.concat([trade(1, "2025-06-30"), trade(2, "2025-06-10")]).drop_duplicates(), DAILY),
    "a store opens on the last day": (with_dates(trade(last="2025-06-30"), "2025-06-30", stores="S9"), DAILY),
    "a store opens again on the last day": (
        with_dates(trade(last="2025-06-30").query("store_id != 'S1' or date < '2025-05-20'"), "2025-06-30"), DAILY
    ),
    "kiosks pause, as a year ago": (kiosks(), DAILY),
    "five days a month": (seldom(0), DAILY),
    "all stores are closed on Sundays": (trade(last="2025-06-30").query("date.dt.weekday < 6"), DAILY.model_copy(update={"complete_within_days": 1})),
    "all were closed until yesterday": (CHRISTMAS.query("date < '2024-12-24' or date > '2025-01-01'"), DAILY),
    "a pilot store began a year before the others": (
        pd.concat([trade(1, "2025-06-30", "2022-01-01"), trade(6, "2025-06-30")]).drop_duplicates(), DAILY
    ),
}  # fmt: skip


@pytest.mark.parametrize("days, calendar", COMPLETE.values(), ids=COMPLETE)
def test_usual_pauses_make_no_month_incomplete(days, calendar):
    reasons, lone, _ = excluded_months(days.reset_index(drop=True), calendar)
    assert list(reasons) == [month for month in ["2025-01"] if days.date.max() == pd.Timestamp("2025-01-02")]
    assert lone.empty


@pytest.mark.parametrize("months", range(3, 25))
def test_the_last_month_of_stores_that_seldom_trade_is_complete(months):
    days = seldom(1)
    end = pd.Timestamp("2023-01-01") + pd.DateOffset(months=months) - pd.Timedelta(days=1)
    to_end = with_dates(days[days.date < end], str(end.date()))  # a store trades on the month's last day
    assert excluded_months(to_end.drop_duplicates(["store_id", "date"], ignore_index=True), DAILY)[0] == {}


def test_lone_lines_are_reported_with_file_and_line_and_left_out():
    # given six months of sales, one line dated in the following summer, and its file and line in the lineage
    sales = random_sales(5, 2000)
    wrong = sales.iloc[[7]].assign(store_id="S2", date=datetime.date(2024, 8, 15))
    lineage = pd.DataFrame({"store_id": ["S2"], "month": [datetime.date(2024, 8, 1)], "file": ["tills.csv"]})
    lineage = lineage.assign(first_line=77, last_line=77)
    # when they are cleaned
    table, report = clean(ibis.memtable(arrow(pd.concat([sales, wrong]))), [], DAILY, lineage=lineage)
    # then the months are those of the sales without it, and the line is reported
    assert table == clean(ibis.memtable(arrow(sales)), [], DAILY)[0]
    assert "1 line of store S2 on 2024-08-15 (tills.csv, line 77)" in report["incomplete_months"]["2024-08"]
    assert [row["place"] for row in report["lone_lines"]] == [" (tills.csv, line 77)"]
    assert str(report["last_date"].date()) == "2024-03-31"
    # and without it there is no report
    assert "lone_lines" not in clean(ibis.memtable(arrow(sales)), [], DAILY)[1]


def test_incomplete_months_are_left_out_and_reported():
    sales = random_sales(5)
    short = sales[sales.date.map(lambda date: datetime.date(2023, 10, 2) <= date < datetime.date(2024, 3, 31))]
    table, report = clean(ibis.memtable(arrow(short)), [], DAILY)
    assert sorted(report["incomplete_months"]) == ["2023-10", "2024-03"]
    assert {str(month)[:7] for month in table["month"].to_pylist()} == {"2023-11", "2023-12", "2024-01", "2024-02"}
    assert (report["first_month"], report["last_month"]) == ("2023-11-01", "2024-02-01")


# -- months without sale lines


def marks(**stores: str) -> pd.DataFrame:
    "Store-months from January 2022 on; x: with sale lines."
    return months_at({store: [10.0 if mark == "x" else None for mark in text] for store, text in stores.items()})


def gaps(table: pd.DataFrame, *more) -> list[str]:
    silent = months_without_lines(table, *more)
    return [f"{row.series_id} {row.month:%Y-%m}" for row in silent[silent.gap].itertuples()]


ALWAYS_OPEN = "x" * 24


def test_a_month_without_lines_in_any_store_is_always_a_gap():
    table = marks(A="x" * 12 + "." + "x" * 11, B="xxxxxx......" + "." + "xxxxx......")
    for zero_means in (None, "value", "gap"):
        assert {"A 2023-01", "B 2023-01"} <= set(gaps(table, None, zero_means))


def test_the_source_may_declare_what_a_month_without_lines_is():
    table = marks(A="x" * 10 + "." + "x" * 13, B="xxxxxx......xxxxxx......", C=ALWAYS_OPEN)
    assert gaps(table, None, "value") == []
    assert len(gaps(table, None, "gap")) == 13
    # a planned closing is never a gap
    closing = plan_of(("A", "2022-11", 0))
    assert gaps(table, closing) == [] and len(gaps(table, closing, "gap")) == 12


def test_a_gap_is_in_the_report():
    sales = random_sales(5)
    table, report = clean(ibis.memtable(arrow(sales[sales.date.map(lambda date: date.month != 1)])), [], DAILY)
    text = "no store has sale lines: a gap, which no model learns from and no forecast is scored against"
    assert report["gaps"] == {"2024-01": text} and report["incomplete_months"] == {}
    two_gaps = marks(A="x" * 10 + "." + "x" * 13, B="x" * 10 + "." + "x" * 13, C=ALWAYS_OPEN)
    assert describe_gaps(months_without_lines(two_gaps))["2022-11"].startswith("A and B have no sale lines")
    one_closed = marks(A="x" * 23 + ".", B="x" * 14 + "." * 10, C=ALWAYS_OPEN)
    assert list(describe_gaps(months_without_lines(one_closed))) == ["2023-12"]
    # a store without lines for months has closed, in the last month too
    one_closed = marks(A="x" * 23 + ".", B="x" * 20 + "." * 4, C=ALWAYS_OPEN)
    assert describe_gaps(months_without_lines(one_closed))["2023-12"].startswith("A has no sale lines")


def test_untrusted_store_months_have_no_quantity_and_no_price():
    # given an untrusted month of one store, and one of all stores
    table, _ = clean(ibis.memtable(arrow(random_sales(3))), [], DAILY)
    untrusted = pd.DataFrame({"month": pd.to_datetime(["2023-12-01", "2024-02-01"]), "store_id": ["S1", None]})
    # when their values are removed
    blanked = blank_untrusted(table, untrusted)
    # then they have neither quantity nor price, and everything else is unchanged
    rows = blanked.to_pandas()
    month = pd.to_datetime(rows.month)
    is_blank = (month == "2024-02-01") | ((month == "2023-12-01") & (rows.store_id == "S1"))
    assert is_blank.sum() == 5 and rows.quantity_sold.isna().equals(is_blank) and rows.price.isna().equals(is_blank)
    others = [name for name in table.column_names if name not in ("quantity_sold", "price")]
    assert blanked.select(others).equals(table.select(others)) and blanked.schema.equals(table.schema)
    kept = pa.array(~is_blank)
    assert blanked.filter(kept).equals(table.filter(kept))
    # and nothing changes where everything is trusted
    assert blank_untrusted(table, untrusted[:0]).equals(table)


def test_the_report_of_one_store_and_of_a_source_that_lacks_columns():
    # given a store in one month, of a source without weather, promotions and prices
    sales = random_sales(5, stores=1)
    one_month = sales[sales.date.map(lambda date: date.month == 1)]
    lacks = ["weather", "promotion", "price"]
    table, report = clean(ibis.memtable(arrow(one_month.assign(**dict.fromkeys(lacks)))), lacks, DAILY)
    # then nothing was filled in, and no empty column is shown
    assert cleaning_sentence(report, []) == (
        "1 store-month of 1 store in January 2024 is complete; the checks of the data found nothing."
    )
    assert cleaning_facts(report).values["Filled in"] == "nothing"
    shown = recent_months_table(table.to_pandas(date_as_object=False))
    assert list(shown.columns) == ["series_id", "month", "quantity_sold", "trading_days"]


def test_a_stop_comes_first_in_the_table_and_in_the_answer():
    _, report = clean(ibis.memtable(arrow(random_sales(5))), [], DAILY)
    note = Finding(
        check="columns", level="note", where="till", text="2024-02: till: more", figures={"month": "2024-02"}
    )
    stop = note.model_copy(update={"level": "stop", "where": "all stores"})
    assert [row[2] for row in findings_table([note, stop]).rows] == ["stops the month", "note"]
    assert cleaning_sentence(report, [note, stop]).endswith("the checks of the data found a stop and a note.")
