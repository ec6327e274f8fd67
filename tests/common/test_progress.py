"Progress: what takes a while is said, what is quick is not, and what takes too long is stopped."

import io
import threading

import pytest
from waits import wait_until

from brewcast.common import progress
from brewcast.common.progress import PROGRESS_FOLDER_VARIABLE, CountedFile, Step, read_progress_lines


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0)
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", 0.01)
    monkeypatch.delenv(PROGRESS_FOLDER_VARIABLE, raising=False)


def test_what_is_quick_says_nothing(capsys, monkeypatch):
    monkeypatch.delenv(PROGRESS_FOLDER_VARIABLE, raising=False)
    with Step("reading sales.csv", 10) as step:
        step.done = 10
    assert capsys.readouterr().err == ""


def test_what_takes_a_while_says_what_it_does_and_how_far_it_is(at_once, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    with Step("reading sales.csv", 80_000_000) as step:
        wait_until(lambda: said, "said")
        step.done, step.rows = 20_000_000, 1_000_000
        wait_until(lambda: any("20.0 of 80.0 MB, 1,000,000 rows" in text for text in said), "said how far it is")
    assert said[0].startswith("reading sales.csv: 0 s") and said[-1].startswith("reading sales.csv: 20.0 of 80.0 MB")


def test_a_stage_leaves_its_line_where_the_build_looks_and_takes_it_away(at_once, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(PROGRESS_FOLDER_VARIABLE, str(tmp_path))
    with Step("reading a.csv"), Step("reading b.csv"):
        wait_until(lambda: len(read_progress_lines(tmp_path)) == 2, "both said")
        assert {text.split(": ")[0] for text in read_progress_lines(tmp_path)} == {"reading a.csv", "reading b.csv"}
    assert [*tmp_path.iterdir()] == [] and capsys.readouterr().err == ""


def test_a_folder_that_is_gone_is_no_reason_to_fail(at_once, tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FOLDER_VARIABLE, str(tmp_path / "a file" / "none"))
    (tmp_path / "a file").touch()
    end = threading.Event()
    with Step("reading sales.csv", timeout=0, on_timeout=end.set):
        assert end.wait(60)


def test_what_takes_too_long_is_stopped_until_it_ends(at_once):
    stops = []
    with Step("waiting", timeout=0, on_timeout=lambda: stops.append(1)) as step:
        wait_until(lambda: len(stops) > 1, "stopped twice")
        assert step.is_late
    with Step("waiting") as step:
        assert not step.is_late


def test_bytes_that_are_read_are_counted():
    with Step("reading", 10) as step:
        assert CountedFile(io.BytesIO(b"12345678"), step).read(5) == b"12345"
        assert step.done == 5
