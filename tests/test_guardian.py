"A test run that is terminated, even by kill -9, leaves no process behind, and a test that hangs fails."

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, commands
from waits import wait_until

RUN = """
import subprocess, time
from pathlib import Path


def test_that_starts_a_server():
    server = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path("started.tmp").write_text(str(server.pid))
    Path("started.tmp").rename("started")
    time.sleep(600)
"""


def is_running(process: psutil.Process) -> bool:
    "Whether a process is running. A zombie process is not."
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_run(folder: Path, *options: str, **others) -> subprocess.Popen:
    "Start a run of the tests in a folder, on xdist's workers."
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment |= {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-p", "no:cacheprovider", *options]
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **others)


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGKILL])
def test_processes_started_by_a_run_end_with_it(stop_signal, tmp_path):
    # given a run on two workers, in which a test has started a process in its own session
    (tmp_path / "test_one.py").write_text(RUN)
    (tmp_path / "conftest.py").write_text(
        "import guardian\n\n\ndef pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'):\n        config.guardian = guardian.start_guardian()\n"
    )
    run = start_run(tmp_path, "-n", "2", stdout=subprocess.DEVNULL)
    started = tmp_path / "started"
    wait_until(started.exists, "the test's process has started", run)
    processes = [psutil.Process(int(started.read_text())), *psutil.Process(run.pid).children(recursive=True)]
    # when the run is ended from outside
    run.send_signal(stop_signal)
    run.wait(120)
    # then all its processes end
    wait_until(lambda: not any(is_running(process) for process in processes), f"ended: {processes}", patience=60)


HANGS = """
import signal
import time


def test_that_hangs():
    wait_for_ever()


def wait_for_ever():
    time.sleep(600)


def test_that_comes_after_it():
    pass
"""
HANGS_WITHOUT_ALARM = HANGS.replace(
    "def wait_for_ever():", "def wait_for_ever():\n    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])"
)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (HANGS, r"(?s)def wait_for_ever.*Timeout .>2.0s.*1 failed, 1 passed"),
        (
            HANGS_WITHOUT_ALARM,
            r"(?s)in wait_for_ever.*crashed while running 'test_one.py::test_that_hangs'.*1 failed in",
        ),
    ],
    ids=["signal", "signal blocked"],
)
def test_a_test_that_hangs_fails_and_shows_where(test, expected, tmp_path):
    # given this project's own settings with shorter timeouts
    settings = (ROOT / "pyproject.toml").read_text().replace('testpaths = ["tests"]', "")
    shorter = settings.replace("\ntimeout = 900", "\ntimeout = 2").replace("r_timeout = 1200", "r_timeout = 4")
    assert len(shorter) == len(settings) - 5
    (tmp_path / "pyproject.toml").write_text(shorter)
    (tmp_path / "test_one.py").write_text(test)
    options = ["-p", "pytest_timeout", "-n", "1", "--dist", "loadfile"]
    run = start_run(tmp_path, *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = run.communicate(timeout=300)[0].decode()
    assert run.returncode == 1 and re.search(expected, output), output


def test_a_command_that_hangs_is_ended_with_its_processes(tmp_path):
    # given a command that has started another process with the same output
    with pytest.raises(AssertionError, match="not finished after 2 s") as error:
        commands(tmp_path)("sleep 600 & echo started: $!; sleep 600", timeout=2)
    pid = int(re.search(r"started: (\d+)\n", str(error.value))[1])
    wait_until(lambda: not psutil.pid_exists(pid) or not is_running(psutil.Process(pid)), "ended")
    with pytest.raises(
        AssertionError, match="not finished after 1 s"
    ):  # a timeout is not the failure that `fails` expects
        commands(tmp_path)("sleep 600", timeout=1, fails=True)
