"A run of tests ends: one that is terminated, even by kill -9, leaves no process behind, and a test that hangs fails."

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
    begun = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path("begun.tmp").write_text(str(begun.pid))
    Path("begun.tmp").rename("begun")
    time.sleep(600)
"""


def lives(process: psutil.Process) -> bool:
    "Whether a process runs; one that nobody has waited for yet does not."
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def begin_run(folder: Path, *options: str, **others) -> subprocess.Popen:
    "A run of the tests in a folder, as xdist's workers do it."
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment |= {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-p", "no:cacheprovider", *options]
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **others)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_run_has_started_ends_with_it(how, tmp_path):
    # given a run on two workers, one of whose tests has started a process in a session of its own
    (tmp_path / "test_one.py").write_text(RUN)
    (tmp_path / "conftest.py").write_text(
        "import guardian\n\n\ndef pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'):\n        config.watched = guardian.watch()\n"
    )
    run = begin_run(tmp_path, "-n", "2", stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "begun").exists, "begun", run)
    begun = [psutil.Process(int((tmp_path / "begun").read_text())), *psutil.Process(run.pid).children(recursive=True)]
    # when it is ended from outside
    run.send_signal(how)
    run.wait(120)
    # then so is all that it has started
    wait_until(lambda: not any(lives(process) for process in begun), f"ended: {begun}", patience=60)


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
DEAF = HANGS.replace(
    "def wait_for_ever():", "def wait_for_ever():\n    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])"
)


@pytest.mark.parametrize(
    ("test", "told"),
    [
        (HANGS, r"(?s)def wait_for_ever.*Timeout .>2.0s.*1 failed, 1 passed"),
        (DEAF, r"(?s)in wait_for_ever.*crashed while running 'test_one.py::test_that_hangs'.*1 failed in"),
    ],
    ids=["signal", "deaf"],
)
def test_a_test_that_hangs_shows_where_and_fails(test, told, tmp_path):
    # given this project's own settings, but for the times
    settings = (ROOT / "pyproject.toml").read_text().replace('testpaths = ["tests"]', "")
    shorter = settings.replace("\ntimeout = 900", "\ntimeout = 2").replace("r_timeout = 1200", "r_timeout = 4")
    assert len(shorter) == len(settings) - 5
    (tmp_path / "pyproject.toml").write_text(shorter)
    (tmp_path / "test_one.py").write_text(test)
    options = ["-p", "pytest_timeout", "-n", "1", "--dist", "loadfile"]
    run = begin_run(tmp_path, *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = run.communicate(timeout=300)[0].decode()
    assert run.returncode == 1 and re.search(told, said), said


def test_a_command_that_hangs_is_ended_with_what_it_has_started(tmp_path):
    # given one that another process, with the same output, would outlive
    with pytest.raises(AssertionError, match="not done after 2 s") as told:
        commands(tmp_path)("sleep 600 & echo begun: $!; sleep 600", timeout=2)
    begun = int(re.search(r"begun: (\d+)\n", str(told.value))[1])
    wait_until(lambda: not psutil.pid_exists(begun) or not lives(psutil.Process(begun)), "ended")
    with pytest.raises(AssertionError, match="not done after 1 s"):  # which is no failure that somebody expects
        commands(tmp_path)("sleep 600", timeout=1, fails=True)
