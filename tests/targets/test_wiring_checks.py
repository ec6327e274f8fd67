"Parts that do not fit together are found, also where nobody planted them before."

import pytest
from planting import objects_found

from brewcast.targets import wiring_checks as checks

LABEL = "app.kubernetes.io/component"
POD = ["spec", "template", "spec"]
CASES = [  # check, kind, change, what is found
    ("selectors", "Service", {"remove": ["spec", "selector", LABEL]}, "Service/brewcast spec.selector"),
    ("selectors", "Service", {"set": [["spec", "selector"], {}]}, "Service/brewcast spec.selector"),
    ("selectors", "Service", {"remove": ["spec", "selector"]}, "Service/brewcast spec.selector"),
    (
        "selectors",
        "PodDisruptionBudget",
        {"set": [["spec", "selector"], {}]},
        "PodDisruptionBudget/brewcast spec.selector",
    ),
    (
        "spread",
        "Deployment",
        {"set": [[*POD, "topologySpreadConstraints", 0, "labelSelector", "matchLabels", LABEL], "server"]},
        "Deployment/brewcast spec.template.spec.topologySpreadConstraints[0].labelSelector",
    ),
    (
        "container_ports",
        "Deployment",
        {"set": [[*POD, "containers", 0, "env", 0], {"name": "PORT", "value": "8080"}]},
        "Deployment/brewcast spec.template.spec.containers[0].ports",
    ),
    (
        "container_ports",
        "Deployment",
        {"set": [[*POD, "containers", 0, "livenessProbe", "httpGet", "port"], "web"]},
        "Deployment/brewcast spec.template.spec.containers[0].livenessProbe.httpGet.port",
    ),
    (
        "service_ports",
        "Service",
        {"set": [["spec", "ports", 0, "targetPort"], "web"]},
        "Service/brewcast spec.ports[0].targetPort",
    ),
    (
        "service_ports",
        "Service",
        {"remove": ["spec", "ports", 0, "targetPort"]},
        "Service/brewcast spec.ports[0].targetPort",
    ),
    ("ingress", "Ingress", {"remove": ["spec", "tls"]}, "Ingress/brewcast spec.rules[0].host"),
    ("ingress", "Ingress", {"remove": ["spec", "rules", 0, "host"]}, "Ingress/brewcast spec.rules[0].host"),
    ("ingress", "Ingress", {"remove": ["spec", "tls", 0, "secretName"]}, "Ingress/brewcast spec.tls[0].secretName"),
    (
        "ingress",
        "Ingress",
        {"set": [["spec", "rules", 0, "http", "paths", 1, "backend", "service", "name"], "brew"]},
        "Ingress/brewcast spec.rules[0].http.paths[1].backend.service.name",
    ),
    (
        "ingress",
        "Ingress",
        {"set": [["spec", "rules", 0, "http", "paths", 1, "backend", "service", "port"], {"number": 3000}]},
        "Ingress/brewcast spec.rules[0].http.paths[1].backend.service.port",
    ),
    (
        "autoscalers",
        "HorizontalPodAutoscaler",
        {"set": [["spec", "scaleTargetRef", "kind"], "StatefulSet"]},
        "HorizontalPodAutoscaler/brewcast spec.scaleTargetRef",
    ),
    (
        "autoscalers",
        "HorizontalPodAutoscaler",
        {"set": [["spec", "maxReplicas"], 1]},
        "HorizontalPodAutoscaler/brewcast spec.maxReplicas",
    ),
    (
        "autoscalers",
        "HorizontalPodAutoscaler",
        {"set": [["spec", "scaleTargetRef", "apiVersion"], "apps/v1beta1"]},
        "HorizontalPodAutoscaler/brewcast spec.scaleTargetRef",
    ),
    (
        "autoscalers",
        "HorizontalPodAutoscaler",
        {"set": [["spec", "metrics", 0, "resource", "name"], "processor"]},
        "HorizontalPodAutoscaler/brewcast spec.metrics[0].resource.name",
    ),
    (
        "ingress",
        "Ingress",
        {"set": [["spec", "rules", 0, "http", "paths", 2, "path"], "/forecasts"]},
        "Ingress/brewcast spec.rules[0].http.paths[2].path",
    ),
    ("ingress", "Ingress", {"remove": ["spec", "rules", 0]}, "Ingress/brewcast spec.rules"),
    ("autoscalers", "Deployment", {"set": [["spec", "replicas"], 2]}, "Deployment/brewcast spec.replicas"),
    ("budgets", "PodDisruptionBudget", {"set": [["spec", "maxUnavailable"], 0]}, "PodDisruptionBudget/brewcast spec"),
    (
        "budgets",
        "PodDisruptionBudget",
        {"rename": [["spec", "maxUnavailable"], "maxUnavailible"]},
        "PodDisruptionBudget/brewcast spec",
    ),
]


@pytest.mark.parametrize(("check", "kind", "change", "found"), CASES)
def test_parts_that_do_not_fit_are_found(check, kind, change, found):
    assert objects_found(getattr(checks, f"check_{check}"), {"kind": kind, **change}) == [found]


@pytest.mark.parametrize("rules", [[], [{"from": [], "ports": [{"port": 80}]}]])
def test_a_policy_that_closes_the_service_is_found(rules):
    change = {"kind": "NetworkPolicy", "name": "service", "set": [["spec", "ingress"], rules]}
    assert "NetworkPolicy/brewcast-service spec.ingress" in objects_found(checks.check_policies, change)


@pytest.mark.parametrize("key", ["from", "ports"])
def test_a_policy_that_lets_everyone_in_is_found(key):
    change = {"kind": "NetworkPolicy", "name": "service", "remove": ["spec", "ingress", 0, key]}
    assert objects_found(checks.check_policies, change) == [f"NetworkPolicy/brewcast-service spec.ingress[0].{key}"]


def test_a_policy_for_the_way_out_alone_is_found():
    change = {"kind": "NetworkPolicy", "name": "monthly", "set": [["spec", "policyTypes"], ["Egress"]]}
    assert objects_found(checks.check_policies, change) == ["NetworkPolicy/brewcast-monthly spec.policyTypes"]


def test_a_policy_without_dns_is_found():
    change = {"kind": "NetworkPolicy", "name": "service", "remove": ["spec", "egress", 0]}
    assert objects_found(checks.check_policies, change) == ["NetworkPolicy/brewcast-service spec.egress"]


def test_a_budget_is_measured_by_the_fewest_replicas():
    budget = {"minAvailable": 2, "selector": {"matchLabels": {LABEL: "service"}}}
    change = {"kind": "PodDisruptionBudget", "set": [["spec"], budget]}
    more = {"kind": "HorizontalPodAutoscaler", "set": [["spec", "minReplicas"], 3]}
    assert objects_found(checks.check_budgets, change) == ["PodDisruptionBudget/brewcast spec"]
    assert objects_found(checks.check_budgets, change, more) == []
