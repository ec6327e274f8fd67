"The candidate: its settings, its fit, and what it uses."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from verdicts import SEASONAL, make_decision

from brewcast.common.core import write_json, write_parquet
from brewcast.common.records import Recipe, ServingModel, StateInputs
from brewcast.model import train
from brewcast.model.recipes import CATEGORICAL_FEATURES, FEATURES, NUMERIC_FEATURES
from brewcast.model.train import (
    FEATURE_GROUPS,
    SettingChoices,
    choose_settings,
    group_importances,
    original_errors,
    read_train_inputs,
)

SMALL = {"n_estimators": 20, "min_samples_leaf": 3, "seed": 0}
CHOICES = SettingChoices(SMALL, partners=["rate_seasonal", "rate_last"], weights=[0.5, 1.0])


@pytest.fixture(scope="module")
def rows():
    "Thirty stores in two years, whose sales depend on the planned promotion and on no other feature."
    generator = np.random.default_rng(0)
    months = pd.date_range("2022-01-01", periods=24, freq="MS")
    table = pd.MultiIndex.from_product([[f"S{i}" for i in range(30)], months], names=["series_id", "month"]).to_frame(
        index=False
    )
    n = len(table)
    table = table.assign(
        cutoff=table.month - pd.Timedelta(days=1), **{name: generator.normal(size=n) for name in NUMERIC_FEATURES}
    )
    table = table.assign(
        **{name: generator.choice(["a", "b"], n) for name in CATEGORICAL_FEATURES}, expected_units=30.0
    )
    table = table.assign(rate_mean3=10.0, rate_pooled=10.0, rate_last_year=10.0, rate_seasonal=10.0, rate_last=10.0)
    return table.assign(actual=300 * np.exp(0.4 * np.tanh(table.promotion_change) + generator.normal(0, 0.02, n)))


def test_settings_are_chosen_by_the_error_on_the_cutoffs_given(rows):
    cutoffs = sorted(rows.cutoff.unique())
    recipe, tried = choose_settings(rows, cutoffs[6:12], CHOICES)
    assert recipe.params["weight"] == 1.0  # the partner knows nothing of promotions
    assert tried.wape.min() == tried[tried.weight == 1.0].wape.min()
    assert [name for name in tried if name.startswith("wape_")] == [f"wape_{c:%Y-%m}" for c in cutoffs[6:12]]


def test_importances_find_what_the_sales_depend_on(rows):
    assert sorted(name for group in FEATURE_GROUPS.values() for name in group) == sorted(
        NUMERIC_FEATURES + CATEGORICAL_FEATURES
    )
    table = group_importances(
        Recipe(name="forest", params=SMALL | {"weight": 1.0}), rows, sorted(rows.cutoff.unique())[-3:]
    )
    assert table.permutation.idxmax() == "promotion" and table.forest.idxmax() == "promotion"
    assert table.permutation.drop("promotion").abs().max() < 0.02 < 0.1 < table.permutation["promotion"]
    assert table.forest.sum() == pytest.approx(1.0)


def test_the_original_model_is_good_only_when_its_split_leaks():
    generator = np.random.default_rng(1)
    months = pd.date_range("2021-01-01", periods=36, freq="MS")
    table = pd.MultiIndex.from_product([[f"S{i}" for i in range(20)], months], names=["series_id", "month"]).to_frame(
        index=False
    )
    number = table.groupby("series_id").cumcount()
    growth = np.exp(0.04 * number)  # a random split can copy it from the neighbouring months
    table = table.assign(
        country="USA", city="c" + table.series_id, weather=None, promotion=None, holiday=None, season="summer"
    )
    table = table.assign(
        price=4.0 + number / 10, is_weekend=0.28, quantity_sold=1000 * growth * generator.lognormal(0, 0.02, len(table))
    )
    errors = original_errors(table)
    assert errors["honest_split"] > 3 * errors["random_split"]
    assert original_errors(table) == errors
    assert set(FEATURES) & {"quantity_sold", "actual"} == set()


@pytest.mark.parametrize("champion", [None, SEASONAL])
def test_the_inputs_are_read_from_the_stages_and_the_state(tmp_path, monkeypatch, champion):
    # given the products of the stages before, and a state with or without a champion
    release = {"release": "1f0c3a9b2e4d", "train_through": "2024-01-01", "cutoff": "2024-01-31"}
    serves = ServingModel(recipe=champion, **release) if champion else None
    monkeypatch.setattr(train, "find_root", lambda: tmp_path)
    monkeypatch.setattr(train, "training_rows", lambda *asked: asked)
    write_json(StateInputs(champion=serves), tmp_path / "inputs.json")
    decision = write_json(make_decision(rule="calendar"), tmp_path / "decision.json")
    store_month = write_parquet(pd.DataFrame({"store_id": ["S1"]}), tmp_path / "store_month.parquet")
    upstream_paths = SimpleNamespace(
        features=SimpleNamespace(history=tmp_path / "features/history.parquet"),
        clean=SimpleNamespace(store_month=store_month),
        monitor=SimpleNamespace(decision=decision),
    )
    # when they are read, then each is in its place
    inputs = read_train_inputs(upstream_paths, "shop", "inputs.json")
    assert (inputs.rows, inputs.decision.rule) == ((tmp_path / "features", "shop"), "calendar")
    assert (inputs.champion, inputs.store_month.store_id[0]) == (serves, "S1")
