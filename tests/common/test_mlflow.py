"Fitted models in MLflow: each once, without foreign code, and still found after a move."

import os
import shutil

import pandas as pd
import pytest
from releases import FOREST, SEASONAL, make_products

from brewcast.common.core import write_json
from brewcast.common.hashing import sha256
from brewcast.common.mlflow import (
    MLFLOW_DEFAULTS,
    experiment_name,
    log_model_run,
    mlflow_client,
    mlflow_uri,
    project_database,
    split_login,
)
from brewcast.common.params import environment
from brewcast.model.recipes import Baseline


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


def test_the_same_model_is_logged_once(project):
    # given a model that was logged with its parameters, errors, data and card
    card = write_json({"a": 1}, project / "card.json")
    details = {"params": {"recipe": "seasonal"}, "metrics": {"wape": 0.1, "bias": float("nan"), "rmsse": None}}
    details |= {"tags": {"sha256_rows": "x"}, "artifacts": [card], "data": {"rows": "f" * 64}}
    run = log_model_run(Baseline(), "abcdefabcdef", **details, root=project, source="shop")
    # when it is logged again, then there is no new run
    assert log_model_run(Baseline(), "abcdefabcdef", **details, root=project, source="shop") == run
    # then the run is found by the content hash, and its artifacts have a relative location
    with mlflow_client("shop", project) as (client, experiment):
        (run_found,) = client.search_runs([experiment], "tags.content_hash = 'abcdefabcdef'")
        assert [file.path for file in client.list_artifacts(run)] == ["card.json"]
    assert (run_found.data.metrics, run_found.data.params) == ({"wape": 0.1}, {"recipe": "seasonal"})
    assert [(i.dataset.name, i.dataset.digest) for i in run_found.inputs.dataset_inputs] == [("rows", "f" * 36)]
    assert run_found.info.artifact_uri.startswith("state/shop/mlartifacts/")


@pytest.mark.parametrize("recipe", [SEASONAL, FOREST])
def test_a_logged_model_predicts_the_same_as_its_file_also_after_a_move(project, tmp_path, recipe):
    # given the logged model of a release
    import joblib
    import mlflow.sklearn

    products = make_products(tmp_path / "products", 12, recipe)
    file = products.forecast.parent / "model.joblib"
    model, content_hash = joblib.load(file), sha256(file)[:12]
    run = log_model_run(model, content_hash, {"recipe": recipe.name}, {}, {}, [], project, "shop")
    # when the project is moved
    shutil.copytree(project, tmp_path / "elsewhere")
    with mlflow_client("shop", tmp_path / "elsewhere") as (client, _):
        loaded = mlflow.sklearn.load_model(client.get_run(run).data.tags["model_uri"])
        assert str(project).encode() not in (tmp_path / "elsewhere/state/shop/mlflow.db").read_bytes()
    # then the model that MLflow loads is the same
    rows = products.online[list(model.feature_names_in_)]
    pd.testing.assert_series_equal(pd.Series(loaded.predict(rows)), pd.Series(model.predict(rows)))


class Stranger:
    "A type that is none of ours."


def test_a_model_with_foreign_types_is_refused(project):
    with pytest.raises(ValueError, match="the model contains test_mlflow.Stranger"):
        log_model_run(Stranger(), "0" * 12, {}, {}, {}, [], project, "shop")


@pytest.mark.parametrize(
    ("named", "own"),
    [
        ("", True),
        ("sqlite:////home/ann/brewcast/state/shop/mlflow.db", True),  # as `activate` of another clone left it
        ("sqlite:////a folder/state/tea/mlflow.db", True),  # of another source
        ("sqlite:///state/shop/mlflow.db", True),
        ("sqlite:////srv/mlflow/mlflow.db", False),
        ("sqlite:////srv/state/mlflow.db", False),
        ("http://127.0.0.1:5000", False),
        ("postgresql://ann:secret@db/mlflow", False),
        ("file:///srv/mlruns", False),
    ],
)
def test_the_tracking_uri_is_used_unless_it_is_a_project_s_own_database(tmp_path, monkeypatch, named, own):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    database = tmp_path / "state/shop/mlflow.db"
    assert mlflow_uri("shop", tmp_path) == (f"sqlite:///{database}" if own else named)
    assert project_database("shop", tmp_path) == (database if own else None)
    assert experiment_name("shop", tmp_path) == ("brewcast" if own else "brewcast-shop")
    # and `activate` sets the project's own database, or leaves a server's address as it is and does not show it
    (tmp_path / "env.yaml").write_text("source: shop\n")
    variables = environment(tmp_path, "shop")
    assert variables.get("MLFLOW_TRACKING_URI") == (f"sqlite:///{database}" if own else None) and "secret" not in str(
        variables
    )


def test_a_login_is_passed_separately_and_variables_are_restored(project, monkeypatch):
    named = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "p@ss:word"}
    assert split_login("http://ann:p%40ss%3Aword@mlflow:5000/x") == ("http://mlflow:5000/x", named)
    assert split_login("http://mlflow:5000") == ("http://mlflow:5000", {})
    # after a call the variables are as before: not set, or another source's database
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with mlflow_client("shop", project):
        pass
    assert "MLFLOW_TRACKING_URI" not in os.environ and project_database("shop", project)


def test_the_wait_for_a_server_is_limited_and_the_user_s_own_limit_stays(project, monkeypatch):
    for name in MLFLOW_DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    with mlflow_client("shop", project):
        from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

        assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (7, 2)
