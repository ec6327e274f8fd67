"Keys are shown once, kept as hashes, and heeded by a running service without a restart."

import pytest
from clients import ONE, application, post
from releases import made_release
from waits import until

from brewcast.delivery.package import call
from brewcast.serving.api_keys import add_key


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return made_release(tmp_path_factory.mktemp("release"))


def until_status(port, status, authorization):
    until(lambda: post(port, ONE, authorization=authorization)[0] == status, f"answered with {status}", patience=10)


def test_with_keys_nobody_without_one_gets_a_forecast(release, tmp_path):
    key = add_key(tmp_path / "keys.json", "planner")
    assert key not in (tmp_path / "keys.json").read_text()
    with application(release.folder, tmp_path, api_keys=tmp_path / "keys.json") as served:
        for wrong in ({}, {"authorization": "Bearer nonsense"}, {"authorization": f"Basic {key}"}):
            status, content = post(served.port, ONE, **wrong)
            assert (status, content["detail"][0]["field"]) == (401, "authorization")
        assert post(served.port, ONE, authorization=f"Bearer {key}")[0] == 200
        assert call(served.port, "GET", "/metrics")[0] == call(served.port, "GET", "/versions")[0] == 401
        assert call(served.port, "GET", "/livez")[0] == call(served.port, "GET", "/readyz")[0] == 200
        # and a key that is replaced, or taken away, is in force without a restart; without the file nobody is let in
        second = add_key(tmp_path / "keys.json", "planner")
        until_status(served.port, 200, f"Bearer {second}")
        until_status(served.port, 401, f"Bearer {key}")
        (tmp_path / "keys.json").unlink()
        until_status(served.port, 401, f"Bearer {second}")
    assert key not in served.log.read_text()


def test_a_file_of_keys_that_holds_something_else_stops_the_start(release, tmp_path):
    (tmp_path / "keys.json").write_text('{"planner": "a key as it is"}')
    with pytest.raises(AssertionError, match="holds something else than sha256 hashes"):
        with application(release.folder, tmp_path, api_keys=tmp_path / "keys.json"):
            pass
