"A run of tests that is terminated, even by kill -9, leaves no process behind."

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT

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


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_run_has_started_ends_with_it(how, tmp_path):
    # given a run on two workers, one of whose tests has started a process in a session of its own
    (tmp_path / "test_one.py").write_text(RUN)
    (tmp_path / "conftest.py").write_text(
        "import guardian\n\n\ndef pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'):\n        config.watched = guardian.watch()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    environment = {name: value for name, value in environment.items() if "PYTEST" not in name}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-n", "2", "-p", "no:cacheprovider"]
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path / "begun").exists():
        assert run.poll() is None
        time.sleep(0.05)
    begun = [psutil.Process(int((tmp_path / "begun").read_text())), *psutil.Process(run.pid).children(recursive=True)]
    # when it is ended from outside
    run.send_signal(how)
    run.wait(120)
    # then so is all that it has started
    give_up = time.monotonic() + 60
    while left := [process for process in begun if lives(process)]:
        assert time.monotonic() < give_up, left
        time.sleep(0.05)
