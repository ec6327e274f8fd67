"A table of one's own that lacks the columns: every public function names them, none fails deep inside."

import importlib
import inspect
import re
import types
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import ibis
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ROOT
from planted import OWN_FRAMES

from brewcast.common.parameter_types import Calendar

MODULES = sorted(path for path in (ROOT / "brewcast").rglob("*.py") if not path.name.startswith("_"))
TABLE = re.compile(r"\b(DataFrame|Table)\b")


def other_table(annotation: str) -> object:
    "A table of the kind that a parameter takes, with a column that no function knows; in a dictionary or a list."
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    if "DataFrame" not in annotation:
        frame = ibis.memtable(frame) if "ibis" in annotation else pa.Table.from_pandas(frame)
    if annotation.startswith("dict"):
        return defaultdict(lambda: frame, store=frame)  # under every name
    return [frame] if annotation.startswith("list") else frame


def other_argument(parameter: inspect.Parameter, folder: Path) -> object:
    "A value that is right for any other parameter. A record, an axis or a model is one that answers to every name."
    annotation = inspect.formatannotation(parameter.annotation)
    by_type = {
        "Calendar": Calendar(unit="day", hemisphere="north", countries={"*": None}, decided_after_days=2),
        "Path": folder,
        "DatetimeIndex": pd.DatetimeIndex(["2024-01-01", "2024-02-01"]),
        "Timestamp": pd.Timestamp("2024-01-31"),
        "list": [],
        "dict": {},
        "str": "x",
        "int": 1,
        "float": 0.5,
    }
    if parameter.default is not inspect.Parameter.empty:
        return parameter.default
    words = set(re.findall(r"\w+", annotation))
    return next((value for name, value in by_type.items() if name in words), MagicMock())


def takes_table(parameter: inspect.Parameter) -> bool:
    return bool(TABLE.search(inspect.formatannotation(parameter.annotation)))


def own_frame_problem(function: Callable, folder: Path) -> str | None:
    "What a function does with a table that lacks its columns, unless it names them."
    arguments = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if takes_table(parameter):
            arguments[name] = other_table(inspect.formatannotation(parameter.annotation))
        elif parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            arguments[name] = other_argument(parameter, folder)
    try:
        function(**arguments)
    except Exception as error:  # each error is a finding
        if isinstance(error, ValueError) and "missing columns" in str(error):
            return None
        return f"{function.__name__}: {type(error).__name__}: {error}"
    return f"{function.__name__}: no error"


def functions_of_tables(module: types.ModuleType) -> dict[str, Callable]:
    "The public functions of a module with a parameter that is a table."
    functions = {name: getattr(module, name) for name in getattr(module, "__all__", [])}
    return {
        name: function
        for name, function in functions.items()
        if inspect.isfunction(function) and any(map(takes_table, inspect.signature(function).parameters.values()))
    }


@pytest.mark.parametrize("planted", OWN_FRAMES)
def test_a_function_that_does_not_name_the_columns_is_found(tmp_path, planted):
    code, problem = OWN_FRAMES[planted]
    module = types.ModuleType("toy")
    exec(f"__all__ = ['f']\nimport ibis\nimport pandas as pd\nimport pyarrow as pa\n\n\n{code}", module.__dict__)
    (function,) = functions_of_tables(module).values()
    assert own_frame_problem(function, tmp_path).startswith(problem)
