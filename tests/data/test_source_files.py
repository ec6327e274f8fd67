"A source's files: broken ones lose their bad rows only, and neither format, encoding nor order makes a difference."

import contextlib
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
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from tills import COLUMNS, HEADER, LINES, SQL, assert_costs_itself_only, assert_refused, reader, text

from brewcast.common.hashing import sha256
from brewcast.data import source_files
from brewcast.data.quality import check_unused_columns
from brewcast.data.source_files import describe_values, numbered_lines


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


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("above", [["Sales"], ["", "Sales, 2022", ""], ['the "till', "S9," * 9, *["x" * 999] * 99]])
def test_lines_above_the_header_are_skipped_and_counted(read, above, packed):
    # given a title, blank lines or a note above the header, and a bad line
    content = packed(text(*LINES[:2], "x", *LINES[2:], header="\n".join([*above, HEADER])).encode())
    # when the table says how many
    got = read(content, more={"skip_lines": len(above)})
    # then the rows are those of a file without them, and a line's number is the file's
    assert [(row["line"], row["row"]) for row in got.aside] == [(len(above) + 4, "x")]
    assert got.sales == read(text(*LINES)).sales


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
    "UTF-16 without a mark": (
        text(*LINES).encode("utf-16-le"),
        {},
        "till.csv: holds zero bytes, so it is not text in UTF-8 or Windows-1252; export it as UTF-8, or declare its `encoding`",
    ),
    "an encoding that there is not": (
        text(*LINES),
        {"more": {"encoding": "shift-gis"}},
        "Python's names count, such as",
    ),
    "one text for a list of null values": (
        text(*LINES),
        {"more": {"null_values": "NA"}},
        "null_values is a list, such as ['NA']",
    ),
    "an encoding that is none of a file": (
        text(*LINES),
        {"more": {"encoding": "idna"}},
        "files: till: encoding 'idna': ",
    ),
    "a delimiter of two characters": (
        text(*LINES),
        {"more": {"delimiter": "||"}},
        """files: till: delimiter is '||', and is one character, such as ";" (a tab is "\\t", in double quotes)""",
    ),
    "a tab as YAML does not write it": (
        text(*LINES),
        {"more": {"delimiter": "\\t"}},
        "delimiter is '\\\\t', and is one",
    ),
    "columns without types": (
        text(*LINES),
        {"more": {"columns": ["shop", "day"]}},
        "files: till: columns is ['shop', 'day'], where a map, such as {shop: text, day: date}, is taken",
    ),
    "a name for a list of columns": (text(*LINES), {"more": {"key": "STORE"}}, "key is 'STORE', where a list of"),
    "lines to skip as a text": (text(*LINES), {"more": {"skip_lines": "two"}}, "skip_lines is 'two', where a number"),
    "a place that is no path": (
        text(*LINES),
        {"more": {"outside": ["tills"]}},
        "outside holds 'tills', where absolute",
    ),
    "fewer lines than none": (text(*LINES), {"more": {"skip_lines": -1}}, "skip_lines is -1, and is at least 0"),
    "a zip archive": (b"PK\x03\x04" + bytes(40), {}, "till.csv: is a zip archive or an Excel workbook: unpack it"),
    "a zip archive in gzip": (
        gzip.compress(b"PK\x03\x04" + bytes(40)),
        {},
        "till.csv: is a zip archive or an Excel workbook: unpack it",
    ),
    "xz": (lzma.compress(text(*LINES).encode()), {}, "till.csv: is packed by xz: unpack it, or pack it by gzip"),
    "a title": (
        text("", "As of 5 January, preliminary", HEADER, *LINES, header="Sales 2022"),
        {},
        "till.csv: column 'STORE' is missing; its header seems to be line 4, which has 10 of the 10 declared columns:"
        " declare `skip_lines: 3` under files: till",
    ),
    "a title above a header of other names": (
        text(*LINES, header=f"Sales\n{HEADER.replace('PRICE', 'PRECIO')}"),
        {},
        "its header seems to be line 2, which has 9 of the 10 declared columns: declare `skip_lines: 1`",
    ),
    "more lines than were there": (
        text(*LINES),
        {"more": {"skip_lines": 2}},
        "its header seems to be line 1, which has 10 of the 10 declared columns, and skip_lines is 2: declare `skip_lines: 0`",
    ),
    "no line after those": (
        text(*LINES),
        {"more": {"skip_lines": 9}},
        "till.csv: has no line after the 9 that `skip_lines` says stand above its header",
    ),
    "a time zone that there is not": (
        text(*LINES),
        {"more": {"timezone": "America/NewYork"}},
        "timezone 'America/NewYork' is none, such as America/New_York or UTC; the nearest is 'America/New_York'",
    ),
    "one sign for two things": (
        text(*LINES),
        {"more": {"decimal": ",", "thousands": ","}},
        "thousands is another sign",
    ),
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
        (
            ["1.000", "12.500"],
            "whole numbers with '.' between thousands, or numbers with three places (declare `thousands` or `decimal`)",
        ),
        (["1 000", "5"], "whole numbers with ' ' between thousands (declare `thousands` or `decimal`)"),
        (["2,50", "3"], 'decimal numbers of other signs (declare `decimal: ","`)'),
        (["1.234,50"], 'decimal numbers of other signs (declare `decimal: ","` and `thousands: "."`)'),
    ],
)
def test_what_a_column_looks_like_is_said_in_words(texts, told):
    assert describe_values(texts) == told


# -- one store, one name


NEVER_MEANT = {
    "a carriage return": "S1\r",
    "a non-breaking blank": "\u00a0S1\u00a0",
    "no width": "\u200bS1\ufeff",
    "a tab and a blank": "\tS1 ",
    "a control character": "S\x011",
    "a soft hyphen": "S\u00ad1",
}


@pytest.mark.parametrize("written", NEVER_MEANT.values(), ids=NEVER_MEANT)
def test_what_is_never_meant_makes_no_second_store(read, written):
    # given the store's first line written otherwise / then it is the same store, quoted or not
    plain = read(text(*LINES)).gives.sales.read_bytes()
    for field in (written, f'"{written}"'):
        got = read(text(field + LINES[0][2:], *LINES[1:]).replace("\n", "\r\n"))
        assert got.gives.sales.read_bytes() == plain


def test_composed_and_decomposed_letters_and_doubled_blanks_are_one_name(read):
    plain = read(text(*LINES)).gives.sales.read_bytes()
    decomposed = [LINES[0].replace("é", "e\u0301"), *LINES[1:2], LINES[2].replace("San José", "San  Jose\u0301")]
    assert read(text(*decomposed, LINES[3].replace("San ", "San\u00a0"))).gives.sales.read_bytes() == plain
    # in a column's name too
    header = HEADER.replace("CITY", "\ufeffCITE\u0301 ")
    columns = {column.replace("CITY", "CITÉ"): kind for column, kind in COLUMNS.items()}
    sql = SQL.replace("CITY AS", "CITÉ AS")
    assert read(text(*LINES, header=header), sql=sql, more={"columns": columns}).gives.sales.read_bytes() == plain


@pytest.mark.parametrize("kind", ["parquet", "duckdb", "sqlite"])
def test_tables_are_tidied_and_numbers_are_names_without_places(read, kind):
    # given stores as numbers with places, and texts with what is never meant
    read.data.mkdir()
    frame = as_frame().assign(STORE=[101.0, 101.0, 102.5, 102.5])
    frame["CITY"] = frame.CITY + "\u00a0\r"
    content, name, more = as_file(read.data, frame, kind)
    got = read(content, name, more=more)
    assert [row["store_id"] for row in got.sales] == ["101", "101", "102.5", "102.5"]
    assert {row["city"] for row in got.sales} == {"Montréal", "San José"}


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_bytes_are_no_store(read, kind):
    # given a store whose id is stored as bytes, in SQLite in some rows
    read.data.mkdir()
    bad = 2 if kind == "sqlite" else 4
    frame = as_frame().assign(STORE=[b"S1", b"S1", "S2", "S2"] if kind == "sqlite" else [b"S1"] * 4)
    name, more = as_file(read.data, frame, kind)[1:]
    said = rf"{bad} of 4 rows are bad.*'STORE' is bytes \(a BLOB\), no text or number: store it as text \({bad} rows"
    with pytest.raises(ValueError, match=said):
        read(None, name, more=more, max_bad_share=0.3)
    aside = pq.read_table(read.data.parent / "out" / "quarantine.parquet").to_pylist()
    assert "2 bytes" in aside[0]["row"] and "\0" not in aside[0]["row"]


def test_texts_of_an_old_parquet_file_are_read_though_it_says_bytes(read):
    read.data.mkdir()
    plain = read(text(*LINES)).gives.sales.read_bytes()
    frame = as_frame()
    frame["CITY"] = [city.encode() for city in frame.CITY]
    frame.to_parquet(read.data / "till.parquet")
    assert read(None, name="till.parquet").gives.sales.read_bytes() == plain
    frame["CITY"] = [b"\xff", *frame.CITY[1:]]
    frame.to_parquet(read.data / "till.parquet")
    assert [(row["line"], row["column"]) for row in read(None, name="till.parquet").aside] == [(1, "CITY")]


def as_file(data, frame: pd.DataFrame, kind: str) -> tuple:
    "Writes a table, and says how `read` reads it."
    if kind == "sqlite":
        (data / "till.db").unlink(missing_ok=True)
        sqlite_table(data / "till.db", "tills", frame.assign(DATE=frame.DATE.dt.strftime("%m/%d/%Y")))
        return None, "till.db", {"table": "tills"}
    if kind == "duckdb":
        (data / "till.duckdb").unlink(missing_ok=True)
        with duckdb.connect(str(data / "till.duckdb")) as con:
            con.execute("CREATE TABLE tills AS SELECT * FROM frame")
        return None, "till.duckdb", {"table": "tills"}
    frame.to_parquet(data / "till.parquet")
    return None, "till.parquet", {}


# -- numbers


def pieces(read, *written: str, **more) -> list:
    "What ingest takes for the pieces, None where it sets the line aside."
    lines = [f"S{i};1/5/2022;Boston;Coffee;{number};2.50;;;;False" for i, number in enumerate(written)]
    columns = {c: kind for c, kind in COLUMNS.items() if c != "TOTAL"} | {"PRICE": "text"}
    sql = SQL.replace("TOTAL AS total_sale,", "").replace("PRICE AS price", "2.5 AS price")
    settings = {"delimiter": ";", "columns": columns | {"PIECES": more.pop("kind", "integer")}} | more
    got = read("\n".join([HEADER.replace(",", ";"), *lines]), sql=sql, more=settings, returns=True)
    read.last = got
    sold = {row["store_id"]: row["quantity_sold"] for row in got.sales}
    return [sold.get(f"S{i}") for i in range(len(written))]


def test_three_places_of_an_integer_are_unclear_until_signs_are_declared(read):
    # given whole numbers as pandas writes them, and some that may be thousands
    written = ["5", "5.0", "5.00", "1234.000", "0.000", "1.000", "12.000", "-1.000"]
    assert pieces(read, *written) == [5, 5, 5, 1234, 0, None, None, None]
    assert {row["reason"] for row in read.last.aside} == {
        'may have places or \'.\' between thousands: declare `decimal: "."` or `thousands: "."` under files'
    }
    findings = check_unused_columns(read.last.dataset, pd.Timestamp("2022-01-01"))
    assert ["3 rows were set aside" in f["text"] for f in findings if f["level"] == "warn"] == [True]
    # then either is read as it is declared
    assert pieces(read, "1.000", "12.000", decimal=".") == [1, 12]
    assert pieces(read, "1.000", "12.000", "5", thousands=".") == [1000, 12000, 5]


SIGNS = {  # settings, what is read and as what, and what is no number then
    "German": ({"thousands": "."}, {"1.234,50": "1234.5", "1234,5": "1234.5", "-1.234": "-1234", "7": "7"}, "12.34"),
    "a comma alone": ({"decimal": ","}, {"1234,5": "1234.5", ",5": "0.5"}, "1.234,5"),
    "English": ({"thousands": ","}, {"1,234.50": "1234.5", "1,234,567": "1234567", "12.5": "12.5"}, "1,23"),
    "a blank": ({"decimal": ",", "thousands": " "}, {"1 234,5": "1234.5", "1\u00a0234,5": "1234.5"}, "12 34"),
    "a narrow one": ({"decimal": ",", "thousands": "\u202f"}, {"1\u202f234,5": "1234.5"}, "1\u202f23"),
    "Swiss": ({"thousands": "'"}, {"1'234.50": "1234.5", "1’234.5": "1234.5"}, "12'34"),
    "nothing": ({}, {"1234.50": "1234.5", "5e-1": "0.5", "1.000": "1"}, "1.00.0"),
}


@pytest.mark.parametrize("settings, good, bad", SIGNS.values(), ids=SIGNS)
@pytest.mark.parametrize("kind", ["decimal", "double"])
def test_numbers_are_read_with_the_signs_that_are_declared(read, kind, settings, good, bad):
    got = pieces(read, *good, bad, kind=kind, **settings)
    assert got == [*map(Decimal, good.values()), None]


def test_grouped_integers(read):
    assert pieces(read, "1.234.567", "123456", "1.23.456", "1.2345", thousands=".") == [1234567, 123456, None, None]
    assert pieces(read, "1,000", "1,000.0", "1,00", thousands=",") == [1000, 1000, None]


@pytest.mark.parametrize("kind", ["parquet", "duckdb", "sqlite"])
def test_numbers_that_are_stored_as_such_have_no_signs(read, kind):
    # given a table of numbers, declared as the texts of other files are
    read.data.mkdir()
    frame = as_frame().assign(
        PIECES=[1000.0, 1.0, 2.0, 4.0], PRICE=[1.125, 3.25, 2.55, 2.5], TOTAL=[1125, 3.25, 5.1, 10]
    )
    content, name, more = as_file(read.data, frame, kind)
    for signs in ({}, {"decimal": ","}, {"thousands": "."}):
        got = read(content, name, more=more | signs)
        assert [float(row["price"]) for row in got.sales] == [1.125, 3.25, 2.55, 2.5]
        assert float(got.sales[0]["quantity_sold"]) == 1000


def test_decimals_that_may_be_thousands_are_told(read):
    # given weights of three places, none of which is below one or has other places
    def told():
        return [
            f["text"]
            for f in check_unused_columns(read.last.dataset, pd.Timestamp("2022-01-01"))
            if f["level"] == "warn"
        ]

    assert pieces(read, "1.250", "7", kind="decimal") == [Decimal("1.25"), 7]
    assert len(told()) == 1 and "'1.250' is read as a decimal number, and might be" in told()[0]
    for clear in ("0.250", "1.5", "1000"):
        pieces(read, "1.250", clear, kind="decimal")
        assert told() == []
    pieces(read, "1.250", "7", kind="decimal", decimal=".")
    assert told() == []


# -- records of several lines


def test_quoted_line_breaks_are_read(read):
    # given a quoted city of two lines, of three, and with a quotation mark, a comma and Windows' line ends
    for end in ("\n", "\r\n"):
        for city in ("Mont\nréal", "Mont\n\nréal", "Mont\n, QC", 'The ""\nHub""'):
            lines = [LINES[0].replace("Montréal", f'"{city}"'), *LINES[1:], "x"]
            got = read(text(*lines).replace("\n", end))
            # then it is one line's, of the number of its first, and the others keep theirs
            assert len(got.sales) == 4 and [row["line"] for row in got.aside] == [6 + city.count("\n")]
            assert got.sales[0]["city"] == " ".join(city.replace('""', '"').split())
            assert [got.lineage[0]["first_line"], got.lineage[-1]["last_line"]] == [2, 5 + city.count("\n")]


def test_a_bad_record_of_several_lines_is_kept_whole(read):
    bad = LINES[0].replace("Montréal", '"Mont\nréal"').replace(",3,", ",three,")
    got = read(gzip.compress(text(*LINES, bad).encode()), name="till.csv.gz")
    assert [(row["line"], row["column"], row["row"]) for row in got.aside] == [(6, "PIECES", bad)]


def test_a_line_break_in_the_header(read):
    plain = read(text(*LINES)).gives.sales.read_bytes()
    columns = {column.replace("CITY", "CITY NAME"): kind for column, kind in COLUMNS.items()}
    sql = SQL.replace("CITY AS", '"CITY NAME" AS')
    got = read(text(*LINES, header=HEADER.replace("CITY", '"CITY\nNAME"')), sql=sql, more={"columns": columns})
    assert got.gives.sales.read_bytes() == plain and got.lineage[0]["first_line"] == 3


STRAY = {  # lines with marks that enclose nothing
    "never closed": [LINES[0].replace("Mont", '"Mont')],
    "never opened": [LINES[0].replace("réal", 'réal"')],
    "opened in one line, closed in the next": [LINES[0].replace("Mont", '"Mont'), LINES[1].replace("réal", 'réal"')],
    "inches": [LINES[0].replace("Montréal", '12" pipe'), LINES[1].replace("Montréal", '12" pipe')],
    "opened twice": [LINES[0].replace("Mont", '"Mont'), LINES[1].replace("Mont", '"Mont')],
}


@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)
@pytest.mark.parametrize("apart", [0, 1, 150])
def test_a_stray_mark_swallows_no_other_line(read, stray, apart):
    # given stray marks among good lines, side by side or far from each other
    between = [LINES[3]] * apart
    got = read(text(*LINES, *[line for bad in stray for line in (bad, *between)], *LINES))
    assert {row["reason"] for row in got.aside} == {"has an unclosed or stray quotation mark"}
    assert [row["row"] for row in got.aside] == stray and len(got.sales) == 8 + apart * len(stray)


@pytest.mark.parametrize("size", [64, 65, 127, 1000, 1 << 22])
def test_records_of_several_lines_are_the_same_whatever_is_read_at_a_time(tmp_path, size):
    records = ["a,b,c", *[f'{i},"é{"x" * (i % 40)}\n{i}",{i}' if i % 3 else f"{i},é,{i}" for i in range(300)]]
    records += ["1,2,3", '4,"open,5', *["7,8,9"] * 9]
    (tmp_path / "till.csv").write_text("\n".join(records))
    got = [pair for batch in numbered_lines(tmp_path / "till.csv", size, width=3) for pair in batch.to_pylist()]
    assert [row["text"] for row in got] == records
    number = 1
    for row in got:
        assert row["_line"] == number
        number += 1 + row["text"].count("\n")


# -- encodings


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8", "utf-8-sig", "cp1252", "mac_roman"])
def test_a_declared_encoding_makes_no_difference(read, encoding):
    plain = read(text(*LINES)).gives.sales.read_bytes()
    told = {} if encoding in ("utf-16", "utf-32") else {"encoding": encoding}  # those tell themselves
    for packed in (bytes, gzip.compress):
        got = read(packed(text(*LINES).replace("\n", "\r\n").encode(encoding)), more=told)
        assert got.gives.sales.read_bytes() == plain


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
def test_an_encoding_that_nobody_declared_is_refused_with_its_likely_name(read, encoding, city):
    content = text(*[line.replace("Montréal", city).replace("San José", city) for line in LINES]).encode(encoding)
    with pytest.raises(ValueError, match=f"is neither UTF-8 nor Windows-1252 in 4 of 4 .* looks like .*{encoding}"):
        read(content)
    got = read(content, more={"encoding": encoding})
    assert {row["city"] for row in got.sales} == {city}


def test_a_damaged_line_costs_itself_only_where_the_others_tell_the_encoding(read):
    # given a file of UTF-8, or of Windows-1252, with one line of bytes that are neither
    for encoding, told in (("utf-8", {}), ("cp1252", {}), ("utf-8", {"encoding": "utf-8"})):
        bad = LINES[0].replace("Montréal", "Mont#al").encode().replace(b"#", b"\x81\xff")
        got = read(text(*LINES * 10).encode(encoding) + bad, more=told)
        assert len(got.sales) == 40 and [row["line"] for row in got.aside] == [42]
        said = "holds bytes that are not utf-8" if told else "is neither UTF-8 nor Windows-1252"
        assert got.aside[0]["reason"] == said and "Mont\ufffd\ufffdal" in got.aside[0]["row"]


# -- days of the till


ZONED = "%Y-%m-%d %H:%M:%S %z"


def days(read, times: list[str], **more) -> list[str]:
    lines = [f"S{i},{time}{LINES[0][11:]}" for i, time in enumerate(times)]
    got = read(text(*lines), more={"date_format": ZONED} | more)
    assert got.dataset["rows_set_aside"] == 0
    return [str(row["date"]) for row in got.sales]


def test_a_time_with_an_offset_is_of_the_day_that_it_says(read):
    late = [
        "2025-06-30 21:45:00 -0400",
        "2025-06-30 00:15:00 +02:00",
        "2025-06-30 21:45:00 Z",
        "2025-06-30 21:45:00 -04",
    ]
    assert days(read, late) == ["2025-06-30"] * 4
    iso = ["2025-06-30T21:45:00-04:00", "2025-06-30T21:45:00"]
    assert days(read, iso, date_format="%Y-%m-%dT%H:%M:%S%z") == ["2025-06-30"] * 2
    assert days(read, ["Mon Jun 30 21:45:00 -0400 2025"], date_format="%a %b %d %H:%M:%S %z %Y") == ["2025-06-30"]
    assert days(read, ["2025-06-30 21:45:00 EST"], date_format="%Y-%m-%d %H:%M:%S %Z") == ["2025-06-30"]


def test_a_time_with_an_offset_is_of_the_day_in_the_declared_time_zone(read):
    times = [
        "2025-07-01 01:45:00 Z",
        "2025-07-01 01:45:00 +0000",
        "2025-06-30 21:45:00 -0400",
        "2025-07-01 07:15:00 +0530",
    ]
    assert days(read, times, timezone="America/New_York") == ["2025-06-30"] * 4
    assert days(read, ["2025-06-30 21:45:00"], timezone="Asia/Tokyo") == ["2025-06-30"]  # local already
    # a Z that the format itself holds is an instant in UTC as well
    form = {"date_format": "%Y-%m-%dT%H:%M:%SZ", "timezone": "America/New_York"}
    assert days(read, ["2025-07-01T01:45:00Z", "2025-07-01T05:00:00Z"], **form) == ["2025-06-30", "2025-07-01"]


def zoned(data, zone: str, hour: int = 21):
    "A Parquet file of sales late on the last day of June in New York, as instants."
    frame = as_frame()
    frame["DATE"] = pd.to_datetime([f"2025-06-30 {hour}:45:00"] * 4).tz_localize("America/New_York")
    table = pa.Table.from_pandas(frame.assign(DATE=frame.DATE.dt.tz_convert(zone)), preserve_index=False)
    data.mkdir(exist_ok=True)
    pq.write_table(table, data / "till.parquet")


def test_instants_are_of_the_day_in_the_files_time_zone(read):
    for zone in ("America/New_York", "-04:00"):
        zoned(read.data, zone)
        assert {str(row["date"]) for row in read(None, name="till.parquet").sales} == {"2025-06-30"}
    # in UTC nobody says whose day counts
    zoned(read.data, "UTC")
    with pytest.raises(
        ValueError, match=r"'DATE' holds instants in UTC \(4 of 4 rows are no midnight\).*declare `timezone`"
    ):
        read(None, name="till.parquet")
    for zone, day in (("America/New_York", "2025-06-30"), ("UTC", "2025-07-01")):
        got = read(None, name="till.parquet", more={"timezone": zone, "date_format": ZONED})
        assert {str(row["date"]) for row in got.sales} == {day}
    # midnights of UTC are days
    frame = as_frame().assign(DATE=pd.to_datetime(["2025-06-30"] * 4, utc=True))
    frame.to_parquet(read.data / "till.parquet")
    assert {str(row["date"]) for row in read(None, name="till.parquet").sales} == {"2025-06-30"}


def test_instants_of_a_duckdb_table_need_the_tills_time_zone(read):
    read.data.mkdir()
    frame = as_frame().assign(DATE=pd.to_datetime(["2025-07-01 01:45:00"] * 4, utc=True))
    _, name, more = as_file(read.data, frame, "duckdb")
    with pytest.raises(ValueError, match="declare `timezone`"):
        read(None, name, more=more)
    got = read(None, name, more=more | {"timezone": "America/New_York"})
    assert {str(row["date"]) for row in got.sales} == {"2025-06-30"}


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_machines_time_zone_has_no_part_in_it(read, zone):
    # given texts with an offset, and instants of which one line is bad
    read.data.mkdir()
    (read.data / "till.csv").write_text("day,n\n2025-06-30 21:45:00 -0400,1\n2025-07-01 09:00:00 +0900,x\n")
    zoned(read.data, "UTC")
    code = """import sys
from pathlib import Path
from brewcast.common.contracts import connect
from brewcast.data.source_files import load_table, open_raw
con, data = connect().con, Path(sys.argv[1])
till = {"name": "till", "path": "till.csv", "date_format": "%Y-%m-%d %H:%M:%S %z"}
load_table(con, data, till | {"columns": {"day": "date", "n": "integer"}})
other = {"name": "other", "path": "till.parquet", "date_format": "%Y-%m-%d", "timezone": "America/New_York"}
load_table(con, data, other | {"columns": {"DATE": "date"}})
print(con.sql("FROM _staged_till ORDER BY _line").fetchall(), con.sql("FROM other").fetchall())
print(open_raw(con, data / "till.parquet", {"name": "x", "columns": {}}, []), con.sql("FROM _raw").fetchall())"""
    told = {}
    for name in ("UTC", zone):
        env = os.environ | {"TZ": name, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", code, read.data], env=env, capture_output=True, text=True, check=True
        )
        told[name] = run.stdout
    assert told[zone] == told["UTC"] and "2025, 6, 30" in told[zone]


# -- files that are written to


def test_a_file_that_changes_while_it_is_read_is_refused(read, monkeypatch):
    loaded = source_files.typing_sql

    def meanwhile(spec, names, header):
        with open(read.data / "till.csv", "a") as file:
            file.write(LINES[0] + "\n")
        return loaded(spec, names, header)

    monkeypatch.setattr(source_files, "typing_sql", meanwhile)
    with pytest.raises(
        ValueError, match="till.csv: was changed while it was read; run again when nothing writes to it"
    ):
        read(text(*LINES))


def test_a_database_that_a_till_writes_to_is_read_as_one_snapshot(read, monkeypatch):
    # given a SQLite database in WAL mode that another connection holds open and has added a row to
    read.data.mkdir()
    plain = read(text(*LINES)).gives.sales.read_bytes()
    _, name, more = as_file(read.data, as_frame()[:3], "sqlite")
    with contextlib.closing(sqlite3.connect(read.data / name, isolation_level=None)) as till:
        till.execute("PRAGMA journal_mode = wal")
        row = [*LINES[3].split(",")]
        add = "INSERT INTO tills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        before = sha256(read.data / name)
        till.execute(add, row)
        now, loaded = sha256(read.data / name), source_files.typing_sql
        assert now != before

        def meanwhile(*given):
            till.execute(add, ["S9", *row[1:4], "x", *row[5:]])
            return loaded(*given)

        # when it is read, and further rows come in meanwhile
        monkeypatch.setattr(source_files, "typing_sql", meanwhile)
        got = read(None, name, more=more)
        # then all that was there is read, the hash is of that, and the further rows have another one
        assert got.gives.sales.read_bytes() == plain and got.aside == []
        assert got.dataset["tables"]["till"]["files"]["till.db:tills"]["sha256"] == now != sha256(read.data / name)
        monkeypatch.undo()
        assert [row["row"][:2] for row in read(None, name, more=more).aside] == ["S9"]


# -- what lies elsewhere

READS_ELSEWHERE = {  # how a table's rows, or the source's SQL, come from a file that nobody declared
    "a view": "CREATE VIEW till AS FROM read_csv('{}')",
    "a view by a name alone": "CREATE VIEW till AS FROM '{}'",
    "a macro": "CREATE MACRO m() AS TABLE FROM read_csv('{}'); CREATE VIEW till AS FROM m()",
    "a view of text": "CREATE VIEW till AS SELECT content AS STORE FROM read_text('{}')",
    "a view of names": "CREATE VIEW till AS SELECT file AS STORE FROM glob('{}')",
}


@pytest.mark.parametrize("made", READS_ELSEWHERE.values(), ids=READS_ELSEWHERE)
def test_a_view_that_reads_another_file_is_refused(read, tmp_path, made):
    # given a database whose view reads a file beside it, and one with a log, whose table holds rows
    (tmp_path / "elsewhere.csv").write_text(text(*LINES))
    read.data.mkdir()
    with duckdb.connect(str(read.data / "till.duckdb")) as con:
        con.execute(made.format(tmp_path / "elsewhere.csv"))
    # then it is not read, whoever asks
    with pytest.raises(
        ValueError, match="^till.duckdb:till: Permission Error: Cannot access file .*elsewhere.csv.* view"
    ):
        read(None, name="till.duckdb", more={"table": "till"})


SQL_ELSEWHERE = ["read_csv('{}')", "'{}'", "read_text('{}')", "glob('{}')", "sniff_csv('{}')"]
SQL_ELSEWHERE += ["read_csv('https://example.org/till.csv')", "read_csv('s3://till/till.csv')"]


@pytest.mark.parametrize("relation", SQL_ELSEWHERE)
def test_the_sources_sql_reads_its_tables_alone(read, tmp_path, relation):
    (tmp_path / "elsewhere.csv").write_text(text(*LINES))
    sql = f"{SQL} WHERE EXISTS (FROM {relation.format(tmp_path / 'elsewhere.csv')})"
    with pytest.raises(
        ValueError, match="toy.sql: Permission Error: .*the SQL reads the tables of `files` alone: declare"
    ):
        read(text(*LINES), sql=sql)


@pytest.mark.parametrize("statement", ["COPY till TO 'x.csv'", "ATTACH 'x.db'", "INSTALL httpfs", "LOAD httpfs"])
def test_the_sources_sql_does_nothing_but_select(read, statement):
    with pytest.raises(ValueError, match="toy.sql: must hold one SELECT"):
        read(text(*LINES), sql=statement)


@pytest.mark.parametrize("path", ["{}/till.csv", "../elsewhere/till.csv", "../elsewhere/*.csv"])
def test_a_path_that_leads_out_of_the_folder_is_refused(read, tmp_path, path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "till.csv").write_text(text(*LINES))
    read.data.mkdir()
    with pytest.raises(
        ValueError, match="files: till: path .* leads out of the source's folder.*`outside` of the table"
    ):
        read(None, more={"path": path.format(tmp_path / "elsewhere")})


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_link_that_leads_out_of_the_folder_is_declared(read, tmp_path, linked):
    # given a file elsewhere, and a link to it, or to its folder, among the source's files
    elsewhere = tmp_path / "elsewhere" / "till.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_text(text(*LINES))
    read.data.mkdir()
    (read.data / "there").symlink_to(elsewhere if linked == "file" else elsewhere.parent)
    path = "there" if linked == "file" else "there/*.csv"
    # when nobody says that it is meant / then it is refused, with what to declare
    with pytest.raises(
        ValueError, match=f"leads to {elsewhere}, .*: declare `outside: .{elsewhere.parent}.` under files"
    ):
        read(None, more={"path": path})
    # when it is declared / then it is read, and its hash is known
    got = read(None, more={"path": path, "outside": [str(elsewhere.parent)]})
    (known,) = got.dataset["tables"]["till"]["files"].values()
    assert len(got.sales) == 4 and known["sha256"] == sha256(elsewhere)


def test_a_link_that_leads_nowhere_is_no_file_that_is_left_out(read, tmp_path):
    # given one file that is there, and a link to one that is not, on a share that is not mounted, say
    read.data.mkdir()
    (read.data / "till_1.csv").write_text(text(*LINES))
    (read.data / "till_2.csv").symlink_to(tmp_path / "share" / "till.csv")
    with pytest.raises(
        FileNotFoundError, match="files: till: till_2.csv is a link that leads nowhere, to .*/share/till.csv: bring"
    ):
        read(None, more={"path": "till_*.csv"})


def test_a_path_that_matches_nothing_says_what_is_there(read):
    read.data.mkdir()
    (read.data / "sales.csv.zip").write_text("")
    with pytest.raises(FileNotFoundError, match=r"till.csv does not exist; .* has sales.csv.zip: mend `path`, or give"):
        read(None, more={"path": "till.csv"})


def test_a_folder_that_is_a_link_itself_is_the_sources_folder(read, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    read.data.symlink_to(tmp_path / "elsewhere")
    assert len(read(text(*LINES)).sales) == 4
    (tmp_path / "elsewhere" / "same.csv").symlink_to(tmp_path / "elsewhere" / "till.csv")
    assert len(read(None, more={"path": "same.csv"}).sales) == 4
    # and so is a database, though its log lies elsewhere
    _, name, more = as_file(tmp_path / "elsewhere", as_frame(), "duckdb")
    (tmp_path / "database").symlink_to(tmp_path / "elsewhere" / name)
    assert len(read(None, data=tmp_path / "database", more=more).sales) == 4


def test_a_database_with_a_log_is_read_as_before(read):
    # given a database of DuckDB that somebody has open, so that its last rows stand in the log
    read.data.mkdir()
    make = f"""import duckdb, os
con = duckdb.connect({str(read.data / "till.duckdb")!r})
con.execute("SET checkpoint_threshold = '1GB'; CREATE TABLE till AS FROM read_csv({str(read.data / "till.csv")!r}, all_varchar = true)")
os._exit(0)"""
    (read.data / "till.csv").write_text(text(*LINES))
    subprocess.run([sys.executable, "-c", make], check=True)
    assert (read.data / "till.duckdb.wal").exists()
    assert len(read(None, name="till.duckdb", more={"table": "till"}).sales) == 4


@pytest.mark.parametrize("name", [b"caf\xe9.csv", b"caf\xe9.zip"])
def test_a_name_that_is_not_utf8_is_refused_in_words_that_can_be_written(read, name):
    read.data.mkdir()
    Path(os.fsdecode(os.fsencode(read.data) + b"/" + name)).write_text(text(*LINES))
    with pytest.raises(ValueError, match=r"caf.xe9[.]...: its name is not UTF-8, .*: rename it") as refused:
        read(None, name="caf*")
    assert str(refused.value).encode()


# -- what has no end


def test_a_gzip_file_that_unpacks_to_too_much_is_refused_before_it_is_read(read):
    # given lines that unpack to many times their bytes, in three members
    content = text() + "\n".join(LINES) + "\n"
    member = gzip.compress(content.encode() * 2000, 9)
    packed, unpacked = gzip.compress(content.encode(), 9) + member * 2, len(content.encode()) * 4001
    told = (
        f"till.csv: {len(packed):,} bytes of gzip that unpack to more than {(unpacked - 1) / 1e9:g} GB: fetch it again"
    )
    # when it may not unpack to so much / then it is not read
    with pytest.raises(ValueError, match=re.escape(told)):
        read(packed, limits={"gigabytes": (unpacked - 1) / 1e9})
    assert len(read(packed, limits={"gigabytes": unpacked / 1e9}).sales) == 4 * 4001


@pytest.mark.parametrize("kind", ["csv", "parquet", "duckdb", "sqlite"])
def test_more_rows_than_may_be_are_refused(read, kind):
    read.data.mkdir()
    given = (text(*LINES), "till.csv", {}) if kind == "csv" else as_file(read.data, as_frame(), kind)
    with pytest.raises(ValueError, match="has more than 3 rows: .* or raise limits.rows in the source's YAML"):
        read(*given[:2], more=given[2], limits={"rows": 3})
    assert len(read(*given[:2], more=given[2], limits={"rows": 4}).sales) == 4


ENDLESS = {  # what comes after a recursion without end: rows without end, or none ever
    "rows": "",
    "no row": "WHERE n < 0",
}


@pytest.mark.parametrize("end", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_view_without_end_is_ended(read, kind, end):
    read.data.mkdir()
    database = read.data / f"till.{kind}"
    view = f"""CREATE VIEW till AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)
        SELECT 'S1' AS STORE, n AS PIECES FROM r {end}"""
    with contextlib.closing((duckdb if kind == "duckdb" else sqlite3).connect(str(database))) as con:
        con.execute(view)
    told = f"^reading till.{kind}:till: has not come to an end in 0.02 minutes: .* or raise limits.minutes in the source's YAML"
    more = {"table": "till", "columns": {"STORE": "text", "PIECES": "integer"}}
    with pytest.raises(ValueError, match=told):
        read(None, name=database.name, more=more, limits={"minutes": 0.02})


def test_a_query_without_end_is_ended(read):
    sql = f"WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) {SQL} JOIN r ON n < 0"
    with pytest.raises(ValueError, match="^running .*toy.sql: has not come to an end in 0.02 minutes: "):
        read(text(*LINES), sql=sql, limits={"minutes": 0.02})
