"""The pipeline for Kubeflow and Vertex AI: compiled as committed, valid, and run by kfp, each task in a folder of its own.

kfp's SubprocessRunner runs the toy project here: in order, with a failure that a retry mends and one that ends the run.
"""

import http.server
import json
import re
import subprocess
import threading

import pytest
import yaml
from checkers import kubeflow_findings
from conftest import ROOT, commands, project_environment
from planting import plant, planted_mistakes
from toy import FORKS, replace_in_file

from brewcast.common.parameter_types import Schedule
from brewcast.targets.compiled import DAG_FILE, dag_text
from brewcast.targets.dag import read_dag
from brewcast.targets.kubeflow import recurring_run_lines

PIPELINE = ROOT / "deploy/kubeflow/pipeline.yaml"
ON_KUBERNETES = PIPELINE.with_suffix(".kubernetes.yaml")
DAG = read_dag(ROOT)
IMAGE = "registry.example.com/other@sha256:" + "0123456789abcdef" * 4


def documents(path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    "The folder with both files, compiled now with an image of one's own."
    folder = tmp_path_factory.mktemp("kubeflow")
    commands(ROOT)(f".venv/bin/python -m brewcast.cli deploy kubeflow --image {IMAGE} --to {folder}/pipeline.yaml")
    return folder


@pytest.mark.parametrize("path", [PIPELINE, ON_KUBERNETES], ids=lambda path: path.name)
def test_compiling_again_gives_the_same_bytes_but_for_the_image(compiled, path):
    committed = set(re.findall(r"image: (\S+)", path.read_text()))
    assert len(committed) == 1
    assert (compiled / path.name).read_text().replace(IMAGE, *committed) == path.read_text(), (
        "run `make compile-kubeflow`"
    )


def test_kfp_takes_both_files_and_vertex_ai_finds_nothing_of_kubernetes_in_its_own():
    both = {path.name: documents(path) for path in (PIPELINE, ON_KUBERNETES)}
    assert kubeflow_findings(both) == {name: [] for name in both}
    (alone,), (same, platform) = both.values()
    assert alone == same and [*platform] == ["platforms"]


def test_a_planted_type_and_a_misspelt_field_are_found():
    (pipeline,) = documents(PIPELINE)
    mistakes = planted_mistakes("kubeflow")
    mistakes["misspelt"] = {
        "mistake": "misspelt",
        "rename": [["root", "dag", "tasks", "clean", "cachingOptions"], "caching"],
    }
    found = kubeflow_findings({name: [plant(pipeline, mistake)] for name, mistake in mistakes.items()})
    assert "DATE" in found["parameter of a type that Kubeflow lacks"][0]
    assert "caching" in found["misspelt"][0]


def test_the_tasks_are_those_of_the_dag():
    (pipeline,) = documents(PIPELINE)
    tasks = pipeline["root"]["dag"]["tasks"]
    assert {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()} == {
        task.name: set(task.upstream) for task in DAG.tasks
    }
    # kfp cannot tell exit statuses apart, so it repeats nothing, and each step does it itself
    assert not any("retryPolicy" in task or task["cachingOptions"] for task in tasks.values())
    given = pipeline["root"]["inputDefinitions"]["parameters"]
    assert {one.name: one.default for one in DAG.parameters}.items() <= {
        name: one["defaultValue"] for name, one in given.items()
    }.items()
    for task in DAG.tasks:
        resources = pipeline["deploymentSpec"]["executors"][f"exec-{task.name}"]["container"]["resources"]
        assert (resources["resourceCpuLimit"], resources["resourceMemoryLimit"]) == (task.cpu, task.memory)


def test_only_resolve_and_publish_mount_the_state():
    executors = documents(ON_KUBERNETES)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounted = {name: {mount["mountPath"] for mount in one.get("pvcMount", [])} for name, one in executors.items()}
    assert mounted == {
        f"exec-{task.name}": {f"/app/{name}" for name in ("state", "data") if getattr(task, name)} for task in DAG.tasks
    }


@pytest.fixture
def pipeline(toy):
    "The toy project, and a function that runs its pipeline by kfp: outcome and output."
    (toy / ".venv").symlink_to(ROOT / ".venv")
    (toy / "deploy").mkdir()
    env = toy / "env.yaml"
    env.write_text(env.read_text() + "retries: {limit: 1, wait: 0}\n")

    def run(*values):
        (toy / DAG_FILE).write_text(dag_text(toy))
        command = [ROOT / ".venv-kubeflow/bin/python", ROOT / "deploy/kubeflow/pipeline.py", "run", "--project", toy]
        environment = project_environment(toy) | FORKS | {"NO_COLOR": "1"}
        return subprocess.run([*command, *values], env=environment, capture_output=True, text=True, timeout=600)

    return run


def started(done) -> list[str]:
    "The tasks that kfp has started, in order."
    return re.findall(r"Executing task \W*(?:\[\d+m)?'([\w-]+)'", done.stdout + done.stderr)


def test_kfp_runs_the_tasks_in_order_and_a_retry_mends_a_temporary_failure(toy, pipeline):
    # given a disk that is full once, while a stage writes
    marker = toy / "was full"
    once = f"str(wins) if Path({str(marker)!r}).exists() else (Path({str(marker)!r}).touch(), Path('/dev/full').write_text('x'))"
    replace_in_file(toy / "nbs/data/12_look.ipynb", "str(wins)", json.dumps(once)[1:-1])
    done = pipeline()
    # then the step tries again, and all tasks run, each after those whose artifacts it reads
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert said.count("a temporary failure, again in") == 1
    order = started(done)
    dag = read_dag(toy)
    assert sorted(order) == sorted(task.name for task in dag.tasks)
    assert all(order.index(name) < order.index(task.name) for task in dag.tasks for name in task.upstream)
    assert order[-1] == "publish" and "the run is recorded" in said
    # and each task has left its artifact
    made = {path.parent.parent.name: path.read_text() for path in toy.glob("scratch/kubeflow/*/*/artifact/out.txt")}
    assert made.keys() == {task.name for task in dag.tasks} - {"resolve", "publish"} and made["look"] == "7"


def test_a_failure_that_no_retry_mends_ends_the_run_before_it_publishes(toy, pipeline):
    replace_in_file(toy / "nbs/data/10_ingest.ipynb", "open(sql).read()", "1 / 0")
    done = pipeline()
    assert done.returncode == 1 and started(done) == ["resolve", "ingest"], done.stderr[-4000:]
    assert "again in" not in done.stdout + done.stderr
    assert not list((toy / "state/near/runs").glob("*")) or "the run is recorded" not in done.stdout


class Server(http.server.BaseHTTPRequestHandler):
    "Stands for Kubeflow's API: it keeps what is posted, and answers with it."

    posted = {}

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.posted[self.path.rpartition("/")[2]] = content
        self.answer(content | {"experiment_id": "e", "recurring_run_id": "r", "created_at": "2030-01-01T00:00:00Z"})

    def do_GET(self):  # is it there, and has it the experiment?
        self.answer({})

    def answer(self, content: dict):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *words):
        "Say nothing."


def test_the_line_that_schedules_the_pipeline_is_one_that_kfp_sends():
    schedule = Schedule(cron="15 6 * * *", time_zone="Etc/UTC", ends="2030-12-31")
    (line,) = recurring_run_lines(schedule, str(ON_KUBERNETES.relative_to(ROOT)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        commands(ROOT)(line.replace("ADDRESS", f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()
    run = Server.posted["recurringruns"]
    assert (run["max_concurrency"], run["no_catchup"]) == (1, True)
    cron = run["trigger"]["cron_schedule"]
    assert cron["cron"] == "0 15 6 * * *" and cron["end_time"].startswith("2030-12-31T23:59:59")
    assert run["pipeline_spec"]["pipeline_spec"] == documents(ON_KUBERNETES)[0]
    assert run["pipeline_spec"]["platform_spec"] == documents(ON_KUBERNETES)[1]
