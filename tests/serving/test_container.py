"The image's entry point: one process that serves, checks itself and proves its release, with a read-only root in mind."

import json
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from clients import ONE_STORE, post
from releases import ROOT, make_release
from servers import free_port

from brewcast.delivery.package import build_bento, http_request, isolated_environment
from brewcast.serving.prediction_log import read_predictions

CONTAINER = [sys.executable, "-m", "brewcast.serving.container"]


@pytest.fixture(scope="module")
def bento(tmp_path_factory):
    work = tmp_path_factory.mktemp("bento")
    return build_bento(ROOT, make_release(work / "products").folder, work)


def image_environment(bento, work, **variables):
    "What the image sets: nothing but where the code is and where forecasts are logged; there is no home."
    excluded = {"BENTOML_HOME", "HOME"}
    kept = {name: text for name, text in isolated_environment(work).items() if name not in excluded}
    paths = {
        "PYTHONPATH": str(bento / "src"),
        "BREWCAST_PREDICTIONS": str(work / "predictions"),
        "HOME": "/nonexistent",
    }
    return kept | paths | {"TMPDIR": str(work)} | variables


@pytest.fixture(scope="module")
def served(bento, tmp_path_factory):
    "The container as SageMaker starts it, on another port, after its requests; then it is stopped."
    work, port = tmp_path_factory.mktemp("served"), free_port()
    environment = image_environment(bento, work, SAGEMAKER_BIND_TO_PORT=str(port), BENTOML_HOST="127.0.0.1")
    with (work / "log").open("w") as output:
        process = subprocess.Popen([*CONTAINER, "serve"], cwd="/", env=environment, stdout=output, stderr=output)
    seen = SimpleNamespace(work=work, process=process)
    try:
        check = [*CONTAINER, "check"]
        as_sagemaker = environment | {"BREWCAST_PLATFORM": "sagemaker"}
        seen.checks = []
        deadline = time.monotonic() + 120
        while 0 not in seen.checks and time.monotonic() < deadline and process.poll() is None:
            seen.checks.append(subprocess.run(check, env=as_sagemaker, check=False).returncode)
        seen.ping = http_request(port, "GET", "/ping")[0]
        seen.answer = post(port, ONE_STORE, path="/invocations")
        seen.children = psutil.Process(process.pid).children(recursive=True)
        seen.listening = {
            (c.laddr.ip, c.laddr.port) for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"
        }
        seen.port, started = port, time.monotonic()
        process.send_signal(signal.SIGTERM)
        seen.status = process.wait(60)
        seen.stop_seconds = time.monotonic() - started
        seen.check_after = subprocess.run(check, env=as_sagemaker, check=False).returncode
        yield seen
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_it_answers_sagemaker_in_one_process_and_on_one_port(served):
    assert served.ping == 200
    assert served.answer[0] == 200 and served.answer[1][0]["store_id"] == "STORE101"
    assert served.children == [] and served.listening == {("127.0.0.1", served.port)}


def test_the_health_check_fails_before_and_after_and_succeeds_while_it_is_ready(served):
    assert served.checks[0] == 1 and served.checks[-1] == 0 and served.check_after == 1


def test_a_stop_signal_ends_it_at_once_without_losing_a_forecast(served):
    assert served.status == 0 and served.stop_seconds < 10
    assert read_predictions(served.work / "predictions").store_id.tolist() == ["STORE101"]
    assert "Traceback" not in (served.work / "log").read_text()


def test_a_stop_signal_while_it_starts_ends_it(bento, tmp_path):
    # given a first process of a container: it has no default for a signal, so it must have its own from the start
    environment = image_environment(bento, tmp_path, PORT=str(free_port()), BENTOML_HOST="127.0.0.1")
    process = subprocess.Popen(CONTAINER, cwd="/", env=environment, stderr=subprocess.DEVNULL)
    status = f"/proc/{process.pid}/status"
    while not int(next(line for line in open(status) if line.startswith("SigCgt")).split()[1], 16) >> 14 & 1:
        time.sleep(0.01)  # the bit of SIGTERM among the caught signals
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def run(bento, work, *arguments, **variables):
    environment = image_environment(bento, work, **variables)
    return subprocess.run(
        [*CONTAINER, *arguments], cwd="/", env=environment, capture_output=True, text=True, timeout=60
    )


def test_golden_prints_the_release_in_one_line_or_says_what_is_wrong(bento, tmp_path):
    done = run(bento, tmp_path, "golden")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout) == json.loads((bento / "src" / "release" / "release.json").read_text())
    # given a release whose golden answers are others: every hash is right, but the model answers otherwise
    changed = shutil.copytree(bento / "src" / "release", tmp_path / "release")
    with open(changed / "golden.json", "a") as file:
        file.write(" ")
    done = run(bento, tmp_path, "golden", BREWCAST_RELEASE=str(changed))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and "golden.json is missing or was changed" in done.stderr


def test_a_wrong_setting_ends_the_start_with_one_line(bento, tmp_path):
    done = run(bento, tmp_path, PORT="80x")
    assert (done.returncode, done.stderr.startswith("error: PORT='80x' is not a port number")) == (1, True)
    done = run(bento, tmp_path, BREWCAST_LOG="loud")
    assert (done.returncode, done.stderr) == (1, "error: BREWCAST_LOG='loud': must be info or warning\n")
    done = run(bento, tmp_path, BREWCAST_API_KEYS="/no/keys.json", BREWCAST_ONLINE_STORE="redis://127.0.0.1")
    assert (done.returncode, done.stderr) == (
        1,
        "error: BREWCAST_API_KEYS: /no/keys.json cannot be read (FileNotFoundError)\n",
    )
    done = run(bento, tmp_path, BREWCAST_ONLINE_STORE="mysql://127.0.0.1")
    assert done.returncode == 1 and done.stderr.startswith("error: BREWCAST_ONLINE_STORE: an online store's URL begins")
    done = run(bento, tmp_path, "serve", AIP_HEALTH_ROUTE="/h", AIP_PREDICT_ROUTE="/p")
    assert (
        done.returncode == 1
        and "(or the argument serve) and Vertex AI's AIP_HEALTH_ROUTE are both given" in done.stderr
    )


def test_the_health_check_imports_the_standard_library_alone():
    code = "import sys; before = set(sys.modules); import brewcast.serving.container as c; c.is_ready({'PORT': '1'});"
    code += "print(*{name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["brewcast"]
