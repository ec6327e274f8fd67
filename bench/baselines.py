"""Should baselines compete every month, or should the first one of a source stay until a forest is better?

    .venv/bin/python bench/baselines.py [--products products]

Every built source is replayed month by month from its second outcome on. "Stays" is the seasonal baseline in all months. In
"competes", the best baseline of the months judged so far (at most twelve) is promoted when it passes the gate's limits in
env.yaml: gain, months won and p-value. "By hindsight" is the best of each month, which is not known beforehand.
"""

import argparse
from pathlib import Path

import pandas as pd

from brewcast.common.core import read_parquet
from brewcast.common.parameter_types import Gate
from brewcast.common.params import read_env
from brewcast.common.records import Recipe
from brewcast.model.backtest import judged_cutoffs, replay_recipe
from brewcast.model.evaluate import p_value
from brewcast.model.recipes import BASELINES

ROOT = Path(__file__).resolve().parent.parent


def compete(errors: pd.DataFrame, gate: Gate) -> list[str]:
    "The baseline that serves in each month but the first, when baselines compete."
    champion, champions = "seasonal", []
    for n in range(1, len(errors)):
        judged = errors.iloc[:n].tail(min(12, max(n - 1, 1)))
        best = judged.sum().idxmin()
        ours, theirs = judged[best], judged[champion]
        has_gain = ours.sum() <= (1 - gate.min_gain) * theirs.sum()
        has_months = (ours < theirs).mean() >= gate.min_months_won
        is_enough = len(judged) >= gate.fewest_cutoffs
        if is_enough and has_gain and has_months and p_value(ours, theirs) <= gate.max_p_value:
            champion = best
        champions.append(champion)
    return champions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=Path, default=ROOT / "products")
    folder = parser.parse_args().products
    gate = Gate(**read_env(ROOT)["gate"])
    table = {}
    for path in sorted(folder.glob("*/train/rows.parquet")):
        rows = read_parquet(path)
        cutoffs = judged_cutoffs(rows, 999)
        forecasts = {name: replay_recipe(Recipe(name=name, params={}), rows, cutoffs) for name in BASELINES}
        absolute = {name: (f.actual - f.forecast).abs().groupby(f.cutoff).sum() for name, f in forecasts.items()}
        errors = pd.DataFrame(absolute)  # units, a row a cutoff, a column a baseline
        champions = compete(errors, gate)
        errors = errors.iloc[1:]
        sold = forecasts["seasonal"].groupby("cutoff").actual.sum().iloc[1:].sum()
        wape = {name: errors[name].sum() / sold for name in BASELINES}
        wape["competes"] = sum(errors[name].iloc[i] for i, name in enumerate(champions)) / sold
        wape["by hindsight"] = errors.min(axis=1).sum() / sold
        wape["changes"] = sum(old != new for old, new in zip(["seasonal", *champions], champions, strict=False))
        wape["months"] = len(errors)
        table[path.parts[-3]] = wape
    print(pd.DataFrame(table).T.rename(columns={"seasonal": "stays (seasonal)"}).round(4).to_string())


if __name__ == "__main__":
    main()
