"Shared by all stages: months and cutoffs, the paths of a stage, and reproducible files."

import json
import math
import re
import shutil
from datetime import date

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from brewcast.common.core import (
    SALE_LINE_COLUMNS,
    cutoff_of,
    read_json,
    read_parquet,
    stage_paths,
    target_month,
    write_json,
    write_parquet,
)
from brewcast.common.params import read_env, read_stages


def test_a_forecast_is_for_the_month_after_its_cutoff():
    # given months with and without a leap day and at the end of a year, with their own index
    months = pd.Series(pd.to_datetime(["2023-02-01", "2024-02-01", "2024-12-01"]), index=[7, 8, 9])
    # when their cutoffs are computed
    cutoffs = cutoff_of(months)
    # then the last days are the cutoffs, and the next months are the targets, with the same index
    assert cutoffs.dt.strftime("%Y-%m-%d").to_dict() == {7: "2023-02-28", 8: "2024-02-29", 9: "2024-12-31"}
    assert target_month(cutoffs).dt.strftime("%Y-%m-%d").to_dict() == {
        7: "2023-03-01",
        8: "2024-03-01",
        9: "2025-01-01",
    }
    assert cutoff_of(cutoffs).equals(cutoffs)


@pytest.fixture
def clone(tmp_path):
    "The files of the project that define where stages read and write."
    for name in ("pipeline.yaml", "env.yaml", "settings.ini"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_a_stage_that_ploomber_runs_uses_the_injected_paths(tmp_path):
    # given what Ploomber injects
    (tmp_path / "sales.parquet").touch()
    upstream = {"clean": {"nb": str(tmp_path / "missing.ipynb"), "sales": str(tmp_path / "sales.parquet")}}
    product = {
        "nb": str(tmp_path / "products/features/features.ipynb"),
        "history": str(tmp_path / "products/features/h.parquet"),
    }
    # when the stage asks for its paths
    upstream_paths, product_paths = stage_paths("features", upstream, product)
    # then it gets them, and its folder exists; the notebook of another stage may be missing, because no stage reads it
    assert upstream_paths.clean.sales == tmp_path / "sales.parquet"
    assert product_paths.history == tmp_path / "products/features/h.parquet" and product_paths.history.parent.is_dir()


def test_a_stage_without_ploomber_reads_the_last_build_and_writes_to_scratch(clone):
    # given a project without a build, then the error names the missing stage and the command that builds it
    with pytest.raises(FileNotFoundError, match="is missing: build the stage 'ingest' first, with `make build`"):
        stage_paths("clean", ["ingest"], None, clone)
    # when that stage is built
    ingest = clone / "products/simulated/ingest"
    ingest.mkdir(parents=True)
    for path in read_stages(clone, read_env(clone))["ingest"].product.values():
        (clone / path).touch()
    upstream_paths, product_paths = stage_paths("clean", ["ingest"], None, clone)
    # then its products are read, and the trial does not touch the products of the build
    assert all(path.parent == ingest for path in vars(upstream_paths.ingest).values())
    assert vars(product_paths) and all(path.parent == clone / "scratch/clean" for path in vars(product_paths).values())
    assert (clone / "scratch/clean").is_dir() and not (clone / "products/simulated/clean").exists()


def test_json_is_sorted_exact_and_reproducible(tmp_path):
    # given values of pandas and numpy, and the same values in another order
    content = {"b": np.float64(0.1) + 0.2, "a": [np.int64(3), math.nan, math.inf], "month": pd.Timestamp("2024-02-01")}
    content |= {"day": np.datetime64("2024-02-29"), "city": "Orléans", "pair": (True, None), 7: 1e-300}
    turned = dict(reversed(content.items()))
    # when both are written
    one, two = write_json(content, tmp_path / "deep/one.json"), write_json(turned, tmp_path / "two.json")
    # then they are the same bytes, valid JSON, and no digit is lost
    assert one.read_bytes() == two.read_bytes() and "Orléans" in one.read_text()
    strict = json.loads(one.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    expected = {"7": 1e-300, "a": [3, None, None], "b": 0.30000000000000004, "city": "Orléans"}
    assert strict == read_json(one) == expected | {"day": "2024-02-29", "month": "2024-02-01", "pair": [True, None]}


def test_the_same_rows_give_the_same_bytes(tmp_path):
    # given the same rows twice, once with another index and with attributes of pandas
    rows = pd.DataFrame(
        {"store_id": ["S1", None], "date": [date(2024, 2, 29), date(2024, 3, 1)], "sold": [0.1, np.nan]}
    )
    noted = rows.set_axis([5, 6])
    noted.attrs["made by"] = "somebody"
    # when both are written, then their bytes are the same, and other rows give other bytes
    one, two = write_parquet(rows, tmp_path / "one.parquet"), write_parquet(noted, tmp_path / "two.parquet")
    assert one.read_bytes() == two.read_bytes() and not pq.read_schema(one).metadata
    assert write_parquet(rows.iloc[::-1], tmp_path / "turned.parquet").read_bytes() != one.read_bytes()
    # and reading gives the same rows, with dates as datetime64
    read = read_parquet(one)
    assert read.date.dt.day.tolist() == [29, 1] and read.store_id.tolist() == ["S1", None]
    pd.testing.assert_series_equal(read.sold, rows.sold)


def test_the_example_query_for_new_sources_returns_the_columns_of_a_sale_line():
    query = (ROOT / "sql/simulated.sql").read_text()
    yielded = re.findall(r"(?m)^ +\S+ +AS (\w+)", query[query.index("SELECT") :])
    assert len(SALE_LINE_COLUMNS) == 11 and [name for name in SALE_LINE_COLUMNS if yielded.count(name) != 1] == []
