"The lock: one build of a source at a time, and no orphaned processes."

import subprocess
import sys

import psutil
import pytest
from building import start_build_to_last_stage
from conftest import ROOT
from filelock import FileLock, Timeout
from toy import ENV, resume_stages, start_build, started_stages
from waits import wait_until

from brewcast.common.lock import end_processes, project_lock


def test_a_second_build_prints_what_it_waits_for_and_then_has_nothing_to_do(toy):
    first = start_build_to_last_stage(toy)
    second = start_build(toy, toy / "second.log")
    wait_until(lambda: "waiting for it" in (toy / "second.log").read_text(), "waiting", first, second)
    resume_stages(toy)
    assert (first.wait(120), second.wait(120)) == (0, 0)
    log = (toy / "second.log").read_text()
    assert f"(process {first.pid}, since" in log
    assert started_stages(log) == [] and "nothing to do" in log
    assert (toy / "products/near/judge/out.txt").read_text() == "whole"


def test_a_build_that_waits_says_so_even_if_the_holder_is_unknown(toy):
    # given another holder without a holder file, and a stale stage
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]"))
    with FileLock(toy / "state/near/.lock"):
        second = start_build(toy, toy / "second.log")
        message = "near: another process holds state/near/.lock; waiting for it"
        wait_until(lambda: message in (toy / "second.log").read_text(), "waiting", second)
    assert second.wait(120) == 0


HOLD = """
import os, subprocess, sys
from pathlib import Path
from brewcast.common.lock import project_lock
root = Path(sys.argv[1])
with project_lock(root, "shop", "a build"):
    kernel = ["sh", "-c", "sleep 1000 & echo $!; wait"]  # what it starts starts another
    marked = os.environ | {"BREWCAST_LOCK": str(root / "state/shop/.lock")}
    started = subprocess.Popen(kernel, env=marked, stdout=subprocess.PIPE, text=True, start_new_session=True)
    print(started.pid, started.stdout.readline().strip(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    "A process that holds the lock of `tmp_path`'s shop until its input ends; `left`: the processes that it has started."
    command = [sys.executable, "-c", HOLD, tmp_path]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.left = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    yield process
    end_processes([psutil.Process(process.pid)] if process.poll() is None else process.left)
    process.communicate()


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_the_next_holder_ends_the_processes_of_a_killed_one(tmp_path, holder):
    # given a build that was killed, while its kernel and the kernel's own process go on
    holder_file = tmp_path / "state/shop/.lock.holder"
    assert f"`a build` (process {holder.pid}, since" in holder_file.read_text()
    holder.kill()
    holder.wait()
    assert len(holder.left) == 2 and all(map(runs, holder.left)) and holder_file.exists()
    # when the lock of another source is taken, then they go on; when theirs is taken, none is left
    with project_lock(tmp_path, "other"):
        assert all(map(runs, holder.left))
    with project_lock(tmp_path, "shop"):
        assert not any(map(runs, holder.left))
        assert f"`build` (process {psutil.Process().pid}, since" in holder_file.read_text()
    assert not holder_file.exists()


def test_a_process_ends_with_all_processes_that_it_started(holder):
    everyone = [psutil.Process(holder.pid), *holder.left]
    assert all(map(runs, everyone))
    end_processes([everyone[0]])
    assert not any(map(runs, everyone))
    end_processes(everyone)  # ended processes are not an error


def test_the_holder_may_take_the_lock_again_and_keeps_it_until_the_outermost_release(tmp_path):
    lock = FileLock(tmp_path / "state/shop/.lock")
    holder_file = tmp_path / "state/shop/.lock.holder"
    # given a process that holds it twice
    with project_lock(tmp_path, "shop", "month"):
        first = holder_file.read_text()
        with project_lock(tmp_path, "shop", "publish"):
            assert holder_file.read_text() == first and "`month`" in first
        # when the inner one is released, then no other process gets the lock
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
    # and when the outer one is released, also after an error, another process does
    with pytest.raises(ValueError, match="went wrong"), project_lock(tmp_path, "shop"):
        raise ValueError("went wrong")
    with lock.acquire(timeout=0):
        assert not holder_file.exists()
