"Wait for something that a test has started, with a time limit and a clear message."

import signal
import subprocess
import time
from pathlib import Path


def wait_until(
    condition, what: str, *processes: subprocess.Popen, patience: float = 300, log: Path | None = None
):  # patience in seconds
    "Wait until `condition()` returns a true value, and return it. Fail with the log if a process ends, or after a time."
    deadline = time.monotonic() + patience
    while not (result := condition()):
        ended = any(process.poll() is not None for process in processes)
        if ended or time.monotonic() > deadline:
            why = "a process has ended" if ended else f"after {patience} s"
            raise AssertionError(f"not {what}, {why}" + (f"\n{log.read_text()[-4000:]}" if log else ""))
        time.sleep(0.02)
    return result


def restore_stop_signals():
    "In a new process: react to the signals that a background job of a shell, or `nohup`, ignores."
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
