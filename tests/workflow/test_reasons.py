"The reasons why a stage has to run again: each names what changed."

import json
import shutil
from pathlib import Path

import pytest
from toy import cell, replace_in_file, started_stages

from brewcast.common.hashing import FileHashes
from brewcast.common.params import Stage
from brewcast.common.paths import write_text
from brewcast.common.records import Recipe, ServingModel, StateInputs
from brewcast.workflow.reasons import (
    Reason,
    code_changes,
    reasons_by_stage,
    stage_reasons,
    state_changes,
)
from brewcast.workflow.staleness import fingerprint, inputs_path, read_stage_record, write_stage_record


def test_a_parameter_that_is_changed_back_gives_the_old_product_again(toy, brewcast):
    complete = (toy / "products/near/clean/out.txt").read_text()
    assert started_stages(brewcast("build 'lags=[1, 6]'").err) == ["clean", "judge"]
    assert "parameter lags: [1, 6] -> [1, 12]" in brewcast("why").out
    assert started_stages(brewcast("build").err) == ["clean", "judge"]
    assert (toy / "products/near/clean/out.txt").read_text() == complete


def test_why_shows_what_a_parameter_of_one_run_would_make_stale(brewcast):
    lines = brewcast("why gate.wins=9").out.splitlines()
    assert lines == [
        "ingest     is up to date",
        "clean      is up to date",
        "look       is stale",
        "           - parameter wins: 7 -> 9",
        "judge      is up to date",
    ]


# --- two stages, with files in place of real products

CHAMPION = ServingModel(
    recipe=Recipe(name="forest", params={}), release="r1", train_through="2024-04-01", cutoff="2024-05-31"
)
INPUTS = StateInputs(champion=CHAMPION, barred=[], build_key="k1")
FILES = {
    "pipeline.yaml": "tasks: []\n",
    "brewcast/__init__.py": "",
    "brewcast/common/__init__.py": "",
    "brewcast/common/areas.py": "def area(x):\n    return x\n",
    "brewcast/data/__init__.py": "",
    "brewcast/data/shapes.py": "from ..common.areas import area\n\n\ndef twice(x):\n    return 2 * area(x)\n",
    "brewcast/data/others.py": "from .shapes import twice\n",
    "sql/near.sql": "SELECT 1",
    "products/near/inputs.json": json.dumps(INPUTS.content()),
}
CELLS = {  # by stage: the code cells below the parameters
    "clean": ["from brewcast.data.others import twice", "x = twice(1)", "y = x", "print(y)"],
    "judge": ["print('promote')"],
}


def toy_stage(name: str, **params) -> Stage:
    files = {"nb": f"{name}.ipynb", "out": "out.txt"}
    product = {key: f"products/near/{name}/{file}" for key, file in files.items()}
    return Stage(f"nbs/{name}.ipynb", params, product)


STAGES = {
    "clean": toy_stage("clean", sql="sql/near.sql", lags=[1, 12]),
    "judge": toy_stage("judge", gain=0.01, inputs="products/near/inputs.json"),
}


def write_notebook(root: Path, stage: str, code: list[str]) -> Path:
    declared = "\n".join([f"upstream = {['clean'] if stage == 'judge' else []}", "product = None"])
    cells = [cell("markdown", 0, f"# {stage}"), cell("code", 1, declared, ["parameters"])]
    path = root / "nbs" / f"{stage}.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": cells + [cell("code", i, text) for i, text in enumerate(code, 2)]}))
    return path


@pytest.fixture
def project(tmp_path):
    "A project of two stages that have been built."
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for stage, code in CELLS.items():
        write_notebook(tmp_path, stage, code)
        for path in STAGES[stage].product.values():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(stage)
    for stage in CELLS:
        write_stage_record(tmp_path, "near", stage, STAGES)
    return tmp_path


def reason_texts(root: Path) -> dict[str, list[str]]:
    reasons = reasons_by_stage(root, "near", STAGES)
    return {stage: [reason.text for reason in own] for stage, own in reasons.items()}


FOLLOWS = ["clean runs again"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: None, {"clean": [], "judge": []}),
        (lambda root: (root / "products/near/judge/out.txt").unlink(), {"clean": [], "judge": ["out.txt is missing"]}),
        (lambda root: (root / "products/near/judge/.built.json").unlink(), {"clean": [], "judge": ["did not finish"]}),
        (lambda root: (root / "products/near/judge/.built.json").write_text('{"fing'), {"clean": [], "judge": ["did not finish"]}),
        (lambda root: shutil.rmtree(root / "products/near/judge"), {"clean": [], "judge": ["has not run yet"]}),
        (lambda root: (root / "sql/near.sql").write_text("SELECT 2"), {"clean": ["sql/near.sql changed"], "judge": FOLLOWS}),
        (lambda root: (root / "sql/near.sql").unlink(), {"clean": ["sql/near.sql was removed"], "judge": FOLLOWS}),
        (
            lambda root: (root / "products/near/clean/out.txt").write_text("by hand"),
            {"clean": ["out.txt was changed by hand after the stage wrote it"], "judge": FOLLOWS},
        ),
        (
            lambda root: replace_in_file(root / "brewcast/common/areas.py", "return x", "return x + 1"),
            {"clean": ["module common.areas: area (clean -> data.others -> data.shapes -> common.areas)"], "judge": FOLLOWS},
        ),
        (lambda root: replace_in_file(inputs_path(root, "near"), "r1", "r2"), {"clean": [], "judge": ["state: champion changed"]}),
        (lambda root: replace_in_file(inputs_path(root, "near"), "k1", "k2"), {"clean": [], "judge": []}),
    ],
)  # fmt: skip
def test_a_change_is_named_for_its_stage_and_the_next_stage_follows(project, change, expected):
    change(project)
    assert reason_texts(project) == expected


def test_changed_products_of_the_upstream_are_a_reason(project):
    # given a stage that ran again and made another product
    (project / "products/near/clean/out.txt").write_text("made anew")
    write_stage_record(project, "near", "clean", STAGES)
    # then the next stage has a reason of its own
    text = "the products of clean differ from those of the last run"
    assert reason_texts(project) == {"clean": [], "judge": [text]}
    (reason,) = stage_reasons("judge", project, "near", STAGES, FileHashes(project / "hashes.json"))
    assert reason == Reason(kind="upstream", name="clean", text=text)
    # and a changed notebook of the upstream is no reason: no stage reads it
    (project / "products/near/clean/out.txt").write_text("clean")
    (project / "products/near/clean/clean.ipynb").write_text("at another time of day")
    write_stage_record(project, "near", "clean", STAGES)
    assert reason_texts(project) == {"clean": [], "judge": []}


def test_the_current_state_counts_before_inputs_json(project):
    champion = CHAMPION.model_copy(update={"release": "r2"})
    now = StateInputs(champion=champion, barred=[], by_hand="2024-05-31", months=[])
    reasons = reasons_by_stage(project, "near", STAGES, now)
    names = {stage: [reason.name for reason in own] for stage, own in reasons.items()}
    assert names == {"clean": [], "judge": ["by_hand", "champion", "months"]}
    assert state_changes(None, None) == [] == state_changes({"a": (1, 2)}, {"a": [1, 2]})


def test_only_the_part_of_the_state_that_a_stage_reads_is_a_reason(project):
    # given a stage with declared inputs from the state, and another champion of the same recipe
    settings = "executor: {state_inputs: {judge: [champion.release, barred]}}"
    write_text(project / "pipeline.yaml", settings)
    write_stage_record(project, "near", "judge", STAGES)

    def texts(**now) -> list[str]:
        reasons = reasons_by_stage(project, "near", STAGES, INPUTS.model_copy(update=now))
        return [reason.text for reason in reasons["judge"]]

    # then a change of what it does not read is no reason
    assert texts(champion=CHAMPION.model_copy(update={"cutoff": "2024-06-30"}), months=["june"]) == []
    assert texts(champion=CHAMPION.model_copy(update={"release": "r2"}), barred=[CHAMPION.recipe]) == [
        "state: barred changed",
        "state: champion.release changed",
    ]
    assert texts(champion=None) == ["state: champion.release changed"]


def test_changed_new_and_removed_cells_are_named(project):
    # given a notebook with two changed cells
    before = read_stage_record(project, "near", "clean").fingerprint.code
    first, second, third, fourth = CELLS["clean"]
    now = [first, "x = twice(2)  # a comment", third, "z = 3"]
    notebook = write_notebook(project, "clean", now)
    hashes = FileHashes(project / "hashes.json")

    def texts() -> list[str]:
        code = fingerprint("clean", STAGES["clean"], project, hashes).code
        return [reason.text for reason in code_changes(before, code, notebook)]

    assert texts() == ["cell 4 of clean.ipynb, `x = twice(2)`, changed", "cell 6 of clean.ipynb, `z = 3`, changed"]
    write_notebook(project, "clean", [first, "z = 3", second, third, fourth])
    assert texts() == ["cell 4 of clean.ipynb, `z = 3`, is new"]
    write_notebook(project, "clean", [first, third, fourth])
    assert texts() == ["a cell of clean.ipynb, `x = twice(1)`, was removed"]
    # and if one cell replaces two, both are named
    write_notebook(project, "clean", [first, second, "z = 3"])
    removed = f"a cell of clean.ipynb, `{fourth.splitlines()[0]}`, was removed"
    assert texts() == ["cell 5 of clean.ipynb, `z = 3`, changed", removed]
    # and comments and layout are no change
    write_notebook(project, "clean", [f"# first\n{first}", "x = twice(\n    1\n)", third, fourth])
    assert texts() == []
