"A source's files: only bad rows are lost, and format, encoding and order make no difference."

import contextlib
import datetime as dt
import gzip
import lzma
import os
import re
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from tills import COLUMNS, HEADER, LINES, SQL, assert_only_bad_line_is_lost, assert_refused, csv_text, make_reader

from brewcast.common.hashing import sha256
from brewcast.common.parameter_types import ReadLimits, SourceTable
from brewcast.common.params import read_env
from brewcast.data import source_files
from brewcast.data.quality import check_unused_columns
from brewcast.data.source_files import DEFAULT_LIMITS, describe_values, numbered_lines


@pytest.fixture
def read(tmp_path):
    return make_reader(tmp_path)


BAD_LINES = {  # a line's text, the bad column and the reason
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
def test_a_bad_line_loses_only_itself(read, bad, column, reason):
    assert_only_bad_line_is_lost(read, bad, column, reason)


def test_a_bad_line_is_reported_once_with_its_first_problem(read):
    result = read(csv_text(*LINES, "S1,2/30/2022,Montréal,Cofee,3.5,-1,,Foggy,Yes,False"))
    assert [(row["column"], row["line"]) for row in result.quarantine] == [("DATE", 6)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
def test_line_ends_and_encodings_make_no_difference(read, encoding, end):
    plain = read(csv_text(*LINES)).sales_bytes
    result = read(csv_text(*LINES).replace("\n", end).encode(encoding))
    assert result.dataset["rows_set_aside"] == 0
    assert result.sales_bytes == plain


def test_quotes_blanks_column_order_and_further_columns_make_no_difference(read):
    plain = read(csv_text(*LINES)).sales_bytes
    names = HEADER.split(",")
    turned = [",".join(f'"{field}"' for field in reversed(line.split(","))) + ', "a ""b"", c"' for line in LINES]
    result = read(csv_text(*turned, "", "  ", header=" , ".join(reversed(names)) + ",NOTE"))
    assert result.dataset["tables"]["till"]["files"]["till.csv"]["columns_not_used"] == ["NOTE"]
    assert result.dataset["rows_read"] == 4  # blank lines do not count
    assert result.sales_bytes == plain


def test_a_truncated_last_line_is_quarantined(read):
    whole = csv_text(*LINES)
    result = read(whole[: -len("Yes,False\n")])
    assert (len(result.sales), [row["line"] for row in result.quarantine]) == (3, [5])


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("above", [["Sales"], ["", "Sales, 2022", ""], ['the "till', "S9," * 9, *["x" * 999] * 99]])
def test_lines_above_the_header_are_skipped_and_counted(read, above, packed):
    # given a title, blank lines or a note above the header, and a bad line
    content = packed(csv_text(*LINES[:2], "x", *LINES[2:], header="\n".join([*above, HEADER])).encode())
    # when the table declares how many
    result = read(content, settings={"skip_lines": len(above)})
    # then the rows are those of a file without them, and a line's number is the file's
    assert [(row["line"], row["row"]) for row in result.quarantine] == [(len(above) + 4, "x")]
    assert result.sales == read(csv_text(*LINES)).sales


def test_a_quoted_delimiter_and_another_delimiter(read):
    result = read(csv_text(LINES[0].replace("Montréal", '"Montréal, QC"'), *LINES[1:]))
    assert result.sales[0]["city"] == "Montréal, QC"
    result = read(csv_text(*LINES).replace(",", ";"), settings={"delimiter": ";"})
    assert len(result.sales) == 4


def test_declared_null_values_are_missing(read):
    result = read(csv_text(LINES[0].replace("Hot", "NA"), LINES[1]), settings={"null_values": ["NA"]})
    assert [row["weather"] for row in result.sales] == [None, None]


REFUSED = {  # content, arguments of `read`, and a part of the error message
    "empty": ("", {}, "till.csv: is empty"),
    "blank": ("\n \n", {}, "till.csv: is empty"),
    "a missing column": (
        csv_text(*LINES).replace("PRICE", "PRIZE"),
        {},
        "till.csv: column 'PRICE' is missing; the nearest is 'PRIZE'",
    ),
    "a column twice": (csv_text(*LINES).replace("TOTAL", "PRICE"), {}, "column 'PRICE' occurs twice"),
    "UTF-16 without a mark": (
        csv_text(*LINES).encode("utf-16-le"),
        {},
        "till.csv: contains zero bytes, so it is not text in UTF-8 or Windows-1252; export it as UTF-8, or declare its `encoding`",
    ),
    "a zip archive": (b"PK\x03\x04" + bytes(40), {}, "till.csv: is a zip archive or an Excel workbook: unpack it"),
    "a zip archive in gzip": (
        gzip.compress(b"PK\x03\x04" + bytes(40)),
        {},
        "till.csv: is a zip archive or an Excel workbook: unpack it",
    ),
    "xz": (
        lzma.compress(csv_text(*LINES).encode()),
        {},
        "till.csv: is compressed by xz: unpack it, or compress it by gzip",
    ),
    "a title": (
        csv_text("", "As of 5 January, preliminary", HEADER, *LINES, header="Sales 2022"),
        {},
        "till.csv: column 'STORE' is missing; its header seems to be line 4, which has 10 of the 10 declared columns:"
        " declare `skip_lines: 3` under files: till",
    ),
    "a title above a header of other names": (
        csv_text(*LINES, header=f"Sales\n{HEADER.replace('PRICE', 'PRECIO')}"),
        {},
        "its header seems to be line 2, which has 9 of the 10 declared columns: declare `skip_lines: 1`",
    ),
    "too many lines skipped": (
        csv_text(*LINES),
        {"settings": {"skip_lines": 2}},
        "its header seems to be line 1, which has 10 of the 10 declared columns, and skip_lines is 2: declare `skip_lines: 0`",
    ),
    "all lines skipped": (
        csv_text(*LINES),
        {"settings": {"skip_lines": 9}},
        "till.csv: has no line after the 9 lines that `skip_lines` skips",
    ),
    "truncated gzip": (
        gzip.compress(csv_text(*LINES * 99).encode())[:-20],
        {},
        "till.csv: the gzip file is damaged or cut",
    ),
    "changed gzip": (
        gzip.compress(csv_text(*LINES).encode())[:-8] + b"12345678",
        {},
        "the gzip file is damaged or cut",
    ),
    "a renamed column": (
        csv_text(*LINES).replace("PRICE", "PRECIO"),
        {},
        "column 'PRICE' is missing; the nearest is 'PRECIO', whose values read as decimal, such as '2.50' and '3.25'."
        " If it is the same column, add `renamed: {PRECIO: PRICE}` to files: till",
    ),
    "renamed to a different name": (
        csv_text(*LINES).replace("PIECES", "QTY"),
        {},
        "the nearest is 'QTY', whose values read as integer, such as '3' and '1'",
    ),
    "a similar name of another type": (
        csv_text(*LINES)
        .replace("PRICE", "PRICES")
        .replace("2.50", "cheap")
        .replace("3.25", "dear")
        .replace("2.55", "dear"),
        {},
        "column 'PRICE' is missing; the nearest is 'PRICES' (columns: ",
    ),
    "no file": (None, {"settings": {"path": "tills*.csv"}}, "tills[*].csv does not exist"),
    "an unknown type": (
        csv_text(*LINES),
        {"settings": {"columns": COLUMNS | {"CITY": "str"}}},
        "unknown type 'str': use one of text, integer",
    ),
    "an ambiguous date": (csv_text(*LINES), {"settings": {"date_format": "%m/%d/%y"}}, "two-digit years are ambiguous"),
}


@pytest.mark.parametrize("content, arguments, message", REFUSED.values(), ids=REFUSED)
def test_an_unusable_file_or_setting_is_refused_with_the_reason(read, content, arguments, message):
    assert_refused(read, content, arguments, message)


def test_several_files_are_one_table_and_each_is_counted(read):
    read.data.mkdir()
    (read.data / "till_2.csv").write_text(csv_text(*LINES[2:], "x", header=HEADER))
    (read.data / "till_1.csv.gz").write_bytes(gzip.compress(csv_text(*LINES[:2]).encode()))
    result = read(None, name="till_*")
    counted = {file: rows["rows_read"] for file, rows in result.dataset["tables"]["till"]["files"].items()}
    assert counted == {"till_1.csv.gz": 2, "till_2.csv": 3}
    assert (result.quarantine[0]["file"], result.quarantine[0]["line"]) == ("till_2.csv", 4)
    assert [
        (row["store_id"], row["file"], row["lines"], row["first_line"], row["last_line"]) for row in result.lineage
    ] == [
        ("S1", "till_1.csv.gz", 2, 2, 3),
        ("S2", "till_2.csv", 2, 2, 3),
    ]


def test_a_renamed_column_continues_the_old_one(read):
    # given a file from before and one from after a column was renamed
    read.data.mkdir()
    (read.data / "till_1.csv").write_text(csv_text(*LINES[:2]))
    (read.data / "till_2.csv").write_text(csv_text(*LINES[2:], header=HEADER.replace("PRICE", "UNIT_PRICE")))
    with pytest.raises(ValueError, match="till_2.csv: column 'PRICE' is missing; the nearest is 'UNIT_PRICE'"):
        read(None, name="till_*")
    # when it is declared as the error suggests / then both are read
    result = read(None, name="till_*", settings={"renamed": {"UNIT_PRICE": "PRICE"}})
    assert [float(row["price"]) for row in result.sales] == [2.5, 3.25, 2.55, 2.5]
    assert result.dataset["tables"]["till"]["files"]["till_2.csv"]["columns_not_used"] == []


def test_renamed_columns_of_a_table_without_header_line(read, tmp_path):
    read.data.mkdir()
    till_frame().rename(columns={"PRICE": "UNIT_PRICE"}).to_parquet(read.data / "till.parquet")
    with pytest.raises(ValueError, match="the nearest is 'UNIT_PRICE', whose values read as decimal"):
        read(None, name="till.parquet")
    result = read(None, name="till.parquet", settings={"renamed": {"UNIT_PRICE": "PRICE"}})
    assert [float(row["price"]) for row in result.sales] == [2.5, 3.25, 2.55, 2.5]


def test_a_column_that_earlier_files_also_had_is_not_suggested_as_renamed(read):
    # given files with a further column, one of them without the price
    read.data.mkdir()
    (read.data / "till_1.csv").write_text(csv_text(*[f"{line},9.5" for line in LINES], header=HEADER + ",COST"))
    short = [",".join([*line.split(",")[:5], *line.split(",")[6:], "9.5"]) for line in LINES]
    (read.data / "till_2.csv").write_text(csv_text(*short, header=HEADER.replace("PRICE,", "") + ",COST"))
    with pytest.raises(ValueError, match=r"till_2.csv: column 'PRICE' is missing \(columns: "):
        read(None, name="till_*")


def test_two_files_with_the_same_content_are_refused_with_both_names(read):
    read.data.mkdir()
    for name in ("till_1.csv", "till_2.csv"):
        (read.data / name).write_text(csv_text(*LINES))
    with pytest.raises(ValueError, match="till_1.csv and till_2.csv: have the same content"):
        read(None, name="till_*")
    # two files without rows may have the same content
    (read.data / "till_2.csv").write_text(csv_text())
    (read.data / "till_3.csv").write_text(csv_text())
    assert len(read(None, name="till_*").sales) == 4


def till_frame() -> pd.DataFrame:
    frame = pd.DataFrame([line.split(",") for line in LINES], columns=HEADER.split(","))
    frame["DATE"] = pd.to_datetime(frame.DATE, format="%m/%d/%Y")
    frame[["PIECES"]] = frame[["PIECES"]].astype(int)
    frame[["PRICE", "TOTAL"]] = frame[["PRICE", "TOTAL"]].astype(float)
    frame["HOLIDAY"] = frame.HOLIDAY == "True"
    return frame


def write_sqlite_table(path, name, frame):
    "Without pandas' to_sql, which changes how dates are read from SQLite in the whole process: Feast's then fail."
    with contextlib.closing(sqlite3.connect(path)) as con, con:
        con.execute(f"CREATE TABLE {name} ({', '.join(frame.columns)})")
        rows = [[None if pd.isna(v) else v for v in row] for row in frame.astype(object).itertuples(index=False)]
        con.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * frame.shape[1])})", rows)


@pytest.mark.parametrize("kind", ["gzip", "parquet", "duckdb", "sqlite", "one duckdb file"])
def test_the_format_makes_no_difference(read, kind):
    plain = read(csv_text(*LINES)).sales_bytes
    frame, data = till_frame(), read.data
    if kind == "gzip":
        result = read(gzip.compress(csv_text(*LINES).encode()), name="till.csv.gz")
    elif kind == "parquet":
        frame.to_parquet(data / "till.parquet")
        result = read(None, name="till.parquet")
    elif kind == "sqlite":
        write_sqlite_table(data / "shop.db", "tills", frame.assign(DATE=frame.DATE.dt.strftime("%m/%d/%Y")))
        result = read(None, name="shop.db", settings={"table": "tills"})
    else:
        with duckdb.connect(str(data / "shop.duckdb")) as con:
            con.execute("CREATE TABLE tills AS SELECT * FROM frame")
        whole = {"data": data / "shop.duckdb"} if kind.startswith("one") else {}
        result = read(None, name="shop.duckdb", settings={"table": "tills"}, **whole)
    assert result.sales_bytes == plain
    assert result.dataset["rows_set_aside"] == 0
    lines = [1, 4] if kind not in ("gzip",) else [2, 5]  # only a text file has a header
    file = {"gzip": "till.csv.gz", "parquet": "till.parquet", "sqlite": "shop.db:tills"}.get(kind, "shop.duckdb:tills")
    assert {row["file"] for row in result.lineage} == {file}
    assert [result.lineage[0]["first_line"], result.lineage[-1]["last_line"]] == lines


@pytest.mark.parametrize("kind", ["parquet", "sqlite"])
def test_rows_of_a_table_are_checked_like_lines(read, kind):
    read.data.mkdir()
    frame = till_frame().assign(PIECES=[3, 1.5, float("nan"), 4], PRICE=[2.5, 3.25, 2.55, float("inf")])
    frame["DATE"] = frame.DATE.dt.strftime("%m/%d/%Y")
    if kind == "parquet":
        frame.to_parquet(read.data / "till.parquet")
        result = read(None, name="till.parquet")
    else:
        write_sqlite_table(read.data / "till.db", "till", frame)
        result = read(None, name="till.db", settings={"table": "till"})
    assert [(row["line"], row["column"]) for row in result.quarantine] == [(2, "PIECES"), (3, "PIECES"), (4, "PRICE")]
    assert "San José" in result.quarantine[1]["row"]


def test_a_database_without_a_table_name_and_a_broken_parquet_are_refused(read):
    read.data.mkdir()
    sqlite3.connect(read.data / "shop.db").execute("CREATE TABLE tills (a)").connection.close()
    with pytest.raises(ValueError, match="declare which `table` of it to read"):
        read(None, name="shop.db")
    with pytest.raises(ValueError, match="no such table"):
        read(None, name="shop.db", settings={"table": "till"})
    with pytest.raises(ValueError, match="till.parquet: "):
        read(b"PAR1 and no more of it than this", name="till.parquet")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_lines_do_not_depend_on_the_block_size(tmp_path, end):
    # given lines of all lengths in UTF-8, one of them in Windows-1252, and a last one without an end
    lines = ["first"] + [f"{i} é" + "№" * (i % 40) for i in range(300)]
    raw = end.join(lines).encode().replace("40 é".encode(), "40 é".encode("cp1252"), 1)
    (tmp_path / "till.csv").write_bytes(raw)
    (tmp_path / "till.csv.gz").write_bytes(gzip.compress(raw))
    # then every line has its number and text, for any block size, compressed or not
    for name in ("till.csv", "till.csv.gz"):
        for size in (64, 65, 127, 1000, 1 << 22):
            batches = [batch.to_pydict() for batch in numbered_lines(tmp_path / name, size)]
            assert [text for batch in batches for text in batch["text"]] == lines
            assert [n for batch in batches for n in batch["_line"]] == list(range(1, len(lines) + 1))
            assert size > 1000 or len(batches) > 3


@pytest.mark.parametrize(
    "texts, description",
    [
        (["1", "-2", "3.0"], "whole numbers"),
        (["2022-01-31", "2022-02-28"], "dates as %Y-%m-%d"),
        (["01/31/2022", "02/28/2022"], "dates as %m/%d/%Y"),
        (["31/01/2022", "28/02/2022"], "dates as %d/%m/%Y"),
        (["31.01.2022"], "dates as %d.%m.%Y"),
        (["yes", "No", "TRUE"], "yes or no"),
        (["Coffee", "1", "2022-01-31"], "text"),
        ([], "text"),
        (["1.234,50"], 'decimal numbers with other separators (declare `decimal: ","` and `thousands: "."`)'),
    ],
)
def test_a_columns_values_are_described_in_words(texts, description):
    assert describe_values(texts) == description


# -- one store has one name


INVISIBLE = {
    "a carriage return": "S1\r",
    "a non-breaking blank": "\u00a0S1\u00a0",
    "no width": "\u200bS1\ufeff",
    "a tab and a blank": "\tS1 ",
    "a control character": "S\x011",
    "a soft hyphen": "S\u00ad1",
}


@pytest.mark.parametrize("written", INVISIBLE.values(), ids=INVISIBLE)
def test_invisible_characters_make_no_second_store(read, written):
    # given the store's first line with invisible characters / then it is the same store, quoted or not
    plain = read(csv_text(*LINES)).sales_bytes
    for field in (written, f'"{written}"'):
        result = read(csv_text(field + LINES[0][2:], *LINES[1:]).replace("\n", "\r\n"))
        assert result.sales_bytes == plain


def test_composed_letters_decomposed_letters_and_double_blanks_are_one_name(read):
    plain = read(csv_text(*LINES)).sales_bytes
    decomposed = [LINES[0].replace("é", "e\u0301"), *LINES[1:2], LINES[2].replace("San José", "San  Jose\u0301")]
    assert read(csv_text(*decomposed, LINES[3].replace("San ", "San\u00a0"))).sales_bytes == plain
    # in a column's name too
    header = HEADER.replace("CITY", "\ufeffCITE\u0301 ")
    columns = {column.replace("CITY", "CITÉ"): kind for column, kind in COLUMNS.items()}
    sql = SQL.replace("CITY AS", "CITÉ AS")
    assert read(csv_text(*LINES, header=header), sql=sql, settings={"columns": columns}).sales_bytes == plain


@pytest.mark.parametrize("kind", ["parquet", "duckdb", "sqlite"])
def test_texts_of_tables_are_normalized_and_whole_numbers_have_no_decimals(read, kind):
    # given store ids as numbers with decimals, and texts with invisible characters
    read.data.mkdir()
    frame = till_frame().assign(STORE=[101.0, 101.0, 102.5, 102.5])
    frame["CITY"] = frame.CITY + "\u00a0\r"
    content, name, settings = write_as(read.data, frame, kind)
    result = read(content, name, settings=settings)
    assert [row["store_id"] for row in result.sales] == ["101", "101", "102.5", "102.5"]
    assert {row["city"] for row in result.sales} == {"Montréal", "San José"}


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_bytes_are_refused_as_a_store_id(read, kind):
    # given a store whose id is stored as bytes, in SQLite in some rows
    read.data.mkdir()
    bad = 2 if kind == "sqlite" else 4
    frame = till_frame().assign(STORE=[b"S1", b"S1", "S2", "S2"] if kind == "sqlite" else [b"S1"] * 4)
    name, settings = write_as(read.data, frame, kind)[1:]
    message = rf"{bad} of 4 rows are bad.*'STORE' is bytes \(a BLOB\), no text or number: store it as text \({bad} rows"
    with pytest.raises(ValueError, match=message):
        read(None, name, settings=settings, max_bad_share=0.3)
    aside = pq.read_table(read.data.parent / "out" / "quarantine.parquet").to_pylist()
    assert "2 bytes" in aside[0]["row"] and "\0" not in aside[0]["row"]


def test_bytes_of_an_old_parquet_file_are_read_as_text(read):
    read.data.mkdir()
    plain = read(csv_text(*LINES)).sales_bytes
    frame = till_frame()
    frame["CITY"] = [city.encode() for city in frame.CITY]
    frame.to_parquet(read.data / "till.parquet")
    assert read(None, name="till.parquet").sales_bytes == plain
    frame["CITY"] = [b"\xff", *frame.CITY[1:]]
    frame.to_parquet(read.data / "till.parquet")
    assert [(row["line"], row["column"]) for row in read(None, name="till.parquet").quarantine] == [(1, "CITY")]


def write_as(data, frame: pd.DataFrame, kind: str) -> tuple:
    "Write a table to a file; returns content, name and settings for `read`."
    if kind == "sqlite":
        (data / "till.db").unlink(missing_ok=True)
        write_sqlite_table(data / "till.db", "tills", frame.assign(DATE=frame.DATE.dt.strftime("%m/%d/%Y")))
        return None, "till.db", {"table": "tills"}
    if kind == "duckdb":
        (data / "till.duckdb").unlink(missing_ok=True)
        with duckdb.connect(str(data / "till.duckdb")) as con:
            con.execute("CREATE TABLE tills AS SELECT * FROM frame")
        return None, "till.duckdb", {"table": "tills"}
    frame.to_parquet(data / "till.parquet")
    return None, "till.parquet", {}


# -- numbers


def read_pieces(read, *written: str, **settings) -> list:
    "The pieces that ingest reads; None if the line goes to quarantine."
    lines = [f"S{i};1/5/2022;Boston;Coffee;{number};2.50;;;;False" for i, number in enumerate(written)]
    columns = {c: kind for c, kind in COLUMNS.items() if c != "TOTAL"} | {"PRICE": "text"}
    sql = SQL.replace("TOTAL AS total_sale,", "").replace("PRICE AS price", "2.5 AS price")
    columns["PIECES"] = settings.pop("kind", "integer")
    settings = {"delimiter": ";", "columns": columns} | settings
    result = read("\n".join([HEADER.replace(",", ";"), *lines]), sql=sql, settings=settings, returns=True)
    read.last = result
    sold = {row["store_id"]: row["quantity_sold"] for row in result.sales}
    return [sold.get(f"S{i}") for i in range(len(written))]


def test_an_integer_with_three_decimals_is_unclear_until_separators_are_declared(read):
    # given whole numbers as pandas writes them, and some that may be thousands
    written = ["5", "5.0", "5.00", "1234.000", "0.000", "1.000", "12.000", "-1.000"]
    assert read_pieces(read, *written) == [5, 5, 5, 1234, 0, None, None, None]
    assert {row["reason"] for row in read.last.quarantine} == {
        'may have decimals or \'.\' between thousands: declare `decimal: "."` or `thousands: "."` under files'
    }
    findings = check_unused_columns(read.last.dataset, pd.Timestamp("2022-01-01"))
    assert ["3 rows were set aside" in f.text for f in findings if f.level == "warn"] == [True]
    # then each is read as it is declared
    assert read_pieces(read, "1.000", "12.000", decimal=".") == [1, 12]
    assert read_pieces(read, "1.000", "12.000", "5", thousands=".") == [1000, 12000, 5]


SEPARATORS = {  # settings, good texts with their values, and a bad text
    "German": ({"thousands": "."}, {"1.234,50": "1234.5", "1234,5": "1234.5", "-1.234": "-1234", "7": "7"}, "12.34"),
    "a comma alone": ({"decimal": ","}, {"1234,5": "1234.5", ",5": "0.5"}, "1.234,5"),
    "English": ({"thousands": ","}, {"1,234.50": "1234.5", "1,234,567": "1234567", "12.5": "12.5"}, "1,23"),
    "a blank": ({"decimal": ",", "thousands": " "}, {"1 234,5": "1234.5", "1\u00a0234,5": "1234.5"}, "12 34"),
    "a narrow one": ({"decimal": ",", "thousands": "\u202f"}, {"1\u202f234,5": "1234.5"}, "1\u202f23"),
    "Swiss": ({"thousands": "'"}, {"1'234.50": "1234.5", "1’234.5": "1234.5"}, "12'34"),
    "nothing": ({}, {"1234.50": "1234.5", "5e-1": "0.5", "1.000": "1"}, "1.00.0"),
}


@pytest.mark.parametrize("settings, good, bad", SEPARATORS.values(), ids=SEPARATORS)
@pytest.mark.parametrize("kind", ["decimal", "double"])
def test_numbers_are_read_with_the_declared_separators(read, kind, settings, good, bad):
    result = read_pieces(read, *good, bad, kind=kind, **settings)
    assert result == [*map(Decimal, good.values()), None]


def test_grouped_integers(read):
    assert read_pieces(read, "1.234.567", "123456", "1.23.456", "1.2345", thousands=".") == [
        1234567,
        123456,
        None,
        None,
    ]
    assert read_pieces(read, "1,000", "1,000.0", "1,00", thousands=",") == [1000, 1000, None]


@pytest.mark.parametrize("kind", ["parquet", "duckdb", "sqlite"])
def test_stored_numbers_ignore_the_declared_separators(read, kind):
    # given a table of numbers, with separators declared as for text files
    read.data.mkdir()
    frame = till_frame().assign(
        PIECES=[1000.0, 1.0, 2.0, 4.0], PRICE=[1.125, 3.25, 2.55, 2.5], TOTAL=[1125, 3.25, 5.1, 10]
    )
    content, name, settings = write_as(read.data, frame, kind)
    for signs in ({}, {"decimal": ","}, {"thousands": "."}):
        result = read(content, name, settings=settings | signs)
        assert [float(row["price"]) for row in result.sales] == [1.125, 3.25, 2.55, 2.5]
        assert float(result.sales[0]["quantity_sold"]) == 1000


def test_decimals_that_may_have_thousands_separators_are_reported(read):
    # given weights with three decimals, none of them below one
    def notes():
        return [
            f.text for f in check_unused_columns(read.last.dataset, pd.Timestamp("2022-01-01")) if f.level == "warn"
        ]

    assert read_pieces(read, "1.250", "7", kind="decimal") == [Decimal("1.25"), 7]
    assert len(notes()) == 1 and "'1.250' is read as a decimal number, but might have" in notes()[0]
    for clear in ("0.250", "1.5", "1000"):
        read_pieces(read, "1.250", clear, kind="decimal")
        assert notes() == []
    read_pieces(read, "1.250", "7", kind="decimal", decimal=".")
    assert notes() == []


# -- records of several lines


def test_line_breaks_in_quotes_are_read(read):
    # given a quoted city of two or three lines, with a comma, quotation marks, and the line ends of Windows
    for end in ("\n", "\r\n"):
        for city in ("Mont\nréal", "Mont\n\nréal", "Mont\n, QC", 'The ""\nHub""'):
            lines = [LINES[0].replace("Montréal", f'"{city}"'), *LINES[1:], "x"]
            result = read(csv_text(*lines).replace("\n", end))
            # then the record has the number of its first line, and the other lines keep theirs
            assert len(result.sales) == 4 and [row["line"] for row in result.quarantine] == [6 + city.count("\n")]
            assert result.sales[0]["city"] == " ".join(city.replace('""', '"').split())
            assert [result.lineage[0]["first_line"], result.lineage[-1]["last_line"]] == [2, 5 + city.count("\n")]


def test_a_bad_record_of_several_lines_is_quarantined_whole(read):
    bad = LINES[0].replace("Montréal", '"Mont\nréal"').replace(",3,", ",three,")
    result = read(gzip.compress(csv_text(*LINES, bad).encode()), name="till.csv.gz")
    assert [(row["line"], row["column"], row["row"]) for row in result.quarantine] == [(6, "PIECES", bad)]


def test_a_line_break_in_the_header(read):
    plain = read(csv_text(*LINES)).sales_bytes
    columns = {column.replace("CITY", "CITY NAME"): kind for column, kind in COLUMNS.items()}
    sql = SQL.replace("CITY AS", '"CITY NAME" AS')
    result = read(
        csv_text(*LINES, header=HEADER.replace("CITY", '"CITY\nNAME"')), sql=sql, settings={"columns": columns}
    )
    assert result.sales_bytes == plain and result.lineage[0]["first_line"] == 3


STRAY_MARKS = {  # lines with quotation marks that enclose no field
    "never closed": [LINES[0].replace("Mont", '"Mont')],
    "never opened": [LINES[0].replace("réal", 'réal"')],
    "opened in one line, closed in the next": [LINES[0].replace("Mont", '"Mont'), LINES[1].replace("réal", 'réal"')],
    "inches": [LINES[0].replace("Montréal", '12" pipe'), LINES[1].replace("Montréal", '12" pipe')],
    "opened twice": [LINES[0].replace("Mont", '"Mont'), LINES[1].replace("Mont", '"Mont')],
}


@pytest.mark.parametrize("stray", STRAY_MARKS.values(), ids=STRAY_MARKS)
@pytest.mark.parametrize("apart", [0, 1, 150])
def test_a_stray_quotation_mark_loses_no_other_line(read, stray, apart):
    # given stray marks among good lines, side by side or far from each other
    between = [LINES[3]] * apart
    result = read(csv_text(*LINES, *[line for bad in stray for line in (bad, *between)], *LINES))
    assert {row["reason"] for row in result.quarantine} == {"has an unclosed or stray quotation mark"}
    assert [row["row"] for row in result.quarantine] == stray and len(result.sales) == 8 + apart * len(stray)


@pytest.mark.parametrize("size", [64, 65, 127, 1000, 1 << 22])
def test_records_of_several_lines_do_not_depend_on_the_block_size(tmp_path, size):
    records = ["a,b,c", *[f'{i},"é{"x" * (i % 40)}\n{i}",{i}' if i % 3 else f"{i},é,{i}" for i in range(300)]]
    records += ["1,2,3", '4,"open,5', *["7,8,9"] * 9]
    (tmp_path / "till.csv").write_text("\n".join(records))
    result = [pair for batch in numbered_lines(tmp_path / "till.csv", size, n_fields=3) for pair in batch.to_pylist()]
    assert [row["text"] for row in result] == records
    number = 1
    for row in result:
        assert row["_line"] == number
        number += 1 + row["text"].count("\n")


# -- encodings


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8", "utf-8-sig", "cp1252", "mac_roman"])
def test_a_declared_encoding_makes_no_difference(read, encoding):
    plain = read(csv_text(*LINES)).sales_bytes
    settings = {} if encoding in ("utf-16", "utf-32") else {"encoding": encoding}  # these two have a byte order mark
    for packed in (bytes, gzip.compress):
        result = read(packed(csv_text(*LINES).replace("\n", "\r\n").encode(encoding)), settings=settings)
        assert result.sales_bytes == plain


FOREIGN = {  # encoding: a city in it
    "cp932": "横浜コーヒー",
    "cp949": "서울 강남점",
    "gb18030": "北京朝阳店",
    "cp1251": "Москва",
    "koi8_r": "Москва",
    "cp1253": "Θεσσαλονίκη",
    "cp850": "Málaga Zürich Orléans",
}


@pytest.mark.parametrize("encoding, city", FOREIGN.items())
def test_an_undeclared_encoding_is_refused_with_its_likely_name(read, encoding, city):
    content = csv_text(*[line.replace("Montréal", city).replace("San José", city) for line in LINES]).encode(encoding)
    with pytest.raises(ValueError, match=f"is neither UTF-8 nor Windows-1252 in 4 of 4 .* looks like .*{encoding}"):
        read(content)
    result = read(content, settings={"encoding": encoding})
    assert {row["city"] for row in result.sales} == {city}


def test_a_damaged_line_loses_only_itself_if_the_others_show_the_encoding(read):
    # given a file of UTF-8, or of Windows-1252, with one line of bytes that are neither
    for encoding, settings in (("utf-8", {}), ("cp1252", {}), ("utf-8", {"encoding": "utf-8"})):
        bad = LINES[0].replace("Montréal", "Mont#al").encode().replace(b"#", b"\x81\xff")
        result = read(csv_text(*LINES * 10).encode(encoding) + bad, settings=settings)
        assert len(result.sales) == 40 and [row["line"] for row in result.quarantine] == [42]
        reason = "holds bytes that are not utf-8" if settings else "is neither UTF-8 nor Windows-1252"
        assert result.quarantine[0]["reason"] == reason and "Mont\ufffd\ufffdal" in result.quarantine[0]["row"]


# -- the day at the till


ZONED_FORMAT = "%Y-%m-%d %H:%M:%S %z"


def read_days(read, times: list[str], **settings) -> list[str]:
    lines = [f"S{i},{time}{LINES[0][11:]}" for i, time in enumerate(times)]
    result = read(csv_text(*lines), settings={"date_format": ZONED_FORMAT} | settings)
    assert result.dataset["rows_set_aside"] == 0
    return [str(row["date"]) for row in result.sales]


def test_a_time_with_an_offset_has_the_date_written_in_it(read):
    late = [
        "2025-06-30 21:45:00 -0400",
        "2025-06-30 00:15:00 +02:00",
        "2025-06-30 21:45:00 Z",
        "2025-06-30 21:45:00 -04",
    ]
    assert read_days(read, late) == ["2025-06-30"] * 4
    iso = ["2025-06-30T21:45:00-04:00", "2025-06-30T21:45:00"]
    assert read_days(read, iso, date_format="%Y-%m-%dT%H:%M:%S%z") == ["2025-06-30"] * 2
    assert read_days(read, ["Mon Jun 30 21:45:00 -0400 2025"], date_format="%a %b %d %H:%M:%S %z %Y") == ["2025-06-30"]
    assert read_days(read, ["2025-06-30 21:45:00 EST"], date_format="%Y-%m-%d %H:%M:%S %Z") == ["2025-06-30"]


def test_a_time_with_an_offset_has_the_date_in_the_declared_time_zone(read):
    times = [
        "2025-07-01 01:45:00 Z",
        "2025-07-01 01:45:00 +0000",
        "2025-06-30 21:45:00 -0400",
        "2025-07-01 07:15:00 +0530",
    ]
    assert read_days(read, times, timezone="America/New_York") == ["2025-06-30"] * 4
    assert read_days(read, ["2025-06-30 21:45:00"], timezone="Asia/Tokyo") == ["2025-06-30"]  # already local time
    # a literal Z in the format means UTC as well
    form = {"date_format": "%Y-%m-%dT%H:%M:%SZ", "timezone": "America/New_York"}
    assert read_days(read, ["2025-07-01T01:45:00Z", "2025-07-01T05:00:00Z"], **form) == ["2025-06-30", "2025-07-01"]


def write_zoned_parquet(data, zone: str, hour: int = 21):
    "A Parquet file of sales late on the last day of June in New York, as instants."
    frame = till_frame()
    frame["DATE"] = pd.to_datetime([f"2025-06-30 {hour}:45:00"] * 4).tz_localize("America/New_York")
    table = pa.Table.from_pandas(frame.assign(DATE=frame.DATE.dt.tz_convert(zone)), preserve_index=False)
    data.mkdir(exist_ok=True)
    pq.write_table(table, data / "till.parquet")


def test_instants_have_the_date_in_the_files_time_zone(read):
    for zone in ("America/New_York", "-04:00"):
        write_zoned_parquet(read.data, zone)
        assert {str(row["date"]) for row in read(None, name="till.parquet").sales} == {"2025-06-30"}
    # in UTC, the time zone of the tills is unknown
    write_zoned_parquet(read.data, "UTC")
    with pytest.raises(
        ValueError, match=r"'DATE' has instants in UTC \(4 of 4 rows not at midnight\).*declare `timezone`"
    ):
        read(None, name="till.parquet")
    for zone, day in (("America/New_York", "2025-06-30"), ("UTC", "2025-07-01")):
        result = read(None, name="till.parquet", settings={"timezone": zone, "date_format": ZONED_FORMAT})
        assert {str(row["date"]) for row in result.sales} == {day}
    # instants at midnight in UTC are days
    frame = till_frame().assign(DATE=pd.to_datetime(["2025-06-30"] * 4, utc=True))
    frame.to_parquet(read.data / "till.parquet")
    assert {str(row["date"]) for row in read(None, name="till.parquet").sales} == {"2025-06-30"}


def test_instants_of_a_duckdb_table_need_the_tills_time_zone(read):
    read.data.mkdir()
    frame = till_frame().assign(DATE=pd.to_datetime(["2025-07-01 01:45:00"] * 4, utc=True))
    _, name, settings = write_as(read.data, frame, "duckdb")
    with pytest.raises(ValueError, match="declare `timezone`"):
        read(None, name, settings=settings)
    result = read(None, name, settings=settings | {"timezone": "America/New_York"})
    assert {str(row["date"]) for row in result.sales} == {"2025-06-30"}


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_machines_time_zone_has_no_effect(read, zone):
    # given texts with an offset, and instants of which one line is bad
    read.data.mkdir()
    (read.data / "till.csv").write_text("day,n\n2025-06-30 21:45:00 -0400,1\n2025-07-01 09:00:00 +0900,x\n")
    write_zoned_parquet(read.data, "UTC")
    code = """import sys
from pathlib import Path
from brewcast.common.contracts import connect
from brewcast.common.parameter_types import SourceTable
from brewcast.data.source_files import load_table, open_raw
con, data = connect().con, Path(sys.argv[1])
till = {"name": "till", "path": "till.csv", "date_format": "%Y-%m-%d %H:%M:%S %z"}
load_table(con, data, SourceTable(**till, columns={"day": "date", "n": "integer"}))
other = {"name": "other", "path": "till.parquet", "date_format": "%Y-%m-%d", "timezone": "America/New_York"}
load_table(con, data, SourceTable(**other, columns={"DATE": "date"}))
print(con.sql("FROM _staged_till ORDER BY _line").fetchall(), con.sql("FROM other").fetchall())
instants = SourceTable(name="x", columns={"DATE": "text"})
print(open_raw(con, data / "till.parquet", instants, []), con.sql("FROM _raw").fetchall())"""
    output = {}
    for name in ("UTC", zone):
        env = os.environ | {"TZ": name, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", code, read.data], env=env, capture_output=True, text=True, check=True
        )
        output[name] = run.stdout
    assert output[zone] == output["UTC"] and "2025, 6, 30" in output[zone]


# -- files that change


def test_a_file_that_changes_while_it_is_read_is_refused(read, monkeypatch):
    typing_sql = source_files.typing_sql

    def meanwhile(spec, names, header):
        with open(read.data / "till.csv", "a") as file:
            file.write(LINES[0] + "\n")
        return typing_sql(spec, names, header)

    monkeypatch.setattr(source_files, "typing_sql", meanwhile)
    with pytest.raises(
        ValueError, match="till.csv: was changed while it was read; run again when nothing writes to it"
    ):
        read(csv_text(*LINES))


def test_a_database_in_use_is_read_as_one_snapshot(read, monkeypatch):
    # given a SQLite database in WAL mode that another connection holds open and has added a row to
    read.data.mkdir()
    plain = read(csv_text(*LINES)).sales_bytes
    _, name, settings = write_as(read.data, till_frame()[:3], "sqlite")
    with contextlib.closing(sqlite3.connect(read.data / name, isolation_level=None)) as till:
        till.execute("PRAGMA journal_mode = wal")
        row = [*LINES[3].split(",")]
        add = "INSERT INTO tills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        before = sha256(read.data / name)
        till.execute(add, row)
        now = sha256(read.data / name)
        typing_sql = source_files.typing_sql
        assert now != before

        def meanwhile(*arguments):
            till.execute(add, ["S9", *row[1:4], "x", *row[5:]])
            return typing_sql(*arguments)

        # when it is read, and further rows come in meanwhile
        monkeypatch.setattr(source_files, "typing_sql", meanwhile)
        result = read(None, name, settings=settings)
        # then it is read as it was at the start, with the hash of that state; later rows give another hash
        assert result.sales_bytes == plain and result.quarantine == []
        assert result.dataset["tables"]["till"]["files"]["till.db:tills"]["sha256"] == now != sha256(read.data / name)
        monkeypatch.undo()
        assert [row["row"][:2] for row in read(None, name, settings=settings).quarantine] == ["S9"]


# -- files outside of the source's folder

VIEWS_OF_OTHER_FILES = {  # views of a database that read a file which is not declared
    "a view": "CREATE VIEW till AS FROM read_csv('{}')",
    "a view by a name alone": "CREATE VIEW till AS FROM '{}'",
    "a macro": "CREATE MACRO m() AS TABLE FROM read_csv('{}'); CREATE VIEW till AS FROM m()",
    "a view of text": "CREATE VIEW till AS SELECT content AS STORE FROM read_text('{}')",
    "a view of names": "CREATE VIEW till AS SELECT file AS STORE FROM glob('{}')",
}


@pytest.mark.parametrize("made", VIEWS_OF_OTHER_FILES.values(), ids=VIEWS_OF_OTHER_FILES)
def test_a_view_that_reads_another_file_is_refused(read, tmp_path, made):
    # given a database whose view reads another file
    (tmp_path / "elsewhere.csv").write_text(csv_text(*LINES))
    read.data.mkdir()
    with duckdb.connect(str(read.data / "till.duckdb")) as con:
        con.execute(made.format(tmp_path / "elsewhere.csv"))
    # then it is refused
    with pytest.raises(
        ValueError, match="^till.duckdb:till: Permission Error: Cannot access file .*elsewhere.csv.* view"
    ):
        read(None, name="till.duckdb", settings={"table": "till"})


RELATIONS_OF_OTHER_FILES = ["read_csv('{}')", "'{}'", "read_text('{}')", "glob('{}')", "sniff_csv('{}')"]
RELATIONS_OF_OTHER_FILES += ["read_csv('https://example.org/till.csv')", "read_csv('s3://till/till.csv')"]


@pytest.mark.parametrize("relation", RELATIONS_OF_OTHER_FILES)
def test_the_sources_sql_reads_only_its_tables(read, tmp_path, relation):
    (tmp_path / "elsewhere.csv").write_text(csv_text(*LINES))
    sql = f"{SQL} WHERE EXISTS (FROM {relation.format(tmp_path / 'elsewhere.csv')})"
    with pytest.raises(
        ValueError, match="toy.sql: Permission Error: .*the SQL may read only the tables of `files`: declare"
    ):
        read(csv_text(*LINES), sql=sql)


@pytest.mark.parametrize("statement", ["COPY till TO 'x.csv'", "ATTACH 'x.db'", "INSTALL httpfs", "LOAD httpfs"])
def test_the_sources_sql_may_only_select(read, statement):
    with pytest.raises(ValueError, match="toy.sql: must be one SELECT"):
        read(csv_text(*LINES), sql=statement)


@pytest.mark.parametrize("path", ["{}/till.csv", "../elsewhere/till.csv", "../elsewhere/*.csv"])
def test_a_path_that_leads_out_of_the_folder_is_refused(read, tmp_path, path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "till.csv").write_text(csv_text(*LINES))
    read.data.mkdir()
    with pytest.raises(
        ValueError, match="files: till: path .* leads out of the source's folder.*`outside` of the table"
    ):
        read(None, settings={"path": path.format(tmp_path / "elsewhere")})


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_link_that_leads_out_of_the_folder_must_be_declared(read, tmp_path, linked):
    # given a file elsewhere, and a link to it, or to its folder, among the source's files
    elsewhere = tmp_path / "elsewhere" / "till.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_text(csv_text(*LINES))
    read.data.mkdir()
    (read.data / "there").symlink_to(elsewhere if linked == "file" else elsewhere.parent)
    path = "there" if linked == "file" else "there/*.csv"
    # when it is not declared / then it is refused, and the error says what to declare
    with pytest.raises(
        ValueError, match=f"leads to {elsewhere}, .*: declare `outside: .{elsewhere.parent}.` under files"
    ):
        read(None, settings={"path": path})
    # when it is declared / then it is read, and its hash is known
    result = read(None, settings={"path": path, "outside": [str(elsewhere.parent)]})
    (info,) = result.dataset["tables"]["till"]["files"].values()
    assert len(result.sales) == 4 and info["sha256"] == sha256(elsewhere)


def test_a_broken_link_is_an_error(read, tmp_path):
    # given one file, and a link to a missing one, such as on a share that is not mounted
    read.data.mkdir()
    (read.data / "till_1.csv").write_text(csv_text(*LINES))
    (read.data / "till_2.csv").symlink_to(tmp_path / "share" / "till.csv")
    with pytest.raises(
        FileNotFoundError, match="files: till: till_2.csv is a link to a missing file, .*/share/till.csv: restore"
    ):
        read(None, settings={"path": "till_*.csv"})


def test_a_path_without_a_match_is_refused_with_the_files_present(read):
    read.data.mkdir()
    (read.data / "sales.csv.zip").write_text("")
    with pytest.raises(
        FileNotFoundError, match=r"till.csv does not exist; .* has sales.csv.zip: correct `path`, or give"
    ):
        read(None, settings={"path": "till.csv"})


def test_the_sources_folder_may_itself_be_a_link(read, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    read.data.symlink_to(tmp_path / "elsewhere")
    assert len(read(csv_text(*LINES)).sales) == 4
    (tmp_path / "elsewhere" / "same.csv").symlink_to(tmp_path / "elsewhere" / "till.csv")
    assert len(read(None, settings={"path": "same.csv"}).sales) == 4
    # and so may a database, whose log is beside the real file
    _, name, settings = write_as(tmp_path / "elsewhere", till_frame(), "duckdb")
    (tmp_path / "database").symlink_to(tmp_path / "elsewhere" / name)
    assert len(read(None, data=tmp_path / "database", settings=settings).sales) == 4


def test_a_database_is_read_with_its_log(read):
    # given a DuckDB database whose last rows are still in its log
    read.data.mkdir()
    make = f"""import duckdb, os
con = duckdb.connect({str(read.data / "till.duckdb")!r})
con.execute("SET checkpoint_threshold = '1GB'; CREATE TABLE till AS FROM read_csv({str(read.data / "till.csv")!r}, all_varchar = true)")
os._exit(0)"""
    (read.data / "till.csv").write_text(csv_text(*LINES))
    subprocess.run([sys.executable, "-c", make], check=True)
    assert (read.data / "till.duckdb.wal").exists()
    assert len(read(None, name="till.duckdb", settings={"table": "till"}).sales) == 4


@pytest.mark.parametrize("name", [b"caf\xe9.csv", b"caf\xe9.zip"])
def test_a_file_name_that_is_not_utf8_is_refused_with_a_printable_message(read, name):
    read.data.mkdir()
    Path(os.fsdecode(os.fsencode(read.data) + b"/" + name)).write_text(csv_text(*LINES))
    with pytest.raises(ValueError, match=r"caf.xe9[.]...: its name is not UTF-8, .*: rename it") as refused:
        read(None, name="caf*")
    assert str(refused.value).encode()


# -- limits


def limits(**values) -> ReadLimits:
    "Limits as in env.yaml, except for some, which may be lower than a source can declare."
    return DEFAULT_LIMITS.model_copy(update=values)


def test_the_default_limits_are_those_of_the_parameters():
    assert DEFAULT_LIMITS == ReadLimits.model_validate(read_env(ROOT)["limits"])


def test_a_gzip_file_above_the_limit_is_refused_before_it_is_read(read):
    # given lines that unpack to many times their bytes, in three members
    content = csv_text() + "\n".join(LINES) + "\n"
    member = gzip.compress(content.encode() * 2000, 9)
    packed, unpacked = gzip.compress(content.encode(), 9) + member * 2, len(content.encode()) * 4001
    message = f"till.csv: {len(packed):,} bytes of gzip unpack to more than {(unpacked - 1) / 1e9:g} GB: download the file again"
    # when the limit is one byte lower / then it is refused
    with pytest.raises(ValueError, match=re.escape(message)):
        read(packed, limits=limits(gigabytes=(unpacked - 1) / 1e9))
    assert len(read(packed, limits=limits(gigabytes=unpacked / 1e9)).sales) == 4 * 4001


@pytest.mark.parametrize("kind", ["csv", "parquet", "duckdb", "sqlite"])
def test_more_rows_than_the_limit_are_refused(read, kind):
    read.data.mkdir()
    content, name, settings = (
        (csv_text(*LINES), "till.csv", {}) if kind == "csv" else write_as(read.data, till_frame(), kind)
    )
    with pytest.raises(ValueError, match="has more than 3 rows: .* or raise limits.rows in the source's YAML"):
        read(content, name, settings=settings, limits=limits(rows=3))
    assert len(read(content, name, settings=settings, limits=limits(rows=4)).sales) == 4


ENDLESS = {  # the end of a query with endless recursion: it gives rows forever, or no row ever
    "rows": "",
    "no row": "WHERE n < 0",
}


@pytest.mark.parametrize("end", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_view_that_never_ends_is_stopped(read, kind, end):
    read.data.mkdir()
    database = read.data / f"till.{kind}"
    view = f"""CREATE VIEW till AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)
        SELECT 'S1' AS STORE, n AS PIECES FROM r {end}"""
    with contextlib.closing((duckdb if kind == "duckdb" else sqlite3).connect(str(database))) as con:
        con.execute(view)
    message = (
        f"^reading till.{kind}:till: did not finish in 0.02 minutes: .* or raise limits.minutes in the source's YAML"
    )
    settings = {"table": "till", "columns": {"STORE": "text", "PIECES": "integer"}}
    with pytest.raises(ValueError, match=message):
        read(None, name=database.name, settings=settings, limits=limits(minutes=0.02))


def test_a_query_that_never_ends_is_stopped(read):
    sql = f"WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) {SQL} JOIN r ON n < 0"
    with pytest.raises(ValueError, match="^running .*toy.sql: did not finish in 0.02 minutes: "):
        read(csv_text(*LINES), sql=sql, limits=limits(minutes=0.02))


# -- the short way to read a value gives what the careful way gives

KINDS = ["text", "integer", "decimal", "double", "date", "boolean", "yes_no"]
ODD_TEXTS = [
    "",
    " ",
    "S1",
    " S1 ",
    "a  b",
    "Montréal",
    "Montre\u0301al",
    "a\u00a0b",
    "\u200b",
    "no\tw",
    "x" * 300,
    "NA",
    "-9",
]
ODD_TEXTS += [
    "Москва",
    "東京",
    "a\x00b",
    "\uffff",
    "1",
    "-1",
    "+1",
    "007",
    "1.000",
    "12.50",
    "1,000",
    "1.000,5",
    "-0",
    "-0.0",
]
ODD_TEXTS += [
    "1e3",
    "1e-7",
    "1e100",
    "NaN",
    "inf",
    "0x10",
    "1_000",
    "99999999999999999999",
    "0.1234567",
    "123456789012.5",
]
ODD_TEXTS += ["2024-02-29", "2023-02-29", "02/03/2024", "24-01-01", "0999-01-01", "12024-01-01", "2024-1-5", "20240105"]
ODD_TEXTS += ["2024-01-05 10:00:00", "true", "FALSE", "Yes", "no", "0", "é", "ﬁ", "가", "\u1100\u1161", "ｱ"]
ODD_NUMBERS = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1,
    2.675,
    1e-6,
    1e-7,
    1.5e-6,
    0.1234567,
    1e9,
    999999999.999999,
    1e12,
    1e15,
    1e16,
    1e100,
]
ODD_NUMBERS += [
    1e-60,
    float("nan"),
    float("inf"),
    float("-inf"),
    123456.789,
    33.3,
    1 / 3,
    4503599627370497.5,
    -9.0,
    None,
]
ODD_DAYS = ["1000-01-01", "0999-12-31", "2024-02-29", "9999-12-31", "1969-12-31", None]
SETTINGS = [{"date_format": "%Y-%m-%d"}, {"date_format": "%d/%m/%Y", "decimal": ",", "thousands": "."}]
SETTINGS += [
    {"date_format": "%Y%m%d", "null_values": ["NA", "-9", "0"]},
    {"date_format": "%Y-%m-%d %H:%M:%S", "timezone": "UTC"},
]
SETTINGS += [
    {"date_format": "%b %d, %Y", "thousands": ","},
    {"date_format": "%Y-%m-%dT%H:%M:%SZ", "timezone": "Asia/Tokyo"},
]


def staged(path, spec, block_rows):
    "The rows of a file, staged block by block, and its LoadedFile."
    con, files, rows = duckdb.connect(config={"threads": 1}), {}, []
    with source_files.time_limit(con, "reading", DEFAULT_LIMITS) as step:
        for size in source_files.staged_blocks(con, path, spec, "f", files, DEFAULT_LIMITS, step, block_rows):
            block = con.sql("FROM _staged_t").fetchall()
            assert len(block) == size
            rows += block
    return repr(rows), files["f"]


def assert_same_both_ways(path, spec, monkeypatch, block_rows=1 << 20):
    "Returns the number of good rows."
    rows, info = staged(path, spec, block_rows)
    with monkeypatch.context() as careful:
        careful.setattr(source_files, "_quick_sql", lambda *_: None)
        careful.setattr(source_files, "_is_plain", lambda *_: False)
        assert staged(path, spec, 1 << 20) == (rows, info)
    return rows.count("None, None, ")


def parquet_columns():
    instants = pa.array(
        [dt.datetime(2024, 1, 5, 23, 59, 59, 500_000), dt.datetime(1850, 3, 1), None], pa.timestamp("us")
    )
    numbers = pa.array(ODD_NUMBERS, pa.float64())
    money = [None if x is None else Decimal(x) for x in ("0", "-0.5", "12.34", "99999999.99", None)]
    return {
        "text": pa.array([*ODD_TEXTS, None]),
        "dictionary": pa.array([*ODD_TEXTS, None]).dictionary_encode(),
        "double": numbers,
        "float": numbers.cast(pa.float32()),
        "cents": pa.array(money, pa.decimal128(10, 2)),
        "small": pa.array([Decimal("1.00"), Decimal("-9.25"), None], pa.decimal128(4, 2)),
        "eight": pa.array([Decimal("0.12345678"), Decimal("2"), None], pa.decimal128(20, 8)),
        "wide": pa.array([Decimal(10) ** 25, Decimal(5), None], pa.decimal128(38, 0)),
        "long": pa.array([0, -9, 10**15, 2**53 + 1, 2**63 - 1, -(2**63), 10**12, None]),
        "byte": pa.array([0, -9, 127, None], pa.int8()),
        "unsigned": pa.array([0, 9, 2**64 - 1, None], pa.uint64()),
        "day": pa.array([day and dt.date.fromisoformat(day) for day in ODD_DAYS], pa.date32()),
        "far": pa.array([-500_000, 0, 3_000_000, 2**31 - 1, None], pa.int32()).cast(pa.date32()),
        "milliseconds": instants.cast(pa.timestamp("ms"), safe=False),
        "nanoseconds": instants.cast(pa.timestamp("ns")),
        "instant": instants.cast(pa.timestamp("us", "America/New_York")),
        "flag": pa.array([True, False, None]),
        "bytes": pa.array([b"S1", b"\xff", None]),
    }


@pytest.mark.parametrize("settings", SETTINGS[:4], ids=str)
def test_a_quick_rule_gives_the_careful_value_or_leaves_it(tmp_path, settings):
    # given a Parquet file of odd values, one column a type
    columns = parquet_columns()
    rows = max(map(len, columns.values()))
    padded = {name: pa.concat_arrays([x, pa.nulls(rows - len(x), x.type)]) for name, x in columns.items()}
    pq.write_table(pa.table(padded), tmp_path / "t.parquet")
    con = duckdb.connect(config={"threads": 1})
    certain = 0
    for kind in KINDS:
        spec = SourceTable(name="t", columns=dict.fromkeys(padded, kind), **settings)
        if kind == "date" and "instant" in padded and "timezone" not in settings:
            spec = spec.model_copy(update={"timezone": "America/New_York"})
        table = source_files._table_as_text_sql(con, tmp_path / "t.parquet", spec, True, DEFAULT_LIMITS)
        rules = {name: source_files._quick_rule(kind, *table.values[name], spec) for name in padded}
        quick_columns = [f"CASE WHEN {rules[name][1]} THEN ({rules[name][0]}) END" for name in padded if rules[name]]
        tests = [f"({rules[name][1]}) IS TRUE" for name in padded if rules[name]]
        if not tests:
            continue
        # when every value is read both ways
        con.execute(f"CREATE OR REPLACE VIEW _raw AS {source_files._raw_sql(table, 'file_row_number + 1')}")
        names = ", ".join(f'"{name}"' for name in padded if rules[name])
        _, select = source_files.typing_sql(spec, [*padded], 0)
        careful = con.execute(f"SELECT {names} FROM ({select}) ORDER BY _line").fetchall()
        quick = con.execute(
            f"SELECT {', '.join(quick_columns)} FROM {table.relation} ORDER BY file_row_number"
        ).fetchall()
        is_certain = con.execute(f"SELECT {', '.join(tests)} FROM {table.relation} ORDER BY file_row_number").fetchall()
        # then what is certain is the same
        for careful_row, quick_row, certain_row in zip(careful, quick, is_certain, strict=True):
            for careful_value, quick_value, ok in zip(careful_row, quick_row, certain_row, strict=True):
                assert not ok or quick_value is not None and repr(quick_value) == repr(careful_value)
                certain += ok
    assert certain > 100


@pytest.mark.parametrize("row_group_size, block_rows", [(7, 10), (50, 20), (1000, 1 << 20)])
def test_parquet_rows_are_the_same_in_blocks_of_any_size(tmp_path, monkeypatch, row_group_size, block_rows):
    # given good rows among rows that must be read with care
    texts = [f"S{i % 5}" if i % 60 < 40 else ODD_TEXTS[i % len(ODD_TEXTS)] for i in range(130)]
    numbers = pa.array([i / 4 if i % 9 else None for i in range(130)])
    pq.write_table(pa.table({"a": texts, "b": numbers}), tmp_path / "t.parquet", row_group_size=row_group_size)
    spec = SourceTable(name="t", columns={"a": "text", "b": "decimal?"})
    assert assert_same_both_ways(tmp_path / "t.parquet", spec, monkeypatch, block_rows) > 80


@pytest.mark.parametrize("seed", range(6))
def test_lines_are_the_same_both_ways(tmp_path, monkeypatch, seed):
    # given a text file of good and odd lines, some of them of the wrong width, quoted or empty
    random = np.random.default_rng(seed)
    delimiter = ",;\t|,,"[seed]
    good = [
        ["S1", "3", "2.50", "1.5", "2024-02-29", "true", "Yes"],
        ["Montréal", "-4", "7", "-2", "2024-01-05", "0", "no"],
    ]
    lines = [delimiter.join(KINDS)]
    for _ in range(250):
        fields = list(good[random.integers(2)])
        oddity = random.integers(40)
        if oddity < 12:
            fields[random.integers(len(fields))] = str(random.choice(ODD_TEXTS))
        lines.append(delimiter.join(fields))
        if oddity in (1, 2, 3):
            lines[-1] = [f'"{fields[0]}"{lines[-1][len(fields[0]) :]}', lines[-1] + delimiter, ""][oddity - 1]
    end = ["\n", "\r\n", "\n", "\r", "\n", "\n"][seed]
    content = ("\ufeff" * (seed == 1) + end.join(lines).replace("\0", "")).encode()
    (tmp_path / "t.csv").write_bytes(content + (b"\nS\xe91\n" if seed == 4 else b""))
    spec = SourceTable(
        name="t", columns={kind: kind + "?" * (seed % 2) for kind in KINDS}, delimiter=delimiter, **SETTINGS[seed % 4]
    )
    # when they are read in blocks of any number of bytes and rows, then they are the same
    for size, block_rows in ((1 << 23, 1 << 20), (3000, 90)):
        monkeypatch.setattr(source_files, "_BLOCK_BYTES", size)
        assert_same_both_ways(tmp_path / "t.csv", spec, monkeypatch, block_rows)
