"Where the project is, and files that are whole whoever writes and whatever happens."

import pytest
from conftest import ROOT

from brewcast.common.paths import find_root


def test_a_project_is_found_from_below_and_nothing_else_is(tmp_path):
    assert find_root(ROOT / "nbs") == ROOT
    with pytest.raises(FileNotFoundError, match="run this inside a Brewcast project"):
        find_root(tmp_path)


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    from brewcast.common.paths import write_text

    path = write_text(tmp_path / "a.txt", "old")
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "a", "a folder lies there")
    assert path.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.txt"]
