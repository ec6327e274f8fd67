"From a clone to a served forecast, with little data: run, run again, kill, serve, and the tools in the project's root."

import hashlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from clients import post, run_service
from conftest import commands, project_environment, small_project
from waits import wait_until

from brewcast.common.ledger import read_ledger
from brewcast.common.records import Verdict

STAGES = ["ingest", "clean", "explore", "features", "monitor", "train", "evaluate", "forecast", "package"]


def data_products(root: Path) -> dict:
    "Hash of every Parquet and JSON product: any two clean builds must agree on them."
    paths = [p for p in sorted((root / "products").rglob("*")) if p.suffix in {".parquet", ".json"}]
    kept = [path for path in paths if not path.name.startswith(".")]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def ledger(root: Path) -> list[dict]:
    entries = read_ledger(root / "state/simulated")
    return [{k: v for k, v in entry.content().items() if k not in ("at", "by")} for entry in entries]


def serving_state(root: Path) -> dict:
    "What serves: ledger, link, and the content hashes of MLflow's aliases."
    from brewcast.common.mlflow_models import read_aliases

    state = root / "state/simulated"
    return {
        "ledger": ledger(root),
        "current": (state / "current").resolve().name,
        "aliases": read_aliases("simulated", root),
    }


def read(root: Path, product: str) -> dict:
    return json.loads((root / "products/simulated" / product).read_text())


def test_make_run_shows_progress_and_sums_up(published):
    # it shows which stage runs, the progress and the time taken
    started = re.findall(r"(\d) of 9 +(\w+) +starts", published.err)
    assert sorted(name for _, name in started) == sorted(STAGES)
    assert len(re.findall(r"of 9 +\w+ +done in +[\d.]+ s +\(\d+ s in all\)", published.err)) == 9
    # half a screen at the end: rows, errors beside the baselines, verdict, what serves, and the path of the page
    dataset = read(published.root, "ingest/dataset.json")
    verdict = Verdict.read(published.root / "products/simulated/evaluate/verdict.json")
    lines = published.out.splitlines()
    assert lines[0] == f"simulated: {dataset['rows_in']:,} rows accepted, {dataset['rows_set_aside']:,} quarantined"
    assert dataset["rows_in"] + dataset["rows_set_aside"] == dataset["rows_read"]
    names = ["candidate", "champion", "last_month", "mean_of_3", "same_month_last_year", "seasonal", "floor"]
    assert set(names) <= set(verdict.errors) and len(verdict.cutoffs) == 12
    for name in names:
        assert re.search(rf"(?m)^  {name} +{verdict.errors[name].wape:.4f}$", published.out)
    assert verdict.reason in published.out and "make serve" in published.out
    page = (published.root / "products/simulated/forecast/month.html").resolve()
    assert lines[-1].split()[-1] == page.as_uri() and page.exists()
    assert len(lines) <= 20


def test_a_second_run_does_nothing_even_in_a_copied_project(project, published):
    # given a project that was copied to another folder, where the first run checks everything again
    assert "nothing to build: simulated's products are up to date" in project.run("make run").err
    before = {path: path.stat().st_mtime_ns for path in (project.root / "products").rglob("*.*")}
    second_run = project.run("make run")
    assert "nothing to do" in second_run.err and "starts" not in second_run.err
    assert second_run.out == published.out.replace(published.root.as_uri(), project.root.as_uri())
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # and a build by Ploomber itself, or a publish, does nothing either
    again = project.run(". ./activate && ploomber build && make publish")
    assert "starts" not in again.err and len(ledger(project.root)) == 1


def test_the_tools_work_at_the_root_and_change_no_build(project):
    result = project.run(
        ". ./activate && set -e; ploomber status; feast -c feature_repo apply; nbdev_export; nbdev_clean;"
        " papermill --no-progress-bar nbs/model/13_features.ipynb scratch/out.ipynb; bentoml build; bentoml list"
    )
    assert "brewcast:" in result.out
    assert {path.name for path in (project.root / "scratch/features").glob("*.parquet")} >= {"history.parquet"}
    assert not (project.root / "mlflow.db").exists()
    assert "starts" not in project.run("make run").err


@pytest.fixture(scope="module")
def served(project, tmp_path_factory):
    "`make serve` on a free port."
    environment, log = project_environment(project.root), tmp_path_factory.mktemp("served") / "log"
    with run_service(["make", "serve", "PORT=PORT"], log, cwd=project.root, env=environment) as service:
        yield service.port


def test_the_service_answers_with_the_published_forecast(project, served):
    forecast = pq.read_table(project.root / "products/simulated/forecast/forecast.parquet").to_pandas()
    release = read(project.root, "package/package.json")["release"]
    status, answers = post(served, {"store_ids": forecast.store_id.tolist()})
    assert status == 200 and [a["store_id"] for a in answers] == forecast.store_id.tolist()
    for answer, row in zip(answers, forecast.itertuples(), strict=True):
        assert list(answer) == ["store_id", "month", "forecast", "lower", "upper", "model_version", "features_as_of"]
        assert answer["model_version"] == release
        assert (answer["month"], answer["features_as_of"]) == (str(row.month)[:10], str(row.features_as_of)[:10])
        for name in ["forecast", "lower", "upper"]:
            assert answer[name] == pytest.approx(getattr(row, name), rel=1e-6)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "field"),
    [
        (b'{"store_ids": ["nowhere"]}', "application/json", (404, 422, 400), "nowhere"),
        (b'{"store_ids": ["STORE101"], "horizon": 2}', "application/json", (400,), "horizon"),
        (b'{"store_ids": [NaN]}', "application/json", (400,), "store_ids"),
        (b'{"store_ids": [101]}', "application/json", (400,), "store_ids"),
        (b'{"store_ids": []}', "application/json", (400,), "store_ids"),
        (json.dumps({"store_ids": ["STORE101"] * 10_001}).encode(), "application/json", (400, 413), "store_ids"),
        (b'{"store_ids": ', "application/json", (400,), ""),
        (b'{"store_ids": ["STORE101"]}', "text/plain", (415, 400), ""),
    ],
)
def test_a_bad_request_gets_a_4xx_that_names_the_field(served, body, content_type, status, field):
    code, answer = post(served, body, content_type)
    assert code in status
    assert field in json.dumps(answer)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    "A second clean clone on one thread, which is killed in two stages and twice inside publish before it completes."
    root = small_project(tmp_path_factory.mktemp("second") / "brewcast")
    threads = {"BREWCAST_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run = commands(root)
    # `make faults` kills in every stage; test_faults.py kills in each stage of a smaller pipeline
    for stage in ("features", "evaluate"):
        kill_build(root, stage, threads)
    run("make build", **threads)
    for step in ["append_entry", "update_links"]:
        kill_publish(run, step)
    return SimpleNamespace(root=root, result=run("make run", **threads))


KILLED_IN_PUBLISH = """
import importlib, os, signal
module = importlib.import_module('brewcast.registry.publish')
module.{step} = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)
module.publish('simulated', '.')
"""


def kill_publish(run, step: str) -> None:
    "Publish the last build in a process that is killed when it reaches a function of the publish module."
    script = KILLED_IN_PUBLISH.format(step=step)
    killed = run(f'.venv/bin/python -c "{script}"', fails=True, SOURCE="simulated")
    assert killed.status in (-signal.SIGKILL, 128 + signal.SIGKILL), killed.all


def kill_build(root: Path, stage: str, threads: dict) -> None:
    "Kill a build as soon as a stage has run and saved its first cell."
    environment, notebook = project_environment(root) | threads, root / f"products/simulated/{stage}/{stage}.ipynb"
    process = subprocess.Popen(
        ["make", "build"], cwd=root, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )

    def has_started():
        return notebook.exists() and '"execution_count": 1' in notebook.read_text()

    wait_until(has_started, f"in {stage}", process, patience=600)
    os.killpg(process.pid, signal.SIGKILL)  # its own session: kills `make` and Python, not the kernels
    assert process.wait(120) == -signal.SIGKILL


def test_two_clean_builds_agree_to_the_byte_for_any_thread_count_and_after_kills(project, second):
    ours, theirs = data_products(project.root), data_products(second.root)
    assert len(ours) > 20 and ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_a_killed_build_gives_the_same_verdict_ledger_and_aliases(project, second):
    assert read(second.root, "evaluate/verdict.json") == read(project.root, "evaluate/verdict.json")
    assert serving_state(second.root) == serving_state(project.root)
    assert "nothing to do" in commands(second.root)("make run").err
