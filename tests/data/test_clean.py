"Clean: value for value what plain pandas gives, the same bytes however it runs, and nothing from the future."

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

from brewcast.common.contracts import DECIMAL, STORE_MONTH, check, connect, sales_schema
from brewcast.common.core import LEVELS, SALE_LINE, write_parquet
from brewcast.common.params import read_env
from brewcast.data.clean import by_month, clean, filled_in, incomplete_months, leave_out, store_day
from brewcast.data.ingest import ingest
from brewcast.data.simulate import write_export

ORDER = {"weather": LEVELS["weather"], "promotion": [True, False], "holiday": [True, False]}
DAILY = {"unit": "day", "weekday": None, "complete_within_days": 0}


def random_sales(seed: int, lines: int = 800, stores: int = 4) -> pd.DataFrame:
    "Sale lines with gaps, ties, negative quantities, six decimals, and a first month without any weather."
    draw = np.random.default_rng(seed)
    dates = pd.date_range("2023-10-01", "2024-03-31").date
    frame = pd.DataFrame({"store_id": draw.choice([f"S{n}" for n in range(stores)], lines)})
    frame["date"] = np.concatenate([[dates[0], dates[-1]], draw.choice(dates, lines - 2)])
    frame[["country", "city", "category", "product"]] = ["USA", "Boston", "Coffee", "Espresso"]
    frame["price"] = [Decimal(int(n)).scaleb(-6) for n in draw.integers(1, 9_000_000, lines)]
    frame["quantity_sold"] = [Decimal(int(n)).scaleb(-2) for n in draw.integers(-200, 5_000, lines)]
    weather = draw.choice(["Hot", "Cold", "Rainy", None], lines, p=[0.3, 0.3, 0.3, 0.1])
    frame["weather"] = np.where(frame.date < datetime.date(2023, 11, 1), None, weather)
    frame["promotion"] = draw.choice([True, False, None], lines, p=[0.4, 0.4, 0.2])
    frame["holiday"] = draw.choice([True, False], lines)
    return frame[SALE_LINE]


def arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(
        frame,
        schema=pa.schema([(name, spec.dtype.type.to_pyarrow()) for name, spec in sales_schema().columns.items()]),
        preserve_index=False,
    )


def most_frequent(values: list, order: list):
    counts = Counter(value for value in values if value is not None)
    return max(order, key=lambda level: (counts[level], -order.index(level))) if counts else None


def plain_pandas(sales: pd.DataFrame, lacks: list[str]) -> list[dict]:
    "What a store-month holds, written down once more, the slow and obvious way."
    sales = sales.astype(object).where(sales.notna(), None)
    month_of = [date.replace(day=1) for date in sales.date]
    sales = sales.assign(month=month_of)
    raw = sales.copy()
    for column in {"weather", "promotion"} - set(lacks):
        for month in sorted(set(month_of)):
            known = most_frequent(raw[column][raw.month <= month].tolist(), ORDER[column])
            gaps = (sales.month == month) & sales[column].isna()
            sales[column] = pd.Series(
                [known if gap else v for gap, v in zip(gaps, sales[column], strict=True)], dtype=object
            )
    rows = []
    for (store, month), lines in sales.groupby(["store_id", "month"]):
        days = [day for _, day in lines.groupby("date")]
        promoted = [most_frequent(day.promotion.tolist(), ORDER["promotion"]) for day in days]
        promoted = [value for value in promoted if value is not None]
        prices = [price for price in lines.price if price is not None]
        season = {12: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2}.get(month.month, 3)
        rows.append(
            {"series_id": store, "store_id": store, "month": month}
            | {"country": days[-1].country.iloc[0], "city": days[-1].city.iloc[0]}
            | {
                "quantity_sold": float(sum(lines.quantity_sold)),
                "price": float(sum(prices)) / len(prices) if prices else None,
            }
            | {column: most_frequent(days[-1][column].tolist(), order) for column, order in ORDER.items()}
            | {"is_weekend": sum(day.date.iloc[0].weekday() >= 5 for day in days) / len(days)}
            | {"season": LEVELS["season"][season], "trading_days": len(days)}
            | {"promotion_share": sum(promoted) / len(promoted) if promoted else None, "lines": len(lines)}
            | {"first_date": lines.date.min(), "last_date": lines.date.max()}
        )
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
    gives = SimpleNamespace(
        **{name: folder / f"{name}.parquet" for name in ("sales", "lineage", "largest", "plan", "quarantine")}
    )
    gives.dataset = folder / "dataset.json"
    ingest(data=folder, **{name: env[name] for name in names}, gives=gives)
    return SimpleNamespace(sales=gives.sales, env=env)


def test_equal_value_for_value_to_plain_pandas_on_the_simulated_export(simulated):
    sales = pq.read_table(simulated.sales).to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    table, report = clean(connect().read_parquet(simulated.sales), [], simulated.env["calendar"])
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


def test_what_comes_after_a_month_changes_nothing_up_to_it():
    # given sales, and the same with all lines after January changed: their weather is what was rare until then
    sales, end = random_sales(3), datetime.date(2024, 1, 31)
    later = sales.date > end
    rare = Counter(sales.weather[~later].dropna()).most_common()[-1][0]
    changed = sales.assign(weather=sales.weather.mask(later, rare), promotion=sales.promotion.mask(later, True))
    changed["quantity_sold"] = changed.quantity_sold.mask(later, Decimal(1))
    # when both are cleaned, and the sales without what came later
    months = [clean(ibis.memtable(arrow(s)), [], DAILY)[0].to_pylist() for s in (sales, changed, sales[~later])]
    upto = [[row for row in rows if row["month"] <= end] for rows in months]
    # then the months up to January are the same
    assert upto[0] == upto[1] == upto[2] == months[2]
    assert months[0] != months[1]
    # and the test can tell: filling in by the whole history would have made them others
    whole = changed.assign(weather=changed.weather.fillna(most_frequent(changed.weather.dropna().tolist(), [rare])))
    leaked = clean(ibis.memtable(arrow(whole)), [], DAILY)[0].to_pylist()
    assert [row for row in leaked if row["month"] <= end] != upto[0]


@pytest.mark.parametrize("engine", ["duckdb", "bigquery", "snowflake", "databricks", "postgres", "trino"])
def test_the_same_expressions_compile_for_other_engines(engine):  # databricks: Spark's SQL
    columns = {name: spec.dtype.type for name, spec in sales_schema().columns.items()}
    assert columns["price"] == DECIMAL
    sales = ibis.table(columns, name="sales")
    query = ibis.to_sql(by_month(filled_in(store_day(sales), ["weather", "promotion"])), dialect=engine)
    assert "SELECT" in str(query)


WEEKS = {"unit": "week", "weekday": "WED", "complete_within_days": 0}
MONTHS = {"unit": "month", "complete_within_days": 1}


@pytest.mark.parametrize(
    "calendar, first, last, incomplete",
    [
        (DAILY, "2024-01-01", "2024-02-29", []),
        (DAILY, "2024-01-02", "2024-02-28", ["2024-01", "2024-02"]),
        (DAILY | {"complete_within_days": 1}, "2024-01-02", "2024-02-28", []),
        (WEEKS, "1990-06-20", "1992-10-07", ["1990-06", "1992-10"]),
        (WEEKS, "1990-06-06", "1992-10-28", []),
        (MONTHS, "1997-01-01", "1998-12-30", []),
        (MONTHS, "1997-01-01", "1998-12-29", ["1998-12"]),
    ],
)
def test_which_months_are_complete(calendar, first, last, incomplete):
    assert list(incomplete_months(pd.Timestamp(first), pd.Timestamp(last), calendar)) == incomplete


def test_incomplete_months_are_left_out_and_said():
    sales = random_sales(5)
    short = sales[sales.date.map(lambda date: datetime.date(2023, 10, 2) <= date < datetime.date(2024, 3, 31))]
    table, report = clean(ibis.memtable(arrow(short)), [], DAILY)
    assert sorted(report["incomplete_months"]) == ["2023-10", "2024-03"]
    assert {str(month)[:7] for month in table["month"].to_pylist()} == {"2023-11", "2023-12", "2024-01", "2024-02"}
    assert (report["first_month"], report["last_month"]) == ("2023-11-01", "2024-02-01")


def test_no_complete_month_no_rows_or_a_missing_column_is_refused():
    sales = arrow(random_sales(0))
    inside = pa.array([date.day == 9 and date.month == 11 for date in sales["date"].to_pylist()])
    with pytest.raises(ValueError, match="no complete month between 2023-11-09 and 2023-11-09"):
        clean(ibis.memtable(sales.filter(inside)), [], DAILY)
    with pytest.raises(ValueError, match="has no rows"):
        clean(ibis.memtable(sales.slice(0, 0)), [], DAILY)
    with pytest.raises(ValueError, match=r"no columns \['price'\]"):
        clean(ibis.memtable(sales.drop_columns("price")), [], DAILY)


def test_equal_lines_are_all_counted():
    sales = random_sales(0)
    twice, _ = clean(ibis.memtable(arrow(pd.concat([sales, sales]))), [], DAILY)
    once, _ = clean(ibis.memtable(arrow(sales)), [], DAILY)
    assert twice["lines"].to_pylist() == [2 * n for n in once["lines"].to_pylist()]
    assert twice["price"].to_pylist() == once["price"].to_pylist()
    assert check(twice, STORE_MONTH) == twice


def test_what_is_not_trusted_has_no_quantity_and_no_price():
    # given months of which one store's is not trusted, and one of all stores
    table, _ = clean(ibis.memtable(arrow(random_sales(3))), [], DAILY)
    doubtful = pd.DataFrame({"month": pd.to_datetime(["2023-12-01", "2024-02-01"]), "store_id": ["S1", None]})
    # when they are left out
    left = leave_out(table, doubtful)
    # then those have neither quantity nor price, and all else is as it was
    rows = left.to_pandas()
    month = pd.to_datetime(rows.month)
    out = (month == "2024-02-01") | ((month == "2023-12-01") & (rows.store_id == "S1"))
    assert out.sum() == 5 and rows.quantity_sold.isna().equals(out) and rows.price.isna().equals(out)
    others = [name for name in table.column_names if name not in ("quantity_sold", "price")]
    assert left.select(others).equals(table.select(others))
    assert left.filter(pa.array(~out)).equals(table.filter(pa.array(~out))) and left.schema.equals(table.schema)
    # and nothing moves where all is trusted
    assert leave_out(table, doubtful[:0]).equals(table)
