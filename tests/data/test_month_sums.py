"Sums of sale lines by month: the same as all at once, and each month's made once."

import datetime

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from test_clean import DAILY, arrow, random_sales

from brewcast.common.core import write_parquet
from brewcast.common.increments import Increments
from brewcast.common.parameter_types import QualitySettings
from brewcast.data.clean import clean, store_day
from brewcast.data.month_sums import sum_sale_lines
from brewcast.data.quality import check_data


def write_months(sales: pd.DataFrame, folder) -> dict:
    "One file a month, as ingest writes them; by month: its path."
    month = sales.date.map("{:%Y-%m}".format)
    tables = {name: arrow(rows) for name, rows in sales.groupby(month)}
    keys = [(name, "ascending") for name in sales.columns]
    return {name: write_parquet(table.sort_by(keys), folder / f"{name}.parquet") for name, table in tables.items()}


def with_repeats(seed: int) -> pd.DataFrame:
    "Random lines, a third of them twice."
    sales = random_sales(seed, 600)
    return pd.concat([sales, sales.sample(frac=0.3, random_state=seed)], ignore_index=True)


def test_a_folder_of_months_is_cleaned_and_checked_as_a_whole_table_in_any_order(tmp_path):
    # given lines in months, and the same in one table in random order
    sales = with_repeats(0)
    write_months(sales, tmp_path / "sales")
    shuffled = arrow(sales.sample(frac=1, random_state=0))
    # when both are cleaned and checked
    lines = [sum_sale_lines(tmp_path / "sales", [], Increments(tmp_path / "cache")), shuffled]
    cleaned = [clean(each, [], DAILY) for each in lines]
    settings = QualitySettings(accept=[], months=9)
    months = cleaned[0][0].to_pandas(date_as_object=False)
    findings = [check_data(each, months, DAILY, [], settings) for each in lines]
    # then nothing differs
    assert cleaned[0] == cleaned[1] and len(months) == 24
    assert findings[0] == findings[1]


def test_the_counters_are_those_of_the_expressions(tmp_path):
    # given lines with repeats, and without any price
    sales = with_repeats(4).assign(price=None)
    write_months(sales, tmp_path / "sales")
    sums = sum_sale_lines(tmp_path / "sales", cache=Increments(tmp_path / "cache"))
    # then the counters are equal to those of Ibis, value for value
    expected = store_day(ibis.memtable(arrow(sales))).order_by("store_id", "date").to_pyarrow()
    found = sums.day().order_by("store_id", "date").select(*expected.column_names).to_pyarrow()
    assert found.to_pylist() == expected.to_pylist()
    # and so are the different lines of each store and date
    store = sums.table("store").to_pandas().astype({"store_id": str})
    distinct = sales.drop_duplicates().groupby(["store_id", "date"]).size()
    assert store.set_index(["store_id", "date"]).distinct.sort_index().tolist() == distinct.sort_index().tolist()


@pytest.mark.parametrize("seed", range(3))
def test_only_the_month_that_changed_is_summed_again(seed, tmp_path):
    # given a folder of six months whose sums are in the cache
    sales = with_repeats(seed)
    files = write_months(sales, tmp_path / "sales")
    cache = Increments(tmp_path / "cache")

    def sums_by_store() -> pa.Table:
        return sum_sale_lines(tmp_path / "sales", cache=cache).table("store")

    before = sums_by_store()
    assert (cache.made, cache.found) == (6, 0)
    # when nothing has changed, nothing is made, and the sums are those without a cache and of the shuffled lines
    assert sums_by_store() == before and (cache.made, cache.found) == (6, 6)
    assert sum_sale_lines(tmp_path / "sales").table("store").to_pylist() == before.to_pylist()
    whole = sum_sale_lines(arrow(sales.sample(frac=1, random_state=seed))).table("store").to_pylist()
    assert sorted(whole, key=lambda row: (row["month"], row["store_id"], row["date"])) == before.to_pylist()
    # and when the last day is new, only its month is made
    write_months(pd.concat([sales, sales[sales.date == sales.date.max()]]), tmp_path / "sales")
    after = sums_by_store()
    assert (cache.made, cache.found) == (7, 11) and len(files) == 6
    is_before = pc.less(before["month"], datetime.date(2024, 3, 1))
    assert after.filter(is_before) == before.filter(is_before) and after != before


def test_only_the_month_that_changed_is_added_up_again(tmp_path):
    # given six months whose sums and store-months are in the cache
    sales = with_repeats(5)
    write_months(sales, tmp_path / "sales")
    cache = Increments(tmp_path / "cache")
    before, _ = clean(sum_sale_lines(tmp_path / "sales", cache=cache), [], DAILY)
    assert (cache.made, cache.found) == (12, 0)
    # when they are cleaned again, nothing is made
    assert clean(sum_sale_lines(tmp_path / "sales", cache=cache), [], DAILY)[0] == before
    assert (cache.made, cache.found) == (12, 12)
    # and when the last day is new, its month is summed and added up, and the result is that of all lines at once
    longer = pd.concat([sales, sales[sales.date == sales.date.max()]])
    write_months(longer, tmp_path / "sales")
    after, _ = clean(sum_sale_lines(tmp_path / "sales", cache=cache), [], DAILY)
    assert (cache.made, cache.found) == (14, 22)
    assert after == clean(arrow(longer), [], DAILY)[0] != before


def test_lone_lines_are_not_in_the_sums_of_the_checks(tmp_path):
    # given lines, and two with other dates: one in a month of its own, one in the last month
    sales = random_sales(2)
    sales = sales[sales.date < datetime.date(2024, 3, 10)]
    dates = [datetime.date(2024, 3, 31), datetime.date(2024, 8, 15)]
    lone = sales.head(2).assign(date=dates, city="boston")
    write_months(pd.concat([sales, lone]), tmp_path / "sales")
    sums = sum_sale_lines(tmp_path / "sales", cache=Increments(tmp_path / "cache"))
    # when the sums end before them
    cut = sums.between(sales.date.min(), sales.date.max())
    # then they are those of the other lines
    expected = sum_sale_lines(arrow(sales))
    for name in ("store", "names", "category", "product"):
        rows = [each.table(name).to_pylist() for each in (cut, expected)]
        unique = [{tuple(row.items()) for row in of_table} for of_table in rows]
        assert unique[0] == unique[1]
    assert "boston" in sums.table("names")["name"].to_pylist()
