"What a request must be: what is read from its bytes, and how each thing that is wrong with it is named."

import json

import pytest

from brewcast.serving.api_models import ERROR_MESSAGES, MAX_STORES, ForecastRequest, Plan, RequestError, read_request


def refused(body) -> RequestError:
    "The refusal of a body, bytes or what becomes JSON."
    with pytest.raises(RequestError) as refusal:
        read_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    return refusal.value


def fields(body) -> dict[str, str]:
    "Field -> what is wrong with it."
    return {each["field"]: each["message"] for each in refused(body).content["detail"]}


def test_a_request_is_read_with_all_its_letters_and_only_what_was_planned():
    # given ids of other scripts, one with an escaped letter, and a plan of one thing
    asked = read_request('{"store_ids": ["Café", "№ 7", "\\u65e5\\u672c"], "plan": {"price": 3}}'.encode())
    # then they are as they were meant, in the order asked, and the rest of the plan stays as planned
    assert asked.store_ids == ["Café", "№ 7", "日本"]
    assert asked.plan.model_dump(exclude_none=True) == {"price": 3.0}
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
def test_the_ends_of_what_may_be_planned_are_in_it(plan):
    asked = read_request(json.dumps({"store_ids": ["S1"], "plan": plan}).encode())
    assert asked.plan.model_dump(exclude_none=True) == plan


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
def test_a_step_beyond_is_refused_and_so_is_another_type(plan, field):
    assert list(fields({"store_ids": ["S1"], "plan": plan})) == [field]


def test_everything_that_is_wrong_is_named_at_once_in_words_of_our_own():
    # given a request with four things wrong
    told = fields({"store_ids": ["S1", 7, None], "plan": {"price": "3", "weather": "hot"}, "at": 1})
    # then each is named; for what is no matter of numbers with the message that clients are used to
    assert set(told) == {"store_ids[1]", "store_ids[2]", "plan.price", "plan.weather", "at"}
    assert told["store_ids[1]"] == ERROR_MESSAGES["string_type"]
    assert told["plan.weather"] == told["at"] == ERROR_MESSAGES["extra_forbidden"]


def test_the_first_twenty_of_many_wrong_things_are_named_and_none_is_repeated():
    # given ten thousand ids of a wrong type, and then all of them twice
    refusal = refused({"store_ids": list(range(MAX_STORES))})
    assert len(refusal.content["detail"]) == 20 and refusal.status == 400
    twice = fields({"store_ids": ["S1", "S2"] * 50})
    # then each that comes again says what it repeats
    assert len(twice) == 20 and twice["store_ids[2]"] == "the same as store_ids[0]"
    assert twice["store_ids[3]"] == twice["store_ids[5]"] == "the same as store_ids[1]"


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
def test_what_was_sent_is_not_in_the_refusal(body):
    refusal = refused(body)
    assert SECRET[:20] not in json.dumps(refusal.content) and SECRET[:20] not in str(refusal)


def test_a_name_that_is_not_ours_is_cut_and_written_in_ascii():
    told = fields(json.dumps({"store_ids": ["S1"], "é" * 100: 1}).encode())
    assert list(told) == ["\\xe9" * 40 + "..."]


def test_where_json_ends_too_early_the_place_is_named():
    assert refused(b'{"store_ids": ["S1"').content["error"] == "the body is not valid JSON, at character 19"
    assert refused(b'{"plan": {"price": 1, "price": 2}}').content["detail"] == [
        {"field": "price", "message": "appears twice"}
    ]


def test_the_examples_in_the_description_are_requests_that_are_read():
    properties = ForecastRequest.model_json_schema()["properties"]
    for ids in properties["store_ids"]["examples"]:
        for plan in [None, *properties["plan"]["examples"]]:
            asked = read_request(json.dumps({"store_ids": ids, "plan": plan}).encode())
            assert asked.store_ids == ids and asked.plan == (plan and Plan(**plan))
