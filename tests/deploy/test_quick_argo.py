"""Argo's objects are valid, and the compiled DAG runs: in its order, with a failure that a retry mends and one that none may."""

import json

import pytest
import yaml
from argo_runner import Attempt, FolderPods, run_workflow
from checkers import hera_findings, schema_findings
from filelock import FileLock, Timeout
from planting import ROOT, plant, planted_mistakes
from step_folders import StepFolders
from toy import FORKS

from brewcast.targets.argo import argo_objects, argo_yaml, stage_facts
from brewcast.targets.chart_values import CHANGE_ME
from brewcast.targets.dag import read_dag

COMPILED = (ROOT / "deploy/argo/brewcast.yaml").read_text()
TEMPLATE = (ROOT / "deploy/argo/brewcast.yaml.j2").read_text()
CLAIMS = (ROOT / "deploy/argo/claims.yaml").read_text()
FOUND_BY_HERA = {"misspelt field of a workflow", "parameter that is a list"}  # the others are wrong in their meaning
FAILURE = """\
tried = Path({mark!r})
if not tried.exists():
    tried.touch()
    raise {error}
"""


def documents(*texts: str) -> list[dict]:
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def test_the_objects_fit_the_models_and_schemas():
    dag = read_dag(ROOT)
    pilot = dag.model_copy(update={"schedule": dag.schedule.model_copy(update={"ends": "2026-12-31"})})
    image = "registry.example.com/brewcast-stage@sha256:" + "0" * 64
    variants = {
        "compiled": documents(COMPILED),
        "another source": documents(argo_yaml(ROOT, image, "walmart"), CLAIMS),
        "with an end": documents(argo_objects(pilot, CHANGE_ME, stage_facts(ROOT), TEMPLATE)),
    }
    for findings in (hera_findings(variants), schema_findings(variants)):
        assert findings == {name: [] for name in variants}


def test_hera_finds_misspelt_fields_and_wrong_types():
    mistakes = planted_mistakes("argo")
    variants = {
        name: [plant(each, mistake) for each in documents(COMPILED) if each["kind"] == mistake["kind"]]
        for name, mistake in mistakes.items()
    }
    assert {name for name, found in hera_findings(variants).items() if found} == FOUND_BY_HERA


@pytest.fixture
def compiled(toy, tmp_path):
    "Compile the toy project with one retry, after a stage was given code; then run it in folders."
    (toy / "env.yaml").open("a").write("retries: {limit: 1, wait: 0}\n")

    def run(code: str, stage: str, change=lambda spec: None):
        (notebook,) = toy.glob(f"nbs/*/*_{stage}.ipynb")
        content = json.loads(notebook.read_text())
        content["cells"][-1]["source"] = code + "".join(content["cells"][-1]["source"])
        notebook.write_text(json.dumps(content))
        template = documents(argo_objects(read_dag(toy), CHANGE_ME, stage_facts(ROOT), TEMPLATE))[0]
        change(template["spec"])
        pods = FolderPods(StepFolders(toy, tmp_path / "work", variables=FORKS))
        return run_workflow(template, pods, tmp_path), pods

    return run


def failure(error: str, tmp_path) -> str:
    return FAILURE.format(error=error, mark=str(tmp_path / "tried"))


def test_tasks_run_in_the_order_of_the_dag_and_a_retry_mends_a_temporary_failure(compiled, tmp_path):
    # given a server that is away once, and tasks that are listed in the wrong order
    attempts, pods = compiled(
        failure("ConnectionRefusedError(111, 'the server is away')", tmp_path),
        "clean",
        lambda spec: spec["templates"][0]["dag"]["tasks"].reverse(),
    )
    # then each task has run after those that it reads, one of them twice, and the run is recorded
    assert attempts[0] == Attempt("resolve", 0) and attempts[-1] == Attempt("publish", 0)
    assert [attempt for attempt in attempts if attempt.task == "clean"] == [Attempt("clean", 75), Attempt("clean", 0)]
    order = [attempt.task for attempt in attempts if attempt.status == 0]
    assert sorted(order) == ["clean", "ingest", "judge", "look", "publish", "resolve"]
    assert order.index("ingest") < order.index("clean") < order.index("judge")
    assert list((pods.folders.volume / "near/runs").glob("*.json"))


def test_a_failure_that_no_retry_mends_ends_the_run_without_a_publication(compiled):
    attempts, pods = compiled("raise ValueError('bad data')\n", "ingest")
    assert attempts == [Attempt("resolve", 0), Attempt("ingest", 1)]
    assert not (pods.folders.volume / "near/runs").exists()


def test_a_run_waits_for_another(tmp_path):
    template = documents(COMPILED)[0]
    with FileLock(tmp_path / "brewcast-state.lock"), pytest.raises(Timeout):
        run_workflow(template, None, tmp_path, patience=0)
