"""How often the checks of a month's data are wrong: alarms on undisturbed data, and faults that are not found.

    make run SOURCE=walmart DATA=../shared/data/walmart        (and so on, for each source)
    .venv/bin/python bench/quality.py walmart maven_market dominicks_oj --seeds 5

Every month of each source is checked as if it were the last. Each finding on undisturbed data is a false alarm. Then faults
of twenty kinds are planted in single months, spread over the history. A fault is found when a stop of the right check names
the right place (in an older month, when it leaves the place out). `warn` counts faults that were only a warning. Faults in
the whole history (ids that lost their zeros, a Total, a line dated ahead) are planted separately. A month is `lost` when it
is no longer taken for complete.
"""

import argparse
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd

from brewcast.common.contracts import connect
from brewcast.common.core import read_json
from brewcast.common.parameter_types import Calendar
from brewcast.common.params import read_env
from brewcast.common.records import Finding
from brewcast.data.clean import clean, excluded_months, incomplete_months
from brewcast.data.ingest import ingest
from brewcast.data.month_lines import largest_lines, repeated_between_files
from brewcast.data.partitions import open_sale_lines
from brewcast.data.quality import (
    build_history,
    check_all_months,
    check_large_lines,
    check_month_data,
    check_similar_ids,
    check_totals,
    mark_left_out,
    summarize_lines,
)
from brewcast.data.simulate import write_export
from brewcast.data.source_files import source_tables

ROOT = Path(__file__).resolve().parent.parent
ALL_LINES = "SELECT * REPLACE ({}) FROM month"
ONE_STORE = "store_id = '{store}'"
SOME_STORES = "list_contains({stores}, store_id)"  # a third of them
ONE_WEEK = "extract('day' FROM date) BETWEEN 8 AND 14"
JITTER = "quantity_sold * (0.9 + 0.2 * (hash(rowid) % 1000) / 1000)"  # another till's lines are not exact repeats
FAULTS = {  # name: (SQL of the month with the fault, the check that must find it, where)
    "cents, all stores": (ALL_LINES.format("price * 100 AS price"), "unit_shift", "all stores"),
    "cents, a store": (
        ALL_LINES.format(f"CASE WHEN {ONE_STORE} THEN price * 100 ELSE price END AS price"),
        "unit_shift",
        "store",
    ),
    "cents, a group": (
        ALL_LINES.format("CASE WHEN {group} THEN price * 100 ELSE price END AS price"),
        "unit_shift",
        "group",
    ),
    "cases of 12, all stores": (ALL_LINES.format("quantity_sold / 12 AS quantity_sold"), "unit_shift", "all stores"),
    "packs of 6, a store": (
        ALL_LINES.format(f"CASE WHEN {ONE_STORE} THEN quantity_sold / 6 ELSE quantity_sold END AS quantity_sold"),
        "unit_shift",
        "store",
    ),
    "pieces for cases of 24, a group": (
        ALL_LINES.format("CASE WHEN {group} THEN quantity_sold * 24 ELSE quantity_sold END AS quantity_sold"),
        "unit_shift",
        "group",
    ),
    "a store's lines twice": (
        f"SELECT * FROM month UNION ALL SELECT * FROM month WHERE {ONE_STORE}",
        "duplicates",
        "store",
    ),
    "a week's lines twice": (
        f"SELECT * FROM month UNION ALL SELECT * FROM month WHERE {ONE_WEEK}",
        "duplicates",
        "date",
    ),
    "a month's lines twice": ("SELECT * FROM month UNION ALL SELECT * FROM month", "duplicates", ""),
    "an earlier month again": (
        "SELECT * REPLACE (({first} + (extract('day' FROM date) - 1)::INTEGER)::DATE AS date) FROM before "
        "WHERE extract('day' FROM date) <= extract('day' FROM last_day({first}))",
        "duplicates",
        "all stores",
    ),
    "a second till, a store": (
        f"SELECT * FROM month UNION ALL SELECT * REPLACE ({JITTER} AS quantity_sold) FROM "
        f"(SELECT *, row_number() OVER () AS rowid FROM month WHERE {ONE_STORE})".replace(
            "SELECT * REPLACE", "SELECT * EXCLUDE (rowid) REPLACE"
        ),
        "volume",
        "store",
    ),
    "a store is missing": (f"SELECT * FROM month WHERE NOT {ONE_STORE}", "completeness", "store"),
    "a third of the stores are missing": (f"SELECT * FROM month WHERE NOT {SOME_STORES}", "completeness", "stores"),
    "a third end two weeks early": (
        f"SELECT * FROM month WHERE NOT ({SOME_STORES} AND date > last_day(date) - 14)",
        "freshness",
        "stores",
    ),
    "half of the lines are missing": (
        "SELECT * FROM month WHERE hash(store_id, date, category, product, quantity_sold) % 2 = 0",
        "jump",
        "all stores",
    ),
    "all stores sell four times as much": (
        f"SELECT * EXCLUDE (rowid, range) REPLACE ({JITTER} AS quantity_sold) FROM "
        "(SELECT *, row_number() OVER () AS rowid FROM month, range(4))",
        "jump",
        "all stores",
    ),
    "a date is missing": ("SELECT * FROM month WHERE date <> {date}", "completeness", "date"),
    "one line of a month's sales, a store": (
        f"SELECT * FROM month UNION ALL (SELECT * REPLACE ((SELECT sum(quantity_sold) FROM month WHERE {ONE_STORE}) AS quantity_sold) "
        f"FROM month WHERE {ONE_STORE} ORDER BY ALL LIMIT 1)",
        "large_line",
        "store",
    ),
    "two files have the same week": (
        f"SELECT * FROM month UNION ALL SELECT * FROM month WHERE {ONE_WEEK}",
        "duplicates",
        "a.csv and b.csv",
    ),
    "two files have the same month": (
        "SELECT * FROM month UNION ALL SELECT * FROM month",
        "duplicates",
        "a.csv and b.csv",
    ),
    "two files have the same month, a year ago": (
        "SELECT * FROM month UNION ALL SELECT * FROM month",
        "duplicates",
        "a.csv and b.csv",
    ),
}
SECOND_FILE = {  # by fault: which of the month's lines a second file has again
    name: ONE_WEEK if "week" in name else "true" for name in FAULTS if name.startswith("two files")
}


def simulate(seed: int, folder: Path) -> Path:
    "The products of a small simulated source, as a build writes them."
    env = read_env(ROOT, "env.yaml")
    write_export(folder / "data", seed, months=40, stores=20, lines=100_000)
    names = ("lineage", "largest", "plan", "quarantine")
    product_paths = SimpleNamespace(
        **{name: folder / f"ingest/{name}.parquet" for name in names},
        sales=folder / "ingest/sales",
        dataset=folder / "dataset.json",
    )
    product_paths.sales.parent.mkdir()
    keys = "source sql plan_sql files lacks key categories returns max_bad_share".split()
    env["files"] = source_tables(env["files"])
    ingest(data=folder / "data", **{key: env[key] for key in keys}, product_paths=product_paths)
    calendar = Calendar.model_validate(env["calendar"])
    store_month, _ = clean(open_sale_lines(product_paths.sales), env["lacks"], calendar)
    (folder / "clean").mkdir()
    months = pd.DataFrame({"month": store_month["month"].to_pylist()})
    months.to_parquet(folder / "clean/store_month.parquet")
    return folder


def with_longer_ids(store: pd.DataFrame, month: pd.Timestamp) -> pd.DataFrame:
    "Before the month, every store's number has one more zero."
    longer = store.store_id.str.replace(r"(\d+)$", r"0\1", regex=True)
    return store.assign(store_id=store.store_id.where(store.month >= month, longer))


def with_total(store: pd.DataFrame, month: pd.Timestamp) -> pd.DataFrame:
    "The export has one more line per date: the sum of all stores."
    sums = store.groupby(["date", "month"], as_index=False)[["units", "lines"]].sum()
    return pd.concat([store, sums.assign(store_id="Total")], ignore_index=True)


def with_line_ahead(store: pd.DataFrame, month: pd.Timestamp) -> pd.DataFrame:
    "One line of a store is dated two months after the last month."
    date = month + pd.DateOffset(months=2, days=14)
    row = store.tail(1).assign(date=date, month=date.replace(day=1), lines=1)
    return pd.concat([store, row], ignore_index=True)


HISTORY_FAULTS = {  # faults in the whole history: the change, the check that must find it
    "ids lose their zeros": (with_longer_ids, "ids"),
    "a Total among the stores": (with_total, "total"),
    "a line dated ahead": (with_line_ahead, "dates"),
}


def check_history(store: pd.DataFrame, month: pd.Timestamp, calendar: Calendar) -> dict[str, str]:
    "By check: the level of its finding when the month is the last. `month`: lost, if it is no longer complete."
    units = store.groupby(["month", "store_id"], as_index=False).units.sum().rename(columns={"units": "quantity_sold"})
    levels = {f.check: f.level for f in check_similar_ids(store, month) + check_totals(units, month)}
    reasons, lone, _ = excluded_months(store[["store_id", "date", "lines"]].reset_index(drop=True), calendar)
    if len(lone):
        levels["dates"] = "warn"
    first, last = store[store.month <= month].date.agg(["min", "max"])
    name = f"{month:%Y-%m}"
    if name in reasons and name not in incomplete_months(first, last, calendar):
        levels["month"] = "lost"
    return levels


def find_false_alarms(
    tables: dict, months: list, calendar: Calendar, dataset: dict, largest: pd.DataFrame
) -> list[Finding]:
    "Stops and warnings on the data as it is, with each month checked as the last."
    history = build_history(tables, months[-1])
    all_months = check_all_months(tables["store"], pd.DatetimeIndex(months), calendar)
    all_months += check_large_lines(largest, tables["store"])
    findings = [f for month in months for f in check_month_data(history, month, all_months, dataset)]
    return [finding for finding in findings if finding.level != "note"]


def largest_of(db, table: str) -> pd.DataFrame:
    "The five largest lines of each store-month, as ingest writes them."
    db.con.execute(f"CREATE OR REPLACE TEMP TABLE placed AS SELECT *, 'a.csv' AS _file, NULL AS _line FROM {table}")
    return largest_lines(db.con, "placed").to_pandas(date_as_object=False)


def in_two_files(db, condition: str) -> dict:
    "What dataset.json would contain if a second file had some of the month's lines again."
    part = "SELECT *, '{}' AS _file, 0 AS _line FROM month WHERE {}"
    both = f"{part.format('a.csv', 'true')} UNION ALL {part.format('b.csv', condition)}"
    db.con.execute(f"CREATE OR REPLACE TEMP TABLE both_files AS {both}")
    return {"repeated": repeated_between_files(db.con, "both_files")}


class Source(NamedTuple):
    "The data in which faults are planted."

    tables: dict[str, pd.DataFrame]  # from `summarize_lines`
    largest: pd.DataFrame  # from `largest_of`
    db: ibis.BaseBackend  # DuckDB with a table `lines`
    calendar: Calendar
    lacks: list[str]


def choose_places(source: Source, month: pd.Timestamp, rng: np.random.Generator) -> dict:
    "Where to plant the faults of a month: store, stores, date and group (of a category or product), as text for SQL."
    tables, half_year_ago = source.tables, month - pd.DateOffset(months=6)
    store = tables["store"][tables["store"].month == month]
    older = tables["store"].store_id[tables["store"].month < half_year_ago]
    stores = sorted(set(store.store_id) & set(older))
    places = {"store": stores[rng.integers(len(stores))], "stores": stores[::3], "by": None}
    places["first"] = f"DATE '{month:%Y-%m-%d}'"
    n_stores = store.groupby("date").size()
    dates = n_stores[n_stores > 0.8 * n_stores.max()].index
    places["date"] = f"DATE '{dates[rng.integers(len(dates))]:%Y-%m-%d}'"
    for by in ("category", "product"):
        if len(tables.get(by, [])) and tables[by][by].nunique() > 1:
            months_before = tables[by][tables[by].month < month].groupby(by).size()
            names = tables[by].loc[tables[by].month == month, by]
            names = [name for name in names if months_before.get(name, 0) > 6]
            name = names[rng.integers(len(names))]
            escaped = name.replace("'", "''")
            return {**places, "by": by, "name": name, "group": f"{by} = '{escaped}'"}
    return places


def is_impossible(source: Source, fault: str, place: str, by: str | None) -> bool:
    "Can this fault not be planted in this source?"
    needs_dates = "date" in fault or "early" in fault or "week" in fault
    if source.calendar.unit == "month" and needs_dates:
        return True
    return ("price" in source.lacks and "cents" in fault) or (place == "group" and not by)


def level_of_fault(source: Source, month: pd.Timestamp, fault: str, rng: np.random.Generator) -> str | None:
    "The level at which a planted fault is found: stop, warn, note or missed; None where it is impossible."
    query, check, place = FAULTS[fault]
    places = choose_places(source, month, rng)
    if is_impossible(source, fault, place, places["by"]):
        return None
    db = source.db
    of_month = "CREATE OR REPLACE TEMP TABLE {} AS SELECT * FROM lines WHERE date_trunc('month', date) = {}"
    db.con.execute(of_month.format("month", places["first"]))
    db.con.execute(of_month.format("before", f"{places['first']} - INTERVAL 1 MONTH"))
    db.con.execute(f"CREATE OR REPLACE TEMP TABLE faulty AS {query.format(**places)}")
    now, faulty = summarize_lines(db.table("faulty"), source.lacks), {}
    for name, table in source.tables.items():
        faulty[name] = pd.concat([table[table.month < month], now[name]], ignore_index=True)
    dataset = in_two_files(db, SECOND_FILE[fault]) if fault in SECOND_FILE else {}
    before = source.largest[source.largest.month < month]
    largest = pd.concat([before, largest_of(db, "faulty")], ignore_index=True)
    all_months = check_all_months(faulty["store"], pd.DatetimeIndex([month]), source.calendar)
    all_months += check_large_lines(largest, faulty["store"])
    findings = check_month_data(build_history(faulty, month), month, all_months, dataset)
    names = {  # texts of `where` that are right
        "store": [f"store {places['store']}"],
        "group": [f"{places['by']} {places.get('name')}"],
        "date": [f"{month:%Y-%m}-", "dates"],
    }.get(place, [place])
    since = month + pd.DateOffset(months=12 if "year ago" in fault else 0)
    levels = []
    for finding in (mark_left_out(finding, since) for finding in findings):
        is_named = any(name in finding.where for name in names)
        is_listed = place == "store" and places["store"] in finding.figures.get("stores", [])
        if finding.check == check and (is_named or is_listed):
            # a fault in an older month stops nothing, and counts as found when it is left out
            levels.append("stop" if "left_out" in finding.figures else finding.level)
    return next((level for level in ("stop", "warn", "note") if level in levels), "missed")


def read_source(name: str, products: Path) -> tuple[Source, dict, list[pd.Timestamp]]:
    "A built or simulated source, its dataset.json, and its complete months."
    file = f"env.{name}.yaml" if (ROOT / f"env.{name}.yaml").exists() else "env.yaml"
    env = read_env(ROOT, file)
    with tempfile.TemporaryDirectory() as temporary:
        is_simulated = name.startswith("seed ")
        folder = simulate(int(name.removeprefix("seed ")), Path(temporary)) if is_simulated else products / name
        db = connect()
        db.con.execute(f"CREATE TABLE lines AS FROM '{folder}/ingest/sales/*.parquet'")
        dataset = read_json(next(folder.glob("**/dataset.json")))
        months = sorted(pd.to_datetime(pd.read_parquet(folder / "clean/store_month.parquet").month.unique()))
    tables = summarize_lines(db.table("lines"), env["lacks"])
    source = Source(tables, largest_of(db, "lines"), db, Calendar.model_validate(env["calendar"]), env["lacks"])
    return source, dataset, months


def measure(name: str, products: Path, n_months: int) -> tuple[dict, list[Finding]]:
    "One column of the table, and the false alarms."
    source, dataset, months = read_source(name, products)
    store = source.tables["store"]
    alarms = find_false_alarms(source.tables, months, source.calendar, dataset, source.largest)
    levels = Counter(finding.level for finding in alarms)
    column = {"false stops": f"{levels['stop']}", "false warnings": f"{levels['warn']} in {len(months)} months"}
    levels = Counter()
    for month in months:
        levels.update(check_history(store[store.month <= month], month, source.calendar).values())
    column["false, whole history"] = ", ".join(f"{levels[level]} {level}" for level in ("stop", "warn", "lost"))
    chosen = [months[i] for i in np.linspace(10, len(months) - 1, n_months).round().astype(int)]
    for fault, (plant, check) in HISTORY_FAULTS.items():
        levels = Counter()
        for month in chosen:
            found = check_history(plant(store[store.month <= month], month), month, source.calendar)
            levels.update([found.get(check, "missed"), found.get("month")])
        present = [level for level in ("stop", "warn", "missed", "lost") if levels[level]]
        column[fault] = ", ".join(f"{levels[level]} {level}" for level in present)
    rng = np.random.default_rng(0)
    for fault in FAULTS:
        found = [level_of_fault(source, month, fault, rng) for month in chosen]
        levels = Counter(level for level in found if level)
        lower = "".join(f", {levels[level]} {level}" for level in ("warn", "note") if levels[level])
        column[fault] = f"{levels['stop']} of {levels.total()}{lower}" if levels else "-"
    return column, alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", help="built sources, whose products are read")
    parser.add_argument("--seeds", type=int, default=0, help="number of simulated histories of 20 stores, 40 months")
    parser.add_argument("--months", type=int, default=3, help="months of each source that get faults (3)")
    parser.add_argument("--products", type=Path, default=ROOT / "products")
    args = parser.parse_args()
    names = args.sources + [f"seed {seed}" for seed in range(1, args.seeds + 1)]
    with ProcessPoolExecutor() as pool:
        results = pool.map(partial(measure, products=args.products, n_months=args.months), names)
        table = {}
        for name, (column, alarms) in zip(names, results, strict=True):
            table[name] = column
            for finding in alarms:
                print(f"{name}: false {finding.level}: {finding.check}: {finding.text}", flush=True)
    print(pd.DataFrame(table).to_string())


if __name__ == "__main__":
    main()
