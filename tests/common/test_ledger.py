"The ledger: the state that a build may read; a damaged ledger is an error."

import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from conftest import ROOT
from releases import FOREST, SEASONAL, ledger_entry, ledger_release

from brewcast.common.ledger import (
    archived_forecast_path,
    entries_before_build,
    read_ledger,
    resolve_inputs,
    state_files,
    state_folder,
    store_month_versions_path,
)
from brewcast.common.records import LedgerEntry, Recipe, ServingModel
from brewcast.registry.ledger_writer import append_entry


def entry(release: str, cutoff: str, build_key: str, recipe: Recipe = SEASONAL, **more) -> LedgerEntry:
    "An entry of a build."
    return ledger_entry(release, recipe, cutoff, build_key=build_key, **more)


def serve(state, entry: LedgerEntry) -> LedgerEntry:
    "Write an entry and its archived forecast."
    path = state / archived_forecast_path(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return append_entry(state, entry)


@pytest.fixture
def project(tmp_path):
    "A project with one source and one release in production."
    serve(state_folder("shop", tmp_path), entry("r1", "2024-04-30", "k1"))
    return tmp_path


def test_the_last_archived_forecast_of_each_cutoff_is_listed(project):
    # given four entries, two of one cutoff
    state = project / "state/shop"
    first = read_ledger(state)[0]
    for release, cutoff, key in [("r2", "2024-05-31", "k2"), ("r3", "2024-05-31", "k3"), ("r4", "2024-06-30", "k4")]:
        changed = {"release": release, "cutoff": cutoff, "build_key": key}
        append_entry(state, first.model_copy(update=changed))
        (state / f"forecasts/{cutoff}-{release}.parquet").touch()
    # then a build of a later month gets one of each cutoff, relative to the root
    listed = resolve_inputs("shop", project, "k5").archived_forecasts
    names = [f"2024-04-30-{first.release}", "2024-05-31-r3", "2024-06-30-r4"]
    assert listed == [f"state/shop/forecasts/{name}.parquet" for name in names]
    # and the build of the last entry does not get its own forecast
    assert resolve_inputs("shop", project, "k4").archived_forecasts == listed[:2]
    # and a missing forecast is an error, not a shorter history
    (state / "forecasts/2024-05-31-r3.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="2024-05-31-r3.parquet is missing"):
        resolve_inputs("shop", project, "k5")


def test_a_build_reads_earlier_decisions_and_ignores_its_own_entries(project):
    # given a promotion of a forest by hand, and then a build that published twice, with a challenger
    state = state_folder("shop", project)
    serve(state, entry("r2", "2024-04-30", "k1", FOREST, action="promote", barred=[SEASONAL]))
    challenger = ledger_release("r0", SEASONAL, "2024-05-31")
    for release in ("r3", "r4"):
        serve(state, entry(release, "2024-05-31", "k2", FOREST, challenger=challenger))
    (state / "known").mkdir()
    for each in read_ledger(state):
        (state / store_month_versions_path(each)).touch()
    # then the same build, repeated, sees the promotion by hand and what was published before
    own = resolve_inputs("shop", project, "k2")
    champion = ServingModel(recipe=FOREST, release="r2", train_through="2024-04-30", cutoff="2024-04-30")
    assert own.champion == champion
    assert (own.by_hand, own.barred, own.challenger) == ("2024-04-30", [SEASONAL], None)
    assert own.known == "state/shop/known/2024-04-30-r1.parquet"
    assert own.archived_forecasts == ["state/shop/forecasts/2024-04-30-r2.parquet"]
    # and the next build sees the entries of this build
    later = resolve_inputs("shop", project, "k3")
    assert (later.champion.release, later.challenger, later.by_hand) == ("r4", SEASONAL, None)
    assert state_files(later) == [
        "state/shop/forecasts/2024-04-30-r2.parquet",
        "state/shop/forecasts/2024-05-31-r4.parquet",
        "state/shop/known/2024-05-31-r4.parquet",
    ]


def test_a_split_after_a_build_does_not_change_what_the_build_reads(project):
    # given the entry of a build, and then only a new share for the challenger
    state = state_folder("shop", project)
    serve(state, entry("r2", "2024-05-31", "k2"))
    serve(state, entry("r2", "2024-05-31", "somebody", action="split", share=10))
    ledger = read_ledger(state)
    # then the build still sees only the entries before its own; after a promotion it sees all
    assert entries_before_build(ledger, "k2") == ledger[:1]
    serve(state, entry("r3", "2024-05-31", "somebody", FOREST, action="promote"))
    assert entries_before_build(read_ledger(state), "k2") == read_ledger(state)


@pytest.mark.parametrize("left", [3000, 100, 1])
def test_a_truncated_ledger_is_an_error_and_stays_as_it_is(project, left):
    path = state_folder("shop", project) / "ledger.db"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match="ledger.db is not a ledger .*restore it from a backup: `make restore`"):
        read_ledger(path.parent)
    with pytest.raises(ValueError, match="is not a ledger"):
        resolve_inputs("shop", project, "k2")
    assert path.stat().st_size == left


@pytest.mark.parametrize(
    "content, problem", {'{"release": ': "Invalid JSON", "[1]": "Input should be an object", "{}": "action: "}.items()
)
def test_an_entry_that_does_not_fit_is_an_error_on_one_line(project, content, problem):
    state = state_folder("shop", project)
    with sqlite3.connect(state / "ledger.db") as ledger:
        ledger.execute("INSERT INTO entry VALUES (2, ?)", [content])
    with pytest.raises(ValueError, match="ledger.db is not a ledger .entry 2: .*; restore it from a backup") as error:
        read_ledger(state)
    assert problem in str(error.value) and "\n" not in str(error.value)


DIE = """
import os, signal, sqlite3, sys
ledger = sqlite3.connect(sys.argv[1], isolation_level=None)
ledger.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the end
ledger.execute("BEGIN IMMEDIATE")
for n in range(2, 200):
    ledger.execute("INSERT INTO entry VALUES (?, ?)", [n, '{"text": "' + "x" * 5000 + '"}'])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_reading_rolls_back_a_transaction_that_a_power_cut_interrupted(project):
    # given a process that was killed in a transaction, when a part of it was in the file already
    state = state_folder("shop", project)
    before, size = read_ledger(state), (state / "ledger.db").stat().st_size
    died = subprocess.run([sys.executable, "-c", DIE, state / "ledger.db"], cwd=ROOT)
    assert died.returncode == -signal.SIGKILL
    assert (state / "ledger.db").stat().st_size > size and (state / "ledger.db-journal").stat().st_size
    # when the ledger is read, then it is as it was before
    assert read_ledger(state) == before
    assert not os.path.exists(state / "ledger.db-journal")
