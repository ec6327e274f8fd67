"""What one process of bench/scale.py does: create data, or turn sale lines into store-months in one of several ways.

    python bench/scale_work.py JOB '{"argument": ...}' REPORT.json

The report has the seconds until its libraries were imported (`start`) and the peak of its memory in MB (`peak`).
Only the libraries of the job are imported, so that the memory of one way is not counted for another.
"""

import json
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace

BLOCK = 1_000_000  # lines created at a time: a size of any number of lines needs the memory of so many
FIRST_DAY = "2020-01-01"
MONTHS = 60
SEED = 7
TABLE = {  # how the files of sale lines are declared, as in a source's YAML
    "name": "till",
    "date_format": "%Y-%m-%d",
    "columns": {
        "STOREID": "text",
        "DATE": "date",
        "COUNTRY": "text",
        "CITY": "text",
        "PRODUCTCATEGORY": "text",
        "PRODUCT": "text",
        "QUANTITYSOLD": "integer",
        "PRICE": "decimal",
        "WEATHER": "text?",
        "PROMOTION": "yes_no?",
        "HOLIDAY": "boolean",
    },
}
QUERY = """
SELECT STOREID AS store_id, DATE AS date, COUNTRY AS country, CITY AS city, PRODUCTCATEGORY AS category,
    PRODUCT AS product, PRICE AS price, QUANTITYSOLD AS quantity_sold, WEATHER AS weather, PROMOTION AS promotion,
    HOLIDAY AS holiday, _file, _line
FROM till
"""
CSV_TYPES = {  # the same for DuckDB's own reader
    "text": "VARCHAR",
    "text?": "VARCHAR",
    "date": "DATE",
    "integer": "BIGINT",
    "decimal": "DECIMAL(18, 6)",
    "yes_no?": "BOOLEAN",
    "boolean": "BOOLEAN",
}
WEATHER = ("Hot", "Cold", "Rainy")


# -- data


def line_blocks(lines: int, stores: int):
    "Sale lines as Arrow tables of at most a million, in random order of stores and days."
    import numpy as np
    import pyarrow as pa

    days = np.arange(FIRST_DAY, np.datetime64(FIRST_DAY[:7]) + MONTHS, dtype="datetime64[D]")
    ids = pa.array([f"S{i:05d}" for i in range(stores)])
    countries = pa.array([("USA", "Canada", "Mexico")[i % 3] for i in range(stores)])
    cities = pa.array([f"City {i % 300:03d}" for i in range(stores)])
    products = pa.array([f"{name} {i}" for name in ("Coffee", "Pastry", "Beverage", "Merchandise") for i in range(10)])
    weather = pa.array([*WEATHER, None])
    level = np.random.default_rng(SEED).lognormal(1, 0.4, stores)
    for number, start in enumerate(range(0, lines, BLOCK)):
        rng = np.random.default_rng([SEED, number])
        n = min(BLOCK, lines - start)
        store = rng.integers(0, stores, n)
        product = rng.integers(0, len(products), n)
        is_promoted = rng.random(n) < 0.2
        price = np.round(2.5 + 0.05 * (product % 10) - 0.25 * is_promoted, 2)
        yield pa.table(
            {
                "STOREID": ids.take(store),
                "DATE": pa.array(rng.choice(days, n)),
                "COUNTRY": countries.take(store),
                "CITY": cities.take(store),
                "PRODUCTCATEGORY": pa.array(["Coffee", "Pastry", "Beverage", "Merchandise"]).take(product // 10),
                "PRODUCT": products.take(product),
                "QUANTITYSOLD": pa.array(1 + rng.poisson(level[store])),
                "PRICE": pa.array(price),
                "WEATHER": weather.take(rng.choice(4, n, p=[0.35, 0.3, 0.3, 0.05])),
                "PROMOTION": pa.array(["No", "Yes"]).take(is_promoted.astype("int8")),
                "HOLIDAY": pa.array(rng.random(n) < 0.03),
            }
        )


def create_lines(folder: str, lines: int, stores: int) -> None:
    "One Parquet file, written block by block."
    import pyarrow.parquet as pq

    writer = None
    for block in line_blocks(lines, stores):
        writer = writer or pq.ParquetWriter(f"{folder}/lines.parquet", block.schema, compression="zstd")
        writer.write_table(block)
    writer.close()


def create_csv(lines: str, folder: str) -> None:
    "The same lines as one CSV file."
    import duckdb

    duckdb.execute(f"COPY (FROM '{lines}') TO '{folder}/lines.csv' (HEADER, DELIMITER ',')")


def create_days(lines: str, folder: str) -> None:
    "The same lines as one Parquet file a day."
    import duckdb

    con = duckdb.connect()
    con.execute(f"CREATE TABLE line AS FROM '{lines}' ORDER BY DATE")  # each day is then read without the others
    for (day,) in con.execute("SELECT DISTINCT DATE FROM line ORDER BY 1").fetchall():
        con.execute(f"COPY (FROM line WHERE DATE = '{day}') TO '{folder}/day_{day}.parquet' (COMPRESSION zstd)")


def create_partitions(lines: str, folder: str) -> None:
    "The same lines as `ingest` leaves them: one file a month, sorted by all columns."
    import duckdb

    names = "STOREID, DATE, COUNTRY, CITY, PRODUCTCATEGORY, PRODUCT, PRICE, QUANTITYSOLD, WEATHER, PROMOTION, HOLIDAY"
    con = duckdb.connect()
    con.execute(
        f"""CREATE VIEW line (store_id, date, country, city, category, product, price, quantity_sold, weather, promotion,
        holiday) AS SELECT {names} FROM '{lines}'"""
    )
    con.execute(
        """CREATE VIEW typed AS SELECT * REPLACE (CAST(price AS DECIMAL(18, 6)) AS price,
        CAST(quantity_sold AS DECIMAL(18, 6)) AS quantity_sold, promotion = 'Yes' AS promotion) FROM line"""
    )
    for (month,) in con.execute("SELECT DISTINCT strftime(date, '%Y-%m') FROM line ORDER BY 1").fetchall():
        con.execute(
            f"""COPY (FROM typed WHERE date BETWEEN '{month}-01' AND last_day(DATE '{month}-01') ORDER BY ALL)
            TO '{folder}/{month}.parquet' (COMPRESSION zstd)"""
        )


# -- Brewcast: the only place that calls its stages. The two functions do what the Run cells of 10_ingest and 11_clean do.


def product_paths(stage: str, folder: Path) -> SimpleNamespace:
    "Where a stage writes its products, under the names that pipeline.yaml gives them."
    from brewcast.common.params import read_env, read_stages
    from brewcast.common.paths import find_root

    root = find_root()
    (folder / stage).mkdir(parents=True, exist_ok=True)
    products = read_stages(root, read_env(root))[stage].product
    return SimpleNamespace(**{name: folder / stage / Path(path).name for name, path in products.items()})


def ingest_settings(data: str, path: str, folder: Path):
    "The settings of a source that is one table of sale lines, with Brewcast's own limits."
    from brewcast.data.ingest import IngestSettings
    from brewcast.data.source_files import ReadLimits, source_tables

    (folder / "lines.sql").write_text(QUERY)
    return IngestSettings(
        source="scale",
        data=data,
        sql=folder / "lines.sql",
        plan_sql=None,
        files=source_tables([TABLE | {"path": path}]),
        lacks=[],
        key=None,
        categories=None,
        returns=False,
        max_bad_share=0.01,
        through=None,
        same_store={},
        limits=ReadLimits(gigabytes=100, rows=1_000_000_000, minutes=120),
    )


def run_ingest(data: str, path: str, folder: Path) -> None:
    "Files to sale lines."
    from brewcast.data.ingest import collect_good_rows, read_source, write_ingested, write_quarantine

    paths = product_paths("ingest", folder)
    checked = read_source(ingest_settings(data, path, folder))
    write_quarantine(checked, paths.quarantine)
    write_ingested(collect_good_rows(checked), paths)


def run_clean(folder: Path) -> Path:
    "Sale lines to checked store-months: the Parquet file of them."
    from brewcast.common.increments import Increments, cache_folder
    from brewcast.common.parameter_types import Calendar, QualitySettings
    from brewcast.common.params import parameter_defaults
    from brewcast.common.paths import find_root
    from brewcast.data.clean import check_data, clean, read_clean_inputs, write_clean_products

    defaults = parameter_defaults(find_root())
    calendar = Calendar.model_validate(defaults["calendar"])
    quality = QualitySettings.model_validate(defaults["quality"])
    sales, plan, lineage, largest, dataset = read_clean_inputs(
        product_paths("ingest", folder), [], Increments(cache_folder())
    )
    table, report = clean(sales, [], calendar, plan, None, lineage)
    months = table.to_pandas(date_as_object=False)
    known = {"dataset": dataset, "largest": largest, "cleaned": report, "planned_ids": sorted(set(plan.store_id))}
    findings = check_data(sales, months, calendar, [], quality, **known)
    paths = product_paths("clean", folder)
    write_clean_products(table, report, findings, paths)
    return paths.store_month


def brewcast_store_months(data: str, path: str, folder: str, out: str) -> None:
    "Ingest and clean. `out` gets each store-month's quantity."
    import pyarrow.parquet as pq

    run_ingest(data, path, Path(folder))
    store_month = pq.read_table(run_clean(Path(folder)), columns=["series_id", "month", "quantity_sold"])
    pq.write_table(store_month.rename_columns(["store_id", "month", "quantity"]), out)


def brewcast_read(data: str, path: str, folder: str, out: str) -> None:
    "Read files and check the contract, without sorting or writing. `out` gets the number of good rows."
    from brewcast.data.ingest import read_source

    counts_by_table = read_source(ingest_settings(data, path, Path(folder))).counts_by_table
    rows = [counts["rows_in"] for files in counts_by_table.values() for counts in files.values()]
    Path(out).write_text(json.dumps(sum(rows)))


def brewcast_day(data: str, path: str, folder: str, out: str) -> None:
    "A day's file to store-days: `clean` needs a whole month. `out` gets the number of lines."
    from brewcast.data.clean import store_day
    from brewcast.data.partitions import open_sale_lines

    run_ingest(data, path, Path(folder))
    sales = product_paths("ingest", Path(folder)).sales
    Path(out).write_text(json.dumps(sum(store_day(open_sale_lines(sales)).to_pyarrow()["lines"].to_pylist())))


def brewcast_store_days(partitions: str, out: str) -> None:
    "The sums of clean and of the checks: each month's file to store-days. `out` gets the number of lines."
    import pyarrow.compute as pc

    from brewcast.common.increments import Increments, cache_folder
    from brewcast.data.month_sums import sum_sale_lines

    sums = sum_sale_lines(Path(partitions), [], Increments(cache_folder()))
    Path(out).write_text(json.dumps(pc.sum(sums.table("store")["lines"]).as_py()))


# -- the others


LEVELS = [("weather", f"WEATHER = '{level}'") for level in WEATHER]
LEVELS += [("promotion", "PROMOTION = 'Yes'"), ("holiday", "HOLIDAY")]
COUNTS = ", ".join(f"count(*) FILTER ({test}) AS {name}_{i}" for i, (name, test) in enumerate(LEVELS))
TWO_LEVELS = f"""
WITH day AS (
    SELECT STOREID AS store_id, DATE AS date, min(COUNTRY) AS country, min(CITY) AS city,
        sum(QUANTITYSOLD) AS quantity, sum(CAST(round(PRICE * 100) AS BIGINT)) AS cents, count(PRICE) AS priced,
        count(*) AS lines, {COUNTS}
    FROM '{{lines}}' GROUP BY ALL)
SELECT store_id, CAST(date_trunc('month', date) AS DATE) AS month, CAST(sum(quantity) AS DOUBLE) AS quantity,
    sum(cents) / 100 / sum(priced) AS price, avg(CAST(isodow(date) >= 6 AS INTEGER)) AS is_weekend,
    count(*) AS trading_days, sum(lines) AS lines, avg(CAST(promotion_3 * 2 > lines AS INTEGER)) AS promotion_share,
    arg_max(holiday_4 * 2 > lines, date) AS holiday, max(country) AS country, max(city) AS city,
    arg_max(CASE greatest(weather_0, weather_1, weather_2) WHEN weather_0 THEN 'Hot' WHEN weather_1 THEN 'Cold'
        ELSE 'Rainy' END, date) AS weather
FROM day GROUP BY ALL ORDER BY store_id, month
"""


def duckdb_store_months(data: str, path: str, out: str) -> None:
    "DuckDB alone, no checks: store-days with counters only, then store-months."
    import duckdb

    con = duckdb.connect()
    con.execute("SET enable_progress_bar = false")
    con.execute(f"COPY ({TWO_LEVELS.format(lines=f'{data}/{path}')}) TO '{out}' (COMPRESSION zstd)")


def polars_store_months(data: str, path: str, out: str) -> None:
    "Polars alone, no checks, in the same two steps."
    import polars as pl

    counts = {level: (pl.col("WEATHER") == level).sum() for level in WEATHER}
    day = (
        pl.scan_parquet(f"{data}/{path}")
        .group_by("STOREID", "DATE")
        .agg(
            pl.col("COUNTRY", "CITY").min(),
            pl.col("QUANTITYSOLD").sum(),
            cents=(pl.col("PRICE") * 100).round().cast(pl.Int64).sum(),
            priced=pl.col("PRICE").count(),
            lines=pl.len(),
            promoted=(pl.col("PROMOTION") == "Yes").sum(),
            holidays=pl.col("HOLIDAY").sum(),
            **counts,
        )
        .with_columns(
            month=pl.col("DATE").dt.truncate("1mo"),
            is_promoted=pl.col("promoted") * 2 > pl.col("lines"),
            is_holiday=pl.col("holidays") * 2 > pl.col("lines"),
            weather=pl.concat_list(WEATHER).list.arg_max(),
        )
    )
    month = day.group_by("STOREID", "month").agg(
        pl.col("QUANTITYSOLD").sum().cast(pl.Float64).alias("quantity"),
        pl.col("lines").sum(),
        pl.col("COUNTRY", "CITY").first(),
        pl.col("is_promoted").mean(),
        pl.col("is_holiday", "weather").sort_by("DATE").last(),
        price=pl.col("cents").sum() / 100 / pl.col("priced").sum(),
        is_weekend=(pl.col("DATE").dt.weekday() >= 6).mean(),
        trading_days=pl.len(),
    )
    month.rename({"STOREID": "store_id"}).sort("store_id", "month").collect(engine="streaming").write_parquet(out)


def pandas_store_months(data: str, path: str, out: str) -> None:
    "The script that most people would write first: no checks, everything in memory."
    import pandas as pd

    lines = pd.read_parquet(f"{data}/{path}")
    lines["DATE"] = pd.to_datetime(lines["DATE"])
    lines["month"] = lines["DATE"].dt.to_period("M").dt.to_timestamp()
    lines["is_weekend"] = lines["DATE"].dt.dayofweek >= 5
    lines["is_promoted"] = lines["PROMOTION"] == "Yes"
    table = (
        lines.sort_values("DATE", kind="stable")
        .groupby(["STOREID", "month"])
        .agg(
            quantity=("QUANTITYSOLD", "sum"),
            price=("PRICE", "mean"),
            is_weekend=("is_weekend", "mean"),
            promotion_share=("is_promoted", "mean"),
            trading_days=("DATE", "nunique"),
            lines=("DATE", "size"),
            country=("COUNTRY", "last"),
            city=("CITY", "last"),
            weather=("WEATHER", "last"),
            holiday=("HOLIDAY", "last"),
        )
    )
    table.reset_index().rename(columns={"STOREID": "store_id"}).to_parquet(out)


def duckdb_read(data: str, path: str, out: str) -> None:
    "DuckDB's own CSV reader with declared types, into a table. `out` gets the number of rows."
    import duckdb

    con = duckdb.connect()
    con.execute("SET enable_progress_bar = false")
    types = {name: CSV_TYPES[kind] for name, kind in TABLE["columns"].items()} | {"PROMOTION": "VARCHAR"}
    reader = f"read_csv('{data}/{path}', columns = {types}, header = true, auto_detect = false)"
    (count,) = con.execute(f"CREATE TABLE line AS SELECT * FROM {reader}").fetchone()
    Path(out).write_text(json.dumps(count))


def duckdb_scan(partitions: str, out: str) -> None:
    "Read the columns that the aggregation needs, and no more. `out` gets the number of lines."
    import duckdb

    names = ("store_id", "date", "country", "city", "quantity_sold", "price", "weather", "promotion", "holiday")
    tops = ", ".join(f"max({name})" for name in names)
    con = duckdb.connect()
    con.execute("SET enable_progress_bar = false")
    count, *_ = con.execute(f"SELECT count(*), {tops} FROM '{partitions}/*.parquet'").fetchone()
    Path(out).write_text(json.dumps(count))


# -- what all have in common


def compare_quantities(files: list[str]) -> None:
    "Raise ValueError unless all files have the same quantity in the same store-months."
    import duckdb

    first, *others = files
    for other in others:
        same = "SELECT store_id, CAST(month AS DATE) AS month, CAST(quantity AS DOUBLE) AS quantity FROM '{}'"
        sides = same.format(first), same.format(other)
        question = "SELECT count(*) FROM (({0}) EXCEPT ALL ({1}))"
        differing = [duckdb.execute(question.format(*pair)).fetchone()[0] for pair in (sides, sides[::-1])]
        if any(differing):
            raise ValueError(f"{Path(first).stem} and {Path(other).stem} differ in {max(differing)} store-months")


JOBS = {
    job.__name__: job
    for job in (
        create_lines,
        create_csv,
        create_days,
        create_partitions,
        brewcast_store_months,
        brewcast_read,
        brewcast_day,
        brewcast_store_days,
        duckdb_store_months,
        duckdb_read,
        duckdb_scan,
        polars_store_months,
        pandas_store_months,
        compare_quantities,
    )
}
LIBRARIES = {  # imported before the clock of the work starts
    "brewcast": ("brewcast.data.ingest", "brewcast.data.clean", "brewcast.data.partitions"),
    "duckdb": ("duckdb",),
    "polars": ("polars",),
    "pandas": ("pandas", "pyarrow.parquet"),
}


def peak_memory() -> float:
    "The largest memory of this process so far, in MB."
    status = Path("/proc/self/status")
    if status.exists():  # Linux: `ru_maxrss` would begin with the memory of the process that started this one
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    "Run the job of the command line."
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    start = time.monotonic()
    for library in LIBRARIES.get(name.split("_")[0], ()):
        __import__(library)
    imported = time.monotonic() - start
    JOBS[name](**arguments)
    Path(sys.argv[3]).write_text(json.dumps({"start": round(imported, 3), "peak": round(peak_memory(), 1)}))


if __name__ == "__main__":
    main()
