"Before anything is sent: each planted mistake of an image and of values is refused, with its place and the way out."

import json
import os
import shutil
import stat
import tarfile
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from archives import (
    OTHER_RELEASE,
    PACKAGES,
    RELEASE,
    lock_text,
    service_layers,
    toy_deployment,
    write_archive,
    write_release,
    write_service,
)
from conftest import ROOT

from brewcast.cli import main
from brewcast.targets.deploy_check import (
    STAGE_PACKAGES,
    DeployRequest,
    Refusal,
    check_lines,
    code_refusals,
    deploy_refusals,
    lock_refusals,
    oldest_features,
    read_values,
    setting_refusals,
)
from brewcast.targets.image_archive import read_image
from brewcast.targets.images import project_files, stage_requirements

MISTAKES = yaml.safe_load((ROOT / "tests/targets/mistakes.yaml").read_text())
IN_VALUES = {mistake["mistake"]: mistake for mistake in MISTAKES if mistake["in"] == "values"}
IN_IMAGE = [mistake["mistake"] for mistake in MISTAKES if mistake["in"] == "image"]
AS_OF = date(2025, 2, 10)  # within the month of the toy release
SERVICE = "scratch/images/service.tar"


@pytest.fixture
def root(tmp_path) -> Path:
    return toy_deployment(tmp_path / "project")


def digest_of(root: Path) -> str:
    return read_image(root / SERVICE, ("app",)).digests[0]


def good_values(root: Path) -> dict:
    "Values that fit the image, with every part on that needs no image of the stages."
    values = yaml.safe_load((ROOT / "deploy/example-values.yaml").read_text())
    values["image"]["digest"] = digest_of(root)
    values["monthly"] = {"enabled": False}
    return values


def refusals(root: Path, values: dict | str | None = None, **changes) -> list[Refusal]:
    "All reasons not to send a project's image, with values if there are some. The image is not run."
    if values is not None:
        (root / "mine.yaml").write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False))
    path = None if values is None else root / "mine.yaml"
    request = DeployRequest("simulated", str(root / SERVICE), str(root / "no stage.tar"), path, None, AS_OF, runs=False)
    found = list(deploy_refusals(root, request._replace(**changes)))
    assert all(refusal.where and refusal.what and refusal.way_out for refusal in found)
    return found


def texts(found: list[Refusal]) -> str:
    return "\n".join(map(str, found))


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


@pytest.mark.parametrize(
    "layer, problem",
    [
        ({"app/bento/src/release/rows.npz": "other rows"}, "different: rows.npz"),
        ({"app/bento/src/release/.wh.rows.npz": ""}, "missing: rows.npz"),
        ({"app/bento/src/release/model.pkl": "a pickle"}, "too much: model.pkl"),
        ({"app/bento/src/release/rows.npz": "-> /tmp/rows.npz"}, "different: rows.npz"),
        ({"app/bento/src/release": "-> /tmp/release"}, "it holds release none"),
        ({"app/bento/src/brewcast/serving/app.py": "import evil"}, "different: brewcast/serving/app.py"),
        ({"app/bento/src/brewcast/serving/more.py": "import evil"}, "too much: brewcast/serving/more.py"),
        ({"app/packages/evil-1.0.dist-info/METADATA": ""}, "evil 1.0: not in requirements.lock"),
        ({"app/packages/.wh.uvicorn-0.35.0.dist-info": ""}, "uvicorn: required, but not installed"),
        ({"app/packages/.wh..wh..opq": ""}, "it has no packages in /app/packages"),
    ],
)
def test_an_image_that_differs_in_one_file_is_refused_although_its_labels_are_right(root, layer, problem):
    labels = {"brewcast.release": RELEASE}
    write_service(root, settings={"Labels": labels})
    assert refusals(root) == []
    write_service(root, layer, settings={"Labels": labels})
    assert problem in texts(refusals(root))


def test_compiled_python_is_no_difference(root):
    write_service(root, {"app/bento/src/brewcast/serving/__pycache__/app.cpython-311.pyc": "compiled"})
    assert refusals(root) == []


def test_a_package_that_a_marker_leaves_out_may_be_missing(root):
    marked = lock_text({"async-timeout": "5.0.1"}).replace("5.0.1 ", "5.0.1 ; python_full_version < '3.11.3' ")
    release = (root / "state/simulated/current").resolve()
    for path in (root / "requirements.lock", release / "requirements.txt"):
        path.write_text(path.read_text() + marked)
    write_service(root)
    assert refusals(root) == []
    write_service(root, {"app/packages/async_timeout-5.0.1.dist-info/METADATA": ""})
    assert refusals(root) == []


def test_the_label_of_another_lock_is_refused(root):
    write_service(root, settings={"Labels": {"brewcast.lock": "0" * 64}})
    assert "its label brewcast.lock is 000000000000, but the project's is" in texts(refusals(root))


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


def test_the_right_image_of_an_index_is_compared(root):
    write_service(root, processors=("arm64", "amd64"))
    assert refusals(root, good_values(root)) == []
    values = good_values(root) | {"nodeSelector": {"kubernetes.io/arch": "arm64"}}
    index = read_image(root / SERVICE, ("app",)).digests[1]
    values["image"]["digest"] = index  # a registry knows the index, too
    assert refusals(root, values) == []
    values["nodeSelector"] = {"kubernetes.io/arch": "s390x"}
    assert "the nodes are linux/s390x" in texts(refusals(root, values))


@pytest.mark.parametrize(
    "settings, place",
    [
        ({"Env": ["BREWCAST_ONLINE_STORE=redis://:hunter2@redis:6379/0"]}, "Env[0]"),
        ({"Env": ["STORE_PASSWORD=hunter2"]}, "STORE_PASSWORD"),
        ({"Labels": {"built-with": "ghp_0123456789abcdefABCDEF0123456789abcd"}}, "Labels.built-with"),
    ],
)
def test_a_secret_in_the_settings_of_the_image_is_refused(root, settings, place):
    found = setting_refusals(read_image(write_service(root, settings=settings), ("app",)), "service.tar")
    assert [refusal.where for refusal in found] == [f"service.tar, {place}"]


def test_a_missing_or_broken_archive_is_one_reason_with_the_way_out(root):
    (root / SERVICE).write_bytes((root / SERVICE).read_bytes()[:2000])
    assert "make image" in texts(refusals(root))
    (root / SERVICE).unlink()
    [refusal] = refusals(root)
    assert "make image" in str(refusal)


def test_without_a_published_release_the_first_command_is_named(root):
    shutil.rmtree(root / "state")
    assert "nothing is published for simulated; `make run SOURCE=simulated`" in texts(refusals(root))


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


REDIS = "redis://:hunter2@redis:6379/0"


@pytest.mark.parametrize(
    "text, problem",
    [
        (f"\n# onlineStore.url: {REDIS}\n", "a password in a URL is in a comment"),
        (f"\ningress: {{enabled: false, annotations: {{note: '{REDIS}'}}}}\n", "ingress.annotations.note: a password"),
        (f"\n{REDIS!r}: 1\n", "the document (a name)"),
        ("\nkey: |\n  -----BEGIN PRIVATE KEY-----\n  MIIEvQIBADAN\n", "key: a PEM block is inline"),
        ("\nmonitoring: {enabled: false, labels: {token: abc}}\n", "monitoring.labels.token: a value of a secret"),
        ("\nreplicas: 2\nreplicas: 3\n", "replicas is there twice"),
    ],
)
def test_a_secret_in_an_unusual_place_is_refused_and_not_repeated(root, text, problem):
    values = {
        name: value for name, value in good_values(root).items() if name not in ("ingress", "monitoring", "replicas")
    }
    found = texts(refusals(root, yaml.safe_dump(values) + text))
    assert problem in found and "hunter2" not in found and "MIIE" not in found


def test_a_placeholder_of_a_part_that_is_off_is_no_reason(root):
    values = good_values(root)
    for part in ("ingress", "apiKeys", "onlineStore", "monitoring"):
        values[part] = {"enabled": False}
    assert refusals(root, values) == []
    del values["image"]
    found = texts(refusals(root, values))
    assert "image.repository: the placeholder CHANGE-ME is left" in found and "image.digest" in found


def test_another_digest_and_another_source_are_refused(root):
    values = good_values(root)
    values["image"]["digest"] = "sha256:" + "1a" * 32
    assert f"image.digest: it is {values['image']['digest']}, but" in texts(refusals(root, values))
    assert "source is simulated, but the release is walmart's" in texts(
        refusals(root, good_values(root), source="walmart")
    )


@pytest.mark.parametrize(
    "text, problem",
    [
        ("- 1\n", "no names with values"),
        ("a: [1\n", "is not YAML"),
        ("replica: 3\n", "replica"),
        ("a: &a [*a]\n", "line 1 refers to itself"),
    ],
)
def test_values_that_are_none_are_refused(root, text, problem):
    assert problem in texts(refusals(root, text))


def test_a_file_of_values_that_is_missing_is_refused(root):
    assert "cannot be read" in texts(refusals(root, values=None) + read_values(root / "none.yaml")[1])


# -- the image of the stages


@pytest.fixture(scope="module")
def stage() -> SimpleNamespace:
    "What the image of the stages holds where it fits the project: its `layers`, and the `requirements` of its packages."
    requirements, _ = stage_requirements(ROOT)
    pairs = [line.split("==") for line in requirements.splitlines() if "==" in line]
    packages = {
        f"{STAGE_PACKAGES}/{name.split('[')[0]}-{rest.split()[0]}.dist-info/METADATA": "" for name, rest in pairs
    }
    code = {f"app/{name}": path.read_bytes() for name, path in project_files(ROOT).items()}
    return SimpleNamespace(layers=[packages, code], requirements=requirements)


@pytest.mark.parametrize(
    "layer, problem",
    [
        ({"app/state/simulated/ledger.db": "a volume", "app/brewcast/.exported.json": "a tool's"}, ""),
        ({"app/requirements.lock": "other"}, "different: requirements.lock"),
        ({"app/nbs/model/.wh.21_train.ipynb": ""}, "missing: nbs/model/21_train.ipynb"),
        ({"app/brewcast/more.py": "import evil"}, "too much: brewcast/more.py"),
        ({f"{STAGE_PACKAGES}/evil-1.dist-info/METADATA": ""}, "evil 1: not in requirements.lock"),
    ],
)
def test_an_image_of_the_stages_that_differs_is_refused(tmp_path, stage, layer, problem):
    archive = write_archive(tmp_path / "stage.tar", *stage.layers, layer, packed=False)
    image = read_image(archive, ("app", STAGE_PACKAGES))
    found = [*lock_refusals(ROOT, image, "stage.tar", STAGE_PACKAGES, stage.requirements, "build it")]
    found = texts([*found, *code_refusals(ROOT, image, "stage.tar", is_service=False)])
    assert problem in found if problem else found == ""


def test_the_image_of_the_stages_is_needed_for_the_monthly_step_alone(root):
    values = good_values(root) | {"monthly": {"enabled": True}}
    assert "make image" in texts(refusals(root, values))
    assert refusals(root, good_values(root)) == []


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


def test_the_toy_archive_is_a_tar_of_blobs(root):
    with tarfile.open(root / SERVICE) as archive:
        assert {name.split("/")[0] for name in archive.getnames()} == {"blobs", "index.json", "oci-layout"}
    assert len(service_layers(root)) == 2
