"Which reasons are given why a stage has to run again, in words that lead to what changed."

import json
import shutil
from pathlib import Path

import pytest
from toy import cell, replace_in_file, started_stages

from brewcast.common.hashing import FileHashes
from brewcast.common.paths import write_text
from brewcast.workflow.reasons import (
    code_changes,
    import_chain,
    parameter_changes,
    reasons_by_stage,
    shorten_value,
    stage_reasons,
    state_changes,
)
from brewcast.workflow.staleness import fingerprint, inputs_path, read_stage_record, write_stage_record


def test_a_parameter_that_is_changed_back_is_no_reason_after_its_build(toy, brewcast):
    whole = (toy / "products/near/clean/out.txt").read_text()
    assert started_stages(brewcast("build 'lags=[1, 6]'").err) == ["clean", "judge"]
    assert "parameter lags: [1, 6] -> [1, 12]" in brewcast("why").out
    assert started_stages(brewcast("build").err) == ["clean", "judge"]
    assert (toy / "products/near/clean/out.txt").read_text() == whole


def test_why_asks_what_a_change_for_one_run_would_make_stale(brewcast):
    told = brewcast("why gate.wins=9").out.splitlines()
    assert told == [
        "ingest     is up to date",
        "clean      is up to date",
        "look       is stale",
        "           - parameter wins: 7 -> 9",
        "judge      is up to date",
    ]


# --- on two stages whose products stand for those of a build

FILES = {
    "pipeline.yaml": "tasks: []\n",
    "brewcast/__init__.py": "",
    "brewcast/common/__init__.py": "",
    "brewcast/common/areas.py": "def area(x):\n    return x\n",
    "brewcast/data/__init__.py": "",
    "brewcast/data/shapes.py": "from ..common.areas import area\n\n\ndef twice(x):\n    return 2 * area(x)\n",
    "brewcast/data/others.py": "from .shapes import twice\n",
    "sql/near.sql": "SELECT 1",
    "products/near/inputs.json": '{"champion": {"release": "r1"}, "barred": [], "build_key": "k1"}',
}
CELLS = {  # by stage: its code below the parameters
    "clean": ["from brewcast.data.others import twice", "x = twice(1)", "y = x", "print(y)"],
    "judge": ["print('promote')"],
}


def wiring(stage: str, **params) -> dict:
    product = {key: f"products/near/{stage}/{name}" for key, name in [("nb", f"{stage}.ipynb"), ("out", "out.txt")]}
    return {"source": f"nbs/{stage}.ipynb", "params": params, "product": product}


WIRED = {
    "clean": wiring("clean", sql="sql/near.sql", lags=[1, 12]),
    "judge": wiring("judge", gain=0.01, inputs="products/near/inputs.json"),
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
    "A project of two stages that were built."
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for stage, code in CELLS.items():
        write_notebook(tmp_path, stage, code)
        for path in WIRED[stage]["product"].values():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(stage)
    for stage in CELLS:
        write_stage_record(tmp_path, "near", stage, WIRED)
    return tmp_path


def reasons(root: Path, wired: dict = WIRED) -> dict[str, list[str]]:
    return {
        stage: [reason["text"] for reason in found] for stage, found in reasons_by_stage(root, "near", wired).items()
    }


FOLLOWS = ["clean runs again"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: None, {"clean": [], "judge": []}),
        (lambda root: (root / "products/near/judge/out.txt").unlink(), {"clean": [], "judge": ["out.txt is missing"]}),
        (lambda root: (root / "products/near/judge/.built.json").unlink(), {"clean": [], "judge": ["did not run to its end"]}),
        (lambda root: (root / "products/near/judge/.built.json").write_text('{"fing'), {"clean": [], "judge": ["did not run to its end"]}),
        (lambda root: shutil.rmtree(root / "products/near/judge"), {"clean": [], "judge": ["has not run yet"]}),
        (lambda root: (root / "sql/near.sql").write_text("SELECT 2"), {"clean": ["sql/near.sql changed"], "judge": FOLLOWS}),
        (lambda root: (root / "sql/near.sql").unlink(), {"clean": ["sql/near.sql is gone"], "judge": FOLLOWS}),
        (
            lambda root: (root / "products/near/clean/out.txt").write_text("by hand"),
            {"clean": ["out.txt is not what the stage wrote: changed by hand"], "judge": FOLLOWS},
        ),
        (
            lambda root: replace_in_file(root / "brewcast/common/areas.py", "return x", "return x + 1"),
            {"clean": ["module common.areas: area (clean -> data.others -> data.shapes -> common.areas)"], "judge": FOLLOWS},
        ),
        (lambda root: replace_in_file(inputs_path(root, "near"), "r1", "r2"), {"clean": [], "judge": ["the state's champion changed"]}),
        (lambda root: replace_in_file(inputs_path(root, "near"), "k1", "k2"), {"clean": [], "judge": []}),
    ],
)  # fmt: skip
def test_what_changed_is_named_for_its_stage_and_the_next_follows(project, change, told):
    change(project)
    assert reasons(project) == told


def test_a_stage_by_itself_says_that_what_it_takes_is_another(project):
    # given a stage that ran again and made something else
    (project / "products/near/clean/out.txt").write_text("made anew")
    write_stage_record(project, "near", "clean", WIRED)
    # then the next has a reason of its own
    told = "clean has other products than this was built from"
    assert reasons(project) == {"clean": [], "judge": [told]}
    (found,) = stage_reasons("judge", project, "near", WIRED, FileHashes(project / "hashes.json"))
    assert found == {"kind": "upstream", "name": "clean", "text": told}
    # and what is for people to read is none
    (project / "products/near/clean/out.txt").write_text("clean")
    (project / "products/near/clean/clean.ipynb").write_text("at another time of day")
    write_stage_record(project, "near", "clean", WIRED)
    assert reasons(project) == {"clean": [], "judge": []}


def test_what_the_state_says_now_counts_before_what_it_said(project):
    now = {"champion": {"release": "r2"}, "barred": [], "by_hand": "2024-05-31", "months": []}
    told = {
        stage: [reason["name"] for reason in found]
        for stage, found in reasons_by_stage(project, "near", WIRED, now).items()
    }
    assert told == {"clean": [], "judge": ["by_hand", "champion", "months"]}
    assert state_changes(None, None) == [] == state_changes({"a": (1, 2)}, {"a": [1, 2]})


def test_a_stage_is_told_the_part_of_the_state_that_it_reads(project):
    # given a stage of which it is declared what it reads, and another champion of the same recipe
    said = "executor: {state_inputs: {judge: [champion.release, barred]}}"
    write_text(project / "pipeline.yaml", said)
    write_stage_record(project, "near", "judge", WIRED)

    def ask(**now):
        reasons = reasons_by_stage(project, "near", WIRED, {"champion": {"release": "r1"}} | now)
        return [reason["text"] for reason in reasons["judge"]]

    # then what it does not read is no reason
    assert ask(champion={"release": "r1", "cutoff": "2024-06-30"}, months=["june"], barred=[]) == []
    assert ask(champion={"release": "r2"}, barred=["forest"]) == [
        "the state's barred changed",
        "the state's champion's release changed",
    ]
    assert ask(champion=None, barred=[]) == ["the state's champion's release changed"]


def test_cells_that_changed_came_or_went_are_named_as_they_are_found_in_the_notebook(project):
    # given a notebook of which one cell is another, one new and one gone
    before = read_stage_record(project, "near", "clean")["fingerprint"]["code"]
    first, second, third, fourth = CELLS["clean"]
    now = [first, "x = twice(2)  # a comment", third, "z = 3"]
    notebook = write_notebook(project, "clean", now)
    hashes = FileHashes(project / "hashes.json")

    def told() -> list[str]:
        code = fingerprint("clean", notebook, WIRED["clean"]["params"], project, hashes)["code"]
        return [reason["text"] for reason in code_changes(before, code, notebook)]

    assert told() == ["cell 4 of clean.ipynb, `x = twice(2)`, changed", "cell 6 of clean.ipynb, `z = 3`, changed"]
    write_notebook(project, "clean", [first, "z = 3", second, third, fourth])
    assert told() == ["cell 4 of clean.ipynb, `z = 3`, is new"]
    write_notebook(project, "clean", [first, third, fourth])
    assert told() == ["a cell of clean.ipynb, `x = twice(1)`, is gone"]
    # and where two became one, both are accounted for
    write_notebook(project, "clean", [first, second, "z = 3"])
    gone = f"a cell of clean.ipynb, `{fourth.splitlines()[0]}`, is gone"
    assert told() == ["cell 5 of clean.ipynb, `z = 3`, changed", gone]
    # and comments and layout are no change
    write_notebook(project, "clean", [f"# first\n{first}", "x = twice(\n    1\n)", third, fourth])
    assert told() == []


def test_parameters_are_told_by_their_dotted_names_with_what_they_were_and_are():
    before = {"lags": [1, 12], "gate": {"gain": 0.01, "wins": 7, "old": 3}, "unit": "day"}
    now = {"lags": [1, 12], "gate": {"gain": 0.02, "wins": 7}, "unit": {"a": 1}, "new": True}
    found = parameter_changes(before, now)
    assert [reason["text"] for reason in found] == [
        "parameter gate.gain: 0.01 -> 0.02",
        "parameter gate.old is gone: it was 3",
        'parameter unit: "day" -> {"a": 1}',
        "parameter new is new: true",
    ]
    assert (found[0]["name"], found[0]["old"], found[0]["new"]) == ("gate.gain", 0.01, 0.02)
    # one that is null is not one that is not there
    assert [reason["text"] for reason in parameter_changes({"floor": None}, {})] == [
        "parameter floor is gone: it was null"
    ]
    assert parameter_changes(before, json.loads(json.dumps(before))) == []


def test_two_long_values_that_begin_alike_are_told_apart_in_a_line():
    long, other = list(range(100)), [*range(99), 0]
    assert (
        len(shorten_value(long)) <= 60
        and shorten_value(long)[:42] == shorten_value(other)[:42]
        and shorten_value(long) != shorten_value(other)
    )
    assert (shorten_value([1, "é"]), shorten_value("x" * 58)) == ('[1, "é"]', f'"{"x" * 58}"')


def test_the_way_to_a_module_is_the_shortest_and_there_is_none_to_what_nobody_imports(project):
    ask = lambda module: import_chain(module, project / "nbs/clean.ipynb", WIRED["clean"], project, "clean")  # noqa: E731
    assert ask("common.areas") == ["clean", "data.others", "data.shapes", "common.areas"]
    assert ask("data.nobody") == []
    # given a nearer way, in another cell
    code = [*CELLS["clean"], "from brewcast.common import areas"]
    write_notebook(project, "clean", code)
    assert ask("common.areas") == ["clean", "common.areas"]
