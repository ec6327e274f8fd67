"Backup, restore and prune: a restored clone serves the same, damaged backups are refused, and prune keeps what is in use."

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import joblib
import pandas as pd
import pyarrow.parquet as pq
import pytest
from clients import post, run_service
from conftest import commands, project_environment

from brewcast.common.hashing import sha256
from brewcast.common.ledger import read_ledger, resolve_inputs
from brewcast.common.mlflow import log_model_run, mlflow_client
from brewcast.common.mlflow_models import logged_models, read_aliases
from brewcast.common.mlflow_tables import REGISTERED_MODEL
from brewcast.common.records import CodeSnapshot, RunRecord
from brewcast.model.recipes import Baseline
from brewcast.operations import backup
from brewcast.serving.release import check_release
from brewcast.workflow.runs import check_out_run, read_runs

SOURCE = "simulated"


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=a planner", "-c", "user.email=planner@example.com"]
    return subprocess.run(
        ["git", *who, *words], cwd=root, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
    ).stdout.strip()


def hashes_and_links(folder: Path) -> dict:
    "Hash of every file and target of every link, without locks and what loading or calling a model writes."
    others = {".lock", ".git", "registered_model_meta", "predictions", "__pycache__"}
    paths = [path for path in sorted(folder.rglob("*")) if not others & set(path.parts)]
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else sha256(path)
        for path in paths
        if path.is_symlink() or path.is_file()
    }


def add_record(root: Path, like: RunRecord, run: str, key: str, commit: str, ref: str | None) -> None:
    "One more run record, of a build with the key."
    changes = {
        "run": run,
        "build_key": key,
        "built_at": f"{run[:4]}-{run[4:6]}-{run[6:8]}T{run[9:11]}:00:00Z",
        "code": CodeSnapshot(commit=commit, ref=ref, dirty=bool(ref)),
    }
    path = root / f"state/{SOURCE}/runs/{run}.json"
    path.write_text(json.dumps(like.model_copy(update=changes).content()))


@pytest.fixture(scope="module")
def origin(project):
    "The small project, built and published, as a git repository with one run on an uncommitted tree."
    root = project.root
    git(root, "init", "-q")
    (root / ".git/info/exclude").write_text(".venv\nbackups/\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "as cloned")
    made = read_runs(root, SOURCE)[-1]
    key = made.build_key
    (root / f"state/{SOURCE}/runs/{made.run}.json").unlink()
    (root / "README.md").write_text("an experiment\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "a deleted branch")
    dirty = git(root, "rev-parse", "HEAD")
    git(root, "reset", "-q", "--hard", "HEAD~1")
    git(root, "update-ref", f"refs/brewcast/runs/20240101T080000Z-{'d' * 12}", dirty)
    for run, commit in [
        (f"20240101T080000Z-{'d' * 12}", dirty),
        (f"20240102T080000Z-{key}", git(root, "rev-parse", "HEAD")),
    ]:
        ref = f"refs/brewcast/runs/{run}" if commit == dirty else None
        add_record(root, made, run, run[17:], commit, ref)
    return root


@pytest.fixture(scope="module")
def backup_result(origin):
    "A backup of it."
    return backup.backup(origin, SOURCE)


def clone(origin: Path, place: Path) -> Path:
    "As `git clone` gives it: no state, no products, no data."
    git(origin, "clone", "-q", str(origin), str(place))
    (place / ".venv").symlink_to(origin / ".venv")
    (place / ".git/info/exclude").write_text(".venv\n")
    for name in ["requirements.lock", "settings.ini", "setup.py"]:  # older than .venv, which is shared
        shutil.copystat(origin / name, place / name)
    return place


@pytest.fixture(scope="module")
def restored(origin, backup_result, tmp_path_factory):
    "A clone at another path, with the backup restored while the first project was hidden."
    place = clone(origin, tmp_path_factory.mktemp("another place") / "a clone")
    hidden = origin.with_name("hidden")
    origin.rename(hidden)
    try:
        result = backup.restore(place, hidden / backup_result.file.relative_to(origin))
    finally:
        hidden.rename(origin)
    return SimpleNamespace(root=place, result=result)


def test_a_backup_has_a_manifest_and_is_reproducible(origin, backup_result, tmp_path):
    # given a backup, whose first member is the manifest
    with tarfile.open(backup_result.file) as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile(names[0]))
    assert names == ["manifest.json", *sorted(manifest["members"])]
    assert backup_result.file.parent == origin / "backups" and "read back" in backup_result.message
    # then it has the whole state and the data, with their hashes, and no products
    state = hashes_and_links(origin / "state" / SOURCE)
    result = {n.removeprefix(f"state/{SOURCE}/"): k.get("sha256") or k["link"] for n, k in manifest["members"].items()}
    assert {name: digest for name, digest in state.items() if result.get(name) != digest}.keys() <= {
        "mlflow.db",
        "ledger.db",
    }
    data = read_runs(origin, SOURCE)[-1].data
    assert data and {name: manifest["members"][name]["sha256"] for name in data} == data
    assert not any(name.startswith(("products/", ".git")) or ".lock" in name for name in names)
    assert backup_result.left_out == []
    # and a second backup differs only in its time
    again = backup.backup(origin, SOURCE, tmp_path).file
    other = backup.check_backup(again)
    bundle = {member for member in manifest["members"] if member.endswith(".bundle")}  # git does not pack reproducibly
    assert len(bundle) == 1
    for name in manifest["members"].keys() - bundle:
        assert other["members"][name] == manifest["members"][name]


def test_runs_on_an_mlflow_server_are_reported_as_left_out(origin, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:1")
    (tmp_path / "scratch").mkdir()
    files, left_out = backup.collect_files(origin, SOURCE, True, tmp_path / "scratch")
    assert left_out == ["MLflow's runs and registered models: they are on the server in MLFLOW_TRACKING_URI"]
    assert f"state/{SOURCE}/ledger.db" in files


def test_a_backup_replaces_only_another_backup(origin, backup_result, tmp_path):
    # given another file, a folder of the project, and a backup
    precious, older = tmp_path / "precious.txt", tmp_path / "older.tar.gz"
    precious.write_text("mine")
    shutil.copy2(backup_result.file, older)
    # then the first two are refused, and the backup is replaced
    with pytest.raises(FileExistsError, match="precious.txt exists and is not a backup, so it is not replaced: name"):
        backup.backup(origin, SOURCE, precious)
    with pytest.raises(
        ValueError, match="is in a folder that Brewcast backs up or rebuilds: name another path with TO="
    ):
        backup.backup(origin, SOURCE, origin / "state" / SOURCE / "b.tar.gz")
    assert precious.read_text() == "mine"
    assert backup.backup(origin, SOURCE, older, with_data=False).file == older


def test_data_that_is_left_out_is_reported(origin, tmp_path):
    result = backup.backup(origin, SOURCE, tmp_path / "small.tar.gz", with_data=False)
    assert result.left_out == ["data/simulated: left out as requested"] and "left out as requested" in result.message
    assert not any(name.startswith("data/") for name in backup.check_backup(result.file)["members"])
    place = clone(origin, tmp_path / "clone")
    assert "data/simulated is not in the backup" in backup.restore(place, result.file).message


def test_data_that_changed_since_the_build_is_reported(origin, tmp_path):
    root = tmp_path / "changed"
    shutil.copytree(origin, root, symlinks=True)
    with open(root / "data/simulated/globojava_plan.csv", "a") as file:
        file.write("\n")
    result = backup.backup(root, SOURCE, tmp_path / "changed.tar.gz")
    assert result.left_out == [
        "data/simulated/globojava_plan.csv: the version that the last build read; the file has changed since then"
    ]


def test_folders_linked_to_another_disk_are_in_the_backup(origin, tmp_path):
    # given links to data, artifacts and a whole state in another folder
    root, elsewhere = tmp_path / "linked", tmp_path / "disk"
    shutil.copytree(origin, root, symlinks=True)
    for name in ["data/simulated", f"state/{SOURCE}/mlartifacts", f"state/{SOURCE}"]:
        moved = elsewhere / name.replace("/", "_")
        elsewhere.mkdir(exist_ok=True)
        (root / name).rename(moved)
        (root / name).symlink_to(moved)
    # then the backup has the same members
    result = backup.backup(root, SOURCE, tmp_path / "linked.tar.gz")
    assert result.members.keys() == backup.backup(origin, SOURCE, tmp_path / "plain.tar.gz").members.keys()


def test_a_restored_clone_serves_the_same_forecasts_without_a_build(origin, restored, tmp_path):
    forecast = pq.read_table(origin / f"products/{SOURCE}/forecast/forecast.parquet").to_pandas()
    assert not (restored.root / "products").exists()
    command, environment = ["make", "serve", "PORT=PORT"], project_environment(restored.root)
    with run_service(command, tmp_path / "log", cwd=restored.root, env=environment) as service:
        status, answers = post(service.port, {"store_ids": forecast.store_id.tolist()})
    assert status == 200 and [answer["store_id"] for answer in answers] == forecast.store_id.tolist()
    for answer, row in zip(answers, forecast.itertuples(), strict=True):
        assert answer["model_version"] == read_ledger(origin / "state" / SOURCE)[-1].release
        for name in ["forecast", "lower", "upper"]:
            assert answer[name] == pytest.approx(getattr(row, name), rel=1e-6)


def test_a_restored_clone_has_the_same_state_champion_and_data(origin, restored):
    ours, theirs = hashes_and_links(origin / "state" / SOURCE), hashes_and_links(restored.root / "state" / SOURCE)
    for database in ("mlflow.db", "ledger.db"):
        del ours[database], theirs[database]
    assert read_ledger(origin / "state" / SOURCE) == read_ledger(restored.root / "state" / SOURCE)
    assert ours == theirs and hashes_and_links(origin / "data") == hashes_and_links(restored.root / "data")
    for key in ["another", read_ledger(origin / "state" / SOURCE)[-1].build_key]:
        assert resolve_inputs(SOURCE, restored.root, key) == resolve_inputs(SOURCE, origin, key)
    assert resolve_inputs(SOURCE, restored.root, "another").champion
    assert sorted(path.name for path in (restored.root / "state").iterdir()) == [SOURCE]  # no temporary folder is left
    assert not (restored.root / f"state/{SOURCE}/.lock.holder").exists()


def test_mlflow_finds_the_champion_at_the_new_path(origin, restored):
    import mlflow.sklearn

    assert read_aliases(SOURCE, restored.root) == read_aliases(SOURCE, origin) != {}
    release = restored.root / f"state/{SOURCE}/current"
    served_model = joblib.load(release / "model.joblib")
    rows = pd.read_parquet(release / "online.parquet")[list(served_model.feature_names_in_)]
    with mlflow_client(SOURCE, restored.root) as (client, _):
        model = mlflow.sklearn.load_model(f"models:/{REGISTERED_MODEL}@champion")
        run = client.get_model_version_by_alias(REGISTERED_MODEL, "champion").run_id
        folder = Path(client.download_artifacts(run, "")).resolve()
    logged = origin / f"state/{SOURCE}/mlartifacts/{run}/artifacts"
    assert hashes_and_links(folder) == hashes_and_links(logged) != {}
    pd.testing.assert_series_equal(pd.Series(model.predict(rows)), pd.Series(served_model.predict(rows)))


def test_a_restored_clone_has_the_code_of_every_run(origin, restored, tmp_path):
    runs = read_runs(restored.root, SOURCE)
    assert len(runs) == 2 and "code of 2 runs" in restored.result.message
    assert git(restored.root, "show", f"{runs[0].code.ref}:README.md") == "an experiment"
    for run in runs:  # everything that `verify` needs is available
        place = tmp_path / run.run
        assert [text for text in check_out_run(run, restored.root, place) if "lock" not in text] == []
    assert git(restored.root, "status", "--porcelain") == ""


def test_an_existing_state_is_moved_aside_only_on_request(origin, backup_result, tmp_path):
    # given a clone with its own state and data
    place = clone(origin, tmp_path / "clone")
    for name in [f"state/{SOURCE}/ledger.db", "data/simulated/globojava.csv"]:
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text("ours")
    before = hashes_and_links(place)
    # then the restore is refused, with the way out
    with pytest.raises(OSError, match="state/simulated exists.*--replace"):
        backup.restore(place, backup_result.file)
    assert hashes_and_links(place) == before
    # or the state is moved aside; data is never overwritten
    result = backup.restore(place, backup_result.file, replace=True)
    assert hashes_and_links(result.old_state) == {"ledger.db": before[f"state/{SOURCE}/ledger.db"]}
    assert (place / "data/simulated/globojava.csv").read_text() == "ours"
    assert (
        "data/simulated was left as it is: 4 files differ from the backup" in result.message
        and result.old_state.name in result.message
    )
    assert read_ledger(place / "state" / SOURCE) == read_ledger(origin / "state" / SOURCE)


def test_a_missing_repository_is_reported(origin, backup_result, tmp_path):
    place = clone(origin, tmp_path / "clone")
    shutil.rmtree(place / ".git")
    assert "the project is not a git repository" in backup.restore(place, backup_result.file).message
    result = backup.backup(place, SOURCE, tmp_path)
    assert "code: the project is not a git repository" in result.message


def rewritten(file: Path, place: Path, change) -> Path:
    "A backup in which `change` has replaced each member (TarInfo, bytes)."
    with tarfile.open(file) as old, tarfile.open(place, "w:gz") as new:
        for member in old:
            content = old.extractfile(member).read() if member.isreg() else None
            for info, data in change(member, content):
                info.size = len(data or b"")
                new.addfile(info, io.BytesIO(data or b""))
    return place


def member(name: str, **settings) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in settings.items():
        setattr(info, key, value)
    return info


LEDGER = f"state/{SOURCE}/ledger.db"
DAMAGED = {
    "a tampered byte": (lambda m, c: [(m, c.replace(b"forest", b"forget") if m.name == LEDGER else c)], "ledger.db: sha256"),
    "a missing member": (lambda m, c: [(m, c)] if m.name != LEDGER else [], "ledger.db: missing"),
    "an extra member": (lambda m, c: [(m, c), *([(member(f"{LEDGER}.more"), b"x")] if m.name == LEDGER else [])], "missing; .*more"),
    "an extra member at the end": (lambda m, c: [(m, c), *([(member("zz"), b"x")] if m.name.endswith(".txt") else [])], "zz"),
    "a path that leads out": (lambda m, c: [(member("../../evil") if m.name == LEDGER else m, c)], "ledger.db: missing; ../../evil"),
    "an absolute path": (lambda m, c: [(member("/tmp/evil") if m.name == LEDGER else m, c)], "ledger.db: missing; /tmp/evil"),
    "a link in place of a file": (
        lambda m, c: [(member(LEDGER, type=tarfile.SYMTYPE, linkname="/etc/passwd"), None) if m.name == LEDGER else (m, c)],
        "ledger.db: 0 bytes",
    ),
    "a hard link": (
        lambda m, c: [(member(LEDGER, type=tarfile.LNKTYPE, linkname="manifest.json"), None) if m.name == LEDGER else (m, c)],
        "ledger.db: 0 bytes",
    ),
    "another link": (
        lambda m, c: [(member(m.name, type=tarfile.SYMTYPE, linkname="../../..") if m.issym() else m, c)],
        "current: a link to '../../..'",
    ),
    "no manifest": (lambda m, c: [(m, c)] if m.name != "manifest.json" else [], "not a backup of Brewcast"),
    "a later format": (
        lambda m, c: [(m, c.replace(b'"format": 1', b'"format": 2') if m.name == "manifest.json" else c)],
        "manifest.json: this version of Brewcast cannot read it .format 2",
    ),
    "no time": (
        lambda m, c: [(m, c.replace(b'"made_at"', b'"made_on"') if m.name == "manifest.json" else c)],
        "manifest.json: this version of Brewcast cannot read it .without made_at",
    ),
    "an invalid size": (
        lambda m, c: [(m, re.sub(rb'"size": \d+', b'"size": -1', c, count=1) if m.name == "manifest.json" else c)],
        "manifest.json: this version of Brewcast cannot read it .*: neither a link nor a size",
    ),
    "more than any disk has": (
        lambda m, c: [(m, re.sub(rb'"size": \d+', b'"size": %d' % 10**18, c, count=1) if m.name == "manifest.json" else c)],
        "bad.tar.gz: needs 1,000,000,000,[0-9,.]+ MB, but the disk of .* free: free some space",
    ),
    "endless headers": (
        lambda m, c: [(member(m.name, pax_headers={"comment": "0" * 70_000_000}) if m.name == "manifest.json" else m, c)],
        "unpacks to more than the 64,000,000 bytes that its manifest states",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGED)
def test_a_changed_backup_is_refused_and_nothing_is_written(origin, backup_result, tmp_path, how):
    change, message = DAMAGED[how]
    refused(clone(origin, tmp_path / "clone"), rewritten(backup_result.file, tmp_path / "bad.tar.gz", change), message)


def refused(place: Path, file: Path, message: str) -> None:
    before = hashes_and_links(place.parent)
    with pytest.raises(ValueError, match=message):
        backup.restore(place, file)
    assert hashes_and_links(place.parent) == before and not (place / "state").exists()


def test_a_damaged_file_is_refused_and_nothing_is_written(origin, backup_result, tmp_path):
    place, whole, bad = clone(origin, tmp_path / "clone"), backup_result.file.read_bytes(), tmp_path / "bad.tar.gz"
    for share in [0.001, 0.3, 0.7, 0.999]:  # cut short, or one bit changed, in each part of the file
        at = int(len(whole) * share)
        bad.write_bytes(whole[:at])
        refused(place, bad, "bad.tar.gz")
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refused(place, bad, "bad.tar.gz")
    for foreign in [b"", b"not an archive", gzip.compress(b"not an archive")]:
        bad.write_bytes(foreign)
        refused(place, bad, "bad.tar.gz")
    bad.write_bytes(
        whole + gzip.compress(bytes(100_000_000))
    )  # a hundred thousand bytes after its end that unpack to zeros
    refused(place, bad, "bad.tar.gz: unpacks to more than the [0-9,]+ bytes that its manifest states")
    with pytest.raises(FileNotFoundError):
        backup.restore(place, tmp_path / "nowhere.tar.gz")


def test_an_unknown_source_is_named(origin, backup_result, tmp_path):
    def of_another(m, c):
        m.name, m.pax_headers = m.name.replace("state/simulated", "state/elsewhere"), {}
        return [(m, c.replace(b"state/simulated", b"state/elsewhere").replace(b'"source": "simulated"', b'"source": "elsewhere"') if m.name == "manifest.json" else c)]  # fmt: skip

    file = rewritten(backup_result.file, tmp_path / "other.tar.gz", of_another)
    refused(clone(origin, tmp_path / "clone"), file, "no source is called 'elsewhere'.*env.elsewhere.yaml")


@pytest.mark.parametrize("size", ["600k", "1500k"])  # too small for MLflow's database; for the archive
def test_a_full_disk_leaves_no_partial_backup(origin, tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount is refused here: {mounted.stderr.decode().strip()}")
    try:
        backup.write_archive({"members": {}}, {}, disk / "before.tar.gz")  # an older one
        older = (disk / "before.tar.gz").read_bytes()
        with pytest.raises(
            OSError, match="before.tar.gz was not written: .*full|before.tar.gz was not written: .*space"
        ):
            backup.backup(origin, SOURCE, disk / "before.tar.gz")
        assert [path.name for path in disk.iterdir()] == ["before.tar.gz"]
        assert (disk / "before.tar.gz").read_bytes() == older
    finally:
        subprocess.run(["umount", disk], check=True)


STOPPED = """
import os, signal, sys
from pathlib import Path
from brewcast.operations import backup
whole = backup.check_backup
def stop(file):
    whole(file)
    os.kill(os.getpid(), signal.{signal})
backup.check_backup = stop
signal.signal(signal.SIGINT, signal.default_int_handler)
backup.backup(Path('.'), 'simulated')
"""


@pytest.mark.parametrize("sent", ["SIGINT", "SIGKILL"])
def test_a_stopped_backup_leaves_no_partial_backup(origin, tmp_path, sent):
    root = tmp_path / "project"
    shutil.copytree(origin, root, symlinks=True, ignore=shutil.ignore_patterns("backups", ".git"))
    commands(root)(f'.venv/bin/python -c "{STOPPED.format(signal=sent)}"', fails=True)
    left = [path.name for path in (root / "backups").iterdir()]
    assert len(left) == (sent == "SIGKILL") and all(name.endswith(".tmp") for name in left)
    result = backup.backup(root, SOURCE)  # the next backup removes it
    assert list((root / "backups").iterdir()) == [result.file]


def test_a_backup_is_consistent_while_mlflow_writes(origin, tmp_path):
    # given a database in which every transaction writes to two tables
    root, stop, written = tmp_path / "project", threading.Event(), []
    shutil.copytree(origin, root, symlinks=True, ignore=shutil.ignore_patterns("backups"))
    database = sqlite3.connect(
        root / f"state/{SOURCE}/mlflow.db", check_same_thread=False, isolation_level=None, timeout=60
    )
    database.execute("CREATE TABLE debit (n INTEGER)")
    database.execute("CREATE TABLE credit (n INTEGER, padding BLOB)")

    def write():
        while not stop.is_set():
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO debit VALUES (1)")
            database.execute("INSERT INTO credit VALUES (1, randomblob(50000))")
            written.append(1)
            database.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    while not written:
        time.sleep(0.01)
    try:  # when a backup is made meanwhile
        n_before = len(written)
        file = backup.backup(root, SOURCE, tmp_path / "busy.tar.gz", with_data=False).file
        assert len(written) > n_before
    finally:
        stop.set()
        writer.join()
        database.close()
    # then the copy is complete and consistent
    with tarfile.open(file) as tar:
        (tmp_path / "mlflow.db").write_bytes(tar.extractfile(f"state/{SOURCE}/mlflow.db").read())
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        debit, credit = (copy.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ["debit", "credit"])
    assert 0 < debit == credit


REST = 3  # unused items of each kind, in the tests below


@pytest.fixture(scope="module")
def project_with_leftovers(origin, tmp_path_factory):
    "A project with unused candidates, releases, Bentos, forecasts, records and half-written files."
    root = tmp_path_factory.mktemp("grown") / "brewcast"
    shutil.copytree(origin, root, symlinks=True, ignore=shutil.ignore_patterns("backups"))
    state = root / "state" / SOURCE
    head, release = git(root, "rev-parse", "HEAD"), (state / "current").resolve()
    last_run = read_runs(root, SOURCE)[-1]
    for n in range(REST):
        run, name = f"2024020{n + 1}T080000Z-{n:012x}", f"{n + 1:012x}"
        git(root, "update-ref", f"refs/brewcast/runs/{run}", head)
        add_record(root, last_run, run, f"{n:012x}", head, f"refs/brewcast/runs/{run}")
        for kept_in in ["releases", "bentoml/bentos/brewcast"]:
            shutil.copytree(state / kept_in / release.name, state / kept_in / name)
            for file in (state / kept_in / name).iterdir():
                os.utime(file, (n, n))
        (state / f"forecasts/2024-0{n + 1}-28-{name}.parquet").write_bytes(b"")
        os.utime(state / f"forecasts/2024-0{n + 1}-28-{name}.parquet", (n, n))
        log_model_run(
            Baseline(), name, {"recipe": "seasonal"}, {"wape": 0.1}, {}, [release / "golden.json"], root, SOURCE
        )
    newest = read_ledger(state)[-1].build_key
    add_record(root, last_run, f"20240301T080000Z-{newest}", newest, head, None)  # the last build
    with mlflow_client(SOURCE, root) as (client, experiment):
        for n in range(REST):  # registered, as for a challenger
            (run,) = client.search_runs([experiment], f"tags.content_hash = '{n + 1:012x}'")
            tags = {"content_hash": f"{n + 1:012x}"}
            client.create_model_version(REGISTERED_MODEL, run.data.tags["model_uri"], run.info.run_id, tags=tags)
        trash = client.create_run(experiment, tags={"content_hash": "0" * 12})
        client.delete_run(trash.info.run_id)
        client.create_run(experiment, tags={"content_hash": "1" * 12})  # still logging
        client.create_run(experiment, tags={"who": "an analyst"})
        client.create_run(client.create_experiment("of an analyst"), tags={"content_hash": "2" * 12})
    for left in ["releases/.x.tmp/file", "mlartifacts/deleted/artifacts/file", "mlartifacts/models/m-deleted/file"]:
        (state / left).parent.mkdir(parents=True)
        (state / left).write_text("left")
    return root


def copied(root: Path, place: Path) -> Path:
    shutil.copytree(root, place, symlinks=True)
    return place


def counts(result: backup.PruneResult) -> dict[str, int]:
    kinds = [item.kind for item in result.items]
    return {kind: kinds.count(kind) for kind in kinds}


def names_and_sizes(result: backup.PruneResult) -> list[tuple[str, str, int]]:
    return [(item.kind, item.name, item.bytes) for item in result.items]


def still_works(root: Path, origin: Path) -> None:
    "Everything that the champion and the ledger entries need still works."
    import mlflow.sklearn

    state = root / "state" / SOURCE
    entry = read_ledger(state)[-1]
    assert check_release(state / "current").release == entry.release
    assert (state / "bentoml/bentos/brewcast" / entry.release / "bento.yaml").exists()
    assert resolve_inputs(SOURCE, root, "another") == resolve_inputs(SOURCE, origin, "another")
    assert read_aliases(SOURCE, root) == read_aliases(SOURCE, origin)
    with mlflow_client(SOURCE, root) as (client, _):
        assert mlflow.sklearn.load_model(f"models:/{REGISTERED_MODEL}@champion")
        assert client.list_artifacts(client.get_model_version_by_alias(REGISTERED_MODEL, "champion").run_id)
    runs = read_runs(root, SOURCE)
    (made,) = [run for run in runs if run.run == backup.run_of_entry(entry, runs)]
    missing = check_out_run(made, root, root.with_name("laid out"))
    assert [text for text in missing if "lock" not in text] == []


def test_a_dry_run_reports_the_items_and_changes_nothing(project_with_leftovers):
    before = hashes_and_links(project_with_leftovers / "state"), git(project_with_leftovers, "for-each-ref")
    result = backup.prune(project_with_leftovers, SOURCE, keep=1, dry_run=True)
    assert (hashes_and_links(project_with_leftovers / "state"), git(project_with_leftovers, "for-each-ref")) == before
    assert counts(result) == {"record": 4, "release": 2, "forecast": 2, "bento": 2, "model": 3, "leftover": 3}
    assert result.bytes == sum(item.bytes for item in result.items) > 1e6
    assert all(item.name in result.message for item in result.items) and "would remove 16 items" in result.message


def test_the_newest_unused_items_stay(project_with_leftovers, tmp_path):
    root = copied(project_with_leftovers, tmp_path / "project")
    result = backup.prune(root, SOURCE, keep=1)
    before = backup.prune(project_with_leftovers, SOURCE, keep=1, dry_run=True)
    assert names_and_sizes(result) == names_and_sizes(before)
    state, entry = root / "state" / SOURCE, read_ledger(root / "state" / SOURCE)[-1]
    both = {entry.release, *([entry.challenger.release] if entry.challenger else [])}
    assert {path.name for path in state.glob("releases/*")} == {*both, f"{REST:012x}"}
    assert {m.hash for m in logged_models(SOURCE, root)} >= {f"{REST:012x}", "1" * 12}
    assert backup.prune(root, SOURCE, keep=1).items == []  # nothing is left to remove
    still_works(root, project_with_leftovers)


def test_with_keep_0_everything_in_use_still_works(project_with_leftovers, tmp_path):
    root = copied(project_with_leftovers, tmp_path / "project")
    before, size = read_runs(root, SOURCE), backup._disk_bytes(root / "state" / SOURCE)
    result = backup.prune(root, SOURCE, keep=0)
    assert counts(result) == {"record": 5, "release": 3, "forecast": 3, "bento": 3, "model": 4, "leftover": 3}
    # the space is free, and the runs of other programs stay
    assert size - backup._disk_bytes(root / "state" / SOURCE) == result.bytes
    still_works(root, project_with_leftovers)
    assert backup.leftover_paths(root, SOURCE) == []
    with contextlib.closing(sqlite3.connect(root / f"state/{SOURCE}/mlflow.db")) as database:
        names = "SELECT t.key, t.value FROM tags t WHERE t.key IN ('who', 'content_hash')"
        tags = set(database.execute(names))
    assert {("who", "an analyst"), ("content_hash", "2" * 12), ("content_hash", "1" * 12)} <= tags
    assert not {value for _, value in tags} & {"0" * 12, *(f"{n + 1:012x}" for n in range(REST))}
    # and the refs of removed records are removed
    removed = {run.run for run in before} - {run.run for run in read_runs(root, SOURCE)}
    refs = git(root, "for-each-ref", "--format=%(refname)", "refs/brewcast")
    assert removed and not any(run in refs for run in removed)


def test_without_a_state_there_is_nothing_to_back_up_or_prune(origin, tmp_path):
    place = clone(origin, tmp_path / "clone")
    with pytest.raises(FileNotFoundError, match="state/simulated is empty.*make run"):
        backup.backup(place, SOURCE)
    assert backup.prune(place, SOURCE).items == []
    with pytest.raises(ValueError, match="keep is -1"):
        backup.prune(place, SOURCE, keep=-1)


def rows(root: Path) -> list:
    "The tables of MLflow's database, without times."
    with contextlib.closing(sqlite3.connect(root / f"state/{SOURCE}/mlflow.db")) as database:
        queries = [
            "run_uuid, lifecycle_stage FROM runs",
            "model_id FROM logged_models",
            "version, run_id FROM model_versions",
        ]
        queries += ["* FROM registered_model_aliases", "* FROM tags", "* FROM params", "* FROM model_version_tags"]
        return [sorted(database.execute(f"SELECT {query}")) for query in queries]


def end_state(root: Path) -> list:
    files = hashes_and_links(root / "state" / SOURCE)
    del files["mlflow.db"]
    return [files, rows(root), git(root, "for-each-ref", "refs/brewcast")]


def die_at(root: Path, step: int) -> bool:
    "Prune in a child process that is killed at one of its steps. Returns whether it was killed."
    child = os.fork()
    if child == 0:
        left = [step]

        def count(name, function):
            def counted(*arguments, **settings):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **settings)

            return counted

        from mlflow import MlflowClient
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        for owner, name in [
            (os, "unlink"), (os, "rmdir"), (os, "replace"), (backup, "run_git"), (backup, "remove_path"),
            (MlflowClient, "delete_model_version"),
            (SqlAlchemyStore, "_hard_delete_logged_model"), (SqlAlchemyStore, "_hard_delete_run"),
        ]:  # fmt: skip
            setattr(owner, name, count(name, getattr(owner, name)))
        backup.prune(root, SOURCE, keep=1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def kill_everywhere(project_with_leftovers: Path, place: Path, stride: int) -> int:
    "Kill `prune` at every `stride`-th step; the next prune must give the same end state."
    import mlflow  # noqa: F401  once, for every child

    def laid(name: str) -> Path:
        root = place / name
        root.mkdir()
        for kept_in in ["state", ".git"]:
            shutil.copytree(project_with_leftovers / kept_in, root / kept_in, symlinks=True, copy_function=link)
        for file in ["env.yaml", "pipeline.yaml", "settings.ini"]:
            shutil.copy(project_with_leftovers / file, root / file)
        return root

    def link(old: str, new: str) -> None:
        (shutil.copy2 if old.endswith(".db") else os.link)(old, new)

    whole = laid("whole")
    backup.prune(whole, SOURCE, keep=1)
    expected, step = end_state(whole), 1
    while die_at(root := laid(f"killed at {step}"), step):  # a new path each time: MLflow keeps databases open
        backup.prune(root, SOURCE, keep=1)
        assert end_state(root) == expected, step
        shutil.rmtree(root)
        step += stride
    return step


def test_a_prune_killed_at_any_step_is_completed_by_the_next(project_with_leftovers, tmp_path):
    stride = 1 if os.environ.get("BREWCAST_FAULTS") == "full" else 8
    done = subprocess.run(
        [sys.executable, __file__, project_with_leftovers, tmp_path, str(stride)],
        env=project_environment(project_with_leftovers)
        | {"PYTHONPATH": f"{project_with_leftovers}:{Path(__file__).parent.parent}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[-1]) > 30  # steps


if __name__ == "__main__":
    print(kill_everywhere(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
