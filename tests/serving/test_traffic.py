"Which release answers which store, and how a service follows the ledger. A release that fails never serves."

import json
import shutil
import sqlite3

import pytest
from releases import FOREST, SEASONAL, add_release, ledger_entry, ledger_release
from waits import wait_until

from brewcast.common.records import LedgerEntry, Recipe
from brewcast.registry.ledger_writer import append_entry
from brewcast.serving.release import Release
from brewcast.serving.traffic import MAX_LOADED_RELEASES, Follower, ServingState


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    "A state without a ledger, with four releases: a forest, two baselines, and one with fewer stores."
    state = tmp_path_factory.mktemp("state")
    names = {"forest": add_release(state, FOREST), "seasonal": add_release(state, SEASONAL)}
    names["last_month"] = add_release(state, Recipe(name="last_month", params={}))
    names["few"] = add_release(state, SEASONAL, stores=5)
    return state, names


@pytest.fixture
def shop(releases, tmp_path):
    "A copy of that state: its folder, and the names of its releases."
    state, names = releases
    return shutil.copytree(state, tmp_path / "shop"), names


def load(releases, name):
    state, names = releases
    return Release(state / "releases" / names[name])


# --- shares


def test_each_store_is_answered_by_its_role_and_the_shadow_is_only_logged(releases):
    champion, challenger = load(releases, "seasonal"), load(releases, "forest")
    serving = ServingState(champion, challenger, 50)
    answers = json.loads(serving.all_answers)
    assert [answer["store_id"] for answer in answers] == champion.ids
    for answer in answers:
        store, role = answer["store_id"], serving.roles[answer["store_id"]]
        mine = champion if role == "champion" else challenger
        assert (
            answer
            == mine.answer(store, mine.store_forecasts[mine.position[store]])
            == json.loads(serving.answers[store])
        )
        # the first line is the answer's; for the champion, the second line is the challenger's forecast as its shadow
        lines = [json.loads(line + b"}") for line in serving.log_lines[store]]
        assert [line["role"] for line in lines] == ([role, "shadow"] if role == "champion" else [role])
        assert lines[0]["forecast"] == answer["forecast"]
        assert lines[-1]["version"] == challenger.name
        assert lines[-1]["forecast"] == challenger.store_forecasts[challenger.position[store]][0]
    assert {"champion", "challenger"} == set(serving.roles.values())


def test_a_store_unknown_to_the_challenger_is_answered_by_the_champion_without_a_shadow(releases):
    champion, challenger = load(releases, "forest"), load(releases, "few")
    serving = ServingState(champion, challenger, 100)
    assert {store for store, role in serving.roles.items() if role == "champion"} == set(champion.ids[5:])
    assert all(len(serving.log_lines[store]) == 1 for store in champion.ids)


# --- following the ledger


def entry(names, champion: str, challenger: str | None = None, share: float = 0) -> LedgerEntry:
    "An entry of the ledger."
    shadow = ledger_release(names[challenger]) if challenger else None
    return ledger_entry(names[champion], challenger=shadow, share=share)


def test_before_the_first_publication_nothing_serves_and_the_problem_says_why(shop):
    state, names = shop
    follower = Follower(state)
    follower.poll()
    assert follower.serving is None and "ledger.db is missing: nothing is published yet" in follower.problem
    # when a release is published, then it serves without a restart
    append_entry(state, entry(names, "seasonal"))
    follower.poll()
    assert follower.serving.champion.name == names["seasonal"] and follower.problem is None


def test_every_entry_is_followed_and_reported_once(shop):
    # given a follower that runs
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    changes = []
    follower = Follower(state, poll_seconds=0.01, on_change=lambda serving: changes.append(serving))
    follower.start()
    wait_until(lambda: follower.serving, "serving", patience=60)
    # when a challenger is added, gets a share and is promoted
    for n, next_entry in enumerate(
        [entry(names, "seasonal", "forest"), entry(names, "seasonal", "forest", 30), entry(names, "forest")], 2
    ):
        append_entry(state, next_entry)
        wait_until(lambda n=n: follower.serving.entry == n, f"at entry {n}", patience=60)
    follower.close()
    follower.join(60)
    # then each change was reported once, with its share
    assert not follower.is_alive() and [serving.entry for serving in changes] == [1, 2, 3, 4]
    assert [serving.share for serving in changes] == [0, 0, 30, 0]
    assert [serving.champion.name for serving in changes] == [names["seasonal"]] * 3 + [names["forest"]]


def test_a_damaged_release_does_not_serve_until_it_is_repaired(shop):
    # given a follower, and an entry whose release has one more byte in a file
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    refused = []
    follower = Follower(state, retry_seconds=0, on_refused=lambda: refused.append(1))
    follower.poll()
    rows = state / "releases" / names["forest"] / "rows.npz"
    whole = rows.read_bytes()
    rows.write_bytes(whole + b" ")
    append_entry(state, entry(names, "forest"))
    # when it polls twice, then the old release serves, and the problem is reported once
    follower.poll(), follower.poll()
    assert follower.serving.champion.name == names["seasonal"] and len(refused) == 1
    assert "rows.npz is missing or was changed" in follower.problem
    # when the file is repaired, then the release serves
    rows.write_bytes(whole)
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.problem is None


@pytest.mark.parametrize("how", ["all files replaced", "files copied over", "some files copied over"])
def test_a_folder_with_the_files_of_another_release_does_not_serve(shop, how):
    # given a folder with the valid files of another release, for example after a restore into the wrong folder
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    refused = []
    follower = Follower(state, retry_seconds=0, on_refused=lambda: refused.append(1))
    follower.poll()
    folder, other = (state / "releases" / names[name] for name in ("forest", "last_month"))
    own = shutil.copytree(folder, state / "own")
    if how == "all files replaced":
        shutil.rmtree(folder)
    files = [path.name for path in other.iterdir() if how != "some files copied over" or path.suffix == ".json"]
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(other / file, folder / file)
    # when the ledger names it, then the old release serves, and the problem is reported once
    append_entry(state, entry(names, "forest"))
    follower.poll(), follower.poll()
    assert follower.serving.champion.name == names["seasonal"] and len(refused) == 1
    assert f"holds release {names['last_month']}, not {names['forest']}" in follower.problem
    # when its own files are back, then it serves
    shutil.copytree(own, folder, dirs_exist_ok=True)
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.problem is None


def test_an_entry_that_is_not_valid_is_reported_with_its_fields_and_the_old_release_serves(shop):
    # given a follower, and an entry that another program wrote, without a recipe
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    refused = []
    follower = Follower(state, retry_seconds=0, on_refused=lambda: refused.append(1))
    follower.poll()
    incomplete = {name: value for name, value in entry(names, "forest").content().items() if name != "recipe"}
    with sqlite3.connect(state / "ledger.db") as ledger:
        ledger.execute("INSERT INTO entry VALUES (2, ?)", [json.dumps(incomplete)])
    # when it polls twice, then the old release serves, and the problem is reported once
    follower.poll(), follower.poll()
    assert follower.serving.champion.name == names["seasonal"] and len(refused) == 1
    assert "ledger.db is not a ledger (entry " in follower.problem and "recipe: Field required" in follower.problem
    # when a valid entry follows, then its release serves
    append_entry(state, entry(names, "forest"))
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.problem is None


def test_without_a_damaged_challenger_the_champion_answers_every_store(shop):
    state, names = shop
    shutil.rmtree(state / "releases" / names["forest"])
    append_entry(state, entry(names, "seasonal", "forest", 60))
    follower = Follower(state, retry_seconds=0)
    follower.poll()
    serving = follower.serving
    assert serving.challenger is None and serving.share == 0 and set(serving.roles.values()) == {"champion"}
    assert "release.json is missing" in follower.problem


def test_a_ledger_restored_from_a_backup_is_followed(shop, tmp_path):
    # given a ledger that is followed, and another one, which is moved into its place
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    follower = Follower(state)
    follower.poll()
    append_entry(tmp_path / "backup", entry(names, "last_month"))
    append_entry(tmp_path / "backup", entry(names, "forest"))
    (tmp_path / "backup" / "ledger.db").rename(state / "ledger.db")
    # then its last entry serves
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.serving.entry == 2


def test_another_ledger_with_as_many_entries_is_followed(shop, tmp_path):
    # given a ledger of one entry that is followed, and another one of one entry, which is moved into its place
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    follower = Follower(state)
    follower.poll()
    append_entry(tmp_path / "backup", entry(names, "forest"))
    (tmp_path / "backup" / "ledger.db").rename(state / "ledger.db")
    # then its last entry serves
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.serving.entry == 1


def test_the_oldest_release_is_removed_from_memory(shop):
    # given a ledger that names more releases than fit into memory
    state, names = shop
    names = names | {"more": add_release(state, FOREST, stores=6)}
    follower = Follower(state)
    for name in names:
        append_entry(state, entry(names, name))
        follower.poll()
        assert follower.serving.champion.name == names[name]
    # then the oldest release is removed, and it is loaded again when an entry names it
    assert len(names) == MAX_LOADED_RELEASES + 1 and list(follower.switch.releases.loaded) == list(names.values())[1:]
    append_entry(state, entry(names, "forest"))
    follower.poll()
    assert (
        follower.serving.champion.name == names["forest"]
        and len(follower.switch.releases.loaded) == MAX_LOADED_RELEASES
    )


def test_a_single_release_needs_no_ledger(releases):
    state, names = releases
    follower = Follower(None, state / "releases" / names["forest"])
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.serving.entry is None
