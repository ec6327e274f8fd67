"Lines of a month: their order is DuckDB's, and pieces, ranges of stores and files make no difference."

import datetime as dt
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from brewcast.data.month_lines import (
    concat_lines,
    encode_values,
    find_repeats,
    sort_by_all_columns,
    store_ranges,
    without_dictionaries,
)

TEXTS = ["S1", "S10", "S2", "", " ", "É", "e", "ß", "東京", "🥐", "a\u0301", "\uffff", "\U00010000"]
NUMBER = pa.decimal128(18, 6)


def random_lines(seed: int, rows: int, kinds: str) -> pa.Table:
    "Columns of texts, dates, booleans and decimals in random order, with empty values; wide numbers fill 64 bits alone."
    rng = np.random.default_rng(seed)
    share = rng.choice([0, 0.1, 0.9])

    def column(kind: str) -> pa.Array:
        if kind == "t":
            values, of_type = rng.choice(np.array(TEXTS, dtype=object), rows).tolist(), pa.string()
        elif kind == "d":
            values, of_type = (
                [dt.date(1969, 12, 20) + dt.timedelta(int(n)) for n in rng.integers(0, 31, rows)],
                pa.date32(),
            )
        elif kind == "b":
            values, of_type = rng.choice([True, False], rows).tolist(), pa.bool_()
        elif kind == "n":
            values, of_type = [Decimal(int(n)) / 4 for n in rng.integers(-20, 20, rows)], NUMBER
        else:  # nearly as large as DECIMAL(18, 6) can be, and below 0, too
            values = [Decimal(int(n)).scaleb(-6) for n in rng.integers(-(10**18) + 1, 10**18, rows)]
            of_type = NUMBER
        is_empty = rng.random(rows) < share
        return pa.array([None if gone else value for gone, value in zip(is_empty, values, strict=True)], of_type)

    return pa.table({f"c{n}": column(kind) for n, kind in enumerate(kinds)})


KINDS = ["t", "w", "tdbn", "wwwt", "nbdtn", "twbwd", "bbbb", "wn", "tttttttttttttttttttt"]


@pytest.mark.parametrize("kinds", KINDS)
def test_lines_are_sorted_as_duckdb_sorts_them(kinds):
    for seed, rows in enumerate((0, 1, 2, 40, 3000)):
        # given random lines
        lines = random_lines(seed, rows, kinds)
        # when they are sorted as numbers, and by DuckDB
        found = sort_by_all_columns(encode_texts(lines))
        order = ", ".join(f"{name} NULLS FIRST" for name in lines.column_names)
        expected = duckdb.from_arrow(lines).order(order).to_arrow_table()
        # then the rows are the same, in the same order
        assert without_dictionaries(found).cast(lines.schema).equals(expected.cast(lines.schema))


def encode_texts(lines: pa.Table) -> pa.Table:
    "Texts with dictionaries, as in the pieces."
    for n, field in enumerate(lines.schema):
        if pa.types.is_string(field.type):
            lines = lines.set_column(n, field.name, lines[field.name].dictionary_encode())
    return lines


def test_equal_numbers_with_dictionaries_sort_the_same():
    lines = random_lines(3, 400, "tndw")
    assert (
        sort_by_all_columns(encode_values(lines))
        .cast(lines.schema)
        .equals(sort_by_all_columns(encode_texts(lines)).cast(lines.schema))
    )


def test_numbers_at_the_limits_of_64_bits_stay_exact():
    largest = Decimal(10**18 - 1).scaleb(-6)
    values = [largest, None, -largest, Decimal(0), Decimal("0.000001"), Decimal("-0.000001")]
    lines = pa.table({"a": pa.array([True] * 6), "n": pa.array(values, NUMBER), "b": pa.array([None] * 6, pa.bool_())})
    ordered = sort_by_all_columns(lines)["n"].to_pylist()
    assert ordered == [None, *sorted(value for value in values if value is not None)]


@pytest.mark.parametrize("seed", range(3))
def test_pieces_that_are_joined_are_the_lines_that_were_divided(seed):
    lines = random_lines(seed, 700, "tnwdb")
    parts = [encode_values(lines.slice(start, 90)) for start in range(0, 700, 90)]
    assert len({part.schema for part in parts}) >= 1
    assert without_dictionaries(concat_lines(parts)).cast(lines.schema).equals(lines.combine_chunks())


def test_ranges_of_stores_have_every_store_once_in_the_order_of_bytes():
    n_lines = {name: n + 1 for n, name in enumerate(TEXTS)}
    for most in (1, 5, 20, 1000):
        ranges = store_ranges(n_lines, most)
        names = sorted(n_lines, key=str.encode)
        inside = [
            [name for name in names if first.encode() <= name.encode() <= last.encode()] for first, last in ranges
        ]
        assert sum(inside, []) == names
        assert all(len(stores) == 1 or sum(n_lines[store] for store in stores) <= most for stores in inside)


@pytest.mark.parametrize("key", [["c0"], ["c0", "c1"], ["c1", "c2", "store_id"], ["date"]])
def test_repeats_of_a_key_are_all_lines_but_the_first(tmp_path, key):
    # given lines of two files, in two pieces, with empty values in the key
    lines = random_lines(1, 200, "tnb")
    days = [dt.date(2024, 1, 1 + n % 28) for n in range(200)]
    known = {"date": pa.array(days, pa.date32()), "store_id": pa.array([f"S{n % 3}" for n in range(200)])}
    known |= {"_file": pa.array(["b.csv"] * 100 + ["a.csv"] * 100), "_line": pa.array([*range(100)] * 2, pa.int64())}
    for name, column in known.items():
        lines = lines.append_column(name, column)
    pieces = []
    for n in range(2):
        piece = encode_values(lines.slice(n * 100, 100))
        pieces.append(tmp_path / f"2024-01.{n}.arrow")
        with pa.ipc.new_stream(pieces[-1], piece.schema) as writer:
            writer.write_table(piece)
    # when
    found = [(row["_file"], row["_line"]) for row in find_repeats(pieces, key).to_pylist()]
    # then each key's first line, by file and line, is not among them
    seen, expected = set(), []
    for row in sorted(lines.to_pylist(), key=lambda row: (row["_file"], row["_line"])):
        value = tuple(row[name] for name in key)
        if value in seen:
            expected.append((row["_file"], row["_line"]))
        seen.add(value)
    assert found == expected != []
