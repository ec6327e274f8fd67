"The values of the chart: what is compiled fits together, the example is complete, and the schema refuses what it must."

import json
import re

import pytest
import yaml
from conftest import ROOT
from jsonschema import Draft7Validator

from brewcast.common.parameter_types import RunSettings
from brewcast.common.params import read_env
from brewcast.targets.chart import merged_values, value_findings
from brewcast.targets.chart_values import CHANGE_ME, ChartValues, values_schema

CHART = ROOT / "deploy/chart"
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
EXAMPLE = yaml.safe_load((ROOT / "deploy/example-values.yaml").read_text())
PLANTED = [
    mistake
    for mistake in yaml.safe_load((ROOT / "tests/targets/mistakes.yaml").read_text())
    if mistake["in"] == "values"
]
REFUSED = {  # place of the finding -> values
    "imge": {"imge": {"repository": "registry.example.com/brewcast"}},
    "image.tag": {"image": {"tag": "latest"}},
    "image.repository": {"image": {"repository": "registry.example.com/brewcast:latest"}},
    "image.digest": {"image": {"digest": "sha256:abc"}},
    "source": {"source": "no-name"},
    "replicas": {"replicas": 0},
    "replicas ": {"replicas": "2"},
    "resources.limits.memory": {"resources": {"limits": {"memory": "1GB"}}},
    "resources.limits.cpu": {"resources": {"limits": {"cpu": "many"}}},
    "resources.limits": {"resources": {"limits": None}},
    "autoscaling.keda.enabled": {"autoscaling": {"keda": {"enabled": True}}},
    "autoscaling.cpu.targetPercent": {"autoscaling": {"cpu": {"targetPercent": 170}}},
    "service.port": {"service": {"port": 80000}},
    "service.type": {"service": {"type": "clusterIP"}},
    "ingress.host": {"ingress": {"host": "https://forecast.example.com"}},
    "ingress.host ": {"ingress": {"host": CHANGE_ME}},
    "ingress.host  ": {"ingress": {"host": "forecast..example.com"}},
    "ingress.host   ": {"ingress": {"host": "forecast-.example.com"}},
    "predictions": {"predictions": "1Ki"},
    "ingress.tlsSecret": {"ingress": {"tlsSecret": ""}},
    "apiKeys.secret": {"apiKeys": {"secret": CHANGE_ME}},
    "onlineStore.url": {"onlineStore": {"url": "redis://redis:6379/0"}},
    "onlineStore": {"onlineStore": {"cidr": "10.2.0.0/16"}},  # and a namespace: which one?
    "onlineStore.cidr": {"onlineStore": {"namespace": "", "cidr": "999.1.1.1/16"}},
    "onlineStore.cidr ": {"onlineStore": {"namespace": "", "cidr": "10.2.0.0/99"}},
    "onlineStore.secret": {"onlineStore": {"secret": "redis://:hunter2@redis:6379/0"}},
    "monthly.schedule": {"monthly": {"schedule": "every morning"}},
    "monthly.alertmanager": {"monthly": {"alertmanager": "http://ann:hunter2@alertmanager:9093"}},
    "monthly.storage.size": {"monthly": {"storage": {"size": "much"}}},
    "stageImage.digest": {"stageImage": {"digest": CHANGE_ME}},
    "networkPolicy.monitoringNamespace": {"networkPolicy": {"monitoringNamespace": ""}},
    "topologySpread.keys": {"topologySpread": {"keys": []}},
    "monitoring.keySecret": {"monitoring": {"keySecret": ""}},
    "monitoring.intervalSeconds": {"monitoring": {"intervalSeconds": 300}},
    "nodeSelector.kubernetes.io/arch": {"nodeSelector": {"kubernetes.io/arch": 64}},
}


def test_compiled_values_are_those_of_the_models_and_fit_the_schema():
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema == values_schema()
    Draft7Validator.check_schema(schema)
    assert value_findings(ROOT, {}) == []
    assert ChartValues.model_validate(DEFAULTS) == ChartValues(source="simulated")


def test_every_object_of_the_schema_refuses_unknown_names():
    schema = values_schema()
    objects = [schema, *schema["$defs"].values()]
    assert len(objects) > 15 and all(each["additionalProperties"] is False for each in objects)


def test_patterns_are_those_that_go_knows():
    # Helm is written in Go, which has neither look-ahead nor back-references
    patterns = re.findall(r'"pattern": "(.*)"', json.dumps(values_schema(), indent=0))
    assert len(patterns) > 20 and not [pattern for pattern in patterns if re.search(r"\(\?[^:]|\\\\[1-9]", pattern)]


def test_every_value_has_a_comment():
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line
        for before, line in zip(lines, lines[1:], strict=False)
        if re.match(r" *\w+:", line) and "  # " not in line and not before.lstrip().startswith("# ")
    ]
    assert bare == []


def test_the_example_has_everything_on_and_nothing_left_open():
    assert value_findings(ROOT, EXAMPLE) == []
    values = merged_values(DEFAULTS, EXAMPLE)
    off = [name for name, part in values.items() if isinstance(part, dict) and part.get("enabled") is False]
    assert off == [] and CHANGE_ME not in yaml.safe_dump(values)


@pytest.mark.parametrize("path", REFUSED)
def test_the_schema_refuses_and_names_the_place(path):
    # given the example with one wrong value
    findings = value_findings(ROOT, merged_values(EXAMPLE, REFUSED[path]))
    # then that is found, and nothing else
    *parents, name = path.strip().split(".")
    places = {path.strip(), ".".join(parents) or "values"}  # an unknown name is a finding about its group
    assert findings and all(finding.split(": ")[0] in places or name in finding for finding in findings), findings


@pytest.mark.parametrize("mistake", PLANTED, ids=lambda mistake: mistake["mistake"])
def test_every_planted_mistake_in_the_values_is_refused(mistake):
    (name,), value = mistake["set"]
    assert value_findings(ROOT, {name: value})


@pytest.mark.parametrize(
    "values",
    [
        {"monthly": {"enabled": False}, "stageImage": {"repository": CHANGE_ME, "digest": CHANGE_ME}},
        {"ingress": {"enabled": False, "host": CHANGE_ME, "tlsSecret": CHANGE_ME}},
        {"apiKeys": {"enabled": False}, "monitoring": {"keySecret": ""}},
        {"autoscaling": {"cpu": {"enabled": False}, "keda": {"enabled": True}}},
        {"autoscaling": {"cpu": {"enabled": False}}},
        {"nodeSelector": {}, "monitoring": {"labels": {}}},
    ],
)
def test_a_part_that_is_off_needs_no_values(values):
    assert value_findings(ROOT, merged_values(EXAMPLE, values)) == []


def test_the_schedule_is_the_one_of_env_yaml():
    schedule = RunSettings.model_validate(read_env(ROOT)).schedule
    assert (DEFAULTS["monthly"]["schedule"], DEFAULTS["monthly"]["timeZone"]) == (schedule.cron, schedule.time_zone)
