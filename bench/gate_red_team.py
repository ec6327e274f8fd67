"""A red team for the gate: ten bad candidates and three others, each judged by the real gate (`make sabotage`).

    .venv/bin/python bench/gate_red_team.py [--short]

Each candidate forecasts a small simulated chain of stores. Exit status 1 if one of them gets a wrong verdict.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin

from brewcast.common.hashing import sha256
from brewcast.common.parameter_types import Calendar
from brewcast.common.params import check_environment
from brewcast.common.paths import find_root
from brewcast.common.records import GateVerdict, ModelCard, Recipe, StateInputs
from brewcast.model.backtest import best_baseline, earlier_cutoffs, judged_cutoffs, wape_error
from brewcast.model.evaluate import backtest_recipes, gate_verdict, next_challenger
from brewcast.model.features import feature_versions, record_versions
from brewcast.model.leakage_checks import UNFIT_RULES, feature_rows, unfit_reasons
from brewcast.model.recipes import FEATURES, RECIPES, Baseline, build_model, load_model, model_bytes
from brewcast.model.train import SettingChoices, choose_settings, fit_environment, fit_model

CALENDAR = Calendar(unit="day", hemisphere="north", countries={}, open_within_days=10, decided_after_days=2)


def make_sales(
    stores: int = 18,  # half in the USA, a third in Canada, the others in Mexico
    months: int = 44,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # (store_month, plan); the plan has one more month
    "The store-months of a small simulated chain."
    rng = np.random.default_rng(seed)
    month = pd.date_range("2021-01-01", periods=months + 1, freq="MS")
    country = np.array(["USA", "Canada", "USA", "Mexico", "Canada", "USA"])[np.arange(stores) % 6]
    promotion = rng.beta(1.2, 3, (stores, months + 1)).round(2)
    season = np.array([0.0, 2.0, 5.0])[pd.factorize(country)[0]][:, None]
    swing = 0.2 * np.cos(2 * np.pi * (month.month.to_numpy() - season) / 12)
    shock = rng.normal(0, 0.03, (3, months + 1))[pd.factorize(country)[0]]
    level = (
        np.log(3000)
        + rng.normal(0, 0.6, (stores, 1))
        - 0.7 * (country == "Mexico")[:, None]
        + rng.normal(0, 0.02, (stores, months + 1)).cumsum(axis=1)
    )
    sold = np.exp(level + swing + shock + 0.45 * promotion + rng.normal(0, 0.03, (stores, months + 1))).round()
    table = pd.DataFrame({"store_id": np.repeat([f"S{i:02}" for i in range(stores)], months + 1)})
    table = table.assign(month=np.tile(month, stores), country=np.repeat(country, months + 1), city="a", price=4.0)
    table = table.assign(quantity_sold=sold.ravel(), promotion_share=promotion.ravel(), series_id=table.store_id)
    table = table.assign(trading_days=table.month.dt.days_in_month, last_date=table.month + pd.offsets.MonthEnd(0))
    table = table.assign(published=table.month - pd.Timedelta(days=20), weather=None, promotion=None, holiday=None)
    plan = table[["store_id", "month", "published", "promotion_share", "price", "trading_days"]]
    past = table[table.month < month[-1]].drop(columns="published")
    return past.reset_index(drop=True), plan.reset_index(drop=True)


def make_chain(
    folder: Path,  # for the files of candidates
    stores: int = 18,
    months: int = 44,
    trees: int = 20,
    max_cutoffs: int = 12,  # judged cutoffs
) -> (
    SimpleNamespace
):  # rows, known, plan, max_cutoffs, judged, earlier, champion, honest, choices, folder, lock, backtests
    "Everything that a candidate needs to be judged. `honest` is the recipe of a good forest."
    store_month, plan = make_sales(stores, months)
    known = record_versions(store_month, None, CALENDAR)
    tables = feature_versions(known, plan, CALENDAR)
    cutoffs = sorted(tables["history"].event_timestamp.dt.tz_localize(None).unique())
    parts = [feature_rows(tables, cutoff).reset_index().assign(cutoff=cutoff) for cutoff in cutoffs]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.assign(cutoff=rows.cutoff.astype("datetime64[us]"), month=rows.cutoff + pd.Timedelta(days=1))
    outcomes = store_month[["series_id", "month", "quantity_sold"]].rename(columns={"quantity_sold": "actual"})
    rows = rows.merge(outcomes, on=["series_id", "month"], how="left").sort_values(["series_id", "cutoff"])
    rows = rows.reset_index(drop=True)
    judged = judged_cutoffs(rows, max_cutoffs)
    earlier = earlier_cutoffs(rows, judged)
    choices = SettingChoices(
        forest={"n_estimators": trees, "min_samples_leaf": 3, "seed": 0},
        partners=["rate_seasonal", "rate_mean3"],
        weights=[0.5, 0.75, 1.0],
    )
    return SimpleNamespace(
        rows=rows,
        known=known,
        plan=plan,
        max_cutoffs=max_cutoffs,
        judged=judged,
        earlier=earlier,
        champion=best_baseline(rows, earlier),
        honest=choose_settings(rows, earlier, choices)[0],
        choices=choices,
        folder=Path(folder),
        lock=find_root() / "requirements.lock",
        backtests={},  # predictions of the honest forest, which several candidates share
    )


def make_card(
    chain: SimpleNamespace,  # from `make_chain`
    recipe: Recipe,
    **fields,  # that are not those of an honest candidate
) -> ModelCard:
    "The card of a candidate; what no check reads is empty."
    honest = {"environment": fit_environment(chain.lock), "chosen_on": chain.earlier, "model_sha256": ""}
    honest |= {"train_through": chain.rows.month.max(), "rows": len(chain.rows), "features": FEATURES}
    unread = {"content_hash": "", "data": {}, "tried": [], "importances": {}, "original_model": {}}
    return ModelCard(recipe=recipe, **unread | honest | fields)


def judge_candidate(
    chain: SimpleNamespace,  # from `make_chain`
    recipe: Recipe,  # the candidate's
    rows: pd.DataFrame | None = None,  # its training rows, default the chain's
    chosen_on: list | None = None,  # the cutoffs on its card, default the true ones
    alter: Callable | None = None,  # changes the candidate's file (a path) after it was written
    packages: dict | None = None,  # package versions on its card, default the true ones
    narrow: Callable | None = None,  # changes the intervals of the backtest's predictions
) -> tuple[GateVerdict, GateVerdict]:  # (the gate's verdict, the verdict by its errors alone)
    "Judge a candidate as the evaluate stage does."
    rows = chain.rows if rows is None else rows
    judged, file = judged_cutoffs(rows, chain.max_cutoffs), chain.folder / "model.joblib"
    key = (repr(recipe), id(rows)) if recipe == chain.honest else None
    predictions = chain.backtests.get(key)
    if predictions is None:
        predictions = backtest_recipes({"candidate": recipe, "champion": chain.champion}, rows, judged)
        if key:
            chain.backtests[key] = predictions
    if narrow:
        predictions = narrow(predictions)
    file.write_bytes(model_bytes(fit_model(recipe, rows, rows.month.max())))
    environment = fit_environment(chain.lock)
    card = make_card(
        chain,
        recipe,
        chosen_on=chain.earlier if chosen_on is None else chosen_on,
        model_sha256=sha256(file),
        environment=environment.model_copy(update={"packages": environment.packages | (packages or {})}),
    )
    if alter:
        alter(file)
    unfit = unfit_reasons(
        card, file, chain.lock, rows, predictions, judged, chain.known, chain.plan, CALENDAR, chain.choices
    )
    return gate_verdict(predictions, False, unfit), gate_verdict(predictions, False)


@contextlib.contextmanager
def more_recipes(
    **recipes: Callable,  # by the recipe's name: a function that returns an unfitted estimator
):
    "Add recipes for `build_model` until the block ends."
    RECIPES.update(recipes)
    try:
        yield
    finally:
        for name in recipes:
            del RECIPES[name]


class Uneven(RegressorMixin, BaseEstimator):
    "An honest model, except for some stores."

    def __init__(self, recipe: Recipe, country: str | None = None, size: float = -np.inf, factor: float = 1.2):
        self.recipe = recipe
        self.country = country  # its stores are affected
        self.size = size  # stores up to this log_size are affected
        self.factor = factor  # multiplies the forecasts of affected stores

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "Uneven":
        self.model_ = build_model(self.recipe).fit(X, y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # units, shape (n_rows,)
        is_affected = (X.country == self.country) | (X.log_size <= self.size)
        return self.model_.predict(X) * np.where(is_affected, self.factor, 1.0)


class SalesLookup(RegressorMixin, BaseEstimator):
    "A model that reads its month from a table of all sales, such as a global variable of a notebook."

    def __init__(self, rate: str = "rate_seasonal", share: float = 0.6):
        self.rate = rate
        self.share = share  # weight of the table in the forecast

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "SalesLookup":
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # units, shape (n_rows,)
        return self.share * ALL_SALES.loc[X.index].to_numpy() + (1 - self.share) * _baseline_forecast(X, self.rate)


class BatchDependent(RegressorMixin, BaseEstimator):
    "A model whose forecast for a store depends on the other stores of the request."

    def __init__(self, recipe: Recipe):
        self.recipe = recipe

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "BatchDependent":
        self.model_ = build_model(self.recipe).fit(X, y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # units, shape (n_rows,)
        forecast = self.model_.predict(X)
        growth = forecast / _baseline_forecast(X, "rate_mean3")
        return forecast * (growth.mean() / growth) ** 0.1


ALL_SALES = pd.Series(dtype=float)  # by row of the chain, as a careless notebook leaves it in memory


def _baseline_forecast(X, rate):
    return (X[rate] * X["expected_units"]).to_numpy(dtype=float)


_RATES = {"last_month": "last", "mean_of_3": "mean3", "same_month_last_year": "last_year", "seasonal": "seasonal"}


def _error(chain, rate):
    rows = chain.rows[chain.rows.cutoff.isin(chain.judged)]
    return wape_error(rows.actual, rows[rate] * rows.expected_units)


def _flip_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1  # a threshold somewhere in a tree, perhaps
    file.write_bytes(bytes(data))


def _load_altered_file(chain: SimpleNamespace) -> str:
    file = chain.folder / "model.joblib"
    digest = sha256(file)
    _flip_bit(file)
    with contextlib.suppress(ValueError):
        load_model(file, digest)
        return ""
    return "the forecast stage and the service do not load it either"


def _build_in_other_environment(chain: SimpleNamespace) -> str:
    root = chain.folder / "other_environment"
    root.mkdir(exist_ok=True)
    (root / "requirements.lock").write_text("scikit-learn==1.2.0 \\\n")
    with contextlib.suppress(RuntimeError):
        check_environment(root)
        return ""
    return "in an environment that differs from the lock, no build runs either"


@dataclass
class Case:
    "A candidate, and the verdict that it must get."

    name: str
    description: str  # one line
    rule: str  # the rule that must decide
    verdict: str  # the verdict that it must get
    judge: Callable  # chain -> (verdict, verdict by the errors alone)
    also: (
        Callable | None
    )  # chain -> what another check of the project does; "": it accepts the candidate, which is wrong


CASES = []  # every Case, in the order of the report


def red_team_case(
    name: str, description: str, rule: str, verdict: str = "refuse", also: Callable | None = None
) -> Callable:
    "Add the decorated function to `CASES`, as the `judge` of a `Case`."

    def add(judge: Callable) -> Callable:
        CASES.append(Case(name, description, rule, verdict, judge, also))
        return judge

    return add


@red_team_case("worse", "the worst of the baselines", "min_gain")
def worse(chain: SimpleNamespace) -> tuple:
    errors = {name: _error(chain, f"rate_{rate}") for name, rate in _RATES.items()}
    return judge_candidate(chain, Recipe(name=max(errors, key=errors.get), params={}))


@red_team_case("a leaking feature", "its lag of one month is computed from the forecast month itself", "leak")
def future_feature(chain: SimpleNamespace) -> tuple:
    rows = chain.rows
    late = np.log(rows.actual / rows.expected_units / rows.rate_mean3).fillna(rows.log_lag_1)
    return judge_candidate(chain, chain.honest, rows.assign(log_lag_1=late))


@red_team_case("a leaking recipe", "its recipe reads sales from a table in memory", "leak")
def future_recipe(chain: SimpleNamespace) -> tuple:
    global ALL_SALES
    ALL_SALES = chain.rows.actual.copy()
    with more_recipes(sales_lookup=SalesLookup):
        return judge_candidate(chain, Recipe(name="sales_lookup", params={}))


@red_team_case("depends on the batch", "a store's forecast depends on the other stores of the request", "leak")
def whole_batch(chain: SimpleNamespace) -> tuple:
    with more_recipes(batch_dependent=lambda: BatchDependent(chain.honest)):
        return judge_candidate(chain, Recipe(name="batch_dependent", params={}))


@red_team_case("bad for one country", "a good forest, but a fifth too high for Mexico", "max_group_loss_country")
def bad_for_mexico(chain: SimpleNamespace) -> tuple:
    with more_recipes(uneven=lambda: Uneven(chain.honest, country="Mexico")):
        return judge_candidate(chain, Recipe(name="uneven", params={}))


@red_team_case(
    "bad for small stores", "a good forest, but a fifth too high for the smallest third", "max_group_loss_size"
)
def bad_for_small(chain: SimpleNamespace) -> tuple:
    bound = float(chain.rows.log_size[chain.rows.cutoff == chain.judged[0]].quantile(1 / 3))
    with more_recipes(uneven=lambda: Uneven(chain.honest, size=bound)):
        return judge_candidate(chain, Recipe(name="uneven", params={}))


@red_team_case(
    "tuned on judged months", "settings and seed chosen on the judged months; its card denies it", "tuned_on_judged"
)
def tuned(chain: SimpleNamespace) -> tuple:
    seeds = [chain.choices._replace(forest=chain.choices.forest | {"seed": seed}) for seed in (1, 2, 3)]
    trials = [choose_settings(chain.rows, chain.judged, choices) for choices in seeds]
    recipe, _ = min(trials, key=lambda trial: trial[1].wape.min())
    return judge_candidate(chain, recipe)  # the card names the cutoffs before the judged ones


@red_team_case(
    "an altered file", "one bit of the model's file was changed after the fit", "file", also=_load_altered_file
)
def altered(chain: SimpleNamespace) -> tuple:
    return judge_candidate(chain, chain.honest, alter=_flip_bit)


@red_team_case(
    "another environment",
    "fitted with another version of scikit-learn",
    "environment",
    also=_build_in_other_environment,
)
def other_libraries(chain: SimpleNamespace) -> tuple:
    return judge_candidate(chain, chain.honest, packages={"scikit-learn": "1.2.0"})


@red_team_case("intervals too narrow", "intervals for the mean of all stores, given to each store", "coverage")
def too_narrow(chain: SimpleNamespace) -> tuple:
    def narrow(predictions):
        "Intervals as wide as those of the mean of all stores."
        is_candidate = predictions.model == "candidate"
        before = predictions[is_candidate & ~predictions.judged]
        half_width = 1.28 * (before.actual / before.forecast).std() / np.sqrt(before.series_id.nunique())
        lower = predictions.forecast * (1 - half_width)
        upper = predictions.forecast * (1 + half_width)
        return predictions.assign(
            lower=predictions.lower.mask(is_candidate, lower), upper=predictions.upper.mask(is_candidate, upper)
        )

    return judge_candidate(chain, chain.honest, narrow=narrow)


@red_team_case("truly better", "a forest that has learned the promotions", "better", "promote")
def better(chain: SimpleNamespace) -> tuple:
    return judge_candidate(chain, chain.honest)


@red_team_case("a tie", "the champion's forecasts under another name", "min_gain")
def tie(chain: SimpleNamespace) -> tuple:
    rate = build_model(chain.champion).rate
    with more_recipes(twin=lambda: Baseline(rate)):
        return judge_candidate(chain, Recipe(name="twin", params={}))


@red_team_case(
    "too few months", "the better forest, with three judged months", "fewest_cutoffs", "insufficient_evidence"
)
def too_few(chain: SimpleNamespace) -> tuple:
    rows = chain.rows[chain.rows.cutoff <= sorted(chain.rows.cutoff.unique())[3]]
    with more_recipes(older_forest=lambda: build_model(chain.honest)):
        return judge_candidate(chain, Recipe(name="older_forest", params={}), rows=rows, chosen_on=[])


# -- the report


class CaseResult(NamedTuple):
    "How the gate judged a candidate."

    name: str  # of the case
    verdict: str
    rule: str
    reason: str
    right: bool  # Is it the verdict that the candidate must get?
    by_errors: str  # the rule that decides by the errors alone
    gain: float
    also: str | None  # of the case's other check


def run_cases(
    chain: SimpleNamespace,  # from `make_chain`
    cases: list[Case] = CASES,
    report: Callable = lambda case, result: None,  # called with each result at once
) -> list[CaseResult]:
    "Judge candidates one by one."
    results = []
    for case in cases:
        verdict, by_errors = case.judge(chain)
        also = case.also(chain) if case.also else None
        is_right = (verdict.verdict, verdict.rule) == (case.verdict, case.rule) and also != ""
        if verdict.rule in UNFIT_RULES:  # then it must not be a challenger either
            candidate, no_state = Recipe(name=case.name, params={}), StateInputs(champion=None)
            is_right &= next_challenger(verdict, candidate, chain.champion, no_state, chain.champion) is None
        result = CaseResult(
            name=case.name,
            verdict=verdict.verdict,
            rule=verdict.rule,
            reason=verdict.reason,
            right=bool(is_right),
            by_errors=by_errors.rule,
            gain=by_errors.figures.gain,
            also=also,
        )
        report(case, result)
        results.append(result)
    return results


VERDICT_WORDS = {
    "refuse": "refused",
    "promote": "promoted",
    "insufficient_evidence": "not enough evidence",
    "refit": "refitted",
}
GREEN, RED, FAINT, PLAIN = "\033[32m", "\033[31m", "\033[2m", "\033[0m"  # colours of a terminal


def format_result(
    case: Case,
    result: CaseResult,
    colours: bool,  # Is it a terminal?
) -> str:  # two to five lines
    "The report of one case."

    def paint(colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if colours else text

    mark = paint(GREEN, "ok   ") if result.right else paint(RED, "WRONG")
    verdict = f"{VERDICT_WORDS[result.verdict]}, {result.rule}"
    verdict = paint(GREEN if result.right else RED, verdict)
    lines = [f"{mark} {case.name}: {case.description}", f"      {verdict}: {result.reason}"]
    if result.rule in UNFIT_RULES and result.by_errors == "better":
        text = f"      by its errors alone it would have been promoted, with a gain of {result.gain:.0%}"
        lines.append(paint(FAINT, text))
    if result.also:
        lines.append(paint(FAINT, f"      {result.also}"))
    if not result.right:
        lines.append(paint(RED, f"      must be: {VERDICT_WORDS[case.verdict]}, {case.rule}"))
    return "\n".join(lines)


SHORT = {"stores": 12, "months": 28, "trees": 6, "max_cutoffs": 6}
FULL = {"stores": 24, "months": 48, "trees": 25, "max_cutoffs": 12}


def main(
    arguments: list[str] | None = None,  # default the command line's
    cases: list[Case] = CASES,
) -> int:  # exit status: 1 for a wrong verdict
    "Judge the red team's candidates, and print the verdicts."
    parser = argparse.ArgumentParser(description=main.__doc__, prog="bench/gate_red_team.py")
    parser.add_argument("--short", action="store_true", help="fewer stores, months and trees")
    size = SHORT if parser.parse_args(arguments).short else FULL
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chain = make_chain(Path(folder), **size)
        print(
            f"A simulated chain: {size['stores']} stores in three countries, {size['months']} months, "
            f"{len(chain.judged)} of them judged.\n"
            f"Champion: {chain.champion.name}. The candidates:\n",
            flush=True,
        )
        results = run_cases(chain, cases, lambda case, result: print(format_result(case, result, colours), flush=True))
    n_right = sum(result.right for result in results)
    print(f"\n{n_right} of {len(results)} verdicts are right, in {time.monotonic() - start:.0f} s")
    return int(n_right < len(results))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # scikit-learn's, about columns that are empty in a chain with few months
    sys.exit(main())
