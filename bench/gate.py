"""How often the gate promotes a candidate that is not better, and how soon one that is.

    .venv/bin/python bench/gate.py [--products products] [--years 24]

Two recipes are replayed over the last two years of every built source. Their errors are the material for histories of two
equal models: blocks of three months are drawn with replacement, and in each block a coin decides which model gets which
errors. Stores of a block stay together, and so do their common shocks. In every month, the gate compares the last twelve
months with its own functions and the settings of env.yaml, and a promoted candidate is the champion from then on. A better
candidate is one whose errors are all reduced. A pair is a forest and a baseline, or two forests with
different seeds.
"""

import argparse
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from brewcast.common.core import read_parquet
from brewcast.common.params import read_env
from brewcast.common.records import Evidence, ModelCard, Recipe
from brewcast.model.backtest import best_baseline, replay_recipe
from brewcast.model.evaluate import (
    GATE_CHECKS,
    GateParameters,
    backtest_recipes,
    check_group_loss,
    check_p_value,
    compare_errors,
    decide_verdict,
    monthly_errors,
)

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 3  # months drawn together
LOOKS = 12  # gate decisions a year
WINDOW = 12  # months that the gate judges at each look
TREES = 20  # few, since every recipe is replayed over all cutoffs
GAINS = [0.03, 0.05, 0.1]
GATES = {"without p-value": [c for c in GATE_CHECKS if c is not check_p_value], "as it is": GATE_CHECKS}
WITHOUT_GROUPS = [c for c in GATE_CHECKS if c is not check_group_loss]


def pair_errors(products: Path, pair: str) -> pd.DataFrame:
    "Errors of both models of a pair: a row a kind of group, group and cutoff; columns candidate, champion, sold."
    rows = read_parquet(products / "train/rows.parquet")
    card = ModelCard.read(products / "train/card.json")
    with_outcome = sorted(rows.cutoff[rows.actual.notna()].unique())
    cutoffs = with_outcome[max(6, len(with_outcome) - 24) :]
    params = {k: v for k, v in card.recipe.params.items() if k in ("partner", "weight", "min_samples_leaf")}
    forest = Recipe(name="forest", params=params | {"n_estimators": TREES, "seed": 0})
    sibling = Recipe(name="forest", params=forest.params | {"seed": 1})
    other = sibling if pair == "two forests" else best_baseline(rows, cutoffs)
    predictions = []
    sizes = backtest_recipes({"champion": Recipe(name="seasonal", params={})}, rows, cutoffs)
    groups = sizes[sizes.judged][["series_id", "cutoff", "country", "size"]]
    for name, recipe in {"candidate": forest, "champion": other}.items():
        predictions.append(replay_recipe(recipe, rows, cutoffs).assign(model=name, judged=True))
    return monthly_errors(pd.concat(predictions).merge(groups, on=["series_id", "cutoff"]))


def simulate_history(errors: pd.DataFrame, months: int, gain: float, rng: np.random.Generator) -> list[pd.DataFrame]:
    "A simulated history: one table of errors for each month."
    table = errors.reset_index()
    by_month = [
        part.set_index(["kind", "group"])[["candidate", "champion", "sold"]] for _, part in table.groupby("cutoff")
    ]
    tables = []
    while len(tables) < months:
        start = rng.integers(len(by_month))
        is_swapped = rng.random() < 0.5
        for i in range(BLOCK):
            part = by_month[(start + i) % len(by_month)]
            candidate, champion = part.candidate, part.champion
            if is_swapped:
                candidate, champion = champion, candidate
            table = {"candidate": candidate * (1 - gain), "champion": champion, "sold": part.sold}
            tables.append(pd.DataFrame(table))
    return tables[:months]


def gate_inputs(tables: list[pd.DataFrame], start: int, is_swapped: bool) -> Evidence:
    "What the gate decides by at one look: without coverage, because equal models have equal intervals."
    window = pd.concat(dict(enumerate(tables[start : start + WINDOW])), names=["cutoff"])
    window = window.reorder_levels(["kind", "group", "cutoff"])
    if is_swapped:
        window = window.rename(columns={"candidate": "champion", "champion": "candidate"})
    return compare_errors(window)


def measure(products: Path, pair: str, gate: GateParameters, years: int) -> dict:
    "One row of the table: how often the gate promotes, for one source and pair."
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    errors = pair_errors(products, pair)
    tables = simulate_history(errors, LOOKS * years + WINDOW, 0.0, rng)
    looks = [[gate_inputs(tables, i, swapped) for i in range(LOOKS * years)] for swapped in (False, True)]
    rates = {"source": products.name, "pair": pair}
    for name, checks in GATES.items():
        is_swapped, n_promoted = False, 0  # after a promotion the two models change roles
        for i in range(LOOKS * years):
            if decide_verdict(looks[is_swapped][i], gate, checks).promoted:
                is_swapped = not is_swapped
                n_promoted += 1
        rates[f"false per year, {name}"] = n_promoted / years
    passed = [look for look in looks[0] if decide_verdict(look, gate, WITHOUT_GROUPS).promoted]
    is_promoted = [decide_verdict(look, gate).promoted for look in passed]
    rates["of those, refused by a group"] = 1 - np.mean(is_promoted) if passed else np.nan
    for gain in GAINS:
        hits = {name: [] for name in GATES}
        for _ in range(years // 2):
            tables = simulate_history(errors, LOOKS + WINDOW, gain, rng)
            year = [gate_inputs(tables, i, False) for i in range(LOOKS)]
            for name, checks in GATES.items():
                hits[name].append(any(decide_verdict(look, gate, checks).promoted for look in year))
        rates |= {f"{gain:.0%} better, {name}": np.mean(hit) for name, hit in hits.items()}
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=Path, default=ROOT / "products")
    parser.add_argument("--years", type=int, default=24)
    args = parser.parse_args()
    start = time.monotonic()
    gate = GateParameters(**read_env(ROOT)["gate"], coverage=0.8)
    sources = [path for path in sorted(args.products.iterdir()) if (path / "train/rows.parquet").exists()]
    tasks = [(path, pair, gate, args.years) for path in sources for pair in ("forest and baseline", "two forests")]
    with ProcessPoolExecutor(2) as pool:
        table = pd.DataFrame(pool.map(measure, *zip(*tasks, strict=True)))
    table = pd.concat([table, table.groupby("pair").mean(numeric_only=True).reset_index().assign(source="all")])
    print(
        f"One gate decision per month, over {WINDOW} months; {args.years} years per row; better: promoted within a year"
    )
    print(table.set_index(["source", "pair"]).T.round(2).to_string())
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
