"Each build leaves a record. `make verify` builds a run again, and names what differs, is missing or was altered."

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import commands
from toy import BUILD, ENV, FORKS, replace_in_file, started_stages

from brewcast.common.records import CodeSnapshot, RunRecord
from brewcast.workflow.runs import (
    altered_products,
    read_runs,
)

GIT = "git -c user.name=a -c user.email=a@example.com"


@pytest.fixture(scope="module")
def committed(built, tmp_path_factory):
    "The toy project in git, built without uncommitted changes."
    root = Path(shutil.copytree(built, tmp_path_factory.mktemp("records") / "toy"))
    (root / ".gitignore").write_text("/products/\n/state/\n/data/\n/scratch/\n__pycache__/\n")
    shutil.rmtree(root / "products")
    shutil.rmtree(root / "state")
    run = commands(root)
    run(f"git init -q && git add -A && {GIT} commit -qm start")
    run(BUILD, **FORKS)
    return root


@pytest.fixture
def toy(committed, tmp_path):
    return Path(shutil.copytree(committed, tmp_path / "toy"))


def last_run(root: Path) -> RunRecord:
    return read_runs(root, "near")[-1]


def change_record(root: Path, change) -> None:
    "Change the record of the last run."
    path = sorted((root / "state/near/runs").glob("*.json"))[-1]
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_build_records_its_inputs_and_products_and_the_commit_of_its_code(toy, run, brewcast):
    record = last_run(toy)
    head = run("git rev-parse HEAD").out.strip()
    ref = f"refs/brewcast/runs/{record.run}"
    assert record.code == CodeSnapshot(commit=head, dirty=False, ref=ref)
    assert run(f"git rev-parse {ref}").out.strip() == head
    assert record.run.endswith(record.build_key) and re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{12}", record.run)
    assert record.params["clean"] == {"lags": [1, 12]}
    assert record.inputs == json.loads((toy / "products/near/inputs.json").read_text())
    for name, recorded_hash in record.data.items():
        assert run(f"sha256sum {name}").out.split()[0] == recorded_hash
    assert list(record.data) == ["data/near/till.csv"]
    assert run("sha256sum requirements.lock").out.split()[0] == record.environment.lock
    assert run("sha256sum products/near/judge/out.txt").out.split()[0] == record.products["judge"]["out.txt"]
    # and a build with nothing to do leaves no new record
    brewcast("build")
    assert len(read_runs(toy, "near")) == 1


def test_a_run_is_built_again_with_the_same_bytes_and_changes_no_file(toy, run, brewcast):
    before = {path: path.stat().st_mtime_ns for path in toy.rglob("*") if ".git" not in path.parts and path.is_file()}
    assert "all 8 products are the same, byte for byte" in brewcast("verify").out
    after = {path: path.stat().st_mtime_ns for path in toy.rglob("*") if ".git" not in path.parts and path.is_file()}
    for times in (before, after):
        times.pop(toy / "products/near/.hashes.json", None)  # the cache of hashes
    assert after == before
    assert run("git status --porcelain").out == ""


def test_uncommitted_code_is_kept_and_built_again_after_it_has_changed(toy, run, brewcast):
    # given a build of uncommitted code, with a new file
    replace_in_file(toy / "nbs/data/11_clean.ipynb", "str(twice(lags))", "str(thrice(lags))")
    replace_in_file(toy / "nbs/data/11_clean.ipynb", "import twice", "import twice\\nfrom brewcast.extra import thrice")
    (toy / "brewcast/extra.py").write_text("def thrice(x):\n    return 3 * x\n")
    brewcast("build")
    code = last_run(toy).code
    assert code.dirty and code.ref == f"refs/brewcast/runs/{last_run(toy).run}"
    # when the changes are undone and git has collected its garbage
    run("git checkout -q . && rm brewcast/extra.py && git gc -q --prune=now")
    # then the run can still be built again
    assert "all 8 products are the same" in brewcast("verify").out


def test_parameters_of_one_run_are_recorded_with_it(toy, run, brewcast):
    assert started_stages(brewcast("build 'lags=[2]'").err) == ["clean", "judge"]
    brewcast("build")  # with the parameters of the file again
    first = read_runs(toy, "near")[1]
    assert first.params["clean"] == {"lags": [2]}
    output = brewcast(f"verify {first.run}").out
    assert "all 8 products are the same" in output
    assert "the products on disk were not compared: products/near are from a later run" in output
    assert "2 runs" not in brewcast(f"verify {last_run(toy).run[:16]}").out


def test_a_changed_parameter_is_found_in_its_stage(toy, run, brewcast):
    change_record(toy, lambda record: record["params"]["clean"].update(lags=[1, 6]))
    result = brewcast("verify", fails=True)
    assert result.status == 1
    assert "NOT the same. The first difference is in clean, clean.ipynb" in result.out
    assert '"lags": [' in result.out or "12" in result.out
    differs = json.loads(brewcast("verify --json", fails=True).out)["differs"]
    products = {difference["product"] for difference in differs if difference["stage"] == "clean"}
    assert products == {"clean.ipynb", "out.txt"}
    assert {difference["stage"] for difference in differs} <= {"clean", "judge"}


def test_a_product_that_the_code_does_not_make_is_found(toy, run, brewcast):
    change_record(toy, lambda record: record["products"]["look"].update({"out.txt": "0" * 64}))
    result = brewcast("verify", fails=True)
    assert result.status == 1 and "The first difference is in look, out.txt" in result.out


ALTERED = {  # how a product is changed after the build, and its state in the report
    "a byte": (lambda at: (at / "look/out.txt").write_text("8"), {"look/out.txt": "altered"}),
    "deleted": (lambda at: (at / "look/out.txt").unlink(), {"look/out.txt": "gone"}),
    "a report's figure": (lambda at: replace_in_file(at / "clean/clean.ipynb", "# the run", "# a run"), {"clean/clean.ipynb": "altered"}),
    "not a notebook": (lambda at: (at / "clean/clean.ipynb").write_text("{"), {"clean/clean.ipynb": "altered"}),
    "a folder for a file": (lambda at: (at / "look/out.txt").unlink() or (at / "look/out.txt").mkdir(), {"look/out.txt": "altered"}),
    "a stage": (lambda at: shutil.rmtree(at / "judge"), {"judge/judge.ipynb": "gone", "judge/out.txt": "gone"}),
    "inputs.json": (lambda at: (at / "inputs.json").unlink() or (at / "judge/out.txt").unlink(), {"judge/out.txt": "gone"}),
}  # fmt: skip


@pytest.mark.parametrize("change, expected", ALTERED.values(), ids=ALTERED)
def test_an_altered_product_on_disk_is_named(toy, change, expected):
    assert altered_products(toy, last_run(toy)) == []
    change(toy / "products/near")
    altered = altered_products(toy, last_run(toy))
    states = {each.product.removeprefix("products/near/"): each.state for each in altered}
    assert states == expected


def test_verify_names_altered_products_on_disk_although_the_rebuilt_ones_are_the_same(toy, brewcast):
    # given a changed product and a missing one
    (toy / "products/near/look/out.txt").write_text("8")
    (toy / "products/near/judge/out.txt").unlink()
    # when the run is built again, then its products are the same, and those on disk are named
    result = brewcast("verify", fails=True)
    assert result.status == 3
    assert "all 8 products are the same, byte for byte" in result.out
    assert "ON DISK 2 products differ from what the run made; `make build` makes the run's products again" in result.out
    assert "products/near/look/out.txt: altered" in result.out
    assert "products/near/judge/out.txt: missing" in result.out
    # and `make build` makes them again
    brewcast("build")
    assert altered_products(toy, last_run(toy)) == []


def test_products_of_an_unfinished_build_do_not_count_as_altered(toy):
    replace_in_file(toy / "products/near/inputs.json", last_run(toy).build_key, "0123456789ab")
    with pytest.raises(ValueError, match="a later build has started to replace products/near and has not finished"):
        altered_products(toy, last_run(toy))


def test_altered_products_are_named_also_if_the_run_cannot_be_built_again(toy, brewcast):
    (toy / "products/near/look/out.txt").unlink()
    (toy / "data/near/till.csv").unlink()
    result = brewcast("verify", fails=True)
    assert result.status == 2 and "products/near/look/out.txt: missing" in result.out


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda root: replace_in_file(root / "data/near/till.csv", "S1", "S2"), "data/near/till.csv has changed since"),
        (lambda root: (root / "data/near/till.csv").unlink(), "data/near/till.csv is missing"),
        (lambda root: change_record(root, lambda r: r["code"].update(commit="0" * 40)), "git has no commit 000000000000"),
        (lambda root: change_record(root, lambda r: r["code"].update(commit=None)), "the reason at that time: the project is not in a git repository"),
        (lambda root: change_record(root, lambda r: r["environment"].update(lock="0")), "the run used another requirements.lock than its commit has"),
        (lambda root: change_record(root, lambda r: r["environment"].update(python="3.9.1")), "ran with Python 3.9.1"),
    ],
    ids=["data changed", "data missing", "commit missing", "no git", "another lock", "another Python"],
)  # fmt: skip
def test_a_run_that_cannot_be_built_again_says_why(toy, run, brewcast, change, problem):
    change(toy)
    result = brewcast("verify", fails=True)
    assert result.status == 2
    assert "cannot be built again:" in result.out and problem in result.out


def test_the_message_about_an_unknown_run_names_the_last_runs(toy, run, brewcast):
    output = brewcast("verify 1999", fails=True).err
    assert "0 runs of near match '1999'; the last runs are " in output and last_run(toy).run in output


def test_without_git_a_build_says_once_that_its_code_is_not_kept(toy, run, brewcast):
    shutil.rmtree(toy / ".git")
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    output = brewcast("build").err
    why = "the project is not in a git repository: run `git init`, or use a clone"
    message = f"git does not keep the code of this build, so `make verify` cannot build it again: {why}"
    assert last_run(toy).code == CodeSnapshot(commit=None, dirty=None, ref=None, why=why)
    assert output.splitlines().count(message) == 1
    # and the next build does not repeat it
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 9"))
    assert message not in brewcast("build").err
    assert f"git did not keep its code; the reason at that time: {why}" in brewcast("verify", fails=True).out


def test_a_project_inside_another_repository_is_not_kept_in_that_one(toy, run, brewcast):
    # given a copy without .git, within another repository
    shutil.rmtree(toy / ".git")
    run("git init -q .. && git -C .. add toy/env.yaml")
    before = run("git -C .. status --porcelain --untracked-files=no && git -C .. for-each-ref").out
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    # when it is built, then the message says why git does not keep its code, and the other repository is unchanged
    output = brewcast("build").err
    why = f"the project is a folder of another git repository, {toy.parent}: run `git init` in the project, or use a clone"
    assert why in output and last_run(toy).code.why == why
    now = run("git -C .. status --porcelain --untracked-files=no && git -C .. for-each-ref").out
    assert now.split() == before.split() or now.split() == ["AM", "toy/env.yaml"]
    assert why in brewcast("verify", fails=True).out


def test_the_message_about_a_clone_that_git_does_not_trust_has_the_command_that_trusts_it(
    toy, run, brewcast, monkeypatch
):
    # given a recorded run, and a clone that now belongs to another user
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests use this variable
    remedy = f"git config --global --add safe.directory {shlex.quote(str(toy))}"
    output = brewcast("verify", fails=True).out
    problem = f"git does not trust this folder, which belongs to another user: run `{remedy}`"
    assert f"its code cannot be read: {problem}" in output
    # when it is built, then the build says so, too, but does not fail
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    message = "git does not keep the code of this build, so `make verify` cannot build it again: git does not trust"
    assert message in brewcast("build").err
