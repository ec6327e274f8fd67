"""Build times: Brewcast compared with papermill, nbconvert and stock Ploomber; for rebuilds also with Kedro and DVC.

    .venv/bin/python bench/builds.py [--stores 12 --months 40 --lines 60000 | --full] [--repeat 3] [--tree]

A: a cold build (data, but no products and no state). B: nothing changed. C: one parameter of a late stage changed.
Wall seconds and CPU seconds (user and system, of all processes that a command started), as medians and ranges; contestants
take turns. `others` is the CPU time of other processes meanwhile. Where it was a tenth of the machine or more, the wall
seconds have a star, and only the CPU seconds can be compared.
Works in a clone of HEAD (--tree: with uncommitted changes) in a temporary folder. Kedro and DVC have their own environment in
scratch/peers. All figures are also written to scratch/builds.json.
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
from functools import partial
from importlib.metadata import version
from pathlib import Path

from measure import adopt_orphans, in_turns, measured, table

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
sys.path.insert(0, str(PEERS))

import toy  # noqa: E402

BIN = ROOT / ".venv/bin"
PY = BIN / "python"
SOURCE = "simulated"
SETTINGS = ("SOURCE", "PLOOMBER_", "BREWCAST_", "MLFLOW_", "BENTOML_", "JUPYTER_CONFIG", "PYTHON", "MAKE", "MFLAGS")
NO_TELEMETRY = {"PLOOMBER_STATS_ENABLED": "false", "PLOOMBER_VERSION_CHECK_DISABLED": "true", "DO_NOT_TRACK": "1"}
NO_TELEMETRY |= {"KEDRO_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
NO_TELEMETRY |= {"BENTOML_DO_NOT_TRACK": "True", "FEAST_USAGE": "False", "SCARF_NO_ANALYTICS": "true"}
UNITS = ("wall", "cpu")
COLD = "A. Cold build"
PARALLEL = "executor: {dotted_path: ploomber.executors.Parallel, processes: 2}"


def shell(**more) -> dict[str, str]:
    "The environment of a shell without an activated source, in which no tool sends telemetry."
    variables = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    variables |= NO_TELEMETRY
    variables["PATH"] = f"{BIN}{os.pathsep}{variables['PATH']}"
    return variables | {"PYTHONHASHSEED": "0", "MAKEFLAGS": "--no-print-directory"} | more


# -- working copies


def command_line(*words: str) -> list:
    "Brewcast's command."
    return [PY, "-m", "brewcast.cli", *words]


def run_in(copy: Path, *command) -> str:
    "Run a command that is not measured; its output."
    words, environment = [str(word) for word in command], shell(PYTHONPATH=str(copy))
    process = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{process.stdout[-2000:]}\n{process.stderr[-2000:]}")
    return process.stdout


def add_project_arguments(parser: argparse.ArgumentParser, repeat: int) -> None:
    "What `create_project` reads from the command line, and the number of rounds."
    parser.add_argument("--stores", type=int, default=12)
    parser.add_argument("--months", type=int, default=40)
    parser.add_argument("--lines", type=int, default=60_000)
    parser.add_argument("--full", action="store_true", help="60 months of 66 stores, 1.3 million lines")
    parser.add_argument("--repeat", type=int, default=repeat)
    parser.add_argument("--tree", action="store_true", help="with uncommitted changes, not only HEAD")


def create_project(place: Path, args: argparse.Namespace) -> Path:
    "A clone with exported modules, simulated data and this environment."
    subprocess.run(["git", "clone", "-q", ROOT, place], check=True)
    if args.tree:
        listing = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
        )
        for name in filter(None, listing.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, place / name)
            else:
                (place / name).unlink(missing_ok=True)
    (place / ".venv").symlink_to(ROOT / ".venv")
    size = "" if args.full else f", months={args.months}, stores={args.stores}, lines={args.lines}"
    run_in(place, *command_line("export"))
    run_in(place, PY, "-c", f"from brewcast.data.simulate import write_export; write_export('data/simulated'{size})")
    return place


def copy_project(template: Path, name: str, executor: str | None = None) -> Path:
    "Another working copy. `executor` replaces Brewcast's executor in pipeline.yaml."
    place = template.with_name(name)
    shutil.copytree(template, place, symlinks=True)
    if executor is not None:
        text = (place / "pipeline.yaml").read_text()
        text, n_replaced = re.subn(r"(?m)^executor:.*\n(?:[ \t]+.*\n)*", f"{executor}\n", text)
        if n_replaced != 1:
            raise SystemExit("pipeline.yaml has no executor to replace")
        (place / "pipeline.yaml").write_text(text)
    return place


def clear_builds(copy: Path) -> Path:
    "The working copy without products, state and release, as before its first build."
    for folder in ("products", "state", "release"):
        shutil.rmtree(copy / folder, ignore_errors=True)
    return copy


def clear_for_tool(copy: Path, inputs: bytes) -> Path:
    "The same, with the files that Brewcast's build writes before its first stage."
    (clear_builds(copy) / "products" / SOURCE).mkdir(parents=True)
    (copy / "state" / SOURCE).mkdir(parents=True)
    (copy / "products" / SOURCE / "inputs.json").write_bytes(inputs)
    return copy


def peer_environment() -> Path:
    "The folder of the commands of Kedro and DVC; their environment is created once."
    place, requirements = ROOT / "scratch" / "peers", PEERS / "requirements.txt"
    marker = place / "made"
    if not marker.exists() or marker.read_text() != requirements.read_text():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        install = [PY, "-m", "uv", "pip", "install", "-q", "--compile-bytecode", "-r", requirements]
        subprocess.run([*install, "-p", place / "bin" / "python"], check=True)
        marker.write_text(requirements.read_text())
    return place / "bin"


# -- the three comparisons


def tool_environment(copy: Path) -> dict[str, str]:
    "The environment that the tools find in a working copy."
    wiring = json.loads(run_in(copy, PY, PEERS / "notebooks.py", "wiring"))
    return shell(PYTHONPATH=str(copy)) | wiring["environment"]


def measure_cold_builds(ours: Path, stock: Path, parallel: Path, loop: Path, repeat: int, more_figures: dict) -> dict:
    "A: only the data is there. The cells' own seconds go to `more_figures`."
    environments = {copy: tool_environment(copy) for copy in (stock, parallel, loop)}
    script = PEERS / "notebooks.py"

    def inputs() -> bytes:
        return (ours / "products" / SOURCE / "inputs.json").read_bytes()

    def brewcast():
        return measured(command_line("build"), clear_builds(ours), shell(PYTHONPATH=str(ours)))

    def ploomber(copy):
        return measured([BIN / "ploomber", "build"], clear_for_tool(copy, inputs()), environments[copy])

    def papermill():
        return measured([PY, script, "papermill"], clear_for_tool(loop, inputs()), environments[loop])

    def nbconvert():
        clear_for_tool(loop, inputs())
        run_in(loop, PY, script, "inject", loop)
        names = list(json.loads(run_in(loop, PY, script, "wiring"))["stages"])
        line = (
            "{0}/jupyter nbconvert --to notebook --execute {1}.ipynb --output-dir products/{2}/{1} --output {1}.ipynb"
        )
        return measured(["sh", "-c", " && ".join(line.format(BIN, n, SOURCE) for n in names)], loop, environments[loop])

    def warm():
        figures = loop.with_name("warm.json")
        whole = measured([PY, script, "warm", figures], clear_for_tool(loop, inputs()), environments[loop])
        more_figures["cells"] = cells = json.loads(figures.read_text())
        return {key: sum(stage[key] for stage in cells.values()) for key in UNITS} | {"others": whole["others"]}

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


def measure_unchanged(ours: Path, stock: Path, repeat: int) -> dict:
    "B: the project once more, with nothing changed."
    own, theirs = shell(PYTHONPATH=str(ours)), tool_environment(stock)
    return in_turns(
        {
            "brewcast build": lambda: measured(command_line("build"), ours, own),
            "make build": lambda: measured(["make", "-o", ".venv/ready", "build"], ours, own),
            "ploomber build (stock)": lambda: measured([BIN / "ploomber", "build"], stock, theirs),
        },
        repeat,
    )


def measure_trivial_bodies(template: Path, ours: Path, repeat: int, more_figures: dict) -> dict:
    "B: a DAG of the same shape with trivial bodies, run once. Runs with nothing changed go to `more_figures`."
    stages = json.loads(run_in(ours, PY, PEERS / "notebooks.py", "wiring"))["stages"]
    shape = toy.shape_of(ours, stages)
    peer_bin = peer_environment()
    places = {"ours": copy_project(template, "toy ours"), "stock": copy_project(template, "toy stock", "")}
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
    env["stock"] = tool_environment(places["stock"])
    for name in ("kedro", "dvc"):
        env[name]["PATH"] = f"{peer_bin}{os.pathsep}{env[name]['PATH']}"
    for words in (
        ["init", "--no-scm", "-q"],
        ["config", "core.analytics", "false"],
        ["config", "core.check_update", "false"],
    ):
        subprocess.run([peer_bin / "dvc", *words], cwd=places["dvc"], env=env["dvc"], check=True)
    commands = {
        "brewcast build": ("ours", command_line("build")),
        "ploomber build (stock)": ("stock", [BIN / "ploomber", "build"]),
        "kedro run (runs all again)": ("kedro", [peer_bin / "kedro", "run"]),
        "kedro run --only-missing-outputs": ("kedro", [peer_bin / "kedro", "run", "--only-missing-outputs"]),
        "dvc repro": ("dvc", [peer_bin / "dvc", "repro"]),
        "dvc status": ("dvc", [peer_bin / "dvc", "status"]),
    }
    contestants = {name: partial(measured, line, places[place], env[place]) for name, (place, line) in commands.items()}
    first = ("brewcast build", "ploomber build (stock)", "kedro run (runs all again)", "dvc repro")
    runs = in_turns({name: contestants[name] for name in first}, 1)
    more_figures["unchanged"] = in_turns(contestants, repeat)
    return runs


def measure_one_parameter(ours: Path, stock: Path, repeat: int, name: str, first: float) -> dict:
    "C: a number of env.yaml changes, in each round to a new value."
    own, theirs = shell(PYTHONPATH=str(ours)), tool_environment(stock)
    step = {ours: 0, stock: 0}

    def changed(copy):
        value = round(first * (1 + step[copy] / 10), 6)
        step[copy] += 1
        value = int(value) if isinstance(first, int) else value
        text, n_replaced = re.subn(rf"(?m)^( *{name}: )\S+", rf"\g<1>{value}", (copy / "env.yaml").read_text())
        if n_replaced != 1:
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


def measure_published(ours: Path, repeat: int) -> dict:
    "B: after `publish`, and a build that has read the new state."
    for command in ("publish", "build", "publish"):
        run_in(ours, *command_line(command))
    environment = shell(PYTHONPATH=str(ours))
    return in_turns({"brewcast build": lambda: measured(command_line("build"), ours, environment)}, repeat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_project_arguments(parser, repeat=3)
    args = parser.parse_args()
    adopt_orphans()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as in a user's shell: modules are compiled once
    start, load, more_figures = time.monotonic(), os.getloadavg(), {}
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        template = create_project(Path(folder) / "template", args)
        ours, loop = copy_project(template, "ours"), copy_project(template, "loop")
        stock, parallel = copy_project(template, "stock", ""), copy_project(template, "parallel", PARALLEL)
        run_in(ours, *command_line("export"))
        repeat, results = (
            max(3, args.repeat),
            {},
        )  # a build with nothing changed is short, so it runs three times or more
        for title, contest in {
            COLD: lambda: measure_cold_builds(ours, stock, parallel, loop, args.repeat, more_figures),
            "B. Nothing changed": lambda: measure_unchanged(ours, stock, repeat),
            "The same DAG with trivial bodies, first run": lambda: measure_trivial_bodies(
                template, ours, repeat, more_figures
            ),
            "B. Nothing changed, the same DAG with trivial bodies": lambda: more_figures.pop("unchanged"),
            "C. package.golden_stores changed": lambda: measure_one_parameter(
                ours, stock, args.repeat, "golden_stores", 10
            ),
            "C. gate.min_gain changed": lambda: measure_one_parameter(ours, stock, args.repeat, "min_gain", 0.011),
            "B. Nothing changed, published": lambda: measure_published(ours, repeat),
        }.items():
            print(title, file=sys.stderr)
            try:
                results[title] = contest()
            except (RuntimeError, OSError, LookupError, ValueError) as error:
                results[title] = {"all": f"failed: {error}"}
    report(results, more_figures, args, commit, start, load)


def report(results: dict, more_figures: dict, args: argparse.Namespace, commit: str, start: float, load: tuple) -> None:
    "Print the tables, and write all figures to scratch/builds.json."
    pins = dict(re.findall(r"(?m)^(\w+)==(\S+)", (PEERS / "requirements.txt").read_text()))
    tools = {name: version(name) for name in ("ploomber", "papermill", "nbconvert", "ipykernel")}
    tools |= {name: pins[name] for name in ("kedro", "dvc")}
    size = "60 months, 66 stores" if args.full else f"{args.months} months, {args.stores} stores, {args.lines:,} lines"
    where = f"{os.cpu_count()} cores, load {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
    what = f"commit {commit}{' with uncommitted changes' if args.tree else ''}"
    print(f"\n{what}; {size}; {args.repeat} rounds; {where}; Python {platform.python_version()}, {platform.system()}")
    print("; ".join(f"{name} {number}" for name, number in tools.items()))
    for title, runs in results.items():
        print(table(title, runs, next(iter(runs))))
    cold_runs = results[COLD]
    if all(isinstance(runs, list) for runs in list(cold_runs.values())[:2]):
        ratio = {}
        for key in UNITS:
            ours, cells = (statistics.median(run[key] for run in runs) for runs in list(cold_runs.values())[:2])
            ratio[key] = ours / cells
        print(f"\ncold build / its cells' own time: {ratio['wall']:.2f} (goal: at most 1.3); CPU {ratio['cpu']:.2f}")
        print(
            "cells' own seconds: "
            + ", ".join(f"{name} {own['wall']:.1f}" for name, own in more_figures["cells"].items())
        )
    print(f"all measurements took {(time.monotonic() - start) / 60:.0f} min")
    (ROOT / "scratch").mkdir(exist_ok=True)
    (ROOT / "scratch" / "builds.json").write_text(json.dumps({"tools": tools, **more_figures, **results}, indent=1))


if __name__ == "__main__":
    main()
