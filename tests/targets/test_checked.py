"The record of the slow checks is that of the files as they are, and the runbook shows its table."

import shutil

import pytest
from conftest import ROOT
from planting import planted_mistakes

from brewcast.targets.checked import TABLE_MARKS, CheckRecord, mistakes_table, record_checks, with_table
from brewcast.targets.compiled import CHECKED, deploy_hash

COSTS = {name: mistake["costs"] for name, mistake in planted_mistakes().items()}


def test_the_files_were_checked_as_they_are():
    record = CheckRecord.read(ROOT / "deploy" / CHECKED)
    assert record.deploy_hash == deploy_hash(ROOT), "run `make test-deploy`, and commit what it writes"


def test_every_planted_mistake_is_in_the_record_and_in_the_runbook():
    record = CheckRecord.read(ROOT / "deploy" / CHECKED)
    assert record.caught.keys() == COSTS.keys() and record.planted == len(COSTS)
    assert record.missed == []
    page = (ROOT / "deploy/README.md").read_text()
    assert with_table(page, mistakes_table(record.caught, COSTS)) == page


def test_recording_again_gives_the_same_bytes(tmp_path):
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    record = CheckRecord.read(ROOT / "deploy" / CHECKED)
    record_checks(tmp_path, record.caught, COSTS, record.tools, record.kubernetes)
    for name in (CHECKED, "README.md"):
        assert (tmp_path / "deploy" / name).read_bytes() == (ROOT / "deploy" / name).read_bytes()


def test_a_mistake_that_no_check_catches_stands_out():
    assert "| root | a break-in is root | **none** |" in mistakes_table({"root": []}, {"root": "a break-in is root"})


def test_a_page_without_the_comments_is_refused():
    with pytest.raises(ValueError, match="put the comments back"):
        with_table(f"# Checks\n{TABLE_MARKS[0]}\n", "| a |")
