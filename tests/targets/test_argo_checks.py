"What Argo itself does not refuse is found in the compiled objects, also where nobody planted it before."

import pytest
from planting import COMPILED, is_meant, plant

from brewcast.targets import argo_checks as checks
from brewcast.targets.compiled_checks import compiled_documents, filled_in
from brewcast.targets.kubernetes_objects import Manifests, object_name

TRAIN = ["spec", "templates", 7]
CRON = ["spec", "workflowSpec"]
CASES = [  # check, kind, change, what is found
    ("workflow_references", "WorkflowTemplate", {"set": [["spec", "entrypoint"], "moth"]}, "spec.entrypoint"),
    (
        "workflow_references",
        "WorkflowTemplate",
        {"set": [["spec", "templates", 0, "dag", "tasks", 3, "template"], "explroe"]},
        "spec.templates[0].dag.tasks[3].template",
    ),
    (
        "workflow_references",
        "CronWorkflow",
        {"set": [[*CRON, "workflowTemplateRef", "name"], "tea"]},
        "spec.workflowSpec",
    ),
    (
        "workflow_references",
        "CronWorkflow",
        {"set": [[*CRON, "arguments"], {"parameters": [{"name": "sorce", "value": "tea"}]}]},
        "spec.workflowSpec.arguments.parameters[0].name",
    ),
    (
        "workflow_references",
        "WorkflowTemplate",
        {"remove": ["spec", "arguments", "parameters", 2]},
        "spec.templates[1]",
    ),
    (
        "workflow_parameters",
        "CronWorkflow",
        {"set": [[*CRON, "arguments"], {"parameters": [{"name": "source", "value": None}]}]},
        "spec.workflowSpec.arguments.parameters[0].value",
    ),
    (
        "state_volume",
        "WorkflowTemplate",
        {"set": [["spec", "templates", 1, "container", "volumeMounts"], []]},
        "spec.templates[1]",
    ),
    (
        "state_volume",
        "WorkflowTemplate",
        {"set": [["spec", "volumes", 0], {"name": "state", "emptyDir": {}}]},
        "spec.templates[1]",
    ),
    ("mutex", "WorkflowTemplate", {"set": [["spec", "synchronization", "mutexes"], []]}, "spec.synchronization"),
    ("mutex", "WorkflowTemplate", {"set": [["spec", "synchronization"], {"semaphores": [{}]}]}, "spec.synchronization"),
    (
        "retries",
        "WorkflowTemplate",
        {"remove": [*TRAIN, "retryStrategy", "limit"]},
        "spec.templates[7].retryStrategy.limit",
    ),
    (
        "retries",
        "WorkflowTemplate",
        {"set": [[*TRAIN, "retryStrategy", "retryPolicy"], "OnError"]},
        "spec.templates[7]",
    ),
    ("events", "EventSource", {"rename": [["spec", "webhook", "drift"], "drfit"]}, "spec.dependencies[0].eventName"),
    ("events", "Sensor", {"remove": ["spec", "dependencies", 1]}, "spec.triggers[0].template.conditions"),
    ("workflow_schedules", "CronWorkflow", {"set": [["spec", "schedules"], ["15 6 30 2 *"]]}, "spec.schedules[0]"),
    ("workflow_schedules", "CronWorkflow", {"set": [["spec", "timezone"], "Lodnon"]}, "spec.timezone"),
    ("workflow_schedules", "CronWorkflow", {"remove": ["spec", "schedules"]}, "spec.schedules"),
    ("workflow_schedules", "CronWorkflow", {"set": [["spec", "startingDeadlineSeconds"], 5]}, "spec.startingDeadline"),
]


def changed(kind: str, change: dict) -> Manifests:
    "The compiled objects with another value in the first object of a kind that has its place."
    documents = filled_in(compiled_documents(COMPILED["argo"]))
    mistake = {"mistake": "one more", "in": "argo", "kind": kind, **change}
    place = [number for number, document in enumerate(documents) if is_meant(document, mistake)][-1]
    documents[place] = plant(documents[place], mistake)
    return Manifests(documents)


@pytest.mark.parametrize(("check", "kind", "change", "place"), CASES)
def test_what_argo_does_not_refuse_is_found_with_its_place(check, kind, change, place):
    found = list(getattr(checks, f"check_{check}")(changed(kind, change)))
    assert found and found[0].path.startswith(place) and found[0].problem and found[0].remedy


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("WorkflowTemplate", {"set": [["spec", "synchronization"], {"mutex": {"name": "state"}}]}),
        ("WorkflowTemplate", {"set": [[*TRAIN, "retryStrategy", "limit"], "5"]}),
        ("WorkflowTemplate", {"set": [[*TRAIN, "retryStrategy", "expression"], 'lastRetry.exitCode == "75"']}),
        ("WorkflowTemplate", {"remove": [*TRAIN, "retryStrategy", "retryPolicy"]}),
        ("WorkflowTemplate", {"set": [["spec", "arguments", "parameters", 0, "value"], "walmart"]}),
        ("CronWorkflow", {"set": [["spec", "schedules"], ["15 6 * * MON", "0 9 1 * *"]]}),
        ("CronWorkflow", {"set": [["spec", "suspend"], True]}),
        ("Sensor", {"set": [["spec", "triggers", 0, "template", "conditions"], "data"]}),
    ],
)
def test_other_values_are_taken(kind, change):
    names = [name for name in checks.__all__ if name.startswith("check_")]
    assert [mistake for name in names for mistake in getattr(checks, name)(changed(kind, change))] == []


@pytest.mark.parametrize(
    ("expression", "statuses"),
    [
        ("asInt(lastRetry.exitCode) == 75", {75}),
        ("asInt(lastRetry.exitCode) in [75, 137]", {75, 137}),
        ("asInt(lastRetry.exitCode) != 3 && asInt(lastRetry.exitCode) < 5", {1, 2, 4}),
        ("!(asInt(lastRetry.exitCode) > 1)", {1}),
        ("lastRetry.exitCode == '4' || lastRetry.exitCode == '75'", {4, 75}),
        ("asInt(lastRetry.exitCode) == '75'", set()),
        ("lastRetry.status == 'Error'", None),
        ("open('/etc/passwd') == 1", None),
        ("asInt(lastRetry.exitCode) == ", None),
        ("1 < asInt(lastRetry.exitCode) < 5", None),
    ],
)
def test_which_statuses_an_expression_tries_again(expression, statuses):
    assert checks.retried_statuses(expression) == statuses


def test_two_schedules_of_one_source_are_found_whichever_they_are():
    documents = filled_in(compiled_documents(COMPILED["argo"]))
    (cron,) = [document for document in documents if document["kind"] == "CronWorkflow"]
    second = cron | {"metadata": {"name": "evening"}}
    other = {"workflowTemplateRef": {"name": "brewcast-simulated"}}
    other["arguments"] = {"parameters": [{"name": "source", "value": "walmart"}]}
    (mistake,) = checks.check_overlaps(Manifests([*documents, second]))
    assert mistake.object == "CronWorkflow/evening" and object_name(cron) in mistake.problem
    elsewhere = second | {"spec": cron["spec"] | {"workflowSpec": other}}
    assert list(checks.check_overlaps(Manifests([*documents, elsewhere]))) == []
    asleep = second | {"spec": cron["spec"] | {"suspend": True}}
    assert list(checks.check_overlaps(Manifests([*documents, asleep]))) == []
