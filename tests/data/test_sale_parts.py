"""Reading by file: any order of deliveries ends in the bytes of one clean build, and what did not change is not read again."""

import datetime as dt
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tills import COLUMNS, HEADER, SQL, ingest_paths, sales_bytes

from brewcast.common.increments import Increments
from brewcast.common.paths import DiskFullError
from brewcast.data import month_lines, sale_parts
from brewcast.data.ingest import ingest
from brewcast.data.source_files import DEFAULT_LIMITS, source_tables

STORES = ["S1", "S2", "S10", "Š3"]


def write_day(path, day: dt.date, seed: int, lines: int = 12, bad: int = 0) -> None:
    "One day's file, with some bad lines."
    rng = random.Random(f"{day} {seed}")
    rows = [HEADER]
    for n in range(lines):
        pieces, price = rng.randint(1, 4), rng.choice(["2.50", "3.25"])
        store = f"{rng.choice(STORES)},{day.month}/{day.day}/{day.year},Montréal,{rng.choice(['Coffee', 'Pastry'])}"
        total = f"{pieces * float(price):.2f}" if n >= bad else "1.11"
        rows.append(f"{store},{pieces},{price},{total},{rng.choice(['Hot', 'Cold', ''])},Yes,False")
    path.write_text("\n".join(rows) + "\n")


def read_folder(folder, cache: Increments, out, **arguments) -> dict[str, bytes]:
    "All products of a source of daily files, by name."
    sql = folder.parent / "toy.sql"
    sql.write_text(SQL)
    till = {"name": "till", "path": "*.csv", "date_format": "%m/%d/%Y", "columns": COLUMNS}
    known = {"source": "toy", "data": folder, "sql": sql, "plan_sql": None, "lacks": ["country", "product"]}
    known |= {"key": None, "categories": ["Coffee", "Pastry"], "returns": False, "max_bad_share": 1.0, "cache": cache}
    paths = ingest_paths(out)
    ingest(files=source_tables([till]), product_paths=paths, **known | arguments)
    products = {f"sales/{name}": content for name, content in sales_bytes(paths.sales).items()}
    others = [path for name, path in vars(paths).items() if name != "sales"]
    return products | {path.name: path.read_bytes() for path in others}


def days(n: int, first: dt.date = dt.date(2024, 1, 20)) -> list[dt.date]:
    return [first + dt.timedelta(each) for each in range(n)]


STEPS = st.lists(  # of a history: (day, version of its file, None: it is removed; number of bad lines)
    st.tuples(st.integers(0, 24), st.one_of(st.none(), st.integers(0, 3)), st.sampled_from([0, 0, 2])), max_size=6
)
HISTORIES = st.lists(STEPS, min_size=2, max_size=3)
KEYS = st.sampled_from([None, ["store_id", "date"], ["store_id", "price"]])


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES, KEYS, st.sampled_from([{}, {"S10": "S1"}]), st.sampled_from([None, "2024-01"]), st.booleans())
def test_any_history_of_deliveries_ends_in_the_bytes_of_one_clean_build(history, key, same_store, through, is_late):
    # given files that arrive in any order, are corrected, replaced and removed
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder, cache = root / "data", Increments(root / "cache")
        folder.mkdir()
        write_day(folder / "first.csv", dt.date(2024, 1, 19), 9)
        if is_late:  # a wrong clock
            write_day(folder / "wrong.csv", dt.date(2031, 5, 1), 1, lines=3)
        for steps in history:
            for number, version, bad in steps:
                day = days(25)[number]
                path = folder / f"{day}.csv"
                path.unlink(missing_ok=True)
                if version is not None:
                    write_day(path, day, version, bad=bad)
            own = {"key": key, "same_store": same_store, "through": through}
            last = read_folder(folder, cache, root / "out", **own)
        # when the last state is read with an empty cache / then every product has the same bytes
        assert read_folder(folder, Increments(root / "empty"), root / "clean", **own) == last


def test_only_what_changed_is_read_again(tmp_path, monkeypatch):
    # given forty days that have been read
    folder, cache = tmp_path / "data", Increments(tmp_path / "cache")
    folder.mkdir()
    for day in days(40):
        write_day(folder / f"{day}.csv", day, 1)
    read_folder(folder, cache, tmp_path / "out")
    read, made = [], []
    for module, name, log in ((sale_parts, "staged_blocks", read), (month_lines, "sort_by_all_columns", made)):
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, log=log, original=original, **k: log.append(a) or original(*a, **k)
        )
    # when nothing changed / then nothing is read
    read_folder(folder, cache, tmp_path / "out")
    assert (read, made) == ([], [])
    # when one more day arrives / then one file is read, and one month is sorted
    one_more = dt.date(2024, 2, 29)
    write_day(folder / f"{one_more}.csv", one_more, 1)
    read_folder(folder, cache, tmp_path / "out")
    assert ([arguments[3] for arguments in read], len(made)) == ([f"{one_more}.csv"], 1)
    # when the last month to read moves back / then nothing is read either
    read_folder(folder, cache, tmp_path / "out", through="2024-01")
    assert (len(read), len(made)) == (1, 1)
    assert [path.name for path in sorted((tmp_path / "out/sales").iterdir())] == ["2024-01.parquet"]


def test_a_damaged_cache_is_read_again(tmp_path):
    folder, cache = tmp_path / "data", Increments(tmp_path / "cache")
    folder.mkdir()
    for day in days(3):
        write_day(folder / f"{day}.csv", day, 1)
    before = read_folder(folder, cache, tmp_path / "out")
    for path in [*cache.folder.glob("part/*/*.arrow"), *cache.folder.glob("month/*/lines.parquet")]:
        path.write_bytes(path.read_bytes()[:-1])
    assert read_folder(folder, cache, tmp_path / "out") == before


def test_blocks_and_ranges_of_stores_make_no_difference(tmp_path, monkeypatch):
    # given a file with bad lines, repeated keys and lines of two months
    folder = tmp_path / "data"
    folder.mkdir()
    for day in (dt.date(2024, 1, 31), dt.date(2024, 2, 1)):
        write_day(folder / f"{day}.csv", day, 1, lines=40, bad=3)

    def read(name: str, block_rows: int, sorted_rows: int) -> dict[str, bytes]:
        monkeypatch.setattr(sale_parts, "BLOCK_ROWS", block_rows)
        monkeypatch.setattr(month_lines.ranges_of_pieces, "__defaults__", (sorted_rows,))
        cache = Increments(tmp_path / f"cache {name}")
        return read_folder(folder, cache, tmp_path / name, key=["store_id", "price"])

    # when it is read in one block, or in many / then all bytes are the same
    whole = read("whole", 1_000_000, 4_000_000)
    assert len(pq.read_table(tmp_path / "whole/quarantine.parquet")) > 6
    assert read("small blocks", 7, 4_000_000) == whole
    # and sorted by ranges of stores, the lines are the same (but a range begins a row group)
    ranges = read("ranges", 7, 5)
    assert {name for name in whole if ranges[name] != whole[name]} == {"sales/2024-01.parquet", "dataset.json"}
    assert pq.read_table(tmp_path / "ranges/sales").equals(pq.read_table(tmp_path / "whole/sales"))


def test_dataset_says_which_way_was_taken(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_day(folder / "a.csv", dt.date(2024, 1, 5), 1)
    ways = {}
    queries = {"lines": SQL, "windows": SQL.replace("_file, _line", "_file, _line, NULL AS total_sale")}
    queries["windows"] = SQL.replace("PIECES AS", "sum(PIECES) OVER (PARTITION BY _file, _line) AS")
    for name, sql in queries.items():
        (tmp_path / "own.sql").write_text(sql)
        paths = ingest_paths(tmp_path / name)
        till = {"name": "till", "path": "*.csv", "date_format": "%m/%d/%Y", "columns": COLUMNS}
        dataset = ingest(
            "toy",
            folder,
            tmp_path / "own.sql",
            None,
            source_tables([till]),
            ["country", "product"],
            None,
            None,
            False,
            0.9,
            paths,
            cache=Increments(tmp_path / "cache"),
            limits=DEFAULT_LIMITS,
        )
        ways[name] = (dataset["read"], sales_bytes(paths.sales))
    assert (ways["lines"][0], ways["windows"][0]) == ("file by file", "own.sql: it has a window function")
    assert ways["lines"][1] == ways["windows"][1]


KILLED = """
import json, os, signal, sys
from pathlib import Path
from test_sale_parts import read_folder
from brewcast.common import increments
from brewcast.data import ingest

folder, step = Path(sys.argv[1]), int(sys.argv[2])
calls = 0


def count(function):
    def counted(*arguments, **keywords):
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)

    return counted


increments._replace_folder = count(increments._replace_folder)  # each increment is complete, but has no name yet
ingest.shutil.copyfile = count(ingest.shutil.copyfile)  # each month is being written
read_folder(folder / "data", increments.Increments(folder / "cache"), folder / "out")
"""


@pytest.mark.parametrize("step", [1, 4, 6, 7])  # in a file, in another one, in a month, in the folder of the months
def test_killed_at_any_step_nothing_is_lost_and_nothing_double(tmp_path, step):
    folder = tmp_path / "data"
    folder.mkdir()
    for day in days(3, dt.date(2024, 1, 30)):
        write_day(folder / f"{day}.csv", day, 1)
    command = [sys.executable, "-c", KILLED, tmp_path, str(step)]
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/data'}"}
    assert subprocess.run(command, cwd=ROOT, env=variables, capture_output=True).returncode == -signal.SIGKILL
    assert not (tmp_path / "out/dataset.json").exists()
    # when it is run again / then the products are those of a build that nobody killed
    after = read_folder(folder, Increments(tmp_path / "cache"), tmp_path / "out")
    assert after == read_folder(folder, Increments(tmp_path / "empty"), tmp_path / "clean")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        path.name for path in (tmp_path / "clean").iterdir()
    }


def test_a_full_disk_leaves_nothing_half_made(tmp_path, monkeypatch):
    # given a disk that is full when the second month is written
    folder = tmp_path / "data"
    folder.mkdir()
    for day in days(3, dt.date(2024, 1, 30)):
        write_day(folder / f"{day}.csv", day, 1)
    before = read_folder(folder, Increments(tmp_path / "cache"), tmp_path / "out")
    write_day(folder / "more.csv", dt.date(2024, 2, 3), 1)
    original = month_lines.MonthFiles.close

    def no_room(files):
        original(files)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(month_lines.MonthFiles, "close", no_room)
    with pytest.raises(DiskFullError, match="free some space"):
        read_folder(folder, Increments(tmp_path / "cache"), tmp_path / "out")
    assert not [path for path in (tmp_path / "cache").rglob(".*.tmp")]
    assert sales_bytes(tmp_path / "out/sales") == {
        name.removeprefix("sales/"): content for name, content in before.items() if name.startswith("sales/")
    }
    # when there is room again / then it goes on from there
    monkeypatch.undo()
    after = read_folder(folder, Increments(tmp_path / "cache"), tmp_path / "out")
    assert after == read_folder(folder, Increments(tmp_path / "empty"), tmp_path / "clean")


def test_too_little_memory_names_the_setting(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    write_day(folder / "a.csv", dt.date(2024, 1, 5), 1, lines=20_000)
    monkeypatch.setenv("BREWCAST_MEMORY", "1MB")
    with pytest.raises((MemoryError, ValueError), match="set BREWCAST_MEMORY to more, such as BREWCAST_MEMORY=8GB"):
        read_folder(folder, Increments(tmp_path / "cache"), tmp_path / "out")
