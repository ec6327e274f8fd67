"""Argo's objects say what the DAG says: who mounts the state, what is passed on, what is tried again, when it runs."""

import pytest
import yaml
from conftest import ROOT

from brewcast.cli import deploy_argo_command
from brewcast.targets.argo import argo_objects, argo_yaml, stage_facts
from brewcast.targets.chart_values import CHANGE_ME
from brewcast.targets.dag import read_dag

IMAGE = "registry.example.com:5000/team/brewcast-stage@sha256:" + "5" * 64


def read(text: str) -> dict[str, list[dict]]:
    "The objects by their kind."
    objects = {}
    for document in filter(None, yaml.safe_load_all(text)):
        objects.setdefault(document["kind"], []).append(document)
    return objects


@pytest.fixture(scope="module")
def dag():
    return read_dag(ROOT)


def compiled(dag) -> dict[str, list[dict]]:
    return read(argo_objects(dag, CHANGE_ME, stage_facts(ROOT), (ROOT / "deploy/argo/brewcast.yaml.j2").read_text()))


@pytest.fixture(scope="module")
def spec(dag):
    return compiled(dag)["WorkflowTemplate"][0]["spec"]


def mounts_of(spec: dict, claim: str) -> dict[str, bool]:
    "The tasks that mount a claim: whether they can write to it."
    (volume,) = [each["name"] for each in spec["volumes"] if claim in str(each)]
    found = {}
    for template in spec["templates"][1:]:
        for mount in template["container"]["volumeMounts"]:
            if mount["name"] == volume:
                found[template["name"]] = not mount.get("readOnly", False)
    return found


def test_only_publish_writes_to_the_state_and_nobody_to_the_data(dag, spec):
    assert mounts_of(spec, "brewcast-state") == {"resolve": False, "publish": True}
    assert mounts_of(spec, "brewcast-data") == {task.name: False for task in dag.tasks if task.data}


def test_every_task_can_write_what_the_image_says_but_nothing_else(spec):
    folders = {*stage_facts(ROOT).folders, "/tmp"}
    for template in spec["templates"][1:]:
        container = template["container"]
        places = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert places | {"/app/data"} == folders | {"/app/data"}, template["name"]
        assert container["securityContext"]["readOnlyRootFilesystem"]


def test_an_artifact_is_read_where_it_was_written_from_a_task_that_has_run(dag, spec):
    templates = {template["name"]: template for template in spec["templates"]}
    written = {}
    for task in spec["templates"][0]["dag"]["tasks"]:
        inputs = templates[task["name"]].get("inputs", {}).get("artifacts", [])
        sources = task.get("arguments", {}).get("artifacts", [])
        assert [each["name"] for each in inputs] == [each["name"] for each in sources] == task.get("dependencies", [])
        for artifact, source in zip(inputs, sources, strict=True):
            assert written[source["from"]] == artifact["path"]
        for artifact in templates[task["name"]].get("outputs", {}).get("artifacts", []):
            written[f"{{{{tasks.{task['name']}.outputs.artifacts.{artifact['name']}}}}}"] = artifact["path"]
    assert len(written) == len(dag.tasks) - 1


def test_retries_and_schedule_are_those_of_the_dag(dag):
    changed = dag.model_copy(
        update={
            "retries": dag.retries.model_copy(update={"limit": 5, "wait": 1.5}),
            "schedule": dag.schedule.model_copy(
                update={"cron": "0 3 1 * *", "time_zone": "Europe/London", "ends": "2028-02-29"}
            ),
        }
    )
    (run,), (cron,) = (compiled(changed)[kind] for kind in ("WorkflowTemplate", "CronWorkflow"))
    for template in run["spec"]["templates"][1:]:
        retry = template["retryStrategy"]
        assert (retry["limit"], retry["backoff"]["duration"]) == (5, "1.5s")
        assert retry["expression"] == "asInt(lastRetry.exitCode) == 75"
    assert (cron["spec"]["schedules"], cron["spec"]["timezone"]) == (["0 3 1 * *"], "Europe/London")
    assert 'date("2028-03-01", "2006-01-02", "Europe/London")' in cron["spec"]["stopStrategy"]["expression"]


def test_the_objects_of_another_source_stand_beside_those_of_the_first():
    # given a source whose name no object may have
    first, second = read(argo_yaml(ROOT, IMAGE)), read(argo_yaml(ROOT, IMAGE, "dominicks_oj"))
    names = [
        {each["metadata"]["name"] for of_kind in objects.values() for each in of_kind} for objects in (first, second)
    ]
    assert not names[0] & names[1] and "brewcast-dominicks-oj" in names[1]
    # then its run gets the source by its own name, waits for runs of the first, and is started by its own drift
    (template,), (sensor,) = second["WorkflowTemplate"], second["Sensor"]
    assert template["spec"]["arguments"]["parameters"][0]["value"] == "dominicks_oj"
    assert template["spec"]["synchronization"] == first["WorkflowTemplate"][0]["spec"]["synchronization"]
    (rule,) = sensor["spec"]["dependencies"][0]["filters"]["data"]
    assert 'labels.source=="dominicks_oj"' in rule["path"]
    assert {each["container"]["image"] for each in template["spec"]["templates"][1:]} == {IMAGE}


def test_references_between_the_objects_exist():
    objects = read(argo_yaml(ROOT, IMAGE))
    (template,), (cron,), (sensor,) = (objects[kind] for kind in ("WorkflowTemplate", "CronWorkflow", "Sensor"))
    name = template["metadata"]["name"]
    assert cron["spec"]["workflowSpec"]["workflowTemplateRef"]["name"] == name
    (trigger,) = [each["template"] for each in sensor["spec"]["triggers"]]
    assert trigger["k8s"]["source"]["resource"]["spec"]["workflowTemplateRef"]["name"] == name
    assert trigger["conditions"].split(" || ") == [each["name"] for each in sensor["spec"]["dependencies"]]
    events = {
        (source["metadata"]["name"], event)
        for source in objects["EventSource"]
        for kind in ("webhook", "minio")
        for event in source["spec"].get(kind, {})
    }
    assert {(each["eventSourceName"], each["eventName"]) for each in sensor["spec"]["dependencies"]} == events
    accounts = {each["metadata"]["name"] for each in objects["ServiceAccount"]}
    assert accounts == {template["spec"]["serviceAccountName"], sensor["spec"]["template"]["serviceAccountName"]}
    assert accounts == {subject["name"] for binding in objects["RoleBinding"] for subject in binding["subjects"]}
    (secret,) = objects["Secret"]
    assert secret["metadata"]["name"] == f"{name}.service-account-token" and "data" not in secret


@pytest.mark.parametrize(
    "image",
    ["brewcast-stage", "registry.example.com/brewcast-stage:1.0", IMAGE[:-1], IMAGE + "0", "@sha256:" + "5" * 64],
)
def test_an_image_without_its_digest_is_refused(image):
    with pytest.raises(ValueError, match="name the image by its digest"):
        argo_yaml(ROOT, image)


def test_the_command_prints_the_objects_or_writes_them(tmp_path, capsys):
    deploy_argo_command(ROOT, IMAGE, None, "walmart")
    printed = capsys.readouterr().out
    assert printed == argo_yaml(ROOT, IMAGE, "walmart")
    deploy_argo_command(ROOT, IMAGE, str(tmp_path / "argo.yaml"), "walmart")
    assert (tmp_path / "argo.yaml").read_text() == printed
