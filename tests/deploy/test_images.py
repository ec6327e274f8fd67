"""The images really built and run: as nobody, without a shell, read-only; the same bytes twice; products as outside; no request lost.

Needs buildah and podman, and some ten minutes: the image of the stages has more than a gigabyte.
"""

import json
import re
import shutil
import subprocess
import sys

import pytest
from built_images import SERVICE, remove_image
from conftest import ROOT, copy_built

sys.path.append(str(ROOT / "bench"))

from compare_products import skip_reason  # noqa: E402
from containers import HARDENED, ServiceContainer, ask, limit_options, podman  # noqa: E402
from rolling_update import rolling_update  # noqa: E402

from brewcast.targets.image_archive import read_image  # noqa: E402
from brewcast.targets.images import (  # noqa: E402
    ARCHIVES,
    WRITTEN_FOLDERS,
    build_service_image,
    build_stage_image,
    image_labels,
)
from brewcast.targets.sbom import find_lister, write_bills  # noqa: E402

pytestmark = pytest.mark.timeout(3600)  # the image of the stages is built within a fixture
STAGE = "images-test-stage"  # no other image is replaced
MAX_MEGABYTES = 330  # of the service's image; BentoML's own has 1,360
READY_SECONDS = 7 * 3  # measured 1 to 5; a busy machine may take three times as long as allowed on an idle one


@pytest.fixture(scope="module")
def stage(published):
    "The image of the small project's stages."
    built = build_stage_image(published.root, name=STAGE)
    yield built
    remove_image(built.name)


@pytest.fixture(scope="module")
def running(service_image):
    with ServiceContainer(service_image.name) as container:
        yield container


def run_stage(image: str, root, *words: str):
    "Run a command of the project in a container that can write to its five folders only, and has no network."
    for name in WRITTEN_FOLDERS:
        (root / name).mkdir(exist_ok=True)
        subprocess.run(["chmod", "-R", "a+rwX", root / name], check=True)  # the container's user is another
    volumes = [f"--volume={root / name}:/app/{name}" for name in WRITTEN_FOLDERS]
    options = [*HARDENED, "--network=none", *limit_options(), *volumes]
    return podman("run", "--rm", *options, f"localhost/{image}", *words, check=False, timeout=1800)


def test_the_service_is_small_answers_read_only_as_nobody_and_ends_soon(service_image):
    listed = json.loads(podman("image", "inspect", f"localhost/{service_image.name}").stdout)[0]
    assert listed["Size"] < MAX_MEGABYTES * 1e6
    with ServiceContainer(service_image.name) as container:
        assert container.ready_seconds < READY_SECONDS
        status, answer = ask(container.port, "GET", "/forecast")
        assert status == 200 and json.loads(answer)[0]["model_version"] == service_image.name.partition(":")[2]
        users = podman("top", container.name, "huser", "user").stdout.split()[2:]
        assert set(users) & {"65532", "nonroot"} and "root" not in users
        # the prediction log is written although the root is read-only
        log = "import pathlib; print(sum(p.stat().st_size for p in pathlib.Path('/predictions').rglob('*') if p.is_file()))"
        assert int(podman("exec", container.name, "/usr/bin/python3.11", "-c", log).stdout) > 0
        assert container.stop() < 10
        assert container.state()["ExitCode"] in (0, 143)


def test_there_is_no_shell_no_compiler_and_no_installer(running):
    for program in ("/bin/sh", "/bin/bash", "/usr/bin/gcc", "/usr/bin/apt", "/usr/bin/dpkg"):
        assert podman("exec", running.name, program, check=False).returncode != 0
    search = "import shutil, importlib.util as u; print([n for n in ('pip', 'ensurepip') if u.find_spec(n)], shutil.which('uv'))"
    assert podman("exec", running.name, "/usr/bin/python3.11", "-c", search).stdout.strip() == "[] None"


def test_nothing_but_the_log_and_tmp_can_be_written(running):
    code = """
import pathlib
for folder in ("/", "/app", "/app/bento/src", "/usr/lib", "/etc", "/predictions", "/tmp"):
    try:
        (pathlib.Path(folder) / "x").write_text("x")
        print(folder)
    except OSError:
        pass
"""
    assert podman("exec", running.name, "/usr/bin/python3.11", "-c", code).stdout.split() == ["/predictions", "/tmp"]


def test_the_health_check_follows_the_service(service_image, running):
    listed = json.loads(podman("image", "inspect", f"localhost/{service_image.name}").stdout)[0]
    command = listed["Healthcheck"]["Test"][1:]
    assert podman("exec", running.name, *command, check=False).returncode == 0
    options = [*HARDENED, *limit_options(), "--network=none", "--entrypoint", json.dumps(command)]
    assert (
        podman("run", "--rm", *options, f"localhost/{service_image.name}", check=False).returncode == 1
    )  # nothing is served


def test_the_golden_answers_are_reproduced_without_a_network(service_image, published):
    options = [*HARDENED, *limit_options(), "--network=none"]
    printed = podman("run", "--rm", *options, f"localhost/{service_image.name}", "golden").stdout
    assert json.loads(printed) == json.loads((published.root / "release/release.json").read_text())


def test_the_same_content_gives_the_same_digest(service_image, published, tmp_path):
    # given another folder, with other times and another umask
    copy = copy_built(published.root, tmp_path / "elsewhere")
    subprocess.run(["find", copy, "-type", "f", "-exec", "touch", "-d", "2020-01-01", "{}", "+"], check=True)
    subprocess.run(["chmod", "-R", "go-rwx", copy / "products", copy / "state"], check=True)
    again = build_service_image(copy, "simulated", name=f"{SERVICE}-again")
    remove_image(again.name)
    assert again.digest == service_image.digest
    image = read_image(published.root / ARCHIVES / "service.tar", ())
    assert image.digests == [service_image.digest]
    assert image.settings["Labels"].items() >= image_labels(published.root, "brewcast-service").items()


def test_replicas_are_replaced_one_by_one_without_a_failed_request(service_image):
    result = rolling_update(service_image.name, replicas=2, clients=6, drain=2)
    assert result.failures == [] and result.requests > 500
    assert max(result.stop_seconds) < 20


def data_products(stage) -> list[str]:
    "The files of a stage that are the same in each build, relative to its folder: not its notebook, nor a build's own notes."
    names = [path.relative_to(stage).as_posix() for path in sorted(stage.rglob("*")) if path.is_file()]
    return [name for name in names if not (name.startswith(".") or skip_reason(f"{stage.name}/{name}"))]


def test_stages_make_the_same_bytes_in_a_container_as_outside(stage, published, tmp_path):
    root = copy_built(published.root, tmp_path / "project")
    shutil.rmtree(root / "scratch")
    for name in ("features", "train", "evaluate", "forecast"):
        done = run_stage(stage.name, root, "run", "--only", name)
        assert done.returncode == 0, done.stderr[-3000:]
        made = root / "scratch/simulated" / name
        outside = published.root / "products/simulated" / name
        assert data_products(made) == data_products(outside), "other files"
        for product in data_products(made):
            assert (made / product).read_bytes() == (outside / product).read_bytes(), product


def test_a_whole_month_runs_in_a_container(stage, published, tmp_path):
    # given the project's data in five folders that are empty otherwise
    (tmp_path / "project").mkdir()
    root = tmp_path / "project"
    shutil.copytree(published.root / "data", root / "data")
    # when the first month is processed
    done = run_stage(stage.name, root, "month")
    # then it is published, although nothing can be copied beside the read-only code
    assert done.returncode == 0, done.stderr[-3000:]
    assert (root / "state/simulated/current").exists()
    assert re.search(r"^20\d\d-\d\d .* serves", done.stdout), done.stdout


def test_the_lists_of_contents_are_valid_and_name_a_licence_for_nearly_all(service_image, published):
    path = published.root / ARCHIVES / "service.cdx.json"
    write_bills(path.parent, find_lister(ROOT))
    before = path.read_bytes()
    write_bills(path.parent, find_lister(ROOT))
    assert path.read_bytes() == before
    bill = json.loads(path.read_text())
    parts = [part for part in bill["components"] if "purl" in part]
    names = {part["name"] for part in parts}
    assert {"bentoml", "numpy", "onnxruntime", "libc6", "python3.11-minimal"} <= names and "pip" not in names
    locked = re.findall(r"(?m)^([\w.-]+)==", (published.root / "release/requirements.txt").read_text())
    assert len([part for part in parts if part["purl"].startswith("pkg:pypi/")]) <= len(locked)
    assert sum("licenses" not in part for part in parts) <= 1  # libcrypt1 describes its own in prose
    # by CycloneDX's own schema
    code = (
        "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator;"
        "sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()))"
    )
    python = ROOT / ".venv-checks/bin/python"
    done = subprocess.run([python, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
