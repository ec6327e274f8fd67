"""How often the gate promotes one of two equals, and how soon one that is truly better.

    .venv/bin/python bench/gate.py [--products products] [--years 24]

Two recipes are replayed over the last two years of every source that is built. Histories of equals are made of what either
missed by: seasons of three months are drawn with replacement, and in each it is tossed who made which error; stores of a
season stay together, and with them their shocks. One contest a month over the last twelve, by the gate's own functions
and env.yaml's settings; who is promoted is the champion from then on. A truly better candidate has all its errors made
smaller. Strangers are a forest and a baseline, siblings two forests with other seeds.
"""

import argparse
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from brewcast.common.core import read_json, read_parquet
from brewcast.common.params import read_env
from brewcast.model.backtest import best_baseline, replay_recipe
from brewcast.model.evaluate import (
    GATE_CHECKS,
    _check_group_loss,
    _check_p_value,
    backtest_recipes,
    compare_errors,
    decide_verdict,
    monthly_errors,
)

ROOT = Path(__file__).resolve().parent.parent
BLOCK, LOOKS, WINDOW, TREES = 3, 12, 12, 20
GAINS = [0.03, 0.05, 0.1]
GATES = {"without luck": [c for c in GATE_CHECKS if c is not _check_p_value], "as it is": GATE_CHECKS}
GROUPLESS = [c for c in GATE_CHECKS if c is not _check_group_loss]


def panel(products: Path, pair: str) -> pd.DataFrame:
    "What either of a pair missed by in each month, in all and by group: see `monthly_errors`."
    rows, card = read_parquet(products / "train/rows.parquet"), read_json(products / "train/card.json")
    known = sorted(rows.cutoff[rows.actual.notna()].unique())
    cutoffs = known[max(6, len(known) - 24) :]
    chosen = {k: v for k, v in card["recipe"]["params"].items() if k in ("partner", "weight", "min_samples_leaf")}
    forest = {"name": "forest", "params": chosen | {"n_estimators": TREES, "seed": 0}}
    sibling = {"name": "forest", "params": forest["params"] | {"seed": 1}}
    other = sibling if pair == "siblings" else best_baseline(rows, cutoffs)
    told = []
    sizes = backtest_recipes({"champion": {"name": "seasonal", "params": {}}}, rows, cutoffs)
    groups = sizes[sizes.judged][["series_id", "cutoff", "country", "size"]]
    for name, recipe in {"candidate": forest, "champion": other}.items():
        told.append(replay_recipe(recipe, rows, cutoffs).assign(model=name, judged=True))
    return monthly_errors(pd.concat(told).merge(groups, on=["series_id", "cutoff"]))


def histories(errors: pd.DataFrame, months: int, gain: float, draw: np.random.Generator) -> list[pd.DataFrame]:
    "A made-up history: one table of errors for each month."
    table = errors.reset_index()
    by_month = [
        part.set_index(["kind", "group"])[["candidate", "champion", "sold"]] for _, part in table.groupby("cutoff")
    ]
    made = []
    while len(made) < months:
        start, swapped = draw.integers(len(by_month)), draw.random() < 0.5
        for i in range(BLOCK):
            part = by_month[(start + i) % len(by_month)]
            a, b = (part.champion, part.candidate) if swapped else (part.candidate, part.champion)
            made.append(pd.DataFrame({"candidate": a * (1 - gain), "champion": b, "sold": part.sold}))
    return made[:months]


def figures(made: list[pd.DataFrame], at: int, swapped: bool) -> dict:
    "What the gate weighs at one look."
    window = pd.concat(dict(enumerate(made[at : at + WINDOW])), names=["cutoff"]).reorder_levels(
        ["kind", "group", "cutoff"]
    )
    if swapped:
        window = window.rename(columns={"candidate": "champion", "champion": "candidate"})
    intervals = {"coverage": None, "coverage_at_most": None}  # equals have equal intervals
    return compare_errors(window) | intervals | {"same_recipe": False, "unfit": {}}


def measure(products: Path, pair: str, gate: dict, years: int) -> dict:
    "The rates of one source and pair."
    warnings.simplefilter("ignore")
    errors, draw = panel(products, pair), np.random.default_rng(0)
    made = histories(errors, LOOKS * years + WINDOW, 0.0, draw)
    both = [[figures(made, at, swapped) for at in range(LOOKS * years)] for swapped in (False, True)]
    found = {"source": products.name, "pair": pair}
    for name, checks in GATES.items():
        turned, promoted = False, 0
        for at in range(LOOKS * years):
            if decide_verdict(both[turned][at], gate, checks)["promoted"]:
                turned, promoted = not turned, promoted + 1
        found[f"false a year, {name}"] = promoted / years
    good = [f for f in both[0] if decide_verdict(f, gate, GROUPLESS)["promoted"]]
    found["of those, a group says no"] = (
        1 - np.mean([decide_verdict(f, gate)["promoted"] for f in good]) if good else np.nan
    )
    for gain in GAINS:
        hits = {name: [] for name in GATES}
        for _ in range(years // 2):
            made = histories(errors, LOOKS + WINDOW, gain, draw)
            looks = [figures(made, at, False) for at in range(LOOKS)]
            for name, checks in GATES.items():
                hits[name].append(any(decide_verdict(f, gate, checks)["promoted"] for f in looks))
        found |= {f"{gain:.0%} better, {name}": np.mean(hit) for name, hit in hits.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=Path, default=ROOT / "products")
    parser.add_argument("--years", type=int, default=24)
    arguments, begun = parser.parse_args(), time.monotonic()
    gate = read_env(ROOT)["gate"] | {"coverage": 0.8}
    sources = [path for path in sorted(arguments.products.iterdir()) if (path / "train/rows.parquet").exists()]
    asked = [(path, pair, gate, arguments.years) for path in sources for pair in ("strangers", "siblings")]
    with ProcessPoolExecutor(2) as pool:
        table = pd.DataFrame(pool.map(measure, *zip(*asked, strict=True)))
    table = pd.concat([table, table.groupby("pair").mean(numeric_only=True).reset_index().assign(source="all")])
    print(
        f"Contests: one a month over {WINDOW} months; {arguments.years} years a row; promoted within a year, where better"
    )
    print(table.set_index(["source", "pair"]).T.round(2).to_string())
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
