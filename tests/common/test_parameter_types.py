"Every parameter of env.yaml has a type, every source's values have theirs, and a wrong value is named with what it must be."

import pytest
from conftest import ROOT

from brewcast.common.parameter_types import (
    PARTNERS,
    ParameterGroup,
    Parameters,
    leaf_types,
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


def test_the_partners_are_the_rates_of_the_features():
    assert sorted(PARTNERS) == sorted(RATE_FEATURES)
