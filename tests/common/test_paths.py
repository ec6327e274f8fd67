"Where the project is, and files that are whole whoever writes and whatever happens."

import subprocess
import sys

import pytest
from conftest import ROOT

from brewcast.common.paths import find_root, write_text


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
