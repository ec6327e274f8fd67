"""Drift: Brewcast's control chart beside Evidently's default settings, on made-up histories whose change is known.

    .venv/bin/python bench/drift.py [--histories 50] [--rate 0.1]

Each history is 72 months of 30 stores: sizes, growth and seasons of their own, and shocks of each month that all of them
share; where it is rough, all shocks are Student's with four degrees of freedom. The seasonal baseline is walked forward
through it. Its errors of twelve months are the reference, and from month 29 on it serves. The change comes in one of the
months 49 to 60. A broken till spoils one month, which is mended in the next; to detect it as drift is wrong.

Alarms a year are those in months in which nothing has changed: of histories without a change, and of the others before it.
An alarm that goes on for months is one, and `months alarmed` is the share of such months. Detected is a change whose first
alarm comes within 6 or 12 months, its own among them; the delay is the median of the months it takes.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from brewcast.model.drift import control_chart, draw_chart
from brewcast.model.features import baseline_rates
from brewcast.model.monitor import realised_errors

STORES, MONTHS, REFERENCE, SERVES = 30, 72, 12, 28
START = pd.Timestamp("2015-01-01")
CHANGES = {
    "no change": {},
    "no change, rough": {"tails": True},
    "level shift, -15 %": {"level": -0.15},
    "level shift, +10 %": {"level": 0.10},
    "season 3 months later": {"season": 3},
    "broken till": {"till": True},
}
WATCHES = ["error chart", "Evidently, any column", "Evidently, half of them", "Evidently, same season"]


def history(
    seed: int, level: float = 0.0, season: int = 0, till: bool = False, tails: bool = False
) -> tuple[pd.DataFrame, int]:
    "One row a store and month, and the number of the month in which it changes."
    draw, month = np.random.default_rng([seed, 7]), np.arange(MONTHS)
    at = int(draw.integers(48, 60))
    since = (month >= at)[:, None]
    size, growth = draw.normal(5, 0.4, STORES), draw.normal(0.03, 0.04, STORES)
    swing, peak = draw.normal(0.20, 0.04, STORES), draw.normal(0, 0.7, STORES) + draw.integers(0, 12)
    wave = swing * np.cos(2 * np.pi * (month[:, None] - peak - season * since) / 12)

    def shock(spread: float, *shape: int) -> np.ndarray:
        return spread * (draw.standard_t(4, shape) / np.sqrt(2) if tails else draw.normal(size=shape))

    shared = shock(0.022, MONTHS) + np.cumsum(shock(0.008, MONTHS))
    own = shock(0.07, MONTHS, STORES) + np.cumsum(shock(0.015, MONTHS, STORES), axis=0)
    log = size + growth * month[:, None] / 12 + wave + shared[:, None] + own + np.log1p(level) * since
    months = pd.date_range(START, periods=MONTHS, freq="MS")
    table = pd.DataFrame(
        {"month": np.repeat(months, STORES), "series_id": [f"S{i:02d}" for i in range(STORES)] * MONTHS}
    )
    table = table.assign(rate=np.exp(log).ravel(), country="x", trading_days=table.month.dt.days_in_month)
    table = table.assign(price=draw.normal(4, 0.3, len(table)), promotion_share=draw.beta(4, 10, len(table)))
    return table.assign(quantity_sold=table.rate * table.trading_days), at


def errors_of(table: pd.DataFrame, spoilt: pd.DataFrame | None = None) -> pd.DataFrame:
    "The seasonal baseline walked forward, its forecasts against what came: month, bias, wape."
    grid = table.set_index(["series_id", "month"]).sort_index()
    rates = baseline_rates(grid.rate, grid.country)
    told = grid.assign(forecast=rates.rate_seasonal * grid.trading_days, lower=np.nan, upper=np.nan)[
        rates.has_own_season == 1
    ]
    told = told.dropna(subset=["forecast"]).reset_index()
    return realised_errors([part for _, part in told.groupby("month")], table if spoilt is None else spoilt)


def error_chart(errors: pd.DataFrame, rate: float, left_out: tuple = ()) -> list:
    "Months of alarms."
    serves = START + pd.DateOffset(months=SERVES)
    before = errors[errors.month < serves].tail(REFERENCE)
    table = control_chart(errors[errors.month >= serves], before, rate, left_out)
    return list(table.month[table.alarm != ""])


def evidently(table: pd.DataFrame) -> dict[str, list]:
    "Months in which Evidently's default tests say drift."
    from evidently.legacy.calculations.stattests import get_stattest

    names, found, chosen = ["rate", "price", "promotion_share"], {name: [] for name in WATCHES[1:]}, {}
    table = table.assign(rate=table.quantity_sold / table.trading_days).sort_values("month", kind="stable")
    values, months = {name: table[name].to_numpy() for name in names}, sorted(table.month.unique())

    def share(current: slice, reference: slice) -> float:
        pairs = [(pd.Series(values[name][reference]), pd.Series(values[name][current])) for name in names]
        large = len(pairs[0][0]) > 1000  # by which, and by nothing else here, Evidently chooses its test
        if large not in chosen:
            chosen[large] = get_stattest(*pairs[0], "num", None)
        return np.mean([chosen[large](r, c, "num", None).drifted for r, c in pairs])

    rows = [slice(STORES * at, STORES * (at + 1)) for at in range(MONTHS)]
    for at in range(SERVES, MONTHS):
        before = share(rows[at], slice(0, rows[at].start))
        same = share(slice(rows[at - 2].start, rows[at].stop), slice(rows[at - 14].start, rows[at - 12].stop))
        for name, drifted in zip(WATCHES[1:], (before > 0, before >= 0.5, same > 0), strict=True):
            found[name] += [months[at]] if drifted else []
    return found


def spoil(table: pd.DataFrame, at: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, str]:
    "The month as a broken till reports it: of six stores a hundredfold, or half of the days missing."
    month, broken = START + pd.DateOffset(months=at), np.random.default_rng([seed, 8]).choice(STORES, 6, replace=False)
    hit = (table.month == month) & table.series_id.isin([f"S{i:02d}" for i in broken])
    kind = ["quantities a hundredfold", "half of the days missing"][seed % 2]
    factor = 100 if seed % 2 == 0 else 0.5
    return (
        table.assign(quantity_sold=table.quantity_sold.where(~hit, table.quantity_sold * factor)),
        hit.to_numpy(),
        kind,
    )


def sale_lines(table: pd.DataFrame, until: int, hit: np.ndarray, kind: str, seed: int, folder: Path) -> Path:
    "A line a store and day, through the spoilt month, as the ingest stage writes them."
    draw, rows = np.random.default_rng([seed, 9]), table[table.month <= START + pd.DateOffset(months=until)]
    days = rows.trading_days.to_numpy()
    at = np.repeat(np.arange(len(rows)), days)
    day = np.concatenate([np.arange(n) for n in days])
    lines = pd.DataFrame({"store_id": rows.series_id.to_numpy()[at], "date": rows.month.to_numpy()[at]})
    lines["date"] = (lines.date + pd.to_timedelta(day, unit="D")).dt.date
    lines["price"] = (rows.price.to_numpy()[at] + draw.normal(0, 0.05, len(at))).round(2)
    lines["quantity_sold"] = np.maximum(draw.poisson(rows.rate.to_numpy()[at]), 1)
    spoilt = hit[: len(rows)][at]
    if kind.startswith("quantities"):
        lines["quantity_sold"] = np.where(spoilt, 100 * lines.quantity_sold, lines.quantity_sold)
    elif kind.startswith("half"):
        lines = lines[~(spoilt & (day >= 15))]
    empty = {name: None for name in ("country", "city", "category", "product", "weather", "promotion", "holiday")}
    lines = lines.assign(**empty).sort_values(["store_id", "date"])
    lines.to_parquet(folder / "sales.parquet", index=False)
    return folder / "sales.parquet"


def quality_says(sales: Path, store_month: pd.DataFrame) -> list[str] | None:
    "Levels of what the quality checks find in the last month; None where this Brewcast has none."
    try:
        from brewcast.data.quality import check_data
    except ImportError:
        return None
    calendar = {"unit": "day", "weekday": None, "complete_within_days": 0, "open_within_days": 10, "countries": {}}
    lacks = ["country", "city", "category", "product", "weather", "promotion", "holiday"]
    return [finding["level"] for finding in check_data(sales, store_month, calendar, lacks, {"accept": []})]


def months_between(first: pd.Timestamp, last: pd.Timestamp) -> int:
    return (last.year - first.year) * 12 + last.month - first.month


def figures(alarms: list[tuple[list, int]], changed: bool) -> dict:
    "Of one watch on the histories of one kind: alarms where nothing has changed, detected within 6 and 12, delay."
    false = alarmed = n_months = 0
    delays = []
    for months, at in alarms:
        begin = START + pd.DateOffset(months=at if changed else MONTHS)
        fresh = [m for m in months if m - pd.DateOffset(months=1) not in months]
        false, alarmed = false + sum(m < begin for m in fresh), alarmed + sum(m < begin for m in months)
        n_months += months_between(START + pd.DateOffset(months=SERVES), begin)
        delays.append(min([months_between(begin, m) + 1 for m in fresh if m >= begin], default=np.inf))
    told, delays = (
        {"false alarms a year": 12 * false / n_months, "months alarmed": alarmed / n_months},
        np.array(delays),
    )
    if changed:
        told |= {f"detected within {n}": (delays <= n).mean() for n in (6, 12)}
        told["delay"] = np.median(delays[delays <= 12]) if (delays <= 12).any() else np.nan
    return told


def measure(histories: int, rate: float) -> tuple[pd.DataFrame, list[str], pd.DataFrame]:
    rows, notes, example = [], [], None
    for number, (name, change) in enumerate(CHANGES.items()):
        alarms = {watch: [] for watch in WATCHES}
        caught, unmended = {}, 0
        for seed in range(1000 * number, 1000 * number + histories):
            table, at = history(seed, **change)
            errors, left_out = errors_of(table), ()
            if change.get("till"):
                spoilt, hit, kind = spoil(table, at, seed)
                left_out = (START + pd.DateOffset(months=at),)
                with tempfile.TemporaryDirectory() as folder:
                    sales = sale_lines(table, at, hit, kind, seed, Path(folder))
                    levels = quality_says(sales, spoilt[spoilt.month <= left_out[0]].assign(store_id=spoilt.series_id))
                caught.setdefault(kind, []).append(levels)
                wrong = errors.set_index("month")
                wrong.loc[left_out[0]] = errors_of(table, spoilt).set_index("month").loc[left_out[0]]
                unmended += any(month == left_out[0] for month in error_chart(wrong.reset_index(), rate))
            alarms["error chart"].append((error_chart(errors, rate, left_out), at))
            if change.get("tails"):
                continue  # of interest is whether the rate of the chart holds
            for watch, months in evidently(spoilt if change.get("till") else table).items():
                alarms[watch].append((months, at))
            if "level" in change and example is None:
                example = control_chart(errors[SERVES - 16 :], errors[: SERVES - 16], rate)
        rows += [
            {"histories": name, "watch": w} | figures(a, not name.startswith("no change"))
            for w, a in alarms.items()
            if a
        ]
        for kind, levels in caught.items():
            if levels[0] is None:
                notes.append(f"broken till, {kind}: no brewcast.data.quality here to ask")
            else:
                stop, any_ = (
                    np.mean([level in found if level else bool(found) for found in levels]) for level in ("stop", "")
                )
                notes.append(
                    f"broken till, {kind}: {stop:.0%} stopped by the quality checks, {any_:.0%} told of at least"
                )
        if change.get("till"):
            notes.append(
                f"broken till, if its month were not left out: {unmended / histories:.0%} would be called drift"
            )
    return pd.DataFrame(rows), notes, example


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=50, help="of each kind")
    parser.add_argument("--rate", type=float, default=0.1, help="false alarms a year that the chart is to have")
    parser.add_argument("--picture", type=Path, help="where to write a chart with a level shift, as PNG")
    given = parser.parse_args()
    begun = time.process_time()
    table, notes, example = measure(given.histories, given.rate)
    if given.picture:
        draw_chart(example).savefig(given.picture, dpi=100)
    shares = {name: "{:.0%}".format for name in table.columns if name.startswith(("detected", "months"))}
    print(table.to_string(index=False, na_rep="", formatters=shares | {"false alarms a year": "{:.2f}".format}))
    print("\n".join(notes))
    print(
        f"{given.histories} histories of each kind, asked for {given.rate} false alarms a year; {time.process_time() - begun:.0f} CPU s"
    )
