"Ingest: broken files lose their bad rows only, every row is accounted for, and the format makes no difference."

import contextlib
import gzip
import sqlite3
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brewcast.common.core import read_json
from brewcast.common.hashing import sha256
from brewcast.common.params import read_env
from brewcast.data.ingest import ingest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
HEADER = "STORE,DATE,CITY,CATEGORY,PIECES,PRICE,TOTAL,WEATHER,PROMOTION,HOLIDAY"
LINES = [
    "S1,1/5/2022,Montréal,Coffee,3,2.50,7.50,Hot,Yes,False",
    "S1,1/6/2022,Montréal,Pastry,1,3.25,3.25,,No,False",
    "S2,1/5/2022,San José,Coffee,2,2.55,5.10,Rainy,,True",
    "S2,1/6/2022,San José,Coffee,4,2.50,10.00,Cold,Yes,False",
]
COLUMNS = {"STORE": "text", "DATE": "date", "CITY": "text", "CATEGORY": "text", "PIECES": "integer"}
COLUMNS |= {"PRICE": "decimal", "TOTAL": "decimal", "WEATHER": "text?", "PROMOTION": "yes_no?", "HOLIDAY": "boolean"}
SQL = """SELECT STORE AS store_id, DATE AS date, CITY AS city, CATEGORY AS category, PRICE AS price,
    PIECES AS quantity_sold, WEATHER AS weather, PROMOTION AS promotion, HOLIDAY AS holiday,
    TOTAL AS total_sale, _file, _line FROM till"""


def text(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def adds_up(dataset: dict, sales: list[dict], lineage: list[dict]):
    "Every sale line is in the lineage of its store and month, and every file's rows are."
    given, told, by_file = Counter(), Counter(), Counter()
    for row in sales:
        given.update({(row["store_id"], row["date"].replace(day=1), k): v for k, v in unit(row).items()})
    for row in lineage:
        told.update({(row["store_id"], row["month"], k): row[k] for k in ("lines", "quantity_sold")})
        by_file[row["file"]] += row["lines"]
        assert row["first_line"] is None or row["last_line"] - row["first_line"] + 1 >= row["lines"]
    assert given == told
    keys = [(row["store_id"], row["month"], row["file"] or "") for row in lineage]
    assert keys == sorted(set(keys))
    if dataset["counted"] == "lines of the files":
        rows_in = {f: n["rows_in"] for table in dataset["tables"].values() for f, n in table["files"].items()}
        assert by_file == {file: rows_in[file] for file in by_file}
        assert by_file.total() == dataset["rows_in"]


def unit(row: dict) -> dict:
    return {"lines": 1, "quantity_sold": row["quantity_sold"]}


@pytest.fixture
def read(tmp_path):
    "A function that ingests a file's content, and gives dataset, sales and quarantine."

    def run(content: str | bytes | None, name: str = "till.csv", sql: str = SQL, more: dict | None = None, **changes):
        data, out = tmp_path / "data", tmp_path / "out"
        data.mkdir(exist_ok=True)
        if content is not None:
            (data / name).write_bytes(content.encode() if isinstance(content, str) else content)
        (tmp_path / "toy.sql").write_text(sql)
        till = {"name": "till", "path": name, "date_format": "%m/%d/%Y", "columns": COLUMNS} | (more or {})
        gives = SimpleNamespace(**{n: out / f"{n}.parquet" for n in ("sales", "lineage", "plan", "quarantine")})
        gives.dataset = out / "dataset.json"
        given = {"source": "toy", "data": data, "sql": tmp_path / "toy.sql", "plan_sql": None, "files": [till]}
        given |= {"lacks": ["country", "product"], "key": None, "categories": ["Coffee", "Pastry"], "returns": False}
        dataset = ingest(**(given | {"max_bad_share": 0.9} | changes), gives=gives)
        sales, aside, lineage = (
            pq.read_table(path).to_pylist() for path in (gives.sales, gives.quarantine, gives.lineage)
        )
        adds_up(dataset, sales, lineage)
        for table in dataset["tables"].values():
            for rows in table["files"].values():
                assert rows["rows_in"] + rows["rows_set_aside"] == rows["rows_read"]
        assert dataset["rows_in"] == len(sales) and dataset["rows_read"] == len(sales) + dataset["rows_set_aside"]
        return SimpleNamespace(dataset=dataset, sales=sales, aside=aside, lineage=lineage, gives=gives)

    run.data = tmp_path / "data"
    return run


def test_good_lines_all_pass(read):
    # given four good lines / when they are read
    got = read(text(*LINES))
    # then they are sale lines, sorted, in the contract's types
    assert [row["quantity_sold"] for row in got.sales] == [3, 1, 2, 4]
    assert got.sales[0]["city"] == "Montréal" and got.sales[0]["promotion"] is True
    assert got.sales[1]["weather"] is None and got.sales[0]["country"] is None
    assert got.dataset["rows_set_aside"] == 0 and got.dataset["first_date"] == "2022-01-05"
    assert got.dataset["sales_sha256"] == sha256(got.gives.sales)
    assert pq.read_schema(got.gives.sales).field("price").type == pa.decimal128(18, 6)


BAD_LINES = {  # a line's text, the column at fault, and why
    "ragged, short": ("S1,1/5/2022", None, "does not have 10 fields"),
    "ragged, long": (LINES[0] + ",", None, "does not have 10 fields"),
    "a word for a number": (LINES[0].replace(",3,", ",three,"), "PIECES", "is not an integer"),
    "3.5 pieces": (LINES[0].replace(",3,", ",3.5,"), "PIECES", "is not an integer"),
    "too many digits": (LINES[0].replace(",3,", ",99999999999999999999,"), "PIECES", "is not an integer"),
    "NaN": (LINES[0].replace("2.50", "NaN"), "PRICE", "is not a decimal number"),
    "inf": (LINES[0].replace("2.50", "inf"), "PRICE", "is not a decimal number"),
    "a decimal comma": (LINES[0].replace("2.50", '"2,50"'), "PRICE", "is not a decimal number"),
    "no price": (LINES[0].replace("2.50", " "), "PRICE", "is empty"),
    "no store": (LINES[0][2:], "STORE", "is empty"),
    "30 February": (LINES[0].replace("1/5", "2/30"), "DATE", "is not a date as %m/%d/%Y with a year of four digits"),
    "two-digit year": (LINES[0].replace("2022", "22"), "DATE", "is not a date as %m/%d/%Y with a year of four digits"),
    "an unclosed quote": (LINES[0].replace("Mont", '"Mont'), None, "has an unclosed or stray quotation mark"),
    "a stray quote": (LINES[0].replace("Mont", 'M"on"t'), None, "has an unclosed or stray quotation mark"),
    "neither yes nor no": (LINES[0].replace("Yes", "Perhaps"), "PROMOTION", "is neither yes nor no"),
    "neither true nor false": (LINES[0].replace("False", "Falsch"), "HOLIDAY", "is neither true nor false"),
    "unknown weather": (LINES[0].replace("Hot", "Foggy"), "weather", "is none of Hot, Cold, Rainy"),
    "unknown category": (LINES[0].replace("Coffee", "Cofee"), "category", "is none of Coffee, Pastry"),
    "negative price": (LINES[0].replace("2.50", "-2.50"), "price", "is not above 0"),
    "no pieces": (LINES[0].replace(",3,", ",0,"), "quantity_sold", "is not above 0"),
    "a wrong total": (LINES[0].replace("7.50", "7.51"), "total_sale", "is not quantity x price"),
    "a clock that is wrong": (LINES[0].replace("2022", "2092"), "date", "lies more than a year from all others"),
}


@pytest.mark.parametrize("bad, column, reason", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_costs_itself_only(read, bad, column, reason):
    # given a bad line among good ones / when they are read
    got = read(text(*LINES[:2], bad, *LINES[2:]))
    # then the good ones pass, and the bad one is told with file, line, column, reason and its text
    assert len(got.sales) == 4
    told = {"table": "till", "file": "till.csv", "line": 4, "column": column, "reason": reason, "row": bad}
    assert got.aside == [told]


def test_a_bad_line_is_told_once_by_its_first_fault(read):
    got = read(text(*LINES, "S1,2/30/2022,Montréal,Cofee,3.5,-1,,Foggy,Yes,False"))
    assert [(row["column"], row["line"]) for row in got.aside] == [("DATE", 6)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
def test_line_ends_and_encodings_make_no_difference(read, encoding, end):
    plain = read(text(*LINES)).gives.sales.read_bytes()
    got = read(text(*LINES).replace("\n", end).encode(encoding))
    assert got.dataset["rows_set_aside"] == 0
    assert got.gives.sales.read_bytes() == plain


def test_quotes_blanks_order_of_columns_and_further_ones_make_no_difference(read):
    plain = read(text(*LINES)).gives.sales.read_bytes()
    names = HEADER.split(",")
    turned = [",".join(f'"{field}"' for field in reversed(line.split(","))) + ', "a ""b"", c"' for line in LINES]
    got = read(text(*turned, "", "  ", header=" , ".join(reversed(names)) + ",NOTE"))
    assert got.dataset["tables"]["till"]["files"]["till.csv"]["columns_not_used"] == ["NOTE"]
    assert got.dataset["rows_read"] == 4  # blank lines are none
    assert got.gives.sales.read_bytes() == plain


def test_the_order_of_lines_and_the_number_of_threads_make_no_difference(read, monkeypatch):
    plain = read(text(*LINES * 50)).gives.sales.read_bytes()
    for threads in ("1", "3"):
        monkeypatch.setenv("BREWCAST_THREADS", threads)
        assert read(text(*LINES[::-1] * 50)).gives.sales.read_bytes() == plain


def test_a_truncated_last_line_is_set_aside(read):
    whole = text(*LINES)
    got = read(whole[: -len("Yes,False\n")])
    assert (len(got.sales), [row["line"] for row in got.aside]) == (3, [5])


def test_quoted_delimiters_and_another_delimiter(read):
    got = read(text(LINES[0].replace("Montréal", '"Montréal, QC"'), *LINES[1:]))
    assert got.sales[0]["city"] == "Montréal, QC"
    got = read(text(*LINES).replace(",", ";"), more={"delimiter": ";"})
    assert len(got.sales) == 4


def test_declared_words_for_missing(read):
    got = read(text(LINES[0].replace("Hot", "NA"), LINES[1]), more={"null_values": ["NA"]})
    assert [row["weather"] for row in got.sales] == [None, None]


REFUSED = {  # content, settings, and what the error says
    "empty": ("", {}, "till.csv: is empty"),
    "blank": ("\n \n", {}, "till.csv: is empty"),
    "header only": (text(), {}, "yields no sale line at all"),
    "a missing column": (
        text(*LINES).replace("PRICE", "PRIZE"),
        {},
        "till.csv: column 'PRICE' is missing; the nearest is 'PRIZE'",
    ),
    "a column twice": (text(*LINES).replace("TOTAL", "PRICE"), {}, "column 'PRICE' is there twice"),
    "UTF-16": (text(*LINES).encode("utf-16"), {}, "till.csv: holds zero bytes"),
    "truncated gzip": (
        gzip.compress(text(*LINES * 99).encode())[:-20],
        {},
        "till.csv: the gzip file is damaged or cut",
    ),
    "changed gzip": (gzip.compress(text(*LINES).encode())[:-8] + b"12345678", {}, "the gzip file is damaged or cut"),
    "too many bad": (
        text(*LINES, *["x"] * 2),
        {"max_bad_share": 0.3},
        "till: 2 of 6 rows are bad, above max_bad_share",
    ),
    "a renamed column": (
        text(*LINES).replace("PRICE", "PRECIO"),
        {},
        "column 'PRICE' is missing; the nearest is 'PRECIO', whose values read as decimal, such as '2.50' and '3.25'."
        " If it is the same, add `renamed: {PRECIO: PRICE}` to files: till",
    ),
    "renamed, of another name": (
        text(*LINES).replace("PIECES", "QTY"),
        {},
        "the nearest is 'QTY', whose values read as integer, such as '3' and '1'",
    ),
    "a like name of another type": (
        text(*LINES)
        .replace("PRICE", "PRICES")
        .replace("2.50", "cheap")
        .replace("3.25", "dear")
        .replace("2.55", "dear"),
        {},
        "column 'PRICE' is missing; the nearest is 'PRICES' (there are",
    ),
    "renamed to nothing": (text(*LINES), {"more": {"renamed": {"PRECIO": "PRIZE"}}}, "`renamed` leads to ['PRIZE']"),
    "a retyped column": (
        text(
            *[
                line.replace(",2.50,", ",5 Jan,").replace(",3.25,", ",6 Jan,").replace(",2.55,", ",6 Jan,")
                for line in LINES
            ]
        ),
        {"max_bad_share": 0.01},
        "column 'PRICE' is not a decimal number (4 rows, such as '5 Jan' and '6 Jan': text)",
    ),
    "a price that is a date": (
        text(*[line.replace(",2.50,", ",2022-01-05,") for line in LINES for _ in range(9)]),
        {"max_bad_share": 0.01},
        "such as '2022-01-05' and '2022-01-05': dates as %Y-%m-%d",
    ),
    "no file": (None, {"more": {"path": "tills*.csv"}}, "tills[*].csv does not exist"),
    "an unknown setting": (text(*LINES), {"more": {"colums": {}}}, "unknown ['colums']"),
    "an unknown type": (
        text(*LINES),
        {"more": {"columns": COLUMNS | {"CITY": "str"}}},
        "type 'str' is none of text, integer",
    ),
    "an ambiguous date": (text(*LINES), {"more": {"date_format": "%m/%d/%y"}}, "two-digit years are ambiguous"),
    "another key": (text(*LINES), {"more": {"key": ["RECEIPT"]}}, "the key's ['RECEIPT'] are no columns"),
    "not a list": (text(*LINES), {"files": {"till": {}}}, "files: must be a list"),
    "a name missing in the SQL": (
        text(*LINES),
        {"sql": SQL.replace("AS city", "AS town")},
        "yields ['town'], which no sales has",
    ),
    "no city": (text(*LINES), {"sql": SQL.replace("CITY AS city,", "")}, "yields no 'city'"),
    "a table that is not there": (
        text(*LINES),
        {"sql": SQL.replace("till", "tills")},
        "Table with name tills does not exist",
    ),
    "a lacking column delivered": (
        text(*LINES),
        {"lacks": ["country", "product", "city"]},
        "yields values for ['city']",
    ),
    "a wrong type in the SQL": (text(*LINES), {"sql": SQL.replace("DATE AS", "'5 Jan' AS")}, "cast it in the SQL"),
    "a line twice": (text(*LINES), {"sql": f"{SQL} UNION ALL {SQL}"}, "toy.sql: yields line 2 of till.csv 2 times"),
    "nothing": (text(*LINES), {"sql": f"{SQL} WHERE false", "max_bad_share": 1}, "yields no sale line at all"),
}


@pytest.mark.parametrize("content, settings, said", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_with_the_reason(read, content, settings, said):
    with pytest.raises((ValueError, FileNotFoundError)) as refusal:
        read(content, **settings)
    assert said.replace("[*]", "*") in str(refusal.value)
    assert not (read.data.parent / "out" / "sales.parquet").exists()


def test_a_refusal_leaves_the_quarantine_and_names_the_top_reasons(read):
    with pytest.raises(ValueError, match=r"does not have 10 fields \(2 rows\).*column 'PRICE' is empty \(1 rows\)"):
        read(text(*LINES, "x", "y", LINES[0].replace("2.50", "")), max_bad_share=0.1)
    assert pq.read_table(read.data.parent / "out" / "quarantine.parquet").num_rows == 3


def test_a_repeated_key_is_set_aside_but_the_first(read):
    # given a key, a bad line with it, and two good ones
    bad, again = LINES[0].replace("2.50", "-1"), LINES[0].replace(",3,2.50,7.50", ",4,2.50,10.00")
    got = read(text(bad, *LINES, again), key=["store_id", "date", "category"])
    # then the first good line stays
    assert [(row["line"], row["column"], row["reason"]) for row in got.aside] == [
        (2, "price", "is not above 0"),
        (7, "store_id, date, category", "repeats the key"),
    ]


def test_returns_are_allowed_where_declared(read):
    back = LINES[0].replace(",3,2.50,7.50", ",-3,2.50,-7.50")
    assert len(read(text(*LINES, back)).aside) == 1
    assert len(read(text(*LINES, back), returns=True).sales) == 5


def test_several_files_are_one_table_and_each_is_counted(read):
    read.data.mkdir()
    (read.data / "till_2.csv").write_text(text(*LINES[2:], "x", header=HEADER))
    (read.data / "till_1.csv.gz").write_bytes(gzip.compress(text(*LINES[:2]).encode()))
    got = read(None, name="till_*")
    counted = {file: rows["rows_read"] for file, rows in got.dataset["tables"]["till"]["files"].items()}
    assert counted == {"till_1.csv.gz": 2, "till_2.csv": 3}
    assert (got.aside[0]["file"], got.aside[0]["line"]) == ("till_2.csv", 4)
    assert [
        (row["store_id"], row["file"], row["lines"], row["first_line"], row["last_line"]) for row in got.lineage
    ] == [
        ("S1", "till_1.csv.gz", 2, 2, 3),
        ("S2", "till_2.csv", 2, 2, 3),
    ]


def test_renamed_columns_go_on_with_the_old_ones(read):
    # given a file of before and one of after a column was renamed
    read.data.mkdir()
    (read.data / "till_1.csv").write_text(text(*LINES[:2]))
    (read.data / "till_2.csv").write_text(text(*LINES[2:], header=HEADER.replace("PRICE", "UNIT_PRICE")))
    with pytest.raises(ValueError, match="till_2.csv: column 'PRICE' is missing; the nearest is 'UNIT_PRICE'"):
        read(None, name="till_*")
    # when it is declared as the error says / then both are read
    got = read(None, name="till_*", more={"renamed": {"UNIT_PRICE": "PRICE"}})
    assert [float(row["price"]) for row in got.sales] == [2.5, 3.25, 2.55, 2.5]
    assert got.dataset["tables"]["till"]["files"]["till_2.csv"]["columns_not_used"] == []


def test_renamed_columns_of_a_table_without_header_line(read, tmp_path):
    read.data.mkdir()
    as_frame().rename(columns={"PRICE": "UNIT_PRICE"}).to_parquet(read.data / "till.parquet")
    with pytest.raises(ValueError, match="the nearest is 'UNIT_PRICE', whose values read as decimal"):
        read(None, name="till.parquet")
    got = read(None, name="till.parquet", more={"renamed": {"UNIT_PRICE": "PRICE"}})
    assert [float(row["price"]) for row in got.sales] == [2.5, 3.25, 2.55, 2.5]


def test_a_column_that_was_always_beside_is_not_taken_for_a_renamed_one(read):
    # given files with a further column, one of them without the price
    read.data.mkdir()
    (read.data / "till_1.csv").write_text(text(*[f"{line},9.5" for line in LINES], header=HEADER + ",COST"))
    short = [",".join([*line.split(",")[:5], *line.split(",")[6:], "9.5"]) for line in LINES]
    (read.data / "till_2.csv").write_text(text(*short, header=HEADER.replace("PRICE,", "") + ",COST"))
    with pytest.raises(ValueError, match=r"till_2.csv: column 'PRICE' is missing \(there are"):
        read(None, name="till_*")


def test_one_delivery_as_two_files_is_refused_with_both_names(read):
    read.data.mkdir()
    for name in ("till_1.csv", "till_2.csv"):
        (read.data / name).write_text(text(*LINES))
    with pytest.raises(ValueError, match="till_1.csv and till_2.csv: have the same content"):
        read(None, name="till_*")
    # two files without a row are no delivery
    (read.data / "till_2.csv").write_text(text())
    (read.data / "till_3.csv").write_text(text())
    assert len(read(None, name="till_*").sales) == 4


def test_a_file_that_is_lost_among_many_good_rows_is_refused(read):
    # given a large good file, and a small one all of whose prices are words
    read.data.mkdir()
    (read.data / "till_1.csv").write_text(text(*LINES * 300))
    (read.data / "till_2.csv").write_text(text(*[LINES[1].replace("3.25,3.25", "dear,3.25")] * 10))
    with pytest.raises(ValueError, match="till_2.csv: 10 of 10 rows are bad.*'PRICE' is not a decimal .*'dear'"):
        read(None, name="till_*", max_bad_share=0.01)
    # a few bad lines of a small file are none
    (read.data / "till_2.csv").write_text(text(*[LINES[1]] * 10, *[LINES[1].replace("3.25,3.25", "dear,3.25")] * 3))
    assert read(None, name="till_*", max_bad_share=0.01).dataset["rows_set_aside"] == 3


def test_rows_are_counted_by_month(read):
    # given bad lines of two months, of a query that leaves one out, and of no month
    february = [line.replace("1/5/", "2/5/").replace("1/6/", "2/6/") for line in LINES]
    bad = [
        february[0].replace("2.50", "-1"),
        february[1].replace("3.25,", "dear,", 1),
        "x",
        LINES[0].replace("1/5", "2/30"),
    ]
    got = read(text(*LINES, *february, *bad), sql=f"{SQL} WHERE PIECES <> 4")
    # then each month has its own
    assert got.dataset["months"] == {
        "2022-01": {"rows_in": 3, "rows_set_aside": 1},
        "2022-02": {"rows_in": 3, "rows_set_aside": 3},
        "unknown": {"rows_in": 0, "rows_set_aside": 2},
    }


def test_lines_without_a_partner_in_a_join_are_set_aside(read):
    # given a table of cities that lacks one, has one twice, and declares its key
    read.data.mkdir()
    (read.data / "cities.csv").write_text("CITY,COUNTRY\nMontréal,Canada\nMontréal,Canada\n")
    cities = {"name": "cities", "path": "cities.csv", "columns": {"CITY": "text", "COUNTRY": "text"}, "key": ["CITY"]}
    till = {"name": "till", "path": "till.csv", "date_format": "%m/%d/%Y", "columns": COLUMNS}
    sql = SQL.replace(
        "_file, _line FROM till", "COUNTRY AS country, till._file, till._line FROM till JOIN cities USING (CITY)"
    )
    # when sales are joined to it
    got = read(text(*LINES), sql=sql, files=[till, cities], lacks=["product"])
    # then nothing is lost silently, and nothing counted twice
    assert [row["country"] for row in got.sales] == ["Canada", "Canada"]
    assert got.dataset["rows_left_out_by_query"] == 2
    assert [(row["table"], row["line"], row["reason"]) for row in got.aside] == [
        ("cities", 3, "repeats the key"),
        ("till", 4, "is left out by toy.sql"),
        ("till", 5, "is left out by toy.sql"),
    ]
    assert got.aside[1]["row"] == LINES[2]


def test_a_query_that_adds_up_counts_its_own_rows(read):
    sql = """SELECT STORE AS store_id, DATE AS date, min(CITY) AS city, CATEGORY AS category, avg(PRICE) AS price,
        sum(PIECES) AS quantity_sold, NULL AS weather, true AS promotion, bool_or(HOLIDAY) AS holiday
        FROM till GROUP BY ALL"""
    got = read(text(*LINES, LINES[0], LINES[0].replace("S1", "S3").replace("2.50", "-1"), "x"), sql=sql)
    assert got.dataset["rows_read"] == 5 and got.dataset["counted"].startswith("rows of the query")
    assert {(row["file"], row["first_line"]) for row in got.lineage} == {("till.csv", None)}  # the only one there is
    assert [(row["table"], row["line"], row["column"]) for row in got.aside] == [
        ("till", 8, None),
        ("toy.sql", 5, "price"),
    ]


def test_a_plan_is_read_by_its_own_query(read, tmp_path):
    read.data.mkdir()
    (read.data / "plan.csv").write_text("STORE,MONTH\nS1,2022-02-01\nS1,2022-02-01\nS2,2022-02-02\n")
    plan = {
        "name": "plan",
        "path": "plan.csv",
        "columns": {"STORE": "text", "MONTH": "date"},
        "date_format": "%Y-%m-%d",
    }
    till = {"name": "till", "path": "till.csv", "date_format": "%m/%d/%Y", "columns": COLUMNS}
    (tmp_path / "toy.plan.sql").write_text("""SELECT STORE AS store_id, MONTH AS month, MONTH - 1 AS published,
        NULL::DOUBLE AS price, 0.5 AS promotion_share, 28 AS trading_days, _file, _line FROM plan""")
    got = read(text(*LINES), files=[till, plan], plan_sql=tmp_path / "toy.plan.sql")
    assert pq.read_table(got.gives.plan).num_rows == 1
    assert {(row["line"], row["reason"]) for row in got.aside} == {
        (3, "repeats the key"),
        (4, "is not the first day of a month"),
    }


def as_frame() -> pd.DataFrame:
    frame = pd.DataFrame([line.split(",") for line in LINES], columns=HEADER.split(","))
    frame["DATE"] = pd.to_datetime(frame.DATE, format="%m/%d/%Y")
    frame[["PIECES"]] = frame[["PIECES"]].astype(int)
    frame[["PRICE", "TOTAL"]] = frame[["PRICE", "TOTAL"]].astype(float)
    frame["HOLIDAY"] = frame.HOLIDAY == "True"
    return frame


def sqlite_table(path, name, frame):
    "Without pandas' to_sql, which changes how dates are read from SQLite in the whole process: Feast's then fail."
    with contextlib.closing(sqlite3.connect(path)) as con, con:
        con.execute(f"CREATE TABLE {name} ({', '.join(frame.columns)})")
        rows = [[None if pd.isna(v) else v for v in row] for row in frame.astype(object).itertuples(index=False)]
        con.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * frame.shape[1])})", rows)


@pytest.mark.parametrize("kind", ["gzip", "parquet", "duckdb", "sqlite", "one duckdb file"])
def test_the_format_makes_no_difference(read, kind):
    plain = read(text(*LINES)).gives.sales.read_bytes()
    frame, data = as_frame(), read.data
    if kind == "gzip":
        got = read(gzip.compress(text(*LINES).encode()), name="till.csv.gz")
    elif kind == "parquet":
        frame.to_parquet(data / "till.parquet")
        got = read(None, name="till.parquet")
    elif kind == "sqlite":
        sqlite_table(data / "shop.db", "tills", frame.assign(DATE=frame.DATE.dt.strftime("%m/%d/%Y")))
        got = read(None, name="shop.db", more={"table": "tills"})
    else:
        with duckdb.connect(str(data / "shop.duckdb")) as con:
            con.execute("CREATE TABLE tills AS SELECT * FROM frame")
        whole = {"data": data / "shop.duckdb"} if kind.startswith("one") else {}
        got = read(None, name="shop.duckdb", more={"table": "tills"}, **whole)
    assert got.gives.sales.read_bytes() == plain
    assert got.dataset["rows_set_aside"] == 0
    lines = [1, 4] if kind not in ("gzip",) else [2, 5]  # only a text file has a header
    file = {"gzip": "till.csv.gz", "parquet": "till.parquet", "sqlite": "shop.db:tills"}.get(kind, "shop.duckdb:tills")
    assert {row["file"] for row in got.lineage} == {file}
    assert [got.lineage[0]["first_line"], got.lineage[-1]["last_line"]] == lines


@pytest.mark.parametrize("kind", ["parquet", "sqlite"])
def test_tables_are_judged_like_lines(read, kind):
    read.data.mkdir()
    frame = as_frame().assign(PIECES=[3, 1.5, float("nan"), 4], PRICE=[2.5, 3.25, 2.55, float("inf")])
    frame["DATE"] = frame.DATE.dt.strftime("%m/%d/%Y")
    if kind == "parquet":
        frame.to_parquet(read.data / "till.parquet")
        got = read(None, name="till.parquet")
    else:
        sqlite_table(read.data / "till.db", "till", frame)
        got = read(None, name="till.db", more={"table": "till"})
    assert [(row["line"], row["column"]) for row in got.aside] == [(2, "PIECES"), (3, "PIECES"), (4, "PRICE")]
    assert "San José" in got.aside[1]["row"]


def test_a_database_without_a_table_name_and_a_broken_parquet_are_refused(read):
    read.data.mkdir()
    sqlite3.connect(read.data / "shop.db").execute("CREATE TABLE tills (a)").connection.close()
    with pytest.raises(ValueError, match="say which `table` of it"):
        read(None, name="shop.db")
    with pytest.raises(ValueError, match="no such table"):
        read(None, name="shop.db", more={"table": "till"})
    with pytest.raises(ValueError, match="till.parquet: "):
        read(b"PAR1 and no more of it than this", name="till.parquet")


COUNTS = {  # rows, stores, first and last date: as the data's own README says
    "walmart": (421_570, 45, "2010-02-05", "2012-10-26"),
    "maven_market": (269_720 + 7_087, 24, "1997-01-01", "1998-12-30"),
    "dominicks_oj": (106_139, 83, "1990-06-20", "1992-10-07"),  # weeks 40 to 160, dated by their last day
}


@pytest.mark.parametrize("source", COUNTS)
def test_the_real_sources(source, tmp_path):
    if not (SHARED / source).exists():
        pytest.skip(f"no data: {SHARED / source} is not there")
    env = read_env(ROOT, f"env.{source}.yaml")
    names = "source sql plan_sql files lacks key categories returns max_bad_share".split()
    gives = SimpleNamespace(**{n: tmp_path / f"{n}.parquet" for n in ("sales", "lineage", "plan", "quarantine")})
    gives.dataset = tmp_path / "dataset.json"
    ingest(data=SHARED / source, **{name: env[name] for name in names}, gives=gives)
    dataset, lineage = read_json(gives.dataset), pd.read_parquet(gives.lineage)
    given = pd.read_parquet(gives.sales, columns=["store_id", "date"])
    given["month"] = pd.to_datetime(given.date).dt.to_period("M").dt.start_time
    told = lineage.assign(month=pd.to_datetime(lineage.month)).groupby(["store_id", "month"]).lines.sum()
    assert told.equals(given.groupby(["store_id", "month"]).size().rename("lines"))
    files = {f: rows["rows_in"] for table in dataset["tables"].values() for f, rows in table["files"].items()}
    by_file = lineage.groupby("file").lines.sum().to_dict()
    assert by_file == {file: files[file] for file in by_file} and sum(by_file.values()) == dataset["rows_in"]
    assert len(by_file) == (3 if source == "maven_market" else 1)  # two of transactions, one of returns
    assert (dataset["rows_read"], dataset["stores"], dataset["first_date"], dataset["last_date"]) == COUNTS[source]
    assert dataset["rows_in"] == dataset["rows_read"]
