"Before anything is sent: each planted mistake of an image and of values is refused, with its place and the way out."

import json
import os
import re
import shutil
import stat
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml
from archives import (
    AS_OF,
    OTHER_RELEASE,
    PACKAGES,
    RELEASE,
    SERVICE,
    good_values,
    lock_text,
    refusals,
    texts,
    toy_deployment,
    write_archive,
    write_release,
    write_service,
)
from conftest import ROOT
from planting import WITH_AN_ORCHESTRATOR

from brewcast.cli import main
from brewcast.targets.airflow import airflow_dag
from brewcast.targets.argo import argo_yaml
from brewcast.targets.chart_values import CHANGE_ME
from brewcast.targets.compiled_checks import FILLED
from brewcast.targets.deploy_check import DeployRequest, check_lines, oldest_features, stage_refusals
from brewcast.targets.image_archive import read_image
from brewcast.targets.image_checks import STAGE_PACKAGES, Refusal
from brewcast.targets.library_checks import libraries_by_step, library_refusals

MISTAKES = yaml.safe_load((ROOT / "tests/targets/mistakes.yaml").read_text())
IN_VALUES = {mistake["mistake"]: mistake for mistake in MISTAKES if mistake["in"] == "values"}
OVERLAP = IN_VALUES.pop(WITH_AN_ORCHESTRATOR)
IN_SCHEDULE = {mistake["mistake"]: mistake for mistake in MISTAKES if mistake["in"] == "schedule"}
IN_STAGE_IMAGE = {mistake["mistake"]: mistake for mistake in MISTAKES if mistake["in"] == "stage image"}
IN_IMAGE = [mistake["mistake"] for mistake in MISTAKES if mistake["in"] == "image"]
REDIS = "redis://:hunter2@redis:6379/0"


@pytest.fixture
def root(tmp_path) -> Path:
    return toy_deployment(tmp_path / "project")


def test_an_image_that_fits_its_project_and_its_values_is_not_refused(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert refusals(root) == []
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}  # nothing is written
    assert refusals(root, good_values(root)) == []


# -- the image


def other_lock(root):
    (root / "requirements.lock").write_text(lock_text(PACKAGES | {"numpy": "2.4.7"}))
    return "numpy 2.4.6"


def other_release(root):
    write_release(root / "state/simulated/releases" / OTHER_RELEASE, OTHER_RELEASE)
    (root / "state/simulated/current").unlink()
    (root / "state/simulated/current").write_text(f"{OTHER_RELEASE}\n")
    return f"it holds release {RELEASE}, but simulated serves {OTHER_RELEASE}"


def other_processor(root):
    write_service(root, processors=("arm64",))
    return "it is for linux/arm64, the nodes are linux/amd64"


def fake_podman(root, monkeypatch, script: str):
    "Programs that load the image and run it as a script says."
    programs = root / "programs"
    programs.mkdir()
    for name, content in {"podman": script, "skopeo": "true"}.items():
        (programs / name).write_text(f'#!/bin/sh\n[ "$1 $2" != "image exists" ] || exit 1\n{content}\n')
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def other_answers(root, monkeypatch):
    message = f"error: release {RELEASE}: store STORE101 does not get its golden answer"
    fake_podman(root, monkeypatch, f'[ "$1" = run ] || exit 0; echo "{message}" >&2; exit 1')
    return "store STORE101 does not get its golden answer"


def old_features(root):
    release = root / "state/simulated/releases" / RELEASE
    shutil.rmtree(release)
    write_release(release, RELEASE, month="2024-11-01")
    write_service(root)
    return "its forecast is for 2024-11, which is over on 2025-02-10"


PLANT = {
    "image of another lock": other_lock,
    "image of another release": other_release,
    "image for another processor": other_processor,
    "release whose golden answers differ": other_answers,
    "features of a month long past": old_features,
}


@pytest.mark.parametrize("name", IN_IMAGE)
def test_a_planted_mistake_in_the_image_is_refused(root, monkeypatch, name):
    plant = PLANT[name]
    is_run = name == "release whose golden answers differ"
    expected = plant(root, monkeypatch) if is_run else plant(root)
    found = refusals(root, runs=is_run)
    assert found and expected in texts(found)


def test_every_planted_mistake_of_the_image_is_planted():
    assert set(PLANT) == set(IN_IMAGE)


def test_everything_is_listed_at_once(root):
    write_service(root, {"app/bento/src/brewcast/serving/more.py": ""}, processors=("arm64",))
    other_release(root)
    (root / "requirements.lock").write_text(lock_text({"numpy": "2.4.7"}))
    values = good_values(root) | {
        "replica": 3,
        "image": {"repository": "registry.example.com/b", "digest": "sha256:" + "1a" * 32},
    }
    found = texts(refusals(root, values, as_of=date(2025, 6, 1)))
    for part in ("replica", "image.digest", "arm64", "requirements.lock", "more.py", "2025-02", "more than 45 days"):
        assert part in found


def test_a_missing_or_broken_archive_is_one_reason_with_the_way_out(root):
    (root / SERVICE).write_bytes((root / SERVICE).read_bytes()[:2000])
    assert "make image" in texts(refusals(root))
    (root / SERVICE).unlink()
    [refusal] = refusals(root)
    assert "make image" in str(refusal)


def test_the_name_of_a_missing_image_and_the_way_out_are_said_once(root):
    found = refusals(root, good_values(root) | {"monthly": {"enabled": True}})
    [stage] = [refusal for refusal in found if "stage.tar" in refusal.where]
    assert stage.what.startswith("it is not a file") and "`" not in stage.what
    assert stage.way_out.startswith("`make image-stage`")


def test_an_image_without_a_processor_is_refused_in_words(root):
    write_service(root, processors=("",))
    [refusal] = refusals(root)
    assert refusal.what == "it does not say for which processor it is, the nodes are linux/amd64"


# -- fresh features


def test_the_limit_is_that_of_the_alert(root):
    assert oldest_features(root) == timedelta(days=45)
    rules = root / "deploy/prometheus/rules.yml"
    rules.write_text(rules.read_text().replace("> 45 * 86400", "> 3 * 86400"))
    assert "its features end on 2025-01-31, more than 3 days before 2025-02-10" in texts(refusals(root))
    rules.write_text(rules.read_text().replace("> 3 * 86400", "> 3888000"))
    assert "BrewcastFeaturesOld has no limit" in texts(refusals(root))


@pytest.mark.parametrize(
    "day, count",
    [("2025-02-01", 0), ("2025-02-28", 0), ("2025-03-01", 1), ("2025-03-17", 1), ("2025-03-18", 1), ("2025-03-19", 2)],
)
def test_a_release_is_fresh_until_its_month_is_over(root, day, count):
    found = refusals(root, as_of=date.fromisoformat(day))
    assert len(found) == count
    assert all(refusal.way_out.startswith("`make month`") for refusal in found)


def test_a_release_is_not_sent_before_its_features_end(root):
    [refusal] = refusals(root, as_of=date(2020, 1, 1))
    assert refusal.what == "its features end on 2025-01-31: on 2020-01-01, they are from the future"
    assert "--as-of" in refusal.way_out


@pytest.mark.parametrize("text", ["[]", "no JSON", "[" * 100_000, '{"month": 3, "features_as_of": 4}'])
def test_a_release_that_describes_itself_otherwise_is_refused(root, text):
    write_service(root, {"app/bento/src/release/release.json": text})
    assert refusals(root)


# -- golden answers


def test_golden_answers_that_are_right_are_no_reason(root, monkeypatch):
    description = (root / "state/simulated/current/release.json").read_text()
    fake_podman(root, monkeypatch, f"[ \"$1\" = run ] || exit 0; echo 'a line of a library'; echo '{description}'")
    assert refusals(root, runs=True) == []


def test_the_image_runs_without_rights_and_without_a_network(root, monkeypatch):
    fake_podman(root, monkeypatch, f'echo "$@" >> "{root}/calls"; exit 1')
    refusals(root, runs=True)
    [line] = [line for line in (root / "calls").read_text().splitlines() if line.startswith("run ")]
    for option in ("--rm", "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"):
        assert option in line
    assert line.endswith(" golden")


def test_another_release_that_answers_is_refused(root, monkeypatch):
    fake_podman(root, monkeypatch, f"[ \"$1\" = run ] || exit 0; echo '{json.dumps({'release': OTHER_RELEASE})}'")
    assert "`golden` does not name the release in its files" in texts(refusals(root, runs=True))


def test_without_podman_it_is_refused_unless_it_is_left_out(root, monkeypatch):
    monkeypatch.setenv("PATH", str(root))
    [refusal] = refusals(root, runs=True)
    assert "podman and skopeo not installed" in str(refusal) and "--without-run" in str(refusal)
    assert refusals(root, runs=False) == []


# -- the values


@pytest.mark.parametrize("name", IN_VALUES)
def test_a_planted_mistake_in_the_values_is_refused_with_its_place(root, name):
    (path, value) = IN_VALUES[name]["set"]
    values = good_values(root)
    assert refusals(root, values) == []
    values[path[0]] = value
    found = refusals(root, values)
    assert found and all(refusal.where.startswith("mine.yaml") for refusal in found)
    assert path[0] in texts(found)


@pytest.mark.parametrize("part, value", [("image", "x"), ("monthly", 3), ("autoscaling", [1]), ("nodeSelector", "x")])
def test_a_part_of_another_form_is_what_the_schema_says(root, part, value):
    [refusal] = refusals(root, good_values(root) | {part: value})
    assert refusal.where == f"mine.yaml, {part}" and "is not of type 'object'" in refusal.what


# -- the image of the stages


def test_the_image_of_the_stages_is_needed_for_the_monthly_step_alone(root):
    values = good_values(root) | {"monthly": {"enabled": True}}
    assert "make image" in texts(refusals(root, values))
    assert refusals(root, good_values(root)) == []


def test_an_image_of_the_stages_that_lies_there_is_not_checked_where_the_monthly_step_is_off(root):
    (root / "stage.tar").write_text("of another day")
    stage = str(root / "stage.tar")
    assert refusals(root, good_values(root), stage_image=stage) == []
    assert "stage.tar" in texts(refusals(root, good_values(root) | {"monthly": {"enabled": True}}, stage_image=stage))
    assert "stage.tar" in texts(refusals(root, stage_image=stage))  # without values, what is there is checked


# -- orchestrators


def argo_file(root, source: str = "simulated") -> Path:
    "Argo's objects of a source, with everything filled in."
    (root / f"{source}.yaml").write_text(argo_yaml(ROOT, FILLED, source).replace(CHANGE_ME, "filled"))
    return root / f"{source}.yaml"


@pytest.mark.parametrize("name", IN_SCHEDULE)
def test_a_planted_mistake_in_the_schedule_is_refused(root, name):
    schedule = {"cron": "15 6 * * *", "time_zone": "Etc/UTC", "ends": None}
    (root / "env.yaml").write_text(yaml.safe_dump({"source": "simulated", "schedule": schedule}))
    assert refusals(root) == []
    (field,), value = IN_SCHEDULE[name]["set"]
    (root / "env.yaml").write_text(yaml.safe_dump({"source": "simulated", "schedule": schedule | {field: value}}))
    [refusal] = refusals(root)
    assert refusal.where == f"env.yaml, schedule.{field}"


@pytest.mark.parametrize("name", IN_STAGE_IMAGE)
def test_a_planted_mistake_in_the_stage_image_is_refused_with_the_stages_that_fail(tmp_path, name):
    needed = set().union(*libraries_by_step(ROOT).values())
    (library, _) = IN_STAGE_IMAGE[name]["text"]

    def archive(libraries: set[str]) -> Path:
        contents = {f"{STAGE_PACKAGES}/{name}/__init__.py": "" for name in libraries}
        return write_archive(tmp_path / "stage.tar", contents)

    # given an image with all libraries, nothing is said of them
    complete = read_image(archive(needed), (STAGE_PACKAGES,))
    assert list(library_refusals(ROOT, complete, "stage.tar")) == []
    # when one is gone, then the stages that import it are named
    request = DeployRequest("simulated", "none.tar", str(archive(needed - {library})), None, None, AS_OF, runs=False)
    said = texts(list(stage_refusals(ROOT, request, {}, tmp_path)))
    assert re.search(rf"features.* would end with: No module named '{library}'", said)


def test_a_planted_mistake_of_two_schedules_is_refused_where_both_are_sent(root, monkeypatch):
    monkeypatch.setenv("PATH", str(root))  # no podman is asked for the image of the stages, which is not there
    values, compiled = good_values(root), (argo_file(root),)
    [no_image] = refusals(root, values, compiled=compiled)
    assert no_image.where.endswith("no stage.tar")
    (path, value) = OVERLAP["set"]
    values[path[0]] = value
    found = [refusal for refusal in refusals(root, values, compiled=compiled) if "CronWorkflow" in str(refusal)]
    [refusal] = found
    assert (
        refusal.where.startswith("mine.yaml, monthly.enabled") and "processes the months of simulated" in refusal.what
    )
    # but the chart's schedule alone is right, and so are two for different sources
    assert "CronWorkflow" not in texts(refusals(root, values))
    assert "processes the months" not in texts(refusals(root, values, compiled=(argo_file(root, "walmart"),)))


def test_files_for_orchestrators_are_checked_by_what_they_hold(root):
    argo = argo_file(root)
    template, *others = yaml.safe_load_all(argo.read_text())
    template["spec"]["templates"][0]["dag"]["tasks"][3]["dependencies"].append("claen")
    argo.write_text(yaml.safe_dump_all([template, *others]))
    other = root / "other.yaml"
    other.write_text("kind: Service\n")
    found = texts(refusals(root, compiled=(argo, other, root / "none.py")))
    assert "simulated.yaml, WorkflowTemplate/brewcast-simulated" in found and "there is no task claen" in found
    assert "other.yaml: it is of no orchestrator" in found
    assert "none.py: " in found and "No such file" in found


def test_the_image_that_a_file_for_an_orchestrator_runs_is_the_one_that_is_needed(root):
    values = good_values(root)
    (root / SERVICE).unlink()
    # Argo's pods are containers of the stages
    [no_image] = refusals(root, compiled=(argo_file(root),))
    assert no_image.where.endswith("no stage.tar") and "make image-stage" in no_image.way_out
    # Airflow's tasks run in the project; and with the chart, its service is needed, too
    dag = root / "brewcast.py"
    dag.write_text(airflow_dag(ROOT, "simulated"))
    assert refusals(root, compiled=(dag,)) == []
    assert "make image" in texts(refusals(root, values, compiled=(dag,)))


def test_the_projects_own_compiled_files_are_checked_and_their_placeholders_may_stay(root):
    (root / "deploy/argo").mkdir(parents=True)
    text = argo_yaml(ROOT)
    assert CHANGE_ME in text
    (root / "deploy/argo/brewcast.yaml").write_text(text)
    assert refusals(root) == []
    assert "placeholder" in texts(refusals(root, compiled=(root / "deploy/argo/brewcast.yaml",)))
    template, *others = yaml.safe_load_all(text)
    del template["spec"]["synchronization"]
    (root / "deploy/argo/brewcast.yaml").write_text(yaml.safe_dump_all([template, *others]))
    assert "two runs publish in turn" in texts(refusals(root))


# -- manifests, and the command


def test_rendered_manifests_are_checked_too(root):
    manifests = root / "rendered.yaml"
    text = (ROOT / "deploy/rendered/brewcast.yaml").read_text()
    manifests.write_text(text)
    assert refusals(root, manifests=manifests) == []
    manifests.write_text(f"# {REDIS}\n" + text.replace("maxUnavailable: 0", "maxUnavailable: 100%"))
    found = texts(refusals(root, manifests=manifests))
    assert "rendered.yaml, line 1: a password in a URL is in a comment" in found and "Deployment/brewcast" in found
    manifests.write_text("a: [1\n")
    assert "is not YAML" in texts(refusals(root, manifests=manifests))


def toy_helm(root, monkeypatch, script: str):
    "A Helm that is a script, in the project's own tools."
    helm = root / ".venv-checks/bin/helm"
    helm.parent.mkdir(parents=True, exist_ok=True)
    helm.write_text(f'#!/bin/sh\necho "$@" "$HELM_CACHE_HOME" >> "{root}/helm-calls"\n{script}\n')
    helm.chmod(stat.S_IRWXU)


def test_values_are_rendered_and_what_is_wrong_only_then_is_refused(root, monkeypatch):
    values = good_values(root)
    toy_helm(root, monkeypatch, f'cat "{ROOT}/deploy/rendered/brewcast.yaml"')
    assert refusals(root, values) == []
    call = (root / "helm-calls").read_text()
    assert call.startswith("template brewcast ") and f"-f {root}/mine.yaml" in call
    assert not Path(call.split()[-1]).parent.exists()  # the temporary folder, with Helm's own files
    toy_helm(
        root, monkeypatch, f'sed "s/maxUnavailable: 0/maxUnavailable: 100%/" "{ROOT}/deploy/rendered/brewcast.yaml"'
    )
    assert "mine.yaml, rendered, Deployment/brewcast" in texts(refusals(root, values))
    toy_helm(root, monkeypatch, "echo 'Error: execution error: minReplicas is above maxReplicas' >&2; exit 1")
    [refusal] = refusals(root, values)
    assert refusal.what == "Helm does not render it: execution error: minReplicas is above maxReplicas"


def test_values_that_are_refused_already_or_have_manifests_are_not_rendered(root, monkeypatch):
    toy_helm(root, monkeypatch, "echo 'Error: once more' >&2; exit 1")
    assert "once more" not in texts(refusals(root, good_values(root) | {"replica": 3}))
    assert refusals(root, good_values(root), manifests=ROOT / "deploy/rendered/brewcast.yaml") == []
    assert not (root / "helm-calls").exists()


def test_without_helm_it_is_said_that_values_are_not_rendered(root, monkeypatch):
    monkeypatch.setenv("PATH", str(root))
    assert refusals(root, good_values(root)) == []
    request = DeployRequest("simulated", "a.tar", "b.tar", Path("mine.yaml"), None, AS_OF, runs=True)
    way_out = "(Helm is missing: `make .venv-checks/quick` installs it)"
    assert check_lines([], request)[1:] == [f"not checked: what the chart makes of the values {way_out}"]


def test_the_command_lists_all_reasons_and_ends_with_1(root, monkeypatch, capsys):
    monkeypatch.setattr("brewcast.cli.find_root", lambda: root)
    monkeypatch.setattr("brewcast.cli.choose_source", lambda *_: "simulated")
    monkeypatch.setattr(
        "brewcast.cli.run_call", lambda root, source, call: call.function(root, **call.arguments | {"source": source})
    )
    monkeypatch.chdir(root)
    line = ["deploy", "check", "--without-run", "--as-of", "2025-02-10"]
    assert main(line) == 0
    assert capsys.readouterr().out.startswith("ready to be sent: nothing was found\nnot checked: the values")
    (root / "mine.yaml").write_text(yaml.safe_dump(good_values(root) | {"apiKeys": {"enabled": True}}))
    assert main([*line, "--values", "mine.yaml"]) == 1
    assert "mine.yaml, apiKeys.secret: apiKeys is on, but no secret is named" in capsys.readouterr().out
    assert main([*line[:-1], "February"]) == 2
    assert "'February' is not a day such as 2025-02-28" in capsys.readouterr().err


def test_reasons_are_printed_with_their_ways_out():
    request = DeployRequest("simulated", "a.tar", "b.tar", None, None, AS_OF, runs=True)
    lines = check_lines([Refusal("a.tar", "it is missing", "build it"), Refusal("b", "c", "d")], request)
    assert lines == ["not to be sent, for 2 reasons:", "  a.tar: it is missing", "    build it", "  b: c", "    d"]
