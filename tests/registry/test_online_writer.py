"A push writes the built rows to a server, once and completely, and leaves the rows of other projects alone."

import subprocess
import sys

import pytest
from conftest import ROOT
from live_rows import CLOSED_STORE, JUNE, MARCH, OPEN_STORES, set_cutoff
from servers import PASSWORD, QUOTED_PASSWORD

from brewcast.common.core import read_parquet, write_parquet
from brewcast.model.feature_store import feature_views
from brewcast.registry.online_writer import (
    feast_settings,
    push_online,
    read_pushed_hash,
    remove_other_series,
    tables_hash,
    write_pushed_hash,
)
from brewcast.serving.online_store import entity_key, open_rows

pytest_plugins = ["live_rows"]  # a project's feature tables, and servers that hold a cutoff's rows


def test_a_push_removes_closed_stores_updates_corrected_rows_and_repeats_without_change(live_project, server, tmp_path):
    root = tmp_path / "project"
    subprocess.run(["cp", "-a", live_project, root], check=True)
    folder = root / "products/toy/features"
    reader = open_rows(server.url, **feature_views(folder, "toy"), timeout=20)
    # given March's rows, when June's are pushed, then the closed store is removed
    set_cutoff(root, MARCH)
    push_online(root, "toy", server.url)
    march = reader.read([*OPEN_STORES, CLOSED_STORE], as_of=MARCH)
    assert list(march) == [*OPEN_STORES, CLOSED_STORE]
    set_cutoff(root, JUNE)
    assert push_online(root, "toy", server.url).removed == 1
    june = reader.read([*OPEN_STORES, CLOSED_STORE], as_of=JUNE)
    assert list(june) == OPEN_STORES
    # given the same rows, then nothing changes
    assert not push_online(root, "toy", server.url).changed
    assert reader.read(OPEN_STORES, as_of=JUNE) == june
    # given another value for the same cutoff, then it is served
    history = read_parquet(folder / "history.parquet")
    mine = (history.series_id == "S1") & (history.event_timestamp == JUNE)
    write_parquet(history.assign(rate_last=history.rate_last.mask(mine, 7.25)), folder / "history.parquet")
    push_online(root, "toy", server.url)
    assert reader.read(["S1"], as_of=JUNE)["S1"] == june["S1"] | {"rate_last": 7.25}
    # given an older month that is published again, then its rows are served, and none of the newer month
    set_cutoff(root, MARCH)
    push_online(root, "toy", server.url)
    assert reader.read([*OPEN_STORES, CLOSED_STORE], as_of=MARCH) == march
    # given a correction after which a store was not open at the cutoff, then it is removed
    set_cutoff(root, JUNE)
    push_online(root, "toy", server.url)
    for name in ("history", "ahead", "profile"):
        table = read_parquet(folder / f"{name}.parquet")
        write_parquet(table[(table.series_id != "S2") | (table.event_timestamp != JUNE)], folder / f"{name}.parquet")
    assert push_online(root, "toy", server.url).removed == 1
    assert list(reader.read(OPEN_STORES, as_of=JUNE)) == [series_id for series_id in OPEN_STORES if series_id != "S2"]
    reader.close()


def test_a_push_that_was_killed_is_repeated(live_project, rows, pushed_server, monkeypatch):
    expected_hash = read_pushed_hash(rows)
    assert expected_hash == tables_hash(live_project / "products/toy/features")
    write_pushed_hash(rows, "hash of another build")

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("brewcast.registry.online_writer.remove_other_series", die)
    with pytest.raises(KeyboardInterrupt):
        push_online(live_project, "toy", pushed_server.url)
    assert read_pushed_hash(rows) is None
    monkeypatch.undo()
    assert push_online(live_project, "toy", pushed_server.url).changed
    assert read_pushed_hash(rows) == expected_hash


def test_a_push_with_nothing_to_do_does_not_import_feast(live_project, pushed_server):
    script = (
        "import sys; from brewcast.registry.online_writer import push_online\n"
        "print(push_online(sys.argv[1], 'toy', sys.argv[2]).changed, 'feast' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, live_project, pushed_server.url], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.stdout.strip(), done.returncode) == ("False False", 0), done.stderr


def test_rows_of_another_project_in_the_same_redis_stay(live_project, rows):
    if rows.location.kind != "redis":
        return  # a table of its own
    others = [entity_key("S1") + b"old_brewcast_toy", b"a key of someone else's"]
    for key in others:
        rows.client.hset(key, "_ts:ahead", b"\x08\x01")
    assert remove_other_series(rows, list(map(entity_key, OPEN_STORES))) == 0
    assert rows.client.exists(*others) == 2


def test_feast_reads_its_settings_as_the_url_has_them():
    from feast.infra.online_stores.redis import RedisOnlineStore

    # given a password with every character that separates parts of a connection string
    quoted = f"redis://someone:{QUOTED_PASSWORD}@store.example:6390/3?ssl_cert_reqs=none"
    # when Feast parses its setting
    nodes, options = RedisOnlineStore._parse_connection_string(feast_settings(quoted)["connection_string"])
    # then it has the host and the original password
    assert [(node["host"], int(node["port"])) for node in nodes] == [("store.example", 6390)]
    expected = {"db": 3, "username": "someone", "password": PASSWORD, "ssl": False, "ssl_cert_reqs": "none"}
    assert options == expected
    # and for PostgreSQL the certificates have Feast's names
    settings = feast_settings(
        f"postgresql://someone:{QUOTED_PASSWORD}@store.example/shop?sslmode=verify-full&sslrootcert=/ca"
    )
    assert (settings["type"], settings["password"], settings["database"]) == ("postgres", PASSWORD, "shop")
    assert (settings["sslmode"], settings["sslrootcert_path"]) == ("verify-full", "/ca")
