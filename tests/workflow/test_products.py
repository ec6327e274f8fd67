"Old products or new ones, never half of them: wherever a stage, or what moves its products, is killed."

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
HALF = {"out.txt": "half", "pictures/new.png": "new"}  # what a run that fails has made


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path):
    "A project in which a stage was built."
    for name, text in OLD.items():
        path = tmp_path / "project/products/near/clean" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


def run_stage(root: Path, fails: bool) -> None:
    "What a build does with a stage's products, and a stage that writes some of them anew, and others not."
    folder = root / "products/near/clean"
    stash_products(root, "near", "clean")
    try:
        (folder / "out.txt").write_text("half")
        (folder / "pictures/new.png").write_text("new")
        if fails:
            raise ValueError("the stage was asked to fail")
        (folder / "out.txt").write_text("new")
        stage_record_path(root, "near", "clean").write_text("new")
    except ValueError:
        pass
    finally:
        resolve_stash(root, "near", "clean")


def test_a_stage_that_came_to_its_end_leaves_its_new_products_and_nothing_beside_them(project):
    run_stage(project, fails=True)
    run_stage(project, fails=False)
    assert contents(project / "products/near") == {f"clean/{name}": text for name, text in NEW.items()}
    assert not failed_folder(project, "near", "clean").parent.exists()


def test_a_stage_that_failed_leaves_its_old_products_and_what_it_had_made_beside_them(project):
    run_stage(project, fails=True)
    assert contents(project / "products/near/clean") == OLD
    assert contents(failed_folder(project, "near", "clean")) == HALF
    assert sorted(path.name for path in (project / "products/near").iterdir()) == ["clean", "failed"]


def test_while_a_stage_runs_it_does_not_look_built(project):
    stash_products(project, "near", "clean")
    assert not stage_record_path(project, "near", "clean").exists()
    assert (project / "products/near/clean/out.txt").read_text() == "old"


def test_a_first_run_that_failed_leaves_no_products_and_what_it_had_made(tmp_path):
    stash_products(tmp_path, "near", "clean")
    (tmp_path / "products/near/clean/out.txt").write_text("half")
    resolve_stash(tmp_path, "near", "clean")
    assert contents(tmp_path / "products/near") == {"failed/clean/out.txt": "half"}


def test_another_stage_s_failure_is_kept_until_that_stage_comes_to_its_end(project):
    (project / "products/near/failed/judge").mkdir(parents=True)
    (project / "products/near/failed/judge/out.txt").write_text("half")
    run_stage(project, fails=False)
    assert contents(project / "products/near/failed") == {"judge/out.txt": "half"}
    assert contents(project / "products/near/clean") == NEW


def run_and_die(root: Path, at: int, fails: bool) -> int:
    "Run the stage in a forked process that dies before its at-th effect on files; gives its exit status."

    def work():
        die_before_effect(at)
        run_stage(root, fails)

    return run_in_fork(work)


@pytest.mark.parametrize("fails", [False, True], ids=["comes to its end", "fails"])
def test_killed_before_any_effect_the_next_build_finds_the_old_products_or_the_new(project, tmp_path, fails):
    at, seen = 0, []
    while True:
        # given a run that dies before its first, second, ... effect
        root = tmp_path / str(at)
        shutil.copytree(project, root)
        status = run_and_die(root, at, fails)
        # when the next build begins by putting things right
        resolve_stash(root, "near", "clean")
        there = contents(root / "products/near/clean")
        # then they are whole, and of one run
        assert there in ([OLD] if fails else [OLD, NEW]), f"killed before effect {at}"
        seen.append(there)
        # and that build comes to its end, and nothing of all this is left
        run_stage(root, fails=False)
        assert contents(root / "products/near") == {f"clean/{name}": text for name, text in NEW.items()}
        assert not list((root / "products/near").glob(".before*"))
        if status == 0:
            break
        assert status == 9
        at += 1
    assert at > 15 and (fails or (seen[0], seen[-1]) == (OLD, NEW))
