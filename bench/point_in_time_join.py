"""The point-in-time join through Feast's API, beside the plain DuckDB query, pandas' merge_asof and Feast's own store.

    .venv/bin/python bench/point_in_time_join.py [--sizes 1000x12,5000x48,50000x12,50000x60] [--repeat 1] [--out FILE]

A size is stores x months. Each store has a row of ten features a month, known two days later; each entity row asks for one
store at the time when such a row became known, in random order. Nothing is corrected, so the plain query is right, too: it
joins on the time from which a row is known, and returns the rows in the order of the entity rows, as the others do. pandas
sorts by time and back.

Each contender runs in its own process, from a pandas frame of entity rows in memory to an Arrow table. Its time starts when
the frame is loaded and one row was joined, so that every library is loaded, too; the peak is that of the whole process. Its table must have every value of the plain
query's. Feast's own DuckDB store runs in the smallest size only: it needs minutes and gigabytes for the others.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

CONTENDERS = {
    "plain": "plain DuckDB query",
    "ours": "Feast's API, our store",
    "pandas": "pandas merge_asof",
    "stock": "Feast's API, its DuckDB store",
}
OURS = "brewcast.model.offline_store.AsOfOfflineStore"
FEATURES = [f"feature_{n}" for n in range(10)]
DELAY = pd.Timedelta(days=2)  # from the end of a month until its row is known


def write_tables(folder: Path, stores: int, months: int) -> None:
    "The features, and the entity rows in random order."
    rng = np.random.default_rng(7)
    ends = pd.date_range("2019-01-31", periods=months, freq="ME", tz="UTC").as_unit("us")
    names = np.array([f"S{n:06d}" for n in range(stores)], dtype=object)
    table = pd.DataFrame({"store_id": np.repeat(names, months), "event_timestamp": np.tile(ends, stores)})
    table["created"] = table.event_timestamp + DELAY
    for name in FEATURES:
        table[name] = rng.normal(size=len(table))
    table.to_parquet(folder / "features.parquet", index=False)
    entities = table[["store_id", "created"]].rename(columns={"created": "event_timestamp"})
    entities.sample(frac=1, random_state=7).to_parquet(folder / "entities.parquet", index=False)


def prepare_plain(folder: Path):
    "An as-of join in SQL, without Feast."
    from brewcast.common.contracts import connect

    con = connect().con
    table = f"(SELECT *, greatest(event_timestamp, created) AS known FROM '{folder}/features.parquet')"

    def join(entities: pd.DataFrame) -> pa.Table:
        con.register("entities", entities.assign(row=np.arange(len(entities))))
        names = ", ".join(f"f.{name}" for name in FEATURES)
        return con.execute(
            f"SELECT e.store_id, e.event_timestamp, {names} FROM entities e ASOF LEFT JOIN {table} f"
            " ON e.store_id = f.store_id AND e.event_timestamp >= f.known ORDER BY e.row"
        ).to_arrow_table()

    return join


def prepare_feast(folder: Path, kind: str):
    "The same question to `FeatureStore.get_historical_features`."
    from brewcast.model.offline_store import without_type_checks

    with without_type_checks():
        from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
        from feast.types import Float64

    config = RepoConfig(
        project="bench",
        provider="local",
        registry=f"{folder}/registry.db",
        online_store={"type": "sqlite", "path": f"{folder}/online.db"},
        offline_store={"type": kind},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    shop = Entity(name="store", join_keys=["store_id"], value_type=ValueType.STRING)
    source = FileSource(
        name="rows",
        path=f"{folder}/features.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    schema = [Field(name=name, dtype=Float64) for name in FEATURES]
    view = FeatureView(name="view", source=source, entities=[shop], ttl=timedelta(days=45), schema=schema)
    store.apply([shop, source, view])
    names = [f"view:{name}" for name in FEATURES]

    def join(entities: pd.DataFrame) -> pa.Table:
        return store.get_historical_features(entities, names, filter_by_created_timestamp=True).to_arrow()

    return join


def prepare_pandas(folder: Path):
    "Both tables sorted by time, joined, and sorted back."

    def join(entities: pd.DataFrame) -> pa.Table:
        table = pd.read_parquet(folder / "features.parquet")
        table["known"] = table[["event_timestamp", "created"]].max(axis=1)
        table = table.drop(columns=["event_timestamp", "created"]).sort_values("known")
        left = entities.reset_index(drop=True).rename_axis("row").reset_index().sort_values("event_timestamp")
        joined = pd.merge_asof(left, table, left_on="event_timestamp", right_on="known", by="store_id")
        return pa.Table.from_pandas(joined.sort_values("row").drop(columns=["row", "known"]), preserve_index=False)

    return join


def run_contender(name: str, folder: Path) -> None:
    "Join once in this process; write the table, and print what it took."
    entities = pd.read_parquet(folder / "entities.parquet").reset_index(drop=True)
    if name in ("ours", "stock"):
        join = prepare_feast(folder, OURS if name == "ours" else "duckdb")
    else:
        join = {"plain": prepare_plain, "pandas": prepare_pandas}[name](folder)
    join(entities.head(1))  # what a library loads at its first use is no cost of a join
    before = time.perf_counter(), time.process_time()
    table = join(entities)
    seconds = {"wall_s": time.perf_counter() - before[0], "cpu_s": time.process_time() - before[1]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    print(json.dumps({name: round(value, 3) for name, value in seconds.items()} | {"peak_mb": round(peak)}))


def wrong_values(folder: Path, name: str) -> int:
    "How many values differ from the plain query's. Feast's own store has no order of rows, so both are sorted."
    tables = []
    for which in ("plain", name):
        table = pa.ipc.open_file(pa.memory_map(str(folder / f"{which}.arrow"))).read_all()
        if name == "stock":
            table = table.sort_by([("store_id", "ascending"), ("event_timestamp", "ascending")])
        tables.append(table)
    expected, found = tables
    wrong = abs(len(expected) - len(found))
    for column in ["store_id", "event_timestamp", *FEATURES]:
        values = found[column].cast(expected[column].type).to_numpy()
        truth = expected[column].to_numpy()
        wrong += int((values != truth).sum()) if len(values) == len(truth) else len(truth)
    return wrong


def measure(folder: Path, name: str, repeat: int) -> dict:
    "The quickest of some runs, each in a process of its own."
    command = [sys.executable, "-W", "ignore", __file__, "--contender", name, "--folder", str(folder)]
    runs = []
    for _ in range(repeat):
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        runs.append(json.loads(output.splitlines()[-1]))
    return min(runs, key=lambda run: run["cpu_s"]) | {"wrong_values": wrong_values(folder, name)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="1000x12,5000x48,50000x12,50000x60", help="stores x months, smallest first")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each contender; the quickest counts")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        return run_contender(args.contender, args.folder)
    results = []
    for number, size in enumerate(args.sizes.split(",")):
        stores, months = map(int, size.split("x"))
        print(f"\n{stores:,} stores x {months} months: {stores * months:,} entity rows, {len(FEATURES)} features")
        print(f"{'':32}{'wall s':>8}{'CPU s':>8}{'x plain':>9}{'peak MB':>9}{'wrong':>7}")
        with tempfile.TemporaryDirectory() as folder:
            write_tables(Path(folder), stores, months)
            contenders = [name for name in CONTENDERS if name != "stock" or number == 0]
            runs = {name: measure(Path(folder), name, args.repeat) for name in contenders}
        for name, run in runs.items():
            ratio = run["cpu_s"] / runs["plain"]["cpu_s"]
            print(
                f"{CONTENDERS[name]:32}{run['wall_s']:8.2f}{run['cpu_s']:8.2f}{ratio:9.2f}"
                f"{run['peak_mb']:9,.0f}{run['wrong_values']:7}"
            )
            results.append(
                {"stores": stores, "months": months, "contender": name, "x_plain_cpu": round(ratio, 3)} | run
            )
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")
    if wrong := sum(run["wrong_values"] for run in results):
        sys.exit(f"{wrong} values are not those of the plain query")


if __name__ == "__main__":
    main()
