"Models that other tools load from MLflow: their forecasts are those of the service, row by row."

import json
import os
import subprocess
import sys

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import skops.io
from conftest import ROOT
from releases import FOREST, SEASONAL, make_products
from sklearn.svm import SVR

from brewcast.common.hashing import sha256
from brewcast.common.mlflow import mlflow_client, mlflow_variables
from brewcast.common.mlflow_models import register_model
from brewcast.delivery.package import write_release
from brewcast.model.mlflow_run import _load_pyfunc, input_example, log_fitted_model
from brewcast.model.recipes import FEATURES, load_model
from brewcast.serving.release import RELATIVE_TOLERANCE, Release

RECIPES = {"1": FOREST, "2": SEASONAL}  # by version


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    "A project with two versions, and by version the release that serves its model and the rows that it answers."
    root = tmp_path_factory.mktemp("a project")
    releases = {}
    for version, recipe in RECIPES.items():
        products, folder = make_products(tmp_path_factory.mktemp("products"), 30, recipe), root / f"release {version}"
        folder.mkdir()
        write_release(folder, products.table, products.online, products.forecast.parent, "numpy\n")
        digest = sha256(folder / "model.joblib")
        model = load_model(folder / "model.joblib", digest)
        log_fitted_model(model, digest[:12], recipe, "2024-04-01", products.online, root, "shop")
        assert register_model("shop", root, digest[:12]) == "registered"
        releases[version] = (Release(folder), products.online, products.table)
    return root, releases


def load(root, version: str):
    with mlflow_client("shop", root):
        return mlflow.pyfunc.load_model(f"models:/brewcast/{version}")


def is_same(forecast, release: Release) -> bool:
    "Is it the service's answer, for each of its stores?"
    return np.allclose(forecast, release.store_forecasts[:, 0], rtol=RELATIVE_TOLERANCE, atol=0)


@pytest.mark.parametrize("version", RECIPES)
def test_a_version_forecasts_what_the_service_answers_row_by_row(served, version):
    root, releases = served
    release, rows, table = releases[version]
    model = load(root, version)
    assert release.ids == rows.series_id.tolist()
    assert is_same(model.predict(rows), release)  # columns that the model does not know are ignored
    assert model.predict(rows[FEATURES]).tolist() == table.forecast.tolist()
    assert is_same(model.predict(rows[FEATURES[::-1]]), release)  # in another order
    # and its example is a valid input
    pd.testing.assert_frame_equal(model.input_example, input_example(rows))
    assert len(model.predict(model.input_example)) == len(model.input_example)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="log_lag_1"), r"Model is missing inputs \['log_lag_1'\]"),
        (
            lambda rows: rows.rename(columns={"log_lag_1": "lag_1"}),
            r"Model is missing inputs \['log_lag_1'\].*extra inputs",
        ),
        (lambda rows: rows.drop(columns="city"), r"Model is missing inputs \['city'\]"),
        (lambda rows: rows.assign(rate_last="many"), "column rate_last"),
        (lambda rows: rows.assign(has_own_season="yes"), "column 'has_own_season' holds no numbers: yes"),
    ],
    ids=["missing", "misspelt", "a missing category", "a text", "a text for a whole number"],
)
def test_a_wrong_column_is_refused_by_its_name(served, change, message):
    root, releases = served
    _, rows, _ = releases["1"]
    with pytest.raises(Exception, match=f"(?s){message}"):
        load(root, "1").predict(change(rows))


@pytest.mark.parametrize("content", ["csv", "split", "records"])
def test_mlflow_models_predict_gives_the_service_s_forecasts(served, tmp_path, content):
    root, releases = served
    release, rows, _ = releases["1"]
    file = tmp_path / "rows"
    if content == "csv":
        rows.to_csv(file, index=False)
    else:
        frame = json.loads(rows.to_json(orient=content, **({"index": False} if content == "split" else {})))
        file.write_text(json.dumps({f"dataframe_{content}": frame}))
    kind = "csv" if content == "csv" else "json"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "predict",
        "-m",
        "models:/brewcast/1",
        "--env-manager",
        "local",
    ]
    variables = os.environ | mlflow_variables("shop", root) | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    variables["PYTHONPATH"] = str(ROOT)  # the package under test
    done = subprocess.run(
        [*command, "-i", file, "-t", kind], cwd=root, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert is_same(json.loads(done.stdout.splitlines()[-1])["predictions"], release)


def test_a_model_with_foreign_types_is_not_loaded(tmp_path):
    foreign = type("Stranger", (SVR,), {"__module__": __name__})
    globals()["Stranger"] = foreign
    skops.io.dump(foreign(), tmp_path / "model.skops")
    with pytest.raises(ValueError, match="the model contains test_mlflow_run.Stranger"):
        _load_pyfunc(str(tmp_path / "model.skops"))
