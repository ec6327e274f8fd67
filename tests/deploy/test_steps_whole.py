"""The steps of a small real project, each in a folder with nothing but its artifacts, beside the commands of a laptop.

The runner of folders is `tests/step_folders.py`: it takes the tasks of the DAG, or what a compiled file says of them.
"""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import commands, project_environment, small_project
from step_folders import StepFolders, filled_tasks, product_hashes
from waits import wait_until

from brewcast.common.ledger import read_ledger
from brewcast.targets.dag import read_dag

MONTH = ".venv/bin/python -m brewcast.cli month --source simulated"  # `make` ends with 2 for any failure
VARYING = {"at", "by", "seconds", "cpu_seconds", "stages"}  # fields that hold times and names of machines


def lasting(value):
    "A record without what differs from run to run."
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in value.items() if key not in VARYING}
    return [lasting(item) for item in value] if isinstance(value, list) else value


def state_contents(state: Path) -> dict:
    "What a source's state says: the ledger, the records of months, what MLflow knows, and which files there are."
    months = [lasting(json.loads(path.read_text())) for path in sorted((state / "months").glob("*.json"))]
    files = {path.relative_to(state).as_posix() for path in state.rglob("*") if path.is_file()}
    ids = re.compile(r"[0-9a-f]{32}|\d{8}T\d{6}Z")  # of runs in MLflow, and of runs by their time
    return {
        "ledger": [lasting(entry.content()) for entry in read_ledger(state)],
        "months": months,
        "mlflow": mlflow_contents(state / "mlflow.db"),
        "files": sorted({ids.sub("id", name) for name in files if not name.startswith((".", "mlartifacts"))}),
    }


def mlflow_contents(database: Path) -> dict:
    "Runs with parameters, metrics, inputs and the names of their tags; versions and aliases."
    queries = {
        "metrics": "SELECT r.name, m.key, m.step, m.value FROM metrics m JOIN runs r USING (run_uuid)",
        "params": "SELECT r.name, p.key, p.value FROM params p JOIN runs r USING (run_uuid)",
        "tags": "SELECT r.name, t.key FROM tags t JOIN runs r USING (run_uuid)",
        "inputs": "SELECT r.name, d.name, d.digest FROM inputs i JOIN runs r ON r.run_uuid = i.destination_id"
        " JOIN datasets d ON d.dataset_uuid = i.source_id",
        "versions": "SELECT v.version, r.name FROM model_versions v JOIN runs r ON r.run_uuid = v.run_id",
        "aliases": "SELECT alias, version FROM registered_model_aliases",
    }
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return {name: sorted(connection.execute(query).fetchall()) for name, query in queries.items()}


def run_all(folders: StepFolders, tasks: list) -> None:
    "Run the tasks in their order. What they say is shown if the test fails."
    folders.run_all(tasks, lambda task, ended: print(task.name, ended.stdout, ended.stderr))


def test_steps_end_in_the_products_of_make_run(published, tmp_path):
    # given the project of `make run`, and folders without its products and its state
    folders = StepFolders(published.root, tmp_path / "work")
    # when all tasks have run
    run_all(folders, filled_tasks(read_dag(published.root)))
    # then the products are the same, byte for byte, and so is what the state says but for the month's record
    assert product_hashes(folders.work / "tasks/publish") == product_hashes(published.root)
    ours, theirs = (state_contents(state / "simulated") for state in (folders.volume, published.root / "state"))
    assert [ours[name] for name in ("mlflow",)] == [theirs[name] for name in ("mlflow",)]
    assert [entry["release"] for entry in ours["ledger"]] == [entry["release"] for entry in theirs["ledger"]]
    assert [month["status"] for month in ours["months"]] == ["published"] and theirs["months"] == []


@pytest.fixture(scope="module")
def months(tmp_path_factory):
    "A project as one machine has it, and the same in folders. The tests below run a month each, in their order."
    place = tmp_path_factory.mktemp("months")
    project = small_project(place / "project", months=30, stores=10, lines=30_000)
    machine = StepFolders(project, place / "machine").prepare(read_dag(project).task("resolve"))
    return SimpleNamespace(project=project, machine=machine, folders=StepFolders(project, place / "work"))


def test_a_month_in_steps_is_the_month_of_one_command(months):
    commands(months.machine)(f"{MONTH} --through 2023-04", timeout=800)
    run_all(months.folders, filled_tasks(read_dag(months.project), through="2023-04"))
    assert_same(months)


def test_the_month_after_it_reads_the_state_and_survives_a_kill(months):
    commands(months.machine)(MONTH, timeout=800)
    # when the next month is run in steps, and the last of them is killed once its release serves
    *tasks, publish = filled_tasks(read_dag(months.project))
    run_all(months.folders, tasks)
    killed_after_its_entry(months.folders, publish)
    run_all(months.folders, [publish])
    # then it ends as the monthly command does
    assert [month["month"] for month in assert_same(months)["months"]] == ["2023-04", "2023-05"]


def assert_same(months) -> dict:
    "The last step has the products of the command, and the state says the same. Returns what it says."
    assert product_hashes(months.folders.work / "tasks/publish") == product_hashes(months.machine)
    ours, theirs = (state_contents(state / "simulated") for state in (months.folders.volume, months.machine / "state"))
    assert {name: ours[name] == theirs[name] for name in ours} == dict.fromkeys(ours, True)
    return ours


def killed_after_its_entry(folders: StepFolders, publish) -> None:
    "Kill the step `publish` between the ledger's entry and the month's record."
    folder = folders.prepare(publish)
    state = folder / "state/simulated"
    with folders.mounted(publish, folder):
        before = len(read_ledger(state))
        command = [".venv/bin/python", "-m", "brewcast.cli", *publish.command]
        step = subprocess.Popen(command, cwd=folder, env=project_environment(folder), start_new_session=True)
        wait_until(lambda: len(read_ledger(state)) > before, "published", step, patience=600)
        os.killpg(step.pid, signal.SIGKILL)
        step.wait()
        assert (state / "months/.doing").exists() and len(list((state / "months").glob("*.json"))) == 1
