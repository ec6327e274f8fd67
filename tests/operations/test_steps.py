"The steps of an orchestrator: each where only its artifacts are, what they refuse, and what a second try does."

import json
import os
import shutil
from pathlib import Path

import pytest
from step_folders import StepFolders, filled_tasks
from toy import replace_in_file
from verdicts import make_month

from brewcast.common.params import read_env, read_stages
from brewcast.common.records import StateInputs
from brewcast.targets.dag import read_dag
from brewcast.workflow.runs import comparison_hashes, read_runs

STAGES = ["ingest", "clean", "look", "judge"]


def products(root: Path) -> dict:
    "The hashes by which the products of two runs are compared."
    return comparison_hashes(root, "near", read_stages(root, read_env(root)))


def forget(root: Path, *stages: str) -> None:
    "Take products away, as in the pod of another step."
    for name in stages:
        shutil.rmtree(root / "products/near" / name)


@pytest.fixture
def resolved(toy, brewcast):
    "The toy project after `resolve`, without the products of a build and without its state."
    forget(toy, *STAGES)
    (toy / "products/near/inputs.json").unlink()
    shutil.rmtree(toy / "state")
    brewcast("step resolve --source near --through '' --overrides ''")
    return toy


def test_steps_with_nothing_but_their_artifacts_make_what_a_build_makes(built, tmp_path):
    # given the DAG that every orchestrator compiles, and a folder for each task
    tasks = filled_tasks(read_dag(built))
    folders = StepFolders(built, tmp_path / "work", variables={"BREWCAST_KERNELS": "ipykernel.kernelapp"})
    said = {}
    # when all tasks have run
    folders.run_all(tasks, lambda task, ended: said.update({task.name: ended.stderr}))
    # then the last one, which has all artifacts, has the products of a build, and has recorded the run
    last = folders.work / "tasks/publish"
    assert products(last) == products(built)
    (record,) = [json.loads(path.read_text()) for path in (folders.volume / "near/runs").glob("*.json")]
    assert record["products"] == products(built) and set(record["params"]) == {*STAGES}
    assert "its pipeline makes no release" in said["publish"]
    # and a stage has seen its upstream alone
    assert sorted(path.name for path in (folders.work / "tasks/judge/products/near").iterdir() if path.is_dir()) == [
        "clean",
        "judge",
        "resolved",
    ]


def test_a_step_that_is_tried_again_says_that_nothing_is_to_be_done(resolved, brewcast):
    # given steps that have run
    for name in STAGES:
        brewcast(f"step stage {name}")
    brewcast("step publish")
    # when they are run again
    again = [brewcast(f"step stage {name}").err for name in STAGES]
    brewcast("step publish")
    # then no stage runs, and the run is recorded once
    assert again == [f"{name}: nothing to do: its products are those of this run\n" for name in STAGES]
    assert len(read_runs(resolved, "near")) == 1
    # and a build has nothing to do either
    assert "nothing to do: near is up to date" in brewcast("build").err


def test_parameters_are_those_that_resolve_was_given(resolved, brewcast):
    brewcast("step resolve --overrides 'gate.wins=5 lags=[2, 3]'", fails=True)  # as a shell splits it
    brewcast("""step resolve --overrides 'gate.wins=5 "lags=[2, 3]"'""")
    for name in ("ingest", "clean", "look"):
        brewcast(f"step stage {name}")
    made = [(resolved / f"products/near/{name}/out.txt").read_text() for name in ("clean", "look")]
    assert made == ["[2, 3, 2, 3]", "5"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("step resolve --overrides gate.winz=5", "gate.winz is not a parameter: did you mean gate.wins?"),
        ("step resolve --through 2024-05", "through is not a parameter"),
        ("step stage jugde", "no stage is called 'jugde': did you mean judge?"),
        ("step stage clean", "products/near/ingest is missing or not complete (has not run yet): clean reads it, and "),
        ("step publish", "products/near/ingest is missing or not complete (has not run yet): publish reads it, and "),
    ],
)
def test_what_is_wrong_or_missing_is_named(resolved, brewcast, line, text):
    said = brewcast(line, fails=True)
    assert said.status == 1 and text in said.err


def test_without_the_artifact_of_resolve_a_step_says_who_makes_it(resolved, brewcast):
    shutil.rmtree(resolved / "products/near/resolved")
    said = [brewcast(line, fails=True).err for line in ("step stage ingest", "step publish")]
    assert all("run.json is missing: `brewcast step resolve --source near` makes it" in text for text in said)


def test_products_of_another_run_are_refused(resolved, brewcast):
    # given all artifacts of a run, but that of `clean` from a run with other parameters
    for name in STAGES:
        brewcast(f"step stage {name}")
    brewcast("step resolve --overrides lags=[2]")
    # then neither the stage that reads it nor the publication takes it
    for line in ("step stage judge", "step publish"):
        assert (
            "products/near/clean does not belong to this run (parameter lags: [1, 12] -> [2])"
            in brewcast(line, fails=True).err
        )
    # and once it is made again, the stage after it has to follow
    brewcast("step stage clean")
    assert (
        "products/near/judge does not belong to this run (the products of clean differ"
        in brewcast("step publish", fails=True).err
    )
    brewcast("step stage judge")
    brewcast("step publish")
    assert len(read_runs(resolved, "near")) == 1


def test_a_product_that_was_changed_on_the_way_is_refused(resolved, brewcast):
    brewcast("step stage ingest")
    (resolved / "products/near/ingest/out.txt").write_text("another store")
    assert (
        "products/near/ingest does not belong to this run (out.txt was changed by hand"
        in brewcast("step stage clean", fails=True).err
    )


def test_other_code_or_data_than_resolve_has_seen_is_refused(resolved, brewcast):
    # given data that has changed after `resolve`, and then an image with other code
    (resolved / "data/near/till.csv").write_text("store_id\nS2\n")
    assert (
        "ingest: code or data are not those that this run has resolved (data/near changed)"
        in brewcast("step stage ingest", fails=True).err
    )
    (resolved / "data/near/till.csv").write_text("store_id\nS1\n")
    replace_in_file(resolved / "brewcast/common/areas.py", "return x", "return [*x, 0]")
    assert "module common.areas: area" in brewcast("step stage ingest", fails=True).err
    # a change that nothing runs is none
    replace_in_file(resolved / "brewcast/common/areas.py", "return [*x, 0]", "return x  # as it is")
    brewcast("step stage ingest")


def test_a_stage_that_fails_shows_its_cell_and_succeeds_when_it_is_mended(resolved, brewcast):
    for name in ("ingest", "clean"):
        brewcast(f"step stage {name}")
    brewcast("step resolve --overrides fails=true")
    said = brewcast("step stage judge", fails=True)
    assert said.status == 1 and "ValueError: parameter fails is set" in said.err
    assert "in cell 5 of 22_judge.ipynb" in said.err and not (resolved / "products/near/judge/out.txt").exists()
    brewcast("step resolve")
    brewcast("step stage judge")
    assert (resolved / "products/near/judge/out.txt").read_text() == "whole"


def test_a_temporary_failure_is_tried_again_by_the_orchestrator_or_with_retry_here(resolved, brewcast):
    # given a stage whose server is away at its first try
    notebook = resolved / "nbs/model/22_judge.ipynb"
    replace_in_file(notebook, "if fails:\\n", "if not Path('tried').exists():\\n        Path('tried').touch()\\n")
    replace_in_file(notebook, 'raise ValueError(\\"parameter', 'raise ConnectionRefusedError(111, \\"parameter')
    with open(resolved / "env.yaml", "a") as env:
        env.write("retries: {limit: 1, wait: 0}\n")
    brewcast("step resolve")
    for name in ("ingest", "clean"):
        brewcast(f"step stage {name}")
    # when it runs, then its exit status asks the orchestrator for another try, and nothing is tried here
    assert brewcast("step stage judge", fails=True).status == 75
    brewcast("step stage judge")
    # and where the orchestrator reads no exit status, the step tries again itself
    (resolved / "tried").unlink()
    forget(resolved, "judge")
    assert "judge: " in brewcast("step stage judge --retry").err
    assert (resolved / "products/near/judge/out.txt").read_text() == "whole"


def test_resolve_writes_nothing_to_a_state_that_is_read_only(toy, brewcast, monkeypatch):
    # given a state's volume that this process may not write to
    before = {path: path.stat().st_mtime_ns for path in (toy / "state").rglob("*")}
    may = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: may(path, mode) and not (mode == os.W_OK and "state" in str(path))
    )
    # when the run is resolved
    brewcast("step resolve")
    # then no file of the state is new, gone or changed, and no lock was taken
    assert {path: path.stat().st_mtime_ns for path in (toy / "state").rglob("*")} == before
    assert StateInputs.read(toy / "products/near/resolved/inputs.json").champion is None


@pytest.mark.parametrize(("outcome", "status"), [("published", 0), ("waiting", 0), ("stopped", 3)])
def test_each_result_of_a_month_has_its_exit_status(toy, brewcast, monkeypatch, outcome, status):
    monkeypatch.setattr("brewcast.operations.steps.publish_run", lambda *_: make_month("2023-05", status=outcome))
    monkeypatch.setattr("brewcast.operations.monthly.month_line", lambda record: f"it is {record.status}")
    said = brewcast("step publish", fails=status != 0)
    assert (said.status, said.out) == (status, f"it is {outcome}\n")
