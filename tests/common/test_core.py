"Shared by all stages: months and cutoffs, the paths of a stage, and reproducible files."

import re
import shutil

import pytest
from conftest import ROOT

from brewcast.common.core import (
    SALE_LINE_COLUMNS,
    stage_paths,
)
from brewcast.common.params import read_env, read_stages


@pytest.fixture
def clone(tmp_path):
    "The files of the project that define where stages read and write."
    for name in ("pipeline.yaml", "env.yaml", "settings.ini"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


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


def test_the_example_query_for_new_sources_returns_the_columns_of_a_sale_line():
    query = (ROOT / "sql/simulated.sql").read_text()
    yielded = re.findall(r"(?m)^ +\S+ +AS (\w+)", query[query.index("SELECT") :])
    assert len(SALE_LINE_COLUMNS) == 11 and [name for name in SALE_LINE_COLUMNS if yielded.count(name) != 1] == []
