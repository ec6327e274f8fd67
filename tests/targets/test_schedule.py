"The monthly step on one machine: units of systemd and a crontab line, in folders with any name, and what cron really runs."

import re
import shlex
import shutil
from datetime import date
from pathlib import Path

import pytest
import yaml
from cron_lines import run_as_cron
from planting import planted_mistakes

from brewcast.common.parameter_types import RetrySettings, Schedule
from brewcast.operations.monthly import EXIT_MEANINGS
from brewcast.targets.schedule import (
    MonthlyPlan,
    crontab_line,
    install_lines,
    monthly_plan,
    schedule_lines,
    schedule_refusals,
    service_unit,
    timer_unit,
)

TODAY = date(2026, 11, 28)
USUAL = {"cron": "15 6 * * *", "time_zone": "Etc/UTC", "ends": None}
STEP = "\nschedule: {cron: '15 6 * * *', time_zone: Etc/UTC, ends: null}\nretries: {limit: 2, wait: 30}\n"


def plan(root: Path = Path("/srv/brewcast"), limit: int = 2, **schedule) -> MonthlyPlan:
    python = root / ".venv/bin/python"
    retries = RetrySettings(limit=limit, wait=30)
    return MonthlyPlan(root, "tea", python, "anna", Schedule(**USUAL | schedule), retries)


def settings(unit: str) -> dict[str, str]:
    "The settings of a unit file that stand in it once."
    return dict(line.split("=", 1) for line in unit.splitlines() if re.match(r"[A-Z]\w+=", line))


@pytest.mark.parametrize("name", planted_mistakes("schedule"))
def test_a_planted_mistake_in_the_schedule_is_refused_with_its_place(name):
    (field,), value = planted_mistakes("schedule")[name]["set"]
    assert list(schedule_refusals(Schedule(**USUAL), TODAY)) == []
    [refusal] = schedule_refusals(Schedule(**USUAL | {field: value}), TODAY)
    assert refusal.where == f"env.yaml, schedule.{field}" and refusal.way_out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cron": "60 6 * * *"}, "'60' is not a valid minute"),
        ({"cron": "0 6 31 2,4,6,9,11 *"}, "never comes"),
        ({"cron": "0 6 1 * *", "ends": "2026-11-30"}, "ends before the next run, on 2026-12-01"),
        ({"cron": "0 6 */2 * MON"}, "some programs want both days"),
        ({"ends": "2026-11-27"}, "ended on 2026-11-27"),
        ({"ends": "2026-02-30"}, "there is no day 2026-02-30"),
        ({"time_zone": "Europe/Lodnon"}, "there is no time zone Europe/Lodnon"),
    ],
)
def test_a_schedule_that_starts_nothing_is_refused(change, reason):
    [refusal] = schedule_refusals(Schedule(**USUAL | change), TODAY)
    assert reason in refusal.what


@pytest.mark.parametrize(
    "change",
    [
        {"ends": "2026-11-28"},
        {"cron": "0 0 29 2 *"},
        {"cron": "0 6 1 * MON"},
        {"cron": "0 6 * * MON", "time_zone": "America/Argentina/Ushuaia"},
        {"cron": "0 6 31 * *", "ends": "2026-12-31"},
    ],
)
def test_another_schedule_is_taken(change):
    assert list(schedule_refusals(Schedule(**USUAL | change), TODAY)) == []


def test_the_service_is_tried_again_after_the_temporary_status_alone():
    service = settings(service_unit(plan(limit=3)))
    assert service["RestartForceExitStatus"] == "75" and service["RestartSec"] == "30"
    assert service["StartLimitBurst"] == "4"  # the first start, and three more
    assert not {"Restart", "RestartPreventExitStatus"} & service.keys()
    without = settings(service_unit(plan(limit=0)))
    assert not {"RestartForceExitStatus", "RestartSec", "StartLimitBurst"} & without.keys()


@pytest.mark.parametrize(("cron", "seconds"), [("15 6 * * *", 43_200), ("15 * * * *", 1800), ("15 6 1 * *", 43_200)])
def test_starts_of_the_run_before_are_not_counted(cron, seconds):
    assert settings(service_unit(plan(cron=cron)))["StartLimitIntervalSec"] == str(seconds)


def test_the_timer_runs_at_the_times_of_the_schedule_and_makes_up_for_one():
    timer = timer_unit(plan(cron="0 6 1 * MON", time_zone="Europe/London"))
    assert re.findall("OnCalendar=(.*)", timer) == [
        "*-*-01 06:00:00 Europe/London",
        "Mon *-*-* 06:00:00 Europe/London",
    ]
    assert settings(timer)["Persistent"] == "true"


def test_a_folder_with_blanks_quotes_and_percent_signs_is_quoted():
    root = Path("/srv/Anna's 50% tea")
    service = settings(service_unit(plan(root)))
    assert service["WorkingDirectory"] == "/srv/Anna's 50%% tea"
    assert service["ExecStart"].startswith(
        '/usr/bin/env "/srv/Anna\'s 50%% tea/.venv/bin/python" -m brewcast.cli month --source tea'
    )
    command = crontab_line(plan(root)).split(" ", 5)[5]
    assert shlex.split(command.replace("\\%", "%"))[1] == str(root)
    assert "50% tea" not in command  # cron would end the command there


def test_a_unit_of_the_machine_has_a_user_and_a_closed_system():
    assert not {"User", "ProtectSystem"} & settings(service_unit(plan())).keys()
    service = settings(service_unit(plan(), is_system=True))
    assert (service["User"], service["ProtectSystem"]) == ("anna", "full")
    assert "ProtectSystem" not in settings(service_unit(plan(Path("/usr/local/tea")), is_system=True))
    assert not any("--user" in line for line in install_lines(plan(), is_system=True))


@pytest.mark.parametrize(("ends", "is_run"), [("2026-01-31", False), ("9999-12-31", True)])
def test_after_the_last_day_cron_starts_nothing(tmp_path, ends, is_run):
    run_as_cron(crontab_line(plan(tmp_path, ends=ends)), tmp_path)
    assert (tmp_path / "scratch/brewcast-tea.log").exists() == is_run


def test_a_failure_is_in_the_log_and_in_the_mail(toy, tmp_path):
    shutil.rmtree(toy / "data")
    (toy / "env.yaml").write_text((toy / "env.yaml").read_text() + STEP)
    log = toy / "scratch/brewcast-near.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("of yesterday\n" * 9)
    done = run_as_cron(crontab_line(monthly_plan(toy, "near", TODAY)), tmp_path)
    assert "error: data/near is missing" in done.stdout.splitlines()[-1]
    assert log.read_text().count("of yesterday") == 9 and log.read_text().endswith(done.stdout)


def test_the_command_prints_and_writes_what_env_yaml_says(brewcast, toy, tmp_path):
    without = brewcast("schedule", fails=True)
    assert "env.yaml: retries and schedule missing" in without.err
    (toy / "env.yaml").write_text((toy / "env.yaml").read_text() + STEP)
    printed = brewcast("schedule").out
    assert "OnCalendar=*-*-* 06:15:00 Etc/UTC" in printed and f"WorkingDirectory={toy}" in printed
    brewcast(f"schedule --systemd {tmp_path}/units")
    names = sorted(path.name for path in (tmp_path / "units").iterdir())
    assert names == ["brewcast-near.service", "brewcast-near.timer"]
    env = yaml.safe_load((toy / "env.yaml").read_text())
    (toy / "env.yaml").write_text(yaml.safe_dump(env | {"schedule": USUAL | {"ends": "2024-12-31"}}))
    assert "it ended on 2024-12-31" in brewcast("schedule", fails=True).err


def test_each_status_is_explained():
    printed = "\n".join(schedule_lines(plan(), EXIT_MEANINGS))
    assert [int(status) for status in re.findall(r"(?m)^ +(\d+)  ", printed)] == [0, 1, 2, 3, 4, 75, 130]
