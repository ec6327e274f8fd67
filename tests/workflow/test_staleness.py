"What makes a stage stale, which reason is given for it, and that what must run again is what does."

import json
import shutil
from pathlib import Path

import pytest
from toy import ENV, STAGES, pause_stage, replace_in_file, resume_stages, start_build, started_stages
from waits import wait_until

from brewcast.common.paths import write_text
from brewcast.workflow import staleness


def stale(root: Path) -> list[str]:
    "The stages that Ploomber itself would run."
    from ploomber.constants import TaskStatus
    from ploomber.spec import DAGSpec

    dag = DAGSpec(str(root / "pipeline.yaml")).to_dag().render(show_progress=False)
    return [task.name for task in dag.values() if task.exec_status != TaskStatus.Skipped]


def add_cell(notebook: Path) -> None:
    content = json.loads(notebook.read_text())
    content["cells"].insert(2, content["cells"][1] | {"id": "added", "source": "x = 1"})
    notebook.write_text(json.dumps(content))


CASES = {  # what is done, the reasons by stage (the beginning of each), what runs, what is found unchanged meanwhile
    "prose": (lambda r: replace_in_file(r / "nbs/data/10_ingest.ipynb", "# ingest", "# other words"), {}, [], []),
    "a comment": (lambda r: replace_in_file(r / "nbs/data/10_ingest.ipynb", "# the run", "# runs"), {}, [], []),
    "a docstring in a notebook": (
        lambda r: replace_in_file(r / "nbs/model/22_judge.ipynb", "Take a while", "Wait"),
        {},
        [],
        [],
    ),
    "a docstring in a module": (
        lambda r: replace_in_file(r / "brewcast/common/areas.py", "As it is.", "Nothing is done."),
        {},
        [],
        [],
    ),
    "a layout": (lambda r: replace_in_file(r / "brewcast/common/areas.py", "return x", "return (x)"), {}, [], []),
    "own code": (
        lambda r: replace_in_file(r / "nbs/data/11_clean.ipynb", "str(twice(lags))", "str(twice(lags) * 2)"),
        {"clean": ["cell 5 of 11_clean.ipynb, `Path(product['out']).write_text(str(twice(lags) * 2))`, changed"]},
        ["clean", "judge"],
        [],
    ),
    "a new cell": (
        lambda r: add_cell(r / "nbs/data/11_clean.ipynb"),
        {"clean": ["cell 3 of 11_clean.ipynb, `x = 1`, is new"]},
        ["clean"],
        ["judge"],
    ),
    "a parameter": (
        lambda r: (r / "env.yaml").write_text(ENV.replace("12]", "6]")),
        {"clean": ["parameter lags: [1, 12] -> [1, 6]"]},
        ["clean", "judge"],
        [],
    ),
    "a parameter in a mapping": (
        lambda r: (r / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8")),
        {"look": ["parameter wins: 7 -> 8"]},
        ["look"],
        [],
    ),
    "a module, through another": (
        lambda r: replace_in_file(r / "brewcast/common/areas.py", "return x", "return x * 1"),
        {stage: [f"module common.areas: area ({stage} -> data.shapes -> common.areas)"] for stage in STAGES},
        list(STAGES),
        [],
    ),
    "a module's imports": (
        lambda r: replace_in_file(
            r / "brewcast/data/shapes.py", "from ..common.areas import area", "def area(x):\n    return x"
        ),
        {stage: ["module common.areas: is gone", "module data.shapes: its top level, area"] for stage in STAGES},
        list(STAGES),
        [],
    ),
    "code in a package's own file": (
        lambda r: (r / "brewcast/common/__init__.py").write_text("width = 3\n"),
        {stage: [f"module common: is new ({stage} -> data.shapes -> common)"] for stage in STAGES},
        list(STAGES),
        [],
    ),
    "a template beside a module": (
        lambda r: write_text(r / "brewcast/data/templates/shape.html", "<p>"),
        {stage: ["brewcast/data/templates/shape.html is new"] for stage in STAGES},
        list(STAGES),
        [],
    ),
    "how stages are run": (lambda r: (r / "brewcast/workflow/extra.py").write_text("x = 1\n"), {}, [], []),
    "a module that nobody imports": (lambda r: (r / "brewcast/data/extra.py").write_text("x = 1\n"), {}, [], []),
    "a file that a tool reads": (
        lambda r: replace_in_file(r / "settings.ini", "status = 3", "status = 4"),
        {"look": ["settings.ini changed"]},
        ["look"],
        [],
    ),
    "the SQL": (
        lambda r: (r / "sql/near.sql").write_text("SELECT 2"),
        {"ingest": ["sql/near.sql changed"]},
        ["ingest", "clean", "look"],
        ["judge"],
    ),
    "the data": (
        lambda r: replace_in_file(r / "data/near/till.csv", "S1", "S2"),
        {"ingest": ["data/near changed"]},
        ["ingest", "clean", "look"],
        ["judge"],
    ),
    "a product by hand": (
        lambda r: (r / "products/near/clean/out.txt").write_text("by hand"),
        {"clean": ["out.txt is not what the stage wrote: changed by hand"]},
        ["clean"],
        ["judge"],
    ),
    "a product gone": (
        lambda r: (r / "products/near/look/out.txt").unlink(),
        {"look": ["out.txt is missing"]},
        ["look"],
        [],
    ),
    "a record gone": (
        lambda r: (r / "products/near/look/.built.json").unlink(),
        {"look": ["did not run to its end"]},
        ["look"],
        [],
    ),
    "all of it gone": (
        lambda r: shutil.rmtree(r / "products/near/look"),
        {"look": ["has not run yet"]},
        ["look"],
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_why_names_the_reason_ploomber_agrees_and_what_must_run_runs(toy, brewcast, case):
    change, expected, must, unchanged = CASES[case]
    # given a project that is built
    assert not any(json.loads(brewcast("why --json").out).values())
    # when one thing changes
    change(toy)
    # then its reasons are named, and no others
    reasons = json.loads(brewcast("why --json").out)
    own = {
        stage: [r["text"] for r in found if not r["text"].endswith("runs again")] for stage, found in reasons.items()
    }
    own = {stage: texts for stage, texts in own.items() if texts}
    assert own.keys() == expected.keys()
    for stage, texts in expected.items():
        assert len(own[stage]) == len(texts)
        assert all(found.startswith(text) for found, text in zip(own[stage], texts, strict=True)), own[stage]
    # and Ploomber would run just the stages that have a reason, their own or one that they follow from
    assert stale(toy) == [stage for stage, found in reasons.items() if found]
    # and what must run runs, in order; what only follows and finds the same input does not
    told = brewcast("build").err
    assert sorted(started_stages(told), key=list(STAGES).index) == must
    assert [
        stage for stage in STAGES if f"{stage}      unchanged" in told or f"{stage:<10} unchanged" in told
    ] == unchanged
    # and then there is nothing left to do
    assert not any(json.loads(brewcast("why --json").out).values())
    assert stale(toy) == []


def test_a_product_that_feast_stamps_is_told_by_its_definitions(tmp_path):
    # given a stage whose product is stamped with the time of day each time
    wiring = {"product": {"registry": "products/near/features/registry.db"}}
    path = tmp_path / "products/near/features/registry.db"
    path.parent.mkdir(parents=True)
    hashes = staleness.FileHashes(tmp_path / "hashes.json")
    path.write_text("12:00")
    before = staleness.product_hashes(wiring, tmp_path, hashes)
    path.write_text("12:01")
    # then it is the same until it is gone
    assert staleness.product_hashes(wiring, tmp_path, hashes) == before
    path.unlink()
    assert staleness.product_hashes(wiring, tmp_path, hashes) == {"registry.db": None}


def test_files_are_watched_wherever_they_lie(tmp_path):
    # given a query at the root, and a folder of data that is called as the folder of products is, with a program in it
    for name in ["near.sql", "data/products/till.csv", "data/products/more/till.csv", "data/products/prepare.py"]:
        write_text(tmp_path / name, "1")
    write_text(tmp_path / "pipeline.yaml", "tasks: []")
    write_text(tmp_path / "products/near/inputs.json", "{}")
    params = {"sql": "near.sql", "data": "data/products", "unit": "pieces", "made": "products/near/inputs.json"}

    def seen():
        hashes = staleness.FileHashes(tmp_path / "hashes.json")
        write_text(tmp_path / "nbs/10_one.ipynb", '{"cells": []}')
        return staleness.fingerprint("one", tmp_path / "nbs/10_one.ipynb", params, tmp_path, hashes)["files"]

    # then all of it is, and what a build makes is not
    before = seen()
    assert before.keys() == {"near.sql", "data/products"}
    write_text(tmp_path / "data/products/more/till.csv", "2")
    assert seen()["data/products"] != before["data/products"]
    write_text(tmp_path / "near.sql", "2")
    assert seen()["near.sql"] != before["near.sql"]


@pytest.fixture
def package(tmp_path):
    "A package in which data/look asks common/units."
    for name, code in {
        "data/__init__.py": "",
        "common/__init__.py": "",
        "common/units.py": "x = 1",
        "data/look.py": "from ..common import units",
    }.items():
        write_text(tmp_path / "brewcast" / name, code)
    return tmp_path / "brewcast"


@pytest.mark.parametrize(
    "code",
    [
        "from brewcast.data.look import f",
        "from brewcast.data import look as seen",
        "import brewcast.data.look",
        "import brewcast.data.look as seen",
        "def f():\n    from brewcast.data import look",
        "%matplotlib inline\nfrom brewcast.data import look",
        "!ls\nfrom brewcast.data import (\n    look,\n)",
    ],
)
def test_a_module_of_a_package_is_found_however_it_is_imported(package, code):
    assert list(staleness.module_closure([code], package)) == ["common.units", "data.look"]


def test_a_package_stands_before_a_module_of_its_name_as_for_python(package):
    write_text(package / "common/units/__init__.py", "x = 2")
    assert staleness.module_closure(["import brewcast.data.look"], package)["common.units"] == "x = 2"


def test_relative_imports_count_from_where_they_stand(package):
    write_text(package / "data/look.py", "from . import near\nfrom .near import x\nfrom .. import common")
    write_text(package / "data/near.py", "x = 1")
    write_text(package / "common/__init__.py", "from .units import x")
    assert list(staleness.module_closure(["import brewcast.data.look"], package)) == [
        "common",
        "common.units",
        "data.look",
        "data.near",
    ]


def test_what_comes_in_while_a_stage_runs_makes_it_stale(toy, brewcast):
    # given a build of new rows that stands in the middle of its first stage
    till = toy / "data/near/till.csv"
    replace_in_file(till, "S1", "S1\nS2")
    pause_stage(toy, "ingest")
    process = start_build(toy)
    out = toy / "products/near/ingest/out.txt"
    wait_until(lambda: out.exists() and out.read_text() == "half", "in the middle of ingest")
    # when more rows come in / then they are built next time, since nobody knows whether they were read
    replace_in_file(till, "S2", "S2\nS3")
    resume_stages(toy)
    assert process.wait(120) == 0
    assert "ingest" in started_stages(brewcast("build").err)
    assert started_stages(brewcast("build").err) == []


def test_only_what_lies_in_the_project_is_upstream(tmp_path):
    # given a table whose settings name a folder elsewhere, and a text that is one by accident
    (tmp_path / "pipeline.yaml").write_text("tasks: []")
    (tmp_path / "data" / "tea").mkdir(parents=True)
    params = {"data": "data/tea", "files": [{"outside": [str(tmp_path.parent)], "null_values": ["/"]}]}
    # then neither is watched by itself
    assert staleness.input_files("ingest", params, tmp_path) == [tmp_path / "data" / "tea"]
