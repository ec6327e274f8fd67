"Where the project is, and files that are whole whoever writes and whatever happens."

import shutil
import sqlite3
import subprocess
import sys

import pytest
from conftest import ROOT

from brewcast.common.paths import DiskFullError, explain_disk_full, find_root, write_text


def test_a_project_is_found_from_below_and_nothing_else_is(tmp_path):
    assert find_root(ROOT / "nbs") == ROOT
    with pytest.raises(FileNotFoundError, match="run this inside a Brewcast project"):
        find_root(tmp_path)


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "a", "a folder lies there")
    assert path.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.txt"]


def test_a_project_is_where_it_is_said_to_be_also_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BREWCAST_ROOT", str(ROOT / "nbs/common"))
    assert find_root() == ROOT
    # and who asks about a place is told about that place
    with pytest.raises(FileNotFoundError, match="no pipeline.yaml here or above"):
        find_root(tmp_path)


FULL = {  # in whose words
    "the system's": OSError(28, "No space left on device", "/somewhere/model.bin"),
    "copytree's": shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
    "SQLite's": sqlite3.OperationalError("database or disk is full"),
    "MLflow's": RuntimeError("(raised as a result of Query-invoked autoflush)\n[SQL: ...] database or disk is full\n"),
    "a quota's": OSError(122, "Disk quota exceeded"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_of_a_full_disk_it_is_said_which_how_much_and_what_to_do(tmp_path, error):
    # given a disk that is full, said by some library, and wrapped by another one
    (tmp_path / "made").write_bytes(bytes(2_000_000))
    with (
        pytest.raises(DiskFullError) as told,
        explain_disk_full("publish", tmp_path / "not there yet", size_like=tmp_path),
    ):
        try:
            raise error
        except Exception as found:
            raise RuntimeError("the step\nfailed") from found
    # then it is one line
    text = str(told.value)
    assert text.startswith("No space left on device: publish needs more disk space; free: ")
    assert f" MB in {tmp_path / 'not there yet'}, " in text and "; it needs about 2.0 MB: free some space" in text
    assert told.value.__suppress_context__
    # and is not said a second time, further out
    with pytest.raises(DiskFullError) as again, explain_disk_full("build", tmp_path):
        raise told.value
    assert again.value is told.value


def test_what_a_stage_said_of_a_full_disk_is_said_with_its_name_and_once(tmp_path):
    with pytest.raises(DiskFullError) as told, explain_disk_full("MLflow", tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(DiskFullError) as build, explain_disk_full("build", tmp_path):
        raise RuntimeError(f"train failed: NoRoom: {told.value}\n  in cell 28")
    assert str(build.value) == f"train failed: NoRoom: {told.value}"


def test_what_is_no_full_disk_stays_what_it_is(tmp_path):
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


def test_whoever_reads_finds_one_whole_text_while_processes_and_threads_write(tmp_path):
    # given a file that two processes write, each by four threads
    path = write_text(tmp_path / "deep/inputs.json", "a0" * 200_000)
    whole = {f"{mark}{i}" * 200_000 for mark in "ab" for i in range(4)}
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, path, mark], cwd=ROOT) for mark in "ab"]
    # when somebody reads meanwhile, then each time one of the texts is there, from its first letter to its last
    reads = 0
    while any(writer.poll() is None for writer in writers):
        assert path.read_text() in whole
        reads += 1
    assert reads and [writer.wait() for writer in writers] == [0, 0]
    # and nothing is left beside it
    assert path.read_text() in whole and list(path.parent.iterdir()) == [path]


NO_ROOM = """
import resource, sys
from brewcast.common.paths import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # what a full disk is: a write ends half-way
write_bytes(bytes(300_000), sys.argv[1])
"""


def test_a_write_that_ends_half_way_gives_its_room_back(tmp_path):
    path = write_text(tmp_path / "model.bin", "the old one")
    done = subprocess.run([sys.executable, "-c", NO_ROOM, path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]
