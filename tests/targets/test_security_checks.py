"Rights that are too wide, movable images, secrets and placeholders are found, also where nobody planted them before."

import pytest
from planting import objects_found, rendered_documents

from brewcast.targets import security_checks as checks
from brewcast.targets.kubernetes_objects import Manifests

POD = ["spec", "template", "spec"]
CONTAINER = [*POD, "containers", 0]
IN_CONTAINER = "Deployment/brewcast spec.template.spec.containers[0]"
DIGEST = "0123456789abcdef" * 4
CASES = [  # check, change of the Deployment, what is found
    (
        "users",
        {"set": [[*CONTAINER, "securityContext", "runAsNonRoot"], False]},
        f"{IN_CONTAINER}.securityContext.runAsNonRoot",
    ),
    (
        "users",
        {"remove": [*POD, "securityContext", "seccompProfile"]},
        f"{IN_CONTAINER}.securityContext.seccompProfile.type",
    ),
    (
        "container_rights",
        {"set": [[*CONTAINER, "securityContext", "privileged"], True]},
        f"{IN_CONTAINER}.securityContext.privileged",
    ),
    (
        "container_rights",
        {"remove": [*CONTAINER, "securityContext", "allowPrivilegeEscalation"]},
        f"{IN_CONTAINER}.securityContext.allowPrivilegeEscalation",
    ),
    (
        "container_rights",
        {"set": [[*CONTAINER, "securityContext", "capabilities", "drop"], ["NET_RAW"]]},
        f"{IN_CONTAINER}.securityContext.capabilities.drop",
    ),
    ("node_access", {"set": [[*POD, "hostNetwork"], True]}, "Deployment/brewcast spec.template.spec.hostNetwork"),
    ("node_access", {"set": [[*CONTAINER, "ports", 0, "hostPort"], 80]}, f"{IN_CONTAINER}.ports[0].hostPort"),
    (
        "node_access",
        {"set": [[*POD, "volumes", 0], {"name": "predictions", "hostPath": {"path": "/var"}}]},
        "Deployment/brewcast spec.template.spec.volumes[0].hostPath",
    ),
    (
        "images",
        {"set": [[*CONTAINER, "image"], f"registry.example.com/brewcast:1@sha256:{DIGEST[:-1]}"]},
        f"{IN_CONTAINER}.image",
    ),
    ("images", {"remove": [*CONTAINER, "image"]}, f"{IN_CONTAINER}.image"),
    (
        "secrets",
        {"set": [["metadata", "annotations"], {"note": "postgresql://brewcast:hunter2@db/feast"}]},
        "Deployment/brewcast metadata.annotations.note",
    ),
    (
        "secrets",
        {"set": [[*CONTAINER, "env", 0], {"name": "MLFLOW_TRACKING_TOKEN", "value": "abcd"}]},
        f"{IN_CONTAINER}.env[0].value",
    ),
    (
        "placeholders",
        {"set": [["metadata", "annotations"], {"owner": "change-me"}]},
        "Deployment/brewcast metadata.annotations.owner",
    ),
    ("placeholders", {"set": [[*CONTAINER, "env", 0, "value"], "<no value>"]}, f"{IN_CONTAINER}.env[0].value"),
]


@pytest.mark.parametrize(("check", "change", "found"), CASES)
def test_what_a_break_in_could_use_is_found(check, change, found):
    assert objects_found(getattr(checks, f"check_{check}"), {"kind": "Deployment", **change}) == [found]


def test_a_container_that_runs_first_has_no_more_rights():
    documents = rendered_documents()
    (deployment,) = Manifests(documents).of_kind("Deployment")
    deployment["spec"]["template"]["spec"]["initContainers"] = [{"name": "first", "image": "busybox"}]
    for check in (checks.check_images, checks.check_container_rights):
        assert "spec.template.spec.initContainers[0]" in list(check(Manifests(documents)))[0].path


@pytest.mark.parametrize("kind", ["data", "stringData"])
def test_a_secret_in_the_manifests_is_found(kind):
    secret = {"kind": "Secret", "metadata": {"name": "keys"}, kind: {"keys.json": "e30="}}
    assert [found.object for found in checks.check_secrets(Manifests([secret]))] == ["Secret/keys"]


def test_no_mistake_shows_the_secret():
    config = {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"url": "redis://:hunter2@redis:6379/0"}}
    (found,) = checks.check_secrets(Manifests([config]))
    assert "hunter2" not in str(found)
