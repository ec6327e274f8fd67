"Keys are shown once, kept as hashes, and heeded by a running service without a restart."

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


def test_with_keys_nobody_without_one_gets_a_forecast(release, tmp_path):
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
        # and a key that is replaced, or taken away, is in force without a restart; without the file nobody is let in
        second = add_key(tmp_path / "keys.json", "planner")
        until_status(served.port, 200, f"Bearer {second}")
        until_status(served.port, 401, f"Bearer {key}")
        (tmp_path / "keys.json").unlink()
        until_status(served.port, 401, f"Bearer {second}")
    assert key not in served.log.read_text()


def test_a_file_of_keys_that_holds_something_else_stops_the_start(release, tmp_path):
    (tmp_path / "keys.json").write_text('{"planner": "a key as it is"}')
    with pytest.raises(AssertionError, match="not a sha256 hash"):
        with run_application(release.folder, tmp_path, api_keys=tmp_path / "keys.json"):
            pass


def test_a_file_of_keys_that_is_spoilt_while_it_serves_leaves_the_keys_of_before(release, tmp_path):
    # given a service that lets one key in
    path = tmp_path / "keys.json"
    key = add_key(path, "planner")
    with run_application(release.folder, tmp_path, api_keys=path) as served:
        # when somebody spoils the file by hand
        good = path.read_text()
        path.write_text('{"planner": ')
        wait_until(lambda: "the old keys stay valid" in served.log.read_text(), "said", served.process, log=served.log)
        # then who was let in still is, and once it is whole again, whom it names
        assert post(served.port, ONE_STORE, authorization=f"Bearer {key}")[0] == 200
        path.write_text(good)
        until_status(served.port, 200, f"Bearer {add_key(path, 'till')}")
        assert post(served.port, ONE_STORE, authorization=f"bearer  {key} ")[0] == 200


def test_keys_are_kept_as_hashes_that_only_their_owner_can_read(tmp_path):
    # given keys of two people
    path = tmp_path / "state" / "keys.json"
    first, second = add_key(path, "planner"), add_key(path, "till.7")
    # then the file has their hashes alone, and nobody else may read it
    assert json.loads(path.read_text()) == {"planner": hash_key(first), "till.7": hash_key(second)}
    assert path.stat().st_mode & 0o777 == 0o600 and len({first, second, add_key(path, "again")}) == 3
    # when one is replaced and one taken away, then the others stay
    assert remove_key(path, "again") == ["planner", "till.7"]
    anew = add_key(path, "planner")
    assert read_keys(path) == {"planner": hash_key(anew), "till.7": hash_key(second)}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("header", ["Bearer {key}", "bearer {key}", "BEARER  {key} "])
def test_whose_key_it_is_does_not_depend_on_how_the_scheme_is_written(header):
    keys = {"planner": hash_key("abc"), "till": hash_key("def")}
    assert key_owner({b"authorization": header.format(key="def").encode()}, keys) == "till"


@pytest.mark.parametrize(
    "header", ["", "def", "Bearer", "Bearer ", "Basic def", "Bearer xyz", "Bearer def, abc", "\xff"]
)
def test_what_is_no_key_is_nobody_s(header):
    keys = {"planner": hash_key("abc"), "till": hash_key("def")}
    assert key_owner({b"authorization": header.encode("latin-1")}, keys) is None
    assert key_owner({}, keys) is None and key_owner({b"authorization": b"Bearer def"}, {}) is None


@pytest.mark.parametrize("content", [None, "", "[]", '"abc"', '{"planner": 7}', '{"planner": "%s"}' % ("F" * 64)])
def test_a_file_that_is_none_of_keys_is_refused_and_never_written_over(tmp_path, content):
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
        with pytest.raises(ValueError, match="BREWCAST_API_KEYS: .*keys.json"):
            add_key(path, "planner")
        assert path.read_text() == content
    with pytest.raises(ValueError, match="BREWCAST_API_KEYS: .*keys.json"):
        read_keys(path)


def test_a_name_is_asked_for_and_one_that_is_not_there_is_said(tmp_path):
    path = tmp_path / "keys.json"
    for name in ("", "two words", "a/b", "x" * 65):
        with pytest.raises(ValueError, match="is not a valid key name"):
            add_key(path, name)
    assert not path.exists()
    add_key(path, "planner")
    with pytest.raises(ValueError, match="no key is named 'plannr'; existing keys: planner"):
        remove_key(path, "plannr")
