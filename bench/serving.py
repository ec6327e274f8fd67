"""The service compared with its peers: same model, same stores, same requests, same machine, in turns.

    .venv/bin/python bench/serving.py [--root . --source simulated] [--quick] [--rounds 3 --seconds 5] [--json FILE]

Works on a published project. Peers: BentoML + scikit-learn with BentoML's defaults, and with its adaptive batching;
FastAPI + scikit-learn; FastAPI + ONNX; `mlflow models serve`. They look up a store's row in memory and run the model. Before a
round is measured, every store's answer is compared with scikit-learn's. They do only what is measured: no prediction log, no
metrics, no limits, no second version. `mlflow models serve` has no look-up: its clients send the features, and it returns the
forecast alone.
Brewcast answers a plain request with values that it computed when the release was loaded. A peer could do that too. So models
are compared by the line "what-if", where each request has a plan (price, promotion, holidays) and the model runs.
Only one service runs at a time, on one core. wrk runs on another core, and posts prepared bodies in random order. CPU is the
time of the service's processes from before a load until they are idle; memory is their proportional set size (PSS) after all
loads; cold start is the time from exec to the first forecast with status 200. The figures are medians over rounds; a star
means that other processes took a tenth of the machine. wrk waits for each answer, so a slow service gets fewer requests.
"""

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from builds import shell
from measure import children_cpu, machine_cpu

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers" / "serving"
sys.path.insert(0, str(PEERS))

from process import SERVE, Service, free_port, link_project, pin_to_core, post, prepare_files  # noqa: E402

from brewcast.common.text import format_count  # noqa: E402

PY = sys.executable
PORT = "<port>"  # replaced by a free port in a command
OURS = "Brewcast"
STOCK = "BentoML + scikit-learn, stock"
BATCHING = "BentoML + scikit-learn, batching"
WHAT_IF = "Brewcast, what-if (the model runs)"
FAST = "FastAPI + ONNX"
TOOLS = ("bentoml", "fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "skl2onnx", "scikit-learn", "mlflow")
ALONE = "one store, 1 connection"
BUSY = "one store, 16 connections"
LOADS = {ALONE: (1, "one"), BUSY: (16, "one"), "100 stores, 16 connections": (16, "many")}  # connections, requests


class Peer:
    "A contestant: how to start it and where to send requests."

    def __init__(self, command, folder: Path, environment: dict, path: str = "/forecast"):
        self.command, self.folder, self.environment, self.path = command, folder, environment, path

    def service(self, body: bytes, log: Path, core: int | None) -> Service:
        port = free_port()
        words = pin_to_core([port if part == PORT else part for part in self.command], core)
        return Service(words, self.folder, self.environment, port, self.path, body, log)


def contestants(root: Path, source: str, files: Path, about: dict, serve: str) -> dict[str, Peer]:
    "By name. A baseline has no trees, so it cannot be converted to ONNX."
    copy = link_project(root, source, files.parent / "project")
    env = shell(PYTHONPATH=str(root), PEER_FILES=str(files), BENTOML_HOME=str(files.parent / "bentoml"))
    state = copy / "state" / source
    ours = shell(PYTHONPATH=str(copy), BENTOML_HOME=str(files.parent / "bentoml"), BREWCAST_STATE=str(state))
    address = ["--host", "127.0.0.1", "--port", PORT]
    bento, uvicorn = [PY, "-m", "bentoml", "serve"], [PY, "-m", "uvicorn", "--no-access-log"]
    mlflow = [PY, "-m", "mlflow", "models", "serve", "-m", files / "mlflow", "--env-manager", "local"]
    peers = {
        OURS: Peer([PY, *serve.split(), *address], copy, ours),
        STOCK: Peer([*bento, "bentoml_sklearn:Stock", *address], PEERS, env),
        BATCHING: Peer([*bento, "bentoml_sklearn:Batching", *address], PEERS, env),
        "FastAPI + scikit-learn": Peer([*uvicorn, "fastapi_sklearn:app", *address], PEERS, env),
        FAST: Peer([*uvicorn, "fastapi_onnx:app", *address], PEERS, env),
        "mlflow models serve": Peer([*mlflow, *address], files, env, "/invocations"),
    }
    if "weight" not in about:
        del peers[FAST]
    return peers


# -- one round


def check_answers(service: Service, requests: list[str], about: dict, expected: list[list[float]]) -> float:
    "Send one-store requests, which also warms up. Returns the largest relative difference; RuntimeError above 1e-4."
    worst = 0.0
    for text, wanted in zip(requests, expected, strict=True):
        status, body = post(service.port, service.path, text.encode())
        answer, values = json.loads(body) if status == 200 else {}, []
        if "predictions" in answer:  # MLflow's format
            values = answer["predictions"]
        elif answer and [each["store_id"] for each in answer] == json.loads(text)["store_ids"]:
            if answer[0]["month"] == about["month"]:
                values = [answer[0][name] for name in ("forecast", "lower", "upper")]
        differences = [abs(a - b) / max(abs(b), 1e-9) for a, b in zip(values, wanted, strict=False)]
        worst = max([worst, *differences]) if differences else math.inf
        if not worst <= 1e-4:
            raise RuntimeError(f"{text[:200]}: the answer is {status} {body[:300]!r}, and {wanted} is expected")
    return worst


def load(service: Service, path: Path, connections: int, seconds: float, core: int | None) -> dict[str, float]:
    "Run wrk for some seconds: latencies, requests per second, CPU."
    url = f"http://127.0.0.1:{service.port}"
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "60s", "-s", PEERS / "load.lua", url]
    service_before, machine_before, client_before = service.settled_cpu(), machine_cpu(), children_cpu()
    start = time.monotonic()
    process = subprocess.run(
        pin_to_core([*words, "--", path, service.path], core), capture_output=True, text=True, check=True
    )
    figures = json.loads(process.stdout.strip().splitlines()[-1])
    service_cpu = service.settled_cpu() - service_before
    wall = time.monotonic() - start
    others = machine_cpu() - machine_before - service_cpu - (children_cpu() - client_before)
    return figures | {
        "rate": figures["answered"] / figures["seconds"],
        "cpu_ms": 1e3 * service_cpu / max(1, figures["sent"] - 1),  # wrk counts one request that it does not send
        "others": max(0.0, others) / (wall * os.cpu_count()),
    }


def one_round(peer: Peer, about: dict, files: Path, cores: tuple, seconds: float, what_if: bool) -> dict[str, dict]:
    "Start a service, check its answers, apply every load, and end it."
    kind = "mlflow" if peer.path == "/invocations" else "ids"
    machine_before, start = machine_cpu(), time.monotonic()
    requests = {kind: (files / f"one.{kind}").read_text().splitlines()}
    if what_if:
        requests["plan"] = (files / "one.plan").read_text().splitlines()
    with peer.service(requests[kind][0].encode(), files / "service.log", cores[0]) as service:
        others = max(0.0, machine_cpu() - machine_before - service.cold_cpu) / (service.cold * os.cpu_count())
        figures = {"start": {"cold": service.cold, "cold_cpu": service.cold_cpu, "others": others}}
        for suffix, lines in requests.items():
            expected = about["plan" if suffix == "plan" else "ids"]
            loads = {"apart": check_answers(service, lines, about, expected)}
            for title, (connections, name) in LOADS.items():
                loads[title] = load(service, files / f"{name}.{suffix}", connections, seconds, cores[1])
            figures["what-if" if suffix == "plan" else "plain"] = loads
        figures["start"]["memory"] = service.pss()
    figures["start"]["took"] = time.monotonic() - start
    return figures


# -- the report


def medians(rounds: list[dict]) -> dict:
    "Medians of the numbers in nested dictionaries with the same keys."
    result = {}
    for key, first in rounds[0].items():
        if isinstance(first, dict):
            result[key] = medians([each[key] for each in rounds])
        else:
            result[key] = first if isinstance(first, str) else statistics.median(each[key] for each in rounds)
    return result


def align_columns(rows: list[list[str]]) -> str:
    "Text with columns of equal width. The first column is left-aligned."
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def format_number(value: float) -> str:
    "A number with three significant digits."
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def tables(medians_by_name: dict[str, dict | str]) -> str:
    "One table for each load, and one for starts."
    parts = []
    for title in LOADS:
        rows = [[title, "p50 ms", "p99 ms", "requests/s", "CPU ms", "failed", "requests"]]
        for name, result in medians_by_name.items():
            for label, kind in ((name, "plain"), (WHAT_IF, "what-if")):
                if isinstance(result, dict) and kind in result:
                    figures = result[kind][title]
                    cells = [format_number(figures[key]) for key in ("p50", "p99", "rate", "cpu_ms")]
                    star = "*" if figures["others"] > 0.1 else ""
                    rows.append([label + star, *cells, f"{figures['failed']:.0f}", f"{figures['answered']:,.0f}"])
        parts.append(align_columns(rows))
    rows = [["", "memory MB", "cold start s", "CPU s", "from scikit-learn"]]
    for name, result in medians_by_name.items():
        if isinstance(result, dict):
            start, star = result["start"], "*" if result["start"]["others"] > 0.1 else ""
            cells = [format_number(start[key]) for key in ("memory", "cold", "cold_cpu")]
            apart = max(result[kind]["apart"] for kind in ("plain", "what-if") if kind in result)
            rows.append([name + star, *cells, f"{apart:.0e}"])
    failed = [f"{name} {result}" for name, result in medians_by_name.items() if isinstance(result, str)]
    return "\n\n".join([*parts, align_columns(rows), *failed])


def check_goals(medians_by_name: dict[str, dict | str]) -> list[dict]:
    "The goals, the figures, and whether each goal is reached."
    measured = {name: result for name, result in medians_by_name.items() if isinstance(result, dict)}
    ours, stock, fast = (measured.get(name, {}) for name in (OURS, STOCK, FAST))
    results = []

    def add_goal(text, figure, unit, is_reached):
        results.append({"goal": text, "got": f"{format_number(figure)} {unit}", "reached": bool(is_reached)})

    for kind in ("plain", "what-if"):
        if kind in ours and "plain" in stock:
            ratio = ours[kind][BUSY]["rate"] / stock["plain"][BUSY]["rate"]
            add_goal(f"requests/s at 16 connections, {kind}: at least 10 x {STOCK}'s", ratio, "x", ratio >= 10)
        if kind in ours and "plain" in fast:
            our_p99, fast_p99 = (each[BUSY]["p99"] for each in (ours[kind], fast["plain"]))
            add_goal(
                f"p99 at 16 connections, {kind}: at most {FAST}'s {format_number(fast_p99)} ms",
                our_p99,
                "ms",
                our_p99 <= fast_p99,
            )
    if "start" in ours and "start" in stock:
        for key, text in (("cold", "cold start"), ("memory", "memory")):
            share = ours["start"][key] / stock["start"][key]
            add_goal(f"{text}: at most half of {STOCK}'s", share, "x", share <= 0.5)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="a published project, default this one")
    parser.add_argument("--source", default="simulated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each load in each round")
    parser.add_argument("--quick", action="store_true", help="one round of 2 seconds a load: about two minutes")
    parser.add_argument("--serve", default=SERVE, metavar="WORDS", help=f"Python's arguments, default {SERVE!r}")
    parser.add_argument(
        "--only", nargs="*", default=[""], metavar="PART", help="contestants whose name contains one of these"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round's figures")
    args = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing: apt install wrk")
    if args.quick:
        args.rounds, args.seconds = 1, 2.0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as in a user's shell: modules are compiled once
    start, load_before, root = time.monotonic(), os.getloadavg(), args.root.resolve()
    cores = sorted(os.sched_getaffinity(0))
    cores = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        about = prepare_files(root, args.source, files)
        peers = contestants(root, args.source, files, about, args.serve)
        peers = {name: peer for name, peer in peers.items() if any(part in name for part in args.only)}
        rounds = {name: [] for name in peers}
        for i in range(args.rounds):
            print(f"round {i + 1} of {args.rounds}", file=sys.stderr, flush=True)
            for name, peer in peers.items():
                if isinstance(rounds[name], list):
                    what_if = name == OURS and bool(about["plan"])
                    try:
                        rounds[name].append(one_round(peer, about, files, cores, args.seconds, what_if))
                        message = f"{rounds[name][-1]['start']['took']:.0f} s"
                    except (RuntimeError, OSError, ValueError, subprocess.CalledProcessError) as error:
                        message = rounds[name] = f"failed: {error}"
                    print(f"  {name}: {message}", file=sys.stderr, flush=True)
    medians_by_name = {name: result if isinstance(result, str) else medians(result) for name, result in rounds.items()}
    where = f"{os.cpu_count()} cores, load {load_before[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
    how = "service and wrk on one core each" if cores[0] is not None else "one core for service and wrk"
    tools = {tool: version(tool) for tool in TOOLS}
    print(f"\n{args.source}: {format_count(len(about['stores']), 'store')}, {json.dumps(about['recipe'])}")
    print(f"{args.rounds} rounds of {args.seconds:g} s per load; {where}; {how}; Python {platform.python_version()}")
    print("; ".join(f"{name} {number}" for name, number in tools.items()))
    print(f"\n{tables(medians_by_name)}\n")
    goals = check_goals(medians_by_name)
    for each in goals:
        print(f"{'reached' if each['reached'] else 'MISSED '}  {each['goal']}: {each['got']}")
    print("\n".join(["", *notes(about), f"All measurements took {(time.monotonic() - start) / 60:.1f} min."]))
    if args.json:
        whole = {
            "tools": tools,
            "load": load_before,
            "cores": os.cpu_count(),
            "goals": goals,
            "medians": medians_by_name,
        }
        args.json.write_text(json.dumps(whole | {"rounds": rounds}, indent=1))


def notes(about: dict) -> list[str]:
    "Notes for readers of the figures."
    lines = [
        f"Brewcast's plain answers were computed when the release was loaded; in {WHAT_IF!r} each request runs the model.",
        "mlflow models serve has no look-up of stores: requests contain the features, and it returns the forecast alone.",
    ]
    if len(about["stores"]) < 100:
        lines.append(
            f"The source has {format_count(len(about['stores']), 'store')}: a request for 100 stores is a request for all of them."
        )
    if not about["plan"]:
        lines.append(f"{about['recipe']['name']} of this source uses no plan, so there is no what-if.")
    if "weight" not in about:
        lines.append(f"{about['recipe']['name']} has no trees for ONNX, so there is no {FAST}.")
    return lines


if __name__ == "__main__":
    main()
