"Waiting for what a test has set going: for events, with an end and a reason that can be read."

import signal
import subprocess
import time
from pathlib import Path


def wait_until(
    happened, what: str, *processes: subprocess.Popen, patience: float = 300, log: Path | None = None
):  # patience in seconds
    "Wait until `happened()` gives something, while all of these run, and give that; else say why not, with their log."
    give_up = time.monotonic() + patience
    while not (found := happened()):
        ended = any(process.poll() is not None for process in processes)
        if ended or time.monotonic() > give_up:
            why = "a process has ended" if ended else f"after {patience} s"
            raise AssertionError(f"not {what}, {why}" + (f"\n{log.read_text()[-4000:]}" if log else ""))
        time.sleep(0.02)
    return found


def restore_stop_signals():
    "In a process that begins: heed the stops that a shell's background job, or `nohup`, ignores."
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
