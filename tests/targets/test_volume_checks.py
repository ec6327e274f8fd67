"Volumes, claims, variables and accounts that do not fit are found, also where nobody planted them before."

import pytest
from planting import ROOT, objects_found

from brewcast.targets import volume_checks as checks
from brewcast.targets.chart import image_facts

SERVICE = ["spec", "template", "spec"]
MONTHLY = ["spec", "jobTemplate", "spec", "template", "spec"]
IN_SERVICE = "Deployment/brewcast spec.template.spec"
IN_MONTHLY = "CronJob/brewcast-monthly spec.jobTemplate.spec.template.spec"
CONTAINER = [*SERVICE, "containers", 0]
CASES = [  # check, kind, change, what is found
    (
        "mounts",
        "Deployment",
        {"remove": [*SERVICE, "volumes", 1]},
        [f"{IN_SERVICE}.containers[0].volumeMounts[1].name"],
    ),
    ("mounts", "CronJob", {"remove": [*MONTHLY, "containers", 0, "volumeMounts", 5]}, [f"{IN_MONTHLY}.volumes[1]"]),
    (
        "mounts",
        "CronJob",
        {"set": [[*MONTHLY, "containers", 0, "volumeMounts", 1, "subPath"], "state"]},
        [f"{IN_MONTHLY}.containers[0].volumeMounts[{i}].subPath" for i in (0, 1)],
    ),
    (
        "claim_access",
        "PersistentVolumeClaim",
        {"remove": ["spec", "accessModes"]},
        ["PersistentVolumeClaim/brewcast-state spec.accessModes"],
    ),
    (
        "claim_access",
        "CronJob",
        {"remove": [*MONTHLY, "securityContext", "fsGroup"]},
        [f"{IN_MONTHLY}.securityContext.fsGroup"],
    ),
    (
        "writable_folders",
        "Deployment",
        {"set": [[*CONTAINER, "volumeMounts", 1, "mountPath"], "/temp"]},
        [f"{IN_SERVICE}.containers[0].volumeMounts"],
    ),
    (
        "writable_folders",
        "CronJob",
        {"remove": [*MONTHLY, "containers", 0, "volumeMounts", 3]},
        [f"{IN_MONTHLY}.containers[0].volumeMounts"],
    ),
    (
        "variables",
        "Deployment",
        {"remove": [*CONTAINER, "env", 2, "valueFrom"]},
        [f"{IN_SERVICE}.containers[0].env[2].value"],
    ),
    (
        "empty_folders",
        "Deployment",
        {"set": [[*SERVICE, "volumes", 1, "emptyDir"], None]},
        [f"{IN_SERVICE}.volumes[1].emptyDir.sizeLimit"],
    ),
    (
        "claims",
        "PersistentVolumeClaim",
        {"set": [["metadata", "name"], "other"]},
        [f"{IN_MONTHLY}.volumes[0]", "PersistentVolumeClaim/other metadata.name"],
    ),
    (
        "lasting_folders",
        "CronJob",
        {"set": [[*MONTHLY, "containers", 0, "volumeMounts", 0, "mountPath"], "/app/stat"]},
        [f"{IN_MONTHLY}.containers[0].volumeMounts"],
    ),
    (
        "variables",
        "Deployment",
        {"set": [[*CONTAINER, "env", 0], {"name": "BREWCAST_MAX_LAG", "value": "soon"}]},
        [f"{IN_SERVICE}.containers[0].env"],
    ),
    (
        "variables",
        "Deployment",
        {"set": [[*CONTAINER, "env", 0], {"name": "BREWCAST_MEMORY", "value": "1GB"}]},  # of the commands
        [f"{IN_SERVICE}.containers[0].env[0].name"],
    ),
    (
        "variables",
        "CronJob",
        {"set": [[*MONTHLY, "containers", 0, "env", 0], {"name": "BREWCAST_MEMORY", "value": "1GB"}]},
        [],
    ),
    (
        "variables",
        "Deployment",
        {"set": [[*CONTAINER, "env", 0], {"name": "BREWCAST_PLATFORM", "value": "vertex"}]},
        [f"{IN_SERVICE}.containers[0].env"],
    ),
    ("service_links", "Deployment", {"remove": [*SERVICE, "enableServiceLinks"]}, [f"{IN_SERVICE}.enableServiceLinks"]),
    (
        "paths",
        "Deployment",
        {"set": [[*CONTAINER, "env", 0, "value"], "/logs"]},
        [f"{IN_SERVICE}.containers[0].volumeMounts"],
    ),
    (
        "paths",
        "Deployment",
        {"set": [[*CONTAINER, "env", 0, "value"], "/keys"]},  # a secret cannot be written
        [f"{IN_SERVICE}.containers[0].volumeMounts"],
    ),
    (
        "accounts",
        "ServiceAccount",
        {"set": [["metadata", "name"], "other"]},
        [f"{IN_SERVICE}.serviceAccountName", f"{IN_MONTHLY}.serviceAccountName", "ServiceAccount/other metadata.name"],
    ),
]


@pytest.mark.parametrize(("check", "kind", "change", "found"), CASES)
def test_volumes_and_variables_that_do_not_fit_are_found(check, kind, change, found):
    assert objects_found(getattr(checks, f"check_{check}"), {"kind": kind, **change}) == found


def test_the_folders_that_stages_write_are_the_volumes_of_their_image():
    folders = {f"{checks.PROJECT_FOLDER}/{name}" for name in checks.WRITTEN_FOLDERS}
    assert folders == set(image_facts(ROOT)["writable"])


def test_checking_variables_creates_no_folder(tmp_path):
    folder = tmp_path / "predictions"
    change = {"kind": "Deployment", "set": [[*CONTAINER, "env", 0, "value"], str(folder)]}
    objects_found(checks.check_variables, change)
    assert not folder.exists()
