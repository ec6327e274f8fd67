"Keys are shown once and stored as hashes. A running service follows changes of the file without a restart."

import json

import pytest
from clients import ONE_STORE, post, run_application
from releases import make_release
from waits import wait_until

from brewcast.delivery.package import http_request
from brewcast.serving.api_keys import add_key, hash_key, key_owner, read_keys, remove_key


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("release"))


def until_status(port, status, authorization):
    wait_until(
        lambda: post(port, ONE_STORE, authorization=authorization)[0] == status, f"answered with {status}", patience=10
    )


def test_a_service_with_keys_refuses_requests_without_a_valid_key(release, tmp_path):
    key = add_key(tmp_path / "keys.json", "planner")
    assert key not in (tmp_path / "keys.json").read_text()
    with run_application(release.folder, tmp_path, api_keys=tmp_path / "keys.json") as served:
        for wrong in ({}, {"authorization": "Bearer nonsense"}, {"authorization": f"Basic {key}"}):
            status, content = post(served.port, ONE_STORE, **wrong)
            assert (status, content["detail"][0]["field"]) == (401, "authorization")
        assert post(served.port, ONE_STORE, authorization=f"Bearer {key}")[0] == 200
        assert (
            http_request(served.port, "GET", "/metrics")[0] == http_request(served.port, "GET", "/versions")[0] == 401
        )
        assert http_request(served.port, "GET", "/livez")[0] == http_request(served.port, "GET", "/readyz")[0] == 200
        # a replaced key works without a restart and the old one does not; without the file no key is valid
        second = add_key(tmp_path / "keys.json", "planner")
        until_status(served.port, 200, f"Bearer {second}")
        until_status(served.port, 401, f"Bearer {key}")
        (tmp_path / "keys.json").unlink()
        until_status(served.port, 401, f"Bearer {second}")
    assert key not in served.log.read_text()


def test_a_file_with_a_value_that_is_not_a_hash_stops_the_start(release, tmp_path):
    (tmp_path / "keys.json").write_text('{"planner": "a key as it is"}')
    with pytest.raises(AssertionError, match="not a sha256 hash"):
        with run_application(release.folder, tmp_path, api_keys=tmp_path / "keys.json"):
            pass


def test_if_the_file_breaks_while_the_service_runs_the_old_keys_stay_valid(release, tmp_path):
    # given a service with one valid key
    path = tmp_path / "keys.json"
    key = add_key(path, "planner")
    with run_application(release.folder, tmp_path, api_keys=path) as served:
        # when the file is broken by hand
        good = path.read_text()
        path.write_text('{"planner": ')
        wait_until(
            lambda: "the old keys stay valid" in served.log.read_text(), "logged", served.process, log=served.log
        )
        # then the old key is valid, and after a repair the keys in the file
        assert post(served.port, ONE_STORE, authorization=f"Bearer {key}")[0] == 200
        path.write_text(good)
        until_status(served.port, 200, f"Bearer {add_key(path, 'till')}")
        assert post(served.port, ONE_STORE, authorization=f"bearer  {key} ")[0] == 200


def test_the_file_holds_hashes_only_and_only_its_owner_can_read_it(tmp_path):
    # given two keys
    path = tmp_path / "state" / "keys.json"
    first, second = add_key(path, "planner"), add_key(path, "till.7")
    # then the file has only their hashes, and only its owner may read it
    assert json.loads(path.read_text()) == {"planner": hash_key(first), "till.7": hash_key(second)}
    assert path.stat().st_mode & 0o777 == 0o600 and len({first, second, add_key(path, "again")}) == 3
    # when one key is replaced and one removed, then the others stay
    assert remove_key(path, "again") == ["planner", "till.7"]
    replaced = add_key(path, "planner")
    assert read_keys(path) == {"planner": hash_key(replaced), "till.7": hash_key(second)}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("header", ["Bearer {key}", "bearer {key}", "BEARER  {key} "])
def test_the_scheme_may_be_written_in_any_case(header):
    keys = {"planner": hash_key("abc"), "till": hash_key("def")}
    assert key_owner({b"authorization": header.format(key="def").encode()}, keys) == "till"


@pytest.mark.parametrize(
    "header", ["", "def", "Bearer", "Bearer ", "Basic def", "Bearer xyz", "Bearer def, abc", "\xff"]
)
def test_an_invalid_header_has_no_owner(header):
    keys = {"planner": hash_key("abc"), "till": hash_key("def")}
    assert key_owner({b"authorization": header.encode("latin-1")}, keys) is None
    assert key_owner({}, keys) is None and key_owner({b"authorization": b"Bearer def"}, {}) is None


@pytest.mark.parametrize("content", [None, "", "[]", '"abc"', '{"planner": 7}', '{"planner": "%s"}' % ("F" * 64)])
def test_a_file_that_is_not_a_file_of_keys_is_refused_and_not_overwritten(tmp_path, content):
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
        with pytest.raises(ValueError, match="BREWCAST_API_KEYS: .*keys.json"):
            add_key(path, "planner")
        assert path.read_text() == content
    with pytest.raises(ValueError, match="BREWCAST_API_KEYS: .*keys.json"):
        read_keys(path)


def test_an_invalid_or_unknown_name_is_refused(tmp_path):
    path = tmp_path / "keys.json"
    for name in ("", "two words", "a/b", "x" * 65):
        with pytest.raises(ValueError, match="is not a valid key name"):
            add_key(path, name)
    assert not path.exists()
    add_key(path, "planner")
    with pytest.raises(ValueError, match="no key is named 'plannr'; existing keys: planner"):
        remove_key(path, "plannr")
