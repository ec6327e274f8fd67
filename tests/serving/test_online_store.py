"Live rows from SQLite, Redis and PostgreSQL: the same values as Feast, no old row, and no password in an error."

import hashlib
import json
import math
import os
import re
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from signal import SIGCONT, SIGSTOP

import pandas as pd
import pytest
from clients import post, run_application
from conftest import ROOT
from live_rows import CLOSED_STORE, JUNE, OPEN_STORES
from servers import PASSWORD, QUOTED_PASSWORD

from brewcast.common.core import read_parquet, write_json, write_parquet
from brewcast.common.records import FeastSource, ModelDescription, Recipe
from brewcast.delivery.package import http_request, write_release
from brewcast.model.feature_store import feature_views, online_rows, open_store
from brewcast.model.recipes import FEATURES, build_model, model_bytes
from brewcast.registry.online_writer import feast_settings, push_online
from brewcast.serving import online_store
from brewcast.serving.online_store import OnlineStoreError, entity_key, open_rows
from brewcast.serving.prediction_log import read_predictions
from brewcast.serving.release import Release

pytest_plugins = ["live_rows"]  # fixtures: a project's feature tables, and servers with the rows of one cutoff

UNKNOWN = "never seen"


def read_again(rows, ids=OPEN_STORES):
    "Read at once, without the pause after a failure."
    rows.paused_until = 0.0
    return rows.read(ids, as_of=JUNE)


def of_feast(live_project, settings: dict | None) -> dict[str, dict]:
    "The same rows, read by Feast's get_online_features."
    store = open_store(live_project / "products/toy/features", "toy", online=settings)
    entities = [{"series_id": series_id} for series_id in [*OPEN_STORES, CLOSED_STORE, UNKNOWN]]
    answer = store.get_online_features(store.get_feature_service("next_month"), entities).to_dict()
    ids = answer.pop("series_id")
    return {series_id: {name: values[i] for name, values in answer.items()} for i, series_id in enumerate(ids)}


def bits(value):
    "A value with its type, and all bits of a float."
    return (type(value), struct.pack("<d", value) if isinstance(value, float) else value)


def assert_same(read: dict[str, dict], feast: dict[str, dict]) -> None:
    assert list(read) == OPEN_STORES
    for series_id, row in read.items():
        assert row.pop("event_timestamp") == JUNE
        assert {name: bits(v) for name, v in row.items()} == {name: bits(v) for name, v in feast[series_id].items()}
    for absent in [CLOSED_STORE, UNKNOWN]:
        assert set(feast[absent].values()) == {None}


def test_the_builds_file_gives_the_same_rows_as_feast(live_project):
    folder = live_project / "products/toy/features"
    options = feature_views(folder, "toy")
    reader = open_rows(f"sqlite:///{folder / 'online.db'}", **options)
    read = reader.read([*OPEN_STORES, CLOSED_STORE, UNKNOWN], as_of=JUNE)
    assert sum(len(names) for names in options["views"].values()) > 40
    values = [value for row in read.values() for value in row.values()]
    assert {type(value) for value in values} == {float, int, str, type(None), datetime}
    assert_same(read, of_feast(live_project, None))


def test_a_server_gives_the_same_rows_as_feast_and_the_tables(live_project, pushed_server, rows):
    read = rows.read([*OPEN_STORES, CLOSED_STORE, UNKNOWN], as_of=JUNE)
    table = read_parquet(live_project / "products/toy/features/history.parquet").set_index(
        ["series_id", "event_timestamp"]
    )
    assert read["S3"]["rate_seasonal"] == table.loc[("S3", JUNE), "rate_seasonal"]
    assert_same(read, of_feast(live_project, feast_settings(pushed_server.url)))


def test_a_reader_may_read_some_features_only(live_project, pushed_server):
    some = feature_views(live_project / "products/toy/features", "toy", ["rate_last", "city"])
    assert some == {"project": "brewcast_toy", "views": {"history": ["rate_last"], "profile": ["city"]}}
    reader = open_rows(pushed_server.url, **some, timeout=20)
    assert reader.read(["S1"], as_of=JUNE)["S1"].keys() == {"rate_last", "city", "event_timestamp"}
    assert reader.read([], as_of=JUNE) == {}
    reader.close()


def test_a_row_older_than_the_views_allow_is_missing(rows):
    assert list(rows.read(["S1"], as_of=JUNE + timedelta(days=45))) == ["S1"]
    assert rows.read(["S1"], as_of=JUNE + timedelta(days=45, seconds=1)) == {}
    assert rows.read(["S1"]) == {}  # now


def test_the_maximum_age_is_that_of_the_views(live_project):
    store = open_store(live_project / "products/toy/features", "toy")
    assert {view.ttl for view in store.list_feature_views()} == {online_store.MAX_ROW_AGE}


def test_a_row_that_is_half_written_is_missing(rows):
    "Given a row with a view of another cutoff, and a row without a feature. The next push repairs both."
    if rows.location.kind == "redis":
        key = entity_key("S1") + b"brewcast_toy"
        rows.client.hset(key, "_ts:ahead", b"\x08\x80\x01")
        assert list(rows.read(["S1", "S2"], as_of=JUNE)) == ["S2"]
        rows.client.hdel(entity_key("S2") + b"brewcast_toy", rows.fields[0])
    else:
        with rows.borrow_connection(20) as connection:
            table = "brewcast_toy_ahead"
            later = f"UPDATE {table} SET event_ts = event_ts + interval '1 day' WHERE entity_key = %s"
            connection.execute(later, [entity_key("S1")])
        assert list(rows.read(["S1", "S2"], as_of=JUNE)) == ["S2"]
        with rows.borrow_connection(20) as connection:
            delete = f"DELETE FROM {table} WHERE entity_key = %s AND feature_name = 'units_change'"
            connection.execute(delete, [entity_key("S2")])
    assert list(rows.read(["S1", "S2", "S3"], as_of=JUNE)) == ["S3"]


def test_threads_share_a_reader(rows):
    whole = rows.read(OPEN_STORES, as_of=JUNE)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda series_id: rows.read([series_id], as_of=JUNE), OPEN_STORES * 20))
    assert answers == [{series_id: whole[series_id]} for series_id in OPEN_STORES * 20]


def test_a_killed_server_is_an_error_and_the_reader_reconnects(rows, pushed_server):
    before = rows.read(OPEN_STORES, as_of=JUNE)
    pushed_server.kill()
    with pytest.raises(OnlineStoreError, match=f"127.0.0.1:{pushed_server.port}"):
        rows.read(OPEN_STORES, as_of=JUNE)
    with pytest.raises(
        OnlineStoreError, match=f"127.0.0.1:{pushed_server.port}"
    ):  # the same error at once, during the pause
        rows.read(OPEN_STORES, as_of=JUNE)
    pushed_server.start()
    assert read_again(rows) == before
    # a restart between two reads causes no error
    pushed_server.kill()
    pushed_server.start()
    assert rows.read(OPEN_STORES, as_of=JUNE) == before


def test_a_read_from_a_server_that_hangs_times_out(rows, pushed_server):
    before = read_again(rows)
    pids = [pushed_server.process.pid]
    if rows.location.kind == "postgresql":
        pids += [connection.info.backend_pid for connection in rows.idle]
    impatient = open_rows(pushed_server.url, rows.project, rows.views, timeout=0.2)
    for pid in pids:
        os.kill(pid, SIGSTOP)
    try:
        caught = []
        rows.timeout = 0.2

        def read(reader):
            with pytest.raises(OnlineStoreError) as error:
                reader.read(OPEN_STORES, as_of=JUNE)
            caught.append(str(error.value))

        for reader in [*([rows] if rows.location.kind == "postgresql" else []), impatient]:
            thread = threading.Thread(target=read, args=[reader], daemon=True)
            thread.start()
            thread.join(60)  # the read ends long before that, or never
        assert caught and all("imeout" in text for text in caught)
        assert len(caught) == len(pids)
    finally:
        for pid in pids:
            os.kill(pid, SIGCONT)
    rows.timeout = 20
    assert read_again(rows) == before
    impatient.close()


def test_no_error_and_no_file_has_a_password(live_project, pushed_server, rows, capfd, caplog):
    quoted = pushed_server.url.split(":")[2].split("@")[0]
    wrong = pushed_server.url.replace(quoted, "wr0ng-secret")
    refused = open_rows(wrong, rows.project, rows.views, timeout=20)
    errors = []
    for ask in (lambda: refused.read(["S1"]), lambda: push_online(live_project, "toy", wrong)):
        with pytest.raises(OnlineStoreError) as error:
            ask()
        assert error.value.__suppress_context__ and error.value.__cause__ is None
        errors.append(str(error.value))
    damaged = [wrong.replace("wr0ng-secret", "wr0ng-secret" + sign) for sign in "@/#?[:"]
    damaged += [wrong.replace("://", "//"), wrong.replace("127", "wr0ng-secret:127"), wrong + "?pass=wr0ng-secret"]
    for url in damaged:
        with pytest.raises((ValueError, OnlineStoreError)) as error:
            open_rows(url, rows.project, rows.views, timeout=0.2).read(["S1"])
        errors.append(str(error.value))
    out, err = capfd.readouterr()
    output = "\n".join([*errors, out, err, caplog.text, repr(rows), repr(refused)])
    assert "wr0ng" not in output and "cret" not in output
    files = [path for path in live_project.rglob("*") if path.is_file()]
    assert not [p for p in files if b"cret" in p.read_bytes() or b"wr0ng" in p.read_bytes()]
    assert f"127.0.0.1:{pushed_server.port}" in errors[0]


def test_damaged_bytes_are_an_error_not_a_value(rows):
    if rows.location.kind == "redis":
        rows.client.hset(entity_key("S1") + b"brewcast_toy", rows.fields[0], b"\x29\x01")
    else:
        with rows.borrow_connection(20) as connection:
            connection.execute("UPDATE brewcast_toy_ahead SET value = '\\x2901' WHERE feature_name = 'units_change'")
    with pytest.raises(OnlineStoreError, match="unpack"):
        rows.read(["S1"], as_of=JUNE)


def test_a_store_without_a_push_is_empty_or_an_error(server, live_project):
    options = feature_views(live_project / "products/toy/features", "toy")
    reader = open_rows(server.url, "brewcast_other", options["views"], timeout=20)
    if reader.location.kind == "redis":
        assert reader.read(["S1"], as_of=JUNE) == {}
    else:
        with pytest.raises(OnlineStoreError, match="brewcast_other_ahead.*does not exist"):
            reader.read(["S1"], as_of=JUNE)
    reader.close()


def test_the_error_names_a_missing_file(tmp_path):
    reader = open_rows(f"sqlite:///{tmp_path}/none.db", "brewcast_toy", {"history": ["rate_last"]})
    with pytest.raises(OnlineStoreError, match="none.db"):
        reader.read(["S1"])
    assert not (tmp_path / "none.db").exists()


def test_reading_imports_neither_feast_nor_pandas_nor_scikit_learn(live_project):
    folder = live_project / "products/toy/features"
    options = feature_views(folder, "toy")
    script = (
        "import json, sys; from datetime import datetime, UTC; from brewcast.serving.online_store import open_rows\n"
        "options = json.loads(sys.argv[2]); reader = open_rows(sys.argv[1], **options)\n"
        "rows = reader.read(['S1'], as_of=datetime(2024, 6, 30, tzinfo=UTC)); assert len(rows) == 1\n"
        "open_rows('redis://127.0.0.1:1/0', **options); open_rows('postgresql://127.0.0.1:1/0', **options)\n"
        "print([m for m in ('feast', 'pandas', 'sklearn', 'pyarrow', 'joblib', 'google.protobuf') if m in sys.modules])"
    )
    arguments = [f"sqlite:///{folder / 'online.db'}", json.dumps(options)]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


# --- in the service


@pytest.fixture(scope="module")
def release(live_project, tmp_path_factory):
    "A release of a baseline with June's rows."
    folder, root = live_project / "products/toy/features", tmp_path_factory.mktemp("release")
    online = online_rows(folder, "toy", OPEN_STORES)
    recipe = Recipe(name="last_month", params={})
    model = build_model(recipe).fit(online[FEATURES])
    (root / "products").mkdir(), (root / "release").mkdir()
    (root / "products/model.joblib").write_bytes(model_bytes(model))
    factors = {
        name: [0.5, 1.5] if own == 0 else [0.9, 1.1]
        for name, own in zip(OPEN_STORES, online.has_own_season, strict=True)
    }
    write_json({"factors": factors, "young": [0.5, 1.5]}, root / "products/intervals.json")
    digest = hashlib.sha256((root / "products/model.joblib").read_bytes()).hexdigest()
    described = ModelDescription(recipe=recipe, train_through="2024-06-01", model_sha256=digest)
    write_json(described, root / "products/recipe.json")
    table = pd.DataFrame({"store_id": OPEN_STORES, "series_id": OPEN_STORES, "month": pd.Timestamp("2024-07-01")})
    table["cutoff"] = table["features_as_of"] = pd.Timestamp("2024-06-30")
    table["young"], table["forecast"] = online.has_own_season == 0, model.predict(online[FEATURES])
    for side, name in enumerate(["lower", "upper"]):
        table[name] = table.forecast * table.young.map({True: [0.5, 1.5][side], False: [0.9, 1.1][side]})
    views = FeastSource(**feature_views(folder, "toy", [*FEATURES, "price_mean3"]))
    write_release(root / "release", table, online, root / "products", "numpy\n", feast=views)
    return root / "release"


def test_a_releases_rows_are_those_of_get_online_features(release, live_project):
    # given a release, and Feast's rows of the same stores
    loaded, feast = Release(release), of_feast(live_project, None)
    assert loaded.ids == OPEN_STORES
    # then every number has the same bits, a missing one is NaN, and every text is the same
    column_index, names = loaded.model.column_index, loaded.model.description["categories"]
    for store_id, numbers, text in zip(loaded.ids, loaded.numbers, loaded.categories, strict=True):
        for name, column in column_index.items():
            value = feast[store_id][name]
            assert (value is None and math.isnan(numbers[column])) or numbers[column] == value, (store_id, name)
        assert text.tolist() == [feast[store_id][name] or "" for name in names]
    assert len(column_index) + len(names) >= 35


def test_the_service_uses_live_rows_or_its_own_while_the_server_is_down(release, live_project, server, tmp_path):
    # given the release's rows in the server, and then another value for one store
    root = tmp_path / "project"
    subprocess.run(["cp", "-a", live_project, root], check=True)
    folder = root / "products/toy/features"
    push_online(root, "toy", server.url)
    history = read_parquet(folder / "history.parquet")
    mine = (history.series_id == "S1") & (history.event_timestamp == JUNE)
    history.loc[mine, "rate_last"] *= 2
    log = tmp_path / "predictions"
    with run_application(release, tmp_path, online_store=server.url, predictions=log) as served:
        before = {answer["store_id"]: answer for answer in post(served.port, {"store_ids": OPEN_STORES})[1]}
        write_parquet(history, folder / "history.parquet")
        push_online(root, "toy", server.url)
        # then the running service uses the new value, and nothing else changes
        for _ in range(100):  # on a loaded machine a read may time out; then the release's row is used
            after = {answer["store_id"]: answer for answer in post(served.port, {"store_ids": OPEN_STORES})[1]}
            if after["S1"]["forecast"] > 1.5 * before["S1"]["forecast"]:
                break
            time.sleep(0.2)
        assert after["S1"]["forecast"] == pytest.approx(2 * before["S1"]["forecast"])
        assert {s: a for s, a in after.items() if s != "S1"} == {s: a for s, a in before.items() if s != "S1"}
        # when the server is down, then the service uses the release's rows and counts that; its log has no password
        server.kill()
        assert {answer["store_id"]: answer for answer in post(served.port, {"store_ids": OPEN_STORES})[1]} == before
        counters = http_request(served.port, "GET", "/metrics")[1].decode()
        assert float(re.search(r"(?m)^brewcast_live_rows_failed_total (\S+)", counters)[1]) >= 1
        assert PASSWORD not in served.log.read_text() and QUOTED_PASSWORD not in served.log.read_text()
        # when the server is up again, then the service uses live rows again
        server.start()
        for _ in range(100):
            again = post(served.port, {"store_ids": ["S1"]})[1][0]
            if again["forecast"] == after["S1"]["forecast"]:
                break
            time.sleep(0.1)
        assert again == after["S1"]
    # and the prediction log has a different hash for each of the two rows
    logged = read_predictions(log)
    assert logged[logged.store_id == "S1"].features.nunique() == 2
    assert logged[logged.store_id == "S2"].features.nunique() == 1
