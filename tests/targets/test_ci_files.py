"The files of the continuous integration are compiled from one list, run targets of the Makefile, and have few rights."

import re

import pytest
import yaml
from conftest import ROOT

from brewcast.targets.ci_files import CI_TEMPLATES, ci_files, read_ci_steps

GITHUB, AZURE = CI_TEMPLATES
HASHED = r"[\w.-]+/[\w.-]+@[0-9a-f]{40}"  # an action by the hash of its commit


@pytest.fixture
def project(tmp_path):
    "A project with nothing but the list of steps; `project(text)` writes it."

    def write(text: str):
        (tmp_path / "deploy/ci").mkdir(parents=True, exist_ok=True)
        (tmp_path / "deploy/ci/steps.yaml").write_text(text)
        return tmp_path

    return write


def compiled(name: str) -> dict:
    return yaml.safe_load(ci_files(ROOT)[name])


def test_every_step_is_a_target_of_the_makefile():
    targets = set(re.findall(r"(?m)^([a-z][a-z-]*):(?: .*)? ## ", (ROOT / "Makefile").read_text()))
    steps = {target for job in read_ci_steps(ROOT).jobs.values() for target in job.steps}
    assert steps - targets == set()


def test_both_files_have_the_same_jobs_with_the_same_steps_in_the_same_order():
    github, azure = compiled(GITHUB)["jobs"], {job["job"]: job for job in compiled(AZURE)["jobs"]}
    assert list(github) == list(azure)
    for name, job in read_ci_steps(ROOT).jobs.items():
        lines = [f"make {target}" for target in job.steps]
        assert [step["run"] for step in github[name]["steps"] if "run" in step] == lines
        assert [step["script"] for step in azure[name]["steps"] if "script" in step] == lines
        assert github[name].get("needs", []) == azure[name].get("dependsOn", []) == job.needs
        assert github[name]["timeout-minutes"] == int(azure[name]["timeoutInMinutes"]) == job.minutes
        assert github[name].get("env", {}) == azure[name].get("variables", {}) == job.environment


def test_a_job_may_read_the_code_and_nothing_else():
    workflow = compiled(GITHUB)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["steps"][0]["with"]["persist-credentials"] is False


def test_actions_are_githubs_own_and_the_checkout_is_pinned_by_its_hash():
    uses = [step["uses"] for job in compiled(GITHUB)["jobs"].values() for step in job["steps"] if "uses" in step]
    assert all(name.startswith("actions/") for name in uses)
    assert all(re.fullmatch(HASHED, name) for name in uses if name.startswith("actions/checkout@"))


def test_an_older_run_is_ended_by_a_newer_one():
    assert compiled(GITHUB)["concurrency"]["cancel-in-progress"] is True
    assert compiled(AZURE)["pr"]["autoCancel"] == "true"


@pytest.mark.parametrize(
    "job, problem",
    [
        ("{title: Tests, minutes: 5, steps: [test], needs: [lint]}", "test needs lint"),
        ("{title: Tests, minutes: 5, steps: [test], needs: [test]}", "test needs test"),
        ("{title: Tests, minutes: 0, steps: [test]}", "jobs.test.minutes"),
        ("{title: Tests, minutes: 5, steps: []}", "jobs.test.steps"),
        ("{title: Tests, minutes: 5, steps: ['test && rm -rf /']}", "jobs.test.steps.0"),
        ("{title: Tests, minutes: 5, steps: ['${{ github.event.pull_request.title }}']}", "jobs.test.steps.0"),
        ("{title: 'Tests: all', minutes: 5, steps: [test]}", "jobs.test.title"),
        ("{title: Tests, minutes: 5, steps: [test], step: [lint]}", "jobs.test.step"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_with_its_place(project, job, problem):
    with pytest.raises(ValueError, match=r"^deploy/ci/steps\.yaml: .*" + re.escape(problem)):
        read_ci_steps(project(f"runner: ubuntu-24.04\njobs:\n  test: {job}\n"))


def test_the_programs_of_the_tests_are_listed_once_and_the_ci_script_installs_them():
    script = (ROOT / ".ci/run").read_text()
    assert ".ci/programs tests" in script and "apt-get" not in script
    assert "\t@.ci/programs tests\n" in (ROOT / "Makefile").read_text()
