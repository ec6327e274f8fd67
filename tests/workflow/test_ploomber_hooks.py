"The patches of Ploomber and papermill: each has an effect, and what it patches is as it was when it was written."

import ast
import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from building import stale_stages
from conftest import ROOT, project_environment
from house import pinned_versions, source_hash
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from toy import ENV, FORKS, replace_in_file, started_stages

from brewcast.common.params import read_env, read_stages
from brewcast.workflow import ploomber_hooks
from brewcast.workflow.ploomber_hooks import (
    hook_ploomber,
    load_dag,
    open_as_last_built,
    ploomber_patches,
    register_engine,
    root_and_source,
)
from brewcast.workflow.runs import read_runs
from brewcast.workflow.staleness import read_stage_record

# What is patched or private, and the hash of its source when the patch was written. By module, class and method: the
# function in nbs/workflow/ploomber_hooks.ipynb that depends on it, and what to check there.
PRIVATE_PARTS = {
    ("ploomber.dag.dag", "DAG", "_render_current"): (
        "8996616e0206",
        "render_with_reasons: render, build and `ploomber status` still call it, with `force`, before they render tasks",
    ),
    ("ploomber.products.product", "Product", "_outdated_code_dependency"): (
        "0a5471c42159",
        "has_own_reason: it takes no argument and returns a bool",
    ),
    ("ploomber.products.product", "Product", "_outdated_data_dependencies"): (
        "574cb148bfc4",
        "has_upstream_reason: it takes no argument and returns a bool",
    ),
    ("ploomber.products.product", "Product", "_check_is_outdated"): (
        "6ff67b84692f",
        "has_own_reason and has_upstream_reason: it still asks both, and nothing else, for a product that exists",
    ),
    ("ploomber.dag.dag", "DAG", "_build"): (
        "bd47a51e3d46",
        "build_with_record: it still renders first, then calls the executor, and returns the report",
    ),
    ("ploomber.tasks.abc", "Task", "build"): (
        "356fa1908bd9",
        "build_one_with_lock: it still builds one task alone, by `_build`",
    ),
    ("ploomber.tasks.abc", "Task", "_build"): (
        "929ee954c2f2",
        "run_with_record and execute_task: it still runs the task, sets its status and returns report and metadata",
    ),
    ("ploomber.dag.dag", "DAG", "plot"): (
        "fd98423b6cc8",
        "plot_without_network: it still renders first, and returns the file's path or a frame with it as `src`",
    ),
    ("ploomber.tasks._params", "Params", "_setitem"): (
        "80838e24bd02",
        "set_task_parameter: it still sets one value of the parameters that the task runs with",
    ),
    ("papermill.engines", "Engine", "execute_notebook"): (
        "9bbe1c605a7b",
        "register_engine: it still saves the complete notebook after execute_managed_notebook",
    ),
    ("papermill.engines", "NBClientEngine", "execute_managed_notebook"): (
        "231b504c6d53",
        "register_engine: the engine still overrides it with the same arguments",
    ),
    ("papermill.engines", "NotebookExecutionManager", "save"): (
        "c2415627423e",
        "register_engine: it still only writes the notebook, so a call may be left out",
    ),
}


# --- what is patched is as it was


@pytest.mark.parametrize("distribution", ["ploomber", "papermill"])
def test_settings_ini_pins_what_is_locked_and_installed(distribution):
    assert len(set(pinned_versions(distribution))) == 1, pinned_versions(distribution)


@pytest.mark.parametrize("part", PRIVATE_PARTS, ids=".".join)
def test_what_is_patched_or_private_is_as_it_was_when_the_patch_was_written(part):
    module, owner, name = part
    expected, to_check = PRIVATE_PARTS[part]
    found = source_hash(getattr(getattr(importlib.import_module(module), owner), name))  # of the original, if patched
    assert found == expected, f"{module}: {owner}.{name} has changed. Check {to_check}; then write {found} here"


def test_every_patch_and_every_private_attribute_is_in_the_list():
    listed = {(owner, name) for _, owner, name in PRIVATE_PARTS}
    assert {(owner.__name__, name) for owner, name, _ in ploomber_patches()} <= listed
    # in the code: attributes with an underscore, of another object than the module's own
    own = {"os._exit", "super()._async_pre_start_kernel"}  # jupyter_client asks for an override of the second
    for path in [*sorted((ROOT / "brewcast/workflow").glob("*.py")), ROOT / "brewcast/cli.py"]:
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        private = {ast.unparse(node) for node in nodes if node.attr.startswith("_") and not node.attr.startswith("__")}
        private = {name for name in private - own if not name.startswith(("self.", "_warm_process."))}
        if path.name == "ploomber_hooks.py":
            assert {name.split(".")[-1] for name in private} == {"_setitem", "_build"}
        else:
            assert private == set(), path


# --- each patch has an effect


@pytest.fixture
def dag(toy, monkeypatch):
    "A function that loads the toy project's DAG in this process, as a build does."
    os.environ.update(FORKS)
    monkeypatch.chdir(toy)
    hook_ploomber()
    return lambda: load_dag(toy, {})


@pytest.fixture
def locked(monkeypatch):
    "The sources whose lock a build has taken."
    sources = []
    lock = ploomber_hooks.project_lock

    def note(root, source):
        sources.append(source)
        return lock(root, source)

    monkeypatch.setattr(ploomber_hooks, "project_lock", note)
    return sources


def statuses(dag) -> dict[str, str]:
    dag.render(show_progress=False)
    return {task.name: task.exec_status.value for task in dag.values()}


UP_TO_DATE = dict.fromkeys(["ingest", "clean", "look", "judge"], "skipped")


def rendering_finds_the_reasons(toy, dag, locked):
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 9"))
    dag = dag()
    dag.render(show_progress=False)
    assert [stage for stage, reasons in dag.brewcast.reasons.items() if reasons] == ["look"]


def a_changed_module_makes_a_stage_stale(toy, dag, locked):
    replace_in_file(toy / "brewcast/common/areas.py", "return x", "return x + 0")
    assert statuses(dag())["ingest"] == "waiting_execution"


def times_and_metadata_of_ploomber_make_no_stage_stale(toy, dag, locked):
    metadata = list(toy.glob("products/near/*/.*.metadata"))
    assert metadata
    for path in metadata:
        path.unlink()
    assert statuses(dag()) == UP_TO_DATE


def a_build_holds_the_lock_and_records_its_run(toy, dag, locked):
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 9"))
    before = len(read_runs(toy, "near"))
    dag().build(show_progress=False)
    assert locked == ["near"] and len(read_runs(toy, "near")) == before + 1


def a_single_task_holds_the_lock(toy, dag, locked):
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 9"))
    dag = dag()
    dag.render(show_progress=False)
    assert locked == []
    dag["look"].build()
    assert locked == ["near"] and (toy / "products/near/look/out.txt").read_text() == "9"


def a_task_leaves_its_record(toy, dag, locked):
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 9"))
    dag = dag()
    dag.render(show_progress=False)
    dag["look"].build()
    assert read_stage_record(toy, "near", "look").params["wins"] == 9


def a_plot_loads_nothing(toy, dag, locked):
    assert "://" not in Path(dag().plot("pipeline.html")).read_text().replace("http://www.w3.org/", "")  # names in XML


EFFECTS = {
    "_render_current": rendering_finds_the_reasons,
    "_outdated_code_dependency": a_changed_module_makes_a_stage_stale,
    "_outdated_data_dependencies": times_and_metadata_of_ploomber_make_no_stage_stale,
    "DAG._build": a_build_holds_the_lock_and_records_its_run,
    "Task.build": a_single_task_holds_the_lock,
    "Task._build": a_task_leaves_its_record,
    "plot": a_plot_loads_nothing,
}


@pytest.mark.parametrize("is_patched", [True, False], ids=["patched", "not patched"])
@pytest.mark.parametrize("number", range(len(EFFECTS)), ids=list(EFFECTS))
def test_a_patch_has_an_effect_and_without_it_there_is_none(toy, dag, locked, monkeypatch, number, is_patched):
    from ploomber.exceptions import DAGRenderError

    owner, name, _ = ploomber_patches()[number]
    key = list(EFFECTS)[number]
    assert key in (name, f"{owner.__name__}.{name}")
    if not is_patched:
        monkeypatch.setattr(owner, name, getattr(owner, name).__wrapped__)
    with contextlib.nullcontext() if is_patched else pytest.raises((AssertionError, DAGRenderError)):
        EFFECTS[key](toy, dag, locked)


def test_every_patch_has_a_test_of_its_effect():
    assert len(EFFECTS) == len(ploomber_patches())


def test_a_dag_that_is_not_rendered_says_whose_it_is(toy, dag):
    assert root_and_source(dag()) == (toy, "near")


def test_notebooks_open_with_the_parameters_of_the_last_build(toy, dag, monkeypatch):
    from ploomber.dag.dag import DAG

    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 9"))
    for is_lab, wins in [(False, 9), (True, 7)]:
        if is_lab:
            monkeypatch.setattr(DAG, "brewcast_lab", False, raising=False)  # restored after the test
            open_as_last_built()
        loaded = dag()
        loaded.render(show_progress=False)
        assert loaded["look"].params["wins"] == wins


def test_ploomber_is_loaded_without_large_libraries(toy):
    code = (
        "import sys; from pathlib import Path; from brewcast.workflow.ploomber_hooks import BLOCKED_IMPORTS, load_dag"
    )
    code += "; load_dag(Path('.').resolve(), {}); print('ploomber' in sys.modules, *(set(BLOCKED_IMPORTS) & {*sys.modules}))"
    options = {"cwd": toy, "env": project_environment(toy), "capture_output": True, "text": True, "check": True}
    assert subprocess.run([sys.executable, "-c", code], **options).stdout == "True\n"


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


def test_a_plot_shows_the_state_of_each_stage(toy, run):
    # given a changed parameter
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 9"))
    # when the pipeline is plotted, by both backends that write HTML
    for options, name in [("", "pipeline.html"), ("--backend mermaid -o drawn/plot.html", "drawn/plot.html")]:
        (toy / "drawn").mkdir(exist_ok=True)
        output = run(f"ploomber plot {options}")
        page = (toy / name).read_text()
        # then the output and the page say who has drawn it, and the page has the state and the reason
        assert f"Plot saved at: {name}" in output.out and "opens without a network" in output.err
        assert "FutureWarning" not in output.err and "Drawn by Brewcast" in page
        states = dict(re.findall(r"<b>(\w+)</b><span>(.*?)</span>", page))
        assert states == dict.fromkeys(["ingest", "clean", "judge"], "up to date") | {"look": "stale: 1 reason"}
        assert "wins: 7 -&gt; 9" in page
    # and what Ploomber refuses is still refused
    assert "cannot generate .png plots" in run("ploomber plot -o x.png", fails=True).all
    assert not (toy / "x.png").exists()


def test_a_plot_in_a_notebook_is_a_frame_with_the_same_page(toy, dag):
    frame = dag().plot()
    assert "Drawn by Brewcast" in (toy / frame.src).read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_plot_of_a_built_project_opens_in_a_browser_without_a_network(plotted, offline_browser, width, scheme):
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "offline": True}
    with offline_browser.new_context(**options) as context:
        page = context.new_page()
        complaints = []
        page.on("console", lambda line: complaints.append(line.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
        page.goto((plotted.root / "pipeline.html").as_uri())
        # then every stage is there, readable, with its state, and the page does not scroll sideways
        boxes = page.locator("a.box")
        assert boxes.locator("b").all_inner_texts() == list(read_stages(plotted.root, read_env(plotted.root)))
        assert set(boxes.locator("span").all_inner_texts()) == {"up to date"}
        assert all(box.is_visible() for box in boxes.all()) and boxes.count() == 9
        assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
        assert page.evaluate("[...document.querySelectorAll('.box *')].every(e => e.scrollWidth <= 172)")
        # and a click on a stage opens its report
        boxes.nth(6).click()
        page.wait_for_url("**/evaluate/evaluate.html")
    assert complaints == []


@pytest.fixture(scope="module")
def plotted(project):
    "The small project after `ploomber plot`: git sees no new file."
    project.run("git init -q && git add -A && git -c user.name=a -c user.email=a@example.com commit -qm start")
    project.run(". ./activate && ploomber plot")
    assert project.run("git status --porcelain").out == ""
    return project


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


def test_the_engine_saves_a_notebook_less_often_than_papermill(notebook, tmp_path, monkeypatch):
    from papermill import engines

    register_engine()
    writes = []
    monkeypatch.setattr(engines, "write_ipynb", lambda nb, path: writes.append(path))
    monkeypatch.setattr(ploomber_hooks, "SAVE_INTERVAL_SECONDS", 3600)
    counts = {}
    for name in ("brewcast", None):  # None: papermill's own engine
        with contextlib.suppress(papermill.PapermillExecutionError):
            parameters = {"path": str(tmp_path / "product.txt")}
            target = tmp_path / "executed.ipynb"
            papermill.execute_notebook(notebook, target, parameters, engine_name=name, progress_bar=False)
        counts[name] = len(writes)
        writes.clear()
    assert counts["brewcast"] == 3 < counts[None]  # at the start, once while it runs, and at the end
