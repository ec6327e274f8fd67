"Hashes: correct after every change, and no file is read again without a change."

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
from conftest import ROOT
from waits import wait_until

from brewcast.common import hashing, progress
from brewcast.common.hashing import (
    FileHashes,
    bytes_hash,
    content_hash,
    copy_with_log,
    files_below,
    quick_hash,
    sha256,
    stream_hash,
)


def test_the_hash_of_a_file_equals_that_of_sha256sum(tmp_path):
    path = tmp_path / "a file"
    path.write_bytes(os.urandom(3_000_000))
    expected = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert sha256(path) == FileHashes(tmp_path / "hashes.json").of(path) == expected


def test_the_hash_of_a_content_depends_neither_on_its_order_nor_on_its_types():
    assert content_hash({"a": 1, "b": np.float64(0.5)}) == content_hash({"b": 0.5, "a": np.int64(1)})
    assert content_hash({"a": 1}) != content_hash({"a": 2}) != content_hash({"a": "2"})
    # and it is the same in another process
    script = "from brewcast.common.hashing import content_hash; print(content_hash({'b': [1, None], 'ä': 0.1}))"
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.strip() == content_hash({"ä": 0.1, "b": [1, None]})


def test_all_functions_agree_on_the_same_bytes(tmp_path):
    data = os.urandom(3_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    with open(path, "rb") as file:
        assert stream_hash(file) == (bytes_hash(data), len(data)) == (sha256(path), 3_000_000)
    assert quick_hash(b"S1", 6).hex() == hashlib.blake2b(b"S1", digest_size=6).hexdigest()


def test_a_changed_file_with_the_same_path_size_and_time_is_noticed(tmp_path):
    # given a file with a cached hash
    path, memory = tmp_path / "till.csv", tmp_path / "hashes.json"
    path.write_text("S1;3")
    hashes, stat = FileHashes(memory), path.stat()
    before = hashes.of(path)
    hashes.save()
    # when it is overwritten with the same number of bytes, or replaced, and its time is set back
    path.write_text("S2;3")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    written_over = FileHashes(memory).of(path)
    (tmp_path / "other").write_text("S3;3")
    os.replace(tmp_path / "other", path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    # then its hash fits the new content
    assert len({before, written_over, FileHashes(memory).of(path)}) == 3
    assert FileHashes(memory).of(path) == sha256(path)


def test_the_hash_of_a_folder_covers_names_and_contents_but_not_files_of_tools(tmp_path):
    # given a folder of files
    folder, hashes = tmp_path / "data", FileHashes(tmp_path / "hashes.json")
    (folder / "2024").mkdir(parents=True)
    (folder / "2024/till.csv").write_text("S1")
    before = hashes.of(folder)
    # then hidden files and Python's cache do not count
    for name in (".DS_Store", "__pycache__/x.pyc", "2024/.ipynb_checkpoints/till.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("left by a tool")
    assert hashes.of(folder) == before
    # but another name, another file and a removed file do
    (folder / "2024/till.csv").rename(folder / "2024/tills.csv")
    renamed = hashes.of(folder)
    (folder / "2024/more.csv").touch()
    more = hashes.of(folder)
    (folder / "2024/tills.csv").unlink()
    assert len({before, renamed, more, hashes.of(folder)}) == 4
    # and a missing folder has no hash
    assert hashes.of(tmp_path / "missing") is None


def test_rows_in_the_log_of_a_database_count_and_moving_them_into_its_file_changes_nothing(tmp_path):
    # given a SQLite database in WAL mode, in a folder and behind a link, with another open connection
    (tmp_path / "data").mkdir()
    path, link = tmp_path / "data/till.db", tmp_path / "near"
    link.symlink_to(path)

    def seen() -> list[str]:
        hashes = FileHashes(tmp_path / "hashes.json")
        result = [hashes.of(path), hashes.of(link), hashes.of(tmp_path / "data"), sha256(link)]
        hashes.save()
        return result

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as till:
        till.execute("PRAGMA journal_mode = wal")
        till.execute("CREATE TABLE sales (pieces)")
        till.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before, size = seen(), path.stat().st_size
        # when it adds a row, which is only in the log
        till.execute("INSERT INTO sales VALUES (3)")
        assert path.stat().st_size == size
        after = seen()
        # then every hash changes, the cache has the new one, and a copy has the same hash
        assert [a == b for a, b in zip(before, after, strict=True)] == [False] * 4
        assert after == seen() and after[0] == after[1] == after[3]
        assert sha256(copy_with_log(path, tmp_path / "copies/till.db")) == after[0]
        # reading, and moving the row into the database file, changes nothing
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            assert reader.execute("SELECT * FROM sales").fetchall() == [(3,)]
            assert seen() == after
        till.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert seen() == after
    assert seen() == after and not path.with_name("till.db-wal").exists()


def test_rows_in_the_log_of_a_duckdb_database_count(tmp_path):
    # given a database whose writer was killed before its rows moved into the file
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE sales AS SELECT 1 AS pieces")
    before = sha256(path)
    code = f"""import duckdb, os
con = duckdb.connect({str(path)!r})
con.execute("INSERT INTO sales VALUES (2)")
os._exit(0)"""
    subprocess.run(["python", "-c", code], check=True)
    assert path.with_name("shop.duckdb.wal").exists()
    assert (
        sha256(path)
        == FileHashes(tmp_path / "hashes.json").of(path)
        == sha256(copy_with_log(path, tmp_path / "c/shop.duckdb"))
    )
    assert sha256(path) != before


def test_links_to_folders_are_followed_except_back_to_a_parent(tmp_path):
    # given a folder, a link to another one, and a link back to the folder itself
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "back").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere" / "till.csv").write_text("1")
    assert [*files_below(tmp_path / "data")] == [tmp_path / "data" / "there" / "till.csv"]
    # when a file in the linked folder changes, then the hash of the folder changes
    before = FileHashes(tmp_path / "hashes").of(tmp_path / "data")
    (tmp_path / "elsewhere" / "till.csv").write_text("2")
    assert FileHashes(tmp_path / "hashes").of(tmp_path / "data") != before


@pytest.mark.parametrize("name", [b"caf\xe9.zip", b"caf\xe9/till.csv"])
def test_a_file_name_that_is_not_utf8_is_refused(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"/" + name))
    path.parent.mkdir(parents=True)
    path.write_text("1")
    with pytest.raises(ValueError, match=r"/data/caf.xe9(.zip)?: its name is not UTF-8, .*: rename it") as refused:
        FileHashes(tmp_path / "hashes").of(tmp_path / "data")
    assert str(refused.value).encode()


def test_hashing_a_large_file_prints_progress(tmp_path, monkeypatch):
    lines = []
    monkeypatch.delenv(progress.PROGRESS_FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0)
    monkeypatch.setattr(progress, "say", lines.append)
    monkeypatch.setattr(hashing, "_LARGE_FILE_BYTES", 0)
    monkeypatch.setattr(hashing, "sha256", lambda path: wait_until(lambda: lines, "lines") and "its hash")
    (tmp_path / "till.csv").write_text("1")
    assert FileHashes(tmp_path / "hashes").of(tmp_path / "till.csv") == "its hash"
    assert lines[0] == f"hashing {tmp_path / 'till.csv'}: 0 s"
