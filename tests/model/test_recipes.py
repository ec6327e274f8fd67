"The recipes that may serve."

import hashlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import Pipeline

import brewcast.models
from brewcast.common.records import Recipe
from brewcast.model.recipes import (
    CATEGORICAL_FEATURES,
    FEATURES,
    NUMERIC_FEATURES,
    RATE_FEATURES,
    RECIPES,
    Baseline,
    CombinedForest,
    build_model,
    load_model,
    model_bytes,
)


def make_rows(n: int = 300, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    rows = pd.DataFrame({name: generator.normal(size=n) for name in NUMERIC_FEATURES})
    rows = rows.assign(**{name: generator.uniform(5, 50, n) for name in RATE_FEATURES})
    rows = rows.assign(**{name: generator.choice(["a", "b"], n) for name in CATEGORICAL_FEATURES}, expected_units=30.0)
    return rows[FEATURES]


def sold(rows: pd.DataFrame) -> pd.Series:
    return rows.rate_mean3 * 30 * np.exp(0.3 * np.tanh(rows.promotion_change))


def test_every_recipe_can_be_built_from_plain_json_and_forecasts():
    rows = make_rows()
    for name in RECIPES:
        model = build_model(Recipe(name=name, params={})).fit(rows, sold(rows))
        forecast = model.predict(rows)
        assert forecast.shape == (len(rows),) and np.isfinite(forecast).all() and (forecast > 0).all()


def test_the_forest_is_one_pipeline_and_learns_from_the_plan():
    rows, fresh = make_rows(), make_rows(seed=1)
    model = build_model(Recipe(name="forest", params={"weight": 1.0})).fit(rows, sold(rows))
    assert isinstance(model.pipeline_, Pipeline) and isinstance(model.pipeline_[-1], RandomForestRegressor)
    error = (np.abs(model.predict(fresh) - sold(fresh)).sum()) / sold(fresh).sum()
    naive = np.abs(fresh.rate_mean3 * 30 - sold(fresh)).sum() / sold(fresh).sum()
    assert error < naive / 2


def test_the_same_rows_give_the_same_bytes_whatever_the_threads():
    rows = make_rows()
    files = []
    for threads in (1, 2):
        model = build_model(Recipe(name="forest", params={"n_estimators": 20}))
        model.pipeline.set_params(forest__n_jobs=threads)
        model.fit(rows, sold(rows))
        model.pipeline.set_params(forest__n_jobs=None)
        files.append(model_bytes(model))
    assert files[0] == files[1]


def test_a_file_with_another_hash_is_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "was unpickled"), "w"))

    file = tmp_path / "model.joblib"
    file.write_bytes(model_bytes(Bomb()))
    with pytest.raises(ValueError, match="not the model that was written"):
        load_model(file, "0" * 64)
    assert not (tmp_path / "was unpickled").exists()


READ = """
import sys
from pathlib import Path
import skops.io
from brewcast.model.recipes import load_model

folder, digest, types = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
for model in (load_model(folder / "model.joblib", digest), skops.io.load(folder / "model.skops", trusted=types)):
    print(type(model).__module__, type(model).__name__, model.partner)
"""


def test_a_model_pickled_under_the_old_import_path_is_loaded(tmp_path, monkeypatch):
    # given a model pickled, and stored in MLflow, when its classes were in brewcast.models
    model = build_model(Recipe(name="forest", params={"n_estimators": 5})).fit(make_rows(), sold(make_rows()))
    for kind in (Baseline, CombinedForest):
        assert getattr(brewcast.models, kind.__name__) is kind
        monkeypatch.setattr(kind, "__module__", "brewcast.models")
    old, skops_file = model_bytes(model), skops.io.dumps(model)
    types = skops.io.get_untrusted_types(data=skops_file)
    monkeypatch.undo()
    assert b"brewcast.models" in old and b"brewcast.model.recipes" not in old
    assert "brewcast.models.CombinedForest" in types
    (tmp_path / "model.joblib").write_bytes(old)
    (tmp_path / "model.skops").write_bytes(skops_file)
    # when a new process loads both, then they have the present class
    digest = hashlib.sha256(old).hexdigest()
    read = [sys.executable, "-c", READ, tmp_path, digest, *types]
    output = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["brewcast.model.recipes CombinedForest rate_seasonal"] * 2
    # and a model pickled now has the present import path
    assert b"brewcast.model.recipes" in model_bytes(load_model(tmp_path / "model.joblib", digest))
