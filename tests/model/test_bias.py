"A biased group is named, and ten stores that deviate by chance are not."

import numpy as np
import pandas as pd
import pytest

from brewcast.model.bias import age_group, bias_table, bias_text

BY = ["country", "city", "size", "age"]


def judged(
    seed: int, stores: int = 40, months: int = 12, deviation: float = 0.03, shock: float = 0.05, planted: float = 0.0
):
    "Stores with a deviation that lasts a year, shocks that all stores share, and 10 stores of Canada with a planted bias."
    rng, n = np.random.default_rng(seed), stores * months
    store, month = np.repeat(np.arange(stores), months), np.tile(np.arange(months), stores)
    canada, size = np.arange(stores) < stores // 4, np.exp(rng.normal(8, 0.6, stores))
    forecast = size[store] * (1 + 0.2 * np.sin(month))
    own = rng.normal(0, deviation, stores) * np.exp(-0.3 * (np.log(size) - 8))  # small stores deviate more
    actual = forecast * np.exp(own[store] + rng.normal(0, shock, months)[month] + rng.normal(0, 0.08, n))
    opened = np.where(rng.random(stores) < 0.15, rng.integers(1, max(months - 1, 2), stores), 0)
    rows = pd.DataFrame({"series_id": store, "cutoff": month, "actual": actual})
    rows["forecast"] = forecast * np.where(canada, 1 + planted, 1.0)[store]
    rows["country"] = np.where(canada, "Canada", np.where(np.arange(stores) % 3 == 0, "Mexico", "USA"))[store]
    rows["city"] = rows.country + (store % 4).astype(str)
    rows["size"] = np.array(["small", "medium", "large"])[size.argsort().argsort() * 3 // stores][store]
    rows["age"] = age_group(pd.Series(np.where(opened > 0, 0, 20)[store] + month - opened[store]))
    return rows[month >= opened[store]]


@pytest.mark.parametrize("deviation", [0.0, 0.03, 0.1])
def test_lasting_deviations_of_stores_are_called_bias_in_one_year_of_twenty_at_most(deviation):
    # given 60 years without a biased group, in which each store has a deviation that lasts its year
    called = [bias_table(judged(seed, deviation=deviation), BY).called.any() for seed in range(60)]
    # then at most 5 % of the years name a group; with a rate of 5 %, more than 7 of 60 would come once in 40
    assert sum(called) <= 7


def test_a_t_test_over_rows_would_call_chance_a_bias():
    # given the same deviations, and a t-test that takes each row as an independent observation
    false_calls = 0
    for seed in range(60):
        rows = judged(seed, deviation=0.1)
        ratio = rows.forecast / rows.actual - 1
        parts = [ratio[rows.country == group] for group in ("Canada", "USA")]
        error = np.sqrt(sum(part.var() / len(part) for part in parts))
        false_calls += abs(parts[0].mean() - parts[1].mean()) / error > 1.96
    # then far more than one in twenty comparisons call a bias
    assert false_calls > 15


def test_a_tenth_too_much_for_ten_stores_of_one_country_is_found():
    tables = [bias_table(judged(seed, planted=0.1), BY) for seed in range(20)]
    named = [set(table.group[table.called]) for table in tables]
    assert sum("Canada" in groups for groups in named) >= 17
    # and the other groups, which look too low beside it, are not named
    assert sum(bool(groups - {"Canada"}) for groups in named) <= 2
    table = tables[0].set_index("group")
    assert table.apart_low["Canada"] < 0.1 < table.apart_high["Canada"]
    text = bias_text(tables[0])
    assert "forecasts of Canada (country) are" in text and "too high" in text and "USA" not in text


def test_intervals_hold_the_true_bias():
    # given a bias of 10 %, and large deviations of stores and months
    is_inside = []
    for seed in range(60):
        table = bias_table(judged(seed, planted=0.1, deviation=0.06), ["country"]).set_index("group")
        is_inside.append(table.apart_low["Canada"] < 0.1 < table.apart_high["Canada"])
    assert np.mean(is_inside) >= 0.9


def test_the_order_of_rows_does_not_matter():
    rows = judged(4, planted=0.1)
    shuffled = bias_table(rows.sample(frac=1, random_state=0), BY)
    pd.testing.assert_frame_equal(bias_table(rows, BY), shuffled)
