"What tests share: a copy of the project with little data, commands run in it, and what a skip means."

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

sys.path.append(str(Path(__file__).resolve().parent.parent / "bench"))  # its programs are tested, too
pytest_plugins = ["toy"]  # a small project of four stages

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"months": 40, "stores": 12, "lines": 60_000}  # enough months for twelve cutoffs beside a season
FEWER = {"n_estimators": 20, "golden_stores": 4}  # parameters of env.yaml
MISSING = "no data: "  # how the reason of a skip begins where only the data of ../shared is missing

ACTIVATED = ("SOURCE", "PLOOMBER_", "BREWCAST_", "MLFLOW_", "BENTOML_", "JUPYTER_CONFIG")
for name in [name for name in os.environ if name.startswith(ACTIVATED) and name != "BREWCAST_FORBID_SKIPS"]:
    del os.environ[name]  # the tests are those of the project, whatever source is activated
os.environ.update(TELEMETRY_OFF)


def copy_project(target: Path) -> Path:
    "The project as a commit would hold it, with this environment."
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
    "Variables of a shell in which nothing was activated; this project's library, not the one that is installed."
    return {
        **os.environ,
        "PYTHONPATH": str(root),
        "MAKEFLAGS": "--no-print-directory -o .venv/ready",
    }  # never sets up .venv, which is shared


def commands(root: Path):
    "A function that runs a shell line in a project."

    def run(line: str, fails: bool = False, timeout: int = 600, **variables) -> SimpleNamespace:
        options = {"cwd": root, "env": project_environment(root) | variables, "start_new_session": True}
        # files: a pipe would be waited for, time-out or not, as long as anything that was started holds it
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            shell = subprocess.Popen(["bash", "-c", line], stdout=out, stderr=err, **options)
            try:
                status = shell.wait(timeout)
            except subprocess.TimeoutExpired:
                status = f"not done after {timeout} s"
            finally:
                if shell.poll() is None:
                    os.killpg(shell.pid, signal.SIGKILL)
                    shell.wait()
            out.seek(0), err.seek(0)
            said = SimpleNamespace(out=out.read(), err=err.read(), status=status)
        assert isinstance(said.status, int) and (said.status != 0) == fails, (
            f"{line}: {said.status}\n{said.out[-4000:]}\n{said.err[-4000:]}"
        )
        said.all = said.out + said.err
        return said

    return run


def small_project(target: Path, **size) -> Path:
    "A copy of the project with little simulated data (months, stores, lines) and a small forest."
    copy_project(target)
    text = (target / "env.yaml").read_text()
    for name, fewer in FEWER.items():
        text, found = re.subn(rf"(?m)^( *{name}: )\S+", rf"\g<1>{fewer}", text)
        assert found == 1, f"env.yaml has no {name}"
    (target / "env.yaml").write_text(text)
    arguments = ", ".join(f"{name}={value}" for name, value in (SMALL | size).items())
    script = f"from brewcast.data.simulate import write_export; write_export('data/simulated', {arguments})"
    commands(target)(f'.venv/bin/python -c "{script}"')
    return target


def made_once(tmp_path_factory, name: str, make) -> Path:
    "A folder that one of the workers makes, by `make(folder)`, and all of them read."
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / f"made {name}" / name, base / f"made {name}" / "done"  # with a space in its path
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder.parent, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    "A small project after its first `make run`, which no test changes: `root`, `out` and `err`."

    def make(root):
        told = commands(small_project(root))("make run")
        (root / "make run.json").write_text(json.dumps({"out": told.out, "err": told.err}))

    root = made_once(tmp_path_factory, "brewcast", make)
    return SimpleNamespace(root=root, **json.loads((root / "make run.json").read_text()))


@pytest.fixture(scope="module")
def project(published, tmp_path_factory):
    "A copy of it for each file of tests: `root`, and `run` for a shell line in it."
    root = copy_built(published.root, tmp_path_factory.mktemp("a copy") / "brewcast")
    return SimpleNamespace(root=root, run=commands(root))


def copy_built(project: Path, target: Path) -> Path:
    "A project with all that was built, as somebody moves it."
    return Path(shutil.copytree(project, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")))


def pytest_configure(config):
    "What a run has started ends with it, however it ends."
    if not hasattr(config, "workerinput"):  # of xdist's workers the first process has started them
        config.guardian = start_guardian()


# The files that take longest come first, so that no worker is left with one of them at the end: `--durations=0` tells.
LONGEST = "monthly sources examples lab journey docs lineage publish model_registry executor runs backup ingest kernels app promotion faults"


def pytest_collection_modifyitems(items):
    "The longest files first, the others by name."
    rank = {f"test_{name}": number for number, name in enumerate(LONGEST.split())}
    items.sort(key=lambda item: (rank.get(item.path.stem, len(rank)), item.path.stem))  # stable: a file's own order


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    "Where skips are forbidden, one is a failure, unless the data of ../shared is what is missing."
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("BREWCAST_FORBID_SKIPS") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if "shared/data" not in reason and MISSING not in reason:
            report.outcome, report.longrepr = "failed", f"skipped, where BREWCAST_FORBID_SKIPS forbids it: {reason}"
