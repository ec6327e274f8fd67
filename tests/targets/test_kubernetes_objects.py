"Manifests are read as Kubernetes reads them: selectors, quantities, shares, and pods of each kind of workload."

import pytest
from planting import RENDERED, rendered_documents

from brewcast.targets.kubernetes_objects import (
    Manifests,
    Mistake,
    at,
    fewest_replicas,
    object_name,
    path_text,
    quantity,
    read_manifests,
    selects,
    share_of,
)


def test_the_rendered_manifests_have_pods_of_the_service_and_of_the_monthly_step():
    manifests = read_manifests(RENDERED)
    assert [object_name(pods.workload) for pods in manifests.pods()] == [
        "Deployment/brewcast",
        "CronJob/brewcast-monthly",
    ]
    for pods in manifests.pods():
        assert [path[-2:] for path, _ in pods.containers()] == [("containers", 0)]
        assert selects({"matchLabels": pods.labels}, pods.labels)


def test_the_autoscaler_says_how_many_replicas_there_are_at_least():
    manifests = Manifests(rendered_documents())
    assert fewest_replicas(manifests, manifests.named("Deployment", "brewcast")) == 2


def test_a_path_is_written_as_kubernetes_writes_it():
    assert path_text(("spec", "ports", 0, "name")) == "spec.ports[0].name"
    assert path_text(("metadata", "labels", "app.kubernetes.io/name")) == "metadata.labels[app.kubernetes.io/name]"


def test_a_mistake_is_one_sentence():
    mistake = Mistake("Service/a", "spec.selector", "matches no pods", "use the labels")
    assert str(mistake) == "Service/a: spec.selector: matches no pods: use the labels"


@pytest.mark.parametrize(
    ("selector", "is_selected"),
    [
        ({}, True),
        ({"matchLabels": {"a": "1", "b": "2"}}, True),
        ({"matchLabels": {"a": "1", "c": "3"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "c", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "in", "values": ["1"]}]}, False),
    ],
)
def test_a_selector_matches_as_in_kubernetes(selector, is_selected):
    assert selects(selector, {"a": "1", "b": "2"}) is is_selected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1Gi", 2**30),
        ("500m", 0.5),
        ("2", 2),
        (2, 2),
        ("1.5", 1.5),
        ("1e3", None),
        ("-1", None),
        ("1 Gi", None),
        (None, None),
    ],
)
def test_quantities(text, number):
    assert quantity(text) == number


def test_shares_are_rounded_down_or_up():
    assert [share_of("50%", 3), share_of("50%", 3, round_up=True), share_of("0%", 3), share_of(None, 3)] == [
        1,
        2,
        0,
        None,
    ]


def test_what_is_missing_or_of_another_type_is_the_default():
    assert at({"a": [1]}, "a", 0) == 1
    assert at({"a": [1]}, "a", 1, "b", default={}) == {}
    assert at({"a": "text"}, "a", default=[]) == []
    assert at(None, "a") is None


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.yaml").write_text("---\n# nothing\n---\n")
    with pytest.raises(ValueError, match="holds no object"):
        read_manifests(tmp_path / "empty.yaml")
