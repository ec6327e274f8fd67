"What is a temporary failure: real servers that are away, full disks, held locks; and what is none."

import contextlib
import http.server
import os
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from types import SimpleNamespace

import duckdb
import filelock
import httpx
import mlflow
import psycopg
import pytest
import redis
import requests
import sqlalchemy
from servers import PostgresServer, RedisServer, free_port, program_path

from brewcast.common.lock import project_lock
from brewcast.common.mlflow import MlflowError, mlflow_client
from brewcast.common.paths import write_text
from brewcast.common.retryable import class_names, is_retryable, with_retries

NEEDS_REDIS = pytest.mark.skipif(not program_path("redis-server"), reason="redis-server is not installed")
NEEDS_POSTGRES = pytest.mark.skipif(not program_path("postgres"), reason="PostgreSQL is not installed")
NO_WAIT = SimpleNamespace(limit=2, wait=0)


def failure(function, *arguments, **options) -> Exception:
    "The error that a call raises."
    with pytest.raises(Exception) as caught:
        function(*arguments, **options)
    return caught.value


def verdict(function, *arguments, **options) -> bool:
    return is_retryable(failure(function, *arguments, **options))


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(self.path.rpartition("/")[2]) if self.path[1:].isdigit() else self.server.status)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def answering():
    "An HTTP server that answers /503 with the status 503, and another path with its `status`."
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()


def httpx_get(url: str) -> None:
    httpx.get(url).raise_for_status()


def requests_get(url: str) -> None:
    requests.get(url, timeout=10).raise_for_status()


@pytest.mark.parametrize("get", [urllib.request.urlopen, requests_get, httpx_get])
def test_over_http_a_server_that_is_away_or_busy_is_temporary_and_any_other_answer_is_not(answering, get):
    assert verdict(get, f"http://127.0.0.1:{free_port()}")
    assert {code: verdict(get, f"{answering.url}/{code}") for code in (401, 404, 429, 500, 502, 503, 504)} == {
        **dict.fromkeys((401, 404, 500), False),
        **dict.fromkeys((429, 502, 503, 504), True),
    }
    assert not verdict(get, "http://no such host.invalid")


@pytest.mark.parametrize("status, temporary", [(None, True), (503, True), (429, True), (401, False), (500, False)])
def test_mlflow_wraps_what_happened_to_its_server(tmp_path, monkeypatch, answering, status, temporary):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    url = answering.url if status else f"http://127.0.0.1:{free_port()}"
    answering.status = status
    # MLflow's own error, and Brewcast's, which hides it
    error = failure(mlflow.MlflowClient(url).search_experiments)
    assert "mlflow.MlflowException" in class_names(error) and is_retryable(error) == temporary
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)

    def connect() -> None:
        with mlflow_client("shop", tmp_path):
            pass

    error = failure(connect)
    assert isinstance(error, MlflowError) and is_retryable(error) == temporary


@NEEDS_REDIS
def test_redis_is_tried_again_until_it_is_there_and_never_with_a_wrong_password():
    server = RedisServer()
    with contextlib.closing(server):
        once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)  # without its own retries, which take seconds
        assert not verdict(redis.Redis(port=server.port, password="wrong").ping)
        with redis.Redis.from_url(server.url, retry=once) as client:
            server.kill()
            assert verdict(client.ping)
            # then the second try succeeds, since the server comes back between the two
            waits, lines = [], []

            def restart(seconds: float) -> None:
                waits.append(seconds)
                server.start()

            assert with_retries(client.ping, SimpleNamespace(limit=2, wait=30), "push", restart, lines.append) is True
            assert waits == [30]
            assert len(lines) == 1 and "push: Error 111" in lines[0] and "in 30 s (retry 1 of 2)" in lines[0]
    assert not verdict(redis.Redis(host="no-such-host.invalid", retry=once).ping)  # a wrong name


@NEEDS_POSTGRES
def test_postgresql_away_starting_or_deadlocked_is_temporary_and_wrong_sql_or_password_is_not():
    server = PostgresServer()
    with contextlib.closing(server):
        url = server.url
        assert not verdict(psycopg.connect, url.replace("s3cret", "wrong"))
        assert not verdict(psycopg.connect, url.replace("/postgres", "/no_such_database"))
        other = psycopg.connect(url)
        with psycopg.connect(url, autocommit=True) as one:
            assert not verdict(one.execute, "select * from nothing")
            one.execute("create table stores (id int)")
            other.execute("lock table stores")
            assert verdict(one.execute, "lock table stores nowait") is False  # outside of a transaction: wrong SQL
            one.execute("set lock_timeout = 10")
            assert verdict(one.execute, "select * from stores")  # a lock is held
            server.kill()
            assert verdict(one.execute, "select 1") and verdict(other.commit)
        assert verdict(psycopg.connect, url)
        assert verdict(sqlalchemy.create_engine(url.replace("postgresql", "postgresql+psycopg")).connect)
    assert not verdict(psycopg.connect, "host=no-such-host.invalid")


def test_a_locked_sqlite_database_is_temporary_and_a_missing_table_is_not(tmp_path):
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("create table runs (name)")
        writer.execute("begin exclusive")
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as reader:
            assert verdict(reader.execute, "select * from runs")
            engine = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
            with engine.connect() as connection:
                assert verdict(connection.execute, sqlalchemy.text("select * from runs"))
            writer.execute("rollback")
            assert not verdict(reader.execute, "select * from nothing")
    (tmp_path / "damaged.db").write_bytes(b"not a database" * 100)
    with contextlib.closing(sqlite3.connect(tmp_path / "damaged.db")) as damaged:
        assert not verdict(damaged.execute, "select * from runs")


def test_a_duckdb_file_that_another_process_has_open_is_temporary(tmp_path):
    path = str(tmp_path / "cache.duckdb")
    with duckdb.connect(path):
        code = (
            "import duckdb, sys\nfrom brewcast.common.retryable import is_retryable\n"
            "try:\n    duckdb.connect(sys.argv[1])\nexcept duckdb.Error as error:\n    print(is_retryable(error))"
        )
        assert subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True).stdout == "True\n"
        assert not verdict(duckdb.sql, "select * from nothing")


@pytest.fixture
def full_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_temporary_whoever_writes(full_disk):
    import pandas as pd

    table = pd.DataFrame({"x": range(100_000)})
    assert verdict(write_text, full_disk / "text", "x" * 100_000)
    assert verdict(table.to_parquet, full_disk / "x.parquet", compression=None)
    (full_disk / "x.parquet").unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(full_disk / "x.db", isolation_level=None)) as database:
        database.execute("create table t (x)")
        assert verdict(database.execute, "insert into t values (zeroblob(200000))")
    (full_disk / "x.db").unlink()
    duckdb.sql("create or replace table numbers as select range as x from range(100000)")
    assert verdict(duckdb.sql, f"copy numbers to '{full_disk}/y.parquet' (format parquet, compression uncompressed)")


def test_a_lock_that_stays_held_is_temporary_and_names_its_holder(tmp_path, monkeypatch):
    lock = filelock.FileLock(tmp_path / "state/shop/.lock")
    (tmp_path / "state/shop").mkdir(parents=True)

    def take() -> None:
        with project_lock(tmp_path, "shop"):
            pass

    monkeypatch.setenv("BREWCAST_LOCK_TIMEOUT", "0.1")
    write_text(tmp_path / "state/shop/.lock.holder", "`make month` (process 1, since 09:30:00)")
    with lock:
        assert verdict(lock.__class__(lock.lock_file).acquire, timeout=0)
        error = failure(take)
        assert is_retryable(error) and "`make month` (process 1, since 09:30:00) holds state/shop/.lock" in str(error)
    take()
    monkeypatch.setenv("BREWCAST_LOCK_TIMEOUT", "soon")
    error = failure(take)
    assert isinstance(error, ValueError) and "BREWCAST_LOCK_TIMEOUT=soon" in str(error) and not is_retryable(error)


def test_bugs_bad_data_and_what_a_person_must_change_are_never_temporary(tmp_path):
    (tmp_path / "folder").mkdir()
    calls = [
        lambda: open(tmp_path / "sales.csv"),
        lambda: open(tmp_path / "folder", "w"),
        lambda: os.listdir(tmp_path / "nothing"),
        lambda: int("bad data"),
        lambda: subprocess.run(["false"], check=True),
        lambda: subprocess.run(["no-such-program-here"]),
        lambda: 1 / 0,
    ]
    assert [verdict(call) for call in calls] == [False] * len(calls)
    assert not is_retryable(MemoryError()) and not is_retryable(KeyboardInterrupt())


def test_with_retries_gives_up_at_the_limit_and_at_the_first_failure_that_stays():
    calls, lines = [], []

    def away() -> None:
        calls.append("away")
        raise ConnectionError("it is away")

    def bug() -> None:
        calls.append("bug")
        raise KeyError("bug")

    assert str(failure(with_retries, away, NO_WAIT, "push", say=lines.append)) == "it is away"
    assert calls == ["away"] * 3 and len(lines) == 2
    failure(with_retries, bug, NO_WAIT, "push", say=lines.append)
    assert calls == ["away"] * 3 + ["bug"] and len(lines) == 2
