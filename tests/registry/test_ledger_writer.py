"The ledger is append-only, has one writer at a time, and MLflow's aliases move with each entry or not at all."

import contextlib
import os
import sqlite3
import subprocess
import sys

import pytest
from conftest import ROOT
from releases import VERDICTS, ledger_entry

from brewcast.common.ledger import read_ledger
from brewcast.common.mlflow_tables import REGISTERED_MODEL
from brewcast.registry.ledger_writer import append_entry, ledger_author

APPEND = """
import sys
from pathlib import Path
from brewcast.registry.ledger_writer import append_entry
from releases import ledger_entry
print("ready", flush=True)
sys.stdin.readline()
for i in range(25):
    append_entry(Path(sys.argv[1]), ledger_entry(f"{sys.argv[2]}{i}"))
"""


def test_parallel_writers_lose_no_entry_and_number_each_once(tmp_path):
    # given three processes that start at the same time, without a ledger
    command = [sys.executable, "-c", APPEND, tmp_path / "state"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    options = {"cwd": ROOT, "env": environment, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, name], **options) for name in "abc"]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 3
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    # then every entry is there once, those of a process in its order, with consecutive numbers
    ledger = read_ledger(tmp_path / "state")
    assert [entry.n for entry in ledger] == list(range(1, 76))
    for name in "abc":
        assert [e.release for e in ledger if e.release[0] == name] == [f"{name}{i}" for i in range(25)]


def test_an_entry_has_time_and_author_and_reads_back_unchanged(tmp_path, monkeypatch):
    monkeypatch.setenv("BREWCAST_BY", "the nightly job")
    verdict = VERDICTS["promote"].model_copy(update={"reason": "Orléans “first”"})
    written = append_entry(tmp_path, ledger_entry("r1", verdict=verdict))
    assert read_ledger(tmp_path) == [written]
    assert written.by == "the nightly job" and written.at.endswith("+00:00") and written.n == 1
    assert written.verdict == verdict
    # and without the name of a job, the author is the user and the machine
    monkeypatch.delenv("BREWCAST_BY")
    user, machine = ledger_author().split("@")
    assert user and machine == os.uname().nodename
    assert append_entry(tmp_path, ledger_entry("r2")).by == ledger_author()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE entry SET content = '{}' WHERE n = 1", "the ledger is append-only"),
        ("DELETE FROM entry WHERE n = 2", "the ledger is append-only"),
        ("INSERT INTO entry VALUES (2, '{}')", "not the next entry"),
        ("INSERT INTO entry VALUES (4, '{}')", "not the next entry"),
        ("INSERT OR REPLACE INTO entry VALUES (1, '{}')", "not the next entry"),
    ],
)
def test_no_program_can_change_or_delete_an_entry(tmp_path, statement, message):
    for release in ("r1", "r2"):
        append_entry(tmp_path, ledger_entry(release))
    before = read_ledger(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        with pytest.raises(sqlite3.IntegrityError, match=message):
            ledger.execute(statement)
    assert read_ledger(tmp_path) == before
    assert append_entry(tmp_path, ledger_entry("r3")).n == 3


@pytest.fixture
def mlflow(tmp_path):
    "The tables of MLflow's database with aliases and versions; `champion` is version 1."
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE registered_model_aliases (alias, name, version, PRIMARY KEY (name, alias))")
        database.execute("CREATE TABLE model_version_tags (key, value, name, version)")
        database.execute("CREATE TABLE registered_models (name, description, last_updated_time)")
        columns = "name, version, run_id, description, current_stage DEFAULT 'None', last_updated_time"
        database.execute(f"CREATE TABLE model_versions ({columns})")
        database.execute("CREATE TABLE tags (key, value, run_uuid)")
        for version in (1, 2, 3):  # the second model was registered twice
            tag = ("content_hash", "aaa" if version == 1 else "bbb", REGISTERED_MODEL, version)
            database.execute("INSERT INTO model_version_tags VALUES (?, ?, ?, ?)", tag)
            database.execute("INSERT INTO model_versions (name, version) VALUES (?, ?)", [REGISTERED_MODEL, version])
        database.execute("INSERT INTO registered_model_aliases VALUES ('champion', ?, 1)", [REGISTERED_MODEL])
    return path


def aliases(mlflow) -> dict:
    with contextlib.closing(sqlite3.connect(mlflow)) as database:
        return dict(database.execute("SELECT alias, version FROM registered_model_aliases"))


def test_aliases_move_with_the_entry(tmp_path, mlflow):
    # when another model serves, then the alias is at the newest version with its content
    append_entry(tmp_path, ledger_entry("r1"), mlflow, {"champion": "bbb", "challenger": "aaa"})
    assert aliases(mlflow) == {"champion": 3, "challenger": 1}
    # and a removed alias does not exist any more, and an alias that is not in the call stays
    append_entry(tmp_path, ledger_entry("r2"), mlflow, {"challenger": None})
    assert aliases(mlflow) == {"champion": 3}


def test_descriptions_change_with_the_entry_or_not_at_all(tmp_path, mlflow):
    def descriptions() -> dict:
        with contextlib.closing(sqlite3.connect(mlflow)) as database:
            return dict(database.execute("SELECT version, description FROM model_versions"))

    with contextlib.closing(sqlite3.connect(mlflow)) as database, database:
        database.execute("UPDATE model_version_tags SET value = ? WHERE version = 1", ["f" * 12])
    # when a model serves, then its version says so, with the reason; the others say nothing
    append_entry(tmp_path, ledger_entry("r1", by="ann"), mlflow, {"champion": "f" * 12})
    before = descriptions()
    assert "**champion** now" in before[1] and "publish by ann (ledger entry 1)" in before[1]
    assert VERDICTS["promote"].reason in before[1] and (before[2], before[3]) == (None, None)
    # when the entry is refused, then the description stays
    with pytest.raises(ValueError, match="another command wrote entry 1"):
        append_entry(tmp_path, ledger_entry("r2", model_hash="b" * 64), mlflow, {}, expected_last_entry=0)
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        with contextlib.closing(sqlite3.connect(mlflow)) as database, database:
            database.execute("ALTER TABLE model_version_tags RENAME COLUMN value TO content")
        append_entry(tmp_path, ledger_entry("r2", model_hash="b" * 64), mlflow, {})
    assert descriptions() == before and [entry.release for entry in read_ledger(tmp_path)] == ["r1"]
    # when another model serves, then it no longer does
    with contextlib.closing(sqlite3.connect(mlflow)) as database, database:
        database.execute("ALTER TABLE model_version_tags RENAME COLUMN content TO value")
    append_entry(tmp_path, ledger_entry("r2", model_hash="b" * 64), mlflow, {})
    assert "**neither champion nor challenger** now" in descriptions()[1]


@pytest.mark.parametrize("harm", ["DROP TABLE model_version_tags", "DROP TABLE registered_model_aliases"])
def test_if_an_alias_cannot_move_no_entry_is_written(tmp_path, mlflow, harm):
    append_entry(tmp_path, ledger_entry("r1"), mlflow, {"champion": "aaa"})
    with contextlib.closing(sqlite3.connect(mlflow)) as database, database:
        database.execute(harm)
    before = mlflow.read_bytes()
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        append_entry(tmp_path, ledger_entry("r2"), mlflow, {"champion": "bbb"})
    assert [entry.release for entry in read_ledger(tmp_path)] == ["r1"]
    assert mlflow.read_bytes() == before


def test_an_entry_that_is_not_valid_json_is_not_written(tmp_path):
    append_entry(tmp_path, ledger_entry("r1"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_entry(tmp_path, ledger_entry("r2", share=float("nan")))
    assert len(read_ledger(tmp_path)) == 1 and append_entry(tmp_path, ledger_entry("r2")).n == 2
