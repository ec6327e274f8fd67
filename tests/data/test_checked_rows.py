"Bad rows: each has its reason, its month and its store, and all rows are counted once."

import datetime as dt
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from brewcast.common.contracts import connect
from brewcast.common.parameter_types import SourceTable
from brewcast.data.checked_rows import (
    BAD_ROWS,
    MIN_LOST_ROWS,
    count_rows,
    described_bad_rows,
    file_counts,
    filtered_by_month,
    lost_by_store,
    main_period,
    quarantine_rows,
    refuse_repeated_lines,
    rows_by_month,
    stores_with_losses,
    with_texts,
)
from brewcast.data.sale_query import Query
from brewcast.data.source_files import LoadedFile

SPEC = SourceTable(
    name="till",
    path="till.csv",
    date_format="%Y-%m-%d",
    columns={"SHOP": "text", "DAY": "date", "PAID": "date?", "PIECES": "integer"},
)
SQL = """SELECT SHOP AS store_id, DAY AS date, PIECES AS quantity_sold, _file, _line
    FROM till JOIN cities USING (SHOP) WHERE PIECES <> 0"""
JANUARY, FEBRUARY = dt.date(2024, 1, 31), dt.date(2024, 2, 1)
ROWS = [  # line, column and reason if it does not fit its types, shop, day, paid, pieces
    (2, None, None, "S1", JANUARY, None, 3),
    (3, "PIECES", "is not an integer", "S1", JANUARY, None, None),
    (4, "DAY", "is empty", "S2", None, FEBRUARY, 4),
    (5, None, None, "S9", FEBRUARY, None, 4),  # the join loses it: S9 has no city
    (6, None, None, "S1", FEBRUARY, JANUARY, 0),  # the query leaves it out
    (7, None, None, "S2", FEBRUARY, dt.date(2024, 3, 1), -5),  # breaks the contract
    (8, None, None, "S2", FEBRUARY, None, 1),
]
FILE = LoadedFile(Path("till.csv"), [*SPEC.columns], not_used=[], sha256="", stamp=[], unclear=[])


@pytest.fixture
def checked(tmp_path):
    "A database with the rows of one file, staged and checked, and the query of the sale lines."
    con = connect().con
    names = ["_line", "_column", "_reason", "SHOP", "DAY", "PAID", "PIECES"]
    types = [pa.int64(), pa.string(), pa.string(), pa.string(), pa.date32(), pa.date32(), pa.int64()]
    columns = [pa.array(values, kind) for values, kind in zip(zip(*ROWS, strict=True), types, strict=True)]
    con.register("rows", pa.table(columns, names))
    con.execute("CREATE TABLE _staged_till AS SELECT 'till.csv' AS _file, * FROM rows")
    con.execute("CREATE VIEW till AS SELECT * EXCLUDE (_column, _reason) FROM _staged_till WHERE _reason IS NULL")
    con.execute("CREATE TABLE cities AS FROM (VALUES ('S1'), ('S2')) AS c(SHOP)")
    con.execute(f"CREATE VIEW _query_sales AS {SQL}")
    con.execute("""CREATE TABLE _judged_sales AS SELECT *,
        CASE WHEN quantity_sold < 0 THEN 'quantity_sold' END AS _column,
        CASE WHEN quantity_sold < 0 THEN 'is not above 0' END AS _reason FROM _query_sales""")
    path = tmp_path / "toy.sql"
    path.write_text(SQL)
    query = Query(path, "sales", ["till"])
    quarantine_rows(con, {"till.csv": "till"}, [query])
    return con, query


def test_each_bad_row_has_its_reason_its_months_and_its_store(checked):
    con, query = checked
    found = described_bad_rows(con, SPEC, query)
    assert found.schema == BAD_ROWS
    rows = {row["line"]: (row["reason"], row["month"], row["known"], row["store"]) for row in found.to_pylist()}
    assert rows == {
        3: ("is not an integer", "2024-01", "2024-01", None),  # without pieces, the WHERE leaves it out
        4: ("is empty", None, "2024-02", "S2"),  # its other date says when it was known
        5: ("is left out by toy.sql", "2024-02", "2024-02", None),  # a store without a city is none
        7: ("is not above 0", "2024-02", "2024-02", "S2"),
    }
    assert filtered_by_month(con, SPEC) == [("2024-02", "2024-01", 1)]


def test_each_row_is_counted_once(checked):
    con, query = checked
    counts = count_rows(con, {"till": {"till.csv": FILE}}, [query])["till"]["till.csv"]
    assert counts == {"rows_read": 7, "rows_in": 2, "rows_set_aside": 4, "rows_left_out_by_query": 1}
    months = rows_by_month(con, query, [SPEC])
    assert months == {
        "2024-01": {"rows_in": 1, "rows_set_aside": 1},
        "2024-02": {"rows_in": 1, "rows_set_aside": 2, "rows_left_out_by_query": 1},
        "unknown": {"rows_in": 0, "rows_set_aside": 1},
    }
    assert sum(sum(month.values()) for month in months.values()) == counts["rows_read"]
    assert dict(lost_by_store(con, query, [SPEC])) == {("S2", "2024-02"): 1}


@pytest.mark.parametrize("counts", [(5, 3, 1, 0), (5, 3, 2, 1), (0, 0, 0, 1)])
def test_counts_that_do_not_add_up_are_an_error(counts):
    with pytest.raises(RuntimeError, match=f"till.csv: {counts[0]} rows read, but {counts[1]} in the result"):
        file_counts("till.csv", *counts)


def test_the_texts_of_bad_rows_are_those_of_the_file(tmp_path, checked):
    path = tmp_path / "till.csv"
    lines = ["SHOP,DAY,PAID,PIECES", "S1,2024-01-31,,3", "S1,2024-01-31,,x", "S2,,2024-02-01,4"]
    path.write_text("\n".join([*lines, *["S9,2024-02-01,,4"] * 4, ""]))
    bad = described_bad_rows(checked[0], SPEC, checked[1])
    found = with_texts(duckdb.connect(), path, SPEC, bad)
    assert found.schema == BAD_ROWS
    assert found["row"].to_pylist() == [lines[2], lines[3], "S9,2024-02-01,,4", "S9,2024-02-01,,4"]
    assert found.drop_columns("row").equals(bad.drop_columns("row"))
    assert with_texts(duckdb.connect(), path, SPEC, bad[:0]).num_rows == 0
    with pytest.raises(ValueError, match=r"bad rows: missing columns \['line'\]"):
        with_texts(duckdb.connect(), path, SPEC, bad.drop_columns("line"))


def test_lines_that_come_twice_in_any_order_are_refused(tmp_path):
    path = tmp_path / "toy.sql"
    path.write_text("SELECT _file, _line FROM till JOIN cities USING (SHOP)")
    query = Query(path, "sales", ["till"])

    def refuse(lines: list[int | None]) -> None:
        con = duckdb.connect()
        numbers = pa.chunked_array([pa.array(lines, pa.int64())])
        con.register("_judged_sales", pa.table({"_file": pa.array(["till.csv"] * len(lines)), "_line": numbers}))
        refuse_repeated_lines(con, numbers, query, "till.csv")

    for good in ([], [2], [2, 3, 9], [9, 3, 2]):
        refuse(good)
    for bad in ([2, 2], [2, 3, 2], [9, 3, 9, 1]):
        with pytest.raises(ValueError, match=f"yields line {max(bad, key=bad.count)} of till.csv 2 times"):
            refuse(bad)
    with pytest.raises(ValueError, match="yields line None"):
        refuse([2, None])


def test_a_store_is_named_if_it_lost_many_rows_in_a_month_or_in_all():
    def names(lost: dict, good: dict) -> list[str]:
        return [*stores_with_losses(lost, good)]

    month, other = ("S1", "2024-01"), ("S1", "2024-02")
    assert names({month: MIN_LOST_ROWS}, {month: 100}) == ["S1"]
    assert names({month: MIN_LOST_ROWS - 1}, {month: 1}) == []  # single mistakes
    assert names({month: MIN_LOST_ROWS}, {month: 490}) == []  # two percent
    assert names({month: MIN_LOST_ROWS}, {("S2", "2024-01"): 5}) == []  # no good row: a wrong name
    assert names({month: 5, other: 5}, {month: 9, other: 9}) == ["S1"]  # in both months together
    assert names({month: 15}, {month: 10, other: 10_000}) == ["S1"]  # in one month
    assert names({}, {month: 10}) == []


def test_the_period_with_most_lines_is_the_main_one():
    days = pd.DataFrame(
        {"day": pd.to_datetime(["2014-01-01", "2024-01-01", "2024-12-31", "2034-01-01"]), "n": [5, 3, 3, 5]}
    )
    assert main_period(days) == (pd.Timestamp("2024-01-01"), pd.Timestamp("2024-12-31"))
    with pytest.raises(ValueError, match=r"days: missing columns \['n'\]"):
        main_period(days[["day"]])
