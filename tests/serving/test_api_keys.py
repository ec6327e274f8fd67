"Keys are shown once and stored as hashes. A running service follows changes of the file without a restart."

import pytest
from clients import ONE_STORE, post, run_application
from releases import make_release
from waits import wait_until

from brewcast.delivery.package import http_request
from brewcast.serving.api_keys import add_key


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
