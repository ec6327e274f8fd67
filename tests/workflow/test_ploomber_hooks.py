"What is patched in Ploomber and papermill: `ploomber build` builds as brewcast does, and lessons are left out."

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
    told = run("ploomber build --env--gate--wins 9").err
    assert started_stages(told) == ["look"]
    assert stale_stages(toy) == ["look"]  # env.yaml says something else
    run("ploomber task look")
    assert stale_stages(toy) == []


def test_values_that_ploomber_itself_is_given_are_held_to_the_same(toy, run):
    for given, told in {
        "--env--gate--wins nine": "ploomber's --env: gate.wins is 'nine', where a value like 7 is taken",
        "--env--gate--gain much": "ploomber's --env: gate.gain is 'much', where a value like 0.01 is taken",
        "--env--source north-west": "'north-west' names no source",
    }.items():
        assert told in run(f"ploomber build {given}", fails=True).all
    assert stale_stages(toy) == []


def test_a_run_that_is_repeated_has_the_parameters_of_its_record_whatever_the_file_says(toy, run, tmp_path):
    # given the parameters that a run had, and a project that says something else
    record = tmp_path / "parameters.json"
    record.write_text(json.dumps({"look": {"wins": 5}, "clean": {"lags": [3]}, "gone": {"x": 1}}))
    # when Ploomber builds with them, then what they make another runs, with them
    told = run("ploomber build", BREWCAST_PARAMETERS=str(record))
    assert sorted(started_stages(told.err)) == ["clean", "judge", "look"]
    assert [(toy / f"products/near/{stage}/out.txt").read_text() for stage in ("look", "clean")] == ["5", "[3, 3]"]
    # and without them, the file's count again
    assert stale_stages(toy) == ["clean", "look", "judge"]


@pytest.fixture
def notebook(tmp_path):
    "A stage's notebook: parameters, an exported cell, a lesson that is wrong, and a Run that writes a file."
    cells = [
        new_code_cell("place = None", metadata={"tags": ["parameters"]}),
        new_code_cell("#| export\ndef twice(x):\n    return 2 * x"),
        new_code_cell("raise ValueError('a lesson ran')"),
        new_markdown_cell("## Run"),
        new_code_cell("#| eval: false\nprint(open(place, 'w').write(str(twice(4))))"),
        new_code_cell("#| eval: false\nif twice(4) == 8: raise KeyError('asked to fail')"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), tmp_path / "stage.ipynb")
    return tmp_path / "stage.ipynb"


def test_the_engine_runs_a_stage_without_its_lessons_and_what_it_writes_last_is_whole(notebook, tmp_path):
    register_engine()
    made, out = tmp_path / "made.txt", tmp_path / "executed.ipynb"
    # when a stage runs whose last cell fails
    with pytest.raises(papermill.PapermillExecutionError, match="asked to fail"):
        papermill.execute_notebook(notebook, out, {"place": str(made)}, engine_name="brewcast", progress_bar=False)
    # then its lesson did not run, its Run did, with the parameters that it was given
    assert made.read_text() == "8"
    # and the notebook is as it was when it ended, though it is written less often
    executed = [cell for cell in nbformat.read(out, 4).cells if cell.cell_type == "code"]
    ran = {cell.source.splitlines()[-1]: cell.execution_count for cell in executed}
    assert ran["raise ValueError('a lesson ran')"] is None
    outputs = {cell.source.splitlines()[-1]: cell.outputs for cell in executed}
    assert outputs["print(open(place, 'w').write(str(twice(4))))"][0].text == "1\n"
    assert outputs["if twice(4) == 8: raise KeyError('asked to fail')"][0].ename == "KeyError"
    assert "a lesson ran" not in json.dumps([cell.outputs for cell in executed])


def test_calls_that_come_too_soon_are_left_out_and_the_first_never_is():
    made = []
    seldom, always = (throttle(seconds, lambda *what: made.append(what)) for seconds in (math.inf, 0))
    for i in range(3):
        seldom("seldom", i)
        always("always", i)
    assert made == [("seldom", 0), ("always", 0), ("always", 1), ("always", 2)]


def test_to_hook_ploomber_again_wraps_nothing_twice():
    from ploomber.dag.dag import DAG
    from ploomber.products.product import Product
    from ploomber.tasks.abc import Task

    hook_ploomber()
    wrapped = lambda: [DAG._render_current, DAG._build, Task.build, Task._build, Product._outdated_code_dependency]  # noqa: E731
    before = wrapped()
    hook_ploomber()
    assert wrapped() == before
