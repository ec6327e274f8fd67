"Contracts: the rules of each table, and the error of a table that breaks them."

import datetime

import pandas as pd
import pyarrow as pa
import pytest

from brewcast.common.contracts import (
    FORECAST,
    PLAN,
    QUARANTINE,
    STORE_MONTH,
    check_table,
    connect,
)

JANUARY = datetime.date(2024, 1, 1)
GOOD = {
    "plan": {"store_id": "S1", "month": JANUARY, "published": datetime.date(2023, 12, 1), "price": 2.5}
    | {"promotion_share": 0.25, "trading_days": 31},
    "quarantine": {"table": "till", "file": "till.csv", "line": 2, "column": None, "reason": "is empty", "row": "S1"},
    "store_month": {"series_id": "S1", "store_id": "S1", "month": JANUARY, "country": None, "city": None}
    | {"quantity_sold": 9.0, "price": None, "weather": "Hot", "promotion": None, "holiday": None, "is_weekend": 0.25}
    | {"season": "winter", "trading_days": 31, "promotion_share": None, "lines": 40}
    | {"first_date": JANUARY, "last_date": datetime.date(2024, 1, 31)},
    "forecast": {"store_id": "S1", "series_id": "S1", "month": JANUARY, "cutoff": datetime.date(2023, 12, 31)}
    | {"forecast": 9.0, "lower": 8.0, "upper": 10.0, "recipe": "last_month", "young": False}
    | {"features_as_of": datetime.date(2023, 12, 31)},
}
SCHEMAS = {schema.name: schema for schema in (PLAN, QUARANTINE, STORE_MONTH, FORECAST)}


def table(name: str, **changes) -> pa.Table:
    kinds = [(column, spec.dtype.type.to_pyarrow()) for column, spec in SCHEMAS[name].columns.items()]
    return pa.Table.from_pylist([GOOD[name] | changes], schema=pa.schema(kinds))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_good_table_passes_with_its_columns_in_order_and_types(name):
    # given a good row with its columns in another order, and an extra column
    shuffled = table(name).to_pandas()[::-1].assign(more=1)[["more", *reversed(SCHEMAS[name].columns)]]

    # when it is checked
    checked = check_table(shuffled, SCHEMAS[name])

    # then its columns have the contract's order and types
    assert checked.schema == table(name).schema
    assert checked.equals(table(name))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_missing_column_is_named(name):
    first = next(iter(SCHEMAS[name].columns))
    with pytest.raises(ValueError, match=rf"{name}: missing columns \['{first}'\]"):
        check_table(table(name).drop_columns(first), SCHEMAS[name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_empty_table_passes(name):
    assert check_table(table(name).slice(1), SCHEMAS[name]).num_rows == 0


@pytest.mark.parametrize("name", [name for name, schema in SCHEMAS.items() if schema.unique])
def test_a_duplicate_key_is_refused(name):
    twice = pa.concat_tables([table(name), table(name)])
    with pytest.raises(ValueError, match=rf"{name}: 1 key is there more than once in .* \(first: "):
        check_table(twice, SCHEMAS[name])


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("plan", {"month": datetime.date(2024, 1, 2)}, "column 'month' is not the first day of a month"),
        ("plan", {"promotion_share": 25.0}, "column 'promotion_share' is not within 0 and 1"),
        ("plan", {"price": float("inf")}, "column 'price' is not a finite number"),
        ("store_month", {"quantity_sold": float("nan")}, "column 'quantity_sold' is not a finite number"),
        ("store_month", {"weather": "Foggy"}, "column 'weather' is none of Hot, Cold, Rainy"),
        ("store_month", {"season": None}, "column 'season' is empty"),
        ("forecast", {"upper": 8.5}, "column 'forecast' is not within lower and upper"),
        ("forecast", {"forecast": -1.0, "lower": -2.0}, "column 'forecast' is below 0"),
    ],
)
def test_a_bad_row_is_shown(name, changes, message):
    with pytest.raises(ValueError, match=f"{name}: {message} in 1 of 1 row \\(first: "):
        check_table(table(name, **changes), SCHEMAS[name])


def test_the_input_is_not_changed():
    frame = table("plan").to_pandas()
    before = frame.copy()
    check_table(frame, PLAN)
    pd.testing.assert_frame_equal(frame, before)


def test_the_engine_has_limits(monkeypatch):
    monkeypatch.setenv("BREWCAST_MEMORY", "300MB")
    monkeypatch.setenv("BREWCAST_THREADS", "1")
    settings = connect().con.execute("SELECT current_setting('memory_limit'), current_setting('threads')").fetchone()
    assert settings == ("286.1 MiB", 1)
