"MLflow after a build: both models have their errors, tables, pictures, data and words, and load by number and alias."

import contextlib
import json
import shutil
import sqlite3

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow_contents import mlflow_problems
from planted import MLFLOW_CONTENTS

from brewcast.common.ledger import read_ledger
from brewcast.common.mlflow import mlflow_client
from brewcast.common.records import Verdict
from brewcast.serving.release import RELATIVE_TOLERANCE, Release

SOURCE = "simulated"


@pytest.fixture(scope="module")
def verdict(published) -> Verdict:
    return Verdict.read(published.root / "products" / SOURCE / "evaluate/verdict.json")


@pytest.fixture
def database(published, tmp_path):
    "A copy of MLflow's database after a build, in a folder with the source's name."
    (tmp_path / SOURCE).mkdir()
    return shutil.copy2(published.root / "state" / SOURCE / "mlflow.db", tmp_path / SOURCE / "mlflow.db")


def test_mlflow_has_all_that_a_build_knows_of_its_models(published, database, verdict):
    assert mlflow_problems(database, published.root, verdict) == []


@pytest.mark.parametrize("planted", MLFLOW_CONTENTS)
def test_what_is_missing_in_mlflow_is_found(published, database, verdict, planted):
    statement, problem = MLFLOW_CONTENTS[planted]
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)
    assert problem in " ".join(mlflow_problems(database, published.root, verdict))


def test_every_version_and_alias_forecasts_what_the_service_answers(project):
    entry = read_ledger(project.root / "state" / SOURCE)[-1]
    releases = {"champion": entry, "challenger": entry.challenger}
    with mlflow_client(SOURCE, project.root) as (client, _):
        for alias, release in releases.items():
            folder = project.root / "state" / SOURCE / "releases" / release.release
            rows, served = pd.read_parquet(folder / "online.parquet"), Release(folder)
            number = client.get_model_version_by_alias("brewcast", alias).version
            for name in (f"brewcast@{alias}", f"brewcast/{number}"):
                forecast = mlflow.pyfunc.load_model(f"models:/{name}").predict(rows)
                assert served.ids == rows.series_id.tolist()
                assert np.allclose(forecast, served.store_forecasts[:, 0], rtol=RELATIVE_TOLERANCE, atol=0)


def test_the_gate_s_table_is_the_verdict_s(project, verdict):
    with mlflow_client(SOURCE, project.root) as (client, _):
        run = client.get_run(client.get_model_version_by_alias("brewcast", "champion").run_id)
        curve = client.get_metric_history(run.info.run_id, "wape")
    (folder,) = (project.root / run.info.artifact_uri / "evaluation").glob("*")
    table = json.loads((folder / "models.json").read_text())
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["data"]}
    assert {name: row["n"] for name, row in rows.items()} == {name: error.n for name, error in verdict.errors.items()}
    assert rows["candidate"]["wape"] == round(verdict.errors["candidate"].wape, 4)
    assert run.data.metrics["overall/wape"] == verdict.errors["candidate"].wape
    own = [row["wape"] for row in verdict.by_month if row["model"] == "candidate"]
    assert [point.value for point in sorted(curve, key=lambda point: point.step)] == own
    assert verdict.reason in (folder / "summary.md").read_text() and verdict.reason in run.data.tags["judged"]


def test_a_build_that_logs_the_same_again_adds_nothing(project, database):
    from brewcast.delivery.model_runs import log_build, read_run_inputs

    def tables() -> dict:
        path = project.root / "state" / SOURCE / "mlflow.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            names = ["runs", "metrics", "tags", "params", "inputs", "datasets", "logged_models"]
            return {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in names}

    before = tables()
    products = project.root / "products" / SOURCE
    log_build(products / "forecast", read_run_inputs(products), project.root, SOURCE)
    assert tables() == before
