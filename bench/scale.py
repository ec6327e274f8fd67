"""How time and memory grow with the number of sale lines: Brewcast beside DuckDB, polars and pandas, in one run.

    .venv/bin/python bench/scale.py [--full] [--only store_months csv one_more_day aggregation] [--lines 100000 1000000]
        [--repeat 3] [--out scratch/scale.json] [--picture docs/pages/images/scale.png] [--from scratch/scale.json]

store_months   a Parquet file of sale lines to store-months: ingest and clean with all their checks; DuckDB, polars and pandas
               compute store-months only. All have the same quantities, or the run fails.
csv            a CSV file: reading and the contract's checks; DuckDB only reads it with declared types
one_more_day   sixty months of daily files of which all but the last are known: one more day; everything again; and a source of
               that day alone, from its file to store-days (clean needs a whole month)
aggregation    the month partitions to the sums of clean and its checks; DuckDB only reads the same columns

Each run is a process of its own, from its start to its end; contestants take turns. `start` is the part of the wall seconds
in which libraries are imported, `peak` the largest memory of the process. `others` is the CPU time of other processes
meanwhile: where it was a tenth of the machine or more, the wall seconds have a star. BREWCAST_MEMORY and
BREWCAST_THREADS count as in a build.

Data is created in a temporary folder (--folder: kept there, and used again): 40 MB of Parquet and, for CSV, 90 MB for each
million lines. --full goes to 100 million lines, CSV and daily files to 10 million. Polars is measured if this environment has
it, or scratch/polars:  python3 -m venv scratch/polars && scratch/polars/bin/pip install polars
"""

import argparse
import importlib.util
import io
import json
import math
import os
import platform
import shutil
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import psutil
from measure import adopt_orphans, in_turns, measured

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "bench" / "scale_work.py"
POLARS = ROOT / "scratch" / "polars" / "bin" / "python"
SIZES = (100_000, 1_000_000, 3_000_000, 10_000_000)
FULL_SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000)
MOST_LINES = {"csv": 10_000_000, "one_more_day": 10_000_000}
MOST_STORES = 1000
LINES_PER_STORE = 10_000  # in sixty months: a small size has fewer stores, not stores that sell nothing
FIGURES = {"cpu": "CPU seconds", "peak": "MB of memory at the peak"}
NAMES = {
    "brewcast": "Brewcast",
    "duckdb": "DuckDB alone",
    "polars": "polars alone",
    "pandas": "pandas script",
    "one more day": "one more day",
    "that day alone": "that day alone",
    "everything": "everything again",
}
TITLES = {
    "store_months": "Parquet to store-months",
    "csv": "CSV: read and check",
    "one_more_day": "One more day after sixty months of daily files",
    "aggregation": "Month partitions to store-days",
}


# -- processes


def polars_python() -> Path | None:
    "A Python that has polars."
    if importlib.util.find_spec("polars"):
        return Path(sys.executable)
    return POLARS if POLARS.exists() else None


def environment(cache: Path) -> dict[str, str]:
    "The variables of each process. Increments are cached in this folder only."
    return {**os.environ, "PYTHONPATH": str(ROOT), "BREWCAST_ROOT": str(ROOT), "BREWCAST_CACHE": str(cache)}


def run_job(name: str, cache: Path, python: Path = Path(sys.executable), **arguments) -> dict[str, float]:
    "Run one job in a process of its own: seconds (wall, cpu, others, start) and MB (peak)."
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        words = {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()}
        command = [python, WORK, name, json.dumps(words), report.name]
        figures = measured(command, ROOT, environment(cache))
        return figures | json.load(report)


# -- the four comparisons: functions that run one contestant, by its name


def new_folder(parent: Path) -> Path:
    "An empty folder for the products and the cache of one run."
    return Path(tempfile.mkdtemp(dir=parent))


def brewcast_run(
    parent: Path, data: Path, path: str, out: Path, known: Path | None = None, job: str = "brewcast_store_months"
) -> dict[str, float]:
    "A job of the stages in a new folder, with an empty cache or a copy of a known one."
    folder = new_folder(parent)
    try:
        if known:
            shutil.copytree(known, folder / "cache")
        arguments = {"data": data, "path": path, "folder": folder, "out": out}
        return run_job(job, folder / "cache", **arguments)
    finally:
        shutil.rmtree(folder)


def store_months(parent: Path) -> tuple[dict, list[Path]]:
    "Contestants, and the files that must have the same quantities."
    outs = {name: parent / f"{name}.parquet" for name in ("brewcast", "duckdb", "polars", "pandas")}
    same = {"data": parent, "path": "lines.parquet"}
    contestants = {
        "brewcast": lambda: brewcast_run(parent, parent, "lines.parquet", outs["brewcast"]),
        "duckdb": lambda: run_job("duckdb_store_months", parent, **same, out=outs["duckdb"]),
        "pandas": lambda: run_job("pandas_store_months", parent, **same, out=outs["pandas"]),
    }
    if python := polars_python():
        contestants["polars"] = lambda: run_job("polars_store_months", parent, python, **same, out=outs["polars"])
    return contestants, [outs[name] for name in contestants]


def csv(parent: Path) -> tuple[dict, list[Path]]:
    "Contestants; what they must agree on is the number of rows."
    if not (parent / "lines.csv").exists():
        run_job("create_csv", parent, lines=parent / "lines.parquet", folder=parent)
    outs = {name: parent / f"csv {name}.json" for name in ("brewcast", "duckdb")}
    return {
        "brewcast": lambda: brewcast_run(parent, parent, "lines.csv", outs["brewcast"], job="brewcast_read"),
        "duckdb": lambda: run_job("duckdb_read", parent, data=parent, path="lines.csv", out=outs["duckdb"]),
    }, [*outs.values()]


def one_more_day(parent: Path) -> tuple[dict, list[Path]]:
    "Contestants; one more day must give what everything gives."
    days, last, known = parent / "days", parent / "last day", parent / "known cache"
    if not days.exists():
        days.mkdir()
        run_job("create_days", parent, lines=parent / "lines.parquet", folder=days)
    last.mkdir(exist_ok=True)
    *_, last_day = sorted(days.glob("*.parquet"))
    outs = {name: parent / f"{name}.parquet" for name in ("one more day", "that day alone", "everything")}
    if not known.exists():  # what the build of the day before has left
        before = parent / "days before"
        shutil.copytree(days, before, copy_function=os.link, dirs_exist_ok=True)
        (before / last_day.name).unlink(missing_ok=True)
        folder = new_folder(parent)
        arguments = {"data": before, "path": "*.parquet", "folder": folder, "out": parent / "before.parquet"}
        run_job("brewcast_store_months", known, **arguments)
        shutil.rmtree(folder)
        known.mkdir(exist_ok=True)  # a build may leave no increments
    shutil.copy(last_day, last)
    return {
        "one more day": lambda: brewcast_run(parent, days, "*.parquet", outs["one more day"], known),
        "that day alone": lambda: brewcast_run(parent, last, "*.parquet", outs["that day alone"], job="brewcast_day"),
        "everything": lambda: brewcast_run(parent, days, "*.parquet", outs["everything"]),
    }, [outs["one more day"], outs["everything"]]


def aggregation(parent: Path) -> tuple[dict, list[Path]]:
    "Contestants; what they must agree on is the number of lines."
    partitions = parent / "partitions"
    if not partitions.exists():
        partitions.mkdir()
        run_job("create_partitions", parent, lines=parent / "lines.parquet", folder=partitions)
    outs = {name: parent / f"aggregation {name}.json" for name in ("brewcast", "duckdb")}

    def brewcast():
        cache = new_folder(parent)
        try:
            return run_job("brewcast_store_days", cache, partitions=partitions, out=outs["brewcast"])
        finally:
            shutil.rmtree(cache)

    return {
        "brewcast": brewcast,
        "duckdb": lambda: run_job("duckdb_scan", parent, partitions=partitions, out=outs["duckdb"]),
    }, [*outs.values()]


COMPARISONS = {each.__name__: each for each in (store_months, csv, one_more_day, aggregation)}


def check_agreement(files: list[Path], parent: Path) -> None:
    "Raise RuntimeError or ValueError if the contestants' results differ."
    made = [path for path in files if path.exists()]
    if all(path.suffix == ".parquet" for path in made):
        run_job("compare_quantities", parent, files=[str(path) for path in made])
    elif len({path.read_text() for path in made}) > 1:
        raise ValueError(f"the numbers of rows differ: { {path.stem: path.read_text() for path in made} }")


# -- what is shown


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    "The middle run's figures; the memory is the largest."
    found = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    return found | {"peak": max(run["peak"] for run in runs), "runs": len(runs)}


def size_text(lines: int) -> str:
    "100 thousand, 3 million."
    return f"{lines // 10**6} million" if lines >= 10**6 else f"{lines // 1000} thousand"


def result_table(results: list[dict]) -> str:
    "Markdown, one table for each comparison."
    text = []
    for comparison, title in TITLES.items():
        rows = [row for row in results if row["comparison"] == comparison]
        if rows:
            text += [
                f"\n### {title}\n",
                "| lines | | wall s | of it start | CPU s | peak MB |",
                "|--:|---|--:|--:|--:|--:|",
            ]
        for row in rows:
            name, lines = NAMES[row["name"]], size_text(row["lines"])
            if "failed" in row:
                text.append(f"| {lines} | {name} | {row['failed']} | | | |")
                continue
            is_disturbed = row["others"] > 0.1 * os.cpu_count() * row["wall"]
            wall = f"{row['wall']:.2f}" + " \\*" * is_disturbed
            text.append(f"| {lines} | {name} | {wall} | {row['start']:.2f} | {row['cpu']:.2f} | {row['peak']:.0f} |")
    return "\n".join(text)


def set_powers(axis, low: float, high: float) -> None:
    "Powers of ten on an axis of decimal logarithms: the names of lines are placed on a linear scale."
    powers = range(math.floor(low), max(math.ceil(high), math.floor(low) + 1) + 1)
    texts = [f"{10.0**power:,.10g}" for power in powers]
    axis.set_yticks([*powers], texts)
    axis.set_ylim(powers[0], powers[-1])


def draw(results: list[dict], path: Path) -> None:
    "CPU time and memory of each way to store-months, against the number of lines."
    sys.path.insert(0, str(ROOT))  # imported here: a process that this one starts has its memory at first
    from PIL import Image

    from brewcast.common.charts import (
        LINE_COLORS,
        NEUTRAL_COLOR,
        Margins,
        create_figure,
        label_lines,
        name_axis,
        png_bytes,
    )

    rows = [row for row in results if row["comparison"] == "store_months" and "failed" not in row]
    names = [name for name in NAMES if any(row["name"] == name for row in rows)]
    colors = dict(zip(names, [LINE_COLORS[0], NEUTRAL_COLOR, *LINE_COLORS[1:]], strict=False))
    title = "From sale lines to store-months"
    figure, axes = create_figure(title, rows=2, height=2.1, margins=Margins(left=0.75, right=1.35))
    for axis, (key, unit) in zip(axes, FIGURES.items(), strict=True):
        ends, values = {}, []
        for name in names:
            points = sorted((math.log10(row["lines"]), math.log10(row[key])) for row in rows if row["name"] == name)
            axis.plot(*zip(*points, strict=True), color=colors[name], linewidth=2, marker="o", markersize=4)
            ends[NAMES[name]] = (points[-1][1], colors[name])
            values += [y for _, y in points]
        sizes = sorted({row["lines"] for row in rows})
        axis.set_xticks([math.log10(lines) for lines in sizes], [f"{lines / 1e6:g}M" for lines in sizes])
        set_powers(axis, min(values), max(values))
        name_axis(axis, unit)
        label_lines(axis, ends)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(png_bytes(figure))).convert("RGB")
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)  # a palette makes the file much smaller


# -- the run


def measure(comparison: str, lines: int, parent: Path, repeat: int) -> list[dict]:
    "All contestants of one comparison at one size."
    print(f"{TITLES[comparison]}, {size_text(lines)} lines", file=sys.stderr, flush=True)
    contestants, files = COMPARISONS[comparison](parent)
    for path in files:
        path.unlink(missing_ok=True)
    runs = in_turns(contestants, repeat)
    check_agreement(files, parent)
    figures = {
        name: {"failed": own.rpartition(" / ")[2]} if isinstance(own, str) else medians(own)
        for name, own in runs.items()
    }
    return [{"comparison": comparison, "lines": lines, "name": name, **own} for name, own in figures.items()]


def measure_all(args: argparse.Namespace, folder: Path) -> list[dict]:
    "Every comparison at every size. Temporary data of a size is deleted before the next one is created."
    results = []
    for lines in args.lines or (FULL_SIZES if args.full else SIZES):
        parent = folder / f"{lines} lines"
        parent.mkdir(parents=True, exist_ok=True)
        stores = min(MOST_STORES, max(1, lines // LINES_PER_STORE))
        if not (parent / "lines.parquet").exists():
            print(f"creating {size_text(lines)} lines of {stores} stores", file=sys.stderr, flush=True)
            run_job("create_lines", parent, folder=parent, lines=lines, stores=stores)
        for comparison in args.only:
            if lines <= MOST_LINES.get(comparison, lines):
                results += measure(comparison, lines, parent, args.repeat)
        if not args.folder:
            shutil.rmtree(parent)
    return results


def machine() -> dict[str, object]:
    "What the figures depend on."
    names = ("brewcast", "duckdb", "pandas", "polars", "pyarrow")
    versions = {name: version(name) for name in names if importlib.util.find_spec(name)}
    settings = {name: os.environ.get(name) for name in ("BREWCAST_MEMORY", "BREWCAST_THREADS")}
    memory = round(psutil.virtual_memory().total / 1e9, 1)
    about = {"cores": os.cpu_count(), "memory_gb": memory, "platform": platform.platform()}
    return about | {"python": platform.python_version(), "versions": versions, "settings": settings}


def main() -> int:  # exit status
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=[*COMPARISONS])
    parser.add_argument("--lines", nargs="+", type=int, help="sizes; default 100 thousand to 10 million")
    parser.add_argument("--full", action="store_true", help="100 thousand to 100 million lines")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where data is created, kept and used again")
    parser.add_argument("--out", type=Path, default=ROOT / "scratch" / "scale.json")
    parser.add_argument("--picture", type=Path, help="draw the PNG file, too")
    parser.add_argument("--from", dest="earlier", type=Path, help="show and draw an earlier --out; measure nothing")
    args = parser.parse_args()
    if args.earlier:
        content = json.loads(args.earlier.read_text())
    else:
        adopt_orphans()
        if not polars_python():
            print("polars is not installed, so it is not measured (see --help)", file=sys.stderr)
        with tempfile.TemporaryDirectory() as temporary:
            results = measure_all(args, (args.folder or Path(temporary)).resolve())
        content = {"machine": machine(), "results": results}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(content, indent=1) + "\n")
    print(result_table(content["results"]))
    if args.picture:
        draw(content["results"], args.picture)
    return int(any("failed" in row for row in content["results"]))


if __name__ == "__main__":
    sys.exit(main())
