"The DAG file of Airflow is Python, says what the description of the DAG says, and is one file for each source."

import ast
import re

import pytest
from conftest import ROOT

from brewcast.cli import main
from brewcast.targets.airflow import airflow_dag, airflow_files, parameter_schema
from brewcast.targets.dag import RESOLVE, read_dag


def constants(text: str) -> dict[str, ast.expr]:
    "The module-level assignments of a DAG file."
    return {node.targets[0].id: node.value for node in ast.parse(text).body if isinstance(node, ast.Assign)}


def dag_arguments(text: str) -> dict[str, str]:
    "The keyword arguments of DAG(...), as Python."
    (call,) = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and ast.unparse(node.func) == "DAG"
    ]
    return {"dag_id": ast.unparse(call.args[0])} | {word.arg: ast.unparse(word.value) for word in call.keywords}


@pytest.fixture
def project(tmp_path):
    "What the DAG is read from: other retries, another schedule with an end."
    for name in ["nbs", "pipeline.yaml", "env.walmart.yaml"]:
        (tmp_path / name).symlink_to(ROOT / name)
    text = (ROOT / "env.yaml").read_text()
    for old, new in {"limit: 2": "limit: 5", "wait: 30": "wait: 7", "15 6 * * *": "0 3 1 * *"}.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "env.yaml").write_text(
        text.replace("ends: null", 'ends: "2026-12-31"').replace("Etc/UTC", "Europe/Paris")
    )
    return tmp_path


def test_steps_and_their_upstream_are_those_of_the_description():
    dag = read_dag(ROOT)
    steps = ast.literal_eval(constants(airflow_dag(ROOT, "walmart"))["STEPS"])
    assert [*steps] == [task.name for task in dag.tasks]
    for name, (upstream, arguments) in steps.items():
        assert upstream == dag.task(name).upstream
        filled = [re.sub(r"^\{\{ params\.(\w+) \}\}$", r"{\1}", word) for word in arguments]
        assert filled == dag.task(name).command


def test_retries_and_schedule_come_from_env_yaml(project):
    text = airflow_dag(project, "simulated")
    arguments = dag_arguments(text)
    assert arguments["schedule"] == "CronTriggerTimetable('0 3 1 * *', timezone='Europe/Paris')"
    assert arguments["end_date"] == "pendulum.datetime(2026, 12, 31, 23, 59, 59, tz='Europe/Paris')"
    assert "'retries': 5, 'retry_delay': timedelta(seconds=7.0)" in arguments["default_args"]
    assert "end_date" not in dag_arguments(airflow_dag(ROOT, "simulated"))


def test_runs_never_overlap_and_a_missed_one_is_not_repeated():
    arguments = dag_arguments(airflow_dag(ROOT, "simulated"))
    assert (arguments["max_active_runs"], arguments["catchup"]) == ("1", "False")


def test_only_the_retryable_status_is_tried_again():
    (execute,) = [
        node
        for node in ast.walk(ast.parse(airflow_dag(ROOT, "simulated")))
        if isinstance(node, ast.FunctionDef) and node.name == "execute"
    ]
    raised = [ast.unparse(node.exc.func) for node in ast.walk(execute) if isinstance(node, ast.Raise)]
    (tried_again,) = [
        node
        for node in ast.walk(execute)
        if isinstance(node, ast.If) and "AirflowException" in ast.unparse(node) and "Fail" not in ast.unparse(node)
    ]
    assert ast.unparse(tried_again.test) == f"status == {read_dag(ROOT).retryable_status}"
    assert raised.count("AirflowException") == 1 and {*raised} == {"AirflowException", "AirflowFailException"}


def test_each_source_has_a_dag_of_its_own_that_waits_for_its_data_and_takes_no_other():
    text = airflow_dag(ROOT, "walmart")
    assert dag_arguments(text)["dag_id"] == "'brewcast_walmart'"
    assert ast.literal_eval(constants(text)["WATCHED"])[0] == "data/walmart"
    (source,) = [parameter for parameter in read_dag(ROOT).parameters if parameter.name == "source"]
    assert f"'source': Param('walmart', description={source.description!r}, type='string', enum=['walmart'])" in (
        ast.unparse(constants(text)["PARAMETERS"])
    )


def test_the_first_step_alone_gets_what_the_starter_of_a_run_has_typed():
    steps = ast.literal_eval(constants(airflow_dag(ROOT, "simulated"))["STEPS"])
    typed = [
        name
        for name, (_, arguments) in steps.items()
        if {"{{ params.through }}", "{{ params.overrides }}"} & {*arguments}
    ]
    assert typed == [RESOLVE]


@pytest.mark.parametrize(
    ("name", "text", "fits"),
    [
        ("through", "", True),
        ("through", "2012-10", True),
        ("through", "2012-10-01", False),
        ("overrides", "", True),
        ("overrides", "train.seed=1 max_change=2", True),
        ("overrides", "quality.accept=[unit_shift:2012-10]", True),
        ("overrides", "train.seed", False),
        ("overrides", "quality.accept='[a, b]' train.seed=1", True),
    ],
)
def test_the_schema_of_a_parameter_takes_what_the_command_takes(name, text, fits):
    (parameter,) = [parameter for parameter in read_dag(ROOT).parameters if parameter.name == name]
    pattern = ast.literal_eval(parameter_schema(parameter).removeprefix("pattern="))
    assert bool(re.search(pattern, text)) == fits


def test_the_command_prints_the_file_or_writes_it(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    (text,) = airflow_files(ROOT).values()
    assert main(["deploy", "airflow"]) == 0
    assert capfd.readouterr().out == text
    assert main(["deploy", "airflow", "--source", "walmart", "--to", str(tmp_path / "dags/walmart.py")]) == 0
    assert (tmp_path / "dags/walmart.py").read_text() == airflow_dag(ROOT, "walmart")
