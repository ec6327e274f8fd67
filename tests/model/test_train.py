"The candidate: its settings, its fit, and what it uses."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pictures import picture_problems
from verdicts import FOREST, SEASONAL, make_card, make_decision

from brewcast.common.core import write_json, write_parquet
from brewcast.common.records import Recipe, ServingModel, StateInputs
from brewcast.model import train
from brewcast.model.recipes import CATEGORICAL_FEATURES, FEATURES, NUMERIC_FEATURES
from brewcast.model.train import (
    FEATURE_GROUPS,
    SettingChoices,
    card_settings,
    choose_settings,
    group_importances,
    original_errors,
    original_table,
    plot_importances,
    read_train_inputs,
    settings_table,
    train_answer,
    write_importances,
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


# -- what a reader sees


def tried_settings(**errors) -> pd.DataFrame:
    "Settings that were tried, with the same error in both months."
    rows = [name.rsplit("_at_", 1) for name in errors]
    table = pd.DataFrame({"partner": [name for name, _ in rows], "weight": [int(share) / 100 for _, share in rows]})
    wape = list(errors.values())
    return table.assign(**{name: wape for name in ("wape", "wape_2024-11", "wape_2024-12")})


def card_of(recipe, tried):
    fields = {"tried": tried.to_dict("records"), "chosen_on": ["2024-11-30", "2024-12-31"]}
    return make_card(recipe, "969c3f5f5a50" + "0" * 52).model_copy(update=fields)


def test_settings_with_the_same_forecasts_are_one_row_that_says_so():
    # given a forest alone, whose partner does not matter, and two partners that forecast the same
    tried = tried_settings(
        rate_seasonal_at_100=0.05,
        rate_last_at_100=0.05,
        rate_last_at_50=0.08,
        rate_seasonal_at_50=0.07,
        rate_pooled_at_50=0.07,
    )
    # when they are shown
    table = settings_table(tried)
    # then each is one row, the best first
    assert [row[:3] for row in table.rows] == [
        ["Nothing: the forest alone", "100%", "5.0%"],
        ["Three-month mean × last year's season, or 1 other with the same forecasts", "50%", "7.0%"],
        ["Last month repeated", "50%", "8.0%"],
    ]
    assert table.caption == "The best of 3 settings, by the error on 2 months that the gate does not judge."


def test_at_most_five_settings_are_shown_and_the_others_are_counted():
    tried = tried_settings(**{f"rate_last_at_{share}": share / 1000 for share in range(10, 80, 10)})
    table = settings_table(tried)
    assert len(table.rows) == 5 and table.caption.endswith(" The other 2 are in card.json.")
    assert len({tuple(row) for row in table.rows}) == 5
    assert settings_table(tried.head(1)).caption.startswith("The setting, by the error")


def test_a_setting_with_a_month_without_sales_is_shown():
    tried = tried_settings(rate_last_at_50=0.08).assign(**{"wape_2024-12": np.nan})
    assert settings_table(tried).rows == [["Last month repeated", "50%", "8.0%", "8.0%"]]


def test_no_month_to_choose_on_is_said_in_words():
    nothing = pd.DataFrame(columns=["partner", "weight", "wape"])
    assert "too few months" in str(settings_table(nothing))
    answer = train_answer(card_of(FOREST, nothing), make_decision())
    assert answer == (
        "The candidate is a forest of 5 trees, combined with three-month mean × last year's season (weight of the "
        "forest 50%), with the default settings: it has learned from 6 store-months through June 2022, and there are "
        "too few months to choose others."
    )


def test_the_answer_has_the_error_of_the_chosen_setting():
    tried = tried_settings(rate_last_at_50=0.08, rate_last_at_75=0.053)
    recipe = Recipe(name="forest", params={"weight": 0.75, "partner": "rate_last"})
    assert train_answer(card_of(recipe, tried), make_decision()) == (
        "The candidate is a forest of 100 trees, combined with last month repeated (weight of the forest 75%), the best "
        "of 2 settings: it is wrong by 5.3% of sales on 2 months that do not judge it."
    )


def test_the_answer_to_untrusted_data_proposes_nothing_new():
    tried = tried_settings(rate_last_at_50=0.08)
    answer = train_answer(card_of(SEASONAL, tried), make_decision(rule="bad_data"))
    assert answer.startswith("No new settings are proposed, because the month's data is not trusted")
    assert "through June 2022 (three-month mean × last year's season)" in answer and "8.0%" not in answer


def importances_of(permutation, forest=0.1):
    return pd.DataFrame({"permutation": permutation, "forest": forest}, index=list(FEATURE_GROUPS))


@pytest.mark.parametrize(
    "permutation",
    [
        [0.03, 0.015, -0.0004, 0.0002, 0.001, 0.028, 0.006, 0.0035, -0.0002],  # the simulated source
        [0.001, 0.004, 0, 0, 0, 0, 0, 0, 0],  # a source with few columns
        [-0.02] * 9,
        [12.0] * 9,  # an error many times the sales
        [np.nan] * 9,  # months without sales
    ],
)
def test_names_and_values_of_the_importances_can_be_read(permutation):
    figure = plot_importances(importances_of(permutation))
    assert picture_problems(figure) == []
    assert len(figure.axes) == 2 and all("%" in axis.get_title(loc="left") for axis in figure.axes)


def test_inputs_that_are_never_used_are_named_and_not_drawn():
    # given a source without prices and promotions
    table = importances_of([0.001, 0.004, 0.0001, 0.0001, 0.0001, 0, 0, 0.0001, 0.0001])
    table.loc[["price", "promotion"], "forest"] = 0.0
    # when the importances are drawn, then the others are bars, the caption names these, and the title is the finding
    figure = plot_importances(table)
    assert [len(axis.patches) for axis in figure.axes] == [7, 7]
    assert "Never used, because the source has no values or only one: promotions and price." in figure.get_label()
    assert figure.get_suptitle() == "Season and recent sales matter most"
    assert "uses no input" in plot_importances(table * 0).texts[1].get_text()


def test_the_picture_of_a_baseline_says_why_there_are_no_importances(tmp_path):
    picture = write_importances(pd.DataFrame(), tmp_path / "importances.png")
    assert picture.png == (tmp_path / "importances.png").read_bytes() and "learns nothing" in picture.svg


@pytest.mark.parametrize(
    ("random", "honest", "finding"),
    [
        (0.26, 0.30, "A random split makes the error look smaller than it is: 26.0%, not 30.0%."),
        (0.30, 0.26, "A random split makes the error look larger than it is: 30.0%, not 26.0%."),
        (0.30, 0.30, "The error of GloboJava's first model, by how months were split for its test."),
        (None, 0.30, "The error of GloboJava's first model, by how months were split for its test."),
    ],
)
def test_the_first_model_is_shown_with_what_the_split_hides(random, honest, finding):
    table = original_table({"random_split": random, "honest_split": honest})
    assert table.caption == finding
    assert [row[2] for row in table.rows] == ["–" if random is None else f"{random:.1%}", f"{honest:.1%}"]


def test_the_card_is_facts_without_python():
    facts = card_settings(card_of(FOREST, tried_settings(rate_last_at_50=0.08))).values
    assert facts["Settings chosen on"] == "2 months, December 2024 to January 2025"
    assert facts["Recipe"].startswith("Forest of 5 trees, at least 3 rows a leaf")
    assert not set("{}[]_") & set("".join(facts.values()))
    assert card_settings(card_of(SEASONAL, tried_settings())).values["Random seed"] == "none: it learns nothing"
