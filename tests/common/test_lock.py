"One build of a source at a time, and nothing left of one that died."

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


def test_a_second_build_waits_says_for_whom_and_has_nothing_left_to_do(toy):
    first = start_build_to_last_stage(toy)
    second = start_build(toy, toy / "second.log")
    wait_until(lambda: "waiting for it" in (toy / "second.log").read_text(), "said to wait", first, second)
    resume_stages(toy)
    assert (first.wait(120), second.wait(120)) == (0, 0)
    told = (toy / "second.log").read_text()
    assert f"(process {first.pid}, since" in told
    assert started_stages(told) == [] and "nothing to do" in told
    assert (toy / "products/near/judge/out.txt").read_text() == "whole"


def test_who_waits_says_so_even_if_nobody_has_said_yet_who_holds_the_lock(toy):
    # given somebody who has just taken it, and something to do
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]"))
    with FileLock(toy / "state/near/.lock"):
        second = start_build(toy, toy / "second.log")
        told = "near: another process holds state/near/.lock; waiting for it"
        wait_until(lambda: told in (toy / "second.log").read_text(), "said to wait", second)
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
    "A process that holds the lock of `tmp_path`'s shop until its input ends; `left`: what it has started."
    command = [sys.executable, "-c", HOLD, tmp_path]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.left = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    yield process
    end_processes([psutil.Process(process.pid)] if process.poll() is None else process.left)
    process.communicate()


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_who_comes_after_one_that_was_killed_ends_what_that_had_started(tmp_path, holder):
    # given a build that was killed, and its kernel with a process of its own, which go on
    said = tmp_path / "state/shop/.lock.holder"
    assert f"`a build` (process {holder.pid}, since" in said.read_text()
    holder.kill()
    holder.wait()
    assert len(holder.left) == 2 and all(map(runs, holder.left)) and said.exists()
    # when the next one takes another source's lock, then they go on; when it takes theirs, none is left
    with project_lock(tmp_path, "other"):
        assert all(map(runs, holder.left))
    with project_lock(tmp_path, "shop"):
        assert not any(map(runs, holder.left))
        assert f"`build` (process {psutil.Process().pid}, since" in said.read_text()
    assert not said.exists()


def test_a_process_ends_with_all_that_it_has_started(holder):
    everyone = [psutil.Process(holder.pid), *holder.left]
    assert all(map(runs, everyone))
    end_processes([everyone[0]])
    assert not any(map(runs, everyone))
    end_processes(everyone)  # which are gone, and that is no error


def test_who_holds_the_lock_may_take_it_again_and_keeps_it_until_the_last_is_done(tmp_path):
    lock, said = FileLock(tmp_path / "state/shop/.lock"), tmp_path / "state/shop/.lock.holder"
    # given somebody who holds it twice
    with project_lock(tmp_path, "shop", "month"):
        first = said.read_text()
        with project_lock(tmp_path, "shop", "publish"):
            assert said.read_text() == first and "`month`" in first
        # when the inner one is done, then nobody else gets it
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
    # and when the outer one is done, whatever came of it, somebody else does
    with pytest.raises(ValueError, match="went wrong"), project_lock(tmp_path, "shop"):
        raise ValueError("went wrong")
    with lock.acquire(timeout=0):
        assert not said.exists()
