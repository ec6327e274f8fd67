"""Coverage and width of the forecast intervals, on the walk-forward errors of built sources.

    .venv/bin/python bench/intervals.py products/simulated products/walmart

Each recipe is replayed over all cutoffs with an outcome, with few trees. Then come windows of 24 cutoffs, of which the last
12 are judged, at every fourth cutoff: the intervals that a build at that time would have served. They are compared with
intervals of a constant width from the same residuals, and with a common method: quantiles of outcome / forecast, pooled over
all months so far, in two groups. Last, a shift is planted into the last nine months of one source: coverage by month.
"""

import argparse
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from brewcast.common.core import read_parquet
from brewcast.common.records import Recipe
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
WINDOW = 24  # cutoffs of a window
JUDGED = 12  # the last cutoffs of a window, which are judged
STEP = 4  # cutoffs from one window to the next
MAX_WINDOWS = 6
COVERAGE = 0.8  # of the intervals, as in env.yaml


def walk_forward(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    "A recipe's forecasts at every cutoff with an outcome."
    cutoffs = sorted(rows.cutoff[rows.actual.notna()].unique())
    columns = rows[["series_id", "cutoff", "has_own_season", "months_of_history"]]
    columns = columns.assign(seasonal_forecast=rows.rate_seasonal * rows.expected_units)
    forecasts = replay_recipe(Recipe(name=name, params=RECIPES[name]), rows, cutoffs)
    forecasts = forecasts.merge(columns, on=["series_id", "cutoff"])
    return forecasts[forecasts.actual.notna()]


def split_windows(forecasts: pd.DataFrame) -> list[pd.DataFrame]:
    "Windows of cutoffs, the latest first: the forecasts that a build at its last cutoff would have judged."
    cutoffs = sorted(forecasts.cutoff.unique())
    ends = [end for end in range(len(cutoffs), WINDOW, -STEP)][:MAX_WINDOWS] or [len(cutoffs)]
    windows = []
    for end in ends:
        n_judged = min(JUDGED, end - 1)
        in_window = cutoffs[max(end - 2 * n_judged, 0) : end]
        rows = forecasts[forecasts.cutoff.isin(in_window)]
        windows.append(rows.assign(judged=rows.cutoff >= in_window[-n_judged]))
    return windows


def pooled_quantiles(forecasts: pd.DataFrame, coverage: float = COVERAGE) -> pd.DataFrame:
    "Quantiles of outcome / forecast, pooled over stores and months, in two groups."
    parts = []
    for cutoff, rows in forecasts.groupby("cutoff"):
        past = forecasts[(forecasts.month <= cutoff) & (forecasts.forecast > 0)]
        if past.cutoff.nunique() < 3:
            parts.append(rows.assign(lower=np.nan, upper=np.nan))
            continue
        ratio = past.actual / past.forecast
        cold_start = past.has_own_season == 0
        mature, cold = ratio[~cold_start], ratio[cold_start]
        mature_factors = _quantiles(mature if len(mature) >= 10 else ratio, coverage)
        if len(cold) >= 10:
            cold_factors = _quantiles(cold, coverage)
        else:
            cold_factors = [factor**1.5 for factor in mature_factors]
        wider = [min(mature_factors[0], cold_factors[0]), max(mature_factors[1], cold_factors[1])]
        factors = {False: mature_factors, True: wider}
        lower, upper = np.array([factors[is_cold] for is_cold in rows.has_own_season == 0]).T
        parts.append(rows.assign(lower=rows.forecast * lower, upper=rows.forecast * upper))
    return pd.concat(parts, ignore_index=True)


def _quantiles(ratio: pd.Series, coverage: float) -> list[float]:
    ordered, n = np.sort(ratio.to_numpy()), len(ratio)
    rank = math.ceil((n + 1) * (1 + coverage) / 2)
    return [min(float(ordered[max(n - rank, 0)]), 1.0), max(float(ordered[min(rank, n) - 1]), 1.0)]


METHODS = {"serves": replay_intervals, "constant": constant_intervals, "pooled": pooled_quantiles}


def is_covered(rows: pd.DataFrame) -> pd.Series:
    "Is the outcome within the interval?"
    return rows.actual.between(rows.lower, rows.upper)


def measure_windows(forecasts: pd.DataFrame) -> dict:
    "Coverage and score of each method over the judged months of all windows."
    judged = {name: [] for name in METHODS}  # a frame a window
    for window in split_windows(forecasts):
        for name, method in METHODS.items():
            rows = method(window)
            judged[name].append(rows[rows.judged.astype(bool)].dropna(subset=["lower"]))
    line = {}
    for name, parts in judged.items():
        rows = pd.concat(parts)
        line[f"cover {name}"] = is_covered(rows).mean()
        line[f"score {name}"] = interval_error(rows)
    line["windows"] = len(judged["serves"])
    by_window = [is_covered(rows).mean() for rows in judged["serves"]]
    line["worst"], line["best"] = min(by_window), max(by_window)
    rows = pd.concat(judged["serves"])
    covered, group = is_covered(rows), history_group(rows)
    for number, name in enumerate(HISTORY_GROUPS):
        line[name] = covered[group == number].mean()
        line[f"n {name}"] = int((group == number).sum())
    return line


def served_intervals(forecasts: pd.DataFrame) -> pd.DataFrame:
    "The intervals that each month's build would have served for the next month; and those of a constant width."
    cutoffs, parts = sorted(forecasts.cutoff.unique()), []
    for n in range(1, len(cutoffs)):
        judged = cutoffs[:n][-min(JUDGED, max(n - 1, 1)) :]
        window = forecasts[forecasts.cutoff.isin(cutoffs[max(n - 2 * len(judged), 0) : n])]
        window = window.assign(judged=window.cutoff >= judged[0])
        next_rows = forecasts[forecasts.cutoff == cutoffs[n]]
        half_width = np.quantile(abs_log_error(calibration_rows(window, cutoffs[n])), COVERAGE)
        constant = add_bounds(next_rows, np.full(len(next_rows), half_width))
        rows = add_intervals(next_rows, interval_factors(replay_intervals(window), next_rows))
        parts.append(rows.assign(constant_lower=constant.lower, constant_upper=constant.upper))
    return pd.concat(parts, ignore_index=True)


def coverage_interval(covered: pd.Series, cutoff: pd.Series, times: int = 2000) -> dict:
    "The 90 % confidence interval of a coverage. Months are drawn, because stores of a month share its shocks."
    by_month = covered.groupby(cutoff).agg(["sum", "size"]).to_numpy()
    drawn = by_month[np.random.default_rng(0).integers(0, len(by_month), (times, len(by_month)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.05, 0.95])
    return {"from": low, "to": high, "worst month": (by_month[:, 0] / by_month[:, 1]).min()}


def measure_history(forecasts: pd.DataFrame) -> dict:
    "Coverage and score of the intervals that each month's build would have served, over the whole history."
    rows = served_intervals(forecasts)
    rows = rows[rows.forecast > 0]
    constant = rows.assign(lower=rows.constant_lower, upper=rows.constant_upper)
    covered = is_covered(rows)
    line = {"months": rows.cutoff.nunique(), **coverage_interval(covered, rows.cutoff)}
    for number, name in enumerate(HISTORY_GROUPS):
        in_group = history_group(rows) == number
        line[name] = covered[in_group].mean()
        line[f"months {name}"] = rows.cutoff[in_group].nunique()
    for name, part in {"serves": rows, "constant": constant}.items():
        covered = is_covered(part)
        line[f"cover {name}"] = covered.mean()
        line[f"score {name}"] = interval_error(part)
        for third, months in enumerate(np.array_split(covered.groupby(part.cutoff).mean(), 3), 1):
            line[f"third {third} {name}"] = months.mean()
    return line


def measure_shifts(forecasts: pd.DataFrame) -> pd.DataFrame:
    "Coverage by month of a planted shift, nine months before the end."
    cutoffs = sorted(forecasts.cutoff.unique())
    since = forecasts.cutoff.map({cutoff: i - (len(cutoffs) - 9) for i, cutoff in enumerate(cutoffs)})
    after = since >= 0
    ratio = forecasts.actual / forecasts.forecast
    outcomes = {
        "no shift": forecasts.actual,
        "+28 %, model adapts": forecasts.actual * np.exp(0.25 * after * 0.6 ** since.clip(lower=0)),
        "+22 %, model does not": forecasts.actual * np.exp(0.2 * after),
        "errors twice as large": forecasts.forecast * ratio ** (1 + after),
        "one month at half": forecasts.actual * np.exp(-0.7 * (since == 0)),
    }
    lines = []
    for shift, actual in outcomes.items():
        window = split_windows(forecasts.assign(actual=actual))[0]
        for name, method in METHODS.items():
            rows = method(window)
            rows = rows[rows.judged.astype(bool)]
            covered = is_covered(rows).groupby(rows.cutoff).mean()
            width = np.log(rows.upper / rows.lower).groupby(rows.cutoff).mean()
            line = {"shift": shift, "method": name, "score": interval_error(rows)}
            for i, (share, log_width) in enumerate(zip(covered, width, strict=True)):
                line[f"{i - 3:+d}"] = f"{100 * share:.0f} ({50 * log_width:.0f})"
            lines.append(line)
    return pd.DataFrame(lines).set_index(["shift", "method"]).round(3)


def print_table(lines: dict) -> None:
    print(pd.DataFrame(lines).T.rename_axis(["source", "recipe"]).astype(float).round(3).to_string())


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="products/<source> of built sources")
    folders = parser.parse_args().folders
    windows, histories, first_forecasts = {}, {}, None
    for folder in folders:
        rows = read_parquet(folder / "train" / "rows.parquet")
        for name in RECIPES:
            forecasts = walk_forward(rows, name)
            first_forecasts = forecasts if first_forecasts is None else first_forecasts
            windows[folder.name, name] = measure_windows(forecasts)
            histories[folder.name, name] = measure_history(forecasts)
    with pd.option_context("display.width", 250, "display.max_columns", 50):
        print_table(windows)
        print(
            "\nAs served by each month's build, over the whole history (from, to: 90 % confidence interval over months)"
        )
        print_table(histories)
        print(f"\n{folders[0].name}, {next(iter(RECIPES))}: coverage in % (half the interval's width in %) by month")
        print(measure_shifts(first_forecasts).to_string())


if __name__ == "__main__":
    main()
