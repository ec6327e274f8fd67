"MLflow on a server of its own: it follows the ledger, may be away or hang, and is told no password that anybody reads."

import base64
import contextlib
import json
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import requests
from releases import FOREST, SEASONAL, write_products
from servers import MlflowServer

from brewcast.common.ledger import read_ledger, state_folder
from brewcast.common.mlflow import MlflowError, experiment_name, mlflow_client
from brewcast.operations.backup import names_in_use, prunable_items
from brewcast.operations.lineage import mlflow_link
from brewcast.registry import promotion
from brewcast.registry.model_registry import expected_aliases, read_aliases
from brewcast.registry.publish import publish

LOGIN = "ann:se,cret%/word"
QUOTED = "ann:se%2Ccret%25%2Fword"
SECRET = "se,cret"


@pytest.fixture(scope="module")
def server():
    with MlflowServer() as server:
        yield server


@pytest.fixture(scope="module")
def door(server):
    "A reverse proxy that asks for a login, as a shared server has it; `hangs`, `refuses` and `seen` requests."
    state = SimpleNamespace(hangs=threading.Event(), refuses=None, seen=[])

    def hang():
        while state.hangs.is_set():
            time.sleep(0.02)

    class Door(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            state.seen.append(self.path)
            if state.hangs.is_set():
                return hang()
            right = self.headers.get("authorization") == f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
            if not right or (state.refuses and state.refuses in self.path):
                return self.end(401 if not right else 404, b"no", {})
            names = ("host", "authorization", "connection", "accept-encoding")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in names}
            try:
                said = requests.request(self.command, server.url + self.path, data=body, headers=headers, timeout=60)
            except requests.RequestException:
                return  # it is away, and so is this
            self.end(said.status_code, said.content, {"content-type": said.headers.get("content-type", "text/plain")})

        def end(self, status, content, headers):
            with contextlib.suppress(OSError):  # who asked may have given up
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_):
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    state.port = proxy.server_address[1]
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield state
    state.hangs.clear()
    proxy.shutdown()
    proxy.server_close()


@pytest.fixture
def shared(door, tmp_path, monkeypatch):
    "A project, whose address of MLflow holds a login; experiment and model of its own."
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{QUOTED}@127.0.0.1:{door.port}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    door.hangs.clear()
    door.refuses = None
    write_products(tmp_path, "key1", SEASONAL, challenger=FOREST)
    return tmp_path


def holding(root, said: str) -> list:
    "What holds the password: of what was said, and of the files that were made."
    made = [path for name in ("products", "state") for path in (root / name).rglob("*") if path.is_file()]
    assert made
    texts = {"what was said": said.encode()} | {path: path.read_bytes() for path in made}
    return [path for path, text in texts.items() if any(secret.encode() in text for secret in (SECRET, QUOTED))]


def last_of(root) -> dict:
    return read_ledger(state_folder("shop", root))[-1]


def agrees(root) -> bool:
    "Do the server's aliases say what the ledger says?"
    return read_aliases("shop", root) == {
        name: found for name, found in expected_aliases(last_of(root)).items() if found
    }


def test_a_server_follows_every_change_of_what_serves(shared, capfd):
    # given a server that asks for a login, which stands in its address
    told = publish("shop", shared)
    # then model and aliases are there, named after the source, and the project has no database of its own
    assert {"model", "ledger", "aliases"} <= set(told["changed"]) and told["follows"]
    assert experiment_name("shop", shared) == f"{shared.name}-shop"
    assert agrees(shared) and not (shared / "state/shop/mlflow.db").exists()
    # when it is published again, there is nothing to do
    assert publish("shop", shared)["changed"] == []
    # when something else serves, MLflow says so
    promotion.split("shop", 10, shared)
    assert agrees(shared)
    # then nothing that was said, written or logged holds the password
    assert holding(shared, "".join(capfd.readouterr())) == []


@pytest.mark.parametrize("fault", ["hangs", "refuses", "away"])
def test_what_serves_does_not_wait_for_a_server(shared, door, monkeypatch, capfd, fault):
    # given a server that follows, and that hangs, refuses or is away
    publish("shop", shared)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if fault == "hangs":
        door.hangs.set()
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    if fault == "refuses":
        door.refuses = "/registered-models/"
    if fault == "away":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{QUOTED}@127.0.0.1:1")
    write_products(shared, "key2", FOREST)
    # when another model is published, then it serves, and the warning says what, where and the way out
    told = publish("shop", shared)
    assert last_of(shared)["recipe"] == FOREST and "ledger" in told["changed"] and not told["follows"]
    said = capfd.readouterr().err
    assert re.search(r"warning: shop: what serves is as the ledger says, but MLflow does not follow it yet", said)
    assert "MLflow at http://127.0.0.1:" in said and "once it answers, `brewcast publish` lets it follow" in said
    assert SECRET not in said and "se%2C" not in said
    # and so does a rollback, at once
    promotion.rollback("shop", shared)
    assert last_of(shared)["recipe"] == SEASONAL and "does not follow" in capfd.readouterr().err
    # when it answers again, the next publish lets it follow, though the products ask for what was taken back
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{QUOTED}@127.0.0.1:{door.port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    door.hangs.clear()
    door.refuses = None
    with contextlib.suppress(ValueError):
        publish("shop", shared)
    assert agrees(shared)


def test_a_server_that_dies_between_two_calls_of_a_publish_follows_later(shared, door, monkeypatch, capfd):
    from mlflow import MlflowClient

    # given a server that is gone after the model was registered, before the aliases are set
    real = MlflowClient.create_model_version

    def last_call(*args, **kwargs):
        try:
            return real(*args, **kwargs)
        finally:
            door.hangs.set()
            os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "1"

    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        patched.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patched.setattr(MlflowClient, "create_model_version", last_call)
        assert not publish("shop", shared)["follows"]
    assert "does not follow it yet" in capfd.readouterr().err and last_of(shared)["recipe"] == SEASONAL
    # when it is back, then the same command ends as an undisturbed one: each model once, and the aliases
    door.hangs.clear()
    publish("shop", shared)
    assert agrees(shared)
    with mlflow_client("shop", shared) as (client, experiment):
        assert len(client.search_model_versions(f"name = '{experiment_name('shop', shared)}'")) == 2
        runs = client.search_runs([experiment])
        assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED"]


def test_another_projects_model_of_the_same_name_is_left_alone(shared, monkeypatch, capfd, tmp_path_factory):
    # given two projects with a source of one name, on one server
    publish("shop", shared)
    other = tmp_path_factory.mktemp("other")
    write_products(other, "key1", FOREST)
    monkeypatch.setenv("BREWCAST_BY", "bob@till-9")
    # when the second publishes, then it serves, and is told how to set its own apart
    assert not publish("shop", other)["follows"]
    said = capfd.readouterr().err
    assert f"the registered model {shared.name}-shop is another project's" in said and "MLFLOW_EXPERIMENT_NAME" in said
    assert agrees(shared)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"{shared.name}-bob")
    assert publish("shop", other)["follows"] and agrees(other)


def test_what_asks_mlflow_does_a_sensible_thing_with_a_server(shared, door):
    publish("shop", shared)
    entry = last_of(shared)
    at = SimpleNamespace(root=shared, source="shop", entry=entry)
    # a trace names the server's version and run, without the login
    link = mlflow_link(at, is_serving=True)
    assert link["state"] == "ok" and link["path"] == f"http://127.0.0.1:{door.port}" and "champion" in link["aliases"]
    # one that is away is a link that nobody could look at, and no end of the trace
    door.refuses = "/registered-models/"
    found = mlflow_link(at, is_serving=True)
    door.refuses = "/model-versions/"
    found = mlflow_link(at, is_serving=True)
    assert found["state"] == "gone" and "not looked at: MLflow at" in found["told"][0] and SECRET not in str(found)
    # what is pruned is the project's own alone, and needs no server
    door.refuses, before = "/", len(door.seen)
    assert entry["model_hash"][:12] in names_in_use(shared, "shop")["model"]
    assert [item for item in prunable_items(shared, "shop", 0) if item["kind"] in ("model", "leftover")] == []
    assert len(door.seen) == before


def test_a_wrong_login_is_told_without_it(shared, door, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{door.port}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "quite-wrong")
    with pytest.raises(MlflowError, match="401") as told, mlflow_client("shop", shared):
        pass
    assert "quite-wrong" not in str(told.value)
    # the right one, as MLflow's own variables have it, passes, and they are as they were
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", LOGIN.partition(":")[2])
    with mlflow_client("shop", shared) as (client, experiment):
        assert client.get_experiment(experiment).name == f"{shared.name}-shop"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{door.port}"


def test_a_build_tells_that_its_server_is_away_and_ends_as_it_should_once_it_is_back(project, server, door, tmp_path):
    # given a built project, and a server that dies before the build logs what it has trained
    state, command = project.root / "state/simulated", "make run train.n_estimators=21"
    variables = {
        "MLFLOW_TRACKING_URI": f"http://{QUOTED}@127.0.0.1:{door.port}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    assert "open it there" in project.run("make ui", fails=True, **variables).err
    door.hangs.clear()
    door.refuses = None
    before, database = read_ledger(state), (state / "mlflow.db").read_bytes()
    server.kill()
    # when it is run, then it says what, where and the way out, and what serves stays
    said = project.run(command, fails=True, **variables).all
    assert f"train failed: MlflowError: MLflow at http://127.0.0.1:{door.port} (MLFLOW_TRACKING_URI): " in said
    assert "once it answers, run the same command again" in said
    assert read_ledger(state) == before and (project.root / "products/simulated/failed/train").exists()
    assert holding(project.root, said) == []
    # when the server is back, then the same command ends in one run of the candidate, with its errors, and the aliases
    server.start()
    said = project.run(command, **variables).all
    assert "train      starts" in said and "model, aliases" in said and holding(project.root, said) == []
    entry = read_ledger(state)[-1]
    assert len(read_ledger(state)) == len(before) + 1 and (state / "mlflow.db").read_bytes() == database
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", server.url)  # by no door
        assert read_aliases("simulated", project.root) == {n: h for n, h in expected_aliases(entry).items() if h}
        with mlflow_client("simulated", project.root) as (client, experiment):
            card = json.loads((project.root / "products/simulated/train/card.json").read_text())
            (run,) = client.search_runs([experiment], f"tags.content_hash = '{card['content_hash']}'")
            assert run.info.status == "FINISHED" and run.data.metrics["wape"] > 0
            # and the champion can be loaded from the server
            import mlflow.sklearn

            model = mlflow.sklearn.load_model("models:/brewcast-simulated@champion", dst_path=str(tmp_path))
            assert hasattr(model, "predict")
    # when nothing is left to do, that is said; with the project's own database again, it is let follow
    assert "nothing to do" in project.run(command, **variables).err
    assert "published: " in project.run(command).err
    assert read_aliases("simulated", project.root) == {n: h for n, h in expected_aliases(entry).items() if h}
