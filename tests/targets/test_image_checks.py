"An image that differs from its project in one file, package, label or digest is refused, whatever its labels say."

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from archives import RELEASE, good_values, lock_text, refusals, texts, toy_deployment, write_archive, write_service
from conftest import ROOT

from brewcast import __version__
from brewcast.targets.image_archive import read_image
from brewcast.targets.image_checks import STAGE_PACKAGES, code_refusals, lock_refusals, setting_refusals
from brewcast.targets.images import project_files, stage_requirements


@pytest.fixture
def root(tmp_path) -> Path:
    return toy_deployment(tmp_path / "project")


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


def test_the_right_image_of_an_index_is_compared(root):
    write_service(root, processors=("arm64", "amd64"))
    assert refusals(root, good_values(root)) == []
    values = good_values(root) | {"nodeSelector": {"kubernetes.io/arch": "arm64"}}
    index = read_image(root / "scratch/images/service.tar", ("app",)).digests[1]
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


def test_without_a_published_release_the_first_command_is_named(root):
    shutil.rmtree(root / "state")
    assert "nothing is published for simulated; `make run SOURCE=simulated`" in texts(refusals(root))


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
        ({f"{STAGE_PACKAGES}/brewcast-{__version__}.dist-info/METADATA": ""}, ""),  # stage_context writes it
        ({f"{STAGE_PACKAGES}/brewcast-0.0.0.dist-info/METADATA": ""}, "brewcast 0.0.0: not in requirements.lock"),
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
