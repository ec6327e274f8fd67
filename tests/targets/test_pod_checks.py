"Pods that start, stop, or are limited badly are found, also where nobody planted them before."

import pytest
from conftest import ROOT
from planting import objects_found

from brewcast.common.params import read_env
from brewcast.targets import pod_checks as checks

CONTAINER = ["spec", "template", "spec", "containers", 0]
JOB = ["spec", "jobTemplate", "spec", "template", "spec"]
IN_CONTAINER = "Deployment/brewcast spec.template.spec.containers[0]"
IN_JOB = "CronJob/brewcast-monthly spec"
CASES = [  # check, kind, change, what is found
    ("probes", "Deployment", {"remove": [*CONTAINER, "startupProbe"]}, f"{IN_CONTAINER}.startupProbe"),
    (
        "probes",
        "Deployment",
        {"set": [[*CONTAINER, "livenessProbe"], {"tcpSocket": {"port": "http"}}]},
        f"{IN_CONTAINER}.livenessProbe",
    ),
    (
        "probes",
        "Deployment",
        {"set": [[*CONTAINER, "readinessProbe", "httpGet", "path"], "/livez"]},
        f"{IN_CONTAINER}.readinessProbe.httpGet.path",
    ),
    (
        "probes",
        "Deployment",
        {"set": [[*CONTAINER, "readinessProbe", "httpGet", "scheme"], "HTTPS"]},
        f"{IN_CONTAINER}.readinessProbe.httpGet.scheme",
    ),
    (
        "probe_times",
        "Deployment",
        {"set": [[*CONTAINER, "readinessProbe", "periodSeconds"], 120]},
        f"{IN_CONTAINER}.readinessProbe.periodSeconds",
    ),
    (
        "probe_times",
        "Deployment",
        {"set": [[*CONTAINER, "livenessProbe", "failureThreshold"], 1]},
        f"{IN_CONTAINER}.livenessProbe.failureThreshold",
    ),
    ("stop", "Deployment", {"remove": [*CONTAINER, "lifecycle"]}, f"{IN_CONTAINER}.lifecycle.preStop"),
    (
        "stop",
        "Deployment",
        {"set": [[*CONTAINER, "lifecycle", "preStop", "sleep", "seconds"], 30]},
        "Deployment/brewcast spec.template.spec.terminationGracePeriodSeconds",
    ),
    (
        "commands",
        "Deployment",
        {"set": [[*CONTAINER, "lifecycle", "preStop"], {"exec": {"command": ["sleep", "10"]}}]},
        f"{IN_CONTAINER}.lifecycle.preStop.exec.command",
    ),
    (
        "resources",
        "Deployment",
        {"remove": [*CONTAINER, "resources", "limits", "memory"]},
        f"{IN_CONTAINER}.resources.limits.memory",
    ),
    ("resources", "CronJob", {"set": [[*JOB, "containers", 0, "resources", "limits", "memory"], "1Gi"]}, None),
    (
        "rollout",
        "Deployment",
        {"set": [["spec", "strategy"], {"type": "Recreate"}]},
        "Deployment/brewcast spec.strategy.type",
    ),
    (
        "rollout",
        "Deployment",
        {"set": [["spec", "revisionHistoryLimit"], 0]},
        "Deployment/brewcast spec.revisionHistoryLimit",
    ),
    ("monthly", "CronJob", {"set": [["spec", "schedule"], "15 6 * *"]}, f"{IN_JOB}.schedule"),
    ("monthly", "CronJob", {"set": [["spec", "timeZone"], "Europe/Londn"]}, f"{IN_JOB}.timeZone"),
    (
        "monthly",
        "CronJob",
        {"set": [[*JOB, "containers", 0, "name"], "step"]},
        f"{IN_JOB}.jobTemplate.spec.podFailurePolicy.rules[1].onExitCodes.containerName",
    ),
    ("monthly", "CronJob", {"remove": ["spec", "concurrencyPolicy"]}, f"{IN_JOB}.concurrencyPolicy"),
    ("monthly", "CronJob", {"set": [["spec", "startingDeadlineSeconds"], 5]}, f"{IN_JOB}.startingDeadlineSeconds"),
    (
        "monthly",
        "CronJob",
        {"set": [[*JOB, "containers", 0, "args", 0], "build"]},
        f"{IN_JOB}.jobTemplate.spec.template.spec.containers[0].args",
    ),
]


@pytest.mark.parametrize(("check", "kind", "change", "found"), CASES)
def test_pods_that_start_stop_or_are_limited_badly_are_found(check, kind, change, found):
    objects = objects_found(getattr(checks, f"check_{check}"), {"kind": kind, **change})
    assert found in objects if found else objects


def test_a_start_may_take_as_long_as_that_of_a_new_release():
    assert checks.START_SECONDS == read_env(ROOT)["package"]["start_within"]
