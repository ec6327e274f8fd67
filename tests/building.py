"What tests of builds share: a build that stands in its last stage, and what a build would run."

import json
import subprocess
import sys
from pathlib import Path

from conftest import commands
from toy import pause_stage, start_build
from waits import restore_stop_signals, wait_until


def stale_stages(root: Path) -> list[str]:
    "The stages that a build would run."
    told = commands(root)(f"{sys.executable} -m brewcast.cli why --json").out
    return [stage for stage, reasons in json.loads(told).items() if reasons]


def start_build_to_last_stage(root: Path, command: list[str] | None = None) -> subprocess.Popen:
    "A build, as far as its last stage has begun to write."
    (root / "products/near/judge/out.txt").unlink()
    pause_stage(root, "judge")
    log, made = root / "build.log", root / "products/near/judge/out.txt"
    process = start_build(root, log, command, preexec_fn=restore_stop_signals)
    wait_until(made.exists, "in its last stage", process, log=log)
    return process
