"The served Bento, asked as clients ask it: rightly, wrongly, and by many at once."

import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import joblib
import pytest
from releases import ROOT, made_products

from brewcast.core import read_json, read_parquet, write_json, write_parquet
from brewcast.package import build_bento, call, quiet_environment, serving, write_release
from brewcast.service import MAX_BODY, Forecaster, check_release, release_id

ANSWERED = {"store_id", "month", "forecast", "lower", "upper", "model_version", "features_as_of"}


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    "A release folder of 30 stores, and what it was made of."
    folder = tmp_path_factory.mktemp("release")
    made = made_products(folder / "products")
    (folder / "release").mkdir()
    write_release(folder / "release", made.table, made.online, made.forecast.parent, "numpy\n")
    return SimpleNamespace(folder=folder / "release", made=made)


@pytest.fixture(scope="session")
def served(release, tmp_path_factory):
    "The release's Bento, built and served once: some seven seconds."
    work = tmp_path_factory.mktemp("served")
    bento = build_bento(ROOT, release.folder, work)
    with serving(bento, work) as port:
        yield SimpleNamespace(port=port, log=work / "serve.log", bento=bento)


def post(port: int, body: bytes | dict, kind: str | None = "application/json", path: str = "/forecast", **headers):
    "POST, and the answer as (status, JSON)."
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, body, ({"content-type": kind} if kind else {}) | names)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def test_every_store_gets_what_the_model_says_in_the_order_asked(served, release):
    # given the stores, asked backwards
    table = release.made.table.iloc[::-1]
    status, answers = post(served.port, {"store_ids": table.store_id.tolist()})
    # then each answer is the model's own for the rows that Feast materialised
    model, online = joblib.load(release.folder / "model.joblib"), read_parquet(release.folder / "online.parquet")
    rows = online.set_index("series_id").loc[table.store_id, list(model.feature_names_in_)]
    assert status == 200
    assert [answer["store_id"] for answer in answers] == table.store_id.tolist()
    assert [answer["forecast"] for answer in answers] == pytest.approx(model.predict(rows).tolist(), rel=1e-12)
    assert [answer["lower"] for answer in answers] == pytest.approx(table.lower.tolist(), rel=1e-12)
    assert [answer["upper"] for answer in answers] == pytest.approx(table.upper.tolist(), rel=1e-12)
    described = read_json(release.folder / "release.json")
    for answer in answers:
        assert set(answer) == ANSWERED
        assert (answer["month"], answer["features_as_of"]) == ("2024-05-01", "2024-04-30")
        assert answer["model_version"] == described["release"]


def test_a_young_store_has_the_wider_interval(served):
    status, (grown, young) = post(served.port, {"store_ids": ["STORE101", "STORE106"]})
    assert status == 200
    assert grown["upper"] / grown["forecast"] == pytest.approx(1.1)
    assert young["upper"] / young["forecast"] == pytest.approx(1.4)


ONE = {"store_ids": ["STORE101"]}
DEEP = b'{"store_ids": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
SECRET = "hunter2" * 100
BAD = {  # body, content type, status, the field that the answer names
    "an unknown store": ({"store_ids": ["STORE101", "NOWHERE"]}, "application/json", 404, "store_ids[1]"),
    "an empty id": ({"store_ids": [""]}, "application/json", 404, "store_ids[0]"),
    "half a surrogate": (b'{"store_ids": ["\\ud800"]}', "application/json", 400, "store_ids[0]"),
    "half a surrogate in a name": (b'{"\\ud800": 1}', "application/json", 400, "\\ud800"),
    "an unknown field": (ONE | {"stores": 3}, "application/json", 400, "stores"),
    "a long unknown field": (ONE | {SECRET: 3}, "application/json", 400, f"{SECRET[:40]}..."),
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
    "a huge body": (b" " * (MAX_BODY + 1), "application/json", 413, "body"),
    "text": (ONE, "text/plain", 415, "content-type"),
    "no content type": (ONE, None, 415, "content-type"),
    "a wrong charset": (ONE, "application/json; charset=utf-16", 415, "content-type"),
    "a form": (b"store_ids=STORE101", "application/x-www-form-urlencoded", 415, "content-type"),
    "malformed multipart": (b"--x\r\nno end", "multipart/form-data", 415, "content-type"),
    "a pickle": (b"\x80\x04N.", "application/vnd.bentoml+pickle", 415, "content-type"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_a_4xx_that_names_the_field(served, name):
    # given a request that is wrong in one way
    body, kind, expected, field = BAD[name]
    # when it is posted
    status, content = post(served.port, body, kind)
    # then the status says so, the detail names the field, and what was sent is not sent back at length
    assert (status, content["detail"][0]["field"]) == (expected, field)
    assert set(content) == {"error", "detail"} and content["error"]
    assert set(content["detail"][0]) == {"field", "message"} and content["detail"][0]["message"]
    assert len(json.dumps(content)) < 3000


def test_ten_thousand_ids_are_not_too_many(served):
    status, content = post(served.port, {"store_ids": [f"S{i}" for i in range(10_000)]})
    assert (status, content["error"]) == (404, "no forecast for 10000 of 10000 stores")


def test_a_charset_and_capitals_in_the_content_type_are_fine(served):
    assert post(served.port, ONE, 'Application/JSON; charset="UTF-8"')[0] == 200


def test_a_compressed_body_is_refused(served):
    status, content = post(served.port, ONE, content_encoding="gzip")
    assert (status, content["detail"][0]["field"]) == (415, "content-encoding")


def test_a_body_that_does_not_say_how_long_it_is_has_the_same_limit(served):
    # given a chunked body that never seems to end
    def chunks():
        for _ in range(64):
            yield b" " * 100_000

    # then it is cut off
    assert post(served.port, chunks())[0] == 413


@pytest.mark.parametrize(
    "method, path, expected",
    [
        ("GET", "/forecast", 405),
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
    status, body = call(served.port, method, path)
    assert status == expected
    assert set(json.loads(body)) == {"error", "detail"}


def test_the_pages_load_nothing_from_the_network(served):
    # given every page that there is
    index = json.loads(call(served.port, "GET", "/")[1])
    for path in index["pages"]:
        status, body = call(served.port, "GET", path)
        # then it answers, and names no script and no foreign address
        assert status == 200
        assert b"<script" not in body and b"http://" not in body and b"https://" not in body, path


def test_openapi_describes_the_request_and_the_answer(served):
    described = json.loads(call(served.port, "GET", "/docs.json")[1])
    asked = described["paths"]["/forecast"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(asked["properties"]) == {"store_ids"}
    assert set(described["components"]["schemas"]["StoreForecast"]["properties"]) == ANSWERED


def test_counters_have_bounded_labels(served):
    # given a client that asks for many pages
    for i in range(20):
        call(served.port, "GET", f"/page{i}")
    # then they are one line
    counters = call(served.port, "GET", "/metrics")[1].decode()
    assert 'path="other",status="404"' in counters
    assert "page1" not in counters


def test_many_at_once_are_all_answered(served):
    # given eight clients, one of whom asks wrongly
    bodies = [{"store_ids": [f"STORE{101 + i % 30}"]} for i in range(80)]
    bodies[::10] = [{"store_ids": []}] * 8
    # when they ask at once
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda body: post(served.port, body), bodies))
    # then each gets its own answer
    for body, (status, content) in zip(bodies, answers, strict=True):
        assert status == (200 if body["store_ids"] else 400)
        assert not body["store_ids"] or content[0]["store_id"] == body["store_ids"][0]


def test_a_broken_connection_and_half_a_request_harm_nobody(served):
    # given a client that sends half of a body and leaves, and one that speaks no HTTP
    for sent in (
        b"POST /forecast HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        b"\0\0",
    ):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(sent)
    # then the next one is answered
    assert post(served.port, ONE)[0] == 200


def test_the_log_holds_no_input_and_no_error(served):
    # given everything that was asked above, and a request with something private in it
    post(served.port, {"store_ids": ["STORE101", SECRET]})
    post(served.port, {"store_ids": ["STORE101"], SECRET: 1})
    # then the log repeats none of it
    log = served.log.read_text()
    assert "hunter2" not in log and "NOWHERE" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("file", ["model.joblib", "online.parquet", "intervals.json", "golden.json"])
def test_a_file_that_was_changed_is_not_loaded(release, tmp_path, file):
    # given a release, one file of which has one more byte
    shutil.copytree(release.folder, tmp_path / "release")
    with open(tmp_path / "release" / file, "ab") as changed:
        changed.write(b" ")
    # then it is refused by name, before anything is unpickled
    with pytest.raises(ValueError, match=f"{file} is missing or was changed"):
        Forecaster(tmp_path / "release")


def test_a_description_that_was_changed_is_not_believed(release, tmp_path):
    shutil.copytree(release.folder, tmp_path / "release")
    described = read_json(tmp_path / "release" / "release.json")
    write_json(described | {"month": "2024-06-01"}, tmp_path / "release" / "release.json")
    with pytest.raises(ValueError, match="release.json was changed"):
        check_release(tmp_path / "release")


def renamed(folder, **changed):
    "Describe a release anew, hashes and all, as somebody would who knows how."
    described = read_json(folder / "release.json") | changed
    described["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in described["files"]}
    described["release"] = described["model_version"] = release_id(described)
    write_json(described, folder / "release.json")


def another_model(folder, made):
    model = joblib.load(folder / "model.joblib")
    model.weight = 0.4
    joblib.dump(model, folder / "model.joblib")


def other_rows(folder, made):
    write_parquet(made.online.assign(rate_mean3=made.online.rate_mean3 * 1.001), folder / "online.parquet")


def other_intervals(folder, made):
    (folder / "intervals.json").write_text('{"groups": {"own_season": [0.9, 1.2], "young": [0.7, 1.4]}}')


def nothing_at_all(folder, made):
    write_parquet(made.online.assign(rate_mean3=float("nan")), folder / "online.parquet")


@pytest.mark.parametrize("change", [another_model, other_rows, other_intervals, nothing_at_all])
def test_golden_rows_refuse_another_model_other_rows_and_other_settings(release, tmp_path, change):
    # given a release in which something was changed and every hash made right again
    shutil.copytree(release.folder, tmp_path / "release")
    change(tmp_path / "release", release.made)
    renamed(tmp_path / "release")
    # then its golden rows, or its own forecasts, refuse it
    with pytest.raises(ValueError, match="does not get its golden answer|is not a finite number"):
        Forecaster(tmp_path / "release")


def test_golden_rows_refuse_another_month(release, tmp_path):
    shutil.copytree(release.folder, tmp_path / "release")
    renamed(tmp_path / "release", month="2024-06-01")
    with pytest.raises(ValueError, match="does not get its golden answer"):
        Forecaster(tmp_path / "release")


def test_a_release_that_fails_its_check_is_never_ready(served, tmp_path):
    # given the Bento with a tampered model
    shutil.copytree(served.bento, tmp_path / "bento")
    with open(tmp_path / "bento" / "src" / "release" / "model.joblib", "ab") as changed:
        changed.write(b" ")
    # when it is served, it does not become ready
    with pytest.raises(RuntimeError, match="model.joblib is missing or was changed"):
        with serving(tmp_path / "bento", tmp_path, start_within=7):
            pass


def test_the_server_listens_on_the_loopback_unless_told_otherwise():
    # given the service's own configuration, which BENTOML_HOST and --host override
    from brewcast.service import Brewcast

    assert Brewcast.config["http"]["host"] == "127.0.0.1"


def test_the_service_imports_nothing_of_training(tmp_path):
    # given a process that only imports the service, as the Bento does
    code = "import sys, brewcast.service; print(*sorted(n for n in sys.modules if '.' not in n))"
    environment = quiet_environment(tmp_path) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    # then neither training nor exploring is in it; what the model needs comes with the worker
    assert not set(done.stdout.split()) & {"feast", "mlflow", "ploomber", "evidently", "sklearn", "pandas", "duckdb"}
