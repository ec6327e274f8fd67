"The project's root, complete files in every case, and the error of a full disk."

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from brewcast.common.paths import find_root, write_text


def test_the_root_is_found_from_a_folder_below_only(tmp_path):
    assert find_root(ROOT / "nbs") == ROOT
    with pytest.raises(FileNotFoundError, match="run this inside a Brewcast project"):
        find_root(tmp_path)


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
