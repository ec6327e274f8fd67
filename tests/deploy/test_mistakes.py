"""Each planted mistake against each check that could catch it; what they catch is recorded in deploy/checked.json.

First each check finds nothing in what is committed: only so does a finding mean the mistake.
"""

import json
import os

import pytest
import yaml
from checkers import (
    EXAMPLE,
    TOOLS,
    VERSIONS,
    checkov_findings,
    checkov_of_manifests,
    hadolint_findings,
    hera_findings,
    kubeflow_findings,
    model_findings,
    own_findings,
    promtool_findings,
    run_tool,
    schema_findings,
    template,
)
from planting import (
    COMPILED,
    RENDERED,
    ROOT,
    RULES,
    WITH_AN_ORCHESTRATOR,
    parsed,
    plant,
    planted_documents,
    planted_mistakes,
)
from test_workflow import FOUND_BY as FOUND_IN_WORKFLOW  # each is tested there

from brewcast.targets.compiled_checks import compiled_documents

CAUGHT = ROOT / "scratch/deploy/caught.json"  # for record.py
GITHUB_TOOLS = {"schema": "schema of GitHub Actions"}  # its name in test_workflow
CONTAINERFILES = sorted((ROOT / "deploy/image").glob("Containerfile.*"))
SERVICE_FILE = ROOT / "deploy/image/Containerfile.service"
CLEAN = {path.name: list(parsed(path)) for path in sorted(RENDERED.parent.glob("*.yaml"))}


def without_events(documents: list[dict]) -> list[dict]:
    "Objects without those of Argo Events, of which there are no models."
    return [document for document in documents if document["kind"] not in ("EventSource", "Sensor")]


def test_the_models_find_nothing_in_the_rendered_manifests():
    variants = CLEAN | {"argo": without_events(compiled_documents(COMPILED["argo"]))}
    assert model_findings(variants) == {name: [] for name in variants}


def test_checkov_finds_nothing_in_the_rendered_manifests(tmp_path):
    assert checkov_of_manifests(CLEAN, tmp_path) == {name: [] for name in CLEAN}


def containerfile_findings(texts: dict[str, str], folder) -> dict[str, dict[str, list[str]]]:
    "What hadolint and checkov find in Containerfiles, by tool and name."
    for name, text in texts.items():
        (folder / name).mkdir()
        (folder / name / "Dockerfile").write_text(text)  # checkov knows this name only
    found = checkov_findings(folder, "dockerfile")
    return {
        "hadolint": {name: hadolint_findings(folder / name / "Dockerfile") for name in texts},
        "checkov": {name: found.get(name, []) for name in texts},
    }


def test_no_linter_finds_anything_in_the_containerfiles(tmp_path):
    texts = {path.suffix.strip("."): path.read_text() for path in CONTAINERFILES}
    found = containerfile_findings(texts, tmp_path)
    for name in ("base", "stage"):  # no server: the one is built upon, the other ends with its stage
        found["checkov"][name].remove("CKV_DOCKER_2")  # a health check
    assert found == {tool: {name: [] for name in texts} for tool in ("hadolint", "checkov")}


def test_promtool_finds_nothing_in_the_alert_rules(tmp_path):
    assert promtool_findings(parsed(RULES)[0], tmp_path) == []


@pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="no cluster: set KUBECONFIG to ask its API server")
@pytest.mark.parametrize("name", CLEAN)
def test_an_api_server_takes_what_is_rendered(name):
    done = run_tool(TOOLS / "bin/kubectl", "apply", "--dry-run=server", "-f", RENDERED.parent / name)
    assert done.returncode == 0, done.stderr


def refused_before_sending() -> list[str]:
    "The planted mistakes that `brewcast deploy check` refuses, by its own tests."
    options = ["-q", "-p", "no:cacheprovider", "-k", "planted_mistake", "tests/targets/test_deploy_check.py"]
    done = run_tool(ROOT / ".venv/bin/python", "-m", "pytest", *options)
    assert done.returncode == 0, done.stdout[-3000:]
    return [*planted_mistakes("image", "values", "schedule", "stage image")]


@pytest.fixture(scope="module")
def caught(tmp_path_factory) -> dict[str, list[str]]:
    "Each planted mistake with the checks that catch it."
    found = {name: set() for name in planted_mistakes()}
    places = ("manifests", "argo", "kubeflow")
    variants, argo, kubeflow = (
        {name: planted_documents(mistake) for name, mistake in planted_mistakes(place).items()} for place in places
    )
    by_tool = {
        "schemas of Kubernetes": schema_findings(variants),
        "models of objects": model_findings(
            variants | {name: without_events(objects) for name, objects in argo.items()}
        ),
        "checkov": checkov_of_manifests(variants, tmp_path_factory.mktemp("manifests")),
        "hera": hera_findings(argo),
        "kfp": kubeflow_findings(kubeflow),
    }
    rules = {name: planted_documents(mistake) for name, mistake in planted_mistakes("rules").items()}
    for name, checks in own_findings(variants | argo | kubeflow | rules).items():
        found[name] |= {f"`{check}`" for check in checks}
    folder = tmp_path_factory.mktemp("rules")
    by_tool["promtool"] = {name: promtool_findings(documents[0], folder) for name, documents in rules.items()}
    files = {f"m{number}": mistake for number, mistake in enumerate(planted_mistakes("containerfile").values())}
    texts = {number: SERVICE_FILE.read_text().replace(*mistake["text"]) for number, mistake in files.items()}
    for tool, findings in containerfile_findings(texts, tmp_path_factory.mktemp("images")).items():
        by_tool.setdefault(tool, {}).update({files[number]["mistake"]: said for number, said in findings.items()})
    for name, mistake in planted_mistakes("values").items():
        refused = template(plant(EXAMPLE, mistake), folder).returncode if name != WITH_AN_ORCHESTRATOR else 0
        by_tool.setdefault("values.schema.json", {})[name] = ["refused"] if refused else []
    by_tool["`brewcast deploy check`"] = dict.fromkeys(refused_before_sending(), ["refused"])
    for tool, findings in by_tool.items():
        for name, said in findings.items():
            found[name] |= {tool} if said else set()
    for name, tools in FOUND_IN_WORKFLOW.items():
        found[name] |= {GITHUB_TOOLS.get(tool, tool) for tool in tools}
    return {name: sorted(checks) for name, checks in found.items()}


def test_every_planted_mistake_is_caught(caught):
    CAUGHT.parent.mkdir(parents=True, exist_ok=True)
    CAUGHT.write_text(json.dumps({"kubernetes": VERSIONS, "caught": caught}))
    assert [name for name, checks in caught.items() if not checks] == []


def test_a_rendered_file_is_yaml_without_repeated_keys():
    class Strict(yaml.SafeLoader):
        "YAML takes the last of two equal keys; a reader sees the first."

    def mapping(loader, node, deep=False):
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
        return yaml.SafeLoader.construct_mapping(loader, node, deep)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in RENDERED.parent.glob("*.yaml"):
        assert list(yaml.load_all(path.read_text(), Strict))
