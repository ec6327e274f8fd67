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

from brewcast.common.contracts import STORE_MONTH
from brewcast.common.parameter_types import Calendar
from brewcast.common.records import Recipe

TABLE = re.compile(r"\b(DataFrame|Table)\b")
FILES = sorted(path for path in (ROOT / "brewcast").rglob("*.py") if not path.name.startswith("_"))
MODULES = [path for path in FILES if TABLE.search(path.read_text())]
ARGUMENTS = {  # by parameter: values that a function reads before its tables, or that say which columns it needs
    "calendar": Calendar(unit="day", hemisphere="north", countries={"*": None}, decided_after_days=2),
    "categories": ["city"],
    "cleaned": {"lone_lines": [{"store_id": "S1"}]},
    "column": "weather",
    "columns": ["weather"],
    "numbers": ["rate_last"],
    "schema": STORE_MONTH,
    "through": "2024-01-01",
}
BY_POSITION = "any name may stand at a column: a row is a month, or a store in a strip"
ANY_COLUMNS = "it takes the columns that are there"
WRITES = "it writes each column as it is"
READS_FIRST = "it reads a record or files first; a function that it calls names the columns"
EXEMPT = {  # by function: why this way of calling it makes no sense
    "check_identical_stores": BY_POSITION,
    "concat_lines": ANY_COLUMNS,
    "coverage_by_month": "a table without intervals is one of a recipe that has none",
    "draw_lines": BY_POSITION,
    "draw_month_strips": BY_POSITION,
    "empty_feature_shares": ANY_COLUMNS,
    "empty_feature_table": ANY_COLUMNS,
    "encode_values": ANY_COLUMNS,
    "error_view": READS_FIRST,
    "expected_stores": BY_POSITION,
    "find_totals": BY_POSITION,
    "log_deviations": BY_POSITION,
    "numeric_columns": ANY_COLUMNS,
    "open_sale_lines": ANY_COLUMNS,
    "package": READS_FIRST,
    "plot_categories": BY_POSITION,
    "plot_errors": BY_POSITION,
    "plot_missing": BY_POSITION,
    "plot_model_lines": BY_POSITION,
    "plot_sales_by_month": BY_POSITION,
    "sort_by_all_columns": ANY_COLUMNS,
    "split_by_value": ANY_COLUMNS,
    "table_row": READS_FIRST,
    "unify_store_ids": ANY_COLUMNS,
    "without_dictionaries": ANY_COLUMNS,
    "write_explore_tables": WRITES,
    "write_feature_tables": WRITES,
    "write_monitor": WRITES,
    "write_parquet": WRITES,
    "write_releases": READS_FIRST,
    "write_sums": WRITES,
}


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
        "Recipe": Recipe(name="forest", params={}),
        "Path": folder,
        "DatetimeIndex": pd.DatetimeIndex(["2024-01-01", "2024-02-01"]),
        "Timestamp": pd.Timestamp("2024-01-31"),
        "list": [],
        "dict": {},
        "bytes": b"",
        "str": "x",
        "int": 1,
        "float": 0.5,
    }
    if parameter.name in ARGUMENTS:
        return ARGUMENTS[parameter.name]
    if parameter.default is not parameter.empty:
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


def module_of(path: Path) -> types.ModuleType:
    return importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def functions_of_tables(module: types.ModuleType) -> dict[str, Callable]:
    "The public functions of a module with a parameter that is a table."
    functions = {name: getattr(module, name) for name in getattr(module, "__all__", [])}
    return {
        name: function
        for name, function in functions.items()
        if inspect.isfunction(function) and any(map(takes_table, inspect.signature(function).parameters.values()))
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_function_names_the_columns_that_a_table_lacks(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    functions = functions_of_tables(module_of(path))
    problems = [own_frame_problem(function, tmp_path) for name, function in functions.items() if name not in EXEMPT]
    assert [problem for problem in problems if problem] == []


def test_a_function_with_an_exemption_exists():
    assert not set(EXEMPT) - {name for path in MODULES for name in functions_of_tables(module_of(path))}


@pytest.mark.parametrize("planted", OWN_FRAMES)
def test_a_function_that_does_not_name_the_columns_is_found(tmp_path, planted):
    code, problem = OWN_FRAMES[planted]
    module = types.ModuleType("toy")
    exec(f"__all__ = ['f']\nimport ibis\nimport pandas as pd\nimport pyarrow as pa\n\n\n{code}", module.__dict__)
    (function,) = functions_of_tables(module).values()
    assert own_frame_problem(function, tmp_path).startswith(problem)
