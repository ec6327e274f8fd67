"The workflow of GitHub Actions as its linters see it, and run on this machine; the pipeline of Azure by its schema."

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, commands, copy_project

from brewcast.targets.ci_files import CI_TEMPLATES

TOOLS = ROOT / ".venv-checks/bin"
WORKFLOW, PIPELINE = (ROOT / name for name in CI_TEMPLATES)
MISTAKES = yaml.safe_load((ROOT / "tests/targets/mistakes.yaml").read_text())
PLANTED = {mistake["mistake"]: mistake for mistake in MISTAKES if mistake["in"] == "github"}
AUTHOR = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
LINTERS = {  # by name: the command line, which gets the path of the workflow
    "actionlint": ["actionlint", "-no-color"],
    "zizmor": ["zizmor", "--offline", "--no-progress", "--format", "plain", "--config", ROOT / ".github/zizmor.yml"],
    "schema": ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
}
FOUND_BY = {  # which linters must find each planted mistake
    "workflow that may write everything": {"zizmor"},
    "job that needs a job which does not exist": {"actionlint"},
    "misspelt key of a step": {"actionlint", "schema", "zizmor"},
    "action of a third party by branch": {"zizmor"},
    "text of a pull request in a shell line": {"actionlint", "zizmor"},
}


def run_tool(name: str, *arguments, **options) -> subprocess.CompletedProcess:
    "A tool of the checks' own environment. A missing one is an error: `make test-deploy` installs it."
    command = [TOOLS / name, *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, **options)


def finders(workflow: Path) -> dict[str, str]:
    "The linters that find something in a workflow, and what they say."
    results = {name: run_tool(line[0], *line[1:], workflow) for name, line in LINTERS.items()}
    return {name: done.stdout + done.stderr for name, done in results.items() if done.returncode}


def plant(document: dict, mistake: dict) -> dict:
    "Change a document as a planted mistake says: set: [path, value], or rename: [path, new key]."
    path, value = mistake.get("set") or mistake["rename"]
    *parents, last = path
    place = document
    for key in parents:
        place = place[key]
    if "rename" in mistake:
        place[value] = place.pop(last)
    else:
        place[last] = value
    return document


def test_no_linter_finds_anything_in_the_workflow():
    assert finders(WORKFLOW) == {}


def test_the_pipeline_of_azure_fits_its_schema():
    # its patterns are not those of ECMAScript, so they are read as Python's
    schema = ["--builtin-schema", "vendor.azure-pipelines", "--regex-variant", "python"]
    done = run_tool("check-jsonschema", *schema, PIPELINE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_key_in_the_pipeline_of_azure_is_found(tmp_path):
    pipeline = yaml.safe_load(PIPELINE.read_text())
    pipeline["jobs"][0]["timeoutInMinute"] = pipeline["jobs"][0].pop("timeoutInMinutes")
    (tmp_path / "azure-pipelines.yml").write_text(yaml.safe_dump(pipeline))
    schema = ["--builtin-schema", "vendor.azure-pipelines", "--regex-variant", "python"]
    assert run_tool("check-jsonschema", *schema, tmp_path / "azure-pipelines.yml").returncode == 1


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_in_the_workflow_is_found(tmp_path, name):
    workflow = tmp_path / ".github/workflows/brewcast.yml"  # zizmor takes only files there for workflows
    workflow.parent.mkdir(parents=True)
    document = yaml.safe_load(WORKFLOW.read_text())
    document["on"] = document.pop(True)  # YAML 1.1 reads the word `on` as true
    workflow.write_text(yaml.safe_dump(document))
    assert finders(workflow) == {}
    workflow.write_text(yaml.safe_dump(plant(document, PLANTED[name])))
    assert set(finders(workflow)) == FOUND_BY[name]


def test_every_planted_mistake_has_its_finders():
    assert FOUND_BY.keys() == PLANTED.keys()


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> list[str]:
    "Options of act for folders that stand for GitHub's actions, which cannot be fetched without a network."
    folder = tmp_path_factory.mktemp("actions")
    options = []
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    for used in {step["uses"] for job in jobs for step in job["steps"] if "uses" in step}:
        action = folder / used.split("@")[0]
        action.mkdir(parents=True)
        step = {"run": "echo nothing is done here", "shell": "bash"}
        content = {"name": action.name, "description": "stand-in", "runs": {"using": "composite", "steps": [step]}}
        (action / "action.yml").write_text(yaml.safe_dump(content))
        options += ["--local-repository", f"{used}={action}"]
    return options


@pytest.mark.parametrize("job", ["lint", "notebooks"])
def test_a_job_of_the_workflow_runs_here_with_its_real_steps(tmp_path, stand_ins, job):
    # given the project as it would be committed now, in a repository of its own, and this machine as the runner
    project = tmp_path / "main"
    copy_project(project)
    (project / ".venv").unlink()
    for line in (["init", "-q"], ["add", "-A"], [*AUTHOR, "commit", "-q", "-m", "as it is"]):
        subprocess.run(["git", *line], cwd=project, check=True)
    cache = subprocess.run([ROOT / ".venv/bin/uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout
    options = ["-W", WORKFLOW.relative_to(ROOT), "-P", "ubuntu-24.04=-self-hosted", "--action-offline-mode"]
    options += ["--action-cache-path", tmp_path / "act", "--cache-server-path", tmp_path / "cache", *stand_ins]
    options += ["--env", f"UV_CACHE_DIR={cache.strip()}"]  # packages are not downloaded once more
    # when act runs the job: its environment is installed from the lock, as on GitHub
    home = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | {
        "HOME": str(tmp_path),
        "ACT_DISABLE_VERSION_CHECK": "1",
    }
    done = run_tool("act", "push", "-j", job, *options, cwd=project, env=home, timeout=900)
    # then it succeeds
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Job succeeded" in done.stdout


def test_notebooks_that_are_out_of_step_fail_their_job_and_are_corrected(tmp_path):
    # given a clone with a module that is not its notebook's, as after a commit without an export
    run = commands(copy_project(tmp_path / "main"))
    module = tmp_path / "main/brewcast/targets/ci_files.py"
    original = module.read_text()
    module.write_text(original + "\nedited = True\n")
    # then the check names the module, and corrects it
    assert "brewcast/targets/ci_files.py: FAILED" in run("make check-notebooks", fails=True).all
    assert module.read_text() == original
    run("make check-notebooks")
    # and a notebook with an output
    notebook = tmp_path / "main/nbs/targets/ci_files.ipynb"
    content = json.loads(notebook.read_text())
    code = next(cell for cell in content["cells"] if cell["cell_type"] == "code")
    code["execution_count"] = 3
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    assert "nbs/targets/ci_files.ipynb: FAILED" in run("make check-notebooks", fails=True).all
