"""Do the intervals hold, and are they narrow where they may be? On the walk-forward errors of built sources.

    .venv/bin/python bench/intervals.py products/simulated products/walmart

Each recipe is replayed over all cutoffs with an outcome, with few trees. Then windows of 24 cutoffs, the last of them 12
judged, every fourth cutoff: what a build at that time would have said. Beside the intervals that serve stand a constant
width from the same residuals, and the pooled quantiles of outcome / forecast over all months so far, in two groups, as
is often done. Last, one source with a shift planted into the last nine months: coverage month by month.
"""

import argparse
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from brewcast.common.core import read_parquet
from brewcast.model.backtest import interval_error, replay_recipe
from brewcast.model.intervals import (
    HISTORY_GROUPS,
    abs_log_error,
    add_bounds,
    add_intervals,
    calibration_rows,
    constant_intervals,
    history_group,
    interval_factors,
    replay_intervals,
)

RECIPES = {"forest": {"n_estimators": 20}, "seasonal": {}, "mean_of_3": {}, "last_month": {}}
WINDOW, JUDGED, STEP, MOST = 24, 12, 4, 6  # cutoffs, cutoffs, cutoffs, windows


def walk_forward(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    "What a recipe would have said at every cutoff."
    cutoffs = sorted(rows.cutoff[rows.actual.notna()].unique())
    known = rows[["series_id", "cutoff", "has_own_season", "months_of_history"]]
    known = known.assign(seasonal_forecast=rows.rate_seasonal * rows.expected_units)
    told = replay_recipe({"name": name, "params": RECIPES[name]}, rows, cutoffs).merge(
        known, on=["series_id", "cutoff"]
    )
    return told[told.actual.notna()]


def windows(told: pd.DataFrame) -> list[pd.DataFrame]:
    "Stretches of cutoffs as builds at some of them would have judged, the latest first."
    cutoffs = sorted(told.cutoff.unique())
    ends = [end for end in range(len(cutoffs), WINDOW, -STEP)][:MOST] or [len(cutoffs)]
    found = []
    for end in ends:
        judged = min(JUDGED, end - 1)
        taken = cutoffs[max(end - 2 * judged, 0) : end]
        part = told[told.cutoff.isin(taken)]
        found.append(part.assign(judged=part.cutoff >= taken[-judged]))
    return found


def pooled_quantiles(told: pd.DataFrame, coverage: float = 0.8) -> pd.DataFrame:
    "Quantiles of outcome over forecast, pooled over stores and months, in two groups."
    parts = []
    for cutoff, asked in told.groupby("cutoff"):
        past, factors = told[(told.month <= cutoff) & (told.forecast > 0)], {}
        ratio, young = past.actual / past.forecast, past.has_own_season == 0
        if past.cutoff.nunique() < 3:
            parts.append(asked.assign(lower=np.nan, upper=np.nan))
            continue
        everybody = _quantiles(ratio, coverage)
        own = _quantiles(ratio[~young], coverage) if (~young).sum() >= 10 else everybody
        few = _quantiles(ratio[young], coverage) if young.sum() >= 10 else [own[0] ** 1.5, own[1] ** 1.5]
        factors = {False: own, True: [min(own[0], few[0]), max(own[1], few[1])]}
        lower, upper = np.array([factors[y] for y in asked.has_own_season == 0]).T
        parts.append(asked.assign(lower=asked.forecast * lower, upper=asked.forecast * upper))
    return pd.concat(parts, ignore_index=True)


def _quantiles(ratio: pd.Series, coverage: float) -> list[float]:
    ordered, n = np.sort(ratio.to_numpy()), len(ratio)
    reach = math.ceil((n + 1) * (1 + coverage) / 2)
    return [min(float(ordered[max(n - reach, 0)]), 1.0), max(float(ordered[min(reach, n) - 1]), 1.0)]


METHODS = {"serves": replay_intervals, "constant": constant_intervals, "pooled": pooled_quantiles}


def measured(told: pd.DataFrame) -> dict:
    "Coverage and score of each method over the judged months of all windows."
    line, held = {}, {name: [] for name in METHODS}
    for part in windows(told):
        for name, method in METHODS.items():
            done = method(part)
            held[name].append(done[done.judged.astype(bool)].dropna(subset=["lower"]))
    for name, parts in held.items():
        rows = pd.concat(parts)
        line[f"cover {name}"] = rows.actual.between(rows.lower, rows.upper).mean()
        line[f"score {name}"] = interval_error(rows)
    line["windows"] = len(held["serves"])
    per_window = [rows.actual.between(rows.lower, rows.upper).mean() for rows in held["serves"]]
    line["worst"], line["best"] = min(per_window), max(per_window)
    rows = pd.concat(held["serves"])
    inside, group = rows.actual.between(rows.lower, rows.upper), history_group(rows)
    for place, name in enumerate(HISTORY_GROUPS):
        line[name] = inside[group == place].mean()
        line[f"n {name}"] = int((group == place).sum())
    return line


def served(told: pd.DataFrame) -> pd.DataFrame:
    "What a build of every month would have said of the next, with no more than its history then; beside a constant width."
    cutoffs, parts = sorted(told.cutoff.unique()), []
    for n in range(1, len(cutoffs)):
        judged = cutoffs[:n][-min(JUDGED, max(n - 1, 1)) :]
        part = told[told.cutoff.isin(cutoffs[max(n - 2 * len(judged), 0) : n])]
        part, asked = part.assign(judged=part.cutoff >= judged[0]), told[told.cutoff == cutoffs[n]]
        half = np.quantile(abs_log_error(calibration_rows(part, cutoffs[n])), 0.8)
        constant = add_bounds(asked, np.full(len(asked), half))
        said = add_intervals(asked, interval_factors(replay_intervals(part), asked))
        parts.append(said.assign(constant_lower=constant.lower, constant_upper=constant.upper))
    return pd.concat(parts, ignore_index=True)


def resampled(held: pd.Series, cutoff: pd.Series, times: int = 2000) -> dict:
    "The 90 % confidence interval of a coverage: months are drawn, since stores share them."
    by_month = held.groupby(cutoff).agg(["sum", "size"]).to_numpy()
    drawn = by_month[np.random.default_rng(0).integers(0, len(by_month), (times, len(by_month)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.05, 0.95])
    return {"from": low, "to": high, "worst month": (by_month[:, 0] / by_month[:, 1]).min()}


def over_a_history(told: pd.DataFrame) -> dict:
    "Coverage and score of what each month's build would have served, over the whole history."
    rows = served(told)
    rows = rows[rows.forecast > 0]
    constant = rows.assign(lower=rows.constant_lower, upper=rows.constant_upper)
    held = rows.actual.between(rows.lower, rows.upper)
    line = {"months": rows.cutoff.nunique()} | resampled(held, rows.cutoff)
    for place, name in enumerate(HISTORY_GROUPS):
        taken = history_group(rows) == place
        line |= {name: held[taken].mean(), f"months {name}": rows.cutoff[taken].nunique()}
    for name, part in {"serves": rows, "constant": constant}.items():
        inside = part.actual.between(part.lower, part.upper)
        thirds = np.array_split(inside.groupby(part.cutoff).mean(), 3)
        line |= {f"cover {name}": inside.mean(), f"score {name}": interval_error(part)}
        line |= {f"third {i} {name}": third.mean() for i, third in enumerate(thirds, 1)}
    return line


def shifts(told: pd.DataFrame) -> pd.DataFrame:
    "Coverage by month of a planted shift, nine months before the end."
    cutoffs = sorted(told.cutoff.unique())
    since = told.cutoff.map({cutoff: i - (len(cutoffs) - 9) for i, cutoff in enumerate(cutoffs)})
    after = since >= 0
    planted = {
        "no shift": told.actual,
        "+28 %, caught up with": told.actual * np.exp(0.25 * after * 0.6 ** since.clip(lower=0)),
        "+22 %, never caught up": told.actual * np.exp(0.2 * after),
        "errors twice as large": told.forecast * (told.actual / told.forecast) ** (1 + after),
        "one month at half": told.actual * np.exp(-0.7 * (since == 0)),
    }
    lines = []
    for kind, actual in planted.items():
        part = windows(told.assign(actual=actual))[0]
        for name, method in METHODS.items():
            done = method(part)
            done = done[done.judged.astype(bool)]
            inside = done.actual.between(done.lower, done.upper).groupby(done.cutoff).mean()
            width = np.log(done.upper / done.lower).groupby(done.cutoff).mean()
            lines.append({"shift": kind, "method": name, "score": interval_error(done)})
            lines[-1] |= {
                f"{i - 3:+d}": f"{100 * c:.0f} ({50 * w:.0f})"
                for i, (c, w) in enumerate(zip(inside, width, strict=True))
            }
    return pd.DataFrame(lines).set_index(["shift", "method"]).round(3)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", type=Path, nargs="+", help="products/<source> of sources that are built")
    folders, lines, histories, first = options.parse_args().folders, {}, {}, None
    for folder in folders:
        rows = read_parquet(folder / "train" / "rows.parquet")
        for name in RECIPES:
            told = walk_forward(rows, name)
            first = told if first is None else first
            lines[folder.name, name] = measured(told)
            histories[folder.name, name] = over_a_history(told)
    with pd.option_context("display.width", 250, "display.max_columns", 50):
        print(pd.DataFrame(lines).T.rename_axis(["source", "recipe"]).astype(float).round(3).to_string())
        print(
            "\nas each month's build would have served, over the whole history (from, to: 90 % confidence interval over months)"
        )
        print(pd.DataFrame(histories).T.rename_axis(["source", "recipe"]).astype(float).round(3).to_string())
        print(
            f"\n{folders[0].name}, {next(iter(RECIPES))}: share within the interval in % (half its width in %) by month"
        )
        print(shifts(first).to_string())
