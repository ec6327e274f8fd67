"Helpers for tests of builds: the stale stages, and a build that has reached its last stage."

import json
import subprocess
import sys
from pathlib import Path

from conftest import commands
from toy import pause_stage, start_build
from waits import restore_stop_signals, wait_until


def stale_stages(root: Path) -> list[str]:
    "The stages that a build would run."
    output = commands(root)(f"{sys.executable} -m brewcast.cli why --json").out
    return [stage for stage, reasons in json.loads(output).items() if reasons]


def start_build_to_last_stage(root: Path, command: list[str] | None = None) -> subprocess.Popen:
    "Start a build, and return when its last stage has written half of its product."
    product = root / "products/near/judge/out.txt"
    log = root / "build.log"
    product.unlink()
    pause_stage(root, "judge")
    process = start_build(root, log, command, preexec_fn=restore_stop_signals)
    wait_until(product.exists, "in its last stage", process, log=log)
    return process
