"""Rows from an online store: brewcast.serving.online_store beside Feast's get_online_features, in one run.

    .venv/bin/python bench/online.py [--stores 10000]

Starts a Redis and a PostgreSQL of its own (Debian: redis-server, postgresql) and reads from them and from SQLite. The two
read by turns; the figure is the median. What each costs a process to import is measured in processes of their own.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from servers import PostgresServer, RedisServer  # noqa: E402
from tables import all_tables, make_lines, make_plan  # noqa: E402

from brewcast.common.core import write_json, write_parquet  # noqa: E402
from brewcast.model.feature_store import feature_views, materialize_features, open_store  # noqa: E402
from brewcast.registry.online_writer import feast_settings, push_online  # noqa: E402
from brewcast.serving.online_store import open_rows  # noqa: E402

CUTOFF = datetime(2024, 6, 30, tzinfo=UTC)
IMPORTS = {
    "ours, redis": "import brewcast.serving.online_store, redis, mmh3",
    "ours, postgresql": "import brewcast.serving.online_store, psycopg",
    "Feast": "import feast",
}
RESOURCES = "; import psutil; p = psutil.Process(); print(sum(p.cpu_times()[:2]), p.memory_info().rss / 2**20)"


def write_tables(folder: Path, stores: int) -> list[str]:
    "One store's row at the cutoff for as many stores as are asked for."
    ids = [f"S{i:05d}" for i in range(stores)]
    folder.mkdir(parents=True)
    for name, table in all_tables(make_lines(), make_plan()).items():
        if name != "outcomes":
            row = table[(table.series_id == "S1") & (table.event_timestamp == CUTOFF)]
            many = pd.concat([row] * stores, ignore_index=True).assign(series_id=ids)
            write_parquet(many, folder / f"{name}.parquet")
    write_json({"cutoff": str(CUTOFF.date())}, folder / "features.json")
    return ids


def medians(readers: dict, times: int) -> dict[str, float]:
    "Milliseconds of each reader, read by turns."
    spent = {name: [] for name in readers}
    for _ in range(times + 1):
        for name, read in readers.items():
            begun = time.perf_counter()
            read()
            spent[name].append(time.perf_counter() - begun)
    return {name: 1000 * statistics.median(seconds[1:]) for name, seconds in spent.items()}  # the first connects


def compare(name: str, ids: list[str], folder: Path, url: str, settings: dict | None) -> None:
    rows = open_rows(url, **feature_views(folder, "bench"), timeout=30)
    store = open_store(folder, "bench", online=settings)
    service = store.get_feature_service("next_month")
    for count, times in ((1, 200), (100, 20), (len(ids), 3)):
        asked = ids[:count]
        entities = [{"series_id": series_id} for series_id in asked]
        took = medians(
            {
                "ours": lambda asked=asked: rows.read(asked, as_of=CUTOFF),
                "feast": lambda entities=entities: store.get_online_features(service, entities).to_dict(),
            },
            times,
        )
        print(f"{name:<12}{count:>8}{took['ours']:>12.2f}{took['feast']:>12.2f}{took['feast'] / took['ours']:>8.1f}")
    rows.close()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--stores", type=int, default=10_000)
    stores = asked.parse_args().stores
    with tempfile.TemporaryDirectory() as beside, RedisServer() as redis, PostgresServer() as postgres:
        folder = Path(beside) / "products/bench/features"
        ids = write_tables(folder, stores)
        materialize_features(folder, "bench", pd.Timestamp(CUTOFF.date()))
        for server in (redis, postgres):
            push_online(beside, "bench", server.url)
        features = sum(map(len, feature_views(folder, "bench")["views"].values()))
        print(f"\n{features} features a row; milliseconds a read, median\n")
        print(f"{'store':<12}{'rows':>8}{'ours':>12}{'Feast':>12}{'times':>8}")
        compare("sqlite", ids, folder, f"sqlite:///{folder / 'online.db'}", None)
        compare("redis", ids, folder, redis.url, feast_settings(redis.url))
        compare("postgresql", ids, folder, postgres.url, feast_settings(postgres.url))
    print(f"\n{'import':<20}{'CPU s':>8}{'MB':>8}")
    for name, line in IMPORTS.items():
        done = subprocess.run([sys.executable, "-c", line + RESOURCES], cwd=ROOT, capture_output=True, text=True)
        seconds, megabytes = map(float, done.stdout.split())
        print(f"{name:<20}{seconds:>8.2f}{megabytes:>8.0f}")


if __name__ == "__main__":
    main()
