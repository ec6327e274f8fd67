"A group is called biased when it is, and ten stores with bad luck are not."

import numpy as np
import pandas as pd
import pytest

from brewcast.model.bias import AGE_GROUPS, age_group, bias_table, bias_text

BY = ["country", "city", "size", "age"]


def judged(
    seed: int, stores: int = 40, months: int = 12, luck: float = 0.03, shock: float = 0.05, planted: float = 0.0
):
    "Stores that keep their luck for a year, months that all share, and 10 stores of Canada with a bias planted."
    rng, n = np.random.default_rng(seed), stores * months
    store, month = np.repeat(np.arange(stores), months), np.tile(np.arange(months), stores)
    canada, size = np.arange(stores) < stores // 4, np.exp(rng.normal(8, 0.6, stores))
    forecast = size[store] * (1 + 0.2 * np.sin(month))
    kept = rng.normal(0, luck, stores) * np.exp(-0.3 * (np.log(size) - 8))  # small stores have more of it
    actual = forecast * np.exp(kept[store] + rng.normal(0, shock, months)[month] + rng.normal(0, 0.08, n))
    opened = np.where(rng.random(stores) < 0.15, rng.integers(1, max(months - 1, 2), stores), 0)
    rows = pd.DataFrame({"series_id": store, "cutoff": month, "actual": actual})
    rows["forecast"] = forecast * np.where(canada, 1 + planted, 1.0)[store]
    rows["country"] = np.where(canada, "Canada", np.where(np.arange(stores) % 3 == 0, "Mexico", "USA"))[store]
    rows["city"] = rows.country + (store % 4).astype(str)
    rows["size"] = np.array(["small", "medium", "large"])[size.argsort().argsort() * 3 // stores][store]
    rows["age"] = age_group(pd.Series(np.where(opened > 0, 0, 20)[store] + month - opened[store]))
    return rows[month >= opened[store]]


@pytest.mark.parametrize("luck", [0.0, 0.03, 0.1])
def test_luck_that_stores_keep_is_called_bias_in_one_year_of_twenty_at_most(luck):
    # given 60 years without any group's bias, with a luck that each store keeps through its year
    called = [bias_table(judged(seed, luck=luck), BY).called.any() for seed in range(60)]
    # then 5 % at most of them name any group at all; 7 of 60 would be a rate of 5 % once in 40
    assert sum(called) <= 7


def test_counting_rows_would_call_luck_a_bias():
    # given the same luck, and a t-test that takes each row for a piece of evidence of its own
    wrong = 0
    for seed in range(60):
        rows = judged(seed, luck=0.1)
        ratio = rows.forecast / rows.actual - 1
        apart = [ratio[rows.country == group] for group in ("Canada", "USA")]
        error = np.sqrt(sum(part.var() / len(part) for part in apart))
        wrong += abs(apart[0].mean() - apart[1].mean()) / error > 1.96
    # then far more than one in twenty are called, for a single comparison
    assert wrong > 15


def test_a_tenth_too_much_for_ten_stores_of_one_country_is_found():
    found = [bias_table(judged(seed, planted=0.1), BY) for seed in range(20)]
    named = [set(table.group[table.called]) for table in found]
    assert sum("Canada" in groups for groups in named) >= 17
    # and the others, which look too low beside it, are not named for that
    assert sum(bool(groups - {"Canada"}) for groups in named) <= 2
    table = found[0].set_index("group")
    assert table.apart_low["Canada"] < 0.1 < table.apart_high["Canada"]
    text = bias_text(found[0])
    assert "Canada (country) is forecast" in text and "too high" in text and "USA" not in text


def test_intervals_hold_the_true_bias():
    # given a bias of 10 %, and what remains of it when stores' and months' luck is large
    held = []
    for seed in range(60):
        table = bias_table(judged(seed, planted=0.1, luck=0.06), ["country"]).set_index("group")
        held.append(table.apart_low["Canada"] < 0.1 < table.apart_high["Canada"])
    assert np.mean(held) >= 0.9


def test_figures_by_hand():
    rows = pd.DataFrame({"series_id": ["A", "A", "B", "B"], "cutoff": [1, 2, 1, 2], "place": ["x", "x", "y", "y"]})
    rows = rows.assign(actual=[100.0, 100, 50, 50], forecast=[110.0, 100, 50, 40])
    table = bias_table(rows, ["place"]).set_index("group")
    assert table.wape.tolist() == pytest.approx([0.05, 0.1]) and table.bias.tolist() == pytest.approx([0.05, -0.1])
    # two stores say nothing of how stores differ: no interval, and nobody is called
    assert table.bias_low.isna().all() and not table.called.any()


def test_one_bad_month_of_a_country_is_no_bias():
    # given a strike in one country in one month, which all of its stores share
    rows = judged(1, luck=0.01)
    struck = rows.assign(actual=rows.actual * np.where((rows.country == "Canada") & (rows.cutoff == 5), 0.4, 1.0))
    table = bias_table(struck, ["country"]).set_index("group")
    assert table.apart["Canada"] > 0.02 and not table.called["Canada"]


@pytest.mark.parametrize("keep", ["one month", "one store", "one group", "nothing", "no sales"])
def test_too_little_is_said_without_a_judgement(keep):
    rows = judged(0, planted=0.5)
    rows = {
        "one month": rows[rows.cutoff == 0],
        "one store": rows[rows.series_id == 0],
        "one group": rows[rows.country == "USA"],
        "nothing": rows.head(0),
        "no sales": rows.assign(actual=0.0),
    }[keep]
    table = bias_table(rows, ["country"])
    assert not table.called.any() and bias_text(table) == "no group is biased beyond luck"


def test_the_order_of_rows_does_not_matter():
    rows = judged(4, planted=0.1)
    shuffled = bias_table(rows.sample(frac=1, random_state=0), BY)
    pd.testing.assert_frame_equal(bias_table(rows, BY), shuffled)


def test_ages():
    assert age_group(pd.Series([1, 12, 13, 25])).tolist() == [
        AGE_GROUPS[0],
        AGE_GROUPS[0],
        AGE_GROUPS[1],
        AGE_GROUPS[2],
    ]
