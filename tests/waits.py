"Waiting for what a test has set going: for events, with an end and a reason that can be read."

import subprocess
import time


def until(happened, what: str, *processes: subprocess.Popen, patience: float = 300):
    "Wait until `happened()` gives something, while all of these run, and give that."
    give_up = time.monotonic() + patience  # seconds: more than a loaded machine needs
    while not (found := happened()):
        assert all(process.poll() is None for process in processes), f"not {what}, and a process has ended"
        assert time.monotonic() < give_up, f"after {patience} s not {what}"
        time.sleep(0.02)
    return found
