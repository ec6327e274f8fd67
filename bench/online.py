"""Rows from an online store: brewcast.serving.online_store compared with Feast's get_online_features, in one run.

    .venv/bin/python bench/online.py [--stores 10000]

Starts its own Redis and PostgreSQL (Debian: redis-server, postgresql), and reads from them and from SQLite. The two readers
take turns, and the figure is the median. The cost of importing each is measured in separate processes.
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
    "Feature tables with the row of one store at the cutoff, repeated for this number of stores."
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
    "Milliseconds of each reader. They take turns."
    seconds = {name: [] for name in readers}
    for _ in range(times + 1):
        for name, read in readers.items():
            start = time.perf_counter()
            read()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(runs[1:]) for name, runs in seconds.items()}  # the first run connects


def compare(name: str, ids: list[str], folder: Path, url: str, settings: dict | None) -> None:
    rows = open_rows(url, **feature_views(folder, "bench"), timeout=30)
    store = open_store(folder, "bench", online=settings)
    service = store.get_feature_service("next_month")
    for count, times in ((1, 200), (100, 20), (len(ids), 3)):
        requested = ids[:count]
        entities = [{"series_id": series_id} for series_id in requested]
        milliseconds = medians(
            {
                "ours": lambda requested=requested: rows.read(requested, as_of=CUTOFF),
                "feast": lambda entities=entities: store.get_online_features(service, entities).to_dict(),
            },
            times,
        )
        ours, feast = milliseconds["ours"], milliseconds["feast"]
        print(f"{name:<12}{count:>8}{ours:>12.2f}{feast:>12.2f}{feast / ours:>8.1f}")
    rows.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=int, default=10_000)
    stores = parser.parse_args().stores
    with tempfile.TemporaryDirectory() as root, RedisServer() as redis, PostgresServer() as postgres:
        folder = Path(root) / "products/bench/features"
        ids = write_tables(folder, stores)
        materialize_features(folder, "bench", pd.Timestamp(CUTOFF.date()))
        for server in (redis, postgres):
            push_online(root, "bench", server.url)
        features = sum(map(len, feature_views(folder, "bench")["views"].values()))
        print(f"\n{features} features per row; milliseconds per read, median\n")
        print(f"{'store':<12}{'rows':>8}{'ours':>12}{'Feast':>12}{'times':>8}")
        compare("sqlite", ids, folder, f"sqlite:///{folder / 'online.db'}", None)
        compare("redis", ids, folder, redis.url, feast_settings(redis.url))
        compare("postgresql", ids, folder, postgres.url, feast_settings(postgres.url))
    print(f"\n{'import':<20}{'CPU s':>8}{'MB':>8}")
    for name, line in IMPORTS.items():
        process = subprocess.run([sys.executable, "-c", line + RESOURCES], cwd=ROOT, capture_output=True, text=True)
        seconds, megabytes = map(float, process.stdout.split())
        print(f"{name:<20}{seconds:>8.2f}{megabytes:>8.0f}")


if __name__ == "__main__":
    main()
