"A whole build on another processor gives the same bytes, as far as this machine can imitate one."

import platform

import pytest
from conftest import commands, small_project

from brewcast.common.params import read_env, read_stages
from brewcast.workflow.runs import comparison_hashes

OTHER_PROCESSOR = {  # the kernels of x86-64 as it was in 2008, which every later processor can run
    "OPENBLAS_CORETYPE": "Nehalem",
    "ARROW_USER_SIMD_LEVEL": "NONE",
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels' names are those of x86-64")
def test_a_build_has_the_same_bytes_whatever_the_processor(published, tmp_path):
    # given a project with the same data, and nothing built
    root = small_project(tmp_path / "brewcast")
    # when it is built with the vector units of another processor
    commands(root)("make run", **OTHER_PROCESSOR)
    # then every product is the same
    stages = read_stages(root, read_env(root))
    here, there = (comparison_hashes(folder, "simulated", stages) for folder in (published.root, root))
    differ = [f"{stage}/{name}" for stage in here for name in here[stage] if here[stage][name] != there[stage][name]]
    assert differ == [] and {"predictions.parquet", "verdict.json"} <= set(here["evaluate"])
