"Publish: ledger, releases and MLflow's registry agree, even if it is killed at any point."

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from killing import die_before_effect, run_in_fork
from releases import FOREST, ROOT, SEASONAL, VERDICTS, make_decision, make_products, write_products

from brewcast.common.core import read_json, write_json, write_parquet
from brewcast.common.hashing import sha256
from brewcast.common.ledger import archived_forecast_path, read_ledger, resolve_inputs, serving_model
from brewcast.common.lock import project_lock
from brewcast.common.mlflow_models import read_aliases
from brewcast.common.paths import DiskFullError
from brewcast.delivery.package import bento_hashes, build_bento, folder_hashes, isolated_environment
from brewcast.registry import promotion
from brewcast.registry.publish import UntrustedDataError, publish


def full_state(root: Path) -> dict:
    "The whole state, without times and without MLflow's own numbers and ids."
    state = root / "state" / "shop"
    with contextlib.closing(sqlite3.connect(state / "mlflow.db")) as database:
        tag = "SELECT value FROM model_version_tags WHERE key = 'content_hash'"
        versions = sorted(row[0] for row in database.execute(tag))
        runs = "SELECT t.value FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'content_hash' "
        finished = sorted(
            row[0] for row in database.execute(runs + "AND status = 'FINISHED' AND lifecycle_stage = 'active'")
        )
        unfinished = database.execute(
            "SELECT count(*) FROM runs WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"
        )
        assert unfinished.fetchone() == (0,)
    files = {
        name: digest for name, digest in folder_hashes(state).items() if not name.startswith(("ml", ".lock", "ledger"))
    }
    ledger = [entry.model_copy(update={"at": None, "by": None}) for entry in read_ledger(state)]
    named = read_aliases("shop", root)
    return {"ledger": ledger, "files": files, "current": os.readlink(state / "current"), "aliases": named} | {
        "versions": versions,
        "runs": finished,
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    "A project in which the seasonal baseline serves."
    root = tmp_path_factory.mktemp("project")
    write_products(root, "key1", SEASONAL)
    publish("shop", root)
    return root


@pytest.fixture
def project(first, tmp_path):
    "A copy of it: a clone that was moved, too."
    shutil.copytree(first, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def test_the_first_publish_writes_everything(first):
    # given one published build
    entry = read_ledger(first / "state/shop")[0]
    release = read_json(first / "products/shop/package/release/release.json")
    state = full_state(first)
    # then the ledger says what serves and why, and everything else agrees with it
    assert entry.n == 1 and entry.previous is None and entry.action == "publish" and entry.build_key == "key1"
    assert (entry.release, entry.recipe, entry.cutoff) == (release["release"], SEASONAL, "2024-04-30")
    assert entry.train_through == "2024-04-30" and entry.verdict == VERDICTS["promote"]
    assert entry.model_hash == sha256(first / "products/shop/forecast/model.joblib")
    assert state["current"] == f"releases/{release['release']}"
    assert state["aliases"] == {"champion": entry.model_hash[:12]}
    assert folder_hashes(first / "state/shop/current") == folder_hashes(first / "products/shop/package/release")
    assert f"forecasts/2024-04-30-{release['release']}.parquet" in state["files"]


def test_publishing_again_changes_nothing_and_says_so(project):
    before = full_state(project), (project / "state/shop/ledger.db").read_bytes()
    again = publish("shop", project)
    assert again.changed == [] and "nothing to publish" in again.message
    assert (full_state(project), (project / "state/shop/ledger.db").read_bytes()) == before


def test_the_same_release_from_another_build_adds_no_entry(project):
    # given the same products from a build with another key: its code changed, its results did not
    write_products(project, "key2", SEASONAL)
    assert publish("shop", project).changed == []
    assert len(read_ledger(project / "state/shop")) == 1


def test_a_promotion_moves_everything_and_keeps_earlier_files(project):
    # given another build, which promotes a forest
    old = full_state(project)
    folder = write_products(project, "key2", FOREST)
    # when it is published
    done = publish("shop", project)
    # then every part has moved, and the earlier files still exist
    assert done.changed == ["release", "bento", "forecast", "known", "model", "ledger", "current"]
    new = full_state(project)
    kept = {name: digest for name, digest in old["files"].items() if not name.endswith("latest")}
    assert kept.items() <= new["files"].items()
    assert new["ledger"][:1] == old["ledger"] and new["ledger"][1].previous == old["ledger"][0].release
    assert new["aliases"] == {"champion": sha256(folder / "forecast/model.joblib")[:12]}
    assert len(new["versions"]) == 2
    assert (project / "state/shop/bentoml/bentos/brewcast/latest").read_text() == done.release


def test_a_refused_candidate_is_the_challenger_and_a_refit_is_an_entry(project):
    # given a build that refused its candidate, a forest, and trained the champion on new rows
    folder = write_products(project, "key2", SEASONAL, "refuse", stores=13, challenger=FOREST)
    # when it is published
    publish("shop", project)
    # then the champion's recipe serves with a new release, and the candidate is registered and stored as challenger
    there, state = full_state(project), project / "state/shop"
    assert [entry.recipe for entry in there["ledger"]] == [SEASONAL, SEASONAL]
    last = there["ledger"][1]
    assert last.verdict.reason == "it is no better"
    assert (last.challenger.recipe, last.share) == (FOREST, 0)
    content_hash = sha256(folder / "forecast/challenger/model.joblib")[:12]
    assert there["aliases"] == {"champion": last.model_hash[:12], "challenger": content_hash}
    assert folder_hashes(state / "releases" / last.challenger.release) == folder_hashes(folder / "package/challenger")
    assert (state / archived_forecast_path(last.challenger)).exists()
    assert publish("shop", project).changed == []
    # and when the next build promotes without a challenger, the alias is removed
    write_products(project, "key3", FOREST)
    publish("shop", project)
    assert set(full_state(project)["aliases"]) == {"champion"}


def test_a_challengers_share_stays_for_the_same_recipes_and_ends_for_others(project):
    # given a split, and the next month's build of the same two recipes
    write_products(project, "key2", SEASONAL, "refuse", stores=13, challenger=FOREST)
    publish("shop", project)
    promotion.split("shop", 10, project)
    write_products(project, "key3", SEASONAL, "refuse", stores=14, challenger=FOREST)
    publish("shop", project)
    assert read_ledger(project / "state/shop")[-1].share == 10
    # when the recipes change, then the new challenger starts as a shadow
    write_products(project, "key4", FOREST, stores=14, challenger=SEASONAL)
    publish("shop", project)
    assert read_ledger(project / "state/shop")[-1].share == 0


def test_products_built_before_a_rollback_do_not_undo_it(project):
    # given a promotion that was rolled back
    write_products(project, "key2", FOREST)
    publish("shop", project)
    promotion.rollback("shop", project)
    # then the old products are not published again, and the next build reads which recipe is barred
    with pytest.raises(ValueError, match="what serves has changed since the products were built"):
        publish("shop", project)
    left = resolve_inputs("shop", project, "key2")
    assert (left.champion.recipe, left.barred) == (SEASONAL, [FOREST])
    assert full_state(project)["aliases"] == {"champion": read_ledger(project / "state/shop")[0].model_hash[:12]}


# --- killed at any point


def run_and_die(root: Path, at: int, client_call: str | None = None) -> int:
    "Publish in a forked process that dies before its at-th effect, or after a call of MLflow. Returns the exit status."

    def work():
        if client_call is None:
            die_before_effect(at, "/state/")
        else:
            from mlflow import MlflowClient

            real = getattr(MlflowClient, client_call)

            def die_after_call(*args, **kwargs):
                real(*args, **kwargs)
                os._exit(9)

            setattr(MlflowClient, client_call, die_after_call)
        publish("shop", root)

    return run_in_fork(work)


@pytest.fixture(scope="module")
def undisturbed(first, tmp_path_factory):
    "The state after a promotion that was published without interruption."
    import mlflow.sklearn  # noqa: F401  imported once: the children are forked
    import skops.io  # noqa: F401

    root = tmp_path_factory.mktemp("undisturbed") / "project"
    shutil.copytree(first, root, symlinks=True)
    write_products(root, "key2", FOREST)
    assert run_and_die(root, 10**9) == 0
    return full_state(root)


def killed_and_healed(first: Path, root: Path, at: int, client_call: str | None = None) -> tuple[int, dict]:
    shutil.copytree(first, root, symlinks=True)
    write_products(root, "key2", FOREST)
    status = run_and_die(root, at, client_call)
    assert status in (0, 9)
    # a build still sees the earlier champion, whatever publish has already written
    assert resolve_inputs("shop", root, "key2").champion.recipe == SEASONAL
    assert run_and_die(root, 10**9) == 0
    return status, full_state(root)


def test_a_publish_killed_before_any_effect_is_completed_by_the_next(first, undisturbed, tmp_path):
    # given a promotion whose publish dies before its first, second, ... effect on the state
    at, died = 0, 0
    while True:
        status, there = killed_and_healed(first, tmp_path / str(at), at)
        # then the next publish gives the same ledger, releases, forecasts, links, versions and aliases
        assert there == undisturbed, f"killed before effect {at}"
        shutil.rmtree(tmp_path / str(at))
        died += status == 9
        if status == 0:
            break
        at += 1 if at < 12 else 4
    assert died > 15


@pytest.mark.parametrize(
    "call", ["create_run", "log_param", "create_model_version", "set_registered_model_alias", "search_model_versions"]
)
def test_a_publish_killed_after_a_call_of_mlflow_is_completed_by_the_next(first, undisturbed, tmp_path, call):
    _, there = killed_and_healed(first, tmp_path / "project", 0, call)
    assert there == undisturbed


@pytest.fixture
def small_disk(tmp_path):
    "A function that puts a project's state on a small disk and leaves a number of bytes free."
    state = tmp_path / "project/state/shop"

    def lay(first, free):
        shutil.copytree(first, tmp_path / "project", symlinks=True)
        shutil.move(state, tmp_path / "kept")
        state.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", state], capture_output=True)
        if mounted.returncode:
            pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
        shutil.copytree(tmp_path / "kept", state, symlinks=True, dirs_exist_ok=True)
        disk = os.statvfs(state)
        (state / "filler").write_bytes(bytes(disk.f_bavail * disk.f_frsize - free))
        return tmp_path / "project"

    yield lay
    subprocess.run(["umount", "-l", state], check=False)


@pytest.mark.parametrize("kilobytes", [0, 40, 120, 200])
def test_a_full_disk_is_reported_with_free_and_needed_space_and_loses_nothing(
    first, undisturbed, small_disk, tmp_path, kilobytes
):
    # given a promotion, and too little space for it in the state
    root = small_disk(first, kilobytes * 1024)
    message = tmp_path / "message"  # the error, written by the fork
    write_products(root, "key2", FOREST)

    def work():
        try:
            publish("shop", root)
        except DiskFullError as error:
            message.write_text(str(error))

    assert run_in_fork(work) == 0
    # then the error says where, how much and what to do, without the text of a library
    state = root / "state/shop"
    assert re.search(
        "publish needs more disk space.* it needs about 0|MLflow needs more disk space", message.read_text()
    )
    assert f" MB in {state}, " in message.read_text() and "free some space (`make prune`" in message.read_text()
    assert "autoflush" not in message.read_text() and len(message.read_text().splitlines()) == 1
    # and no half-written file uses the space
    assert [path for pattern in (".*.tmp", "*/.*.tmp", "*/*/*/.*.tmp") for path in state.glob(pattern)] == []
    # and with enough space the next publish gives the same state as an uninterrupted one
    (state / "filler").unlink()
    assert run_and_die(root, 10**9) == 0
    assert full_state(root) == undisturbed


# --- what a build may know


def test_a_build_does_not_read_its_own_entry(project):
    # given a ledger of two builds
    write_products(project, "key2", FOREST)
    publish("shop", project)
    one, two = read_ledger(project / "state/shop")
    # then each reads the entry before its own, and a third build reads the last entry
    assert resolve_inputs("shop", project, "key3").champion == serving_model(two)
    assert resolve_inputs("shop", project, "key2").champion == serving_model(one)
    # with a later build in between, going back to the old data is a new build, which reads the newer champion
    assert resolve_inputs("shop", project, "key1").champion.recipe == FOREST


def test_untrusted_data_is_not_published_if_a_release_serves(tmp_path):
    # given a first release from untrusted data: it is published, since no release serves yet
    decision = write_products(tmp_path, "k1", SEASONAL) / "monitor/decision.json"
    write_json(make_decision(trusted=False, reason="prices are in cents"), decision)
    publish("shop", tmp_path)
    # when the next month's data is not trusted
    decision = write_products(tmp_path, "k2", FOREST) / "monitor/decision.json"
    write_json(make_decision(trusted=False, reason="prices are in cents"), decision)
    before = read_ledger(tmp_path / "state/shop")
    with pytest.raises(UntrustedDataError, match="prices are in cents; the current release keeps serving"):
        publish("shop", tmp_path)
    # then the current release keeps serving
    assert read_ledger(tmp_path / "state/shop") == before and len(before) == 1
    # and corrected data is published
    write_json(make_decision(), decision)
    assert publish("shop", tmp_path).entry.n == 2


# --- refused products


@pytest.mark.parametrize(
    "name",
    ["inputs.json", "package/package.json", "evaluate/verdict.json", "forecast/forecast.parquet"],
)
def test_a_missing_product_is_named(project, name):
    (project / "products/shop" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"products/shop/{name} is missing: build first"):
        publish("shop", project)


def other_verdict(folder):
    write_json(read_json(folder / "evaluate/verdict.json") | {"promoted": False}, folder / "evaluate/verdict.json")


def other_forecast(folder):
    table = make_products(folder / "other").table
    write_parquet(table.assign(forecast=1.0), folder / "forecast/forecast.parquet")


def other_bento(folder):
    (folder / "package/bento/src/release/release.json").write_text("{}")


def other_package(folder):
    package = read_json(folder / "package/package.json")
    write_json(package | {"release": "0" * 12}, folder / "package/package.json")


def one_more_file(folder):
    (folder / "package/release/extra.py").write_text("")


@pytest.mark.parametrize("change", [other_verdict, other_forecast, other_bento, other_package, one_more_file])
def test_products_of_two_builds_are_refused_and_change_nothing(project, change):
    # given products, one of which is of another build
    before = full_state(project)
    folder = write_products(project, "key2", FOREST)
    change(folder)
    # then publish refuses, says what to do, and changes nothing
    with pytest.raises(
        ValueError,
        match="does not match package/package.json, so it comes from another build; build again: `make build",
    ):
        publish("shop", project)
    assert full_state(project) == before


def test_a_release_that_was_changed_is_not_unpickled(project):
    folder = write_products(project, "key2", FOREST)
    with open(folder / "package/release/model.joblib", "ab") as model:
        model.write(b" ")
    with pytest.raises(ValueError, match="model.joblib is missing or was changed"):
        publish("shop", project)


@pytest.mark.parametrize("content", ["{", "[1]", "{}"])
@pytest.mark.parametrize("name", ["inputs.json", "package/package.json", "package/release/release.json"])
def test_a_damaged_product_is_named_and_nothing_is_published(project, name, content):
    folder = write_products(project, "key2", FOREST)
    (folder / name).write_text(content)
    before = full_state(project)
    with pytest.raises(ValueError, match=f"{name} (is not|holds|was changed)"):
        publish("shop", project)
    assert full_state(project) == before


def test_a_broken_ledger_is_not_written_over(project):
    path = project / "state/shop/ledger.db"
    write_products(project, "key2", FOREST)
    harmed = path.read_bytes()[:100] + b"something else" * 1000
    path.write_bytes(harmed)
    with pytest.raises(ValueError, match="ledger.db is not a ledger"):
        publish("shop", project)
    assert path.read_bytes() == harmed


# --- what was harmed is healed


@pytest.mark.parametrize("harmed", ["current", "bentoml", "mlflow.db", "releases", "forecasts"])
def test_what_was_deleted_or_harmed_is_made_again(project, harmed):
    # given a state without one of its parts
    before, place = full_state(project), project / "state/shop" / harmed
    shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
    # when the same products are published
    publish("shop", project)
    # then it is there again, and the ledger did not grow
    assert full_state(project) == before


def test_a_newer_code_s_bento_of_the_same_release_replaces_the_older(project):
    folder = write_products(project, "key2", SEASONAL)
    (folder / "package/bento/src/service.py").write_text("# newer\n")
    package = read_json(folder / "package/package.json")
    package["bento"]["files"] = bento_hashes(folder / "package/bento")
    write_json(package, folder / "package/package.json")
    assert publish("shop", project).changed == ["bento"]
    stored = project / "state/shop/bentoml/bentos/brewcast" / package["release"] / "src/service.py"
    assert stored.read_text() == "# newer\n"


def test_a_clone_that_was_moved_keeps_its_models(first, project):
    # given a copy of the project in another folder
    where = (
        f"import sys, mlflow; mlflow.set_tracking_uri('sqlite:///state/shop/mlflow.db'); sys.path.insert(0, '{ROOT}')\n"
    )
    code = where + "print(mlflow.sklearn.load_model('models:/brewcast@champion').rate)"
    environment = isolated_environment(project) | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True)
    # then MLflow loads the champion from the copy, and no absolute path is in its database
    assert done.stdout.strip() == "rate_seasonal", done.stderr[-1000:]
    assert str(first).encode() not in (project / "state/shop/mlflow.db").read_bytes()


def test_publish_waits_for_the_lock(project):
    # given another process that holds the source's lock
    code = (
        f"import sys, time; sys.path.insert(0, '{ROOT}')\n"
        "from pathlib import Path; from brewcast.common.lock import project_lock\n"
        f"with project_lock(Path('{project}'), 'shop', 'somebody'): print('held', flush=True); time.sleep(2)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip() == "held"
    # when we publish, then we wait until the lock is free; a process that has the lock can take it again
    publish("shop", project)
    assert holder.poll() is not None or holder.wait(120) == 0
    with project_lock(project, "shop", "ourselves"):
        assert publish("shop", project).changed == []


def test_bentoml_finds_the_published_bento(tmp_path):
    # given a real Bento, published
    folder = write_products(tmp_path, "key1", SEASONAL)
    work = tmp_path / "work"
    work.mkdir()
    shutil.rmtree(folder / "package/bento")
    shutil.copytree(build_bento(ROOT, folder / "package/release", work), folder / "package/bento")
    package = read_json(folder / "package/package.json")
    package["bento"]["files"] = bento_hashes(folder / "package/bento")
    write_json(package, folder / "package/package.json")
    done = publish("shop", tmp_path)
    # then BentoML's store in the state contains it
    environment = isolated_environment(tmp_path / "state/shop/bentoml")
    command = [sys.executable, "-m", "bentoml", "get", "brewcast:latest", "-o", "json"]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["version"] == done.release
