"A schedule is read as cron and the API server read it, and systemd gets the same times."

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from brewcast.targets.cron import on_calendar, run_times, schedule_problem, shortest_gap


@pytest.mark.parametrize(
    "schedule", ["15 6 * * *", "0 0 1 * *", "*/15 * * * *", "0 6-8/2 * JAN-MAR MON,WED", "@daily", "0 0 ? * 7"]
)
def test_a_valid_schedule(schedule):
    assert schedule_problem(schedule) is None


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 32 * *",
        "* * * 13 *",
        "5-1 * * * *",
        "a * * * *",
        "@often",
        "-1 * * * *",
        "*/0 * * * *",
    ],
)
def test_a_schedule_that_the_api_server_refuses(schedule):
    assert schedule_problem(schedule)


AUTUMN = datetime(2026, 10, 20, 12, 0, tzinfo=ZoneInfo("Europe/London"))


def next_runs(schedule: str, count: int = 3, after: datetime = AUTUMN) -> list[str]:
    return [f"{time:%Y-%m-%d %H:%M}" for time in islice(run_times(schedule, after), count)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("15 6 * * *", ["2026-10-21 06:15", "2026-10-22 06:15", "2026-10-23 06:15"]),
        ("0 13,11 20 * *", ["2026-10-20 13:00", "2026-11-20 11:00", "2026-11-20 13:00"]),
        ("0 6 ? * 7", ["2026-10-25 06:00", "2026-11-01 06:00", "2026-11-08 06:00"]),  # 0 and 7 are Sunday
        ("0 6 1 * FRI", ["2026-10-23 06:00", "2026-10-30 06:00", "2026-11-01 06:00"]),  # either of them
        ("0 0 29 2 *", ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"]),
        ("@yearly", ["2027-01-01 00:00", "2028-01-01 00:00", "2029-01-01 00:00"]),
        ("0 6 31 4,6,9,11 *", []),
        ("15 6 30 2 *", []),
    ],
)
def test_when_a_schedule_runs(schedule, expected):
    assert next_runs(schedule) == expected


def test_a_schedule_keeps_the_hour_of_its_zone_when_clocks_change():
    before, after = islice(run_times("15 6 * * *", datetime(2026, 10, 24, 6, 0, tzinfo=ZoneInfo("Europe/London"))), 2)
    assert [time.astimezone(UTC).hour for time in (before, after)] == [5, 6]  # the clock went back in between


def test_a_run_at_this_very_moment_is_not_the_next():
    assert next_runs("0 12 20 10 *", 1) == ["2027-10-20 12:00"]


@pytest.mark.parametrize(("schedule", "hours"), [("0 * * * *", 1), ("0 6,8 * * *", 2), ("0 6 1 * *", 28 * 24)])
def test_the_shortest_gap_between_runs(schedule, hours):
    assert shortest_gap(schedule, AUTUMN.astimezone(UTC)).total_seconds() == hours * 3600


@pytest.mark.parametrize(
    ("schedule", "lines"),
    [
        ("15 6 * * *", ["*-*-* 06:15:00 Etc/UTC"]),
        ("0,30 6-8 1-3 JAN *", ["*-01-01,02,03 06,07,08:00,30:00 Etc/UTC"]),
        ("* * * * *", ["*-*-* *:*:00 Etc/UTC"]),
        ("0 6 * * MON-WED", ["Mon,Tue,Wed *-*-* 06:00:00 Etc/UTC"]),
        ("0 6 1 * 7", ["*-*-01 06:00:00 Etc/UTC", "Sun *-*-* 06:00:00 Etc/UTC"]),
    ],
)
def test_systemd_gets_the_same_times(schedule, lines):
    assert on_calendar(schedule, "Etc/UTC") == lines


@pytest.mark.parametrize("function", [on_calendar, lambda schedule, _: next(run_times(schedule, AUTUMN))])
def test_a_schedule_that_is_not_valid_is_refused(function):
    with pytest.raises(ValueError, match="'26' is not a valid hour"):
        function("15 26 * * *", "Etc/UTC")
