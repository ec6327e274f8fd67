"Progress: slow work prints lines, quick work prints nothing, and work after its timeout is stopped."

import threading

import pytest
from waits import wait_until

from brewcast.common import progress
from brewcast.common.progress import PROGRESS_FOLDER_VARIABLE, Step, read_progress_lines


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0)
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", 0.01)
    monkeypatch.delenv(PROGRESS_FOLDER_VARIABLE, raising=False)


def test_quick_work_prints_nothing(capsys, monkeypatch):
    monkeypatch.delenv(PROGRESS_FOLDER_VARIABLE, raising=False)
    with Step("reading sales.csv", 10) as step:
        step.done = 10
    assert capsys.readouterr().err == ""


def test_slow_work_prints_its_action_and_progress(at_once, monkeypatch):
    lines = []
    monkeypatch.setattr(progress, "say", lines.append)
    with Step("reading sales.csv", 80_000_000) as step:
        wait_until(lambda: lines, "a line")
        step.done, step.rows = 20_000_000, 1_000_000
        wait_until(lambda: any("20.0 of 80.0 MB, 1,000,000 rows" in text for text in lines), "the progress")
    assert lines[0].startswith("reading sales.csv: 0 s") and lines[-1].startswith("reading sales.csv: 20.0 of 80.0 MB")


def test_a_stage_writes_its_line_to_the_shared_folder_and_removes_it(at_once, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(PROGRESS_FOLDER_VARIABLE, str(tmp_path))
    with Step("reading a.csv"), Step("reading b.csv"):
        wait_until(lambda: len(read_progress_lines(tmp_path)) == 2, "both lines")
        assert {text.split(": ")[0] for text in read_progress_lines(tmp_path)} == {"reading a.csv", "reading b.csv"}
    assert [*tmp_path.iterdir()] == [] and capsys.readouterr().err == ""


def test_a_missing_progress_folder_is_not_an_error(at_once, tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FOLDER_VARIABLE, str(tmp_path / "a file" / "none"))
    (tmp_path / "a file").touch()
    end = threading.Event()
    with Step("reading sales.csv", timeout=0, on_timeout=end.set):
        assert end.wait(60)


def test_on_timeout_is_called_until_the_step_ends(at_once):
    stops = []
    with Step("waiting", timeout=0, on_timeout=lambda: stops.append(1)) as step:
        wait_until(lambda: len(stops) > 1, "stopped twice")
        assert step.is_late
    with Step("waiting") as step:
        assert not step.is_late
