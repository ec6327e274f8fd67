"""How often the checks of a month's data are wrong: alarms on data that nobody harmed, and harm that is not found.

    make run SOURCE=walmart DATA=../shared/data/walmart        (and so on, for each source)
    .venv/bin/python bench/quality.py walmart maven_market dominicks_oj --seeds 5

Every month of each source is judged as it would have been when it was the last: whatever is said of unharmed data is a
false alarm. Then single months, spread over the history, are harmed in twenty ways each. A harm is found when a stop
of the right check names the right place (or, in an older month, leaves it out); `warned` counts those that were only warned of.
Mistakes in the whole history (ids that lost their zeros, a Total, a line dated ahead) are planted beside; a month is lost
that is no more taken for whole.
"""

import argparse
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from brewcast.common.contracts import connect
from brewcast.common.core import read_json
from brewcast.common.params import read_env
from brewcast.data.clean import clean, excluded_months, incomplete_months
from brewcast.data.ingest import Query, ingest, largest_lines, repeated_between_files
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

ROOT = Path(__file__).resolve().parent.parent
EVERY = "SELECT * REPLACE ({}) FROM month"
ONE, SOME = "store_id = '{store}'", "list_contains({stores}, store_id)"  # one store; a third of them
FEW = "extract('day' FROM date) BETWEEN 8 AND 14"  # a week of the month
JITTER = "quantity_sold * (0.9 + 0.2 * (hash(rowid) % 1000) / 1000)"  # another till's lines are no exact repeats
HARMS = {  # name: (the harmed month's lines, the check that must tell, where)
    "cents, all stores": (EVERY.format("price * 100 AS price"), "unit_shift", "all stores"),
    "cents, a store": (
        EVERY.format(f"CASE WHEN {ONE} THEN price * 100 ELSE price END AS price"),
        "unit_shift",
        "store",
    ),
    "cents, a group": (
        EVERY.format("CASE WHEN {group} THEN price * 100 ELSE price END AS price"),
        "unit_shift",
        "group",
    ),
    "cases of 12, all stores": (EVERY.format("quantity_sold / 12 AS quantity_sold"), "unit_shift", "all stores"),
    "packs of 6, a store": (
        EVERY.format(f"CASE WHEN {ONE} THEN quantity_sold / 6 ELSE quantity_sold END AS quantity_sold"),
        "unit_shift",
        "store",
    ),
    "pieces for cases of 24, a group": (
        EVERY.format("CASE WHEN {group} THEN quantity_sold * 24 ELSE quantity_sold END AS quantity_sold"),
        "unit_shift",
        "group",
    ),
    "a store's lines twice": (f"SELECT * FROM month UNION ALL SELECT * FROM month WHERE {ONE}", "duplicates", "store"),
    "a week's lines twice": (f"SELECT * FROM month UNION ALL SELECT * FROM month WHERE {FEW}", "duplicates", "date"),
    "a month's lines twice": ("SELECT * FROM month UNION ALL SELECT * FROM month", "duplicates", ""),
    "an earlier month again": (
        "SELECT * REPLACE (({first} + (extract('day' FROM date) - 1)::INTEGER)::DATE AS date) FROM before "
        "WHERE extract('day' FROM date) <= extract('day' FROM last_day({first}))",
        "duplicates",
        "all stores",
    ),
    "a second till, a store": (
        f"SELECT * FROM month UNION ALL SELECT * REPLACE ({JITTER} AS quantity_sold) FROM "
        f"(SELECT *, row_number() OVER () AS rowid FROM month WHERE {ONE})".replace(
            "SELECT * REPLACE", "SELECT * EXCLUDE (rowid) REPLACE"
        ),
        "volume",
        "store",
    ),
    "a store is missing": (f"SELECT * FROM month WHERE NOT {ONE}", "completeness", "store"),
    "a third of the stores are missing": (f"SELECT * FROM month WHERE NOT {SOME}", "completeness", "stores"),
    "a third end two weeks early": (
        f"SELECT * FROM month WHERE NOT ({SOME} AND date > last_day(date) - 14)",
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
        f"SELECT * FROM month UNION ALL (SELECT * REPLACE ((SELECT sum(quantity_sold) FROM month WHERE {ONE}) AS quantity_sold) "
        f"FROM month WHERE {ONE} ORDER BY ALL LIMIT 1)",
        "large_line",
        "store",
    ),
    "two files have the same week": (
        f"SELECT * FROM month UNION ALL SELECT * FROM month WHERE {FEW}",
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
SECOND_FILE = {name: FEW if "week" in name else "true" for name in HARMS if name.startswith("two files")}


def simulated(seed: int, folder: Path) -> Path:
    "The products of a small simulated source, as a build makes them."
    env = read_env(ROOT, "env.yaml")
    write_export(folder / "data", seed, months=40, stores=20, lines=100_000)
    names = ("sales", "lineage", "largest", "plan", "quarantine")
    gives = SimpleNamespace(
        **{name: folder / f"ingest/{name}.parquet" for name in names}, dataset=folder / "dataset.json"
    )
    gives.sales.parent.mkdir()
    keys = "source sql plan_sql files lacks key categories returns max_bad_share".split()
    ingest(data=folder / "data", **{key: env[key] for key in keys}, product_paths=gives)
    kept, _ = clean(connect().read_parquet(gives.sales), env["lacks"], env["calendar"])
    (folder / "clean").mkdir()
    pd.DataFrame({"month": kept["month"].to_pylist()}).to_parquet(folder / "clean/store_month.parquet")
    return folder


def renamed(store: pd.DataFrame, month: pd.Timestamp) -> pd.DataFrame:
    "Every store's number had a zero more before the month."
    return store.assign(
        store_id=store.store_id.where(store.month >= month, store.store_id.str.replace(r"(\d+)$", r"0\1", regex=True))
    )


def with_total(store: pd.DataFrame, month: pd.Timestamp) -> pd.DataFrame:
    "The export has a line more a date: the sum of all."
    sums = store.groupby(["date", "month"], as_index=False)[["units", "lines"]].sum()
    return pd.concat([store, sums.assign(store_id="Total")], ignore_index=True)


def with_ahead(store: pd.DataFrame, month: pd.Timestamp) -> pd.DataFrame:
    "A line of a store is dated in the second month after the last."
    date = month + pd.DateOffset(months=2, days=14)
    row = store.tail(1).assign(date=date, month=date.replace(day=1), lines=1)
    return pd.concat([store, row], ignore_index=True)


WHO = {  # mistakes in the whole history: what is done, the check that must tell
    "ids lose their zeros": (renamed, "ids"),
    "a Total among the stores": (with_total, "total"),
    "a line dated ahead": (with_ahead, "dates"),
}


def who_is_who(store: pd.DataFrame, month: pd.Timestamp, calendar: dict) -> dict[str, str]:
    "By check: the level of what is said when the month is the last, and whether it is still taken for whole."
    units = store.groupby(["month", "store_id"], as_index=False).units.sum().rename(columns={"units": "quantity_sold"})
    told = {f["check"]: f["level"] for f in check_similar_ids(store, month) + check_totals(units, month)}
    left_out, alone, _ = excluded_months(store[["store_id", "date", "lines"]].reset_index(drop=True), calendar)
    ends = store[store.month <= month].date.agg(["min", "max"])  # what the source's first and last date alone would say
    lost = {f"{month:%Y-%m}"} & set(left_out) - set(incomplete_months(*ends, calendar))
    return told | ({"dates": "warn"} if len(alone) else {}) | ({"month": "lost"} if lost else {})


def alarms(tables: dict, months: list, calendar: dict, dataset: dict, largest: pd.DataFrame) -> list[dict]:
    "Stops and warns on the data as it is, each month judged as the last."
    past, told = (
        build_history(tables, months[-1]),
        check_all_months(tables["store"], pd.DatetimeIndex(months), calendar),
    )
    told += check_large_lines(largest, tables["store"])
    judged = (check_month_data(past, month, told, dataset) for month in months)
    return [found for of_month in judged for found in of_month if found["level"] != "note"]


def largest_of(db, table: str) -> pd.DataFrame:
    "As ingest gives them."
    db.con.execute(
        f"CREATE OR REPLACE TEMP TABLE _judged_lines AS SELECT *, 0 AS _file, 0 AS _line, NULL AS _reason FROM {table}"
    )
    return largest_lines(db.con, [Query(Path("lines.sql"), "lines", [])], {"a.csv": "till"}).to_pandas(
        date_as_object=False
    )


def in_two_files(db, second: str) -> dict:
    "What ingest would say of the month's lines if a second file had some of them again."
    part = "SELECT *, '{}' AS _file, 0 AS _line, NULL AS _column, NULL AS _reason FROM month WHERE {}"
    both = f"{part.format('a.csv', 'true')} UNION ALL {part.format('b.csv', second)}"
    db.con.execute(f"CREATE OR REPLACE TEMP TABLE _judged_files AS {both}")
    return {"repeated": repeated_between_files(db.con, Query(Path("lines.sql"), "files", ["till"]))}


def found_of(
    tables: dict, largest: pd.DataFrame, db, month, harm: str, calendar: dict, lacks: list, choose
) -> str | None:
    "What is said of one harm in one month: stop, warn, missed, or None where it cannot be done to this source."
    query, check, place = HARMS[harm]
    store = tables["store"][tables["store"].month == month]
    stores = sorted(
        set(store.store_id) & set(tables["store"][tables["store"].month < month - pd.DateOffset(months=6)].store_id)
    )
    by = next((by for by in ("category", "product") if len(tables.get(by, [])) and tables[by][by].nunique() > 1), None)
    names = {"store": stores[choose.integers(len(stores))], "stores": stores[::3], "first": f"DATE '{month:%Y-%m-%d}'"}
    usual = store.groupby("date").size().loc[lambda n: n > 0.8 * n.max()].index
    names["date"] = f"DATE '{usual[choose.integers(len(usual))]:%Y-%m-%d}'"
    if by:
        was = tables[by][tables[by].month < month].groupby(by).lines.agg(["size", "min"])
        known = [
            name
            for name in tables[by].loc[tables[by].month == month, by]
            if name in was.index and was["size"][name] > 6
        ]
        names["name"] = known[choose.integers(len(known))]
        names["group"] = f"{by} = '" + names["name"].replace("'", "''") + "'"
    impossible = ("price" in lacks and "cents" in harm, place == "group" and not by)
    timeless = calendar["unit"] == "month" and ("date" in harm or "early" in harm or "week" in harm)
    if any(impossible) or timeless:
        return None
    db.con.execute(
        f"CREATE OR REPLACE TEMP TABLE month AS SELECT * FROM lines WHERE date_trunc('month', date) = '{month:%Y-%m-%d}'"
    )
    db.con.execute(
        f"CREATE OR REPLACE TEMP TABLE before AS SELECT * FROM lines WHERE date_trunc('month', date) = DATE '{month:%Y-%m-%d}' - INTERVAL 1 MONTH"
    )
    db.con.execute(f"CREATE OR REPLACE TEMP TABLE harmed AS {query.format(**names)}")
    now = summarize_lines(db.table("harmed"), lacks)
    harmed = {
        name: pd.concat([table[table.month < month], now[name]], ignore_index=True) for name, table in tables.items()
    }
    right = {
        "store": f"store {names['store']}",
        "group": f"{by} {names.get('name')}",
        "date": (f"{month:%Y-%m}-", "dates"),
    }
    where = right.get(place, place)
    dataset = in_two_files(db, SECOND_FILE[harm]) if harm in SECOND_FILE else {}
    rows = pd.concat([largest[largest.month < month], largest_of(db, "harmed")], ignore_index=True)
    told = check_all_months(harmed["store"], pd.DatetimeIndex([month]), calendar) + check_large_lines(
        rows, harmed["store"]
    )
    found = check_month_data(build_history(harmed, month), month, told, dataset)
    since = month + pd.DateOffset(months=12 if "year ago" in harm else 0)
    told = [
        "stop" if "left_out" in f["figures"] else f["level"]  # in an older month it is left out, and stops nothing
        for f in (mark_left_out(f, since) for f in found)
        if f["check"] == check
        and (
            any(w in f["where"] for w in ([where] if isinstance(where, str) else where))
            or place == "store"
            and names["store"] in f["figures"].get("stores", [])
        )
    ]
    return next((level for level in ("stop", "warn", "note") if level in told), "missed")


def measure(source: str, products: Path, months: int) -> tuple[dict, list[dict]]:
    "One column of the table, and the false alarms."
    env = read_env(ROOT, f"env.{source}.yaml" if (ROOT / f"env.{source}.yaml").exists() else "env.yaml")
    with tempfile.TemporaryDirectory() as temporary:
        seeded = source.startswith("seed ")
        place = simulated(int(source.removeprefix("seed ")), Path(temporary)) if seeded else products / source
        db, calendar, lacks = connect(), env["calendar"], env["lacks"]
        db.con.execute(f"CREATE TABLE lines AS FROM '{place}/ingest/sales.parquet'")
        dataset = read_json(next(place.glob("**/dataset.json")))
        every = sorted(pd.to_datetime(pd.read_parquet(place / "clean/store_month.parquet").month.unique()))
    tables, largest = summarize_lines(db.table("lines"), lacks), largest_of(db, "lines")
    said = alarms(tables, every, calendar, dataset, largest)
    levels = Counter(found["level"] for found in said)
    column = {"false stops": f"{levels['stop']}", "false warns": f"{levels['warn']} in {len(every)} months"}
    harmed = [every[i] for i in np.linspace(10, len(every) - 1, months).round().astype(int)]
    upto = lambda month: tables["store"][tables["store"].month <= month]  # noqa: E731
    said_of = Counter(level for month in every for level in who_is_who(upto(month), month, calendar).values())
    column["false, who is who"] = ", ".join(f"{said_of[level]} {level}" for level in ("stop", "warn", "lost"))
    for name, (plant, check) in WHO.items():
        told = [who_is_who(plant(upto(month), month), month, calendar) for month in harmed]
        found = Counter(level for levels in told for level in (levels.get(check, "missed"), levels.get("month")))
        column[name] = ", ".join(
            f"{found[level]} {level}" for level in ("stop", "warn", "missed", "lost") if found[level]
        )
    choose = np.random.default_rng(0)
    for harm in HARMS:
        told = [found_of(tables, largest, db, month, harm, calendar, lacks, choose) for month in harmed]
        told = Counter(t for t in told if t)
        more = "".join(f", {told[level]} {level}" for level in ("warn", "note") if told[level])
        column[harm] = f"{told['stop']} of {told.total()}{more}" if told else "-"
    return column, said


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("sources", nargs="*", help="built sources; their products are read")
    asked.add_argument("--seeds", type=int, default=0, help="also so many simulated histories of 20 stores, 40 months")
    asked.add_argument("--months", type=int, default=3, help="months of each source that are harmed (3)")
    asked.add_argument("--products", type=Path, default=ROOT / "products")
    given = asked.parse_args()
    names = given.sources + [f"seed {seed}" for seed in range(1, given.seeds + 1)]
    with ProcessPoolExecutor() as pool:
        measured = pool.map(partial(measure, products=given.products, months=given.months), names)
        table = {}
        for name, (column, said) in zip(names, measured, strict=True):
            table[name] = column
            for found in said:
                print(f"{name}: false {found['level']}: {found['check']}: {found['text']}", flush=True)
    print(pd.DataFrame(table).to_string())


if __name__ == "__main__":
    main()
