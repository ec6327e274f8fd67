"Notebooks teach: a cell defines one thing, the run of a stage decides nothing, lessons assert, help() is enough."

import doctest
import importlib
import json
from pathlib import Path
from statistics import median

import pytest
from conftest import ROOT
from planted import CELLS, HELP, RUN_CELLS
from teaching import (
    ASSERTION,
    MAX_MEDIAN_LINES,
    MIN_LESSON_SHARE,
    cell_problems,
    exported_cells,
    help_problems,
    lesson_share,
    line_count,
    run_cell_problems,
    run_cells,
)

from brewcast.common.params import read_env, read_stages
from brewcast.workflow.notebooks import notebooks

NOTEBOOKS = {path.relative_to(ROOT / "nbs").with_suffix("").as_posix(): path for path in notebooks(ROOT)}
STAGES = {name: ROOT / stage.source for name, stage in read_stages(ROOT, read_env(ROOT)).items()}
MODULES = sorted(path for path in (ROOT / "brewcast").rglob("*.py") if not path.name.startswith("_"))


def notebook_of(folder: Path, *cells: str) -> Path:
    "A notebook with these code cells."
    path = folder / "toy.ipynb"
    content = [{"cell_type": "code", "source": source} for source in cells]
    path.write_text(json.dumps({"cells": [*content[:1], {"cell_type": "markdown", "source": "## Run"}, *content[1:]]}))
    return path


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_exported_cell_defines_one_thing_in_at_most_40_lines(name):
    cells = exported_cells(NOTEBOOKS[name])
    assert [(cell.splitlines()[1], cell_problems(cell)) for cell in cells if cell_problems(cell)] == []


def test_the_median_of_exported_cells_is_15_lines_or_less():
    assert median(line_count(cell) for path in NOTEBOOKS.values() for cell in exported_cells(path)) <= MAX_MEDIAN_LINES


@pytest.mark.parametrize("planted", CELLS)
def test_a_cell_that_is_too_much_is_found(tmp_path, planted):
    code, problem = CELLS[planted]
    (cell,) = exported_cells(notebook_of(tmp_path, f"#| export\n{code}", "#| export\nimport json"))
    assert problem in " ".join(cell_problems(cell))


@pytest.mark.parametrize("stage", STAGES)
def test_the_run_of_a_stage_reads_calls_writes_and_shows(stage):
    problems = {cell: run_cell_problems(cell) for cell in run_cells(STAGES[stage])}
    assert problems and {cell: found for cell, found in problems.items() if found} == {}


@pytest.mark.parametrize("planted", RUN_CELLS)
def test_a_run_that_decides_is_found(tmp_path, planted):
    code, problem = RUN_CELLS[planted]
    (cell,) = run_cells(notebook_of(tmp_path, "if lesson:\n    pass", f"#| eval: false\n{code}"))
    assert problem in " ".join(run_cell_problems(cell))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_3_lines_of_lessons_for_10_exported_ones(name):
    assert lesson_share(NOTEBOOKS[name]) >= MIN_LESSON_SHARE


def test_only_lessons_that_assert_count(tmp_path):
    export = "#| export\ndef f():\n    return 1\n\n\n"
    assert lesson_share(notebook_of(tmp_path, export, "f()\n" * 9)) == 0
    assert lesson_share(notebook_of(tmp_path, export, "#| eval: false\nassert f()")) == 0
    assert lesson_share(notebook_of(tmp_path, export, "#| hide\n\ntest_eq(f(), 1)\nf()")) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "docs/pages").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_guide_is_clean_and_asserts_what_it_shows(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]
    assert sum(bool(ASSERTION.search("".join(cell["source"]))) for cell in cells) >= len(cells) / 2


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_help_names_columns_and_errors(module):
    assert help_problems(module.read_text()) == []


@pytest.mark.parametrize("planted", HELP)
def test_help_that_leaves_something_out_is_found(planted):
    code, problem = HELP[planted]
    assert problem in " ".join(help_problems(code))
    assert help_problems(f"def _f(x):\n    return x\n\n\n{HELPFUL}") == []


HELPFUL = '''
def f(sales: pd.DataFrame) -> pa.Table:
    """Count lines.

    Needs `store_id`. Returns `store_id` and `lines`. Raises ValueError without rows.
    """
    if sales.empty:
        raise ValueError("no rows")
'''


MODULES_WITH_EXAMPLES = [path for path in MODULES if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", MODULES_WITH_EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_in_help_are_true(path):
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 and result.failed == 0
