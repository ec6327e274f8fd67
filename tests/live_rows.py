"Feature tables of a small chain, and a server that holds the rows of one cutoff, for tests of the online store."

import contextlib
from datetime import UTC, datetime

import pandas as pd
import pytest
from servers import PostgresServer, RedisServer, program_path
from tables import all_tables, make_lines, make_plan

from brewcast.common.core import write_json, write_parquet
from brewcast.model.feature_store import feature_views, materialize_features
from brewcast.registry.online_writer import push_online, write_pushed_hash
from brewcast.serving.online_store import open_rows

JUNE, MARCH = datetime(2024, 6, 30, tzinfo=UTC), datetime(2024, 3, 31, tzinfo=UTC)
OPEN_STORES, CLOSED_STORE = [f"S{i}" for i in range(6)], "S6"  # S6 closes at the end of March


def set_cutoff(root, cutoff: datetime) -> None:
    "Set the cutoff of the last build."
    write_json({"cutoff": str(cutoff.date())}, root / "products/toy/features/features.json")


@pytest.fixture(scope="module")
def live_project(tmp_path_factory):
    "A project with feature tables, materialized into the file of the build."
    root = tmp_path_factory.mktemp("project")
    folder = root / "products/toy/features"
    folder.mkdir(parents=True)
    for name, table in all_tables(make_lines(), make_plan()).items():
        write_parquet(table, folder / f"{name}.parquet")
    materialize_features(folder, "toy", pd.Timestamp("2024-06-30"))
    set_cutoff(root, JUNE)
    return root


@pytest.fixture(scope="module", params=[RedisServer, PostgresServer], ids=["redis", "postgresql"])
def server(request):
    "An empty server for this module's tests. The tests are skipped if its program is not installed."
    if not program_path(request.param.needs):
        pytest.skip(f"{request.param.needs} is not installed: apt-get install redis-server postgresql")
    with request.param() as running:
        yield running


@pytest.fixture
def pushed_server(live_project, server):
    "The server with June's rows, whatever an earlier test did to them."
    with contextlib.closing(open_rows(server.url, "brewcast_toy", {}, timeout=20)) as writer:
        write_pushed_hash(writer, None)  # so that the push writes all rows again
    assert push_online(live_project, "toy", server.url).changed
    return server


@pytest.fixture
def rows(live_project, pushed_server):
    "A reader of the server, with a long timeout for a loaded machine."
    reader = open_rows(pushed_server.url, **feature_views(live_project / "products/toy/features", "toy"), timeout=20)
    with contextlib.closing(reader):
        yield reader
