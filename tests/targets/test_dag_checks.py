"The order of tasks, their artifacts and the publication, in the compiled files of all orchestrators, also where nobody planted a mistake before."

import copy

import pytest
from planting import COMPILED, ROOT, objects_found, plant

from brewcast.targets import dag_checks as checks
from brewcast.targets.compiled_checks import compiled_documents
from brewcast.targets.dag import read_dag
from brewcast.targets.kubernetes_objects import Manifests

FILES = ["argo/brewcast.yaml", "kubeflow/pipeline.yaml", "airflow/brewcast.py"]
UPSTREAM = {task.name: task.upstream for task in read_dag(ROOT).tasks}


def tasks_of(name: str) -> dict[str, checks.CompiledTask]:
    (dag,) = checks.compiled_dags(Manifests(compiled_documents(ROOT / "deploy" / name)))
    return dag


@pytest.mark.parametrize("name", FILES)
def test_every_target_is_read_as_the_dag_that_it_was_compiled_from(name):
    tasks = tasks_of(name)
    assert {task: set(found.after) - {"wait_for_data"} for task, found in tasks.items()} == {
        task: set(upstream) for task, upstream in UPSTREAM.items()
    }
    assert {found.step.removeprefix("stage ") for found in tasks.values()} == set(UPSTREAM)
    if not name.endswith(".py"):  # Airflow's tasks share a disk
        assert {task: {taken.task for taken in found.taken} for task, found in tasks.items()} == {
            task: set(upstream) for task, upstream in UPSTREAM.items()
        }


def changed_dag(task: str, after: list[str]) -> list[str]:
    "What the checks say when a task of Airflow's file waits for others."
    (document,) = compiled_documents(ROOT / "deploy/airflow/brewcast.py")
    document = copy.deepcopy(document)
    document["steps"][task] = (after, document["steps"][task][1])
    manifests = Manifests([document])
    found = (checks.check_dependencies, checks.check_artifacts, checks.check_publication)
    return [f"{mistake.path}: {mistake.problem}" for check in found for mistake in check(manifests)]


@pytest.mark.parametrize(
    ("task", "after", "problem"),
    [
        ("resolve", ["publish"], "resolve waits for publish, which waits for resolve"),
        ("train", ["resolve", "train"], "train waits for train, which waits for train"),
        ("train", ["resolve", "fetures"], "there is no task fetures"),
        ("publish", ["resolve", "evaluate"], "publish may start before"),
    ],
)
def test_a_wrong_order_is_found_in_the_file_of_airflow(task, after, problem):
    found = changed_dag(task, after)
    assert any(text.startswith(f"steps.{task}[0]: {problem}") for text in found)


def test_an_order_that_only_says_more_is_taken():
    assert changed_dag("train", UPSTREAM["train"] + ["explore"]) == []


@pytest.mark.parametrize(
    ("depends", "after"),
    [
        ("ingest", {"ingest"}),
        ("ingest.Succeeded && clean.Succeeded", {"ingest", "clean"}),
        ("ingest && (clean || features)", {"ingest", "clean", "features"}),
    ],
)
def test_argos_other_word_for_dependencies_is_read(depends, after):
    task = {"name": "train", "template": "train", "depends": depends}
    document = {"kind": "Workflow", "spec": {"templates": [{"name": "month", "dag": {"tasks": [task]}}]}}
    ((found,),) = checks.argo_tasks(document)
    assert set(found.after) == after


def test_an_artifact_that_is_optional_may_be_missing():
    template = {"name": "train", "inputs": {"artifacts": [{"name": "model", "optional": True}, {"name": "rows"}]}}
    tasks = [{"name": "train", "template": "train"}]
    document = {"kind": "Workflow", "spec": {"templates": [{"name": "month", "dag": {"tasks": tasks}}, template]}}
    (mistake,) = checks.check_artifacts(Manifests([document]))
    assert mistake.problem == "train needs the artifact rows, which nobody gives it"


def test_rendered_manifests_without_a_dag_are_not_asked():
    assert objects_found(checks.check_artifacts) == []


def changed_workflow(change: dict) -> list[str]:
    "What the checks of a DAG say of Argo's objects with another value."
    return [text for check in CHECKS for text in objects_of(check, change)]


def objects_of(check, change: dict) -> list[str]:
    template, *others = compiled_documents(COMPILED["argo"])
    changed = plant(template, {"mistake": "one more", **change})
    return [f"{mistake.path}: {mistake.problem}" for mistake in check(Manifests([changed, *others]))]


CHECKS = [getattr(checks, name) for name in checks.__all__ if name.startswith("check_")]
CLEAN = ["spec", "templates", 3]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"remove": [*CLEAN, "inputs", "artifacts", 1]}, "clean takes no artifact ingest"),
        ({"set": [[*CLEAN, "inputs", "artifacts", 1, "path"], "/tmp/ingest"]}, "clean gets ingest at /tmp/ingest"),
        ({"remove": [*CLEAN, "outputs", "artifacts", 0, "path"]}, "but it was made at None"),
        ({"remove": [*CLEAN, "outputs"]}, "no task makes clean"),
        ({"remove": [*CLEAN, "container", "args"]}, "clean runs no step of a month"),
        ({"set": [[*CLEAN, "container", "args", 2], "train"]}, "another task runs stage train, too"),
        (
            {"set": [["spec", "templates", 0, "dag", "tasks", 2, "template"], "explore"]},
            "another task runs stage explore",
        ),
    ],
)
def test_a_task_that_does_not_find_what_was_made_or_runs_something_else(change, problem):
    assert any(problem in text for text in changed_workflow(change))
