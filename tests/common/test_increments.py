"The cache by content: builds that are killed, that overlap or that find a damaged or full disk get whole increments."

import os
import time
from functools import partial
from pathlib import Path

import pytest
from killing import die_before_effect, run_in_fork

from brewcast.common.increments import Increments, cache_folder, code_version, is_intact
from brewcast.common.paths import DiskFullError

FILES = {"a.txt": "one", "b.txt": "two"}


def make(draft: Path, files: dict[str, str] = FILES, seconds: float = 0) -> None:
    for name, text in files.items():
        (draft / name).write_text(text)
        time.sleep(seconds)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name in FILES}


def test_killed_before_any_change_of_a_file_the_next_build_gets_a_whole_increment(tmp_path):
    # given a build that is killed before its n-th change of a file, for each n until it is done
    for step in range(30):
        cache = Increments(tmp_path / str(step))

        def work(step=step, cache=cache):
            die_before_effect(step, str(cache.folder))
            cache.get("sums", "2024-01", make)

        status = run_in_fork(work)
        # when the next build asks for the same increment / then it is whole, whether it is found or made
        assert contents(cache.get("sums", "2024-01", make)) == FILES
        assert cache.made + cache.found == 1
        # and what was half made is deleted after a day
        later = time.time() - 2 * 86400
        for path in cache.folder.glob("*/.*"):
            os.utime(path, (later, later))
        cache.delete_unused()
        assert [path for path in cache.folder.glob("sums/*") if not is_intact(path)] == []
        if status == 0:
            break
    assert (status, step > 4) == (0, True)


def test_two_processes_that_make_one_increment_at_once_both_get_it(tmp_path):
    # given four processes that begin at the same time
    begin = time.time() + 0.3

    def work():
        time.sleep(max(0, begin - time.time()))
        folder = Increments(tmp_path).get("sums", "2024-01", partial(make, seconds=0.02))
        assert contents(folder) == FILES

    # when all of them make the increment
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            os._exit(run_in_fork(work))
        children.append(child)
    # then each has it, and it is there once
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    (folder,) = tmp_path.glob("sums/*")
    assert is_intact(folder) and [*tmp_path.glob("sums/.*")] == []


DAMAGES = {
    "a file is cut short": lambda folder: (folder / "a.txt").write_text("o"),
    "a file has other bytes of the same length": lambda folder: (folder / "a.txt").write_text("eno"),
    "a file is missing": lambda folder: (folder / "b.txt").unlink(),
    "the list of files is missing": lambda folder: (folder / "manifest.json").unlink(),
    "the list of files is empty": lambda folder: (folder / "manifest.json").write_text(""),
    "the list of files is another JSON": lambda folder: (folder / "manifest.json").write_text("[1]"),
    "the list of files is no text": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
    "all files are missing": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_increment_is_made_again(tmp_path, damage):
    cache = Increments(tmp_path)
    folder = cache.get("sums", "2024-01", make)
    DAMAGES[damage](folder)
    assert not is_intact(folder)
    assert cache.get("sums", "2024-01", make) == folder
    assert (contents(folder), cache.made) == (FILES, 2)


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    cache = Increments(tmp_path)

    def fill(draft):
        make(draft)
        raise OSError(28, "No space left on device", str(draft / "c.txt"))

    with pytest.raises(DiskFullError, match="the cache"):
        cache.get("sums", "2024-01", fill)
    assert [*tmp_path.glob("sums/*"), *tmp_path.glob("sums/.*")] == []
    # when there is space again / then it is made
    assert contents(cache.get("sums", "2024-01", make)) == FILES


def test_any_other_part_of_the_key_is_another_increment(tmp_path, monkeypatch):
    cache = Increments(tmp_path)
    keys = ["a1", "a2", ["a1"], {"file": "a1"}, {"file": "a1", "rows": 1}, {"file": "a1", "rows": 1.5}, None, "Š"]
    folders = {cache.get("sums", key, make) for key in keys}
    assert len(folders | {cache.get("lines", "a1", make)}) == len(keys) + 1
    # and so is an increment of other code
    monkeypatch.setattr("brewcast.common.increments.code_version", lambda: "another")
    assert cache.get("sums", "a1", make) not in folders
    assert len(code_version()) == 12


def test_what_no_build_uses_is_deleted(tmp_path):
    cache = Increments(tmp_path)
    used, unused = (cache.get("sums", key, make) for key in ("used", "unused"))
    long_ago = time.time() - 40 * 86400
    for folder in (used, unused):
        os.utime(folder, (long_ago, long_ago))
    cache.get("sums", "used", make)  # to find it is to use it
    cache.delete_unused()
    assert (used.exists(), unused.exists()) == (True, False)


def test_the_cache_may_be_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("BREWCAST_CACHE", str(tmp_path / "shared"))
    assert cache_folder() == tmp_path / "shared"
    monkeypatch.delenv("BREWCAST_CACHE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BREWCAST_ROOT", raising=False)
    with pytest.raises(FileNotFoundError, match="no pipeline.yaml"):
        cache_folder()
