"The compiled model predicts the same as the fitted one, on hard rows too, or it is not packaged."

import joblib
import numpy as np
import pandas as pd
import pytest
from releases import make_products

from brewcast.common.records import Parity, Recipe
from brewcast.delivery import package as module
from brewcast.delivery.compile_model import check_parity, compile_model, hard_rows
from brewcast.delivery.package import write_release
from brewcast.model.recipes import BASELINES, CATEGORICAL_FEATURES, FEATURES, build_model
from brewcast.serving.release import CompiledModel

FOREST = Recipe(name="forest", params={"n_estimators": 3})
NUMBERS = [name for name in FEATURES if name not in CATEGORICAL_FEATURES]


def fit_model_on_toys(folder, recipe: Recipe, stores: int = 30):
    "A fitted model, and rows to predict."
    products = make_products(folder, stores, recipe)
    return joblib.load(products.forecast.parent / "model.joblib"), products.online


@pytest.mark.parametrize("name", BASELINES)
def test_a_compiled_baseline_is_exactly_equal_and_has_no_trees(tmp_path, name):
    # given a baseline
    model, rows = fit_model_on_toys(tmp_path, Recipe(name=name, params={}))
    # when it is compiled, then it predicts exactly the same, on ordinary and hard rows, and is one small file
    compiled = compile_model(model, NUMBERS, tmp_path)
    hard = hard_rows(rows[:3])
    assert check_parity(model, compiled, pd.concat([rows, hard])) == Parity(
        rows=len(rows) + len(hard), largest_difference=0.0
    )
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("partner, weight", [("rate_seasonal", 0.5), ("rate_last", 0.3), ("rate_seasonal", 1.0)])
def test_a_compiled_forest_predicts_the_same_on_ordinary_and_hard_rows(tmp_path, partner, weight):
    # given a forest with one of the baselines as its partner
    params = FOREST.params | {"partner": partner, "weight": weight, "min_samples_leaf": 1}
    model, rows = fit_model_on_toys(tmp_path, Recipe(name="forest", params=params))
    compile_model(model, NUMBERS, tmp_path)
    # when it is read from its files, as the service reads it, then it predicts the same
    hard = hard_rows(rows[:3])
    parity = check_parity(model, CompiledModel(tmp_path), pd.concat([rows, hard]), tolerance=1e-6)
    assert parity.rows == len(rows) + len(hard)
    # and the compared predictions are not all the same number
    assert len(set(model.predict(rows[FEATURES]))) > 20


@pytest.mark.filterwarnings("ignore:Skipping features")
def test_a_forest_that_was_fitted_without_a_column_is_compiled_without_it(tmp_path):
    # given a source without prices
    _, rows = fit_model_on_toys(tmp_path, FOREST)
    rows = rows.assign(price_change=np.nan, price_change_year=np.nan)
    model = build_model(FOREST).fit(rows[FEATURES], rows.rate_mean3 * rows.expected_units * rows.log_size)
    # when its forest is compiled
    compiled = compile_model(model, NUMBERS, tmp_path)
    # then it predicts the same, with and without a price in the rows
    check_parity(model, compiled, pd.concat([rows, rows.assign(price_change=0.3)]))


def test_many_rows_are_compared_in_parts_and_a_wrong_row_has_its_place_among_all(tmp_path, monkeypatch):
    # given a compiled forest that is compared 7 rows at a time, then the figures are those of all rows at once
    model, rows = fit_model_on_toys(tmp_path, FOREST)
    compiled = compile_model(model, NUMBERS, tmp_path)
    at_once = check_parity(model, compiled, rows)
    monkeypatch.setattr("brewcast.delivery.compile_model.MAX_PARITY_ROWS", 7)
    assert check_parity(model, compiled, rows) == at_once and at_once.rows == len(rows) == 30
    # and another model that differs in the last row only, which is in the last part: the error names the row
    seasonal = compile_model(build_model(Recipe(name="seasonal", params={})), NUMBERS, tmp_path)
    rows = rows.reset_index(drop=True).assign(rate_seasonal=2.0, rate_last=[2.0] * 29 + [3.0])
    last_month = build_model(Recipe(name="last_month", params={})).fit(rows[FEATURES], rows.rate_last)
    with pytest.raises(ValueError, match=r"in 1 of 30 rows .*: row 29 gets"):
        check_parity(last_month, seasonal, rows)


def test_a_compiled_model_that_differs_is_not_packaged(tmp_path, monkeypatch):
    # given a compiler that writes a wrong mean
    compile_correctly = module.compile_model

    def compile_wrongly(model, numbers, folder):
        compiled = compile_correctly(model, numbers, folder)
        compiled.description["forest"]["mean"][0] += 1
        return compiled

    monkeypatch.setattr(module, "compile_model", compile_wrongly)
    # then the release is refused; the error says how many rows differ, of how many
    products = make_products(tmp_path / "products")
    (tmp_path / "release").mkdir()
    with pytest.raises(ValueError, match=r"differs from the fitted one in \d+ of \d+ rows .* it is not packaged"):
        write_release(tmp_path / "release", products.table, products.online, products.forecast.parent, "numpy\n")
