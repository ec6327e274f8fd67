"A process that outlives a run of tests, however it is ended, and then ends all that the run has started."

import contextlib
import os
import subprocess
import sys
import time

import psutil

MARK = "TESTS_OF_BREWCAST"  # in the environment of every process of a run; no BREWCAST_ name: these are taken out


def watch() -> subprocess.Popen:
    "Mark this process and what it will start, and have it watched: give the guardian, which waits for its input to end."
    os.environ[MARK] = f"{os.getpid()}-{time.time_ns()}"
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    command = [sys.executable, __file__, os.environ[MARK]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def marked(run: str) -> list[psutil.Process]:
    "The processes of a run."
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == run:
                found.append(process)
    return found


if __name__ == "__main__":
    sys.stdin.read()  # ends with the process that holds the other end, be it by kill -9
    while left := marked(sys.argv[1]):  # again: one may just have been starting another
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.1)
