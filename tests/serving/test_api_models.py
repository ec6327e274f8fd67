"What a valid request is, and how the error names each wrong field."

import json

import pytest

from brewcast.serving.api_models import RequestError, read_request


def refused(body) -> RequestError:
    "The error for a body, given as bytes or as an object that becomes JSON."
    with pytest.raises(RequestError) as refusal:
        read_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    return refusal.value


def fields(body) -> dict[str, str]:
    "Field -> its problem."
    return {each["field"]: each["message"] for each in refused(body).content["detail"]}


SECRET = "hunter2" * 9


@pytest.mark.parametrize(
    "body",
    [
        {"store_ids": ["S1", {SECRET: 1}]},
        {"store_ids": ["S1"], "plan": {"price": SECRET}},
        {"store_ids": ["S1"], "plan": SECRET},
        {"store_ids": SECRET},
        {"store_ids": [SECRET, SECRET]},
        f'{{"store_ids": ["{SECRET}"'.encode(),
        f'["{SECRET}"]'.encode(),
    ],
)
def test_the_error_does_not_repeat_what_was_sent(body):
    refusal = refused(body)
    assert SECRET[:20] not in json.dumps(refusal.content) and SECRET[:20] not in str(refusal)
