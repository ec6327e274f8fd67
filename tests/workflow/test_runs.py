"Each build leaves a record; a run is built again to the byte, and what differs or is gone is named."

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import commands
from toy import BUILD, ENV, FORKS, replace_in_file, started_stages

from brewcast.common.hashing import FileHashes
from brewcast.workflow.runs import altered_products, comparison_hash, read_runs, run_command_in, source_data_files

GIT = "git -c user.name=a -c user.email=a@example.com"


@pytest.fixture(scope="module")
def committed(built, tmp_path_factory):
    "The small project under git, built from a clean work tree."
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


def last(root: Path) -> dict:
    return read_runs(root, "near")[-1]


def doctor(root: Path, change) -> None:
    "Change the last record."
    path = sorted((root / "state/near/runs").glob("*.json"))[-1]
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_build_records_what_it_stood_on_and_where_the_bytes_are(toy, run, brewcast):
    record = last(toy)
    head = run("git rev-parse HEAD").out.strip()
    ref = f"refs/brewcast/runs/{record['run']}"
    assert record["code"] == {"commit": head, "dirty": False, "ref": ref}
    assert run(f"git rev-parse {ref}").out.strip() == head
    assert record["run"].endswith(record["build_key"]) and re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{12}", record["run"])
    assert record["params"]["clean"] == {"lags": [1, 12]}
    assert record["inputs"] == json.loads((toy / "products/near/inputs.json").read_text())
    for name, known in record["data"].items():
        assert run(f"sha256sum {name}").out.split()[0] == known
    assert list(record["data"]) == ["data/near/till.csv"]
    assert run("sha256sum requirements.lock").out.split()[0] == record["environment"]["lock"]
    assert run("sha256sum products/near/judge/out.txt").out.split()[0] == record["products"]["judge"]["out.txt"]
    # a build that finds nothing to do leaves no other
    brewcast("build")
    assert len(read_runs(toy, "near")) == 1


def test_a_run_is_built_again_to_the_byte_and_touches_nothing(toy, run, brewcast):
    before = {path: path.stat().st_mtime_ns for path in toy.rglob("*") if ".git" not in path.parts and path.is_file()}
    told = brewcast("verify").out
    assert "all 8 products are the same, byte for byte" in told
    after = {path: path.stat().st_mtime_ns for path in toy.rglob("*") if ".git" not in path.parts and path.is_file()}
    assert {p: t for p, t in after.items() if p.name != ".hashes.json"} == {
        p: t for p, t in before.items() if p.name != ".hashes.json"
    }
    assert run("git status --porcelain").out == ""


def test_a_run_that_is_built_again_logs_to_no_server(tmp_path, monkeypatch):
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o755)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    told = run_command_in(tmp_path, ["build"], {"MINE": "1"}, capture_output=True, text=True).stdout
    assert "MINE=1" in told and "MLFLOW_" not in told


def test_a_dirty_tree_is_kept_and_built_again_after_it_has_changed_once_more(toy, run, brewcast):
    # given a build of code that was never committed, a file that git does not know among it
    replace_in_file(toy / "nbs/data/11_clean.ipynb", "str(twice(lags))", "str(thrice(lags))")
    replace_in_file(toy / "nbs/data/11_clean.ipynb", "import twice", "import twice\\nfrom brewcast.extra import thrice")
    (toy / "brewcast/extra.py").write_text("def thrice(x):\n    return 3 * x\n")
    brewcast("build")
    code = last(toy)["code"]
    assert code["dirty"] and code["ref"] == f"refs/brewcast/runs/{last(toy)['run']}"
    # when the tree is another and git has swept
    run("git checkout -q . && rm brewcast/extra.py && git gc -q --prune=now")
    # then that run is built as it was
    assert "all 8 products are the same" in brewcast("verify").out


def test_parameters_that_were_changed_for_one_run_belong_to_it(toy, run, brewcast):
    assert started_stages(brewcast("build 'lags=[2]'").err) == ["clean", "judge"]
    brewcast("build")  # and back
    first = read_runs(toy, "near")[1]
    assert first["params"]["clean"] == {"lags": [2]}
    told = brewcast(f"verify {first['run']}").out
    assert "all 8 products are the same" in told and "was not compared: products/near are a later run's" in told
    assert "2 runs" not in brewcast(f"verify {last(toy)['run'][:16]}").out


def test_another_parameter_is_found_where_it_began(toy, run, brewcast):
    doctor(toy, lambda record: record["params"]["clean"].update(lags=[1, 6]))
    told = brewcast("verify", fails=True)
    assert told.status == 1
    assert "NOT the same. It began in clean, with clean.ipynb" in told.out
    assert '"lags": [' in told.out or "12" in told.out
    differs = json.loads(brewcast("verify --json", fails=True).out)["differs"]
    assert {found["product"] for found in differs if found["stage"] == "clean"} == {"clean.ipynb", "out.txt"}
    assert {found["stage"] for found in differs} <= {"clean", "judge"}


def test_a_product_that_the_code_does_not_make_is_found(toy, run, brewcast):
    doctor(toy, lambda record: record["products"]["look"].update({"out.txt": "0" * 64}))
    told = brewcast("verify", fails=True)
    assert told.status == 1 and "It began in look, with out.txt" in told.out


ALTERED = {  # how a product is changed behind the back of the build, and what is said of it
    "a byte": (lambda at: (at / "look/out.txt").write_text("8"), {"look/out.txt": "altered"}),
    "deleted": (lambda at: (at / "look/out.txt").unlink(), {"look/out.txt": "gone"}),
    "a report's figure": (lambda at: replace_in_file(at / "clean/clean.ipynb", "# the run", "# a run"), {"clean/clean.ipynb": "altered"}),
    "no notebook": (lambda at: (at / "clean/clean.ipynb").write_text("{"), {"clean/clean.ipynb": "altered"}),
    "a folder for a file": (lambda at: (at / "look/out.txt").unlink() or (at / "look/out.txt").mkdir(), {"look/out.txt": "altered"}),
    "a stage": (lambda at: shutil.rmtree(at / "judge"), {"judge/judge.ipynb": "gone", "judge/out.txt": "gone"}),
    "the state's answer": (lambda at: (at / "inputs.json").unlink() or (at / "judge/out.txt").unlink(), {"judge/out.txt": "gone"}),
}  # fmt: skip


@pytest.mark.parametrize("change, found", ALTERED.values(), ids=ALTERED)
def test_a_product_on_disk_that_is_not_the_last_run_s_is_named(toy, change, found):
    assert altered_products(toy, last(toy)) == []
    change(toy / "products/near")
    told = {each["product"].removeprefix("products/near/"): each["state"] for each in altered_products(toy, last(toy))}
    assert told == found


def test_verify_says_what_was_altered_on_disk_though_the_run_comes_out_the_same(toy, brewcast):
    # given a product that somebody changed, and one that is gone
    (toy / "products/near/look/out.txt").write_text("8")
    (toy / "products/near/judge/out.txt").unlink()
    # when the run is built again, then it is the same, and that is not all that is said
    told = brewcast("verify", fails=True)
    assert told.status == 3
    assert "all 8 products are the same, byte for byte" in told.out
    assert "ON DISK 2 products are not what the run made; `make build` makes them again" in told.out
    assert "products/near/look/out.txt: altered" in told.out and "products/near/judge/out.txt: gone" in told.out
    # and it does
    brewcast("build")
    assert altered_products(toy, last(toy)) == []


def test_products_of_an_unfinished_build_are_no_altered_ones(toy):
    replace_in_file(toy / "products/near/inputs.json", last(toy)["build_key"], "0123456789ab")
    with pytest.raises(ValueError, match="a build that was not finished has begun to replace products/near"):
        altered_products(toy, last(toy))


def test_what_is_wrong_on_disk_is_said_as_well_where_the_run_cannot_be_built_again(toy, brewcast):
    (toy / "products/near/look/out.txt").unlink()
    (toy / "data/near/till.csv").unlink()
    told = brewcast("verify", fails=True)
    assert told.status == 2 and "products/near/look/out.txt: gone" in told.out


def test_of_an_altered_folder_its_files_are_named(toy):
    # given a product that is a folder, as the last run recorded it, and as it was built again
    own, again = toy / "products/near/look/made", toy / "again/look/made"
    for place in (own, again):
        place.mkdir(parents=True)
        for name in ("a", "b", "c"):
            (place / name).write_text(name)
    run = last(toy)
    run["products"] = {"look": {"made": comparison_hash(own, FileHashes(toy / "none"))}}
    assert altered_products(toy, run, toy / "again") == []
    # when a file of it is altered, one is gone, one is new, and the build's own traces are there
    (own / "a").write_text("other")
    (own / "b").unlink()
    (own / "d").write_text("new")
    (own / "x.pyc").write_text("compiled")
    (found,) = altered_products(toy, run, toy / "again")
    assert found == {"product": "products/near/look/made", "state": "altered", "files": ["a", "b", "d"]}


@pytest.mark.parametrize(
    ("what", "change", "told"),
    [
        ("data changed", lambda root: replace_in_file(root / "data/near/till.csv", "S1", "S2"), "data/near/till.csv is not what it was"),
        ("data gone", lambda root: (root / "data/near/till.csv").unlink(), "data/near/till.csv is gone"),
        ("commit gone", lambda root: doctor(root, lambda r: r["code"].update(commit="0" * 40)), "git has no commit 000000000000"),
        ("no git", lambda root: doctor(root, lambda r: r["code"].update(commit=None)), "when it was built, the project was outside of git"),
        ("another lock", lambda root: doctor(root, lambda r: r["environment"].update(lock="0")), "not the one that it ran with"),
        ("another Python", lambda root: doctor(root, lambda r: r["environment"].update(python="3.9.1")), "ran with Python 3.9.1"),
    ],
)  # fmt: skip
def test_bytes_that_are_gone_are_said_to_be_gone(toy, run, brewcast, what, change, told):
    change(toy)
    done = brewcast("verify", fails=True)
    assert done.status == 2
    assert "cannot be built again:" in done.out and told in done.out


def test_a_run_that_is_not_there_is_told_which_there_are(toy, run, brewcast):
    told = brewcast("verify 1999", fails=True).err
    assert "0 runs of near are called '1999'; the last are " in told and last(toy)["run"] in told


def test_without_git_a_build_says_that_its_code_is_not_kept(toy, run, brewcast):
    shutil.rmtree(toy / ".git")
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    told = brewcast("build").err
    why = "the project is outside of git, which keeps it: `git init`, or a clone"
    said = f"the code of this build is not kept, so `make verify` could not make it again: {why}"
    assert last(toy)["code"] == {"commit": None, "dirty": None, "ref": None, "why": why}
    assert told.splitlines().count(said) == 1
    # and once: the next build has nothing new to say of it
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 9"))
    assert said not in brewcast("build").err
    assert f"its code was not kept: when it was built, {why}" in brewcast("verify", fails=True).out


def test_a_folder_of_another_repository_is_none_and_the_other_is_left_alone(toy, run, brewcast):
    # given a copy without .git, within another repository
    shutil.rmtree(toy / ".git")
    run("git init -q .. && git -C .. add toy/env.yaml")
    before = run("git -C .. status --porcelain --untracked-files=no && git -C .. for-each-ref").out
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    # when it is built, then it is told why its code is not kept, and the other repository has nothing of it
    told = brewcast("build").err
    why = f"the project is a folder of another repository, {toy.parent}: `git init` here, or a clone, is one of its own"
    assert why in told and last(toy)["code"]["why"] == why
    now = run("git -C .. status --porcelain --untracked-files=no && git -C .. for-each-ref").out
    assert now.split() == before.split() or now.split() == ["AM", "toy/env.yaml"]
    assert why in brewcast("verify", fails=True).out


def test_a_clone_that_git_does_not_trust_is_said_so_with_the_command_that_trusts_it(toy, run, brewcast, monkeypatch):
    # given a run that was recorded, and a clone that belongs to another user by now
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as git's own tests do it
    way = f"git config --global --add safe.directory {shlex.quote(str(toy))}"
    told = brewcast("verify", fails=True).out
    assert f"its code cannot be read: git does not trust this folder, which belongs to another user: `{way}`" in told
    # when it is built, then it is said, too, and is no error
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    assert (
        "the code of this build is not kept, so `make verify` could not make it again: git does not trust"
        in brewcast("build").err
    )


def test_files_of_a_linked_folder_are_recorded(tmp_path):
    # given a source's folder with a link to a folder elsewhere
    (tmp_path / "project" / "data" / "tea").mkdir(parents=True)
    (tmp_path / "project" / "pipeline.yaml").write_text("tasks: []")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "till.csv").write_text("1")
    (tmp_path / "project" / "data" / "tea" / "there").symlink_to(tmp_path / "elsewhere")
    # then its files are among those that a build reads
    read = source_data_files(tmp_path / "project", {"ingest": {"params": {"data": "data/tea"}}})
    assert read == [tmp_path / "project" / "data" / "tea" / "there" / "till.csv"]
