"What goes into the images, without building one: contexts, labels, packages, and the errors with their way out."

import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.markers import Marker
from releases import make_release

from brewcast.common.params import LEFT_OUT_FILE, lock_differences
from brewcast.serving.platforms import DEFAULT_PORT
from brewcast.targets import images
from brewcast.targets.base_image import IMAGE_FOLDER
from brewcast.targets.images import (
    SERVICE_IMAGE,
    WRITTEN_FOLDERS,
    bento_files,
    build_service_image,
    code_hash,
    image_command,
    image_labels,
    normalise_files,
    project_files,
    served_bento,
    served_release,
    service_context,
    stage_context,
    stage_requirements,
)
from brewcast.workflow.notebooks import SHIPPED_RECORD, ExportRecord, module_paths

SERVICE, STAGE = ((ROOT / IMAGE_FOLDER / f"Containerfile.{name}").read_text() for name in ("service", "stage"))


@pytest.fixture
def project(tmp_path):
    "The code of the project, with one published release and its Bento."
    root = tmp_path / "project"
    for name, path in project_files(ROOT).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / name)
    releases = root / "state/shop/releases"
    releases.mkdir(parents=True)
    made = make_release(tmp_path / "made").folder
    release = releases / yaml.safe_load((made / "release.json").read_text())["release"]
    shutil.copytree(made, release)
    (release / "requirements.txt").write_text("numpy==2.4.6 --hash=sha256:00\n")
    (root / "state/shop/current").symlink_to(f"releases/{release.name}")
    bento = root / "products/shop/package/bento"
    for name, path in bento_files(root, release).items():
        (bento / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, bento / "src" / name)
    (bento / "bento.yaml").write_text("name: brewcast\ncreation_time: '2026-11-28T07:55:10'\nmodels: []\n")
    return root


@pytest.fixture
def no_install(monkeypatch):
    "Packages are noted instead of installed: a list of (requirements, folder)."
    calls = []

    def note(requirements, folder):
        calls.append((requirements, folder))
        folder.mkdir()

    monkeypatch.setattr(images, "install_packages", note)
    return calls


def test_nothing_published_and_no_buildah_are_errors_with_a_way_out(project, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nothing is published for tea: `make run SOURCE=tea`"):
        build_service_image(project, "tea")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="buildah is not installed: `make image-programs`"):
        build_service_image(project, "shop")


def test_a_file_with_the_id_is_as_good_as_a_link(project):
    release = served_release(project, "shop")
    (project / "state/shop/current").unlink()
    (project / "state/shop/current").write_text(f"{release.name}\n")
    assert served_release(project, "shop") == release


def test_the_packaged_bento_is_taken_only_with_the_served_release_and_the_present_code(project, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(
        "brewcast.delivery.package.build_bento", lambda root, release, work: built.append(release) or work
    )
    packaged = project / "products/shop/package/bento"
    assert served_bento(project, "shop", tmp_path) == packaged and not built
    # a rollback: the ledger serves another release
    (packaged / "src/release/release.json").write_text("{}")
    assert served_bento(project, "shop", tmp_path) == tmp_path and built == [served_release(project, "shop")]
    shutil.copy(served_release(project, "shop") / "release.json", packaged / "src/release/release.json")
    # an edit of the service, which is not packaged yet; a module that the Bento lacks
    (packaged / "src/brewcast/serving/app.py").write_text("")
    served_bento(project, "shop", tmp_path)
    shutil.copy(project / "brewcast/serving/app.py", packaged / "src/brewcast/serving/app.py")
    (packaged / "src/brewcast/serving/container.py").unlink()
    served_bento(project, "shop", tmp_path)
    assert len(built) == 3


def test_the_context_of_the_service_holds_the_bento_and_the_hashed_packages(project, tmp_path, no_install):
    context = tmp_path / "context"
    context.mkdir()
    (project / "products/shop/package/bento/src/brewcast/__pycache__").mkdir()
    release = service_context(project, "shop", context)
    assert release.release == served_release(project, "shop").name
    assert no_install == [(context / "bento/src/release/requirements.txt", context / "packages")]
    # nothing in it differs between two builds
    assert yaml.safe_load((context / "bento/bento.yaml").read_text())["creation_time"] == "1970-01-01"
    assert not list(context.rglob("__pycache__"))
    # what only people and MLflow read is not in it
    assert not (context / "bento/src/release/model.joblib").exists()
    assert {path.name for path in context.iterdir()} == {"bento", "packages"}


def test_the_context_of_a_stage_holds_what_stages_need_and_a_record_of_the_export(
    project, tmp_path, no_install, monkeypatch
):
    context = tmp_path / "context"
    monkeypatch.setattr(
        images, "write_shipped_record", lambda root, copy: (copy / "brewcast" / SHIPPED_RECORD).write_text("{}")
    )
    stage_context(project, context)
    names = {
        path.relative_to(context / "project").as_posix() for path in (context / "project").rglob("*") if path.is_file()
    }
    assert {"pipeline.yaml", "requirements.lock", "settings.ini", "nbs/data/11_clean.ipynb", "brewcast/cli.py"} < names
    assert not any(name.startswith(("tests/", "docs/", "bench/", "state/", "products/")) for name in names)
    left_out = (context / "packages" / LEFT_OUT_FILE).read_text().split()
    assert {"jupyterlab", "playwright", "pytest", "ruff"} < {*left_out}
    # every file of the image counts in its tag, and nothing else does
    assert names - {f"brewcast/{SHIPPED_RECORD}"} == {*project_files(project)}


def test_code_lock_and_parameters_name_the_stage_image(project):
    before = code_hash(project)
    (project / "docs").mkdir()
    (project / "docs/a.md").write_text("a")
    assert code_hash(project) == before
    for name in ("nbs/data/11_clean.ipynb", "brewcast/cli.py", "env.yaml", "requirements.lock", "sql/simulated.sql"):
        original = (project / name).read_bytes()
        (project / name).write_bytes(original + b" ")
        assert code_hash(project) != before, name
        (project / name).write_bytes(original)
    assert code_hash(project) == before


def test_stages_need_no_tool_of_developers_and_the_rest_of_the_lock_is_named():
    requirements, left_out = stage_requirements(ROOT)
    needed = set(re.findall(r"(?m)^([\w.-]+)==", requirements))
    locked = set(re.findall(r"(?m)^([\w.-]+)==", (ROOT / "requirements.lock").read_text()))
    assert {"papermill", "ploomber", "mlflow", "feast", "bentoml", "ipywidgets", "scikit-learn"} < needed
    assert needed | {*left_out} == locked and not needed & {*left_out}
    entries = re.split(r"\n(?=[A-Za-z0-9])", requirements.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    # with its own markers: Debian's Python 3.11.2 needs a backport that later ones do not
    marker = re.search(r"(?m)^async-timeout==\S+ ; (.*?) \\", requirements)[1]
    assert Marker(marker).evaluate({"python_full_version": "3.11.2"})
    assert not Marker(marker).evaluate({"python_full_version": "3.11.9"})


def test_what_an_image_leaves_out_is_not_missing_but_another_version_is(tmp_path):
    (tmp_path / "numpy-2.0.dist-info").mkdir()
    (tmp_path / LEFT_OUT_FILE).write_text("uv\nnumpy\n")
    lock = tmp_path / "lock"
    lock.write_text("numpy==2.4.6 \\\nuv==0.13 \\\npandas==2.3 \\\n")
    assert lock_differences(lock, tmp_path) == {"numpy": ("2.0", "2.4.6"), "pandas": (None, "2.3")}


def test_the_record_in_an_image_is_followed_whatever_its_scratch_says(project):
    (project / "scratch").mkdir()
    (project / "scratch/.exported.json").write_text('{"cli.ipynb": ["of", "another image"]}')
    modules = module_paths(project)
    cli = project / "nbs/cli.ipynb"
    record = ExportRecord(project, modules)
    assert record.is_stale(cli)
    (project / "brewcast" / SHIPPED_RECORD).write_text(
        '{"cli.ipynb": ["%s", "%s"]}' % tuple(record.now(cli))  # noqa: UP031
    )
    assert not ExportRecord(project, modules).is_stale(cli)


def test_labels_say_which_release_and_lock_are_inside(project):
    release = images.ReleaseDescription.read(served_release(project, "shop") / "release.json")
    labels = image_labels(project, SERVICE_IMAGE, release, "shop")
    assert labels["brewcast.release"] == release.release and labels["brewcast.source"] == "shop"
    assert labels["brewcast.month"] == "2024-05-01" and labels["brewcast.features-as-of"] == "2024-04-30"
    assert re.fullmatch("[0-9a-f]{64}", labels["brewcast.lock"])
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not any(name.startswith("brewcast.release") for name in image_labels(project, "brewcast-stage"))


def test_a_build_uses_no_network_and_has_no_time_of_its_own():
    command = list(
        map(str, image_command("shop:1", Path("C"), Path("context"), {"b": "2", "a": "1"}, {"X": "y"}, "base:1"))
    )
    text = " ".join(command)
    for part in ("--network none", "--timestamp 0", "--omit-history", "--identity-label=false", "--format docker"):
        assert part in text
    assert text.index("--label a=1") < text.index("--label b=2")
    assert "--env X=y" in text and "--build-arg BASE=base:1" in text and text.endswith("-f C context")


def test_a_build_removes_no_image(project, monkeypatch):
    # given an image with the name that another clone has built, too
    commands = []
    monkeypatch.setattr(images, "run_program", lambda command: commands.append(command) or "")
    monkeypatch.setattr(images, "require_programs", lambda *names: None)
    monkeypatch.setattr(images, "stage_context", lambda root, folder: None)
    monkeypatch.setattr(images, "finish_image", lambda root, image, archive: image)
    images.build_stage_image(project, base="base:1")
    # then it is built, and nothing else is done
    assert [command[:2] for command in commands] == [["buildah", "bud"]]


def test_modes_and_times_do_not_depend_on_the_machine(tmp_path):
    for name, mode in {"program": 0o700, "secret": 0o600, "open": 0o666}.items():
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "link").symlink_to("nowhere")
    normalise_files(tmp_path)
    modes = {path.name: oct(path.lstat().st_mode & 0o7777) for path in tmp_path.iterdir() if not path.is_symlink()}
    assert modes == {"program": "0o755", "secret": "0o644", "open": "0o644", "tmp": "0o1777"}
    assert {path.lstat().st_mtime for path in tmp_path.iterdir()} == {0}


def test_the_containerfiles_run_as_nobody_without_a_shell_and_write_only_to_volumes():
    for text in (SERVICE, STAGE):
        users = re.findall(r"(?m)^USER (\S+)", text)
        assert users[-1] == "65532:65532"
        for instruction in re.findall(r"(?m)^(?:RUN|ENTRYPOINT|\s+CMD) (.*)", text):
            assert instruction.startswith('["/usr/bin/python3.11", '), instruction
        assert not re.search(r"https?://|\b(?:docker|quay|ghcr|gcr)\.io", text)
    assert yaml.safe_load(re.search(r"(?m)^VOLUME (\[.*\])", STAGE)[1]) == [f"/app/{name}" for name in WRITTEN_FOLDERS]
    assert all(f"COPY --chown=65532:65532 empty /app/{name}\n" in STAGE for name in WRITTEN_FOLDERS)
    assert f"EXPOSE {DEFAULT_PORT}\n" in SERVICE
