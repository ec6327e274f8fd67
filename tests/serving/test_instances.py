"A request in Vertex AI's envelope becomes the service's own, and its errors keep the client's names."

import json

import pytest

from brewcast.serving.api_models import MAX_STORES, RequestError, read_request
from brewcast.serving.instances import read_instances


def test_the_request_is_the_one_that_the_service_would_read_itself():
    # given stores in both forms, with a plan and without
    for plan in (None, {}, {"price": 2.5, "holidays": 1}):
        enveloped = {"instances": ["S1", {"store_id": "S2"}], "parameters": plan}
        request, _ = read_instances(json.dumps(enveloped).encode())
        # then it equals the service's own request
        assert request == read_request(json.dumps({"store_ids": ["S1", "S2"], "plan": plan}).encode())


def test_the_most_instances_are_read_and_one_more_is_refused():
    many = [{"store_id": f"S{i}"} for i in range(MAX_STORES)]
    assert len(read_instances(json.dumps({"instances": many}).encode())[0].store_ids) == MAX_STORES
    with pytest.raises(RequestError) as refusal:
        read_instances(json.dumps({"instances": [*many, "S"]}).encode())
    assert refusal.value.content["detail"] == [
        {"field": "instances", "message": f"must have at most {MAX_STORES} items"}
    ]


SECRET = "hunter2" * 9


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ["S1", {"store_id": {SECRET: 1}}]},
        {"instances": [SECRET, {"store_id": SECRET}]},
        {"instances": SECRET},
        {"instances": ["S1"], "parameters": {"price": SECRET}},
        {"instances": ["S1"], "parameters": SECRET},
    ],
)
def test_the_error_does_not_repeat_what_was_sent(body):
    with pytest.raises(RequestError) as refusal:
        read_instances(json.dumps(body).encode())
    assert SECRET[:20] not in json.dumps(refusal.value.content)


def test_errors_of_the_service_get_the_clients_names():
    _, names = read_instances(b'{"instances": ["S1", {"store_id": "S2"}]}')
    error = RequestError(
        404, "e", {"store_ids[0]": "a", "store_ids[1]": "b", "plan.price": "c", "load": "d"}, {"X": "y"}
    )
    renamed = names.rename(error)
    assert [problem["field"] for problem in renamed.content["detail"]] == [
        "instances[0]",
        "instances[1].store_id",
        "parameters.price",
        "load",
    ]
    assert (renamed.status, renamed.headers) == (404, {"X": "y"})
