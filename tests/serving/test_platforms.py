"The service on each platform: addresses, bodies, keys and counters. A wrong configuration is refused by name."

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from clients import ONE_STORE, post, run_service
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import ROOT, make_release

from brewcast.delivery.package import http_request, isolated_environment
from brewcast.serving.api_keys import add_key
from brewcast.serving.app import PAGES, Application, openapi_document, read_addresses, read_settings
from brewcast.serving.platforms import read_platform
from brewcast.serving.release import Release
from brewcast.serving.traffic import ServingState

HEALTH, PREDICT = "/v1/endpoints/1/deployedModels/2", "/v1/endpoints/1/deployedModels/2:predict"
VERTEX = {"AIP_HEALTH_ROUTE": HEALTH, "AIP_PREDICT_ROUTE": PREDICT}
SAGEMAKER, AZUREML = {"BREWCAST_PLATFORM": "sagemaker"}, {"BREWCAST_PLATFORM": "azureml"}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("release")).folder


def in_process(release, **variables):
    "The application without a server, ready: ask(method, path, body, **headers) -> status, content and headers."
    application = Application(environment={"BREWCAST_RELEASE": str(release)} | variables)
    application.service.switch.serving = ServingState(Release(release))

    def ask(method, path, body=b"", **headers):
        sent = []
        pairs = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        scope = {"type": "http", "method": method, "path": path, "query_string": b""}
        scope["headers"] = [(name.encode(), text.encode()) for name, text in pairs.items()]

        async def receive():
            return {"type": "http.request", "body": body if isinstance(body, bytes) else json.dumps(body).encode()}

        async def send(message):
            sent.append(message)

        asyncio.run(application(scope, receive, send))
        content = sent[1]["body"]
        is_json = dict(sent[0]["headers"])[b"content-type"] == b"application/json"
        headers = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
        return SimpleNamespace(
            status=sent[0]["status"], content=json.loads(content) if is_json and content else content, headers=headers
        )

    return ask


def fields(answer):
    return {problem["field"]: problem["message"] for problem in answer.content["detail"]}


# --- Vertex AI


def test_bentoml_serve_answers_vertex_ai(release, tmp_path):
    # given the service as `bentoml serve` starts it, with Vertex AI's variables
    command = [sys.executable, "-m", "bentoml", "serve", "brewcast.serving.bento:Brewcast", "--port", "PORT"]
    environment = isolated_environment(tmp_path) | {"PYTHONPATH": str(ROOT), "BREWCAST_RELEASE": str(release)} | VERTEX
    with run_service(command, tmp_path / "log", ready=HEALTH, cwd=tmp_path, env=environment) as service:
        # then the predictions of its address are the forecasts of the service's own
        body = {"instances": ["STORE120", {"store_id": "STORE105"}], "parameters": {"promotion_share": 0.5}}
        status, answer = post(service.port, body, path=PREDICT)
        own = {"store_ids": ["STORE120", "STORE105"], "plan": {"promotion_share": 0.5}}
        assert (status, answer) == (200, {"predictions": post(service.port, own)[1]})
        # and all of it is counted under the names of pages
        counters = http_request(service.port, "GET", "/metrics")[1].decode()
    assert 'brewcast_requests_total{path="/forecast",status="200"} 2.0' in counters
    assert 'path="/readyz",status="200"' in counters and "deployedModels" not in counters
    requests = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if '"request"' in line]
    assert [(line["path"], line["stores"]) for line in requests] == [("/forecast", 2), ("/forecast", 2)]


BAD = {  # body, status, the field that the answer names
    "an unknown store": ({"instances": ["STORE101", "NOWHERE"]}, 404, "instances[1]"),
    "an unknown store in an object": ({"instances": [{"store_id": "NOWHERE"}]}, 404, "instances[0].store_id"),
    "a number": ({"instances": ["STORE101", 102]}, 400, "instances[1]"),
    "a list": ({"instances": [["STORE101"]]}, 400, "instances[0]"),
    "an empty object": ({"instances": [{}]}, 400, "instances[0].store_id"),
    "another field in an object": ({"instances": [{"store_id": "STORE101", "x": 1}]}, 400, "instances[0].x"),
    "a store twice": ({"instances": ["STORE101", {"store_id": "STORE101"}]}, 400, "instances[1].store_id"),
    "half a surrogate": (b'{"instances": [{"store_id": "\\ud800"}]}', 400, "instances[0].store_id"),
    "a string for a list": ({"instances": "STORE101"}, 400, "instances"),
    "no instance": ({"instances": []}, 400, "instances"),
    "10,001 instances": ({"instances": [f"S{i}" for i in range(10_001)]}, 400, "instances"),
    "the service's own body": (ONE_STORE, 400, "instances"),
    "instances twice": (b'{"instances": ["STORE101"], "instances": []}', 400, "instances"),
    "an unknown parameter": ({"instances": ["STORE120"], "parameters": {"weather": 1}}, 400, "parameters.weather"),
    "a price of nothing": ({"instances": ["STORE120"], "parameters": {"price": 0}}, 400, "parameters.price"),
    "a plan that the source lacks": ({"instances": ["STORE120"], "parameters": {"price": 3}}, 409, "parameters.price"),
    "a store without a plan": (
        {"instances": ["STORE101"], "parameters": {"promotion_share": 0.5}},
        409,
        "parameters.promotion_share",
    ),
    "a list for the parameters": ({"instances": ["STORE120"], "parameters": []}, 400, "parameters"),
    "a list for the body": (b"[]", 400, "body"),
    "broken JSON": (b'{"instances": [', 400, "body"),
}


@pytest.fixture(scope="module")
def vertex(release):
    return in_process(release, **VERTEX)


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_instance_is_named_as_the_client_sent_it(vertex, case):
    body, status, field = BAD[case]
    answer = vertex("POST", PREDICT, body)
    assert answer.status == status and field in fields(answer)
    assert "store_ids" not in json.dumps(answer.content).replace("'store_ids'", "") or case == "the service's own body"


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["STORE101", "STORE120"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["store_id", "price", "x"]), inner),
    max_leaves=6,
)
ENVELOPES = st.fixed_dictionaries(
    {}, optional={"instances": JUNK, "parameters": JUNK, "store_ids": JUNK, "\ud800": JUNK}
)


@given(ENVELOPES | JUNK)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_strange_body_is_an_error_of_the_service(vertex, body):
    answer = vertex("POST", PREDICT, body)
    assert answer.status in (200, 400, 404, 409), answer.content
    if answer.status != 200:
        assert set(answer.content) == {"error", "detail"} and fields(answer)


def test_a_route_for_forecasts_takes_post_alone_and_json_alone(vertex):
    refused = vertex("GET", PREDICT)
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert refused.content["error"].startswith(f'POST {PREDICT} {{"instances": ')
    assert vertex("POST", PREDICT, {"instances": ["STORE101"]}, content_type="text/csv").status == 415
    assert vertex("POST", HEALTH).status == 405 and vertex("HEAD", HEALTH).status == 200
    assert vertex("GET", PREDICT + "/").status == 404


# --- SageMaker, Azure ML, and none


@pytest.mark.parametrize("variables, health, scoring", [(SAGEMAKER, "/ping", "/invocations"), (AZUREML, "/", "/score")])
def test_sagemaker_and_azure_ml_get_the_services_own_answers(release, variables, health, scoring):
    ask = in_process(release, **variables)
    assert ask("GET", health).status == 200
    answer = ask("POST", scoring, ONE_STORE)
    assert (answer.status, answer.content) == (200, ask("POST", "/forecast", ONE_STORE).content)
    assert "store_ids[0]" in fields(ask("POST", scoring, {"store_ids": [7]}))
    assert ask("GET", "/forecast").status == 200  # the service's own pages stay
    counters = ask("GET", "/metrics").content.decode()
    assert f'path="{scoring}"' not in counters and 'path="/ping"' not in counters


def test_without_a_platform_no_route_of_one_exists(release):
    # given the service with a port alone, as Cloud Run has it
    ask = in_process(release, PORT="8080")
    # then it has its own pages, and no other
    for path in ("/ping", "/invocations", "/score", HEALTH, PREDICT):
        assert ask("GET", path).status == ask("POST", path, ONE_STORE).status == 404
    assert set(ask("GET", "/").content["pages"]) == set(PAGES) and ask("POST", "/").status == 405
    assert ask("GET", "/docs.json").content == json.loads(json.dumps(openapi_document()))


def test_not_ready_means_not_healthy(release):
    application = Application(environment={"BREWCAST_RELEASE": str(release / "nowhere")} | SAGEMAKER)
    assert application.service.switch.serving is None
    sent = []

    async def send(message):
        sent.append(message)

    for method, path in (("GET", "/ping"), ("POST", "/invocations")):
        asyncio.run(application({"type": "http", "method": method, "path": path, "headers": []}, None, send))
    assert [message["status"] for message in sent[::2]] == [503, 503]


def test_keys_protect_the_route_for_forecasts_but_not_the_health_check(release, tmp_path):
    key = add_key(tmp_path / "keys.json", "planner")
    ask = in_process(release, **VERTEX, BREWCAST_API_KEYS=str(tmp_path / "keys.json"))
    body = {"instances": ["STORE101"]}
    assert ask("POST", PREDICT, body).status == 401 and ask("GET", HEALTH).status == 200
    assert ask("POST", PREDICT, body, authorization=f"Bearer {key}").status == 200


@pytest.mark.parametrize("variables", [VERTEX, SAGEMAKER, AZUREML])
def test_openapi_describes_the_routes_of_the_platform(variables):
    from openapi_spec_validator import validate

    platform = read_platform(variables)
    description = openapi_document(needs_key=True, addresses=read_addresses(platform))
    validate(json.loads(json.dumps(description)))
    assert set(platform.routes) <= set(description["paths"])


# --- wrong configurations

WRONG = {  # variables, what the message begins with
    "a route that is no path": (VERTEX | {"AIP_PREDICT_ROUTE": "predict"}, "AIP_PREDICT_ROUTE='predict' is not a path"),
    "a route with a query": (VERTEX | {"AIP_PREDICT_ROUTE": "/p?x=1"}, "AIP_PREDICT_ROUTE='/p\\?x=1' is not a path"),
    "one path for both": (VERTEX | {"AIP_PREDICT_ROUTE": HEALTH}, "AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE are both"),
    "a route alone": ({"AIP_PREDICT_ROUTE": PREDICT}, "AIP_HEALTH_ROUTE is missing"),
    "a page of another meaning": (VERTEX | {"AIP_PREDICT_ROUTE": "/metrics"}, "AIP_PREDICT_ROUTE='/metrics' is a page"),
    "a port of letters": (VERTEX | {"AIP_HTTP_PORT": "http"}, "AIP_HTTP_PORT='http' is not a port number"),
    "a port that is too large": ({"PORT": "65536"}, "PORT='65536' is not a port number"),
    "a Kubernetes link": ({"PORT": "tcp://10.0.0.1:80"}, "PORT='tcp://10.0.0.1:80' is not a port number"),
    "two platforms": (
        VERTEX | SAGEMAKER,
        "BREWCAST_PLATFORM=sagemaker \\(or the argument serve\\) and Vertex AI's AIP_HEALTH_ROUTE are both given",
    ),
    "an unknown platform": (
        {"BREWCAST_PLATFORM": "lambda"},
        "BREWCAST_PLATFORM='lambda': must be sagemaker or azureml",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_is_refused_by_name(case):
    variables, message = WRONG[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        read_settings(variables)


def test_bentoml_serve_ends_with_the_name_of_the_wrong_variable(tmp_path):
    command = [sys.executable, "-c", "import brewcast.serving.bento"]  # what `bentoml serve` does first
    environment = isolated_environment(tmp_path) | {"PYTHONPATH": str(ROOT), "AIP_PREDICT_ROUTE": PREDICT}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "AIP_HEALTH_ROUTE is missing" in done.stderr.splitlines()[-1]
