"The mark of a temporary failure: real kernels, cold and forked, and the notebooks that they leave."

import json
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import ROOT

from brewcast.workflow import kernels
from brewcast.workflow.executor import PAPERMILL_OPTIONS
from brewcast.workflow.failure_marks import MARK_TEXT, has_mark
from brewcast.workflow.ploomber_hooks import register_engine


@pytest.fixture(params=["cold", "forked"])
def execute(request, tmp_path, monkeypatch):
    "Execute code in a kernel, with the build's options or others: the executed notebook."
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("BREWCAST_KERNELS", raising=False)
    register_engine()
    if request.param == "forked":
        kernels.start_warm_process({}, ["ipykernel.kernelapp"])

    def execute(code: str, **options) -> Path:
        metadata = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, id="run")], metadata=metadata)
        nbformat.write(notebook, tmp_path / "source.ipynb")
        executed = tmp_path / "executed.ipynb"
        try:
            papermill.execute_notebook(tmp_path / "source.ipynb", executed, **PAPERMILL_OPTIONS | options)
        except papermill.PapermillExecutionError as error:
            assert error.ename in code
        return executed

    yield execute
    kernels.end_warm_process()


def test_a_kernel_marks_temporary_failures_and_nothing_else(execute):
    executed = execute("import socket\nraise ConnectionRefusedError('no server')")
    assert has_mark(executed)
    outputs = json.loads(executed.read_text())["cells"][-1]["outputs"]
    assert [output["output_type"] for output in outputs] == ["error", "display_data"]
    assert "".join(outputs[1]["data"]["text/plain"]) == MARK_TEXT  # what a reader of the notebook sees
    assert not has_mark(execute("raise ValueError('Connection refused')"))


def test_a_cell_that_succeeds_is_the_same_with_and_without_the_extension(execute):
    code = "try:\n    raise ConnectionError('no server')\nexcept ConnectionError:\n    print('served')\n{'a': 1}"
    cells = []
    for options in ({}, {"extra_arguments": PAPERMILL_OPTIONS["extra_arguments"][:1]}):
        cell = json.loads(execute(code, **options).read_text())["cells"][-1]
        cells.append({key: cell[key] for key in ("source", "outputs", "execution_count")})
    assert cells[0] == cells[1] and len(cells[0]["outputs"]) == 2


def test_a_notebook_that_is_missing_or_cut_short_has_no_mark(tmp_path):
    assert not has_mark(tmp_path / "missing.ipynb")
    (tmp_path / "cut.ipynb").write_text('{"cells": [')
    assert not has_mark(tmp_path / "cut.ipynb")
