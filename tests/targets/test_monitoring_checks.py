"A service that is not scraped, and an alert that cannot fire, are found, also where nobody planted them before."

import pytest
import yaml
from conftest import ROOT
from planting import RENDERED, objects_found

from brewcast.targets import monitoring_checks as checks
from brewcast.targets.kubernetes_objects import Manifests, read_manifests

ENDPOINT = ["spec", "endpoints", 0]
CASES = [  # check, kind, change, what is found
    (
        "monitors",
        "ServiceMonitor",
        {"set": [["spec", "selector", "matchLabels"], {"app": "x"}]},
        "ServiceMonitor/brewcast spec.selector",
    ),
    (
        "monitors",
        "ServiceMonitor",
        {"set": [[*ENDPOINT, "path"], "/forecast"]},
        "ServiceMonitor/brewcast spec.endpoints[0].path",
    ),
    (
        "monitors",
        "Service",
        {"set": [["spec", "ports", 0, "name"], "web"]},
        "ServiceMonitor/brewcast spec.endpoints[0].port",
    ),
    (
        "scrape_keys",
        "ServiceMonitor",
        {"remove": [*ENDPOINT, "authorization"]},
        "ServiceMonitor/brewcast spec.endpoints[0].authorization",
    ),
    (
        "job_name",
        "ServiceMonitor",
        {"set": [["spec", "jobLabel"], "app.kubernetes.io/component"]},
        "ServiceMonitor/brewcast spec.jobLabel",
    ),
    (
        "job_name",
        "PrometheusRule",
        {"set": [["spec", "groups", 0, "rules", 0, "expr"], 'up{job="brew"} == 0']},
        "ServiceMonitor/brewcast spec.jobLabel",
    ),
    (
        "metrics",
        "PrometheusRule",
        {"set": [["spec", "groups", 0, "rules", 2, "expr"], "rate(brewcast_requests[5m]) > 1"]},
        "PrometheusRule/brewcast spec.groups[0].rules[2].expr",
    ),
    (
        "metrics",
        "PrometheusRule",
        {"set": [["spec", "groups", 0, "rules", 2, "expr"], "1 > 2"]},
        "PrometheusRule/brewcast spec.groups[0].rules[2].expr",
    ),
]


@pytest.mark.parametrize(("check", "kind", "change", "found"), CASES)
def test_what_is_not_scraped_or_cannot_fire_is_found(check, kind, change, found):
    assert found in objects_found(getattr(checks, f"check_{check}"), {"kind": kind, **change})


def test_rules_without_a_monitor_are_found():
    rules = read_manifests(RENDERED).of_kind("PrometheusRule")
    assert [found.object for found in checks.check_job_name(Manifests(rules))] == ["PrometheusRule/brewcast"]


def test_the_metric_of_the_autoscaler_is_one_of_the_service():
    (scaler,) = read_manifests(RENDERED.parent / "keda.yaml").of_kind("ScaledObject")
    assert list(checks.check_metrics(Manifests([scaler]))) == []
    scaler["spec"]["triggers"][0]["metadata"]["query"] = "sum(brewcast_request_in_flight)"
    assert len(list(checks.check_metrics(Manifests([scaler])))) == 1


def test_a_recorded_metric_may_be_used():
    rules = [
        {"record": "job:load", "expr": "sum(brewcast_requests_in_flight)"},
        {"alert": "Load", "expr": "job:load > 9"},
    ]
    assert list(checks.check_metrics(Manifests([{"groups": [{"rules": rules}]}]))) == []


def test_every_metric_of_the_rules_and_the_dashboard_is_read():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    expressions = [rule["expr"] for group in rules for rule in group["rules"]]
    names = set().union(*map(checks.metric_names, expressions))
    assert names - {"up"} and names <= checks.service_metrics() | {"up"}
    assert set().union(*map(checks.selected_jobs, expressions)) == {"brewcast"}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('a{b="c_d"} offset 5m', {"a"}),
        ("sum by (x) (a) / on (y) group_left (z) b", {"a", "b"}),
        ("max_over_time(a[1h:5m]) > bool 2e3", {"a"}),
        ("sum(a) by (x)", {"a"}),
        ("vector(1) and absent(b)", {"b"}),
        ('label_replace(a, "b", "$1", "c", "(.*)")', {"a"}),
    ],
)
def test_metrics_of_an_expression(expression, names):
    assert checks.metric_names(expression) == names
