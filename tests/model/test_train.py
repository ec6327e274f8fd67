"The candidate: its settings, its fit, and what it uses."

import numpy as np
import pandas as pd
import pytest

from brewcast.common.hashing import sha256
from brewcast.common.records import Recipe
from brewcast.model.recipes import CATEGORICAL_FEATURES, FEATURES, NUMERIC_FEATURES, model_bytes
from brewcast.model.train import (
    FEATURE_GROUPS,
    FIT_LIBRARIES,
    SettingChoices,
    choose_settings,
    fit_environment,
    fit_model,
    group_importances,
    original_errors,
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


def test_settings_do_not_depend_on_later_outcomes(rows):
    cutoffs = sorted(rows.cutoff.unique())
    later = rows.assign(actual=rows.actual.mask(rows.month > cutoffs[12], 1.0))
    choices = CHOICES._replace(partners=["rate_seasonal"])
    chosen = [choose_settings(table, cutoffs[6:12], choices)[1] for table in (rows, later)]
    pd.testing.assert_frame_equal(*chosen)


def test_with_too_few_cutoffs_the_defaults_are_used(rows):
    cutoffs = sorted(rows.cutoff.unique())
    recipe, tried = choose_settings(rows, cutoffs[:2], CHOICES)
    assert (recipe.params["partner"], recipe.params["weight"], len(tried)) == ("rate_seasonal", 0.5, 0)


def test_the_fit_learns_through_the_decisions_month_only(rows):
    recipe = Recipe(name="forest", params=SMALL)
    through = pd.Timestamp("2023-06-01")
    changed = rows.assign(actual=rows.actual.mask(rows.month > through, 1.0))
    assert model_bytes(fit_model(recipe, rows, through)) == model_bytes(fit_model(recipe, changed, through))
    assert model_bytes(fit_model(recipe, rows, through)) != model_bytes(
        fit_model(recipe, rows, pd.Timestamp("2023-07-01"))
    )
    with pytest.raises(ValueError, match="no outcome through 2021-12 to learn from"):
        fit_model(recipe, rows, pd.Timestamp("2021-12-01"))


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


def test_the_card_has_the_versions_of_the_libraries(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==1.0\n")
    environment = fit_environment(lock)
    assert sorted(environment.packages) == FIT_LIBRARIES and environment.packages["numpy"] == np.__version__
    assert environment.lock == sha256(lock)
