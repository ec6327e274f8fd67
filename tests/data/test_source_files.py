"A source's files: broken ones lose their bad rows only, and neither format, encoding nor order makes a difference."

import contextlib
import gzip
import sqlite3

import duckdb
import pandas as pd
import pytest
from tills import COLUMNS, HEADER, LINES, assert_costs_itself_only, assert_refused, reader, text

from brewcast.data.source_files import looks_like, numbered_lines


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


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
}


@pytest.mark.parametrize("bad, column, reason", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_costs_itself_only(read, bad, column, reason):
    assert_costs_itself_only(read, bad, column, reason)


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
    "no file": (None, {"more": {"path": "tills*.csv"}}, "tills[*].csv does not exist"),
    "an unknown setting": (text(*LINES), {"more": {"colums": {}}}, "unknown ['colums']"),
    "an unknown type": (
        text(*LINES),
        {"more": {"columns": COLUMNS | {"CITY": "str"}}},
        "type 'str' is none of text, integer",
    ),
    "an ambiguous date": (text(*LINES), {"more": {"date_format": "%m/%d/%y"}}, "two-digit years are ambiguous"),
    "another key": (text(*LINES), {"more": {"key": ["RECEIPT"]}}, "the key's ['RECEIPT'] are no columns"),
}


@pytest.mark.parametrize("content, settings, said", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_with_the_reason(read, content, settings, said):
    assert_refused(read, content, settings, said)


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


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_is_cut_into_the_same_lines_whatever_is_read_at_a_time(tmp_path, end):
    # given lines of all lengths in UTF-8, one of them in Windows-1252, and a last one without an end
    lines = ["first"] + [f"{i} é" + "№" * (i % 40) for i in range(300)]
    raw = end.join(lines).encode().replace("40 é".encode(), "40 é".encode("cp1252"), 1)
    (tmp_path / "till.csv").write_bytes(raw)
    (tmp_path / "till.csv.gz").write_bytes(gzip.compress(raw))
    # then every line has its number and its text, however many bytes are read at once, packed or not
    for name in ("till.csv", "till.csv.gz"):
        for size in (64, 65, 127, 1000, 1 << 22):
            batches = [batch.to_pydict() for batch in numbered_lines(tmp_path / name, size)]
            assert [text for batch in batches for text in batch["text"]] == lines
            assert [n for batch in batches for n in batch["_line"]] == list(range(1, len(lines) + 1))
            assert size > 1000 or len(batches) > 3


@pytest.mark.parametrize(
    "texts, told",
    [
        (["1", "-2", "3.0"], "whole numbers"),
        (["1", "2.5", ".5"], "decimal numbers"),
        (["2022-01-31", "2022-02-28"], "dates as %Y-%m-%d"),
        (["01/31/2022", "02/28/2022"], "dates as %m/%d/%Y"),
        (["31/01/2022", "28/02/2022"], "dates as %d/%m/%Y"),
        (["31.01.2022"], "dates as %d.%m.%Y"),
        (["yes", "No", "TRUE"], "yes or no"),
        (["Coffee", "1", "2022-01-31"], "text"),
        (["1"] * 19 + ["dear"], "whole numbers"),  # one in twenty may be a mistake
        (["1"] * 18 + ["dear"], "text"),
        ([], "text"),
    ],
)
def test_what_a_column_looks_like_is_said_in_words(texts, told):
    assert looks_like(texts) == told
