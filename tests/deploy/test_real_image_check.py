"`brewcast deploy check` on a real image: it is ready to be sent, and a release that answers otherwise is found by running it."

import json
import shutil
import subprocess

import pytest
import yaml
from archives import with_layer
from conftest import ROOT, commands

from brewcast.common.hashing import sha256
from brewcast.serving.release import release_id
from brewcast.targets.deploy_check import golden_refusals
from brewcast.targets.image_archive import read_image
from brewcast.targets.image_checks import BENTO_CODE, SERVICE_PACKAGES


@pytest.fixture(scope="module")
def shop(published, service_image):
    "A small project after `make run`, with the image of its service and values that name it."
    values = yaml.safe_load((ROOT / "deploy/example-values.yaml").read_text())
    values["image"]["digest"] = service_image.digest
    values["monthly"] = {"enabled": False}
    (published.root / "scratch/mine.yaml").write_text(yaml.safe_dump(values))
    return published.root


def copies() -> list[str]:
    "The images that a check has copied into podman's storage, and not removed again."
    line = ["podman", "images", "-q", "localhost/brewcast-deploy-check"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()


def month_of(root) -> str:
    return json.loads((root / "release/release.json").read_text())["month"]


def test_an_image_that_was_just_built_is_ready_to_be_sent(shop):
    line = f"python -m brewcast.cli deploy check --values scratch/mine.yaml --as-of {month_of(shop)}"
    result = commands(shop)(f". .venv/bin/activate; {line}")
    assert result.out.startswith("ready to be sent: nothing was found")
    assert copies() == []


def test_the_image_is_known_by_its_name_too(shop, service_image):
    line = f"python -m brewcast.cli deploy check --image localhost/{service_image.name}"
    result = commands(shop)(f". .venv/bin/activate; {line} --as-of {month_of(shop)}")
    assert result.out.startswith("ready to be sent: nothing was found")


def test_a_release_whose_golden_answers_differ_is_found_by_running_it(shop, tmp_path):
    # given an image whose release has another golden answer, under a name and hashes that fit it
    release = tmp_path / "release"
    shutil.copytree(shop / "release", release)
    golden = json.loads((release / "golden.json").read_text())
    golden[0]["answer"][0]["forecast"] *= 1.01
    (release / "golden.json").write_text(json.dumps(golden))
    content = json.loads((release / "release.json").read_text())
    content["files"]["golden.json"] = sha256(release / "golden.json")
    content["release"] = content["model_version"] = release_id(content)
    (release / "release.json").write_text(json.dumps(content))
    changed = {
        f"{BENTO_CODE}/release/{name}": (release / name).read_bytes() for name in ("golden.json", "release.json")
    }
    archive = with_layer(shop / "scratch/images/service.tar", tmp_path / "other.tar", changed)
    image = read_image(archive, (BENTO_CODE, SERVICE_PACKAGES), ("release/release.json",))
    # when it is run, then the store is named, and podman keeps nothing
    [refusal] = golden_refusals(archive, image, "other.tar")
    assert "does not reproduce its golden answers" in refusal.what and "does not get its golden answer" in refusal.what
    assert copies() == []


def test_an_image_without_the_service_is_refused_with_what_podman_says(shop, tmp_path):
    archive = with_layer(shop / "scratch/images/service.tar", tmp_path / "none.tar", {"app/bento/.wh.src": ""})
    image = read_image(archive, (BENTO_CODE, SERVICE_PACKAGES))
    [refusal] = golden_refusals(archive, image, "none.tar")
    assert "brewcast" in refusal.what
