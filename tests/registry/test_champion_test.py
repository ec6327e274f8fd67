"The champion test keeps its stated error rate although it looks every month, and reports how long it takes."

import json
import math

import numpy as np
import pandas as pd
import pytest
from pictures import picture_problems
from releases import SEASONAL, ledger_entry, ledger_release, make_verdict
from scipy.special import stdtr

from brewcast.common.core import write_json, write_parquet
from brewcast.common.records import GateResult, LedgerRelease, ModelErrors, Recipe
from brewcast.registry.champion_test import (
    boundary,
    challenger_report,
    compare_monthly_errors,
    detectable_effects,
    look_statistics,
    month_errors,
    months_to_detect,
    plot_comparison,
    promotion_evidence,
    read_forecast_pairs,
)
from brewcast.registry.ledger_writer import append_entry
from brewcast.registry.promotion import promote

FOREST = Recipe(name="forest", params={"partner": "rate_seasonal", "weight": 0.5})
LAST = Recipe(name="last_month", params={})
HORIZON, STORES = 24, 40


def outcomes(histories, model=(0.04, 0.04), months=HORIZON, sizes=0.5, tail=None, shock=0.08, seed=0):
    "Histories in which all stores share the shocks of a month, and the forecasts of two models: (actual, forecasts)."
    random, scale = np.random.default_rng(seed), math.sqrt((tail - 2) / tail) if tail else 1
    draw = (lambda *shape: random.standard_t(tail, shape) * scale) if tail else lambda *shape: random.normal(size=shape)
    whole, each = (histories, months, 1), (histories, months, STORES)
    base = random.lognormal(6, sizes, (histories, 1, STORES))  # units; uneven stores where `sizes` is large
    actual = np.maximum(base * (1 + shock * draw(*whole) + 0.1 * draw(*each)), 0.01 * base)
    return actual, [base * (1 + off * draw(*whole) + off * draw(*each)) for off in model]


def errors(actual, forecasts):
    "How much smaller the challenger's error of each store-month is, as a share of the month's sales."
    gain = np.abs(actual - forecasts[0]) - np.abs(actual - forecasts[1])
    return gain / actual.sum(-1, keepdims=True)


def concluding(months, alpha=0.05):
    "The shares of histories in which any look says better, and worse."
    mean, error = look_statistics(months)
    t = mean / error
    return (t > boundary(HORIZON, alpha)).any(axis=1).mean(), (t < -boundary(HORIZON, alpha)).any(axis=1).mean()


def chance(rate, histories):
    "Tolerance of a simulated rate: 3.3 standard errors, including those of the boundary's simulated height."
    return 3.3 * math.sqrt(rate * (1 - rate) * (1 / histories + 1 / 40_000))


def frame(actual, forecasts):
    "One history as a table of pairs."
    months, stores = actual.shape
    index = pd.MultiIndex.from_product(
        [pd.date_range("2023-01-01", periods=months, freq="MS"), [f"S{n:02}" for n in range(stores)]],
        names=["month", "series_id"],
    )
    columns = {"actual": actual, "champion": forecasts[0], "challenger": forecasts[1]}
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index).reset_index()


def history(model=(0.04, 0.04), **settings):
    actual, forecasts = outcomes(1, model, **settings)
    return frame(actual[0], [forecast[0] for forecast in forecasts])


# -- the stated error rate


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_looking_every_month_errs_as_often_as_stated(alpha):
    # given month differences of two equal models
    histories = 20_000
    months = np.random.default_rng(7).normal(0, 0.013, (histories, HORIZON))
    # when every month is looked at
    better, worse = concluding(months, alpha)
    # then the error rate is the stated one, and both directions are equally frequent
    assert abs(better + worse - alpha) < chance(alpha, histories)
    assert abs(better - worse) < 2 * chance(alpha, histories)


@pytest.mark.parametrize(
    ("case", "least"),
    [({}, 0.025), ({"sizes": 1.5}, 0.025), ({"tail": 3}, 0.01), ({"tail": 3, "sizes": 1.5}, 0.01)],
    ids=["stores", "uneven stores", "heavy tails", "uneven stores and heavy tails"],
)
def test_simulated_outcomes_stay_at_the_stated_rate(case, least):
    # given outcomes whose shocks all stores share, and two models that are equally good
    histories = 4000
    gains = errors(*outcomes(histories, seed=3, **case))
    # when every month is looked at
    rate = sum(concluding(gains.sum(-1)))
    # then the error rate is at most the stated one, and not zero
    assert least < rate < 0.05 + chance(0.05, histories)


def test_counting_stores_as_independent_would_find_false_winners():
    # given the same outcomes
    gains = errors(*outcomes(1000, seed=3)) * STORES
    # when every store-month counts as an observation of its own
    n = STORES * np.arange(1, HORIZON + 1)
    mean = gains.sum(-1).cumsum(1) / n
    error = np.sqrt(((gains**2).sum(-1).cumsum(1) / n - mean**2) / n)
    p = 2 * stdtr(n - 1, -np.abs(mean / error))
    # then most histories have a false conclusion at some monthly look, and far too many at a single look
    assert (p[:, 2:] < 0.05).any(axis=1).mean() > 0.5
    assert (p[:, -1] < 0.05).mean() > 0.2


def test_the_interval_covers_the_true_difference_at_every_look():
    # given months with a true difference of half a standard deviation
    months = np.random.default_rng(11).normal(0.5, 1, (8000, HORIZON))
    # when the interval is read every month
    mean, error = look_statistics(months)
    coverage = (np.abs(mean - 0.5) <= boundary(HORIZON, 0.05) * error).all(axis=1).mean()
    # then it covers the true difference at every look in 95 % of histories
    assert abs(coverage - 0.95) < chance(0.05, 8000)


def test_a_table_and_an_array_give_the_same_result():
    # given some histories as tables
    actual, forecasts = outcomes(12, model=(0.12, 0.05), seed=5)
    expected = errors(actual, forecasts).sum(-1)
    mean, error = look_statistics(expected)
    for n in range(12):
        table = frame(actual[n], [forecast[n] for forecast in forecasts])
        # when each is compared
        result = compare_monthly_errors(table)
        table_of_looks = pd.DataFrame(result.by_month)
        # then the verdict of each look is the array's
        t = mean[n] / error[n]
        critical_t = boundary(HORIZON, 0.05)
        assert table_of_looks.difference.to_numpy() == pytest.approx(expected[n], abs=1e-12)
        verdicts = np.where(np.abs(t) > critical_t, np.where(t > 0, "better", "worse"), "not yet")
        assert table_of_looks.verdict.tolist() == ["not yet"] * 2 + verdicts.tolist()
        # and a shorter history gives the same result for its last month
        early = compare_monthly_errors(table[table.month < "2023-11-01"])
        assert early.verdict == table_of_looks.verdict[9]
        assert early.interval == pytest.approx(table_of_looks.loc[9, ["lower", "upper"]].tolist())


# -- how long it takes


@pytest.mark.parametrize("effect", [0.7, 1.0, 1.5, 2.5])
def test_after_the_months_needed_four_of_five_have_concluded(effect):
    # given a true difference of this many standard deviations
    needed = months_to_detect(effect, detectable_effects())
    assert 3 <= needed <= HORIZON
    months = np.random.default_rng(13).normal(effect, 1, (20_000, HORIZON))
    # when the test has looked at this many months
    mean, error = look_statistics(months)
    seen = np.maximum.accumulate(mean / error > boundary(), axis=1).mean(axis=0)
    # then about 80 % have concluded, and fewer a month earlier
    assert seen[needed - 3] > 0.8 - chance(0.8, 20_000)
    assert seen[needed - 4] < 0.8 + chance(0.8, 20_000)


def test_the_extrapolation_beyond_the_horizon_is_approximately_right():
    # given a difference that 24 months cannot detect
    needed = months_to_detect(0.4, detectable_effects())
    assert 48 < needed < 72
    # when the longer horizon is agreed on from the start
    months = np.random.default_rng(17).normal(0.4, 1, (4000, needed))
    mean, error = look_statistics(months)
    # then about 80 % conclude
    assert 0.77 < (mean / error > boundary(needed, 0.05)).any(axis=1).mean() < 0.9


def test_months_needed_holds_on_simulated_outcomes():
    # given a challenger with a smaller error, and its gain and spread from a long simulation
    gains = errors(*outcomes(1500, model=(0.15, 0.06), seed=19)).sum(-1)
    needed = months_to_detect(gains.mean() / gains.std(), detectable_effects())
    assert needed <= HORIZON
    # when this many months have passed
    mean, error = look_statistics(gains)
    seen = (mean / error > boundary())[:, : needed - 2].any(axis=1).mean()
    # then about 80 % have concluded; not exactly, since month differences are not exactly normal
    assert 0.7 < seen < 0.92


def test_months_needed_depends_on_the_requested_gain():
    table = history(model=(0.12, 0.08), months=12, seed=2)
    result = {gain: compare_monthly_errors(table, gain=gain) for gain in (0.02, 0.1, 0.5)}
    needed = [each.months_needed for each in result.values()]
    assert needed == sorted(needed, reverse=True) and needed[0] > 10 * needed[1]
    months, _ = month_errors(table)
    assert result[0.1].spread == pytest.approx(months.difference.std() / months.champion.mean())
    smallest = compare_monthly_errors(table, gain=result[0.02].smallest_gain).months_needed
    assert smallest == HORIZON and "takes about" in result[0.02].message


# -- verdicts


def test_a_result_is_plain_json_and_does_not_depend_on_the_order_of_rows():
    table = history(months=8)
    before = table.copy()
    result = compare_monthly_errors(table)
    assert json.loads(json.dumps(result.content(), allow_nan=False)) == result.content()
    assert compare_monthly_errors(table.sample(frac=1, random_state=0)) == result
    pd.testing.assert_frame_equal(table, before)
    assert (result.months, result.stores, result.alpha, result.horizon) == (8, STORES, 0.05, HORIZON)


# -- bad and thin input


def test_rows_that_cannot_be_evaluated_are_left_out_and_counted():
    # given a month without sales, missing outcomes, and stores with a forecast of one model only
    table = history(months=8)
    usable = table[(table.month != "2023-03-01") & ~table.series_id.isin(["S00", "S01", "S02"])]
    table.loc[table.month == "2023-03-01", "actual"] = 0.0
    table.loc[table.series_id == "S00", "actual"] = np.nan
    table.loc[table.series_id == "S01", "challenger"] = np.nan
    table.loc[table.series_id == "S02", "champion"] = np.nan
    result, alone = compare_monthly_errors(table), compare_monthly_errors(usable)
    # then the result is the same as without these rows
    assert (result.months, result.stores) == (7, STORES - 3)
    assert result.by_month == alone.by_month
    expected = {"of one model only": 16, "without an outcome": 8, "in months without sales": STORES - 3}
    assert result.left_out == expected
    assert "left out: 16 rows of one model only, 8 rows without an outcome" in result.message


def test_a_picture_is_drawn_for_one_month_and_for_many():
    for months in (1, 2, 3, 12):
        figure = plot_comparison(compare_monthly_errors(history(months=months)))
        assert len(figure.axes[0].patches) == months
        assert picture_problems(figure) == []


# -- from the ledger


@pytest.fixture
def state(tmp_path):
    "A function that writes a ledger entry and its archived forecasts: publish(cutoff, champion, challenger) by recipe."
    table = history(model=(0.1, 0.02), months=8, seed=21)
    table = table.assign(champion=table.champion + 0.5 * table.actual)  # clearly worse in every month
    table = table.assign(cutoff=table.month - pd.Timedelta(days=1), store_id=table.series_id)
    folder = tmp_path / "state" / "toy"
    forecasts = {"seasonal": table.champion, "forest": table.challenger, "last_month": table.champion * 1.2}

    def archive(cutoff, recipe) -> LedgerRelease:
        forecast = table[["store_id", "series_id", "cutoff", "month"]].assign(forecast=forecasts[recipe.name])
        write_parquet(forecast[forecast.cutoff == cutoff], folder / "forecasts" / f"{cutoff}-{recipe.name}.parquet")
        return ledger_release(recipe.name, recipe, cutoff)

    def publish(cutoff, champion, challenger, other=None):
        archive(cutoff, champion)
        fields = {"challenger": archive(cutoff, challenger) if challenger else None} | (other or {})
        append_entry(folder, ledger_entry(champion.name, champion, cutoff, **fields))

    write_parquet(table[["series_id", "month", "actual"]], tmp_path / "products/toy/features/outcomes.parquet")
    publish.root, publish.table = tmp_path, table
    publish.cutoffs = sorted(table.cutoff.dt.strftime("%Y-%m-%d").unique())
    return publish


def test_pairs_are_the_archived_forecasts_with_the_outcomes(state):
    # given a challenger that is a shadow in all months, and a last month without outcomes
    for cutoff in [*state.cutoffs]:
        state(cutoff, SEASONAL, FOREST)
    outcomes_file = state.root / "products/toy/features/outcomes.parquet"
    write_parquet(state.table[["series_id", "month", "actual"]].query("month < '2023-08-01'"), outcomes_file)
    # when the pairs are read from the ledger
    table = read_forecast_pairs("toy", state.root)
    # then they cover the complete months
    expected = state.table[state.table.month < "2023-08-01"].sort_values(["month", "series_id"], ignore_index=True)
    pd.testing.assert_frame_equal(table, expected[list(table.columns)], check_dtype=False)
    assert list(table.columns) == ["store_id", "series_id", "cutoff", "month", "actual", "champion", "challenger"]
    # and the report compares them
    result = challenger_report("toy", state.root, gain=0.1)
    assert result.by_month == compare_monthly_errors(table, gain=0.1).by_month and result.verdict == "better"
    assert (result.champion, result.challenger, result.source) == (SEASONAL, FOREST, "toy")
    title = "toy: forest partner=rate_seasonal weight=0.5 challenges seasonal\nbetter: "
    assert result.message.startswith(title) and json.dumps(result.content(), allow_nan=False)


def test_all_months_of_a_pair_of_recipes_count_in_either_role(state):
    # given an earlier challenger, a month with swapped roles, and a cutoff with one recipe only
    cutoffs = state.cutoffs
    state(cutoffs[0], SEASONAL, LAST)
    state(cutoffs[1], SEASONAL, None)
    state(cutoffs[2], FOREST, SEASONAL)
    for cutoff in cutoffs[3:6]:
        state(cutoff, SEASONAL, FOREST)
    table = read_forecast_pairs("toy", state.root)
    assert sorted(table.cutoff.dt.strftime("%Y-%m-%d").unique()) == cutoffs[2:6]
    expected = state.table[state.table.cutoff == cutoffs[2]].set_index("series_id").champion
    champion_forecasts = table[table.cutoff == cutoffs[2]].set_index("series_id").champion
    assert champion_forecasts.to_dict() == expected.to_dict()
    # and the earlier pair can be requested
    assert read_forecast_pairs("toy", state.root, (SEASONAL, LAST)).cutoff.nunique() == 1


def test_a_store_with_one_forecast_only_is_counted_as_left_out(state):
    for cutoff in state.cutoffs:
        state(cutoff, SEASONAL, FOREST)
    path = state.root / "state/toy/forecasts" / f"{state.cutoffs[0]}-forest.parquet"
    write_parquet(pd.read_parquet(path).iloc[1:], path)
    assert challenger_report("toy", state.root).left_out["of one model only"] == 1


def test_before_the_first_outcome_the_replay_gives_the_spread(state):
    # given a published challenger, no month with outcomes, and then the gate's replay of the two recipes
    state(state.cutoffs[-1], SEASONAL, FOREST)
    folder = state.root / "products/toy"
    write_parquet(
        state.table[["series_id", "month", "actual"]].query("month < '2023-08-01'"),
        folder / "features/outcomes.parquet",
    )
    unknown = challenger_report("toy", state.root)
    assert unknown.months == 0 and unknown.months_needed is None
    replayed = state.table.melt(["series_id", "month", "actual"], ["champion", "challenger"], "model", "forecast")
    replayed = replayed.assign(model=replayed.model.replace("challenger", "candidate"), judged=True)
    write_parquet(replayed, folder / "evaluate/predictions.parquet")
    write_json(make_verdict(SEASONAL, candidate=FOREST), folder / "evaluate/verdict.json")
    # when it is compared
    result = challenger_report("toy", state.root, gain=0.1)
    # then the months needed come from the replay
    known = compare_monthly_errors(state.table, gain=0.1)
    assert result.verdict == "not yet" and result.spread_from == "the gate's replay"
    assert result.months_needed == known.months_needed
    # and a replay of other recipes is not used
    write_json(make_verdict(LAST, candidate=FOREST), folder / "evaluate/verdict.json")
    assert challenger_report("toy", state.root).months_needed is None


def test_missing_inputs_are_named_with_the_way_out(state):
    with pytest.raises(ValueError, match="toy: nothing was published yet; `make run SOURCE=toy`"):
        challenger_report("toy", state.root)
    state(state.cutoffs[0], SEASONAL, None)
    with pytest.raises(ValueError, match="there is no challenger; a build that compares two recipes adds one"):
        challenger_report("toy", state.root)
    state(state.cutoffs[1], SEASONAL, FOREST)
    with pytest.raises(ValueError, match="no cutoff has forecasts of both recipes, forest .* and last_month"):
        read_forecast_pairs("toy", state.root, (FOREST, LAST))
    (state.root / "state/toy/forecasts" / f"{state.cutoffs[1]}-forest.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="forest.parquet is missing: .* restore a backup"):
        challenger_report("toy", state.root)
    (state.root / "products/toy/features/outcomes.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"features/outcomes.parquet is missing: `make run SOURCE=toy`"):
        challenger_report("toy", state.root)


REFUSED = {
    "verdict": GateResult(
        promoted=False, verdict="refuse", rule="min_gain", reason="gain -7.3%, at least 1.0% is required"
    ),
    "barred": [],
}


def errors_of(**wapes: float) -> dict[str, ModelErrors]:
    "The errors in a verdict, by model."
    unknown = dict.fromkeys(["rmsse", "bias", "coverage", "interval"])
    return {model: ModelErrors(wape=wape, n=100, **unknown) for model, wape in wapes.items()}


def test_the_promotion_evidence_has_both_errors_their_months_and_the_gates_result(state):
    # given a challenger that the gate refused, that was better on live months, and a later manual entry
    for cutoff in state.cutoffs:
        state(cutoff, SEASONAL, FOREST, REFUSED)
    split = GateResult(promoted=False, verdict="split", rule="by_hand", reason="forest answers 10% of the stores")
    state(state.cutoffs[-1], SEASONAL, FOREST, REFUSED | {"verdict": split, "action": "split"})
    # and a last replay of the two, in which the challenger was better in two of three months
    ends = ["2022-12-31", "2023-01-31", "2023-02-28"]
    months = [{"cutoff": end, "model": "candidate", "wape": 0.09 + 0.01 * (end == ends[1])} for end in ends]
    months += [{"cutoff": row["cutoff"], "model": "champion", "wape": 0.095} for row in months]
    errors = errors_of(champion=0.0846, candidate=0.0912, last_month=0.2)
    verdict = make_verdict(SEASONAL, candidate=FOREST, by_month=months, errors=errors)
    write_json(verdict, state.root / "products/toy/evaluate/verdict.json")
    # when a person is about to promote it
    evidence = promotion_evidence("toy", state.root)
    # then the message has all of that
    lines = evidence.message.splitlines()
    named = "promote forest partner=rate_seasonal weight=0.5 (forest) in place of seasonal (seasonal)"
    assert lines[0] == f"toy: {named}" and evidence.challenger == "forest"
    assert lines[1] == "gate       the challenger was not promoted (refuse): gain -7.3%, at least 1.0% is required"
    assert lines[2].startswith(
        "replay     3 months of replay, 2023-01 to 2023-03: the challenger's error is 9.12% of sales, "
    )
    assert lines[2].endswith("the champion's 8.46%; the challenger was better in 2")
    assert lines[3].startswith("live       better: the challenger's error is ") and "of 8 months" in lines[3]
    assert lines[3].endswith(f"({state.table.month.min():%Y-%m} to {state.table.month.max():%Y-%m})")
    # and the reason for the ledger sums it up
    assert evidence.reason.startswith("3 months of replay") and "; live: better: " in evidence.reason


def test_missing_evidence_is_reported_and_another_challenger_is_refused(state):
    with pytest.raises(ValueError, match="nothing was published yet"):
        promotion_evidence("toy", state.root)
    state(state.cutoffs[-1], SEASONAL, None, REFUSED)
    with pytest.raises(ValueError, match="there is no challenger since"):
        promotion_evidence("toy", state.root)
    state(state.cutoffs[-1], SEASONAL, FOREST, REFUSED | {"barred": [FOREST]})
    with pytest.raises(ValueError, match="is barred; `brewcast lift` first"):
        promotion_evidence("toy", state.root)
    # given a challenger without a replay and without live months
    state(state.cutoffs[-1], SEASONAL, FOREST, REFUSED | {"action": "split"})
    (state.root / "products/toy/features/outcomes.parquet").unlink()
    lines = promotion_evidence("toy", state.root).message.splitlines()
    assert "was not promoted" in lines[1]
    assert lines[2] == "replay     products/toy/evaluate/verdict.json is missing: `make run SOURCE=toy` writes it"
    assert lines[3].startswith("live       not yet: products/toy/features/outcomes.parquet is missing")
    # a replay of other recipes is not used, and a baseline is found by its name
    verdict = make_verdict(LAST, candidate=FOREST)
    write_json(verdict, state.root / "products/toy/evaluate/verdict.json")
    assert "did not replay both" in promotion_evidence("toy", state.root).message
    months = [{"cutoff": "2023-01-31", "model": model, "wape": 0.1} for model in ("candidate", "seasonal")]
    errors = errors_of(candidate=0.1, seasonal=0.12)
    write_json(
        verdict.model_copy(update={"by_month": months, "errors": errors}),
        state.root / "products/toy/evaluate/verdict.json",
    )
    assert (
        "1 month of replay, 2023-02 to 2023-02: the challenger's error is 10.00%"
        in promotion_evidence("toy", state.root).message
    )
    with pytest.raises(ValueError, match=r"name the challenger to confirm: promote\(..., challenger='forest'\)"):
        promote("toy", state.root)
    with pytest.raises(ValueError, match="seasonal is not the challenger"):
        promote("toy", state.root, challenger="seasonal")


def test_thousands_of_stores_are_compared():
    random, stores, months = np.random.default_rng(0), 5000, 24
    actual = random.lognormal(5, 1, (months, stores))
    table = frame(
        actual, [actual * random.lognormal(0, 0.2, actual.shape), actual * random.lognormal(0, 0.1, actual.shape)]
    )
    result = compare_monthly_errors(table)
    assert (result.verdict, result.stores) == ("better", stores)
