"The served Bento with the requests of clients: valid ones, invalid ones, and many at once."

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import joblib
import psutil
import pytest
from clients import ONE_STORE, post, run_application, send_until_closed
from releases import ROOT, make_release

from brewcast.common.core import read_json, read_parquet
from brewcast.delivery.package import build_bento, http_request, isolated_environment, serve_bento
from brewcast.serving.api_models import MAX_BODY_BYTES
from brewcast.serving.app import check_port_free, openapi_document, serve

ANSWERED = {"store_id", "month", "forecast", "lower", "upper", "model_version", "features_as_of"}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def served(release, tmp_path_factory):
    "The release's Bento, built and served once: about seven seconds."
    work = tmp_path_factory.mktemp("served")
    bento = build_bento(ROOT, release.folder, work)
    with serve_bento(bento, work) as port:
        (listens,) = [c.pid for c in psutil.net_connections("tcp4") if c.laddr.port == port and c.status == "LISTEN"][
            :1
        ]
        yield SimpleNamespace(port=port, log=work / "serve.log", bento=bento, process=listens)


def test_answers_are_the_models_forecasts_in_the_order_of_the_request(served, release):
    # given a request for all stores, in reverse order
    table = release.products.table.iloc[::-1]
    status, answers = post(served.port, {"store_ids": table.store_id.tolist()})
    # then each answer is the forecast of the scikit-learn model for the rows that Feast materialized
    model, online = joblib.load(release.folder / "model.joblib"), read_parquet(release.folder / "online.parquet")
    rows = online.set_index("series_id").loc[table.store_id, list(model.feature_names_in_)]
    assert status == 200
    assert [answer["store_id"] for answer in answers] == table.store_id.tolist()
    assert [answer["forecast"] for answer in answers] == pytest.approx(model.predict(rows).tolist(), rel=1e-6)
    assert [answer["lower"] for answer in answers] == pytest.approx(table.lower.tolist(), rel=1e-6)
    assert [answer["upper"] for answer in answers] == pytest.approx(table.upper.tolist(), rel=1e-6)
    description = read_json(release.folder / "release.json")
    for answer in answers:
        assert set(answer) == ANSWERED
        assert (answer["month"], answer["features_as_of"]) == ("2024-05-01", "2024-04-30")
        assert answer["model_version"] == description["release"]


def test_every_store_has_its_own_interval_or_that_of_a_cold_start(served):
    status, (mature, cold_start) = post(served.port, {"store_ids": ["STORE101", "STORE106"]})
    assert status == 200
    assert mature["upper"] / mature["forecast"] == pytest.approx(1.1)
    assert cold_start["upper"] / cold_start["forecast"] == pytest.approx(1.4)


def test_the_bento_cuts_off_a_head_that_never_ends(served):
    # given BentoML, which starts uvicorn itself
    assert send_until_closed(served.port, b"GET / HTTP/1.1\r\nx: ", b"a" * 50_000) is not None, "64 MB went through"
    assert post(served.port, ONE_STORE)[0] == 200


DEEP = b'{"store_ids": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
SECRET = "hunter2" * 100
BAD = {  # body, content type, status, the field that the answer names
    "an unknown store": ({"store_ids": ["STORE101", "NOWHERE"]}, "application/json", 404, "store_ids[1]"),
    "an empty id": ({"store_ids": [""]}, "application/json", 404, "store_ids[0]"),
    "half a surrogate": (b'{"store_ids": ["\\ud800"]}', "application/json", 400, "store_ids[0]"),
    "half a surrogate in a name": (b'{"\\ud800": 1}', "application/json", 400, "body"),
    "an unknown field": (ONE_STORE | {"stores": 3}, "application/json", 400, "stores"),
    "a long unknown field": (ONE_STORE | {SECRET: 3}, "application/json", 400, f"{SECRET[:40]}..."),
    "a plan that is a list": (ONE_STORE | {"plan": []}, "application/json", 400, "plan"),
    "an unknown override": (ONE_STORE | {"plan": {"weather": 1}}, "application/json", 400, "plan.weather"),
    "a share above one": (
        ONE_STORE | {"plan": {"promotion_share": 1.5}},
        "application/json",
        400,
        "plan.promotion_share",
    ),
    "a price of nothing": (ONE_STORE | {"plan": {"price": 0}}, "application/json", 400, "plan.price"),
    "a price that is text": (ONE_STORE | {"plan": {"price": "3"}}, "application/json", 400, "plan.price"),
    "half a holiday": (ONE_STORE | {"plan": {"holidays": 0.5}}, "application/json", 400, "plan.holidays"),
    "a price that is NaN": (
        b'{"store_ids": ["STORE101"], "plan": {"price": NaN}}',
        "application/json",
        400,
        "plan.price",
    ),
    "an infinite price": (
        b'{"store_ids": ["STORE101"], "plan": {"price": 1e999}}',
        "application/json",
        400,
        "plan.price",
    ),
    "a plan that the source does not have": (ONE_STORE | {"plan": {"price": 3}}, "application/json", 409, "plan.price"),
    "a store without a plan": (
        ONE_STORE | {"plan": {"promotion_share": 0.5}},
        "application/json",
        409,
        "plan.promotion_share",
    ),
    "NaN": (b'{"store_ids": [NaN]}', "application/json", 400, "store_ids[0]"),
    "infinity": (b'{"store_ids": ["STORE101", -Infinity]}', "application/json", 400, "store_ids[1]"),
    "a huge number": (b'{"store_ids": [1e999]}', "application/json", 400, "store_ids[0]"),
    "a number of 5,000 digits": (b'{"store_ids": [' + b"9" * 5000 + b"]}", "application/json", 400, "body"),
    "a number for a string": ({"store_ids": ["STORE101", 102]}, "application/json", 400, "store_ids[1]"),
    "null for a string": ({"store_ids": [None]}, "application/json", 400, "store_ids[0]"),
    "a list for a string": ({"store_ids": [["STORE101"]]}, "application/json", 400, "store_ids[0]"),
    "a string for a list": ({"store_ids": "STORE101"}, "application/json", 400, "store_ids"),
    "an empty list": ({"store_ids": []}, "application/json", 400, "store_ids"),
    "10,001 ids": ({"store_ids": [f"S{i}" for i in range(10_001)]}, "application/json", 400, "store_ids"),
    "a store twice": ({"store_ids": ["STORE101", "STORE102", "STORE101"]}, "application/json", 400, "store_ids[2]"),
    "no field": ({}, "application/json", 400, "store_ids"),
    "a field twice": (b'{"store_ids": ["STORE101"], "store_ids": []}', "application/json", 400, "store_ids"),
    "a list for an object": (b'["STORE101"]', "application/json", 400, "body"),
    "null": (b"null", "application/json", 400, "body"),
    "an empty body": (b"", "application/json", 400, "body"),
    "broken JSON": (b'{"store_ids": ["STORE101"', "application/json", 400, "body"),
    "two JSON texts": (b'{"store_ids": ["STORE101"]} {}', "application/json", 400, "body"),
    "bad UTF-8": (b'{"store_ids": ["\xff\xfe"]}', "application/json", 400, "body"),
    "UTF-16": ('{"store_ids": ["STORE101"]}'.encode("utf-16"), "application/json", 400, "body"),
    "a zero byte": (b'{"store_ids": ["\x00"]}', "application/json", 400, "body"),
    "deep JSON": (DEEP, "application/json", 400, "body"),
    "a huge body": (b" " * (MAX_BODY_BYTES + 1), "application/json", 413, "body"),
    "text": (ONE_STORE, "text/plain", 415, "content-type"),
    "no content type": (ONE_STORE, None, 415, "content-type"),
    "a wrong charset": (ONE_STORE, "application/json; charset=utf-16", 415, "content-type"),
    "a form": (b"store_ids=STORE101", "application/x-www-form-urlencoded", 415, "content-type"),
    "malformed multipart": (b"--x\r\nno end", "multipart/form-data", 415, "content-type"),
    "a pickle": (b"\x80\x04N.", "application/vnd.bentoml+pickle", 415, "content-type"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_a_4xx_that_names_the_field(served, name):
    # given a request with one mistake
    body, kind, expected, field = BAD[name]
    # when it is sent
    status, content = post(served.port, body, kind)
    # then the status is right, the detail names the field, and the answer does not repeat the body
    assert (status, content["detail"][0]["field"]) == (expected, field)
    assert set(content) == {"error", "detail"} and content["error"]
    assert set(content["detail"][0]) == {"field", "message"} and content["detail"][0]["message"]
    assert len(json.dumps(content)) < 3000


def test_ten_thousand_ids_are_allowed(served):
    status, content = post(served.port, {"store_ids": [f"S{i}" for i in range(10_000)]})
    assert (status, content["error"]) == (404, "no forecast for 10,000 of 10,000 stores")


def test_a_charset_and_capitals_in_the_content_type_are_allowed(served):
    assert post(served.port, ONE_STORE, 'Application/JSON; charset="UTF-8"')[0] == 200


def test_a_compressed_body_is_refused(served):
    status, content = post(served.port, ONE_STORE, content_encoding="gzip")
    assert (status, content["detail"][0]["field"]) == (415, "content-encoding")


def test_a_body_without_a_declared_length_has_the_same_limit(served):
    # given a long chunked body
    def chunks():
        for _ in range(64):
            yield b" " * 100_000

    # then it is cut off
    assert post(served.port, chunks())[0] == 413


@pytest.mark.parametrize(
    "method, path, expected",
    [
        ("PUT", "/forecast", 405),
        ("DELETE", "/forecast", 405),
        ("POST", "/readyz", 405),
        ("POST", "/", 405),
        ("GET", "/forecast/", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/schema.json", 404),
        ("GET", "/static_content/swagger-ui.css", 404),
        ("POST", "/forecast/submit", 404),
        ("GET", "/../../etc/passwd", 404),
    ],
)
def test_a_wrong_method_or_page_gets_a_4xx_in_json(served, method, path, expected):
    status, body = http_request(served.port, method, path)
    assert status == expected
    assert set(json.loads(body)) == {"error", "detail"}


def test_the_pages_load_nothing_from_the_network(served):
    # given every page
    index = json.loads(http_request(served.port, "GET", "/")[1])
    assert {"/forecast", "/versions", "/metrics", "/docs.json", "/livez", "/readyz"} <= set(index["pages"])
    for path in index["pages"]:
        status, body = http_request(served.port, "GET", path)
        # then it answers, and names no script and no foreign address
        assert status == 200
        assert b"<script" not in body and b"http://" not in body and b"https://" not in body, path


def test_openapi_is_valid_and_describes_the_request_and_the_answer(served):
    from openapi_spec_validator import validate

    description = json.loads(http_request(served.port, "GET", "/docs.json")[1])
    validate(description)
    validate(openapi_document(needs_key=True))
    schemas = description["components"]["schemas"]
    assert set(schemas["ForecastRequest"]["properties"]) == {"store_ids", "plan"}
    assert set(schemas["Plan"]["properties"]) == {"price", "promotion_share", "holidays"}
    assert set(schemas["StoreForecast"]["properties"]) == ANSWERED
    # and its examples are valid requests
    post = description["paths"]["/forecast"]["post"]
    for example in post["requestBody"]["content"]["application/json"]["examples"].values():
        assert post_plain(served.port, example["value"]) in (200, 409)


def post_plain(port, body):
    return post(port, body)[0]


def test_schemathesis_finds_no_difference_from_the_openapi_document(served, tmp_path):
    # when schemathesis sends requests that the OpenAPI document allows, and requests that it forbids
    command = [str(Path(sys.executable).parent / "st"), "run", f"http://127.0.0.1:{served.port}/docs.json"]
    command += ["--checks", "all", "--max-examples", "40", "--seed", "1", "--workers", "1", "--no-color"]
    command += ["--phases", "examples,coverage,fuzzing", "--generation-database", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    # then there is no server error, no undocumented status, and no undocumented answer
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_get_answers_every_store(served, release):
    status, body = http_request(served.port, "GET", "/forecast")
    answers = json.loads(body)
    assert status == 200 and [answer["store_id"] for answer in answers] == release.products.table.store_id.tolist()
    assert answers[3] == post(served.port, {"store_ids": [answers[3]["store_id"]]})[1][0]
    with_head = http_request(served.port, "HEAD", "/forecast")
    assert with_head == (200, b"")


def test_a_plan_changes_the_row_as_the_features_would_change(served, release):
    # given a store with a plan of promotions, and its features under another plan
    model, online = joblib.load(release.folder / "model.joblib"), read_parquet(release.folder / "online.parquet")
    row = online[online.series_id == "STORE120"].reset_index(drop=True)
    moved = 0.9 - row.promotion_next
    for name in ("promotion_next", "promotion_change", "promotion_change_year"):
        row[name] = row[name] + moved
    moved = 3 - row.holidays_next
    for name in ("holidays_next", "holidays_change", "holidays_change_year"):
        row[name] = row[name] + moved
    # then the answer is scikit-learn's forecast of these features
    status, (answer,) = post(served.port, {"store_ids": ["STORE120"], "plan": {"promotion_share": 0.9, "holidays": 3}})
    assert status == 200
    assert answer["forecast"] == pytest.approx(model.predict(row[list(model.feature_names_in_)])[0], rel=1e-6)
    assert answer["forecast"] != post(served.port, {"store_ids": ["STORE120"]})[1][0]["forecast"]
    # and an empty plan is the same as no plan
    assert (
        post(served.port, {"store_ids": ["STORE120"], "plan": {}})[1]
        == post(served.port, {"store_ids": ["STORE120"]})[1]
    )


def test_a_valid_request_id_is_kept_and_an_invalid_one_is_replaced(served):
    def id_of(given):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        connection.request("GET", "/livez", headers={"x-request-id": given})
        return connection.getresponse().headers["x-request-id"]

    assert id_of("order-77") == "order-77"
    assert len(id_of("a b\tc")) == 32 and len(id_of("x" * 65)) == 32


def test_counters_have_bounded_labels(served):
    # given a client that requests many unknown pages
    for i in range(20):
        http_request(served.port, "GET", f"/page{i}")
    # then they all have one label
    counters = http_request(served.port, "GET", "/metrics")[1].decode()
    assert 'path="other",status="404"' in counters
    assert "page1" not in counters


def test_many_at_once_are_all_answered(served):
    # given eight clients, and every tenth request invalid
    bodies = [{"store_ids": [f"STORE{101 + i % 30}"]} for i in range(80)]
    bodies[::10] = [{"store_ids": []}] * 8
    # when they send their requests at the same time
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda body: post(served.port, body), bodies))
    # then each gets its own answer
    for body, (status, content) in zip(bodies, answers, strict=True):
        assert status == (200 if body["store_ids"] else 400)
        assert not body["store_ids"] or content[0]["store_id"] == body["store_ids"][0]


def test_broken_connections_do_not_affect_other_clients(served):
    # given a client that sends half of a body and disconnects, and one that does not speak HTTP
    for sent in (
        b"POST /forecast HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        b"\0\0",
    ):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(sent)
    # then the next client gets an answer
    assert post(served.port, ONE_STORE)[0] == 200


def test_the_log_has_no_input_and_no_traceback(served):
    # given all requests above, and two requests with a secret
    post(served.port, {"store_ids": ["STORE101", SECRET]})
    post(served.port, {"store_ids": ["STORE101"], SECRET: 1})
    # then the log has none of their content
    log = served.log.read_text()
    assert "hunter2" not in log and "NOWHERE" not in log
    assert "Traceback" not in log


def test_a_release_that_fails_its_check_is_never_ready(served, tmp_path):
    # given the Bento with a changed model
    shutil.copytree(served.bento, tmp_path / "bento")
    with open(tmp_path / "bento" / "src" / "release" / "model.onnx", "ab") as changed:
        changed.write(b" ")
    # when it is served, it does not become ready
    with pytest.raises(RuntimeError, match="model.onnx is missing or was changed"):
        with serve_bento(tmp_path / "bento", tmp_path, start_within=7):
            pass


HEAVY = {
    "feast",
    "mlflow",
    "ploomber",
    "evidently",
    "sklearn",
    "pandas",
    "pyarrow",
    "duckdb",
    "scipy",
    "joblib",
    "pickle5",
}


def test_the_serving_process_loads_neither_training_nor_feast_nor_pandas(served):
    # given the served Bento after all requests above; its memory map lists the native code that is loaded
    listening = psutil.Process(served.process)
    processes = [listening, *listening.children(recursive=True)]
    mapped = [{part for m in process.memory_maps() for part in Path(m.path).parts} for process in processes]
    (folders,) = [parts for parts in mapped if "onnxruntime" in parts]
    assert not folders & HEAVY


def test_the_service_imports_nothing_of_training(release, tmp_path):
    # given a process that loads a release and forecasts under another plan
    code = (
        "import sys, json; from pathlib import Path; import brewcast.serving.app as s; from brewcast.serving.release import Release\n"
        "from brewcast.serving.traffic import ServingState\n"
        f"serving = ServingState(Release(Path({str(release.folder)!r})))\n"
        "s.forecast_stores(serving, ['STORE120'], {'promotion_share': 0.5})\n"
        "print(*sorted(n for n in sys.modules if '.' not in n))"
    )
    environment = isolated_environment(tmp_path) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    # then it has imported nothing of training
    assert not set(done.stdout.split()) & HEAVY


# --- capacity and the log: the same application in uvicorn, with other settings


def test_over_capacity_some_requests_are_refused_and_the_others_are_answered_correctly(release, tmp_path):
    # given a service that lets 30 rows wait for the model, and forty clients that each ask for 26 rows
    many = {"store_ids": [f"STORE{101 + i}" for i in range(4, 30)], "plan": {"promotion_share": 0.4}}
    with run_application(release.folder, tmp_path, max_rows=30, few=0) as served, ThreadPoolExecutor(40) as clients:
        answers = list(clients.map(lambda _: raw_post(served.port, many), range(400)))
        counters = http_request(served.port, "GET", "/metrics")[1].decode()
    # then each gets a correct answer, or 503 in JSON with the time to wait
    correct = [body for status, _, body in answers if status == 200]
    refused = [(headers, body) for status, headers, body in answers if status == 503]
    assert len(correct) + len(refused) == 400 and correct and refused
    assert all(body == correct[0] and len(body) == 26 for body in correct)
    assert all(headers["retry-after"] == "1" and body["error"] == "over capacity" for headers, body in refused)
    assert f"brewcast_shed_total {len(refused)}.0" in counters


def raw_post(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/forecast", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())


def test_slow_bodies_time_out_and_do_not_block_other_clients(release, tmp_path):
    # given a service that accepts two bodies at once, and two clients that send half of a body
    half = b"POST /forecast HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    with run_application(release.folder, tmp_path, max_bodies=2) as served, contextlib.ExitStack() as connections:
        slow = [connections.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(2)]
        for connection in slow:
            connection.sendall(half)
            connection.settimeout(60)
        # then a third body is refused at once, the pages answer, and the slow bodies end with 408
        while post(served.port, ONE_STORE)[0] != 503:
            time.sleep(0.05)
        assert http_request(served.port, "GET", "/livez")[0] == 200
        in_flight = b"brewcast_requests_in_flight 2.0"  # the two slow bodies, without the request that asks
        assert in_flight in http_request(served.port, "GET", "/metrics")[1]
        assert all(b" 408 " in connection.recv(4096).split(b"\r\n")[0] for connection in slow)
        assert post(served.port, ONE_STORE)[0] == 200
        assert b"brewcast_requests_in_flight 0.0" in http_request(served.port, "GET", "/metrics")[1]


def test_the_bytes_of_all_arriving_bodies_have_a_limit(release, tmp_path):
    # given a service with room for 100,000 bytes of bodies, and two clients that stop after 60,000 bytes each
    head = b"POST /forecast HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 70000\r\n\r\n"
    with (
        run_application(release.folder, tmp_path, max_waiting=100_000) as served,
        contextlib.ExitStack() as connections,
    ):
        first, second = (
            connections.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=60))
            for _ in range(2)
        )
        for connection in (first, second):
            connection.sendall(head + b" " * 60_000)
        # then one of them gets 503 at once, and the other one 408 after the timeout
        statuses = sorted(connection.recv(4096).split()[1] for connection in (first, second))
        assert statuses == [b"408", b"503"]
        # and the room of both is free again: a single body of any allowed size is accepted
        status, content = post(served.port, b" " * 1_000_000 + json.dumps(ONE_STORE).encode())
        assert status == 200 and content[0]["store_id"] == "STORE101"


def test_the_log_has_json_lines_with_request_ids(release, tmp_path):
    with run_application(release.folder, tmp_path) as served:
        post(served.port, ONE_STORE, x_request_id="seen-me")
        post(served.port, {"store_ids": [SECRET]}, x_request_id="refused-me")
    lines = [json.loads(line) for line in served.log.read_text().splitlines()]
    requests = {line["request_id"]: line for line in lines if line.get("event") == "request"}
    assert requests["seen-me"]["status"] == 200 and requests["seen-me"]["stores"] == 1
    assert requests["refused-me"]["status"] == 404 and "hunter2" not in served.log.read_text()
    assert any(line["event"] == "serves" for line in lines)


def test_a_used_port_or_an_unknown_host_is_refused_before_a_release_is_loaded(tmp_path, monkeypatch):
    # given a port in use: it is refused first, although there is no release to serve
    monkeypatch.setenv("BREWCAST_STATE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(
            OSError, match=f"^port {port} of 127.0.0.1 is in use: choose another with --port, or PORT=3001"
        ):
            serve(port=port)
    with pytest.raises(OSError, match="^port 3000 of nowhere.invalid "):
        check_port_free("nowhere.invalid", 3000)
