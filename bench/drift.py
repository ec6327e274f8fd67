"""Drift: Brewcast's control chart and Evidently's default settings, on simulated histories with known changes.

    .venv/bin/python bench/drift.py [--histories 50] [--rate 0.1]

Each history has 72 months of 30 stores. Every store has its own size, growth and season, and all stores share the shocks of a
month. In "rough" histories, all shocks have Student's t distribution with four degrees of freedom. The seasonal baseline
forecasts every month. Its errors of twelve months are the reference, and from month 29 on it serves. The change begins in one
of the months 49 to 60. A broken till spoils one month, and is fixed in the next; to detect it as drift is wrong.

False alarms are alarms in months without a change: in histories without one, and in the others before it. An alarm that lasts
for months counts once; `months alarmed` is the share of such months. A change is detected if its first alarm comes within 6
or 12 months, including the month of the change. The delay is the median number of months until then.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from brewcast.common.parameter_types import Calendar, QualitySettings
from brewcast.data.quality import check_data
from brewcast.model.drift import control_chart, plot_control_chart
from brewcast.model.features import baseline_rates
from brewcast.model.monitor import realised_errors

STORES = 30
MONTHS = 72
REFERENCE = 12  # months of errors before the baseline serves
SERVED_FROM = 28  # number of the first month that is served, counted from 0
START = pd.Timestamp("2015-01-01")
CHANGES = {
    "no change": {},
    "no change, rough": {"tails": True},
    "level shift, -15 %": {"level": -0.15},
    "level shift, +10 %": {"level": 0.10},
    "season 3 months later": {"season": 3},
    "broken till": {"till": True},
}
METHODS = ["error chart", "Evidently, any column", "Evidently, half of them", "Evidently, same season"]
FIRST_SHIFT = "level shift, -15 %"


def simulate_history(
    seed: int, level: float = 0.0, season: int = 0, till: bool = False, tails: bool = False
) -> tuple[pd.DataFrame, int]:
    "One row a store and month, and the number of the month in which it changes."
    rng, month = np.random.default_rng([seed, 7]), np.arange(MONTHS)
    at = int(rng.integers(48, 60))
    since = (month >= at)[:, None]
    size, growth = rng.normal(5, 0.4, STORES), rng.normal(0.03, 0.04, STORES)
    swing, peak = rng.normal(0.20, 0.04, STORES), rng.normal(0, 0.7, STORES) + rng.integers(0, 12)
    wave = swing * np.cos(2 * np.pi * (month[:, None] - peak - season * since) / 12)

    def shock(spread: float, *shape: int) -> np.ndarray:
        return spread * (rng.standard_t(4, shape) / np.sqrt(2) if tails else rng.normal(size=shape))

    shared = shock(0.022, MONTHS) + np.cumsum(shock(0.008, MONTHS))
    own = shock(0.07, MONTHS, STORES) + np.cumsum(shock(0.015, MONTHS, STORES), axis=0)
    log = size + growth * month[:, None] / 12 + wave + shared[:, None] + own + np.log1p(level) * since
    months = pd.date_range(START, periods=MONTHS, freq="MS")
    table = pd.DataFrame(
        {"month": np.repeat(months, STORES), "series_id": [f"S{i:02d}" for i in range(STORES)] * MONTHS}
    )
    table = table.assign(rate=np.exp(log).ravel(), country="x", trading_days=table.month.dt.days_in_month)
    table = table.assign(price=rng.normal(4, 0.3, len(table)), promotion_share=rng.beta(4, 10, len(table)))
    return table.assign(quantity_sold=table.rate * table.trading_days), at


def baseline_errors_of(table: pd.DataFrame, reported: pd.DataFrame | None = None) -> pd.DataFrame:
    "Errors of the seasonal baseline against the reported sales (default the true ones): month, bias, wape."
    grid = table.set_index(["series_id", "month"]).sort_index()
    rates = baseline_rates(grid.rate, grid.country)
    forecasts = grid.assign(forecast=rates.rate_seasonal * grid.trading_days, lower=np.nan, upper=np.nan)
    forecasts = forecasts[rates.has_own_season == 1].dropna(subset=["forecast"]).reset_index()
    sold = table if reported is None else reported
    outcomes = sold[["series_id", "month"]].assign(actual=sold.quantity_sold)
    return realised_errors([part for _, part in forecasts.groupby("month")], outcomes, sold)


def chart_alarms(errors: pd.DataFrame, rate: float, excluded: tuple = ()) -> list:
    "Months in which the control chart has an alarm."
    served_from = START + pd.DateOffset(months=SERVED_FROM)
    before = errors[errors.month < served_from].tail(REFERENCE)
    table = control_chart(errors[errors.month >= served_from], before, rate, excluded)
    return list(table.month[table.alarm != ""])


def evidently_alarms(table: pd.DataFrame) -> dict[str, list]:
    "By method: the months in which Evidently's default tests find drift."
    from evidently.legacy.calculations.stattests import get_stattest

    names = ["rate", "price", "promotion_share"]
    alarms = {method: [] for method in METHODS[1:]}
    tests = {}  # by size of the reference: Evidently's test
    table = table.assign(rate=table.quantity_sold / table.trading_days).sort_values("month", kind="stable")
    values = {name: table[name].to_numpy() for name in names}
    months = sorted(table.month.unique())

    def share(current: slice, reference: slice) -> float:
        pairs = [(pd.Series(values[name][reference]), pd.Series(values[name][current])) for name in names]
        is_large = len(pairs[0][0]) > 1000  # for these columns, Evidently chooses its test by this alone
        if is_large not in tests:
            tests[is_large] = get_stattest(*pairs[0], "num", None)
        return np.mean([tests[is_large](r, c, "num", None).drifted for r, c in pairs])

    rows = [slice(STORES * at, STORES * (at + 1)) for at in range(MONTHS)]
    for at in range(SERVED_FROM, MONTHS):
        all_before = share(rows[at], slice(0, rows[at].start))
        same_season = share(slice(rows[at - 2].start, rows[at].stop), slice(rows[at - 14].start, rows[at - 12].stop))
        has_drift = (all_before > 0, all_before >= 0.5, same_season > 0)
        for method, drifted in zip(METHODS[1:], has_drift, strict=True):
            alarms[method] += [months[at]] if drifted else []
    return alarms


def break_till(table: pd.DataFrame, at: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, str]:
    "The table with one month of six stores spoilt, which of its rows are spoilt, and the fault."
    month = START + pd.DateOffset(months=at)
    broken = np.random.default_rng([seed, 8]).choice(STORES, 6, replace=False)
    is_spoilt = (table.month == month) & table.series_id.isin([f"S{i:02d}" for i in broken])
    fault = ["quantities a hundredfold", "half of the days missing"][seed % 2]
    factor = 100 if seed % 2 == 0 else 0.5
    quantity = table.quantity_sold.where(~is_spoilt, table.quantity_sold * factor)
    return table.assign(quantity_sold=quantity), is_spoilt.to_numpy(), fault


def write_sale_lines(
    table: pd.DataFrame, until: int, is_spoilt: np.ndarray, fault: str, seed: int, folder: Path
) -> Path:
    "One line per store and day up to the spoilt month, in the format of the ingest stage."
    rng = np.random.default_rng([seed, 9])
    rows = table[table.month <= START + pd.DateOffset(months=until)]
    days = rows.trading_days.to_numpy()
    row = np.repeat(np.arange(len(rows)), days)
    day = np.concatenate([np.arange(n) for n in days])
    lines = pd.DataFrame({"store_id": rows.series_id.to_numpy()[row], "date": rows.month.to_numpy()[row]})
    lines["date"] = (lines.date + pd.to_timedelta(day, unit="D")).dt.date
    lines["price"] = (rows.price.to_numpy()[row] + rng.normal(0, 0.05, len(row))).round(2)
    lines["quantity_sold"] = np.maximum(rng.poisson(rows.rate.to_numpy()[row]), 1)
    is_spoilt_line = is_spoilt[: len(rows)][row]
    if fault.startswith("quantities"):
        lines["quantity_sold"] = np.where(is_spoilt_line, 100 * lines.quantity_sold, lines.quantity_sold)
    elif fault.startswith("half"):
        lines = lines[~(is_spoilt_line & (day >= 15))]
    empty = {name: None for name in ("country", "city", "category", "product", "weather", "promotion", "holiday")}
    lines = lines.assign(**empty).sort_values(["store_id", "date"])
    lines.to_parquet(folder / "sales.parquet", index=False)
    return folder / "sales.parquet"


def quality_levels(sales: Path, store_month: pd.DataFrame) -> list[str]:
    "Levels of the findings of the quality checks."
    calendar = Calendar(unit="day", hemisphere="north", countries={}, decided_after_days=2)
    settings = QualitySettings(accept=[], months=3)
    lacks = ["country", "city", "category", "product", "weather", "promotion", "holiday"]
    return [finding.level for finding in check_data(sales, store_month, calendar, lacks, settings)]


def months_between(first: pd.Timestamp, last: pd.Timestamp) -> int:
    return (last.year - first.year) * 12 + last.month - first.month


def alarm_rates(alarms: list[tuple[list, int]], has_change: bool) -> dict:
    "Of one method on the histories of one kind: false alarms, detection within 6 and 12 months, delay."
    n_false = n_alarmed = n_months = 0
    delays = []
    for months, change in alarms:
        begin = START + pd.DateOffset(months=change if has_change else MONTHS)
        new = [month for month in months if month - pd.DateOffset(months=1) not in months]
        n_false += sum(month < begin for month in new)
        n_alarmed += sum(month < begin for month in months)
        n_months += months_between(START + pd.DateOffset(months=SERVED_FROM), begin)
        delays.append(min([months_between(begin, month) + 1 for month in new if month >= begin], default=np.inf))
    rates = {"false alarms a year": 12 * n_false / n_months, "months alarmed": n_alarmed / n_months}
    if has_change:
        delays = np.array(delays)
        rates |= {f"detected within {n}": (delays <= n).mean() for n in (6, 12)}
        rates["delay"] = np.median(delays[delays <= 12]) if (delays <= 12).any() else np.nan
    return rates


def measure_kind(name: str, number: int, histories: int, rate: float) -> tuple[list[dict], list[str]]:
    "Rows of the table and notes, for the histories of one kind."
    change = CHANGES[name]
    alarms = {method: [] for method in METHODS}
    levels_by_fault, n_called_drift = {}, 0
    for seed in range(1000 * number, 1000 * number + histories):
        table, at = simulate_history(seed, **change)
        errors, excluded, reported = baseline_errors_of(table), (), table
        if change.get("till"):
            reported, is_spoilt, fault = break_till(table, at, seed)
            month = START + pd.DateOffset(months=at)
            excluded = (month,)
            with tempfile.TemporaryDirectory() as folder:
                sales = write_sale_lines(table, at, is_spoilt, fault, seed, Path(folder))
                store_month = reported[reported.month <= month].assign(store_id=reported.series_id)
                levels_by_fault.setdefault(fault, []).append(quality_levels(sales, store_month))
            not_excluded = errors.set_index("month")
            not_excluded.loc[month] = baseline_errors_of(table, reported).set_index("month").loc[month]
            n_called_drift += month in chart_alarms(not_excluded.reset_index(), rate)
        alarms["error chart"].append((chart_alarms(errors, rate, excluded), at))
        if change.get("tails"):
            continue  # only the chart's rate of false alarms matters here
        for method, months in evidently_alarms(reported).items():
            alarms[method].append((months, at))
    has_change = not name.startswith("no change")
    rows = [
        {"histories": name, "method": method, **alarm_rates(of_method, has_change)}
        for method, of_method in alarms.items()
        if of_method
    ]
    notes = []
    for fault, levels in levels_by_fault.items():
        stopped = np.mean(["stop" in found for found in levels])
        found = np.mean([bool(found) for found in levels])
        notes.append(f"broken till, {fault}: {stopped:.0%} stopped by the quality checks, {found:.0%} with a finding")
    if change.get("till"):
        share = n_called_drift / histories
        notes.append(f"broken till, if its month were not left out: {share:.0%} would be called drift")
    return rows, notes


def measure(histories: int, rate: float) -> tuple[pd.DataFrame, list[str], pd.DataFrame]:
    "The table, notes, and a control chart as an example: the first history with a level shift."
    rows, notes = [], []
    for number, name in enumerate(CHANGES):
        of_kind, notes_of_kind = measure_kind(name, number, histories, rate)
        rows += of_kind
        notes += notes_of_kind
    number = list(CHANGES).index(FIRST_SHIFT)
    table, _ = simulate_history(1000 * number, **CHANGES[FIRST_SHIFT])
    errors = baseline_errors_of(table)
    example = control_chart(errors[SERVED_FROM - 16 :], errors[: SERVED_FROM - 16], rate)
    return pd.DataFrame(rows), notes, example


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=50, help="of each kind")
    parser.add_argument("--rate", type=float, default=0.1, help="false alarms a year that the chart may have")
    parser.add_argument("--picture", type=Path, help="PNG file for a chart with a level shift")
    args = parser.parse_args()
    start = time.process_time()
    table, notes, example = measure(args.histories, args.rate)
    if args.picture:
        plot_control_chart(example).savefig(args.picture, dpi=200)
    shares = {name: "{:.0%}".format for name in table.columns if name.startswith(("detected", "months"))}
    print(table.to_string(index=False, na_rep="", formatters=shares | {"false alarms a year": "{:.2f}".format}))
    print("\n".join(notes))
    print(
        f"{args.histories} histories of each kind, {args.rate} false alarms a year requested; {time.process_time() - start:.0f} CPU s"
    )
