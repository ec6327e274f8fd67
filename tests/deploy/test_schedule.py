"""systemd itself reads what `brewcast schedule` writes: the units are valid, the times are cron's, and a failure that is temporary is tried again.

The last is seen in a real manager of a user's services, in a mount namespace of its own. It needs root.
"""

import os
import re
import shutil
import signal
import subprocess
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import copy_built
from cron_lines import run_as_cron
from waits import wait_until

from brewcast.common.parameter_types import RetrySettings, Schedule
from brewcast.targets.cron import on_calendar, run_times
from brewcast.targets.schedule import MonthlyPlan, crontab_line, monthly_plan, write_units

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze (Debian: systemd) is missing"
)
MANAGER = Path("/lib/systemd/systemd")
USUAL = {"cron": "15 6 * * *", "time_zone": "Europe/London", "ends": None}
SCHEDULES = [
    "15 6 * * *",
    "*/7 3-5 * * *",
    "0 6 1 * MON",
    "59 23 31 * *",
    "0 0 29 2 *",
    "30 */5 1-7 JAN,JUL *",
    "0 6 * * 7",
]
AFTER = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def plan(root: Path, wait: float = 30, **schedule) -> MonthlyPlan:
    python = root / ".venv/bin/python"
    return MonthlyPlan(root, "tea", python, "root", Schedule(**USUAL | schedule), RetrySettings(limit=2, wait=wait))


def toy_project(root: Path, script: str) -> Path:
    "A folder in whose place of Python there is a script of a shell."
    python = root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return root


@needs_systemd
@pytest.mark.parametrize("is_system", [False, True])
@pytest.mark.parametrize("ends", [None, "2026-12-31"])
def test_the_units_are_valid(tmp_path, is_system, ends):
    root = toy_project(tmp_path / "Anna's 50% tea", "true")
    units = write_units(plan(root, cron="0 6 1 * MON", ends=ends), tmp_path / "units", is_system)
    mode = [] if is_system else ["--user"]
    variables = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(["systemd-analyze", *mode, "verify", *units], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_timer_runs_at_the_times_of_cron(schedule):
    times = set()
    for line in on_calendar(schedule, "UTC"):
        command = ["systemd-analyze", "calendar", "--iterations=6", f"--base-time={AFTER:%Y-%m-%d %H:%M:%S} UTC", line]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        times |= set(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", shown))
    assert sorted(times)[:6] == [f"{time:%Y-%m-%d %H:%M:%S} UTC" for time in islice(run_times(schedule, AFTER), 6)]


@pytest.fixture
def manager(tmp_path):
    "A manager of a user's services: `ctl` runs systemctl there, and `units` is the folder of its units."
    if not MANAGER.exists() or os.geteuid() != 0:
        pytest.skip("a manager of its own needs root, and systemd")
    units = tmp_path / "home/.config/systemd/user"
    units.mkdir(parents=True)
    variables = os.environ | {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    (tmp_path / "run").mkdir(mode=0o700)
    # a manager wants to see that the machine was started by systemd
    inside = f"mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec {MANAGER} --user --log-target=console"
    with open(tmp_path / "manager.log", "w") as log:
        process = subprocess.Popen(["unshare", "-m", "sh", "-c", inside], env=variables, stdout=log, stderr=log)

    def ctl(*words: str) -> str:
        command = ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "systemctl", "--user", *words]
        return subprocess.run(command, env=variables, capture_output=True, text=True).stdout

    wait_until(
        lambda: ctl("is-system-running").strip() in ("running", "degraded"), "the manager runs", process, patience=60
    )
    yield SimpleNamespace(ctl=ctl, units=units)
    process.send_signal(signal.SIGRTMIN + 24)  # end at once
    process.wait(30)


def finished(manager) -> dict[str, str]:
    "Start the service, and wait until it has ended, with all retries."
    manager.ctl("daemon-reload")
    manager.ctl("start", "brewcast-tea.service")

    def shown() -> dict[str, str]:
        lines = manager.ctl("show", "brewcast-tea.service", "-p", "ActiveState,Result,NRestarts,ExecMainStatus").split()
        return dict(line.split("=", 1) for line in lines)

    wait_until(lambda: shown().get("ActiveState") in ("failed", "inactive"), "the service has ended", patience=60)
    return shown()


@pytest.mark.parametrize(
    ("statuses", "runs", "state"),
    [
        ("0", 1, "inactive"),
        ("75 0", 2, "inactive"),  # a temporary failure that has gone
        ("75 75 75 75", 3, "failed"),  # one that stays: the first start, and two more
        ("3 0", 1, "failed"),  # a refusal
        ("4 0", 1, "failed"),  # a bug
        ("130 0", 1, "inactive"),  # interrupted
    ],
)
def test_a_temporary_failure_alone_is_tried_again(manager, tmp_path, statuses, runs, state):
    script = 'echo "$@" >>runs\nset -- $(cat statuses)\neval "exit \\${$(wc -l <runs)}"'
    root = toy_project(tmp_path / "Anna's 50% tea", script)
    (root / "statuses").write_text(statuses)
    write_units(plan(root, wait=0.1), manager.units)
    ended = finished(manager)
    assert ended["ActiveState"] == state
    words = (root / "runs").read_text().splitlines()
    assert words == ["-m brewcast.cli month --source tea --waiting-ok"] * runs


@pytest.mark.parametrize(("ends", "runs"), [("9999-12-31", True), ("2026-01-31", False)])
def test_after_the_last_day_the_timer_starts_nothing(manager, tmp_path, ends, runs):
    root = toy_project(tmp_path / "Anna's 50% tea", "touch runs")
    write_units(plan(root, ends=ends), manager.units)
    assert finished(manager)["ActiveState"] == "inactive"  # no failure
    assert (root / "runs").exists() == runs


def test_the_line_of_cron_runs_the_month_in_its_bare_environment(published, tmp_path):
    root = copy_built(published.root, tmp_path / "Anna's tea")
    done = run_as_cron(crontab_line(monthly_plan(root, "simulated", date.today())), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # no mail
    assert "waiting" in (root / "scratch/brewcast-simulated.log").read_text()
