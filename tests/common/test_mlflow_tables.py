"The SQL on MLflow's tables is right for the installed MLflow, and a change of its schema does not go unnoticed."

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from house import pinned_versions
from sklearn.dummy import DummyRegressor

from brewcast.common import mlflow_models, mlflow_tables
from brewcast.common.mlflow import log_model_run, mlflow_client
from brewcast.common.mlflow_models import register_model, set_aliases
from brewcast.common.mlflow_tables import (
    INSERTED_COLUMNS,
    MLFLOW_FILE,
    MLFLOW_REVISION,
    MLFLOW_TABLES,
    REGISTERED_MODEL,
    attach_mlflow,
    make_artifacts_relative,
    move_alias,
    read_artifact_owners,
    read_database_aliases,
    read_database_runs,
    read_database_version,
    register_in_database,
    write_database_descriptions,
)

# The table into which we insert, completely: name, type, not null, default, and place in the primary key of each column.
ALIASES_TABLE = [
    ("alias", "VARCHAR(256)", 1, None, 3),
    ("version", "INTEGER", 1, None, 0),
    ("name", "VARCHAR(256)", 1, None, 2),
    ("workspace", "VARCHAR(63)", 1, "'default'", 1),
]
ALIASES_PARENTS = {("registered_models", "workspace", "workspace"), ("registered_models", "name", "name")}
WRITTEN_TABLES = (
    "registered_model_aliases",
    "experiments",
    "registered_models",
    "model_versions",
    "model_version_tags",
)
HASHES = ["aaaabbbbcccc", "ddddeeeeffff"]  # of two models; the second one is not registered


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    "A project in which the installed MLflow has made its database, and logged two models, one with an alias."
    root = tmp_path_factory.mktemp("project")
    for number, content_hash in enumerate(HASHES):
        details = {"params": {"recipe": "mean"}, "metrics": {"wape": 0.1}, "tags": {}, "artifacts": []}
        details |= {"data": {"rows": str(number) * 64}}
        log_model_run(DummyRegressor(), content_hash, **details, root=root, source="shop")
    assert register_model("shop", root, HASHES[0]) == "registered"
    assert set_aliases("shop", root, {"champion": HASHES[0]})
    return root


@pytest.fixture
def database(logged, tmp_path) -> Path:
    "A copy of its database."
    return Path(shutil.copy2(logged / "state/shop" / MLFLOW_FILE, tmp_path / MLFLOW_FILE))


def change(database: Path, statements: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript(statements)


def schema_problems(database: Path) -> list[str]:
    "Differences between a database of MLflow and what our SQL was written for."
    problems = []
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if revision != MLFLOW_REVISION:
            problems.append(f"the schema's revision is {revision}, but the SQL was written for {MLFLOW_REVISION}")
        for table, columns in MLFLOW_TABLES.items():
            found = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
            columns = columns + INSERTED_COLUMNS.get(table, [])
            problems += [f"{table} has no column {name}" for name in columns if name not in found]
        aliases = [tuple(row[1:]) for row in connection.execute("PRAGMA table_info(registered_model_aliases)")]
        if aliases != ALIASES_TABLE:
            problems.append(f"registered_model_aliases, into which we insert, has the columns {aliases}")
        keys = connection.execute("PRAGMA foreign_key_list(registered_model_aliases)").fetchall()
        if {tuple(key[2:5]) for key in keys} != ALIASES_PARENTS:
            problems.append(f"registered_model_aliases has the foreign keys {keys}")
        written = ", ".join(f"'{table}'" for table in WRITTEN_TABLES)
        query = f"SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name IN ({written})"
        problems += [f"the trigger {name} is on a table that we write" for (name,) in connection.execute(query)]
    return problems


def test_settings_ini_pins_the_mlflow_that_is_locked_and_installed():
    assert len(set(pinned_versions("mlflow"))) == 1, pinned_versions("mlflow")


def test_the_installed_mlflow_makes_the_tables_that_our_sql_uses(database):
    assert schema_problems(database) == [], (
        "MLflow's schema has changed: read its migrations, check every query in nbs/common/mlflow_tables.ipynb, then "
        "set MLFLOW_REVISION and MLFLOW_TABLES there"
    )


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        ("UPDATE alembic_version SET version_num = 'f00'", "the schema's revision is f00"),
        ("ALTER TABLE model_version_tags RENAME COLUMN value TO content", "model_version_tags has no column value"),
        ("ALTER TABLE inputs RENAME TO links", "inputs has no column source_id"),
        ("ALTER TABLE registered_model_aliases ADD COLUMN by TEXT NOT NULL DEFAULT ''", "has the columns"),
        (
            "CREATE TRIGGER moved AFTER INSERT ON registered_model_aliases BEGIN SELECT 1; END",
            "the trigger moved is on a table that we write",
        ),
    ],
    ids=["a migration", "a renamed column", "a renamed table", "one more column to insert", "a trigger"],
)
def test_a_change_of_the_schema_is_found(database, statements, problem):
    change(database, statements)
    assert problem in " ".join(schema_problems(database))


def test_the_sql_uses_exactly_the_columns_that_are_listed(database, monkeypatch):
    # given an authorizer of SQLite, which is told each column that a statement reads or writes
    touched = set()
    connect = sqlite3.connect

    def note(action, table, column, *_):
        if action in (sqlite3.SQLITE_READ, sqlite3.SQLITE_UPDATE) and column:
            touched.add((table, column))
        return sqlite3.SQLITE_OK

    def watched(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_authorizer(note)
        return connection

    monkeypatch.setattr(mlflow_tables.sqlite3, "connect", watched)
    # when every function runs
    read_database_aliases(database)
    read_database_runs(database)
    read_artifact_owners(database)
    assert read_database_version(database, HASHES[0]).data == {"rows": "0" * 64}
    make_artifacts_relative(database, "state/shop/mlartifacts")
    assert register_in_database(database, HASHES[1]) == "registered"
    assert write_database_descriptions(database, {HASHES[0]: "it serves"}, "versions")
    with contextlib.closing(watched(":memory:")) as ledger, ledger:
        attach_mlflow(ledger, database)
        move_alias(ledger, "champion", HASHES[0])
    # then these are the columns of MLFLOW_TABLES
    listed = {(table, column) for table, columns in MLFLOW_TABLES.items() for column in columns}
    assert {pair for pair in touched if not pair[0].startswith("sqlite_")} == listed


def test_the_reads_say_what_the_client_says(logged):
    database = logged / "state/shop" / MLFLOW_FILE
    with mlflow_client("shop", logged) as (client, experiment):
        runs = {run.info.run_id: run for run in client.search_runs([experiment])}
        models = client.search_logged_models([experiment])
        champion = client.get_model_version_by_alias(REGISTERED_MODEL, "champion")
    # the runs and what was made of them
    rows = {row.run: row for row in read_database_runs(database)}
    assert rows.keys() == runs.keys()
    for run_id, row in rows.items():
        assert (row.name, row.hash) == (runs[run_id].info.run_name, runs[run_id].data.tags["content_hash"])
        assert (row.time, row.done, row.deleted) == (runs[run_id].info.start_time, 1, 0)
        assert row.models == [model.model_id for model in models if model.source_run_id == run_id]
        assert row.versions == ([str(champion.version)] if run_id == champion.run_id else [])
    assert read_artifact_owners(database) == {*runs, *(model.model_id for model in models)}
    # the alias and its version
    assert read_database_aliases(database) == {"champion": HASHES[0]}
    version = read_database_version(database, HASHES[0])
    assert (str(version.version), version.run_id) == (str(champion.version), champion.run_id)
    assert read_database_version(database, HASHES[1]) is None


def test_the_client_sees_an_alias_that_moved_in_a_transaction_of_another_database(logged, tmp_path):
    # given a second registered version, and a transaction that also writes elsewhere
    assert register_model("shop", logged, HASHES[1]) == "registered"
    database = logged / "state/shop" / MLFLOW_FILE
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE entry (n)")
        attach_mlflow(other, database)
        # when it is undone, then the alias has not moved
        for end in ("ROLLBACK", "COMMIT"):
            other.execute("BEGIN")
            other.execute("INSERT INTO entry VALUES (1)")
            move_alias(other, "champion", HASHES[1])
            other.execute(end)
            expected = HASHES[0] if end == "ROLLBACK" else HASHES[1]
            assert read_database_aliases(database) == {"champion": expected}
        # and a content without a version removes it
        move_alias(other, "challenger", None)
    with mlflow_client("shop", logged) as (client, _):
        version = client.get_model_version_by_alias(REGISTERED_MODEL, "champion")
        assert version.tags["content_hash"] == HASHES[1] and len(version.aliases) == 1


def test_a_version_registered_in_sql_is_the_one_that_the_client_makes(logged, tmp_path, monkeypatch):
    # given two copies of a project, one with a version of MLflow's client
    for name in ("sql", "client"):
        shutil.copytree(logged, tmp_path / name)
        change(tmp_path / name / "state/shop" / MLFLOW_FILE, "DELETE FROM registered_model_aliases")
        change(
            tmp_path / name / "state/shop" / MLFLOW_FILE, "DELETE FROM model_version_tags; DELETE FROM model_versions"
        )
    rows = {}
    for name in ("sql", "client"):
        database = tmp_path / name / "state/shop" / MLFLOW_FILE
        if name == "client":
            monkeypatch.setattr(mlflow_models, "local_mlflow_database", lambda *_: None)
        assert register_model("shop", tmp_path / name, HASHES[1]) == "registered"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.row_factory = sqlite3.Row
            tables = ("registered_models", "model_versions", "model_version_tags")
            rows[name] = [dict(row) for table in tables for row in connection.execute(f"SELECT * FROM {table}")]
    # then every column is the same, without the times
    for row in [*rows["sql"], *rows["client"]]:
        for column in ("creation_time", "last_updated_time"):
            assert row.pop(column, 1) > 0
    assert rows["sql"] == rows["client"]
    # and the client reads the version, and its description
    assert write_database_descriptions(tmp_path / "sql/state/shop" / MLFLOW_FILE, {HASHES[1]: "it serves"}, "versions")
    with mlflow_client("shop", tmp_path / "sql") as (client, _):
        version = client.get_model_version(REGISTERED_MODEL, "1")
        assert (version.tags, version.status) == ({"content_hash": HASHES[1]}, "READY")
        assert version.description.startswith("it serves") and version.last_updated_timestamp
        assert client.get_registered_model(REGISTERED_MODEL).description.startswith("versions")
