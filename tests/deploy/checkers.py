"""The tools that check a deployment, each as a function: what it says of many variants at once, by the variant's name.

`make test-deploy-quick` uses helm, the schemas and the library's own checks, `make test-deploy` all. The tools are in
.venv-checks; none of them uses the network, asks for updates or reports its use.
"""

import json
import os
import subprocess
from pathlib import Path

import yaml
from planting import ROOT

from brewcast.targets.chart import MIN_KUBERNETES
from brewcast.targets.kubernetes_objects import Manifests
from brewcast.targets.manifests import check_manifests

TOOLS = ROOT / ".venv-checks"
EXAMPLE = yaml.safe_load((ROOT / "deploy/example-values.yaml").read_text())  # values with every part on
VERSIONS = [
    MIN_KUBERNETES.rpartition(".")[0],
    "1.34",
    "1.37",
]  # of Kubernetes: the oldest that the chart takes, the newest
QUIET = {"CKV_SKIP_PACKAGE_UPDATE_CHECK": "true", "LOG_LEVEL": "ERROR", "NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1"}
SKIPPED = {  # checkov's checks that do not hold here -> the reason
    "CKV_K8S_21": "the namespace is the user's: helm upgrade --install -n NAMESPACE",
    "CKV_K8S_35": "the service reads the address of the online store from a variable, which comes from a Secret",
    "CKV_DOCKER_7": "BASE is an image that was built here: it has no version but its content",
}


def run_tool(*command, **options) -> subprocess.CompletedProcess:
    "Run a tool of .venv-checks, or of this machine if its name has no folder."
    options = {"cwd": ROOT, "env": os.environ | QUIET, "capture_output": True, "text": True} | options
    return subprocess.run([*map(str, command)], **options)


def answer(*command, **options) -> dict:
    "What a tool prints as JSON. A tool that fails is an error."
    done = run_tool(*command, **options)
    assert done.returncode == 0 and done.stdout, f"{command[0]}: {done.returncode}\n{done.stderr[-3000:]}"
    return json.loads(done.stdout)


def own_findings(variants: dict[str, list[dict]]) -> dict[str, list[str]]:
    "The library's own checks that find something."
    return {name: list(check_manifests(Manifests(documents))) for name, documents in variants.items()}


def schema_findings(variants: dict[str, list[dict]]) -> dict[str, list[str]]:
    "What the schemas of Kubernetes refuse."
    program = [TOOLS / "bin/python", ROOT / "tests/deploy/schemas.py", *VERSIONS]
    return answer(*program, input=json.dumps(variants))


def kubeflow_findings(variants: dict[str, list[dict]]) -> dict[str, list[str]]:
    "What kfp refuses of compiled pipelines."
    program = [ROOT / ".venv-kubeflow/bin/python", ROOT / "tests/deploy/kubeflow_schema.py"]
    return answer(*program, input=json.dumps(variants))


def model_findings(variants: dict[str, list[dict]]) -> dict[str, list[str]]:
    "What the models of all objects refuse, also of custom resources."
    program = (ROOT / "tests/deploy/models.mjs").read_text()
    command = ["node", "--input-type=module", "--eval", program]
    return answer(*command, cwd=TOOLS / "npm", input=json.dumps(variants))


def hera_findings(variants: dict[str, list[dict]]) -> dict[str, list[str]]:
    "What hera's models of Argo's objects refuse, or do not know."
    return answer(TOOLS / "bin/python", ROOT / "tests/deploy/argo_models.py", input=json.dumps(variants))


def checkov_findings(folder: Path, framework: str) -> dict[str, list[str]]:
    "What checkov finds in a folder, by the folder in it."
    command = [TOOLS / "checkov/bin/checkov", "-d", folder, "--framework", framework, "-o", "json", "--quiet"]
    options = ["--skip-download", "--skip-check", ",".join(SKIPPED), "--soft-fail"]
    report = answer(*command, *options)
    found = {}
    for failed in report.get("results", {}).get("failed_checks", []):
        found.setdefault(failed["file_path"].strip("/").split("/")[0], []).append(failed["check_id"])
    return found


def checkov_of_manifests(variants: dict[str, list[dict]], folder: Path) -> dict[str, list[str]]:
    "What checkov finds in manifests. The folder is for its input."
    for number, documents in enumerate(variants.values()):
        (folder / f"v{number}").mkdir(parents=True)
        (folder / f"v{number}/manifests.yaml").write_text(yaml.safe_dump_all(documents))
    found = checkov_findings(folder, "kubernetes")
    return {name: found.get(f"v{number}", []) for number, name in enumerate(variants)}


def hadolint_findings(path: Path) -> list[str]:
    "What hadolint finds in a Containerfile."
    done = run_tool(TOOLS / "bin/hadolint", "--format", "json", path)
    return [f"{found['code']} line {found['line']}: {found['message']}" for found in json.loads(done.stdout)]


def promtool_findings(rules: dict, folder: Path) -> list[str]:
    "What promtool says of alert rules: their form, and whether each fires when it must."
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    (folder / "rules_test.yml").write_bytes((ROOT / "deploy/prometheus/rules_test.yml").read_bytes())
    lines = {"check rules": folder / "rules.yml", "test rules": folder / "rules_test.yml"}
    done = {name: run_tool("promtool", *name.split(), path) for name, path in lines.items()}
    return [
        f"{name}: {result.stdout[-500:]}{result.stderr[-500:]}" for name, result in done.items() if result.returncode
    ]


def template(values: dict, folder: Path, release: str = "brewcast") -> subprocess.CompletedProcess:
    "What Helm makes of the chart with these values."
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    return run_tool(TOOLS / "bin/helm", "template", release, "deploy/chart", "-f", folder / "values.yaml")
