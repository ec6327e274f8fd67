"The checks find what the error does not show: leaking features and recipes, tuned settings, an altered file, other libraries."

import numpy as np
import pandas as pd
import pytest
from gate_red_team import CALENDAR, make_card, make_chain, make_sales, more_recipes

from brewcast.common.records import Recipe
from brewcast.model.backtest import replay_recipe
from brewcast.model.features import record_versions
from brewcast.model.leakage_checks import (
    environment_mismatch,
    feature_leak,
    locked_versions,
    recipe_leak,
    tuning_leak,
)
from brewcast.model.train import FIT_LIBRARIES

pytestmark = pytest.mark.filterwarnings("ignore")
SEASONAL = Recipe(name="seasonal", params={})


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return make_chain(tmp_path_factory.mktemp("chain"), stores=6, months=26, trees=3, max_cutoffs=6)


def leak(chain, rows, cutoffs=None, versions=None):
    versions = chain.known if versions is None else versions
    return feature_leak(rows, versions, chain.plan, CALENDAR, cutoffs or [chain.judged[0], chain.judged[3]])


def test_honest_features_have_no_leak(chain):
    assert leak(chain, chain.rows, chain.judged) is None


@pytest.mark.parametrize("name", ["rate_mean3", "log_lag_1", "country"])
def test_one_value_that_differs_in_its_last_bit_is_found(chain, name):
    at = chain.rows.index[chain.rows.cutoff == chain.judged[3]][0]
    rows = chain.rows.copy()
    rows.loc[at, name] = "Peru" if name == "country" else np.nextafter(rows.loc[at, name], 9.0)
    assert leak(chain, rows) == f"{name} of 1 store at {chain.judged[3]:%Y-%m-%d} contain data from after the cutoff"


def test_a_correction_that_came_later_is_no_leak_but_one_that_was_used_too_early_is(chain):
    store_month, _ = make_sales(6, 26)
    wrong = store_month.assign(
        quantity_sold=store_month.quantity_sold.mask(store_month.month == chain.judged[0].replace(day=1), 9.0)
    )
    versions = record_versions(store_month, record_versions(wrong, None, CALENDAR), CALENDAR)
    assert "contain data from after the cutoff" in leak(
        chain, chain.rows, versions=versions
    )  # trained on the corrected value
    before = [cutoff for cutoff in sorted(chain.rows.cutoff.unique()) if cutoff < chain.judged[0]]
    assert leak(chain, chain.rows, cutoffs=before[-2:], versions=versions) is None


def test_an_honest_recipe_has_no_leak(chain):
    cutoffs = [chain.judged[0], chain.judged[3]]
    for recipe in (SEASONAL, chain.honest):
        assert recipe_leak(recipe, chain.rows, replay_recipe(recipe, chain.rows, cutoffs), cutoffs) is None


def test_forecasts_that_were_made_with_other_outcomes_are_found(chain):
    cutoffs = [chain.judged[0], chain.judged[3]]
    later = chain.rows.assign(actual=chain.rows.actual * 1.5)
    forecasts = replay_recipe(chain.honest, later, cutoffs)  # fitted on outcomes that were not known
    assert "forecasts made at" in recipe_leak(chain.honest, chain.rows, forecasts, cutoffs)


def test_settings_must_be_those_chosen_on_earlier_cutoffs(chain):
    card = make_card(chain, chain.honest)
    assert tuning_leak(card, chain.rows, chain.judged, chain.choices) is None
    late = card.model_copy(update={"chosen_on": [*card.chosen_on, str(chain.judged[2].date())]})
    assert "chosen on 1 judged cutoff," in tuning_leak(late, chain.rows, chain.judged, chain.choices)
    other = make_card(chain, Recipe(name="forest", params=chain.honest.params | {"seed": 7}))
    assert "seed 7 instead of 0" in tuning_leak(other, chain.rows, chain.judged, chain.choices)
    assert tuning_leak(make_card(chain, SEASONAL), chain.rows, chain.judged, chain.choices) is None


def test_the_lock_is_compared_by_version(chain, tmp_path):
    card = make_card(chain, SEASONAL)
    assert environment_mismatch(card, chain.lock) is None
    lock = tmp_path / "requirements.lock"
    lock.write_text(chain.lock.read_text() + "\nleft-pad==1.0 \\\n")
    assert environment_mismatch(card, lock) is None  # another lock, the same libraries
    lock.write_text("")
    assert all(f"{name} " in environment_mismatch(card, lock) for name in FIT_LIBRARIES)
    text = "numpy==1.0 ; python_version < '3' \\\nnumpy==2.0 ; python_version >= '3' \\\nnumpydoc==3.0\n"
    assert locked_versions(text, ["numpy"]) == {"numpy": "2.0"}


def test_a_recipe_whose_forecast_depends_on_the_run_is_found(chain):
    draw = np.random.default_rng(0)

    class RandomModel:
        def fit(self, X, y):
            return self

        def predict(self, X: pd.DataFrame) -> np.ndarray:
            return (X.rate_mean3 * X.expected_units).to_numpy() * draw.lognormal(0, 0.1, len(X))

    cutoffs, recipe = [chain.judged[0], chain.judged[3]], Recipe(name="random", params={})
    with more_recipes(random=RandomModel):
        assert recipe_leak(recipe, chain.rows, replay_recipe(recipe, chain.rows, cutoffs), cutoffs)


def test_corrected_outcomes_are_no_leak(chain):
    # given small and late corrections of outcomes in the months before a judged cutoff
    cutoff, recipe = chain.judged[3], chain.honest
    recent = chain.rows.month.between(cutoff - pd.DateOffset(months=2), cutoff)
    rows = chain.rows.assign(actual_first=chain.rows.actual)
    rows["known_from"] = pd.Series(pd.NaT, rows.index).mask(recent, chain.rows.cutoff.max()).astype("datetime64[us]")
    rows["actual"] = rows.actual.mask(recent, rows.actual * 1.001)
    forecasts = replay_recipe(recipe, rows, chain.judged)
    # then an honest forest has no leak
    assert recipe_leak(recipe, rows, forecasts, [chain.judged[0], cutoff]) is None
