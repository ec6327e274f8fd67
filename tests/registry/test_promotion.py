"Promote, split, roll back: in a running service under load, with damaged releases, and killed at any moment."

import http.client
import json
import os
import pty
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from clients import run_service
from releases import FOREST, ROOT, SEASONAL, write_products, write_settings
from waits import wait_until

from brewcast.common.ledger import read_ledger
from brewcast.common.mlflow_models import read_aliases
from brewcast.common.records import LedgerEntry, LedgerRelease, Recipe
from brewcast.delivery.package import http_request, isolated_environment
from brewcast.registry import promotion
from brewcast.registry.ledger_writer import append_entry
from brewcast.registry.publish import publish
from brewcast.serving.prediction_log import read_predictions
from brewcast.serving.release import Release
from brewcast.serving.traffic import traffic_bucket

STORES = [f"STORE{101 + i}" for i in range(12)]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    "A project in which the seasonal baseline serves, a forest is its shadow, and `last_month` served before."
    root = tmp_path_factory.mktemp("shop")
    write_products(root, "key1", Recipe(name="last_month", params={}))
    publish("shop", root)
    write_products(root, "key2", SEASONAL, "refuse", challenger=FOREST)
    publish("shop", root)
    write_settings(root)
    return root


@pytest.fixture
def project(published, tmp_path):
    shutil.copytree(published, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def agree(root) -> LedgerEntry:
    "The ledger's last entry, with which MLflow's aliases agree."
    entry = read_ledger(root / "state/shop")[-1]
    expected = {"champion": entry.model_hash[:12]}
    if entry.challenger:
        expected["challenger"] = entry.challenger.model_hash[:12]
    assert read_aliases("shop", root) == expected
    return entry


# --- in a running service


@pytest.fixture
def running(project, tmp_path):
    "The service as `make serve` starts it, and clients that send requests all the time and keep every answer."
    environment = isolated_environment(tmp_path / "bentoml") | {"PYTHONPATH": str(ROOT)}
    environment |= {"BREWCAST_STATE": str(project / "state/shop")}
    command = [sys.executable, "-m", "bentoml", "serve", "brewcast.serving.bento:Brewcast", "--port", "PORT"]
    answers, stop = [], threading.Event()

    def client(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = json.dumps({"store_ids": STORES})
        while not stop.is_set():
            try:
                connection.request("POST", "/forecast", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answers.append((answer.status, json.loads(answer.read())))
            except OSError as error:
                answers.append((0, repr(error)))
                connection.close()

    with run_service(command, tmp_path / "serve.log", cwd=ROOT, env=environment) as service:
        clients = [threading.Thread(target=client, args=[service.port]) for _ in range(4)]
        for thread in clients:
            thread.start()
        try:
            yield SimpleNamespace(root=project, port=service.port, answers=answers, log=service.log, clients=clients)
        finally:
            stop.set()
            for thread in clients:
                thread.join(30)


def brewcast(root, *command, fails=False):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BREWCAST_ROOT": str(root)}
    line = [sys.executable, "-m", "brewcast.cli", *command, "--source", "shop"]
    done = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stdout + done.stderr


def until_answered_by(running, versions):
    "Wait until an answer has these release ids, store by store."
    n_before = len(running.answers)

    def answered():
        new = [answer for status, answer in running.answers[n_before:] if status == 200]
        return new and [row["model_version"] for row in new[-1]] == versions

    wait_until(answered, f"answered by {versions}", patience=30, log=running.log)


def test_split_promote_and_rollback_take_effect_at_once_without_a_failed_request(running):
    # given a champion and its shadow under load
    first, entry = read_ledger(running.root / "state/shop")
    champion, challenger, before = entry.release, entry.challenger.release, first.release
    until_answered_by(running, [champion] * 12)
    # when the challenger gets a share of the stores, then it answers for these and the champion for the rest
    assert "answers 40% of the stores" in brewcast(running.root, "split", "40")
    shared = [challenger if traffic_bucket(store) < 40 else champion for store in STORES]
    assert 0 < shared.count(challenger) < 12
    until_answered_by(running, shared)
    # when it is promoted, then it answers for all stores
    brewcast(running.root, "promote", "--yes", "--reason", "requested by the planners")
    until_answered_by(running, [challenger] * 12)
    # when there are two rollbacks, then the previous release serves each time, and each recipe rolled back is barred
    brewcast(running.root, "rollback")
    until_answered_by(running, [champion] * 12)
    assert "barred until" in brewcast(running.root, "rollback")
    until_answered_by(running, [before] * 12)
    assert "nothing to roll back to" in brewcast(running.root, "rollback", fails=True)
    # then no request failed, and every answer is entirely from the release that it names
    releases = {name: Release(running.root / "state/shop/releases" / name) for name in (champion, challenger, before)}
    assert Counter(status for status, _ in running.answers).keys() == {200}
    for _, answer in running.answers:
        assert [row["store_id"] for row in answer] == STORES
        for row in answer:
            release = releases[row["model_version"]]
            assert row == release.answer(row["store_id"], release.store_forecasts[release.position[row["store_id"]]])
    # and the prediction log has the answers, and the shadow's forecasts beside the champion's
    logged = len([row for _, answer in list(running.answers) for row in answer])
    table = read_predictions(running.root / "state/shop/predictions")
    assert set(table.role) == {"champion", "challenger", "shadow"}
    assert logged * 0.5 < (table.role != "shadow").sum()
    shadows = table[(table.role == "shadow") & (table.version == challenger)]
    assert len(shadows) and set(shadows.store_id) <= set(STORES)
    entry = agree(running.root)
    assert [recipe.name for recipe in entry.barred] == ["forest", "seasonal"]


def test_a_damaged_release_is_not_loaded_and_the_old_one_keeps_serving(running):
    # given a damaged file in the release that served before
    first, entry = read_ledger(running.root / "state/shop")
    with open(running.root / "state/shop/releases" / first.release / "rows.npz", "ab") as rows:
        rows.write(b" ")
    # when a rollback to it is requested, then the command refuses and writes nothing
    assert "rows.npz is missing or was changed" in brewcast(running.root, "rollback", fails=True)
    assert read_ledger(running.root / "state/shop")[-1] == entry == agree(running.root)
    # and when the entry is written anyway, then the service keeps the old release and logs it
    back = {name: getattr(first, name) for name in LedgerRelease.model_fields}
    harmed = entry.model_copy(update=back | {"at": None, "by": None, "challenger": None})
    append_entry(running.root / "state/shop", harmed)
    refused = lambda: b"brewcast_release_refused_total 1.0" in http_request(running.port, "GET", "/metrics")[1]  # noqa: E731
    wait_until(refused, "refused", patience=30, log=running.log)
    assert "a release does not serve" in running.log.read_text()
    until_answered_by(running, [entry.release] * 12)
    # and a rollback repairs it, without a restart
    brewcast(running.root, "rollback")
    until_answered_by(running, [entry.release] * 12)
    assert Counter(status for status, _ in running.answers).keys() == {200}


def test_the_service_follows_a_ledger_again_after_a_temporary_damage(running):
    # given a running service, and a ledger that a non-atomic copy is overwriting
    ledger, entry = running.root / "state/shop/ledger.db", read_ledger(running.root / "state/shop")[-1]
    good = ledger.read_bytes()
    ledger.write_bytes(os.urandom(5000))
    wait_until(lambda: "the ledger cannot be read" in running.log.read_text(), "logged", patience=30)
    until_answered_by(running, [entry.release] * 12)  # it keeps serving
    # when the ledger is complete again, then the next command takes effect
    ledger.write_bytes(good)
    brewcast(running.root, "promote", "--yes")
    until_answered_by(running, [entry.challenger.release] * 12)
    assert Counter(status for status, _ in running.answers).keys() == {200}


def test_a_rollback_to_a_folder_with_another_releases_files_is_refused(project):
    # given the folder of the previous release with the files of the current one
    state = project / "state/shop"
    first, entry = read_ledger(state)
    shutil.rmtree(state / "releases" / first.release)
    shutil.copytree(state / "releases" / entry.release, state / "releases" / first.release)
    # when a rollback is requested, then it is refused, and nothing is written
    with pytest.raises(ValueError, match=f"holds release {entry.release}, not {first.release}"):
        promotion.rollback("shop", project)
    assert read_ledger(state) == [first, entry]


def test_a_rollback_does_not_return_to_a_release_that_was_rolled_back(project):
    # given a release that served, was replaced by hand, served again after a build, and was rolled back
    brewcast(project, "promote", "--yes")
    promoted, old = agree(project).release, read_ledger(project / "state/shop")[1].release
    write_products(project, "key3", SEASONAL, "refuse")
    publish("shop", project)
    assert agree(project).release == old
    brewcast(project, "rollback", "--reason", "bad orders")
    assert agree(project).release == promoted
    brewcast(project, "lift")
    # then the next rollback returns to an older release
    brewcast(project, "rollback")
    assert agree(project).release == read_ledger(project / "state/shop")[0].release


# --- the ledger


def test_history_has_author_time_and_action_and_what_served_at_a_moment(project):
    brewcast(project, "split", "10")
    brewcast(project, "promote", "--yes", "--reason", "requested by a planner")
    output = brewcast(project, "history")
    entries = json.loads(brewcast(project, "history", "--json"))
    assert [entry["action"] for entry in entries] == ["promote", "split", "publish", "publish"]
    assert all(entry["by"] and entry["at"].endswith("+00:00") for entry in entries)
    assert (
        entries[0]["from"] == entries[1]["release"]
        and "promoted by hand, requested by a planner: not replayed" in output
    )
    assert output.count("it is no better") == 1  # the verdict of the build is not the reason of the promotion
    day = entries[0]["at"][:10]
    (then,) = json.loads(brewcast(project, "history", day, "--json"))
    assert then == entries[0]
    assert "nothing was in production" in brewcast(project, "history", "2020-01-01", fails=True)
    agree(project)


def run_at_terminal(root, *typed) -> tuple[int, str]:
    "`brewcast promote` at a terminal with these typed lines. Returns its exit status and output."
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "brewcast.cli", "promote", "--source", "shop"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BREWCAST_ROOT": str(root)}
    os.write(ours, "".join(f"{text}\n" for text in typed).encode())
    done = subprocess.run(line, cwd=root, env=environment, stdin=theirs, capture_output=True, text=True, timeout=120)
    os.close(theirs), os.close(ours)
    return done.returncode, done.stdout + done.stderr


def test_promote_shows_the_evidence_and_asks_before_it_changes_anything(project):
    before = read_ledger(project / "state/shop")
    # given a script without a terminal and without --yes
    output = brewcast(project, "promote", fails=True)
    # then the output has the result of the gate, that nothing was changed, and the way out
    assert "gate       the challenger was not promoted (refuse): it is no better" in output
    assert (
        "there is no terminal to ask for a confirmation, so nothing was changed" in output
        and "`brewcast promote --yes`" in output
    )
    # given a terminal into which the next command was pasted: that is not a yes
    status, output = run_at_terminal(project, "brewcast rollback")
    assert (
        status == 1 and "promote the challenger? [y/N]" in output and "not promoted: production is unchanged" in output
    )
    assert read_ledger(project / "state/shop") == before
    # when the user confirms, then the challenger serves
    status, output = run_at_terminal(project, "y")
    assert status == 0 and f"{before[-1].challenger.release} serves" in output
    assert agree(project).release == before[-1].challenger.release


def test_an_invalid_share_and_a_barred_challenger_are_refused(project):
    assert "share is 100; it must be from 0" in brewcast(project, "split", "100", fails=True)
    assert "share is -1; it must be from 0" in brewcast(project, "split", "-1", fails=True)
    brewcast(project, "promote", "--yes")
    brewcast(project, "rollback")
    assert "there is no challenger" in brewcast(project, "promote", "--yes", fails=True)
    assert "no longer barred: forest" in brewcast(project, "lift")
    assert "no recipe is barred" in brewcast(project, "lift", fails=True)


def promote(root) -> promotion.ServingChange:
    return promotion.promote("shop", root, challenger=read_ledger(root / "state/shop")[-1].challenger.release)


def die_before(root, statement: int, action: str) -> int:
    "Change what serves in a forked process that dies before its n-th SQL statement. Returns the exit status."
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connect, left = sqlite3.connect, [statement]

    def count(_):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(place, *arguments, **named):
        connection = connect(place, *arguments, **named)
        if str(place).endswith("ledger.db") and "mode=rw" not in str(place):
            connection.set_trace_callback(count)
        return connection

    sqlite3.connect = watched
    try:
        promote(root) if action == "promote" else promotion.rollback("shop", root)
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_killed_before_any_statement_ledger_and_mlflow_agree(project, tmp_path, action):
    before, at, seen = agree(project), 0, []
    while True:
        root = tmp_path / f"at {at}"
        shutil.copytree(project, root, symlinks=True)
        status = die_before(root, at, action)
        entry = agree(root)
        seen.append(entry.n > before.n)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        at += 1
    # then the change is visible only after the last statement, and complete
    assert len(seen) > 6 and not any(seen[:-1]) and seen[-1]


def test_killed_at_any_moment_ledger_and_mlflow_agree(project, tmp_path):
    "The moments are close together around the commit, which SQLite makes of several writes to both files."
    shutil.copytree(project, tmp_path / "measured", symlinks=True)
    start = time.perf_counter()
    promote(tmp_path / "measured")
    took, generator, seen = time.perf_counter() - start, random.Random(7), Counter()
    for i in range(40):
        root = tmp_path / f"kill {i}"
        shutil.copytree(project, root, symlinks=True)
        child = os.fork()
        if not child:
            try:
                promote(root)
            finally:
                os._exit(0)
        time.sleep(took * generator.uniform(0.3, 1.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen[agree(root).action] += 1  # reading repairs a half-written transaction: SQLite rolls back a hot journal
        promotion.rollback("shop", root)  # and the ledger can still be written
        agree(root)
        shutil.rmtree(root)
    assert sum(seen.values()) == 40
