"Feast returns the values of the tables, offline and online, and nothing that was not known yet."

import contextlib
import sqlite3
from datetime import datetime

import pandas as pd
import pyarrow.parquet as pq
import pytest
from tables import CALENDAR, all_tables, at, corrected_months, make_lines, make_plan, months_at, months_of, plan_of

from brewcast.common.core import write_parquet
from brewcast.model.feature_store import (
    load_definitions,
    materialize_features,
    online_rows,
    open_store,
    point_in_time_join,
    view_problems,
)
from brewcast.model.features import FEATURE_TABLES, feature_tables, feature_versions, open_series, record_versions
from brewcast.model.recipes import FEATURES
from brewcast.model.train import decision_rows, training_rows


@pytest.fixture(scope="module")
def world():
    return make_lines(), make_plan()


@pytest.fixture(scope="module")
def feast_folder(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    tables = all_tables(*world)
    for name, table in tables.items():
        write_parquet(table, folder / f"{name}.parquet")
    materialize_features(folder, "toy", tables["history"].event_timestamp.max().tz_localize(None))
    return folder, tables


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in FEATURES if pd.api.types.is_numeric_dtype(table[name])]
    return table.set_index("series_id").sort_index()[names].astype(float)


def test_offline_and_online_values_are_the_tables(feast_folder):
    folder, tables = feast_folder
    last = tables["history"].event_timestamp.max()
    table = tables["history"].merge(tables["ahead"], on=["series_id", "event_timestamp", "created"])
    table = table.merge(tables["profile"], on=["series_id", "event_timestamp", "created"])
    joined = point_in_time_join(
        folder, "toy", table[["series_id", "created"]].rename(columns={"created": "decided_at"})
    )
    for name in FEATURES:
        pd.testing.assert_series_equal(joined[name], table[name], check_dtype=False)
    table = table[table.event_timestamp == last]
    online = online_rows(folder, "toy", sorted(table.series_id))
    pd.testing.assert_frame_equal(numbers(online), numbers(table)[numbers(online).columns], check_exact=True)
    assert set(online.series_id) == {"S0", "S1", "S2", "S3", "S4", "S5"}  # closed stores are not served


def test_another_librarys_date_format_for_sqlite_does_not_reach_the_online_store(feast_folder, tmp_path):
    # given a process in which nbformat was imported after Feast: it writes dates to SQLite as text
    folder, tables = feast_folder
    for name, table in tables.items():
        write_parquet(table, tmp_path / f"{name}.parquet")
    sqlite3.register_adapter(datetime, datetime.isoformat)
    # when the online store is made there
    materialize_features(tmp_path, "toy", tables["history"].event_timestamp.max().tz_localize(None))
    # then its times are numbers, as Feast reads them, and the rows are the same
    with contextlib.closing(sqlite3.connect(tmp_path / "online.db")) as online:
        assert online.execute("SELECT DISTINCT typeof(event_ts) FROM brewcast_toy_history").fetchall() == [("integer",)]
    series = sorted(tables["history"].series_id.unique())
    pd.testing.assert_frame_equal(online_rows(tmp_path, "toy", series), online_rows(folder, "toy", series))


def test_a_correction_made_after_the_decision_is_not_used(feast_folder, tmp_path):
    # given a row of the same event, created a week after the decision
    folder, tables = feast_folder
    for name in ["ahead", "profile"]:
        write_parquet(tables[name], tmp_path / f"{name}.parquet")
    history = tables["history"]
    late = history.assign(rate_last=-1.0, created=history.created + pd.Timedelta(days=7))
    write_parquet(pd.concat([history, late], ignore_index=True), tmp_path / "history.parquet")
    materialize_features(tmp_path, "late", history.event_timestamp.max().tz_localize(None))
    decisions = history[["series_id", "created"]].rename(columns={"created": "decided_at"})
    # when training asks at the decision, and when somebody asks a week later
    then = point_in_time_join(tmp_path, "late", decisions)
    later = point_in_time_join(
        tmp_path, "late", decisions.assign(decided_at=decisions.decided_at + pd.Timedelta(days=8))
    )
    # then only the second knows of the correction, for every row of it
    assert (then.rate_last.to_numpy() == history.rate_last.to_numpy()).all()
    assert (later.rate_last == -1.0).all()


def test_before_a_row_was_created_nothing_is_known(feast_folder):
    folder, tables = feast_folder
    first = tables["history"].groupby("series_id").created.min().reset_index()
    early = first.assign(decided_at=first.created - pd.Timedelta(hours=1))[["series_id", "decided_at"]]
    assert point_in_time_join(folder, "toy", early).rate_last.isna().all()


def test_written_tables_have_plain_types(feast_folder):
    schema = pq.read_schema(feast_folder[0] / "history.parquet")
    assert str(schema.field("event_timestamp").type) == "timestamp[us, tz=UTC]"
    assert str(schema.field("has_own_season").type) == "int64"


@pytest.fixture(scope="module")
def corrected(world):
    return corrected_months(*world)


def test_offline_online_and_the_table_agree_after_a_correction(corrected, tmp_path):
    versions, plan, _, final = corrected
    tables = feature_versions(versions, plan, CALENDAR)
    for name, table in tables.items():
        write_parquet(table, tmp_path / f"{name}.parquet")
    cutoff = pd.Timestamp("2024-06-30")
    materialize_features(tmp_path, "late", cutoff)
    online = numbers(online_rows(tmp_path, "late", open_series(tables["history"], cutoff)))
    decisions = pd.DataFrame({"series_id": online.index, "decided_at": at("2024-06-01", hours=2)})
    offline = numbers(point_in_time_join(tmp_path, "late", decisions))
    pd.testing.assert_frame_equal(online[offline.columns], offline, check_exact=True)
    fresh = feature_tables(final, plan, CALENDAR)["history"]
    fresh = fresh[fresh.event_timestamp == cutoff.tz_localize("UTC")].set_index("series_id")
    assert online.rate_last.equals(fresh.rate_last.astype(float)) and online.rate_last["S2"] > 0
    # a decision before the correction gets the values of that time
    earlier = point_in_time_join(tmp_path, "late", decisions.assign(decided_at=at("2024-06-01"))).set_index("series_id")
    assert earlier.rate_mean3["S2"] != online.rate_mean3["S2"]


def problems_of(tables: dict[str, pd.DataFrame], folder) -> list[str]:
    "The differences between these tables and the definitions."
    for name in FEATURE_TABLES:
        write_parquet(tables[name], folder / f"{name}.parquet")
    return view_problems(open_store(folder, "toy"), load_definitions())


def test_each_view_shows_the_columns_of_its_table(feast_folder, tmp_path):
    # given the tables of a source with a plan, and of a source without plan, prices, countries and promotions
    store_month = months_at({"S1": [4.0] * 14, "S2": [5.0] * 14})
    lacking = dict.fromkeys(["country", "city", "price", "weather", "promotion", "promotion_share"])
    versions = record_versions(store_month.assign(**lacking), None, CALENDAR)
    # then the fields of the views are their columns, with the types that Feast finds in the files
    assert problems_of(feast_folder[1], tmp_path) == []
    assert (
        problems_of(
            feature_versions(versions, plan_of(), CALENDAR.model_copy(update={"countries": {"*": None}})), tmp_path
        )
        == []
    )
    # and the views are what the registry stores, in the order of the tables
    for view in open_store(feast_folder[0], "toy").list_feature_views():
        table = feast_folder[1][view.name]
        columns = [name for name in table if name not in ("series_id", "event_timestamp", "created")]
        assert [field.name for field in view.features] == columns


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda table: table.assign(rate_new=1.0), "the view history does not show the column rate_new of history"),
        (lambda table: table.drop(columns="volatility"), "history.parquet has no column volatility, which the view"),
        (lambda table: table.assign(has_own_season=0.5), "shows has_own_season as Int64, but in history.parquet it is"),
    ],
    ids=["a column that the view lacks", "a field that the table lacks", "another type"],
)
def test_a_build_refuses_a_table_that_its_view_does_not_show(feast_folder, tmp_path, change, problem):
    # given a table that was changed and definitions that were not
    tables = feast_folder[1] | {"history": change(feast_folder[1]["history"])}
    problems = problems_of(tables, tmp_path)
    assert len(problems) == 1 and problem in problems[0]
    # then nothing is materialized
    with pytest.raises(ValueError, match="feature_repo/definitions.py: .*history"):
        materialize_features(tmp_path, "toy", tables["history"].event_timestamp.max().tz_localize(None))
    assert not (tmp_path / "online.db").exists()


def test_rows_without_feast_are_those_of_its_point_in_time_join(feast_folder, world):
    # given the same store-months and plan as Feast's tables were made from
    folder, tables = feast_folder
    write_parquet(tables["outcomes"], folder / "outcomes.parquet")
    joined = training_rows(folder, "toy").sort_values(["series_id", "cutoff"], ignore_index=True)
    # then the rows are the same
    lines, plan = world
    own = decision_rows(months_of(lines), CALENDAR, plan)
    pd.testing.assert_frame_equal(own, joined[list(own)], check_dtype=False)
    assert len(own) > 100 and own.actual.notna().any()
