"Values with a secret, a placeholder, a name that is there twice, or what the chart does not know are refused, with the place."

from pathlib import Path

import pytest
import yaml
from archives import AS_OF, SERVICE, good_values, image_digest, refusals, texts, toy_deployment

from brewcast.targets.deploy_check import DeployRequest, deploy_refusals
from brewcast.targets.value_checks import read_values


@pytest.fixture
def root(tmp_path) -> Path:
    return toy_deployment(tmp_path / "project")


REDIS = "redis://:hunter2@redis:6379/0"


@pytest.mark.parametrize(
    "text, problem",
    [
        (f"\n# onlineStore.url: {REDIS}\n", "a password in a URL is in a comment"),
        (f"\ningress: {{enabled: false, annotations: {{note: '{REDIS}'}}}}\n", "ingress.annotations.note: a password"),
        (f"\n{REDIS!r}: 1\n", "the document (a name)"),
        ("\nkey: |\n  -----BEGIN PRIVATE KEY-----\n  MIIEvQIBADAN\n", "key: a PEM block is inline"),
        ("\nmonitoring: {enabled: false, labels: {token: abc}}\n", "monitoring.labels.token: a value of a secret"),
        ("\nreplicas: 2\nreplicas: 3\n", "replicas is there twice"),
    ],
)
def test_a_secret_in_an_unusual_place_is_refused_and_not_repeated(root, text, problem):
    values = {
        name: value for name, value in good_values(root).items() if name not in ("ingress", "monitoring", "replicas")
    }
    found = texts(refusals(root, yaml.safe_dump(values) + text))
    assert problem in found and "hunter2" not in found and "MIIE" not in found


def test_a_placeholder_of_a_part_that_is_off_is_no_reason(root):
    values = good_values(root)
    for part in ("ingress", "apiKeys", "onlineStore", "monitoring"):
        values[part] = {"enabled": False}
    assert refusals(root, values) == []
    del values["image"]
    found = texts(refusals(root, values))
    assert "image.repository: the placeholder CHANGE-ME is left" in found
    assert f"image.digest: it is CHANGE-ME, but {root / SERVICE} is {image_digest(root)}" in found  # what to fill in


def test_another_digest_and_another_source_are_refused(root):
    values = good_values(root)
    values["image"]["digest"] = "sha256:" + "1a" * 32
    assert f"image.digest: it is {values['image']['digest']}, but" in texts(refusals(root, values))
    assert "source is simulated, but the release is walmart's" in texts(
        refusals(root, good_values(root), source="walmart")
    )


@pytest.mark.parametrize(
    "text, problem",
    [
        ("- 1\n", "no names with values"),
        ("a: [1\n", "is not YAML"),
        ("replica: 3\n", "replica"),
        ("a: &a [*a]\n", "line 1 refers to itself"),
    ],
)
def test_values_that_are_none_are_refused(root, text, problem):
    assert problem in texts(refusals(root, text))


@pytest.mark.parametrize("text", [None, "a: [1\n", "- 1\n"])
def test_of_values_that_cannot_be_read_only_that_is_said(root, text):
    if text is not None:
        (root / "none.yaml").write_text(text)
    request = DeployRequest(
        "simulated", str(root / SERVICE), "no stage.tar", root / "none.yaml", None, AS_OF, runs=False
    )
    [refusal] = deploy_refusals(root, request)
    assert "none.yaml" in refusal.where


@pytest.mark.parametrize(
    "part, value, meant",
    [
        ("replica", 3, "replicas"),
        ("ingress", {"enabled": False, "hots": "a.example"}, "host"),
        ("nodeselector", {}, "nodeSelector"),
    ],
)
def test_the_name_that_was_meant_is_suggested(root, part, value, meant):
    assert f"did you mean {meant}?" in texts(refusals(root, good_values(root) | {part: value}))


def test_a_file_of_values_that_is_missing_is_refused(root):
    assert "cannot be read" in texts(refusals(root, values=None) + read_values(root / "none.yaml")[1])
