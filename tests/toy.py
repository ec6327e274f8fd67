"A toy project of four small stages, built by this project's own code, for the tests of builds."

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, commands, made_once, project_environment

from brewcast.cli import main

ENV = """\
source: near
data: data/near
sql: sql/near.sql
lags: [1, 12]
gate: {gain: 0.01, wins: 7}
fails: false
"""
PIPELINE = """\
executor: {dotted_path: brewcast.workflow.executor.Executor, workers: 2, extra_files: {look: [settings.ini]}}
tasks:
"""
IMPORTS = {  # by stage: its package, and its import; the imports have different forms
    "ingest": ("data", "from brewcast.data.shapes import twice"),
    "clean": ("data", "from brewcast.data.shapes import twice"),
    "look": ("data", "import brewcast.data.shapes as s"),
    "judge": ("model", "from brewcast.data import shapes"),
}
STAGES = {  # by stage: number, upstream, parameters, and the expression whose value is its product
    "ingest": (
        10,
        [],
        {"data": "data/near", "sql": "sql/near.sql"},
        "open(sql).read() + open(data + '/till.csv').read()",
    ),
    "clean": (11, ["ingest"], {"lags": [1, 12]}, "str(twice(lags))"),
    "look": (12, ["ingest"], {"wins": 7}, "str(wins)"),
    "judge": (
        22,
        ["clean"],
        {"gain": 0.01, "fails": False, "inputs": "products/near/inputs.json"},
        "act(fails)",
    ),
}
ACT = """\
def act(fails):
    "Write half of the product; fail if parameter `fails` is true."
    write_half()
    if fails:
        raise ValueError("parameter fails is set")
    return "whole"


def write_half():
    "Write an incomplete product, as a killed stage leaves it."
    Path(product["out"]).write_text("half")


if (pause := Path("paused") / Path(product["out"]).parent.name).exists():  # a test has paused this stage
    write_half()
    while pause.exists():
        time.sleep(0.02)
"""


def cell(kind: str, number: int, source: str, tags: list | None = None) -> dict:
    common = {"cell_type": kind, "id": f"cell-{number}", "metadata": {"tags": tags} if tags else {}, "source": source}
    return common | ({"execution_count": None, "outputs": []} if kind == "code" else {})


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    "The toy project, built. It is made once for all test workers."
    return made_once(tmp_path_factory, "toy", make_toy)


def make_toy(root: Path) -> None:
    shutil.copytree(ROOT / "brewcast", root / "brewcast", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ["nbs/data", "nbs/model", "sql", "data/near"]:
        (root / folder).mkdir(parents=True)
    for name in ["settings.ini", "requirements.lock"]:
        (root / name).write_text((ROOT / name).read_text())
    (root / "env.yaml").write_text(ENV)
    (root / "sql/near.sql").write_text("SELECT 1")
    (root / "data/near/till.csv").write_text("store_id\nS1\n")
    shapes = "from ..common.areas import area\n\nHOME = 'brewcast.data'\n\n\ndef twice(x):\n    return 2 * area(x)\n"
    (root / "brewcast/data/shapes.py").write_text(shapes)
    (root / "brewcast/common/areas.py").write_text('def area(x):\n    "As it is."\n    return x\n')
    tasks = ""
    for name, (number, upstream, params, expression) in STAGES.items():
        placeholders = {
            key: value if key == "inputs" else "{{%s}}" % (f"gate.{key}" if key in ("gain", "wins") else key)
            for key, value in params.items()
        }
        product = {
            key: f"products/{{{{source}}}}/{name}/{file}" for key, file in [("nb", f"{name}.ipynb"), ("out", "out.txt")]
        }
        package, imports = IMPORTS[name]
        source = f"nbs/{package}/{number}_{name}.ipynb"
        task = {"name": name, "source": source, "params": placeholders, "product": product}
        tasks += f"- {json.dumps(task)}\n"
        declared = "\n".join(
            [f"upstream = {upstream!r}", "product = None", *(f"{k} = {v!r}" for k, v in params.items())]
        )
        cells = [
            cell("markdown", 0, f"# {name}"),
            cell("code", 1, f"import time\nfrom pathlib import Path\n\n{imports}"),
            cell("code", 2, declared, ["parameters"]),
            cell("code", 3, ACT),
            cell("code", 4, f"# the run\nPath(product['out']).write_text({expression})"),
        ]
        kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
        notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (root / source).write_text(json.dumps(notebook))
    (root / "pipeline.yaml").write_text(PIPELINE + tasks)
    assert sorted(started_stages(commands(root)(BUILD, **FORKS).err)) == sorted(STAGES)


@pytest.fixture
def toy(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "toy"))


@pytest.fixture
def run(toy):
    return functools.partial(commands(toy), **FORKS)


@pytest.fixture
def brewcast(toy, monkeypatch, capfd):
    "Run a command in this process, which has imported Ploomber already: `brewcast('build')` gives status, out and err."
    os.environ.update(FORKS)
    monkeypatch.chdir(toy)

    def call(line: str, fails: bool = False) -> SimpleNamespace:
        capfd.readouterr()
        status = main(shlex.split(line))
        out, err = capfd.readouterr()
        assert (status != 0) == fails, f"{line}: {status}\n{out}\n{err}"
        return SimpleNamespace(out=out, err=err, status=status)

    return call


FORKS = {"BREWCAST_KERNELS": "ipykernel.kernelapp"}  # the toy stages need no other library in the warm process
BUILD = f"{sys.executable} -m brewcast.cli build"


def start_build(root: Path, log: Path | None = None, command: list[str] | None = None, **options) -> subprocess.Popen:
    "Start a build in a process and a session of its own."
    command = command or [sys.executable, "-m", "brewcast.cli", "build"]
    environment = project_environment(root) | FORKS
    with open(log or os.devnull, "w") as log_file:
        return subprocess.Popen(command, cwd=root, env=environment, stderr=log_file, start_new_session=True, **options)


def pause_stage(root: Path, stage: str) -> None:
    "Make a stage write half of its product and then wait for `resume_stages`."
    (root / "paused").mkdir(exist_ok=True)
    (root / "paused" / stage).touch()


def resume_stages(root: Path) -> None:
    shutil.rmtree(root / "paused")


def replace_in_file(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def started_stages(progress: str) -> list[str]:
    "The stages that a build started, in order, from its progress lines."
    return re.findall(r"of \d+ +(\w+) +starts", progress)
