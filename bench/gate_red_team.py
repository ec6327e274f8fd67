"""Candidates that the gate must refuse, and three that it must not, each brought before the real gate: `make sabotage`.

    .venv/bin/python bench/gate_red_team.py [--short]

A small made-up chain is theirs to forecast. Exit status 1 where one was not treated as it must be.
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

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin

from brewcast.common.hashing import sha256
from brewcast.common.params import check_environment
from brewcast.common.paths import find_root
from brewcast.model.backtest import best_baseline, earlier_cutoffs, judged_cutoffs, wape_error
from brewcast.model.evaluate import backtest_recipes, gate_verdict, next_challenger
from brewcast.model.features import feature_versions, record_versions
from brewcast.model.leakage_checks import UNFIT_RULES, feature_rows, unfit_reasons
from brewcast.model.recipes import RECIPES, Baseline, build_model, load_model, model_bytes
from brewcast.model.train import choose_settings, fit_environment, fit_model

CALENDAR = {"unit": "day", "decided_after_days": 2, "open_within_days": 10, "hemisphere": "north"}
CALENDAR |= {"countries": {}, "weekday": None}


def make_sales(
    stores: int = 18,  # half in the USA, a third in Canada, the others in Mexico
    months: int = 44,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # (store_month, plan), the plan for one month more
    "A small chain's months."
    draw = np.random.default_rng(seed)
    month = pd.date_range("2021-01-01", periods=months + 1, freq="MS")
    country = np.array(["USA", "Canada", "USA", "Mexico", "Canada", "USA"])[np.arange(stores) % 6]
    promotion = draw.beta(1.2, 3, (stores, months + 1)).round(2)
    season = np.array([0.0, 2.0, 5.0])[pd.factorize(country)[0]][:, None]
    swing = 0.2 * np.cos(2 * np.pi * (month.month.to_numpy() - season) / 12)
    shock = draw.normal(0, 0.03, (3, months + 1))[pd.factorize(country)[0]]
    level = (
        np.log(3000)
        + draw.normal(0, 0.6, (stores, 1))
        - 0.7 * (country == "Mexico")[:, None]
        + draw.normal(0, 0.02, (stores, months + 1)).cumsum(axis=1)
    )
    sold = np.exp(level + swing + shock + 0.45 * promotion + draw.normal(0, 0.03, (stores, months + 1))).round()
    table = pd.DataFrame({"store_id": np.repeat([f"S{i:02}" for i in range(stores)], months + 1)})
    table = table.assign(month=np.tile(month, stores), country=np.repeat(country, months + 1), city="a", price=4.0)
    table = table.assign(quantity_sold=sold.ravel(), promotion_share=promotion.ravel(), series_id=table.store_id)
    table = table.assign(trading_days=table.month.dt.days_in_month, last_date=table.month + pd.offsets.MonthEnd(0))
    table = table.assign(published=table.month - pd.Timedelta(days=20), weather=None, promotion=None, holiday=None)
    plan = table[["store_id", "month", "published", "promotion_share", "price", "trading_days"]]
    done = table[table.month < month[-1]].drop(columns="published")
    return done.reset_index(drop=True), plan.reset_index(drop=True)


def make_chain(
    folder: Path,  # where candidates' files go
    stores: int = 18,
    months: int = 44,
    trees: int = 20,
    most: int = 12,  # cutoffs that are judged
) -> SimpleNamespace:  # rows, known, plan, most, judged, earlier, champion, honest (recipe), choices, folder, lock
    "Everything that a candidate needs to be judged."
    store_month, plan = make_sales(stores, months)
    known = record_versions(store_month, None, CALENDAR)
    tables = feature_versions(known, plan, CALENDAR)
    cutoffs = sorted(tables["history"].event_timestamp.dt.tz_localize(None).unique())
    rows = pd.concat([feature_rows(tables, at).reset_index().assign(cutoff=at) for at in cutoffs], ignore_index=True)
    rows = rows.assign(cutoff=rows.cutoff.astype("datetime64[us]"), month=rows.cutoff + pd.Timedelta(days=1))
    outcomes = store_month[["series_id", "month", "quantity_sold"]].rename(columns={"quantity_sold": "actual"})
    rows = rows.merge(outcomes, on=["series_id", "month"], how="left").sort_values(["series_id", "cutoff"])
    rows, forest = rows.reset_index(drop=True), {"n_estimators": trees, "min_samples_leaf": 3, "seed": 0}
    judged = judged_cutoffs(rows, most)
    earlier = earlier_cutoffs(rows, judged)
    choices = {"partners": ["rate_seasonal", "rate_mean3"], "weights": [0.5, 0.75, 1.0], "fewest_cutoffs": 3}
    choices |= {"forest": forest}
    made = {"rows": rows, "known": known, "plan": plan, "judged": judged, "earlier": earlier, "choices": choices}
    made |= {"most": most, "contests": {}}  # contests: those that more than one goes through
    made |= {"honest": choose_settings(rows, earlier, **choices)[0], "champion": best_baseline(rows, earlier)}
    return SimpleNamespace(**made, folder=Path(folder), lock=find_root() / "requirements.lock")


def bring(
    chain: SimpleNamespace,  # see `make_chain`
    recipe: dict,  # the candidate's
    rows: pd.DataFrame | None = None,  # that it was trained on, default the chain's
    chosen_on: list | None = None,  # what its card says, default the truth
    spoil: Callable | None = None,  # changes the candidate's file (a path) after it was written
    packages: dict | None = None,  # versions that its card says it was fitted with
    narrow: Callable | None = None,  # changes the contest's predictions: its intervals
) -> tuple[dict, dict]:  # (the gate's verdict, the verdict by its errors alone)
    "Judge a candidate as the evaluate stage does."
    rows = chain.rows if rows is None else rows
    judged, file = judged_cutoffs(rows, chain.most), chain.folder / "model.joblib"
    key = (repr(recipe), id(rows)) if recipe == chain.honest else None  # four of them are the good forest otherwise
    predictions = chain.contests.get(key)
    if predictions is None:
        predictions = backtest_recipes({"candidate": recipe, "champion": chain.champion}, rows, judged)
        chain.contests |= {key: predictions} if key else {}
    predictions = narrow(predictions) if narrow else predictions
    file.write_bytes(model_bytes(fit_model(recipe, rows, rows.month.max())))
    card = {"recipe": recipe, "chosen_on": chain.earlier if chosen_on is None else chosen_on}
    card |= {"model_sha256": sha256(file), "environment": fit_environment(chain.lock)}
    card["environment"]["packages"] |= packages or {}
    if spoil:
        spoil(file)
    seen = (rows, predictions, judged, chain.known, chain.plan, CALENDAR, chain.choices)
    unfit = unfit_reasons(card, file, chain.lock, *seen)
    return gate_verdict(predictions, False, unfit), gate_verdict(predictions, False)


@contextlib.contextmanager
def more_recipes(
    **recipes: Callable,  # what makes an unfitted estimator, by the recipe's name
):
    "Let `build_model` know more recipes until the block ends."
    RECIPES.update(recipes)
    try:
        yield
    finally:
        for name in recipes:
            del RECIPES[name]


class Uneven(RegressorMixin, BaseEstimator):
    "An honest model, but for some stores."

    def __init__(self, recipe: dict, country: str | None = None, size: float = -np.inf, factor: float = 1.2):
        self.recipe = recipe
        self.country = country  # whose stores
        self.size = size  # log_size, up to which
        self.factor = factor  # what their forecasts are multiplied by

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "Uneven":
        self.model_ = build_model(self.recipe).fit(X, y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # units, shape (n_rows,)
        return self.model_.predict(X) * np.where(
            (X.country == self.country) | (X.log_size <= self.size), self.factor, 1.0
        )


class Remembering(RegressorMixin, BaseEstimator):
    "A model that looks its month up in a table of all sales, as a notebook's global may lie around."

    def __init__(self, rate: str = "rate_seasonal", share: float = 0.6):
        self.rate = rate
        self.share = share  # of the table in the forecast

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "Remembering":
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # units, shape (n_rows,)
        return self.share * ALL_SALES.loc[X.index].to_numpy() + (1 - self.share) * _honest(X, self.rate)


class Leaning(RegressorMixin, BaseEstimator):
    "A model whose answer for a store leans on who else is asked about: served alone, it says something else."

    def __init__(self, recipe: dict):
        self.recipe = recipe

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "Leaning":
        self.model_ = build_model(self.recipe).fit(X, y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # units, shape (n_rows,)
        told = self.model_.predict(X)
        growth = told / _honest(X, "rate_mean3")
        return told * (growth.mean() / growth) ** 0.1


ALL_SALES = pd.Series(dtype=float)  # by row of the chain: what a careless notebook leaves behind


def _honest(X, rate):
    return (X[rate] * X["expected_units"]).to_numpy(dtype=float)


_RATES = {"last_month": "last", "mean_of_3": "mean3", "same_month_last_year": "last_year", "seasonal": "seasonal"}


def _error(chain, rate):
    rows = chain.rows[chain.rows.cutoff.isin(chain.judged)]
    return wape_error(rows.actual, rows[rate] * rows.expected_units)


def _one_byte(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1  # a threshold somewhere in a tree, perhaps
    file.write_bytes(bytes(data))


def _load_altered(chain: SimpleNamespace) -> str:
    file = chain.folder / "model.joblib"
    digest = sha256(file)
    _one_byte(file)
    with contextlib.suppress(ValueError):
        load_model(file, digest)
        return ""
    return "the forecast stage and the service do not unpickle it either"


def _build_elsewhere(chain: SimpleNamespace) -> str:
    place = chain.folder / "elsewhere"
    place.mkdir(exist_ok=True)
    (place / "requirements.lock").write_text("scikit-learn==1.2.0 \\\n")
    with contextlib.suppress(RuntimeError):
        check_environment(place)
        return ""
    return "where the environment is not the lock's, no build runs either"


@dataclass
class Saboteur:
    "One who is brought before the gate."

    name: str
    did: str  # one line
    rule: str  # that must decide
    verdict: str  # that must be given
    bring: Callable  # chain -> (verdict, verdict by the errors alone)
    also: Callable | None  # chain -> what another check of the project says of it; "": nothing, which is wrong


LINE_UP = []  # every Saboteur, in the order of the show


def saboteur(name: str, did: str, rule: str, verdict: str = "refuse", also: Callable | None = None) -> Callable:
    "Put a function into the line-up: see `Saboteur`."
    return lambda bring: LINE_UP.append(Saboteur(name, did, rule, verdict, bring, also)) or bring


@saboteur("worse", "forecasts with the poorest of the baselines", "min_gain")
def worse(chain: SimpleNamespace) -> tuple:
    errors = {name: _error(chain, f"rate_{rate}") for name, rate in _RATES.items()}
    return bring(chain, {"name": max(errors, key=errors.get), "params": {}})


@saboteur("knows the future", "a feature: its lag of one month is counted from the month itself", "leak")
def future_feature(chain: SimpleNamespace) -> tuple:
    rows = chain.rows
    late = np.log(rows.actual / rows.expected_units / rows.rate_mean3).fillna(rows.log_lag_1)
    return bring(chain, chain.honest, rows.assign(log_lag_1=late))


@saboteur("knows the future, too", "its recipe looks sales up in a table that lies around", "leak")
def future_recipe(chain: SimpleNamespace) -> tuple:
    global ALL_SALES
    ALL_SALES = chain.rows.actual.copy()
    with more_recipes(remembering=Remembering):
        return bring(chain, {"name": "remembering", "params": {}})


@saboteur("leans on the others", "a store's forecast depends on who else is asked about", "leak")
def whole_batch(chain: SimpleNamespace) -> tuple:
    with more_recipes(leaning=lambda: Leaning(chain.honest)):
        return bring(chain, {"name": "leaning", "params": {}})


@saboteur("bad for one country", "a good forest, but a fifth too much for Mexico", "max_group_loss_country")
def bad_for_mexico(chain: SimpleNamespace) -> tuple:
    with more_recipes(uneven=lambda: Uneven(chain.honest, country="Mexico")):
        return bring(chain, {"name": "uneven", "params": {}})


@saboteur("bad for small stores", "a good forest, but a fifth too much for the smallest third", "max_group_loss_size")
def bad_for_small(chain: SimpleNamespace) -> tuple:
    bound = float(chain.rows.log_size[chain.rows.cutoff == chain.judged[0]].quantile(1 / 3))
    with more_recipes(uneven=lambda: Uneven(chain.honest, size=bound)):
        return bring(chain, {"name": "uneven", "params": {}})


@saboteur("tuned", "settings and seed chosen on the judged months; its card says otherwise", "tuned_on_judged")
def tuned(chain: SimpleNamespace) -> tuple:
    seeds = [chain.choices | {"forest": chain.choices["forest"] | {"seed": seed}} for seed in (1, 2, 3)]
    tried = [choose_settings(chain.rows, chain.judged, **choices) for choices in seeds]  # the months that are judged
    recipe, _ = min(tried, key=lambda pair: pair[1].wape.min())
    return bring(chain, recipe)  # and its card says that it was chosen on the ones before


@saboteur("altered", "one bit of the model's file was changed after the fit", "file", also=_load_altered)
def altered(chain: SimpleNamespace) -> tuple:
    return bring(chain, chain.honest, spoil=_one_byte)


@saboteur("from elsewhere", "fitted with another scikit-learn", "environment", also=_build_elsewhere)
def other_libraries(chain: SimpleNamespace) -> tuple:
    return bring(chain, chain.honest, packages={"scikit-learn": "1.2.0"})


@saboteur("too sure of itself", "intervals for the mean of all stores, shown as each store's", "coverage")
def too_narrow(chain: SimpleNamespace) -> tuple:
    def narrow(predictions):  # as wide as the mean of all stores needs it, not as one store does
        mine = predictions.model == "candidate"
        before = predictions[mine & ~predictions.judged]
        reach = 1.28 * (before.actual / before.forecast).std() / np.sqrt(before.series_id.nunique())
        lower, upper = predictions.forecast * (1 - reach), predictions.forecast * (1 + reach)
        return predictions.assign(lower=predictions.lower.mask(mine, lower), upper=predictions.upper.mask(mine, upper))

    return bring(chain, chain.honest, narrow=narrow)


@saboteur("truly better", "a forest that has learned the promotions", "better", "promote")
def better(chain: SimpleNamespace) -> tuple:
    return bring(chain, chain.honest)


@saboteur("a tie", "another name, the same forecasts", "min_gain")
def tie(chain: SimpleNamespace) -> tuple:
    rate = build_model(chain.champion).rate
    with more_recipes(twin=lambda: Baseline(rate)):
        return bring(chain, {"name": "twin", "params": {}})


@saboteur(
    "too few months", "the better forest, with three months to judge by", "fewest_cutoffs", "insufficient_evidence"
)
def too_few(chain: SimpleNamespace) -> tuple:
    rows = chain.rows[chain.rows.cutoff <= sorted(chain.rows.cutoff.unique())[3]]
    with more_recipes(forest_of_old=lambda: build_model(chain.honest)):
        return bring(chain, {"name": "forest_of_old", "params": {}}, rows=rows, chosen_on=[])


# -- the show


def bring_all(
    chain: SimpleNamespace,  # see `make_chain`
    line_up: list[Saboteur] = LINE_UP,
    tell: Callable = lambda *told: None,  # of (saboteur, result), as soon as it is known
) -> list[dict]:  # name, verdict, rule, reason, right, and what the errors alone would have said
    "Bring saboteurs before the gate, one by one."
    results = []
    for saboteur in line_up:
        verdict, by_errors = saboteur.bring(chain)
        also = saboteur.also(chain) if saboteur.also else None
        right = (verdict["verdict"], verdict["rule"]) == (saboteur.verdict, saboteur.rule) and also != ""
        if verdict["rule"] in UNFIT_RULES:  # then it must not forecast in the champion's shadow either
            names = {"recipe": chain.champion, "candidate": {"name": saboteur.name}, "champion": chain.champion}
            right &= next_challenger(verdict | names, {}, chain.champion) is None
        result = {name: verdict[name] for name in ("verdict", "rule", "reason")} | {"name": saboteur.name}
        result |= {
            "right": bool(right),
            "by_errors": by_errors["rule"],
            "gain": by_errors["figures"]["gain"],
            "also": also,
        }
        tell(saboteur, result)
        results.append(result)
    return results


SAID = {"refuse": "refused", "promote": "promoted", "insufficient_evidence": "not yet", "refit": "refitted"}
GREEN, RED, FAINT, PLAIN = "\033[32m", "\033[31m", "\033[2m", "\033[0m"


def lines_of(
    saboteur: Saboteur,
    result: dict,  # see `bring_all`
    colours: bool,  # Is it a terminal?
) -> str:  # three lines, or four
    "What is shown of one saboteur."
    paint = (lambda colour, text: f"{colour}{text}{PLAIN}") if colours else (lambda colour, text: text)
    mark = paint(GREEN, "ok   ") if result["right"] else paint(RED, "WRONG")
    said = paint(GREEN if result["right"] else RED, f"{SAID[result['verdict']]}, {result['rule']}")
    lines = [f"{mark} {saboteur.name}: {saboteur.did}", f"      {said}: {result['reason']}"]
    if result["rule"] in UNFIT_RULES and result["by_errors"] == "better":
        lines.append(
            paint(FAINT, f"      by its errors alone it would have been promoted, with a gain of {result['gain']:.0%}")
        )
    if result["also"]:
        lines.append(paint(FAINT, f"      {result['also']}"))
    if not result["right"]:
        lines.append(paint(RED, f"      must be: {SAID[saboteur.verdict]}, {saboteur.rule}"))
    return "\n".join(lines)


SHORT = {"stores": 12, "months": 28, "trees": 6, "most": 6}
FULL = {"stores": 24, "months": 48, "trees": 25, "most": 12}


def main(
    arguments: list[str] | None = None,  # default the command line's
    line_up: list[Saboteur] = LINE_UP,
) -> int:  # exit status: 1 when one was not treated as it must be
    "Show it in a terminal."
    parser = argparse.ArgumentParser(description=main.__doc__, prog="bench/gate_red_team.py")
    parser.add_argument("--short", action="store_true", help="fewer stores, months and trees")
    size = SHORT if parser.parse_args(arguments).short else FULL
    colours, begun = sys.stdout.isatty() and not os.environ.get("NO_COLOR"), time.monotonic()

    def tell(saboteur, result):
        print(lines_of(saboteur, result, colours), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        chain = make_chain(Path(folder), **size)
        print(
            f"A made-up chain: {size['stores']} stores in three countries, {size['months']} months, {len(chain.judged)} of them judged.\n"
            f"Champion: {chain.champion['name']}. Who comes before the gate:\n",
            flush=True,
        )
        results = bring_all(chain, line_up, tell)
    right = sum(result["right"] for result in results)
    print(f"\n{right} of {len(results)} treated as they must be, in {time.monotonic() - begun:.0f} s")
    return int(right < len(results))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # scikit-learn's, of columns that are empty in a young chain
    sys.exit(main())
