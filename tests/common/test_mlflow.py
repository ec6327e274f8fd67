"Fitted models in MLflow: once each, without code of strangers, and found again after a move."

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
    # given a model that is logged with its parameters, errors, data and card
    card = write_json({"a": 1}, project / "card.json")
    told = {"params": {"recipe": "seasonal"}, "metrics": {"wape": 0.1, "bias": float("nan"), "rmsse": None}}
    told |= {"tags": {"sha256_rows": "x"}, "artifacts": [card], "data": {"rows": "f" * 64}}
    run = log_model_run(Baseline(), "abcdefabcdef", **told, root=project, source="shop")
    # when it is logged again, there is nothing new
    assert log_model_run(Baseline(), "abcdefabcdef", **told, root=project, source="shop") == run
    # then all of it is found by its content hash, and lies at a relative place
    with mlflow_client("shop", project) as (client, experiment):
        (kept,) = client.search_runs([experiment], "tags.content_hash = 'abcdefabcdef'")
        assert [file.path for file in client.list_artifacts(run)] == ["card.json"]
    assert (kept.data.metrics, kept.data.params) == ({"wape": 0.1}, {"recipe": "seasonal"})
    assert [(i.dataset.name, i.dataset.digest) for i in kept.inputs.dataset_inputs] == [("rows", "f" * 36)]
    assert kept.info.artifact_uri.startswith("state/shop/mlartifacts/")


@pytest.mark.parametrize("recipe", [SEASONAL, FOREST])
def test_a_logged_model_predicts_what_its_file_predicts_wherever_the_project_lies(project, tmp_path, recipe):
    # given the model of a release, logged
    import joblib
    import mlflow.sklearn

    made = make_products(tmp_path / "products", 12, recipe)
    file = made.forecast.parent / "model.joblib"
    model, content_hash = joblib.load(file), sha256(file)[:12]
    run = log_model_run(model, content_hash, {"recipe": recipe["name"]}, {}, {}, [], project, "shop")
    # when the project is moved
    shutil.copytree(project, tmp_path / "elsewhere")
    with mlflow_client("shop", tmp_path / "elsewhere") as (client, _):
        kept = mlflow.sklearn.load_model(client.get_run(run).data.tags["model_uri"])
        assert str(project).encode() not in (tmp_path / "elsewhere/state/shop/mlflow.db").read_bytes()
    # then the model that MLflow loads is the same
    rows = made.online[list(model.feature_names_in_)]
    pd.testing.assert_series_equal(pd.Series(kept.predict(rows)), pd.Series(model.predict(rows)))


class Stranger:
    "A type that is none of ours."


def test_a_model_of_foreign_types_is_not_kept(project):
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
def test_what_is_named_is_used_unless_it_is_a_projects_own_file(tmp_path, monkeypatch, named, own):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    mine = tmp_path / "state/shop/mlflow.db"
    assert mlflow_uri("shop", tmp_path) == (f"sqlite:///{mine}" if own else named)
    assert project_database("shop", tmp_path) == (mine if own else None)
    assert experiment_name("shop", tmp_path) == ("brewcast" if own else "brewcast-shop")
    # and `activate` sets the project's own file, or leaves an address alone, and shows none
    (tmp_path / "env.yaml").write_text("source: shop\n")
    told = environment(tmp_path, "shop")
    assert told.get("MLFLOW_TRACKING_URI") == (f"sqlite:///{mine}" if own else None) and "secret" not in str(told)


def test_a_login_is_handed_over_apart_and_nothing_is_left_behind(project, monkeypatch):
    named = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "p@ss:word"}
    assert split_login("http://ann:p%40ss%3Aword@mlflow:5000/x") == ("http://mlflow:5000/x", named)
    assert split_login("http://mlflow:5000") == ("http://mlflow:5000", {})
    # the variables are after a call what they were before: none, or another source's file
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with mlflow_client("shop", project):
        pass
    assert "MLFLOW_TRACKING_URI" not in os.environ and project_database("shop", project)


def test_how_long_a_server_is_waited_for_is_bounded_and_the_users_own_bound_stands(project, monkeypatch):
    for name in MLFLOW_DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    with mlflow_client("shop", project):
        from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

        assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (7, 2)
