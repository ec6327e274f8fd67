"The patches of Ploomber and papermill: `ploomber build` builds in the same way as brewcast, and lessons are skipped."

import json
import math

import nbformat
import papermill
import pytest
from building import stale_stages
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from toy import started_stages

from brewcast.workflow.ploomber_hooks import hook_ploomber, register_engine, throttle


def test_ploomber_itself_builds_the_same_way(toy, run):
    assert started_stages(run("ploomber build --env--gate--wins 9").err) == ["look"]
    assert stale_stages(toy) == ["look"]  # env.yaml has another value
    run("ploomber task look")
    assert stale_stages(toy) == []


def test_parameters_on_ploomber_s_command_line_are_checked_in_the_same_way(toy, run):
    for arguments, message in {
        "--env--gate--wins nine": "ploomber's --env: gate.wins is 'nine', but must be a value like 7",
        "--env--gate--gain much": "ploomber's --env: gate.gain is 'much', but must be a value like 0.01",
        "--env--source north-west": "'north-west' is not a valid source name",
    }.items():
        assert message in run(f"ploomber build {arguments}", fails=True).all
    assert stale_stages(toy) == []


def test_a_repeated_run_has_the_parameters_of_its_record_not_those_of_the_file(toy, run, tmp_path):
    # given the recorded parameters of a run, and other ones in the project's file
    record = tmp_path / "parameters.json"
    record.write_text(json.dumps({"look": {"wins": 5}, "clean": {"lags": [3]}, "removed": {"x": 1}}))
    # when Ploomber builds with the recorded ones, then the stages that take them run with them
    output = run("ploomber build", BREWCAST_PARAMETERS=str(record)).err
    assert sorted(started_stages(output)) == ["clean", "judge", "look"]
    assert [(toy / f"products/near/{stage}/out.txt").read_text() for stage in ("look", "clean")] == ["5", "[3, 3]"]
    # and without the record, the parameters of the file apply again
    assert stale_stages(toy) == ["clean", "look", "judge"]


@pytest.fixture
def notebook(tmp_path):
    "A stage's notebook: parameters, an exported cell, a lesson that fails, and a Run that writes a file and then fails."
    cells = [
        new_code_cell("path = None", metadata={"tags": ["parameters"]}),
        new_code_cell("#| export\ndef twice(x):\n    return 2 * x"),
        new_code_cell("raise ValueError('a lesson ran')"),
        new_markdown_cell("## Run"),
        new_code_cell("#| eval: false\nprint(open(path, 'w').write(str(twice(4))))"),
        new_code_cell("#| eval: false\nif twice(4) == 8: raise KeyError('fails on purpose')"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), tmp_path / "stage.ipynb")
    return tmp_path / "stage.ipynb"


def test_the_engine_skips_lessons_and_saves_the_complete_notebook_at_the_end(notebook, tmp_path):
    register_engine()
    product, executed_path = tmp_path / "product.txt", tmp_path / "executed.ipynb"
    # when a stage runs and its last cell fails
    with pytest.raises(papermill.PapermillExecutionError, match="fails on purpose"):
        papermill.execute_notebook(
            notebook, executed_path, {"path": str(product)}, engine_name="brewcast", progress_bar=False
        )
    # then its Run has run, with its parameters, and its lesson has not
    assert product.read_text() == "8"
    # and the saved notebook is complete, though it is saved less often
    executed = [cell for cell in nbformat.read(executed_path, 4).cells if cell.cell_type == "code"]
    ran = {cell.source.splitlines()[-1]: cell.execution_count for cell in executed}
    assert ran["raise ValueError('a lesson ran')"] is None
    outputs = {cell.source.splitlines()[-1]: cell.outputs for cell in executed}
    assert outputs["print(open(path, 'w').write(str(twice(4))))"][0].text == "1\n"
    assert outputs["if twice(4) == 8: raise KeyError('fails on purpose')"][0].ename == "KeyError"
    assert "a lesson ran" not in json.dumps([cell.outputs for cell in executed])


def test_throttle_skips_calls_that_come_too_soon_but_never_the_first():
    calls = []
    seldom, always = (throttle(seconds, lambda *arguments: calls.append(arguments)) for seconds in (math.inf, 0))
    for i in range(3):
        seldom("seldom", i)
        always("always", i)
    assert calls == [("seldom", 0), ("always", 0), ("always", 1), ("always", 2)]


def test_hook_ploomber_patches_only_once():
    from ploomber.dag.dag import DAG
    from ploomber.products.product import Product
    from ploomber.tasks.abc import Task

    hook_ploomber()

    def patched_methods():
        return [DAG._render_current, DAG._build, Task.build, Task._build, Product._outdated_code_dependency]

    before = patched_methods()
    hook_ploomber()
    assert patched_methods() == before
