"Every parameter of env.yaml has a type, every source's values have theirs, and a wrong value is named with what it must be."

import copy

import pytest
from conftest import ROOT

from brewcast.common.parameter_types import (
    Parameters,
    free_key_parameters,
    leaf_types,
    text_parameters,
    type_in_words,
    value_problems,
)
from brewcast.common.params import env_files, flatten_parameters, parameter_defaults, read_env


def test_the_parameters_with_a_type_are_those_that_the_pipeline_uses():
    env = read_env(ROOT)
    assert set(flatten_parameters(env, parameter_defaults(ROOT))) == set(leaf_types())
    assert all(type_in_words(name) for name in leaf_types())


@pytest.mark.parametrize("source", env_files(ROOT))
def test_the_values_of_every_source_have_their_types(source):
    env = read_env(ROOT, env_files(ROOT)[source])
    assert value_problems(env) == {}
    assert Parameters.model_validate(env).calendar.unit == env["calendar"]["unit"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("judged", 12.0, None),  # YAML may write a whole number so
        ("limits.rows", 1e8, None),
        ("judged", 12.5, "judged is 12.5, but must be a whole number"),
        ("judged", True, "judged is True, but must be a whole number"),
        ("max_change", 1, None),
        ("max_change", "1", "max_change is '1', but must be a number"),
        ("policy.every", None, None),
        ("policy.every", "monthly", "policy.every is 'monthly', but must be a whole number"),
        ("policy.on_drift", "yes", "policy.on_drift is 'yes', but must be true or false"),
        ("calendar.countries", {"USA": None, "*": "US"}, None),
        ("calendar.countries", ["US"], "calendar.countries is ['US'], but must be a mapping, such as {a: b}"),
        ("calendar.weekday", "mon", "calendar.weekday is 'mon', but must be one of MON, TUE, WED, THU, FRI, SAT, SUN"),
        ("train.weights", [0.5, None], "train.weights[1] is null, but must be a number"),
        ("unit", None, "unit is null, but must be a text"),
    ],
)
def test_a_value_of_another_type_is_named_with_what_it_must_be(path, value, message):
    env = copy.deepcopy(read_env(ROOT))
    *parents, name = path.split(".")
    group = env
    for parent in parents:
        group = group[parent]
    group[name] = value
    assert [*value_problems(env).values()] == ([message] if message else [])


def test_every_problem_is_named_at_once_and_names_that_have_no_type_are_none():
    problems = value_problems({"judged": 0, "coverage": 2, "of_my_own_stage": 1, "gate": {"mine": 1}})
    assert problems == {
        "judged": "judged is 0, but must be at least 1",
        "coverage": "coverage is 2, but must be at most 1",
    }


def test_text_and_free_keys_follow_from_the_types():
    assert free_key_parameters() == ["calendar.countries", "same_store"]
    not_text = {"returns", "judged", "through", "limits.rows", "train.weights", "policy.on_drift"}
    assert not not_text & set(text_parameters())
    assert {"files", "lacks", "zero_means", "calendar.unit", "quality.accept", "same_store"} <= set(text_parameters())
