"What a valid request is, and how the error names each wrong field."

import json

import pytest

from brewcast.serving.api_models import ERROR_MESSAGES, MAX_STORES, ForecastRequest, Plan, RequestError, read_request


def refused(body) -> RequestError:
    "The error for a body, given as bytes or as an object that becomes JSON."
    with pytest.raises(RequestError) as refusal:
        read_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    return refusal.value


def fields(body) -> dict[str, str]:
    "Field -> its problem."
    return {each["field"]: each["message"] for each in refused(body).content["detail"]}


def test_a_request_keeps_its_letters_and_only_the_given_overrides():
    # given ids in other scripts, one with escaped letters, and a plan with one override
    request = read_request('{"store_ids": ["Café", "№ 7", "\\u65e5\\u672c"], "plan": {"price": 3}}'.encode())
    # then the ids are decoded, in the same order, and the plan has nothing but that override
    assert request.store_ids == ["Café", "№ 7", "日本"]
    assert request.plan.model_dump(exclude_none=True) == {"price": 3.0}
    assert read_request(b'{"store_ids": ["S1"]}').plan is None
    assert read_request(b'{"store_ids": ["S1"], "plan": null}').plan is None


@pytest.mark.parametrize(
    "plan",
    [
        {"promotion_share": 0},
        {"promotion_share": 1},
        {"holidays": 0},
        {"holidays": 31},
        {"price": 1e9},
        {"price": 0.01, "promotion_share": 0.5, "holidays": 2},
    ],
)
def test_the_limits_of_an_override_are_valid(plan):
    request = read_request(json.dumps({"store_ids": ["S1"], "plan": plan}).encode())
    assert request.plan.model_dump(exclude_none=True) == plan


@pytest.mark.parametrize(
    "plan, field",
    [
        ({"promotion_share": -0.01}, "plan.promotion_share"),
        ({"holidays": 32}, "plan.holidays"),
        ({"holidays": True}, "plan.holidays"),
        ({"price": 1.1e9}, "plan.price"),
        ({"price": True}, "plan.price"),
    ],
)
def test_a_value_beyond_a_limit_or_of_another_type_is_refused(plan, field):
    assert list(fields({"store_ids": ["S1"], "plan": plan})) == [field]


def test_all_wrong_fields_are_named_at_once():
    # given a request with five wrong fields
    messages = fields({"store_ids": ["S1", 7, None], "plan": {"price": "3", "weather": "hot"}, "at": 1})
    # then the error names each field, with our own message where there is one
    assert set(messages) == {"store_ids[1]", "store_ids[2]", "plan.price", "plan.weather", "at"}
    assert messages["store_ids[1]"] == ERROR_MESSAGES["string_type"]
    assert messages["plan.weather"] == messages["at"] == ERROR_MESSAGES["extra_forbidden"]


def test_an_error_names_at_most_twenty_fields():
    # given ten thousand ids of a wrong type, and then ids that repeat
    refusal = refused({"store_ids": list(range(MAX_STORES))})
    assert len(refusal.content["detail"]) == 20 and refusal.status == 400
    repeats = fields({"store_ids": ["S1", "S2"] * 50})
    # then the message of each repeated id names the first one
    assert len(repeats) == 20 and repeats["store_ids[2]"] == "the same as store_ids[0]"
    assert repeats["store_ids[3]"] == repeats["store_ids[5]"] == "the same as store_ids[1]"


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


def test_an_unknown_name_is_shortened_and_written_in_ascii():
    messages = fields(json.dumps({"store_ids": ["S1"], "é" * 100: 1}).encode())
    assert list(messages) == ["\\xe9" * 40 + "..."]


def test_the_error_for_broken_json_names_the_position():
    assert refused(b'{"store_ids": ["S1"').content["error"] == "the body is not valid JSON, at character 19"
    assert refused(b'{"plan": {"price": 1, "price": 2}}').content["detail"] == [
        {"field": "price", "message": "appears twice"}
    ]


def test_the_examples_in_openapi_are_valid_requests():
    properties = ForecastRequest.model_json_schema()["properties"]
    for ids in properties["store_ids"]["examples"]:
        for plan in [None, *properties["plan"]["examples"]]:
            request = read_request(json.dumps({"store_ids": ids, "plan": plan}).encode())
            assert request.store_ids == ids and request.plan == (plan and Plan(**plan))
