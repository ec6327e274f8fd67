"MLflow on a server: it agrees with the ledger, it may be down or hang, and no output contains its password."

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
from brewcast.common.mlflow_models import read_aliases
from brewcast.common.records import LedgerEntry
from brewcast.operations.backup import names_in_use, prunable_items
from brewcast.operations.lineage import mlflow_link
from brewcast.registry import promotion
from brewcast.registry.model_registry import expected_aliases
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
    "A reverse proxy with a login in front of MLflow. The test sets `hangs` and `refuses`; `seen` has the request paths."
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
                response = requests.request(
                    self.command, server.url + self.path, data=body, headers=headers, timeout=60
                )
            except requests.RequestException:
                return  # the server is down, so the proxy does not answer either
            content_type = response.headers.get("content-type", "text/plain")
            self.end(response.status_code, response.content, {"content-type": content_type})

        def end(self, status, content, headers):
            with contextlib.suppress(OSError):  # the client may have given up
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
    "A project that uses the server with a login in its address, and its own experiment and model."
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{QUOTED}@127.0.0.1:{door.port}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    door.hangs.clear()
    door.refuses = None
    write_products(tmp_path, "key1", SEASONAL, challenger=FOREST)
    return tmp_path


def find_password(root, output: str) -> list:
    'Where the password is found: "the output", or paths of products and state.'
    files = [path for name in ("products", "state") for path in (root / name).rglob("*") if path.is_file()]
    assert files
    contents = {"the output": output.encode()} | {path: path.read_bytes() for path in files}
    return [name for name, text in contents.items() if any(secret.encode() in text for secret in (SECRET, QUOTED))]


def last_entry(root) -> LedgerEntry:
    return read_ledger(state_folder("shop", root))[-1]


def aliases_agree(root) -> bool:
    "Do the server's aliases agree with the ledger?"
    return read_aliases("shop", root) == {
        name: content_hash for name, content_hash in expected_aliases(last_entry(root)).items() if content_hash
    }


def test_a_server_follows_every_change_of_the_serving_releases(shared, capfd):
    # given a server with a login in its address
    result = publish("shop", shared)
    # then the server has model and aliases, named after the source, and the project has no database
    assert {"model", "ledger", "aliases"} <= set(result.changed) and result.follows
    assert experiment_name("shop", shared) == f"{shared.name}-shop"
    assert aliases_agree(shared) and not (shared / "state/shop/mlflow.db").exists()
    # when it is published again, then nothing changes
    assert publish("shop", shared).changed == []
    # when the split changes, then MLflow agrees
    promotion.split("shop", 10, shared)
    assert aliases_agree(shared)
    # then no output, file or log contains the password
    assert find_password(shared, "".join(capfd.readouterr())) == []


@pytest.mark.parametrize("fault", ["hangs", "refuses", "down"])
def test_publish_and_rollback_do_not_wait_for_a_server(shared, door, monkeypatch, capfd, fault):
    # given a server that was in sync, and then hangs, refuses or is down
    publish("shop", shared)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if fault == "hangs":
        door.hangs.set()
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    if fault == "refuses":
        door.refuses = "/registered-models/"
    if fault == "down":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{QUOTED}@127.0.0.1:1")
    write_products(shared, "key2", FOREST)
    # when another model is published, then it serves, and the warning has the problem, the address and the remedy
    result = publish("shop", shared)
    assert last_entry(shared).recipe == FOREST and "ledger" in result.changed and not result.follows
    warning = capfd.readouterr().err
    assert re.search(r"warning: shop: what serves is as the ledger says, but MLflow is not up to date", warning)
    assert "MLflow at http://127.0.0.1:" in warning and "once it answers, `brewcast publish` updates it" in warning
    assert SECRET not in warning and "se%2C" not in warning
    # and a rollback takes effect at once too
    promotion.rollback("shop", shared)
    assert last_entry(shared).recipe == SEASONAL and "is not up to date" in capfd.readouterr().err
    # when it answers again, then the next publish updates it, though the products are from before the rollback
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{QUOTED}@127.0.0.1:{door.port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    door.hangs.clear()
    door.refuses = None
    with contextlib.suppress(ValueError):
        publish("shop", shared)
    assert aliases_agree(shared)


def test_a_server_that_fails_between_two_calls_of_a_publish_is_updated_later(shared, door, monkeypatch, capfd):
    from mlflow import MlflowClient

    # given a server that hangs after the model is registered, before the aliases are set
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
        assert not publish("shop", shared).follows
    assert "is not up to date" in capfd.readouterr().err and last_entry(shared).recipe == SEASONAL
    # when it is up again, then the same command completes: each model once, and the aliases
    door.hangs.clear()
    publish("shop", shared)
    assert aliases_agree(shared)
    with mlflow_client("shop", shared) as (client, experiment):
        assert len(client.search_model_versions(f"name = '{experiment_name('shop', shared)}'")) == 2
        runs = client.search_runs([experiment])
        assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED"]


def test_a_registered_model_of_another_project_stays_unchanged(shared, monkeypatch, capfd, tmp_path_factory):
    # given two projects with a source of the same name, on one server
    publish("shop", shared)
    other = tmp_path_factory.mktemp("other")
    write_products(other, "key1", FOREST)
    monkeypatch.setenv("BREWCAST_BY", "bob@till-9")
    # when the second publishes, then it serves, and the warning says how to separate the models
    assert not publish("shop", other).follows
    warning = capfd.readouterr().err
    assert f"the registered model {shared.name}-shop belongs to another project" in warning
    assert "MLFLOW_EXPERIMENT_NAME" in warning
    assert aliases_agree(shared)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"{shared.name}-bob")
    assert publish("shop", other).follows and aliases_agree(other)


def test_trace_and_prune_work_with_a_server(shared, door):
    publish("shop", shared)
    entry = last_entry(shared)
    at = SimpleNamespace(root=shared, source="shop", entry=entry)
    # a trace names the server's version and run, without the login
    link = mlflow_link(at, is_serving=True)
    assert link.state == "ok" and link.path == f"http://127.0.0.1:{door.port}" and "champion" in link.aliases
    # a server that is down gives a link that is not checked, and the trace continues
    door.refuses = "/registered-models/"
    link = mlflow_link(at, is_serving=True)
    door.refuses = "/model-versions/"
    link = mlflow_link(at, is_serving=True)
    assert link.state == "gone" and "not checked: MLflow at" in link.told[0] and SECRET not in str(link)
    # prune needs no server: it removes only files of the project
    door.refuses, before = "/", len(door.seen)
    assert entry.model_hash[:12] in names_in_use(shared, "shop")["model"]
    assert [item for item in prunable_items(shared, "shop", 0) if item.kind in ("model", "leftover")] == []
    assert len(door.seen) == before


def test_a_wrong_login_is_reported_without_the_password(shared, door, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{door.port}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "quite-wrong")
    with pytest.raises(MlflowError, match="401") as error, mlflow_client("shop", shared):
        pass
    assert "quite-wrong" not in str(error.value)
    # the right login in MLflow's own variables works, and the variables do not change
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", LOGIN.partition(":")[2])
    with mlflow_client("shop", shared) as (client, experiment):
        assert client.get_experiment(experiment).name == f"{shared.name}-shop"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{door.port}"


def test_a_build_reports_that_its_server_is_down_and_completes_once_it_is_up(project, server, door, tmp_path):
    # given a built project, and a server that stops before the build logs its model
    state, command = project.root / "state/simulated", "make run train.n_estimators=21"
    variables = {
        "MLFLOW_TRACKING_URI": f"http://{QUOTED}@127.0.0.1:{door.port}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    assert "open MLflow there" in project.run("make ui", fails=True, **variables).err
    door.hangs.clear()
    door.refuses = None
    before, database = read_ledger(state), (state / "mlflow.db").read_bytes()
    server.kill()
    # when it runs, then the error has the problem, the address and the remedy, and the current release keeps serving
    output = project.run(command, fails=True, **variables).all
    assert f"train failed: MlflowError: MLflow at http://127.0.0.1:{door.port} (MLFLOW_TRACKING_URI): " in output
    assert "once it answers, run the same command again" in output
    assert read_ledger(state) == before and (project.root / "products/simulated/failed/train").exists()
    assert find_password(project.root, output) == []
    # when the server is up again, then the same command logs one run of the candidate, with its errors, and the aliases
    server.start()
    output = project.run(command, **variables).all
    assert "train      starts" in output and "model, aliases" in output and find_password(project.root, output) == []
    entry = read_ledger(state)[-1]
    assert len(read_ledger(state)) == len(before) + 1 and (state / "mlflow.db").read_bytes() == database
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", server.url)  # without the proxy
        assert read_aliases("simulated", project.root) == {n: h for n, h in expected_aliases(entry).items() if h}
        with mlflow_client("simulated", project.root) as (client, experiment):
            card = json.loads((project.root / "products/simulated/train/card.json").read_text())
            (run,) = client.search_runs([experiment], f"tags.content_hash = '{card['content_hash']}'")
            assert run.info.status == "FINISHED" and run.data.metrics["wape"] > 0
            # and the champion can be loaded from the server
            import mlflow.sklearn

            model = mlflow.sklearn.load_model("models:/brewcast-simulated@champion", dst_path=str(tmp_path))
            assert hasattr(model, "predict")
    # when nothing is left to do, then it says so; with the project's own database again, the next run updates that
    assert "nothing to do" in project.run(command, **variables).err
    assert "published: " in project.run(command).err
    assert read_aliases("simulated", project.root) == {n: h for n, h in expected_aliases(entry).items() if h}
