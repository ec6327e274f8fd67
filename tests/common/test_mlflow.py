"Fitted models in MLflow: each once, without foreign code, and still found after a move."

import shutil

import pandas as pd
import pytest
from releases import FOREST, SEASONAL, make_products

from brewcast.common.hashing import sha256
from brewcast.common.mlflow import (
    MLFLOW_DEFAULTS,
    experiment_name,
    log_model_run,
    mlflow_client,
    mlflow_uri,
    project_database,
)
from brewcast.common.params import environment


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


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


def test_the_wait_for_a_server_is_limited_and_the_user_s_own_limit_stays(project, monkeypatch):
    for name in MLFLOW_DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    with mlflow_client("shop", project):
        from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

        assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (7, 2)
