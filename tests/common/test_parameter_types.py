"Every parameter of env.yaml has a type, every source's values have theirs, and a wrong value is named with what it must be."

import copy

import pytest
from conftest import ROOT

from brewcast.common.parameter_types import (
    PARTNERS,
    ParameterGroup,
    Parameters,
    free_key_parameters,
    leaf_types,
    text_parameters,
    type_in_words,
    value_problems,
)
from brewcast.common.params import env_files, flatten_parameters, parameter_defaults, read_env
from brewcast.model.recipes import RATE_FEATURES


def test_the_parameters_with_a_type_are_those_that_the_pipeline_uses():
    env = read_env(ROOT)
    assert set(flatten_parameters(env, parameter_defaults(ROOT))) == set(leaf_types())
    assert all(type_in_words(name) for name in leaf_types())


@pytest.mark.parametrize("source", env_files(ROOT))
def test_the_values_of_every_source_have_their_types(source):
    env = read_env(ROOT, env_files(ROOT)[source])
    assert value_problems(env) == {}
    assert Parameters.model_validate(env).calendar.unit == env["calendar"]["unit"]


def defaults_of(group: type[ParameterGroup]) -> dict:
    "The defaults of a group's fields, and of the groups in it, by name."
    defaults = {}
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, ParameterGroup):
            defaults |= {f"{name}.{inner}": value for inner, value in defaults_of(field.annotation).items()}
        elif not field.is_required():
            defaults[name] = field.get_default(call_default_factory=True)
    return defaults


def test_every_default_of_a_type_is_that_of_the_parameters():
    defaults = defaults_of(Parameters)
    values = flatten_parameters(read_env(ROOT), parameter_defaults(ROOT))
    assert "calendar.weekday" in defaults
    assert defaults == {name: values[name] for name in defaults}


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
        (
            "calendar.weekday",
            "mon",
            "calendar.weekday is 'mon', but must be one of MON, TUE, WED, THU, FRI, SAT, SUN, or null",
        ),
        ("train.weights", [0.5, None], "train.weights[1] is null, but must be a number"),
        ("unit", None, "unit is null, but must be a text"),
        ("zero_means", "zero", "zero_means is 'zero', but must be one of value, gap, or null"),
        ("gate.min_gain", -1, "gate.min_gain is -1, but must be at least 0"),
        ("gate.min_months_won", 7, "gate.min_months_won is 7, but must be at most 1"),
        ("gate.max_p_value", 5, "gate.max_p_value is 5, but must be at most 1"),
        ("train.weights", [5], "train.weights[0] is 5, but must be at most 1"),
        ("train.weights", [], "train.weights is [], but must be at least one entry"),
        ("train.weights", [0], None),  # the partner alone
        ("coverage", 0, "coverage is 0, but must be above 0"),
        ("coverage", 1, "coverage is 1, but must be below 1"),
        ("monitor.false_alarms_a_year", 0, "monitor.false_alarms_a_year is 0, but must be above 0"),
        ("policy.every", 0, "policy.every is 0, but must be at least 1"),
        ("quality.months", -1, "quality.months is -1, but must be at least 1"),
        (
            "files",
            [{"name": "till", "columns": {"STORE": "text"}, "encoding": ""}],
            "files[0].encoding is '', but must be a text that is not empty",
        ),
        ("package.start_within", 0, "package.start_within is 0, but must be at least 1"),
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
        "coverage": "coverage is 2, but must be below 1",
    }


def test_the_partners_are_the_rates_of_the_features():
    assert sorted(PARTNERS) == sorted(RATE_FEATURES)


def test_text_and_free_keys_follow_from_the_types():
    assert free_key_parameters() == ["calendar.countries", "same_store"]
    not_text = {"returns", "judged", "through", "limits.rows", "train.weights", "policy.on_drift"}
    assert not not_text & set(text_parameters())
    assert {"files", "lacks", "zero_means", "calendar.unit", "quality.accept", "same_store"} <= set(text_parameters())
