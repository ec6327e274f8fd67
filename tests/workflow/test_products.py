"A stage leaves its old products or its new ones, never a mixture, at whatever point it is killed."

import shutil
from pathlib import Path

import pytest
from killing import die_before_effect, run_in_fork

from brewcast.workflow.products import failed_folder, resolve_stash, stash_products
from brewcast.workflow.staleness import stage_record_path

OLD = {".built.json": "old", "out.txt": "old", "pictures/sales.png": "old", "notes.txt": "old"}
NEW = {
    ".built.json": "new",
    "out.txt": "new",
    "pictures/sales.png": "old",
    "pictures/new.png": "new",
    "notes.txt": "old",
}
INCOMPLETE = {"out.txt": "half", "pictures/new.png": "new"}  # the products of a run that fails


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path):
    "A project with one built stage."
    for name, text in OLD.items():
        path = tmp_path / "project/products/near/clean" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


def run_stage(root: Path, fails: bool) -> None:
    "Do what a build does with a stage's products. The stage writes some of them again, and others not."
    folder = root / "products/near/clean"
    stash_products(root, "near", "clean")
    try:
        (folder / "out.txt").write_text("half")
        (folder / "pictures/new.png").write_text("new")
        if fails:
            raise ValueError("this stage fails")
        (folder / "out.txt").write_text("new")
        stage_record_path(root, "near", "clean").write_text("new")
    except ValueError:
        pass
    finally:
        resolve_stash(root, "near", "clean")


def test_a_finished_stage_leaves_its_new_products_and_no_other_files(project):
    run_stage(project, fails=True)
    run_stage(project, fails=False)
    assert contents(project / "products/near") == {f"clean/{name}": text for name, text in NEW.items()}
    assert not failed_folder(project, "near", "clean").parent.exists()


def test_a_failed_stage_leaves_its_old_products_and_the_incomplete_ones_in_failed(project):
    run_stage(project, fails=True)
    assert contents(project / "products/near/clean") == OLD
    assert contents(failed_folder(project, "near", "clean")) == INCOMPLETE
    assert sorted(path.name for path in (project / "products/near").iterdir()) == ["clean", "failed"]


def test_a_first_run_that_fails_leaves_only_incomplete_products_in_failed(tmp_path):
    stash_products(tmp_path, "near", "clean")
    (tmp_path / "products/near/clean/out.txt").write_text("half")
    resolve_stash(tmp_path, "near", "clean")
    assert contents(tmp_path / "products/near") == {"failed/clean/out.txt": "half"}


def test_the_incomplete_products_of_another_stage_are_kept_until_that_stage_finishes(project):
    (project / "products/near/failed/judge").mkdir(parents=True)
    (project / "products/near/failed/judge/out.txt").write_text("half")
    run_stage(project, fails=False)
    assert contents(project / "products/near/failed") == {"judge/out.txt": "half"}
    assert contents(project / "products/near/clean") == NEW


def run_and_die(root: Path, number: int, fails: bool) -> int:
    "Run the stage in a forked process that is killed before its n-th change of a file. Returns the exit status."

    def work():
        die_before_effect(number)
        run_stage(root, fails)

    return run_in_fork(work)


@pytest.mark.parametrize("fails", [False, True], ids=["finishes", "fails"])
def test_after_a_kill_at_any_point_the_next_build_finds_the_old_products_or_the_new_ones(project, tmp_path, fails):
    number = 0
    results = []
    while True:
        # given a run that is killed before its first, second, ... change of a file
        root = tmp_path / str(number)
        shutil.copytree(project, root)
        status = run_and_die(root, number, fails)
        # when the next build starts by resolving the stash
        resolve_stash(root, "near", "clean")
        products = contents(root / "products/near/clean")
        # then the products are complete, and of one run
        assert products in ([OLD] if fails else [OLD, NEW]), f"killed before effect {number}"
        results.append(products)
        # and that build finishes and leaves no other files
        run_stage(root, fails=False)
        assert contents(root / "products/near") == {f"clean/{name}": text for name, text in NEW.items()}
        assert not list((root / "products/near").glob(".before*"))
        if status == 0:
            break
        assert status == 9
        number += 1
    assert number > 15 and (fails or (results[0], results[-1]) == (OLD, NEW))
