"""The DAG file in a real Airflow: it loads as the description says, its tasks run the steps, and a scheduler starts them.

Airflow is in .venv-airflow, with SQLite, on this machine alone.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, commands, copy_built, project_environment
from own_airflow import QUIET, TOOLS, Airflow
from step_folders import product_hashes
from toy import BUILD, FORKS, built, toy  # noqa: F401
from waits import wait_until

from brewcast.common.ledger import month_record_paths
from brewcast.delivery.track_record import read_track_record
from brewcast.targets.dag import PUBLISH, RESOLVE, read_dag
from brewcast.workflow.runs import read_runs

pytestmark = pytest.mark.timeout(1800)
SETTINGS = 'retries: {limit: 2, wait: 1}\nschedule: {cron: "* * * * *", time_zone: Etc/UTC, ends: null}\n'
AWAY = "if Path('away').exists():\n    Path('away').unlink()\n    raise ConnectionRefusedError('the server is away')\n"
DATA = "wait_for_data"


@pytest.fixture
def project(toy):  # noqa: F811
    "The toy project, with a server that is away once if there is a file `away`, built anew: what its stages make."
    with (toy / "env.yaml").open("a") as settings:
        settings.write(SETTINGS)
    (toy / ".venv").symlink_to(ROOT / ".venv")
    notebook = toy / "nbs/data/11_clean.ipynb"
    text = notebook.read_text()
    assert text.count("# the run\\n") == 1
    notebook.write_text(text.replace("# the run\\n", "# the run\\n" + json.dumps(AWAY)[1:-1]))
    commands(toy)(BUILD, **FORKS)
    made = product_hashes(toy, "near")
    shutil.rmtree(toy / "products")
    return SimpleNamespace(root=toy, made=made)


@pytest.fixture
def airflow(project, tmp_path):
    return Airflow(tmp_path / "airflow", project.root, "near", project_environment(project.root) | FORKS)


def airflow_facts(home: Path, name: str) -> dict:
    "What Airflow reads from the DAG files in a folder."
    command = [TOOLS / "python", ROOT / "tests/deploy/airflow_facts.py", home, name]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | QUIET
    done = subprocess.run(command, env=environment | {"AIRFLOW_HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_what_airflow_loads_equals_the_description_of_the_dag(tmp_path):
    dag = read_dag(ROOT)
    shutil.copy(ROOT / "deploy/airflow/brewcast.py", tmp_path)
    facts = airflow_facts(tmp_path, "brewcast_simulated")
    tasks = facts["tasks"]
    assert tasks.pop(DATA)["upstream"] == []
    assert {name: task["upstream"] for name, task in tasks.items()} == {
        task.name: sorted(task.upstream or [DATA]) for task in dag.tasks
    }
    for name, task in tasks.items():
        assert (task["retries"], task["delay"], task["backoff"]) == (dag.retries.limit, dag.retries.wait, 2), name
        assert task["rule"] == "all_success"
        assert task["arguments"] == [re.sub(r"\{(\w+)\}", r"{{ params.\1 }}", word) for word in dag.task(name).command]
    assert {name: param["value"] for name, param in facts["params"].items()} == {
        p.name: p.default for p in dag.parameters
    }
    assert (facts["cron"], facts["time_zone"], facts["ends"]) == (dag.schedule.cron, dag.schedule.time_zone, None)
    assert (facts["catchup"], facts["most_runs"], facts["most_tasks"]) == (False, 1, 1)


def test_the_steps_run_in_order_a_temporary_failure_is_tried_again_and_the_products_are_the_same(project, airflow):
    (project.root / "away").touch()
    airflow.test()
    tasks = airflow.tasks()
    assert tasks == {name: ("success", 1) for name in [DATA, RESOLVE, "ingest", "clean", "look", "judge", PUBLISH]} | {
        "clean": ("success", 2)
    }
    order = [*tasks]
    for task in read_dag(project.root).tasks:
        assert all(order.index(before) < order.index(task.name) for before in task.upstream)
    assert product_hashes(project.root, "near") == project.made
    assert read_runs(project.root, "near")[-1].products == project.made


def test_a_bug_is_not_tried_again_and_nothing_is_published(project, airflow):
    recorded = len(read_runs(project.root, "near"))
    airflow.test(overrides="fails=true", fails=True)
    tasks = airflow.tasks()
    assert (tasks["clean"], tasks["judge"], tasks[PUBLISH]) == (("success", 1), ("failed", 1), ("upstream_failed", 0))
    assert len(read_runs(project.root, "near")) == recorded


@pytest.mark.parametrize("params", [{"through": "October"}, {"source": "far"}, {"overrides": "fails"}])
def test_a_parameter_that_the_schema_does_not_allow_starts_nothing(project, airflow, params):
    assert next(iter(params.values())) in airflow.test(**params, fails=True)
    assert not airflow.tasks()


def test_a_project_that_is_not_there_is_not_tried_again(airflow):
    airflow.environment["AIRFLOW_VAR_BREWCAST_PROJECT"] = "/nowhere"
    assert "brewcast did not start" in airflow.test(fails=True)
    assert airflow.tasks()[RESOLVE] == ("failed", 1)


@pytest.fixture
def scheduler(airflow):
    "Airflow with scheduler and API server, which asks for data every second. It ends with the test."
    dag = airflow.home / "dags/brewcast.py"
    assert "poke_interval=600" in dag.read_text()
    dag.write_text(dag.read_text().replace("poke_interval=600", "poke_interval=1"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = {"AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__API__PORT": port, "AIRFLOW__API__WORKERS": "1"}
    variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"http://127.0.0.1:{port}/execution/"
    address = f"http://127.0.0.1:{port}/api/v2/monitor/health"

    def answers():
        "Does the API server answer, and is the DAG known? A task that starts before fails, and costs one of its tries."
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10):
            return airflow.name in airflow("dags", "list", "--output", "plain")

    log = airflow.home / "standalone.log"
    with log.open("w") as output:
        options = {"env": airflow.environment | variables, "stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([TOOLS / "airflow", "standalone"], start_new_session=True, **options)
    wait_until(answers, "ready", process, patience=600, log=log)
    airflow("dags", "unpause", airflow.name, "--yes")
    yield SimpleNamespace(process=process, log=log, tasks=lambda number: airflow.tasks("scheduled", number))
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_scheduler_starts_a_run_and_the_next_one_waits_for_data(project, scheduler):
    def reaches(number: int, task: str, state: str):
        what, log = f"{task} of run {number} {state}", {"log": scheduler.log, "patience": 900}
        wait_until(lambda: scheduler.tasks(number).get(task, [None])[0] == state, what, scheduler.process, **log)
        return scheduler.tasks(number)

    assert {*reaches(0, PUBLISH, "success").values()} == {("success", 1)}
    assert product_hashes(project.root, "near") == project.made
    assert reaches(1, DATA, "up_for_reschedule")[RESOLVE] == (None, 0)
    (project.root / "data/near/till.csv").touch()
    reaches(1, DATA, "success")


def test_a_real_month_ends_in_the_products_of_a_run_without_airflow(published, tmp_path):
    made = product_hashes(published.root, "simulated")
    root = copy_built(published.root, tmp_path / "brewcast")
    for folder in ("products", "state", "cache"):
        shutil.rmtree(root / folder)
    airflow = Airflow(tmp_path / "airflow", root, "simulated", project_environment(root))
    airflow.test()
    assert {state for state, _ in airflow.tasks().values()} == {"success"}
    assert product_hashes(root, "simulated") == made
    assert [record.status for record in read_track_record(month_record_paths(root / "state/simulated"))] == [
        "published"
    ]
