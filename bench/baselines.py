"""Should baselines compete month by month, or should a source's first one stay until a forest beats it?

    .venv/bin/python bench/baselines.py [--products products]

Every source that is built is gone through month by month from its second outcome on. "Stays" is the seasonal baseline
throughout. "Competes" lets the best of the months judged so far, at most twelve, take over where the gate's own figures
allow it: env.yaml's gain, months won and luck. "By hindsight" is each month's best, which nobody knows beforehand.
"""

import argparse
from pathlib import Path

import pandas as pd

from brewcast.common.core import read_parquet
from brewcast.common.params import read_env
from brewcast.model.backtest import judged_cutoffs, replay_recipe
from brewcast.model.evaluate import p_value
from brewcast.model.recipes import BASELINES

ROOT = Path(__file__).resolve().parent.parent


def competed(missed: pd.DataFrame, gate: dict) -> list[str]:
    "Who serves each month but the first, where baselines compete."
    champion, served = "seasonal", []
    for n in range(1, len(missed)):
        seen = missed.iloc[:n].tail(min(12, max(n - 1, 1)))
        best = seen.sum().idxmin()
        a, b = seen[best], seen[champion]
        better = a.sum() <= (1 - gate["min_gain"]) * b.sum() and (a < b).mean() >= gate["min_months_won"]
        if len(seen) >= gate["fewest_cutoffs"] and better and p_value(a, b) <= gate["max_p_value"]:
            champion = best
        served.append(champion)
    return served


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--products", type=Path, default=ROOT / "products")
    folder, gate = options.parse_args().products, read_env(ROOT)["gate"]
    table = {}
    for path in sorted(folder.glob("*/train/rows.parquet")):
        rows = read_parquet(path)
        told = {
            name: replay_recipe({"name": name, "params": {}}, rows, judged_cutoffs(rows, 999)) for name in BASELINES
        }
        errors = {k: (t.actual - t.forecast).abs().groupby(t.cutoff).sum() for k, t in told.items()}
        missed, sold = pd.DataFrame(errors), told["seasonal"].groupby("cutoff").actual.sum()
        later, sold = missed.iloc[1:], sold.iloc[1:]
        served = competed(missed, gate)
        changes = sum(a != b for a, b in zip(["seasonal", *served], served, strict=False))
        wape = {name: later[name].sum() / sold.sum() for name in BASELINES}
        wape["competes"] = sum(later[name].iloc[i] for i, name in enumerate(served)) / sold.sum()
        wape |= {"by hindsight": later.min(axis=1).sum() / sold.sum(), "changes": changes, "months": len(later)}
        table[path.parts[-3]] = wape
    print(pd.DataFrame(table).T.rename(columns={"seasonal": "stays (seasonal)"}).round(4).to_string())


if __name__ == "__main__":
    main()
