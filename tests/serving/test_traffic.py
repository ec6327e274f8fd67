"Who answers whom: shares that only grow, what the ledger says, and a release that fails, which is never switched to."

import json
import shutil

import pytest
from releases import FOREST, SEASONAL, add_release
from waits import wait_until

from brewcast.registry.ledger_writer import append_entry
from brewcast.serving.release import Release
from brewcast.serving.traffic import MAX_LOADED_RELEASES, Follower, ServingState, traffic_bucket


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    "A state with releases and no ledger: a forest's, two baselines', and one of fewer stores."
    state = tmp_path_factory.mktemp("state")
    names = {"forest": add_release(state, FOREST), "seasonal": add_release(state, SEASONAL)}
    names["last_month"] = add_release(state, {"name": "last_month", "params": {}})
    names["few"] = add_release(state, SEASONAL, stores=5)
    return state, names


@pytest.fixture
def shop(laid, tmp_path):
    "A copy of it: the state's folder, and the releases' names."
    state, names = laid
    return shutil.copytree(state, tmp_path / "shop"), names


def release(laid, name):
    state, names = laid
    return Release(state / "releases" / names[name])


# --- shares


def test_a_store_stands_where_it_stood_in_every_release_of_this_code():
    # what was shared out to a challenger stays with it after an update
    assert traffic_bucket("STORE101") == pytest.approx(90.00360646302533)
    assert traffic_bucket("Café") == pytest.approx(98.2474964171213)


def test_shares_are_of_all_stores_and_a_larger_one_takes_nobody_back():
    places = [traffic_bucket(f"STORE{i}") for i in range(20_000)]
    for share in (1, 10, 40, 90):
        assert sum(place < share for place in places) / 200 == pytest.approx(share, abs=1.5)
    assert min(places) >= 0 and max(places) < 100


def test_a_larger_share_only_adds_stores_to_the_challenger(laid):
    champion, challenger = release(laid, "seasonal"), release(laid, "forest")
    before = set()
    for share in (0, 20, 50, 80, 100):
        roles = ServingState(champion, challenger, share).roles
        mine = {store for store, role in roles.items() if role == "challenger"}
        assert before <= mine and mine == {store for store in champion.ids if traffic_bucket(store) < share}
        before = mine
    assert before == set(champion.ids)


def test_each_store_is_answered_by_its_role_and_the_shadow_is_only_logged(laid):
    champion, challenger = release(laid, "seasonal"), release(laid, "forest")
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
        # the log has who answered first, and beside a champion its shadow with the challenger's own number
        lines = [json.loads(line + b"}") for line in serving.log_lines[store]]
        assert [line["role"] for line in lines] == ([role, "shadow"] if role == "champion" else [role])
        assert lines[0]["forecast"] == answer["forecast"]
        assert lines[-1]["version"] == challenger.name
        assert lines[-1]["forecast"] == challenger.store_forecasts[challenger.position[store]][0]
    assert {"champion", "challenger"} == set(serving.roles.values())


def test_a_store_that_the_challenger_does_not_know_is_the_champions_alone(laid):
    champion, challenger = release(laid, "forest"), release(laid, "few")
    serving = ServingState(champion, challenger, 100)
    assert {store for store, role in serving.roles.items() if role == "champion"} == set(champion.ids[5:])
    assert all(len(serving.log_lines[store]) == 1 for store in champion.ids)


# --- what the ledger says


def entry(names, champion: str, challenger: str | None = None, share: float = 0) -> dict:
    "What serves from now on, as the ledger keeps it."
    return {"release": names[champion], "challenger": challenger and {"release": names[challenger]}, "share": share}


def test_before_anything_is_published_nothing_serves_and_the_reason_is_said(shop):
    state, names = shop
    follower = Follower(state)
    follower.poll()
    assert follower.serving is None and "ledger.db is missing: nothing is published yet" in follower.problem
    # when something is, then it serves without a restart
    append_entry(state, entry(names, "seasonal"))
    follower.poll()
    assert follower.serving.champion.name == names["seasonal"] and follower.problem is None


def test_every_entry_is_followed_and_told_once(shop):
    # given a follower that runs
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    changes = []
    follower = Follower(state, poll_seconds=0.01, on_change=lambda serving: changes.append(serving))
    follower.start()
    wait_until(lambda: follower.serving, "serving", patience=60)
    # when a challenger comes, gets a share and is promoted
    for n, said in enumerate(
        [entry(names, "seasonal", "forest"), entry(names, "seasonal", "forest", 30), entry(names, "forest")], 2
    ):
        append_entry(state, said)
        wait_until(lambda n=n: follower.serving.entry == n, f"at entry {n}", patience=60)
    follower.close()
    follower.join(60)
    # then each was told, once, with its share
    assert not follower.is_alive() and [serving.entry for serving in changes] == [1, 2, 3, 4]
    assert [serving.share for serving in changes] == [0, 0, 30, 0]
    assert [serving.champion.name for serving in changes] == [names["seasonal"]] * 3 + [names["forest"]]


def test_a_release_that_was_harmed_is_not_switched_to_until_it_is_whole_again(shop):
    # given a follower, and an entry that names a release with one more byte
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    refused = []
    follower = Follower(state, retry_seconds=0, on_refused=lambda: refused.append(1))
    follower.poll()
    rows = state / "releases" / names["forest"] / "rows.npz"
    whole = rows.read_bytes()
    rows.write_bytes(whole + b" ")
    append_entry(state, entry(names, "forest"))
    # when it looks, twice, then the old one goes on, and it is said once
    follower.poll(), follower.poll()
    assert follower.serving.champion.name == names["seasonal"] and len(refused) == 1
    assert "rows.npz is missing or was changed" in follower.problem
    # when the file is as it was, then it is switched to
    rows.write_bytes(whole)
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.problem is None


@pytest.mark.parametrize("how", ["in its place", "over it", "half of it"])
def test_a_folder_with_another_release_s_files_is_not_served_under_its_name(shop, how):
    # given a release whose folder holds the files of another one, which are sound: restored, or copied, to a wrong place
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    refused = []
    follower = Follower(state, retry_seconds=0, on_refused=lambda: refused.append(1))
    follower.poll()
    place, other = (state / "releases" / names[name] for name in ("forest", "last_month"))
    own = shutil.copytree(place, state / "own")
    if how == "in its place":
        shutil.rmtree(place)
    files = [path.name for path in other.iterdir() if how != "half of it" or path.suffix == ".json"]
    place.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(other / file, place / file)
    # when the ledger names it, the old one goes on, and it is said once, for log and metric
    append_entry(state, entry(names, "forest"))
    follower.poll(), follower.poll()
    assert follower.serving.champion.name == names["seasonal"] and len(refused) == 1
    assert f"holds release {names['last_month']}, not {names['forest']}" in follower.problem
    # when its own files are back, it serves
    shutil.copytree(own, place, dirs_exist_ok=True)
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.problem is None


def test_a_challenger_that_was_harmed_costs_its_share_and_not_the_service(shop):
    state, names = shop
    shutil.rmtree(state / "releases" / names["forest"])
    append_entry(state, entry(names, "seasonal", "forest", 60))
    follower = Follower(state, retry_seconds=0)
    follower.poll()
    serving = follower.serving
    assert serving.challenger is None and serving.share == 0 and set(serving.roles.values()) == {"champion"}
    assert "release.json is missing" in follower.problem


def test_a_ledger_that_came_back_from_a_backup_is_followed_though_it_is_another_file(shop, tmp_path):
    # given a ledger that is followed, and another one, which is moved into its place
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    follower = Follower(state)
    follower.poll()
    append_entry(tmp_path / "backup", entry(names, "last_month"))
    append_entry(tmp_path / "backup", entry(names, "forest"))
    (tmp_path / "backup" / "ledger.db").rename(state / "ledger.db")
    # then what it says serves
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.serving.entry == 2


def test_another_ledger_that_is_as_long_is_followed_too(shop, tmp_path):
    # given a ledger of one entry that is followed, and another one of one entry, which is moved into its place
    state, names = shop
    append_entry(state, entry(names, "seasonal"))
    follower = Follower(state)
    follower.poll()
    append_entry(tmp_path / "backup", entry(names, "forest"))
    (tmp_path / "backup" / "ledger.db").rename(state / "ledger.db")
    # then what it says serves
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.serving.entry == 1


def test_what_is_no_longer_named_is_forgotten_in_time(shop):
    # given a ledger that named more releases than are kept in memory
    state, names = shop
    names = names | {"more": add_release(state, FOREST, stores=6)}
    follower = Follower(state)
    for name in names:
        append_entry(state, entry(names, name))
        follower.poll()
        assert follower.serving.champion.name == names[name]
    # then the oldest was forgotten; and when it is named again, it is loaded again
    assert len(names) == MAX_LOADED_RELEASES + 1 and list(follower.loaded) == list(names.values())[1:]
    append_entry(state, entry(names, "forest"))
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and len(follower.loaded) == MAX_LOADED_RELEASES


def test_a_release_alone_needs_no_ledger(laid):
    state, names = laid
    follower = Follower(None, state / "releases" / names["forest"])
    follower.poll()
    assert follower.serving.champion.name == names["forest"] and follower.serving.entry is None
