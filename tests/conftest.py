"Shared fixtures and helpers: a copy of the project with little data, commands run in it, and the rule for skips."

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from guardian import start_guardian

from brewcast.common.params import TELEMETRY_OFF

for folder in ("bench", "docs"):  # their programs are tested, and tests start Chromium as the screenshots do
    sys.path.append(str(Path(__file__).resolve().parent.parent / folder))
pytest_plugins = [
    "toy",
    "looking",
    "built_images",
]  # a small project of four stages; a browser without a network; an image

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"months": 40, "stores": 12, "lines": 60_000}  # enough months for twelve cutoffs and one year before them
SMALL_PARAMETERS = {"n_estimators": 20, "golden_stores": 4}  # values in env.yaml that make a build short
collect_ignore = ["deploy"]  # `make test-deploy` names it: its tests need tools that no build needs
MISSING_DATA = "no data: "  # start of the reason of a skip that is allowed: the data of ../shared is missing

ACTIVATED_VARIABLES = ("SOURCE", "PLOOMBER_", "BREWCAST_", "MLFLOW_", "BENTOML_", "JUPYTER_CONFIG")
for name in [name for name in os.environ if name.startswith(ACTIVATED_VARIABLES) and name != "BREWCAST_FORBID_SKIPS"]:
    del os.environ[name]  # the tests do not depend on the source that the shell has activated
os.environ.update(TELEMETRY_OFF)


@pytest.fixture(autouse=True)
def same_environment():
    "Restore the environment variables after each test: a command called in this process activates its source."
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def copy_project(target: Path) -> Path:
    "Copy the files that a commit of the project would contain, and link this environment."
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / ".venv").symlink_to(ROOT / ".venv")
    return target


def project_environment(root: Path) -> dict:
    "Variables of a shell in which no project is activated; imports come from this project, not the installed library."
    return {
        **os.environ,
        "PYTHONPATH": str(root),
        "MAKEFLAGS": "--no-print-directory -o .venv/ready",
    }  # -o: make never installs into .venv, which is shared


def commands(root: Path):
    "A function that runs a shell line in a project."

    def run(line: str, fails: bool = False, timeout: int = 600, **variables) -> SimpleNamespace:
        options = {"cwd": root, "env": project_environment(root) | variables, "start_new_session": True}
        # files, not pipes: reading a pipe waits until every started process has closed it, even after the timeout
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            shell = subprocess.Popen(["bash", "-c", line], stdout=out, stderr=err, **options)
            try:
                status = shell.wait(timeout)
            except subprocess.TimeoutExpired:
                status = f"not finished after {timeout} s"
            finally:
                if shell.poll() is None:
                    os.killpg(shell.pid, signal.SIGKILL)
                    shell.wait()
            out.seek(0)
            err.seek(0)
            result = SimpleNamespace(out=out.read(), err=err.read(), status=status)
        assert isinstance(result.status, int) and (result.status != 0) == fails, (
            f"{line}: {result.status}\n{result.out[-4000:]}\n{result.err[-4000:]}"
        )
        result.all = result.out + result.err
        return result

    return run


def small_project(target: Path, **size) -> Path:
    "A copy of the project with little simulated data (months, stores, lines) and a small forest."
    copy_project(target)
    text = (target / "env.yaml").read_text()
    for name, value in SMALL_PARAMETERS.items():
        text, replacements = re.subn(rf"(?m)^( *{name}: )\S+", rf"\g<1>{value}", text)
        assert replacements == 1, f"env.yaml has {replacements} lines with {name}, not one"
    (target / "env.yaml").write_text(text)
    arguments = ", ".join(f"{name}={value}" for name, value in (SMALL | size).items())
    script = f"from brewcast.data.simulate import write_export; write_export('data/simulated', {arguments})"
    commands(target)(f'.venv/bin/python -c "{script}"')
    return target


def made_once(tmp_path_factory, name: str, make) -> Path:
    "A folder that one test worker creates with `make(folder)`, and that all workers read."
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / f"made {name}" / name  # with a space in its path
    marker = folder.parent / "done"
    with FileLock(base / f"{name}.lock"):
        if not marker.exists():
            shutil.rmtree(folder.parent, ignore_errors=True)
            make(folder)
            marker.touch()
    return folder


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    "A small project after its first `make run`: `root`, `out` and `err`. No test may change it."

    def make(root):
        result = commands(small_project(root))("make run")
        (root / "make run.json").write_text(json.dumps({"out": result.out, "err": result.err}))

    root = made_once(tmp_path_factory, "brewcast", make)
    return SimpleNamespace(root=root, **json.loads((root / "make run.json").read_text()))


@pytest.fixture(scope="module")
def project(published, tmp_path_factory):
    "A copy of the published project for each test file: `root`, and `run`, which runs a shell line in it."
    root = copy_built(published.root, tmp_path_factory.mktemp("a copy") / "brewcast")
    return SimpleNamespace(root=root, run=commands(root))


def copy_built(project: Path, target: Path) -> Path:
    "Copy a project with its products and state."
    return Path(shutil.copytree(project, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")))


def pytest_configure(config):
    "End every process that the test run has started, even if the run is killed."
    if not hasattr(config, "workerinput"):  # not in xdist's workers: they are started by the first process
        config.guardian = start_guardian()


# The slowest files run first, so that no worker starts one of them at the end. The order is from `--durations=0`.
SLOWEST_FILES = (
    "monthly sources examples lab journey docs lineage publish model_registry source_files executor runs backup ingest kernels app"
    " promotion faults staleness"
)


def pytest_collection_modifyitems(items):
    "Sort the tests: the slowest files first, the others by name."
    rank = {f"test_{name}": number for number, name in enumerate(SLOWEST_FILES.split())}
    items.sort(
        key=lambda item: (rank.get(item.path.stem, len(rank)), item.path.stem)
    )  # stable: the order within a file stays


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    "If BREWCAST_FORBID_SKIPS is set, turn a skip into a failure, unless its reason is missing data of ../shared."
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("BREWCAST_FORBID_SKIPS") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if "shared/data" not in reason and MISSING_DATA not in reason:
            report.outcome, report.longrepr = "failed", f"skipped, but BREWCAST_FORBID_SKIPS is set: {reason}"
