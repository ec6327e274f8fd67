"The bench of scale: every way gives the same store-months, a difference is found, and the results can be shown and drawn."

import datetime as dt

import pyarrow.parquet as pq
import pytest
import scale
import scale_work
from PIL import Image

from brewcast.common.contracts import check_table, sales_schema
from brewcast.data.partitions import month_files

STORES, LINES, MONTHS = 2, 1000, 14


@pytest.fixture(scope="module", autouse=True)
def few_months():
    "Fewer months than the bench has, so that the tests are quick."
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scale_work, "MONTHS", MONTHS)
        yield


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    "A folder with sale lines of two stores."
    folder = tmp_path_factory.mktemp("lines")
    scale_work.create_lines(str(folder), LINES, STORES)
    return folder


def test_every_way_gives_the_same_store_months(lines, tmp_path, monkeypatch):
    monkeypatch.setenv("BREWCAST_CACHE", str(tmp_path / "cache"))
    outs = {name: str(tmp_path / f"{name}.parquet") for name in ("brewcast", "duckdb", "pandas")}
    same = {"data": str(lines), "path": "lines.parquet"}
    scale_work.brewcast_store_months(**same, folder=str(tmp_path), out=outs["brewcast"])
    scale_work.duckdb_store_months(**same, out=outs["duckdb"])
    scale_work.pandas_store_months(**same, out=outs["pandas"])
    scale_work.compare_quantities([*outs.values()])
    # one line less is found
    scale_work.create_lines(str(tmp_path), LINES - 1, STORES)
    scale_work.pandas_store_months(str(tmp_path), "lines.parquet", outs["pandas"])
    with pytest.raises(ValueError, match="brewcast and pandas differ in"):
        scale_work.compare_quantities([*outs.values()])


def test_the_partitions_have_the_columns_and_types_of_ingest(lines, tmp_path):
    scale_work.create_partitions(f"{lines}/lines.parquet", str(tmp_path))
    files = month_files(tmp_path)
    assert len(files) == MONTHS
    sales = check_table(pq.read_table(files["2020-01"]), sales_schema([]))
    assert set(sales.column("date").to_pylist()) <= {dt.date(2020, 1, day) for day in range(1, 32)}


def test_a_job_is_a_process_with_its_time_and_memory(tmp_path):
    figures = scale.run_job("create_lines", tmp_path, folder=tmp_path, lines=100, stores=1)
    assert (tmp_path / "lines.parquet").exists()
    assert 0 < figures["cpu"] and 20 < figures["peak"] < 1000 and figures["start"] < figures["wall"]


def test_results_are_a_table_and_a_picture(tmp_path):
    figures = {"wall": 2.0, "cpu": 1.5, "others": 0.0, "start": 0.25, "peak": 100.0}
    sizes = (100_000, 1_000_000)
    results = [
        {"comparison": "store_months", "lines": lines, "name": name, **figures}
        for lines in sizes
        for name in ("brewcast", "duckdb")
    ]
    results += [{"comparison": "csv", "lines": sizes[0], "name": "duckdb", "failed": "no disk"}]
    text = scale.result_table(results)
    assert "| 1 million | DuckDB alone | 2.00 | 0.25 | 1.50 | 100 |" in text and "| no disk |" in text
    scale.draw(results, tmp_path / "scale.png")
    assert Image.open(tmp_path / "scale.png").width > 400
