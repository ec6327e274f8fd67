"Files for orchestrators are known by what they hold, and what is sent together is asked together."

from datetime import date

import pytest
import yaml
from conftest import ROOT
from planting import COMPILED

from brewcast.targets.compiled_checks import (
    PROJECT_COMPILED,
    airflow_document,
    chart_schedule,
    compiled_documents,
    compiled_refusals,
    filled_in,
    overlap_refusals,
    project_schedule_refusals,
)


@pytest.mark.parametrize("name", PROJECT_COMPILED)
def test_nothing_is_wrong_with_what_the_project_compiles(name):
    assert list(compiled_refusals(ROOT / "deploy" / name, is_own=True)) == []


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("toy.yaml", "kind: Service\n", "of no orchestrator"),
        ("toy.yaml", "", "of no orchestrator"),
        ("toy.yaml", "- [", "is not YAML"),
        ("toy.py", "STEPS = [\n", "line 1 is not Python"),
        ("toy.py", "print(1)\n", "has no table STEPS"),
        ("toy.py", "STEPS = [1]\n", "has no table STEPS"),
    ],
)
def test_a_file_of_something_else_is_refused_with_the_reason(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    [refusal] = compiled_refusals(tmp_path / name)
    assert refusal.where == name and reason in refusal.what and "make compile" in refusal.way_out
    [missing] = compiled_refusals(tmp_path / "none.yaml")
    assert "No such file" in missing.what


def test_airflows_file_is_read_and_never_run(tmp_path):
    text = (ROOT / "deploy/airflow/brewcast.py").read_text()
    document = airflow_document(f"raise SystemExit(1)\n{text}")
    assert document["schedules"] == ["15 6 * * *"] and "publish" in document["steps"]


def test_a_secret_in_a_file_for_an_orchestrator_is_found_and_not_repeated(tmp_path):
    template, *others = compiled_documents(COMPILED["argo"])
    template["spec"]["arguments"]["parameters"][1]["value"] = "redis://:hunter2@redis:6379/0"
    (tmp_path / "argo.yaml").write_text(yaml.safe_dump_all([template, *others]))
    found = [str(refusal) for refusal in compiled_refusals(tmp_path / "argo.yaml", is_own=True)]
    assert any("a password in a URL" in text for text in found) and not any("hunter2" in text for text in found)


def test_placeholders_are_filled_in_at_every_depth():
    documents = compiled_documents(COMPILED["argo"])
    assert "CHANGE-ME" in yaml.safe_dump_all(documents)
    assert "CHANGE-ME" not in yaml.safe_dump_all(filled_in(documents))


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"source": "simulated", "monthly": {"enabled": True}}, 1),
        ({"source": "simulated", "monthly": {"enabled": False}}, 0),
        ({"source": "walmart", "monthly": {"enabled": True}}, 0),
        ({"source": "simulated", "monthly": "on"}, 0),  # the schema says so
    ],
)
def test_the_charts_schedule_beside_argos(values, count):
    found = list(overlap_refusals([COMPILED["argo"]], chart_schedule(values), "mine.yaml"))
    assert len(found) == count


def test_the_schedule_of_a_source_that_has_its_own_is_asked(tmp_path):
    schedule = {"cron": "15 6 * * *", "time_zone": "Etc/UTC", "ends": None}
    (tmp_path / "env.yaml").write_text(yaml.safe_dump({"source": "toy", "schedule": schedule}))
    pilot = {"meta": {"import_from": "env.yaml"}, "source": "pilot", "schedule": schedule | {"ends": "2026-01-31"}}
    (tmp_path / "env.pilot.yaml").write_text(yaml.safe_dump(pilot))
    assert list(project_schedule_refusals(tmp_path, "toy", date(2026, 11, 28))) == []
    [refusal] = project_schedule_refusals(tmp_path, "pilot", date(2026, 11, 28))
    assert refusal.where == "env.pilot.yaml, schedule.ends"
    assert list(project_schedule_refusals(tmp_path, "pilot", date(2026, 1, 31))) == []
