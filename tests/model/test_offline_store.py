"The as-of join gives each entity row what was known at its time: as plain loops do, and as Feast's own store does."

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brewcast.model.offline_store import PointInTimeTable, ViewColumns, without_type_checks

with without_type_checks():
    from feast import (
        Entity,
        FeatureService,
        FeatureStore,
        FeatureView,
        Field,
        FileSource,
        OnDemandFeatureView,
        RepoConfig,
        RequestSource,
    )
    from feast.transformation.pandas_transformation import PandasTransformation
    from feast.types import Float64, Int64, String
    from feast.value_type import ValueType

START = pd.Timestamp("2024-01-01", tz="UTC")
HOUR = pd.Timedelta(hours=1)


def known_value(versions: list[dict], keys: tuple, at: pd.Timestamp, ttl, filter_by_created: bool):
    "What a person would look up: of the rows that are visible, the newest event, then created last, then the last row."
    visible = []
    for row in versions:
        hidden = filter_by_created and not row["created"] <= at  # an empty time is never reached
        if None not in keys and row["keys"] == keys and row["event"] <= at and not hidden:
            # a time of creation that nobody wrote counts as the oldest
            visible.append((row["event"], START - 99 * HOUR if pd.isna(row["created"]) else row["created"], row["row"]))
    if not visible or (ttl and max(visible)[0] + ttl < at):
        return None
    return versions[max(visible)[2]]["value"]


POOL = {"k0": ["a", "b", None], "k1": [1, 2, 3]}
ZONES = [None, "UTC", "Asia/Tokyo", "America/New_York"]
TTLS = [None, timedelta(0), timedelta(hours=2), timedelta(hours=4), timedelta.max]


def hours(numbers) -> pd.Series:
    "Times that lie so many hours after the start."
    return pd.Series(START + pd.to_timedelta(np.asarray(numbers, dtype="int64"), unit="h"))


def random_versions(rng, keys: list[str]) -> pd.DataFrame:
    "Feature rows with few keys and few times, so that all kinds of ties are there."
    size = int(rng.integers(0, 40))
    event = rng.integers(0, 8, size)
    delay = rng.integers(-2, 6, size) if rng.random() < 0.7 else 2
    table = pd.DataFrame({key: pd.Series(rng.choice(np.array(POOL[key], dtype=object), size)) for key in keys})
    table = table.assign(at_y=hours(event), created_y=hours(event + delay).mask(rng.random(size) < 0.05))
    if rng.random() < 0.3:  # in order, as most tables are
        table = table.drop_duplicates([*keys, "at_y"]).sort_values([*keys, "at_y"], ignore_index=True)
    return table.assign(value_y=[f"v{n}" for n in range(len(table))])


def write_versions(rng, table: pd.DataFrame, path: str) -> None:
    "Write them with times in some zone and unit, in several row groups."
    zone = ZONES[rng.integers(4)]
    for name in ["at_y", "created_y"]:
        times = table[name].dt.tz_convert(zone) if zone else table[name].dt.tz_localize(None)
        table = table.assign(**{name: times.dt.as_unit(["us", "ns"][rng.integers(2)])})
    types = {"k0": pa.string(), "k1": pa.int64(), "value_y": pa.string()}
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    schema = pa.schema([field.with_type(types.get(field.name, field.type)) for field in arrow.schema])
    pq.write_table(arrow.cast(schema), path, row_group_size=7)


def random_case(rng, path: str) -> tuple[list[dict], pd.DataFrame, ViewColumns]:
    "Feature rows as dicts, entity rows, and how to join them."
    keys = ["k0", "k1"][: rng.integers(1, 3)]
    table = random_versions(rng, keys)
    write_versions(rng, table, path)
    versions = [
        {"keys": tuple(row[: len(keys)]), "event": row[-3], "created": row[-2], "value": row[-1], "row": n}
        for n, row in enumerate(table.itertuples(index=False, name=None))
    ]
    entities = pd.DataFrame({f"of_{key}": rng.choice(np.array(POOL[key], dtype=object), 30) for key in keys})
    entities["t"] = hours(rng.integers(-1, 14, 30)) + pd.to_timedelta(rng.integers(-1, 2, 30), unit="us")
    source = FileSource(path=path, timestamp_field="at_y", created_timestamp_column="created_y")
    renamed = {key: f"of_{key}" for key in keys}
    ttl = TTLS[rng.integers(len(TTLS))]
    return versions, entities, ViewColumns(source, renamed, "at_y", "created_y", {"value_y": "v"}, ttl)


@pytest.mark.parametrize("seed", range(2))
def test_each_value_is_the_one_of_plain_loops(seed, tmp_path):
    rng = np.random.default_rng([7, seed])
    known = 0
    for _ in range(8):
        versions, entities, view = random_case(rng, str(tmp_path / "versions.parquet"))
        for filter_by_created in [True, False]:
            result = PointInTimeTable(entities, "t", [view], filter_by_created, ".").to_pyarrow()
            ttl = None if view.ttl == timedelta.max else view.ttl
            expected = [
                known_value(versions, tuple(row[:-1]), row[-1], ttl, filter_by_created)
                for row in entities.itertuples(index=False, name=None)
            ]
            assert result["v"].to_pylist() == expected
            assert result.drop_columns("v").to_pylist() == entities.to_dict("records")
            known += sum(value is not None for value in expected)
    assert known > 100


OURS = "brewcast.model.offline_store.AsOfOfflineStore"


def ratio_of(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"ratio": inputs.sold / inputs.target})


def definitions(folder) -> list:
    "Two entities, views with one key and with both, another name for a column, and a transformation."
    store = Entity(name="store", join_keys=["store_id"], value_type=ValueType.STRING)
    product = Entity(name="product", join_keys=["product_id"], value_type=ValueType.INT64)
    times = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created"}
    sales_file = FileSource(name="sales", path=f"{folder}/sales.parquet", field_mapping={"qty": "sold"}, **times)
    cities_file = FileSource(name="cities", path=f"{folder}/cities.parquet", timestamp_field="event_timestamp")
    sales = FeatureView(
        name="sales",
        entities=[store, product],
        source=sales_file,
        ttl=timedelta(hours=3),
        schema=[Field(name="sold", dtype=Float64), Field(name="lines", dtype=Int64), Field(name="note", dtype=String)],
    )
    cities = FeatureView(name="cities", entities=[store], source=cities_file, schema=[Field(name="city", dtype=String)])
    request = RequestSource(name="plan", schema=[Field(name="target", dtype=Float64)])
    ratio = OnDemandFeatureView(
        name="ratio",
        sources=[sales, request],
        schema=[Field(name="ratio", dtype=Float64)],
        mode="pandas",
        feature_transformation=PandasTransformation(ratio_of, "ratio"),
    )
    depot = cities.with_name("depot").with_join_key_map({"store_id": "depot_id"})
    both = FeatureService(name="both", features=[sales, cities.with_name("home"), depot, ratio])
    return [store, product, sales_file, cities_file, sales, cities, ratio, both]


def write_tables(rng, folder) -> pd.DataFrame:
    "The two tables of the definitions, with corrections. Returns the entity rows."
    event = rng.integers(0, 8, 90)
    sales = pd.DataFrame({"store_id": rng.choice(["S1", "S2", "S3"], 90), "product_id": rng.integers(1, 4, 90)})
    sales = sales.assign(event_timestamp=hours(event), created=hours(event + rng.integers(-1, 5, 90)))
    sales = sales.drop_duplicates(ignore_index=True)  # two rows with all times equal: Feast takes any
    sales = sales.assign(
        qty=rng.normal(size=len(sales)), lines=range(len(sales)), note=[f"n{n}" for n in range(len(sales))]
    )
    sales.to_parquet(folder / "sales.parquet")
    cities = pd.DataFrame({"store_id": ["S1", "S2", "S1"], "event_timestamp": hours([1, 1, 4]), "city": list("xyz")})
    cities.to_parquet(folder / "cities.parquet")
    entities = pd.DataFrame(
        {"store_id": rng.choice(["S1", "S2", "S3", "S4"], 60), "product_id": rng.integers(1, 4, 60)}
    )
    entities = entities.assign(
        depot_id=rng.choice(["S1", "S2"], 60), target=2.0, event_timestamp=hours(rng.integers(0, 14, 60))
    )
    entities = pd.concat([entities, entities.iloc[:9]])  # the same questions again, with an index that is not unique
    return entities


@pytest.fixture(scope="module")
def feast_stores(tmp_path_factory):
    "One registry read with our store and with Feast's, and the entity rows."
    folder = tmp_path_factory.mktemp("offline")
    entities = write_tables(np.random.default_rng(3), folder)

    def store_of(kind: str) -> FeatureStore:
        return FeatureStore(
            config=RepoConfig(
                project="toy",
                provider="local",
                registry=str(folder / "registry.db"),
                online_store={"type": "sqlite", "path": str(folder / "online.db")},
                offline_store={"type": kind},
                entity_key_serialization_version=3,
            )
        )

    ours = store_of(OURS)
    ours.apply(definitions(folder))
    return ours, store_of("duckdb"), entities


@pytest.mark.parametrize(
    "zone, filter_by_created", [(None, True), ("UTC", False), ("Asia/Tokyo", True), ("text", False)]
)
def test_feasts_api_returns_what_its_own_store_returns(feast_stores, zone, filter_by_created):
    # given entity rows with times of this zone
    ours, stock, entities = feast_stores
    times = entities.event_timestamp
    change = {None: lambda: times.dt.tz_localize(None), "text": lambda: times.astype(str)}
    entities = entities.assign(event_timestamp=change.get(zone, lambda: times.dt.tz_convert(zone))())
    service = ours.get_feature_service("both")  # has one view twice, for two columns of the entity rows
    for features in [service, ["sales:note", "cities:city", "sales:sold", "ratio:ratio"]]:
        settings = {"full_feature_names": features is service, "filter_by_created_timestamp": filter_by_created}
        result = ours.get_historical_features(entities, features, **settings).to_df()
        expected = stock.get_historical_features(entities, features, **settings).to_df()
        # then the values, their types and the order of the columns are the same; Feast's rows have no order, and its
        # times no nanoseconds
        columns = list(result)
        sorted_rows = expected.astype({"event_timestamp": result.event_timestamp.dtype})
        sorted_rows = sorted_rows.sort_values(columns, ignore_index=True)
        pd.testing.assert_frame_equal(result.sort_values(columns, ignore_index=True), sorted_rows)
        # and ours are those of the entity rows, in their order
        kept = entities.assign(event_timestamp=times).reset_index(drop=True)
        pd.testing.assert_frame_equal(result[list(kept)], kept, check_dtype=False)


def test_a_later_event_that_was_created_earlier_stays_the_newest(tmp_path):
    # given February's row, created before January's correction
    path = str(tmp_path / "rows.parquet")
    table = pd.DataFrame({"key": "a", "event": hours([1, 5, 1]), "created": hours([2, 6, 9]), "ends_with_y": [1, 2, 3]})
    table.to_parquet(path)
    source = FileSource(path=path, timestamp_field="event", created_timestamp_column="created")
    view = ViewColumns(source, {"key": "key"}, "event", "created", {"ends_with_y": "ends_with_y"}, None)
    entities = pd.DataFrame({"key": "a", "of_y": 1.5, "t": list(hours([10, 8, 5, 1]))}, index=[7, 7, 3, 1])
    # then a correction of an older event is not used after it, and no correction before it was made
    result = PointInTimeTable(entities, "t", [view], True, ".").execute()
    assert result.ends_with_y.fillna(0).tolist() == [2, 2, 1, 0] and result.of_y.tolist() == [1.5] * 4
    # and without any entity row, or any time, there are the columns
    for rows in [entities.iloc[:0], entities.assign(t=pd.Series(pd.NaT, index=[1], dtype="datetime64[us, UTC]"))]:
        empty = PointInTimeTable(rows, "t", [view], True, ".").execute()
        assert list(empty) == ["key", "of_y", "t", "ends_with_y"] and empty.ends_with_y.isna().all()


def test_entity_rows_with_the_name_of_a_feature_are_refused(feast_stores):
    ours, _, entities = feast_stores
    with pytest.raises(ValueError, match=r"the columns \['sold'\] have the names of features"):
        ours.get_historical_features(entities.assign(sold=1.0), ["sales:sold"])


def test_too_little_memory_names_the_setting(feast_stores, monkeypatch):
    ours, _, entities = feast_stores
    monkeypatch.setenv("BREWCAST_MEMORY", "1MB")
    with pytest.raises(MemoryError, match="point-in-time join: needs more than 1MB .* set BREWCAST_MEMORY"):
        ours.get_historical_features(pd.concat([entities] * 3000), ["sales:sold"]).to_arrow()
