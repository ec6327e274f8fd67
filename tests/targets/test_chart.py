"The chart says of images and service what they say themselves, in its own files and in what is rendered of it."

import re
import shutil
import subprocess

import pytest
import yaml
from conftest import ROOT

from brewcast.cli import GROUPS, app
from brewcast.common.retryable import RETRYABLE_STATUS
from brewcast.operations.monthly import EXIT_STATUS
from brewcast.serving.app import PAGES, PROBE_PATHS
from brewcast.serving.platforms import DRAIN_SECONDS
from brewcast.targets.chart import (
    PROJECT_FOLDER,
    RENDERED,
    chart_yaml,
    find_helm,
    image_facts,
    merged_values,
    rendered_files,
    value_findings,
)
from brewcast.targets.images import WRITTEN_FOLDERS

DEFAULTS = yaml.safe_load((ROOT / "deploy/chart/values.yaml").read_text())


def rendered(name: str = "brewcast.yaml") -> dict[str, dict]:
    "The objects of a rendered file by kind; the last one of a kind."
    text = (ROOT / "deploy/rendered" / name).read_text()
    return {each["kind"]: each for each in yaml.safe_load_all(text) if each}


def test_probes_and_metrics_are_pages_of_the_service_and_not_shown_outside():
    facts = image_facts(ROOT)
    assert {facts["live"], facts["ready"], facts["metrics"]} <= set(PAGES)
    assert set(facts["pages"]) == set(PAGES) - PROBE_PATHS
    (rule,) = rendered()["Ingress"]["spec"]["rules"]
    assert sorted(path["path"] for path in rule["http"]["paths"]) == facts["pages"]


def test_the_monthly_step_may_write_where_the_image_has_volumes():
    stage = (ROOT / "deploy/image/Containerfile.stage").read_text()
    assert f"WORKDIR {PROJECT_FOLDER}\n" in stage
    pod = rendered()["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount.get("subPath") for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts.pop("/tmp", "none") is None
    assert mounts == {f"{PROJECT_FOLDER}/{name}": name for name in WRITTEN_FOLDERS}
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"] == image_facts(ROOT)["user"]


def test_a_containerfile_without_a_user_is_refused(tmp_path):
    shutil.copytree(ROOT / "deploy/image", tmp_path / "deploy/image")
    shutil.copy2(ROOT / "env.yaml", tmp_path)
    path = tmp_path / "deploy/image/Containerfile.service"
    path.write_text(path.read_text().replace("USER ", "# "))
    with pytest.raises(ValueError, match="has no USER"):
        image_facts(tmp_path)


def test_a_pod_is_killed_only_after_its_requests_had_their_time():
    pod = rendered()["Deployment"]["spec"]["template"]["spec"]
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleep + DRAIN_SECONDS


def test_a_start_may_take_as_long_as_the_package_stage_allows():
    probe = rendered()["Deployment"]["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= image_facts(ROOT)["startSeconds"] >= 120


def test_the_job_tries_a_temporary_failure_again_and_nothing_else():
    job = rendered()["CronJob"]["spec"]["jobTemplate"]["spec"]
    drained, failed = job["podFailurePolicy"]["rules"]  # the first that fits decides
    assert (drained["action"], drained["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (failed["action"], failed["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
    assert failed["onExitCodes"]["values"] == [RETRYABLE_STATUS] and job["backoffLimit"] > 0
    assert RETRYABLE_STATUS not in EXIT_STATUS.values()
    # and a month that waits is no failure
    assert "--waiting-ok" in job["template"]["spec"]["containers"][0]["args"]


def test_the_rendered_alerts_are_those_of_prometheus():
    assert rendered()["PrometheusRule"]["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())


def test_the_two_rendered_files_differ_in_the_autoscaler_alone():
    cpu, keda = rendered(), rendered("keda.yaml")
    assert cpu.pop("HorizontalPodAutoscaler") and keda.pop("ScaledObject")
    assert cpu == keda and set(RENDERED) == {path.stem for path in (ROOT / "deploy/rendered").iterdir()}


def test_the_chart_has_the_version_of_the_project():
    version = re.search(r"(?m)^version = (.*)$", (ROOT / "settings.ini").read_text())[1]
    assert chart_yaml(ROOT)["version"] == chart_yaml(ROOT)["appVersion"] == version


def test_values_are_merged_as_helm_does():
    given = {"a": {"b": None}, "list": [3], "new": {"c": 1}}
    assert merged_values({"a": {"b": 1, "d": 2}, "list": [1, 2]}, given) == {
        "a": {"d": 2},
        "list": [3],
        "new": {"c": 1},
    }


def test_without_helm_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"make \.venv-checks/quick"):
        find_helm(tmp_path)


def test_values_that_helm_refuses_are_an_error(tmp_path):
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    helm = tmp_path / ".venv-checks/bin/helm"
    helm.parent.mkdir(parents=True)
    helm.write_text("#!/bin/sh\nexit 1\n")
    helm.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError):
        rendered_files(tmp_path)


def test_the_page_names_commands_targets_and_values_that_exist():
    text = (ROOT / "docs/pages/cluster.md").read_text()
    # commands and targets
    commands = {command.name for command in app.registered_commands} | {"deploy"}
    deploys = {command.name for command in GROUPS["deploy"].registered_commands}
    called = set(re.findall(r"(?:brewcast|brewcast\.cli) ([a-z]+)(?: ([a-z]+))?", text))
    assert {first for first, _ in called} - {"deployment"} <= commands, called
    assert {second for first, second in called if first == "deploy" and second} <= deploys
    targets = set(re.findall(r"(?m)^([.a-z][-./a-z]*):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"make ([.a-z][-./a-z]+)", text)) - {"snapshots"} <= targets
    # values in a sentence, such as `monthly.enabled`
    parts = "|".join(DEFAULTS)
    paths = re.findall(rf"`((?:{parts})(?:\.\w+)*)(?:: \w+)?`", text)
    assert len(paths) > 8
    for path in paths:
        value = DEFAULTS
        for name in path.split("."):
            value = value[name]
    # values in an example
    for example in re.findall(r"(?s)```yaml\n(.*?)```", text):
        assert value_findings(ROOT, yaml.safe_load(example)) == []
