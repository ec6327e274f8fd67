"A process that outlives a test run, however the run ends, and then ends all processes that the run has started."

import contextlib
import os
import subprocess
import sys
import time

import psutil

RUN_MARKER = "TESTS_OF_BREWCAST"  # environment variable of every process of a run; BREWCAST_* variables are removed


def start_guardian() -> subprocess.Popen:
    "Mark this process and those that it will start, and start the guardian. The guardian waits until its input ends."
    os.environ[RUN_MARKER] = f"{os.getpid()}-{time.time_ns()}"
    environment = {name: value for name, value in os.environ.items() if name != RUN_MARKER}
    command = [sys.executable, __file__, os.environ[RUN_MARKER]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def processes_of(run: str) -> list[psutil.Process]:
    "The processes with a run's marker."
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(RUN_MARKER) == run:
                processes.append(process)
    return processes


if __name__ == "__main__":
    sys.stdin.read()  # ends when the process at the other end ends, even by kill -9
    while processes := processes_of(sys.argv[1]):  # repeat: a process may just have been starting another one
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.1)
