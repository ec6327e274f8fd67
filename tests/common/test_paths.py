"The project's root, complete files in every case, and the error of a full disk."

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from brewcast.common.paths import DiskFullError, explain_disk_full, find_root, write_text


def test_the_root_is_found_from_a_folder_below_only(tmp_path):
    assert find_root(ROOT / "nbs") == ROOT
    with pytest.raises(FileNotFoundError, match="run this inside a Brewcast project"):
        find_root(tmp_path)


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "a", "a folder lies there")
    assert path.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.txt"]


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a device that is a link"])
def test_what_is_no_ordinary_file_is_not_replaced(tmp_path, kind):
    path = {"a pipe": tmp_path / "pipe", "a device": Path("/dev/null")}.get(kind, Path("/dev/stdout"))
    if kind == "a pipe":
        os.mkfifo(path)
    before = os.lstat(path)
    with pytest.raises(ValueError, match=f"{path} is not an ordinary file: give another name"):
        write_text(path, "text")
    assert os.lstat(path) == before


def test_brewcast_root_names_the_project_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BREWCAST_ROOT", str(ROOT / "nbs/common"))
    assert find_root() == ROOT
    # and an explicit start folder wins
    with pytest.raises(FileNotFoundError, match="no pipeline.yaml here or above"):
        find_root(tmp_path)


FULL = {  # library -> its error
    "the system's": OSError(28, "No space left on device", "/somewhere/model.bin"),
    "copytree's": shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
    "SQLite's": sqlite3.OperationalError("database or disk is full"),
    "MLflow's": RuntimeError("(raised as a result of Query-invoked autoflush)\n[SQL: ...] database or disk is full\n"),
    "a quota's": OSError(122, "Disk quota exceeded"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_the_error_of_a_full_disk_names_the_disk_the_free_space_and_the_remedy(tmp_path, error):
    # given the error of a full disk from one library, wrapped by another one
    (tmp_path / "products").write_bytes(bytes(2_000_000))
    with (
        pytest.raises(DiskFullError) as raised,
        explain_disk_full("publish", tmp_path / "not there yet", size_like=tmp_path),
    ):
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("the step\nfailed") from cause
    # then the new error is one line
    text = str(raised.value)
    assert text.startswith("No space left on device: publish needs more disk space; free: ")
    assert f" MB in {tmp_path / 'not there yet'}, " in text and "; it needs about 2.0 MB: free some space" in text
    assert raised.value.__suppress_context__
    # and an outer handler does not repeat it
    with pytest.raises(DiskFullError) as again, explain_disk_full("build", tmp_path):
        raise raised.value
    assert again.value is raised.value


def test_the_disk_error_of_a_stage_is_passed_on_once_with_the_stage_s_name(tmp_path):
    with pytest.raises(DiskFullError) as raised, explain_disk_full("MLflow", tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(DiskFullError) as build, explain_disk_full("build", tmp_path):
        raise RuntimeError(f"train failed: DiskFullError: {raised.value}\n  in cell 28")
    assert str(build.value) == f"train failed: DiskFullError: {raised.value}"


def test_other_errors_stay_unchanged(tmp_path):
    with pytest.raises(ValueError, match="a disk that is full of ideas"), explain_disk_full("publish", tmp_path):
        raise ValueError("a disk that is full of ideas")


WRITE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from brewcast.common.paths import write_text
path, mark = sys.argv[1:]
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda i: write_text(path, f"{mark}{i % 4}" * 200_000), range(80)))
"""


def test_a_reader_finds_one_complete_text_while_processes_and_threads_write(tmp_path):
    # given a file that two processes write, each by four threads
    path = write_text(tmp_path / "deep/inputs.json", "a0" * 200_000)
    whole = {f"{mark}{i}" * 200_000 for mark in "ab" for i in range(4)}
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, path, mark], cwd=ROOT) for mark in "ab"]
    # when the file is read meanwhile, then it is always one of the complete texts
    reads = 0
    while any(writer.poll() is None for writer in writers):
        assert path.read_text() in whole
        reads += 1
    assert reads and [writer.wait() for writer in writers] == [0, 0]
    # and no temporary file is left
    assert path.read_text() in whole and list(path.parent.iterdir()) == [path]


NO_ROOM = """
import resource, sys
from brewcast.common.paths import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # like a full disk: a write stops half-way
write_bytes(bytes(300_000), sys.argv[1])
"""


def test_a_write_that_fails_half_way_leaves_no_temporary_file(tmp_path):
    path = write_text(tmp_path / "model.bin", "the old one")
    done = subprocess.run([sys.executable, "-c", NO_ROOM, path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]
