"""The service beside its peers: the same model, the same stores, the same requests, the same machine, in turns.

    .venv/bin/python bench/serving.py [--root . --source simulated] [--quick] [--rounds 3 --seconds 5] [--json FILE]

Works on a published project. Peers: BentoML + scikit-learn with BentoML's defaults, and with its adaptive batching;
FastAPI + scikit-learn; FastAPI + ONNX; `mlflow models serve`. They look a store's row up in memory and run the model, and
before a round is measured every store's answer is compared with scikit-learn's. They do what is measured and no more: no
prediction log, no metrics, no limits, no second version. `mlflow models serve` has no look-up: its clients must send the
features, and it answers the forecast alone.
Brewcast answers a plain request with what it computed when the release was loaded, which a peer could do too. The line to
compare models by is therefore "what-if", where each request brings a plan (price, promotion, holidays) and the model runs.
Only one service runs at a time, on one core, and wrk, which posts prepared bodies in random order, on another. CPU is that of
the service's processes from before a load until nothing is worked on any more, memory their proportional set size (PSS) after
all loads, cold start the time from exec to the first 200 of the forecast. Medians over rounds; a star where other processes
took a tenth of the machine. wrk waits for each answer before it asks again, so a slow service is also asked less often.
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

from process import SERVE, Service, free_port, pinned, post, prepared, project_over_copy  # noqa: E402

from brewcast.common.text import format_count  # noqa: E402

PY, PORT = sys.executable, "<port>"
OURS, STOCK, BATCHING = "Brewcast", "BentoML + scikit-learn, stock", "BentoML + scikit-learn, batching"
WHAT_IF, FAST = "Brewcast, what-if (the model runs)", "FastAPI + ONNX"
TOOLS = ("bentoml", "fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "skl2onnx", "scikit-learn", "mlflow")
ALONE, BUSY = "one store, 1 connection", "one store, 16 connections"
LOADS = {ALONE: (1, "one"), BUSY: (16, "one"), "100 stores, 16 connections": (16, "many")}  # connections, requests


class Peer:
    "How a contestant is started and asked."

    def __init__(self, command, folder: Path, environment: dict, path: str = "/forecast"):
        self.command, self.folder, self.environment, self.path = command, folder, environment, path

    def started(self, body: bytes, log: Path, core: int | None) -> Service:
        port = free_port()
        words = pinned([port if part == PORT else part for part in self.command], core)
        return Service(words, self.folder, self.environment, port, self.path, body, log)


def contestants(root: Path, source: str, files: Path, about: dict, serve: str) -> dict[str, Peer]:
    "By name. A baseline has no trees, so nothing to convert to ONNX."
    copy = project_over_copy(root, source, files.parent / "project")
    env = shell(PYTHONPATH=str(root), PEER_FILES=str(files), BENTOML_HOME=str(files.parent / "bentoml"))
    state = copy / "state" / source
    ours = shell(PYTHONPATH=str(copy), BENTOML_HOME=str(files.parent / "bentoml"), BREWCAST_STATE=str(state))
    at = ["--host", "127.0.0.1", "--port", PORT]
    bento, uvicorn = [PY, "-m", "bentoml", "serve"], [PY, "-m", "uvicorn", "--no-access-log"]
    mlflow = [PY, "-m", "mlflow", "models", "serve", "-m", files / "mlflow", "--env-manager", "local"]
    found = {
        OURS: Peer([PY, *serve.split(), *at], copy, ours),
        STOCK: Peer([*bento, "bentoml_sklearn:Stock", *at], PEERS, env),
        BATCHING: Peer([*bento, "bentoml_sklearn:Batching", *at], PEERS, env),
        "FastAPI + scikit-learn": Peer([*uvicorn, "fastapi_sklearn:app", *at], PEERS, env),
        FAST: Peer([*uvicorn, "fastapi_onnx:app", *at], PEERS, env),
        "mlflow models serve": Peer([*mlflow, *at], files, env, "/invocations"),
    }
    if "weight" not in about:
        del found[FAST]
    return found


# -- one round


def check_answers(service: Service, asked: list[str], about: dict, told: list[list[float]]) -> float:
    "Ask one store at a time, which also warms it up; the largest relative difference from `told`. RuntimeError beyond 1e-4."
    worst = 0.0
    for text, wanted in zip(asked, told, strict=True):
        status, body = post(service.port, service.path, text.encode())
        answer, got = json.loads(body) if status == 200 else {}, []
        if "predictions" in answer:  # MLflow's
            got = answer["predictions"]
        elif answer and [each["store_id"] for each in answer] == json.loads(text)["store_ids"]:
            got = [answer[0][name] for name in ("forecast", "lower", "upper")] * (answer[0]["month"] == about["month"])
        pairs = list(zip(got, wanted, strict=False))
        worst = max([worst, *(abs(a - b) / max(abs(b), 1e-9) for a, b in pairs)]) if pairs else math.inf
        if not worst <= 1e-4:
            raise RuntimeError(f"{text[:200]} is answered by {status} {body[:300]!r} instead of {wanted}")
    return worst


def load(service: Service, path: Path, connections: int, seconds: float, core: int | None) -> dict[str, float]:
    "wrk for some seconds: latencies, requests a second, CPU."
    url = f"http://127.0.0.1:{service.port}"
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "60s", "-s", PEERS / "load.lua", url]
    own, machine, client, begun = service.settled_cpu(), machine_cpu(), children_cpu(), time.monotonic()
    done = subprocess.run(pinned([*words, "--", path, service.path], core), capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    own, wall = service.settled_cpu() - own, time.monotonic() - begun
    others = machine_cpu() - machine - own - (children_cpu() - client)
    return figures | {
        "rate": figures["answered"] / figures["seconds"],
        "cpu_ms": 1e3 * own / max(1, figures["sent"] - 1),  # wrk asks for one request to look at, and sends it not
        "others": max(0.0, others) / (wall * os.cpu_count()),
    }


def one_round(peer: Peer, about: dict, files: Path, cores: tuple, seconds: float, what_if: bool) -> dict[str, dict]:
    "Start, check, load in every way, end."
    kind, machine, begun = "mlflow" if peer.path == "/invocations" else "ids", machine_cpu(), time.monotonic()
    asked = {kind: (files / f"one.{kind}").read_text().splitlines()}
    if what_if:
        asked["plan"] = (files / "one.plan").read_text().splitlines()
    with peer.started(asked[kind][0].encode(), files / "service.log", cores[0]) as service:
        others = max(0.0, machine_cpu() - machine - service.cold_cpu) / (service.cold * os.cpu_count())
        found = {"start": {"cold": service.cold, "cold_cpu": service.cold_cpu, "others": others}}
        for suffix, lines in asked.items():
            loads = {"apart": check_answers(service, lines, about, about["plan" if suffix == "plan" else "ids"])}
            for title, (connections, name) in LOADS.items():
                loads[title] = load(service, files / f"{name}.{suffix}", connections, seconds, cores[1])
            found["what-if" if suffix == "plan" else "plain"] = loads
        found["start"]["memory"] = service.pss()
    found["start"]["took"] = time.monotonic() - begun
    return found


# -- the report


def medians(rounds: list[dict]) -> dict:
    "Of numbers in dictionaries of the same form."
    found = {}
    for key, first in rounds[0].items():
        if isinstance(first, dict):
            found[key] = medians([each[key] for each in rounds])
        else:
            found[key] = first if isinstance(first, str) else statistics.median(each[key] for each in rounds)
    return found


def aligned(rows: list[list[str]]) -> str:
    "Columns as wide as they need to be; the first to the left."
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, wide, strict=True)))
        for row in rows
    )


def number(value: float) -> str:
    "Three digits that count."
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def tables(found: dict[str, dict | str]) -> str:
    "One for each load, one for starts."
    parts = []
    for title in LOADS:
        rows = [[title, "p50 ms", "p99 ms", "requests/s", "CPU ms", "failed", "requests"]]
        for name, own in found.items():
            for label, kind in ((name, "plain"), (WHAT_IF, "what-if")):
                if isinstance(own, dict) and kind in own:
                    figures = own[kind][title]
                    cells = [number(figures[key]) for key in ("p50", "p99", "rate", "cpu_ms")]
                    star = "*" if figures["others"] > 0.1 else ""
                    rows.append([label + star, *cells, f"{figures['failed']:.0f}", f"{figures['answered']:,.0f}"])
        parts.append(aligned(rows))
    rows = [["", "memory MB", "cold start s", "CPU s", "from scikit-learn"]]
    for name, own in found.items():
        if isinstance(own, dict):
            start, star = own["start"], "*" if own["start"]["others"] > 0.1 else ""
            cells = [number(start[key]) for key in ("memory", "cold", "cold_cpu")]
            apart = max(own[kind]["apart"] for kind in ("plain", "what-if") if kind in own)
            rows.append([name + star, *cells, f"{apart:.0e}"])
    failed = [f"{name} {own}" for name, own in found.items() if isinstance(own, str)]
    return "\n\n".join([*parts, aligned(rows), *failed])


def goals(found: dict[str, dict | str]) -> list[dict]:
    "What was to be reached, and what was."
    ours, stock, fast = (own if isinstance(own := found.get(name), dict) else {} for name in (OURS, STOCK, FAST))
    said = []

    def goal(text, got, unit, reached):
        said.append({"goal": text, "got": f"{number(got)} {unit}", "reached": bool(reached)})

    for kind in ("plain", "what-if"):
        if kind in ours and "plain" in stock:
            times = ours[kind][BUSY]["rate"] / stock["plain"][BUSY]["rate"]
            goal(f"requests/s at 16 connections, {kind}: at least 10 x {STOCK}'s", times, "x", times >= 10)
        if kind in ours and "plain" in fast:
            own, theirs = (each[BUSY]["p99"] for each in (ours[kind], fast["plain"]))
            goal(f"p99 at 16 connections, {kind}: at most {FAST}'s {number(theirs)} ms", own, "ms", own <= theirs)
    if "start" in ours and "start" in stock:
        for key, text in (("cold", "cold start"), ("memory", "memory")):
            share = ours["start"][key] / stock["start"][key]
            goal(f"{text}: at most half of {STOCK}'s", share, "x", share <= 0.5)
    return said


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--root", type=Path, default=ROOT, help="a published project, default this one")
    asked.add_argument("--source", default="simulated")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--seconds", type=float, default=5, help="of each load in each round")
    asked.add_argument("--quick", action="store_true", help="one round of 2 seconds a load: about two minutes")
    asked.add_argument("--serve", default=SERVE, metavar="WORDS", help=f"Python's arguments, default {SERVE!r}")
    asked.add_argument(
        "--only", nargs="*", default=[""], metavar="PART", help="contestants whose name has one of these in it"
    )
    asked.add_argument("--json", type=Path, metavar="FILE", help="every round's figures")
    asked = asked.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing: apt install wrk")
    if asked.quick:
        asked.rounds, asked.seconds = 1, 2.0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as in a user's shell: modules are compiled once
    begun, before, root = time.monotonic(), os.getloadavg(), asked.root.resolve()
    cores = sorted(os.sched_getaffinity(0))
    cores = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        about = prepared(root, asked.source, files)
        peers = contestants(root, asked.source, files, about, asked.serve)
        peers = {name: peer for name, peer in peers.items() if any(part in name for part in asked.only)}
        rounds = {name: [] for name in peers}
        for i in range(asked.rounds):
            print(f"round {i + 1} of {asked.rounds}", file=sys.stderr, flush=True)
            for name, peer in peers.items():
                if isinstance(rounds[name], list):
                    what_if = name == OURS and bool(about["plan"])
                    try:
                        rounds[name].append(one_round(peer, about, files, cores, asked.seconds, what_if))
                        said = f"{rounds[name][-1]['start']['took']:.0f} s"
                    except (RuntimeError, OSError, ValueError, subprocess.CalledProcessError) as error:
                        said = rounds[name] = f"failed: {error}"
                    print(f"  {name}: {said}", file=sys.stderr, flush=True)
    found = {name: own if isinstance(own, str) else medians(own) for name, own in rounds.items()}
    where = f"{os.cpu_count()} cores, load {before[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
    how = "service and wrk on a core each" if cores[0] is not None else "one core for service and wrk"
    tools = {tool: version(tool) for tool in TOOLS}
    print(f"\n{asked.source}: {format_count(len(about['stores']), 'store')}, {json.dumps(about['recipe'])}")
    print(f"{asked.rounds} rounds of {asked.seconds:g} s a load; {where}; {how}; Python {platform.python_version()}")
    print("; ".join(f"{name} {number}" for name, number in tools.items()))
    print(f"\n{tables(found)}\n")
    reached = goals(found)
    for each in reached:
        print(f"{'reached' if each['reached'] else 'MISSED '}  {each['goal']}: {each['got']}")
    print("\n".join(["", *notes(found, about), f"All of it took {(time.monotonic() - begun) / 60:.1f} min."]))
    if asked.json:
        whole = {"tools": tools, "load": before, "cores": os.cpu_count(), "goals": reached, "medians": found}
        asked.json.write_text(json.dumps(whole | {"rounds": rounds}, indent=1))


def notes(found: dict[str, dict | str], about: dict) -> list[str]:
    "What a reader of the figures must know."
    said = [
        f"Brewcast's plain answers were computed when the release was loaded; in {WHAT_IF!r} each request runs the model."
    ]
    said += ["mlflow models serve has no look-up of stores: it is sent the features, and answers the forecast alone."]
    if len(about["stores"]) < 100:
        said.append(
            f"The source has {format_count(len(about['stores']), 'store')}: a request of 100 is one of all of them."
        )
    if not about["plan"]:
        said.append(f"{about['recipe']['name']} of this source takes no plan, so there is no what-if.")
    if "weight" not in about:
        said.append(f"{about['recipe']['name']} has no trees to convert, so there is no {FAST}.")
    return said


if __name__ == "__main__":
    main()
