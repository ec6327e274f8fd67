"""What `.ci/run` asks of the chart in less than a minute: it is compiled and rendered as it must be, valid, and clean.

The planted mistakes in manifests and values are caught by the library's checks, by a schema, or by Helm.
"""

import itertools

import pytest
import yaml
from checkers import EXAMPLE, TOOLS, own_findings, run_tool, schema_findings, template
from planting import (
    ROOT,
    WITH_AN_ORCHESTRATOR,
    plant,
    planted_documents,
    planted_mistakes,
    rendered_documents,
)

from brewcast.targets.chart import merged_values, rendered_files
from brewcast.targets.compiled import stale_files

IN_MANIFESTS = planted_mistakes("manifests")
IN_VALUES = planted_mistakes("values")
del IN_VALUES[WITH_AN_ORCHESTRATOR]  # `brewcast deploy check` refuses it: Helm does not know what else is sent
PARTS = {  # part of the chart -> its values without it; with it, those of the example
    "autoscaler": {"autoscaling": {"cpu": {"enabled": False}}},
    "ingress": {"ingress": {"enabled": False}},
    "keys": {"apiKeys": {"enabled": False}},
    "store": {"onlineStore": {"enabled": False}},
    "monthly": {"monthly": {"enabled": False}},
    "policies": {"networkPolicy": {"enabled": False}},
    "spread": {"topologySpread": {"enabled": False}},
    "monitoring": {"monitoring": {"enabled": False}},
}
OTHER_VALUES = {
    "KEDA": {"autoscaling": {"cpu": {"enabled": False}, "keda": {"enabled": True}}},
    "one replica": {"autoscaling": {"cpu": {"enabled": False}}, "replicas": 1},
    "three replicas without monitoring": {"monitoring": {"enabled": False}, "replicas": 3} | PARTS["autoscaler"],
    "a pod for a person": {"monthly": {"pod": True}},
    "other names": {"source": "walmart", "service": {"port": 8080, "type": "NodePort"}, "monitoring": {"labels": {}}},
}


def combinations() -> dict[str, dict]:
    "Values without each part, without each two parts, with each part alone, and some others."
    every = [*PARTS]
    chosen = [set(), *({part} for part in every), *map(set, itertools.combinations(every, 2)), set(every)]
    chosen += [set(every) - {part} for part in every]
    without = {f"without {', '.join(sorted(parts)) or 'nothing'}": sorted(parts) for parts in chosen}
    merged = {
        name: {key: value for part in parts for key, value in PARTS[part].items()} for name, parts in without.items()
    }
    return merged | OTHER_VALUES


def test_compiled_and_rendered_files_are_in_step():
    assert not stale_files(ROOT), "run `make compile`, and commit what it writes"
    changed = [name for name, text in rendered_files(ROOT).items() if (ROOT / name).read_text() != text]
    assert not changed, "run `make render`, and commit what it writes"


def test_helm_finds_nothing_in_the_chart():
    done = run_tool(TOOLS / "bin/helm", "lint", "--strict", "deploy/chart", "-f", "deploy/example-values.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_is_clean_with_every_combination_of_its_parts(tmp_path):
    variants = {}
    for name, values in combinations().items():
        done = template(merged_values(EXAMPLE, values), tmp_path)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        variants[name] = [document for document in yaml.safe_load_all(done.stdout) if document]
    for findings in (own_findings(variants), schema_findings(variants)):
        assert {name: found for name, found in findings.items() if found} == {}


@pytest.fixture(scope="module")
def findings() -> dict[str, dict[str, list[str]]]:
    "By checker and mistake: what it finds in the rendered manifests with the mistake."
    variants = {name: planted_documents(mistake) for name, mistake in IN_MANIFESTS.items()}
    return {"own": own_findings(variants), "schema": schema_findings(variants)}


def test_the_schemas_find_nothing_in_the_rendered_manifests():
    assert schema_findings({"rendered": rendered_documents()}) == {"rendered": []}


@pytest.mark.parametrize("name", IN_MANIFESTS)
def test_a_planted_mistake_in_the_manifests_is_found(findings, name):
    assert findings["own"][name] or findings["schema"][name]


@pytest.mark.parametrize("name", IN_VALUES)
def test_values_with_a_planted_mistake_are_refused(tmp_path, name):
    done = template(plant(EXAMPLE, IN_VALUES[name]), tmp_path)
    assert done.returncode == 1
    assert IN_VALUES[name]["set"][0][0] in done.stderr  # the part that is wrong is named


@pytest.mark.parametrize(
    ("release", "reason"), [("7up", "begins with a letter"), ("my.rel", "begins with a letter"), ("b" * 45, "44")]
)
def test_a_release_name_that_kubernetes_would_refuse_is_refused(tmp_path, release, reason):
    done = template(EXAMPLE, tmp_path, release)
    assert done.returncode == 1 and reason in done.stderr


@pytest.mark.parametrize("release", ["b", "brewcast-2", "b" * 44])
def test_other_release_names_are_taken(tmp_path, release):
    assert template(EXAMPLE, tmp_path, release).returncode == 0
