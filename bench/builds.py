"""Builds side by side: Brewcast's against papermill, nbconvert and stock Ploomber; rebuilds against Kedro and DVC too.

    .venv/bin/python bench/builds.py [--stores 12 --months 40 --lines 60000 | --full] [--repeat 3] [--tree]

A: a cold build (no products, no state; the data is there). B: nothing changed. C: one parameter of a late stage changed.
Wall seconds and CPU seconds (user and system, of all processes that a command started), medians and range; contestants
take turns. `others` is what the rest of the machine computed meanwhile: where it took a tenth of the machine or more, the wall
seconds have a star, and only the CPU seconds are worth comparing.
Works in a clone of HEAD (--tree: with what is not committed yet) in a temporary folder. Kedro and DVC get an environment
of their own in scratch/peers. Figures also go to scratch/builds.json.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from measure import adopt_orphans, in_turns, measured, table

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
sys.path.insert(0, str(PEERS))

import toy  # noqa: E402

PY, BIN, SOURCE = ROOT / ".venv/bin/python", ROOT / ".venv/bin", "simulated"
SETTINGS = ("SOURCE", "PLOOMBER_", "BREWCAST_", "MLFLOW_", "BENTOML_", "JUPYTER_CONFIG", "PYTHON", "MAKE", "MFLAGS")
QUIET = {"PLOOMBER_STATS_ENABLED": "false", "PLOOMBER_VERSION_CHECK_DISABLED": "true", "DO_NOT_TRACK": "1"}
QUIET |= {"KEDRO_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
QUIET |= {"BENTOML_DO_NOT_TRACK": "True", "FEAST_USAGE": "False", "SCARF_NO_ANALYTICS": "true"}
UNITS, COLD = ("wall", "cpu"), "A. Cold build"
PARALLEL = "executor: {dotted_path: ploomber.executors.Parallel, processes: 2}"


def shell(**more) -> dict[str, str]:
    "The environment of a shell in which nothing is activated, and no tool calls home."
    own = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    path = f"{BIN}{os.pathsep}{own['PATH']}"
    return own | QUIET | {"PATH": path, "PYTHONHASHSEED": "0", "MAKEFLAGS": "--no-print-directory"} | more


# -- working copies


def command_line(*words: str) -> list:
    "Brewcast's command."
    return [PY, "-m", "brewcast.cli", *words]


def run_in(copy: Path, *command) -> str:
    "What a command that is not measured says."
    done = subprocess.run(
        [str(c) for c in command], cwd=copy, env=shell(PYTHONPATH=str(copy)), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def project(place: Path, asked: argparse.Namespace) -> Path:
    "A clone with modules exported and data simulated, on this environment."
    subprocess.run(["git", "clone", "-q", ROOT, place], check=True)
    if asked.tree:
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, place / name)
            else:
                (place / name).unlink(missing_ok=True)
    (place / ".venv").symlink_to(ROOT / ".venv")
    size = "" if asked.full else f", months={asked.months}, stores={asked.stores}, lines={asked.lines}"
    run_in(place, *command_line("export"))
    run_in(place, PY, "-c", f"from brewcast.data.simulate import write_export; write_export('data/simulated'{size})")
    return place


def copied(template: Path, name: str, executor: str | None = None) -> Path:
    "Another working copy; `executor`: a line for pipeline.yaml instead of Brewcast's executor."
    place = template.with_name(name)
    shutil.copytree(template, place, symlinks=True)
    if executor is not None:
        text = (place / "pipeline.yaml").read_text()
        text, found = re.subn(r"(?m)^executor:.*\n(?:[ \t]+.*\n)*", f"{executor}\n", text)
        if found != 1:
            raise SystemExit("pipeline.yaml has no executor to take out")
        (place / "pipeline.yaml").write_text(text)
    return place


def emptied(copy: Path) -> Path:
    "As a clone before its first build."
    for folder in ("products", "state", "release"):
        shutil.rmtree(copy / folder, ignore_errors=True)
    return copy


def with_inputs(copy: Path, inputs: bytes) -> Path:
    "Emptied, but for what Brewcast's build writes before its first stage."
    (emptied(copy) / "products" / SOURCE).mkdir(parents=True)
    (copy / "state" / SOURCE).mkdir(parents=True)
    (copy / "products" / SOURCE / "inputs.json").write_bytes(inputs)
    return copy


def peers() -> Path:
    "The environment of Kedro and DVC, made once."
    place, wanted = ROOT / "scratch" / "peers", PEERS / "requirements.txt"
    if not (place / "made").exists() or (place / "made").read_text() != wanted.read_text():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        install = [PY, "-m", "uv", "pip", "install", "-q", "--compile-bytecode", "-r", wanted]
        subprocess.run([*install, "-p", place / "bin" / "python"], check=True)
        (place / "made").write_text(wanted.read_text())
    return place / "bin"


# -- the three comparisons


def activated(copy: Path) -> dict[str, str]:
    "The environment that the tools find in a working copy."
    wired = json.loads(run_in(copy, PY, PEERS / "notebooks.py", "wiring"))
    return shell(PYTHONPATH=str(copy)) | wired["environment"]


def cold(ours: Path, stock: Path, parallel: Path, loop: Path, repeat: int, keep: dict) -> dict:
    "A: nothing is there but the data."
    environments = {copy: activated(copy) for copy in (stock, parallel, loop)}
    script = PEERS / "notebooks.py"
    inputs = lambda: (ours / "products" / SOURCE / "inputs.json").read_bytes()  # noqa: E731

    def brewcast():
        return measured(command_line("build"), emptied(ours), shell(PYTHONPATH=str(ours)))

    def ploomber(copy):
        return measured([BIN / "ploomber", "build"], with_inputs(copy, inputs()), environments[copy])

    def papermill():
        return measured([PY, script, "papermill"], with_inputs(loop, inputs()), environments[loop])

    def nbconvert():
        with_inputs(loop, inputs())
        run_in(loop, PY, script, "inject", loop)
        names = list(json.loads(run_in(loop, PY, script, "wiring"))["stages"])
        line = (
            "{0}/jupyter nbconvert --to notebook --execute {1}.ipynb --output-dir products/{2}/{1} --output {1}.ipynb"
        )
        return measured(["sh", "-c", " && ".join(line.format(BIN, n, SOURCE) for n in names)], loop, environments[loop])

    def warm():
        figures = loop.with_name("warm.json")
        whole = measured([PY, script, "warm", figures], with_inputs(loop, inputs()), environments[loop])
        keep["cells"] = json.loads(figures.read_text())
        return {key: sum(stage[key] for stage in keep["cells"].values()) for key in UNITS} | {"others": whole["others"]}

    return in_turns(
        {
            "Brewcast": brewcast,
            "cells alone, one warm process": warm,
            "papermill, one after the other": papermill,
            "nbconvert --execute, one after the other": nbconvert,
            "ploomber build (stock, serial)": lambda: ploomber(stock),
            "ploomber build (stock, parallel)": lambda: ploomber(parallel),
        },
        repeat,
    )


def unchanged(ours: Path, stock: Path, repeat: int) -> dict:
    "B: the project again, with nothing changed."
    own, theirs = shell(PYTHONPATH=str(ours)), activated(stock)
    return in_turns(
        {
            "brewcast build": lambda: measured(command_line("build"), ours, own),
            "make build": lambda: measured(["make", "-o", ".venv/ready", "build"], ours, own),
            "ploomber build (stock)": lambda: measured([BIN / "ploomber", "build"], stock, theirs),
        },
        repeat,
    )


def same_shape(template: Path, ours: Path, repeat: int, keep: dict) -> dict:
    "B: a DAG of the same shape and trivial bodies, run once; runs with nothing changed go to `keep`."
    stages = json.loads(run_in(ours, PY, PEERS / "notebooks.py", "wiring"))["stages"]
    shape, bin_ = toy.shape_of(ours, stages), peers()
    places = {"ours": copied(template, "toy ours"), "stock": copied(template, "toy stock", "")}
    for place in places.values():
        toy.write_notebooks(place, stages, shape)
    for name in ("kedro", "dvc"):
        places[name] = template.with_name(f"toy {name}")
        shutil.copytree(template / "data", places[name] / "data")
        shutil.copytree(template / "sql", places[name] / "sql")
    for place in places.values():
        shutil.copy(PEERS / "toy.py", place)
    toy.write_kedro(
        places["kedro"], shape, re.search(r"(?m)^kedro==(\S+)", (PEERS / "requirements.txt").read_text())[1]
    )
    toy.write_dvc(places["dvc"], shape)
    env = {name: shell(PYTHONPATH=str(place)) for name, place in places.items()}
    env["stock"] = activated(places["stock"])
    for name in ("kedro", "dvc"):
        env[name]["PATH"] = f"{bin_}{os.pathsep}{env[name]['PATH']}"
    for words in (
        ["init", "--no-scm", "-q"],
        ["config", "core.analytics", "false"],
        ["config", "core.check_update", "false"],
    ):
        subprocess.run([bin_ / "dvc", *words], cwd=places["dvc"], env=env["dvc"], check=True)
    commands = {
        "brewcast build": ("ours", command_line("build")),
        "ploomber build (stock)": ("stock", [BIN / "ploomber", "build"]),
        "kedro run (runs all again)": ("kedro", [bin_ / "kedro", "run"]),
        "kedro run --only-missing-outputs": ("kedro", [bin_ / "kedro", "run", "--only-missing-outputs"]),
        "dvc repro": ("dvc", [bin_ / "dvc", "repro"]),
        "dvc status": ("dvc", [bin_ / "dvc", "status"]),
    }
    contest = {name: (lambda at, line: lambda: measured(line, places[at], env[at]))(*c) for name, c in commands.items()}
    first = ("brewcast build", "ploomber build (stock)", "kedro run (runs all again)", "dvc repro")
    runs = in_turns({name: contest[name] for name in first}, 1)
    keep["again"] = in_turns(contest, repeat)
    return runs


def one_parameter(ours: Path, stock: Path, repeat: int, name: str, first: float) -> dict:
    "C: a number of env.yaml changes, in each round to one that was never there."
    own, theirs, step = shell(PYTHONPATH=str(ours)), activated(stock), {ours: 0, stock: 0}

    def changed(copy):
        value, step[copy] = round(first * (1 + step[copy] / 10), 6), step[copy] + 1
        value = int(value) if isinstance(first, int) else value
        text, found = re.subn(rf"(?m)^( *{name}: )\S+", rf"\g<1>{value}", (copy / "env.yaml").read_text())
        if found != 1:
            raise LookupError(f"env.yaml has no {name}")
        (copy / "env.yaml").write_text(text)
        return copy

    return in_turns(
        {
            "brewcast build": lambda: measured(command_line("build"), changed(ours), own),
            "ploomber build (stock)": lambda: measured([BIN / "ploomber", "build"], changed(stock), theirs),
        },
        repeat,
    )


def published(ours: Path, repeat: int) -> dict:
    "B: after `publish` too, once a build has seen what it left."
    for command in ("publish", "build", "publish"):
        run_in(ours, *command_line(command))
    return in_turns(
        {"brewcast build": lambda: measured(command_line("build"), ours, shell(PYTHONPATH=str(ours)))}, repeat
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--stores", type=int, default=12)
    asked.add_argument("--months", type=int, default=40)
    asked.add_argument("--lines", type=int, default=60_000)
    asked.add_argument("--full", action="store_true", help="60 months of 66 stores, 1.3 million lines")
    asked.add_argument("--repeat", type=int, default=3)
    asked.add_argument("--tree", action="store_true", help="the files as they are now, not those of HEAD")
    asked = asked.parse_args()
    adopt_orphans()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as in a user's shell: modules are compiled once
    begun, load, keep = time.monotonic(), os.getloadavg(), {}
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        template = project(Path(folder) / "template", asked)
        ours, loop = copied(template, "ours"), copied(template, "loop")
        stock, parallel = copied(template, "stock", ""), copied(template, "parallel", PARALLEL)
        run_in(ours, *command_line("export"))
        again, results = max(3, asked.repeat), {}
        for title, contest in {
            COLD: lambda: cold(ours, stock, parallel, loop, asked.repeat, keep),
            "B. Nothing changed": lambda: unchanged(ours, stock, again),
            "The same DAG with trivial bodies, first run": lambda: same_shape(template, ours, again, keep),
            "B. Nothing changed, the same DAG with trivial bodies": lambda: keep.pop("again"),
            "C. package.golden_stores changed": lambda: one_parameter(ours, stock, asked.repeat, "golden_stores", 10),
            "C. gate.min_gain changed": lambda: one_parameter(ours, stock, asked.repeat, "min_gain", 0.011),
            "B. Nothing changed, published": lambda: published(ours, again),
        }.items():
            print(title, file=sys.stderr)
            try:
                results[title] = contest()
            except (RuntimeError, OSError, LookupError, ValueError) as error:
                results[title] = {"all": f"failed: {error}"}
    report(results, keep, asked, commit, begun, load)


def report(results: dict, keep: dict, asked: argparse.Namespace, commit: str, begun: float, load: tuple) -> None:
    "Tables to standard output, and all figures to scratch/builds.json."
    pins = dict(re.findall(r"(?m)^(\w+)==(\S+)", (PEERS / "requirements.txt").read_text()))
    tools = {name: version(name) for name in ("ploomber", "papermill", "nbconvert", "ipykernel")}
    tools |= {name: pins[name] for name in ("kedro", "dvc")}
    size = (
        "60 months, 66 stores" if asked.full else f"{asked.months} months, {asked.stores} stores, {asked.lines:,} lines"
    )
    where = f"{os.cpu_count()} cores, load {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
    what = f"commit {commit}{' and the tree as it is' if asked.tree else ''}"
    print(f"\n{what}; {size}; {asked.repeat} rounds; {where}; Python {platform.python_version()}, {platform.system()}")
    print("; ".join(f"{name} {number}" for name, number in tools.items()))
    for title, runs in results.items():
        print(table(title, runs, next(iter(runs))))
    cold_runs = results[COLD]
    if all(isinstance(runs, list) for runs in list(cold_runs.values())[:2]):
        middle = {
            key: [statistics.median(run[key] for run in runs) for runs in list(cold_runs.values())[:2]] for key in UNITS
        }
        ratio = {key: ours / cells for key, (ours, cells) in middle.items()}
        print(f"\ncold build / its cells' own time: {ratio['wall']:.2f} (goal: at most 1.3); CPU {ratio['cpu']:.2f}")
        print("cells' own seconds: " + ", ".join(f"{name} {own['wall']:.1f}" for name, own in keep["cells"].items()))
    print(f"all of it took {(time.monotonic() - begun) / 60:.0f} min")
    (ROOT / "scratch").mkdir(exist_ok=True)
    (ROOT / "scratch" / "builds.json").write_text(json.dumps({"tools": tools, **keep, **results}, indent=1))


if __name__ == "__main__":
    main()
