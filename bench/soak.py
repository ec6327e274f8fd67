"""The service under load for minutes, with splits, promotions and rollbacks: failures, delays, and memory growth.

    .venv/bin/python bench/soak.py [--root . --source simulated] [--minutes 5] [--json FILE]

Serves a copy of a published project's state; the project's own state stays unchanged. 16 connections request one store, several
stores, and what-if forecasts, without a pause. Every answer is checked: status 200, the requested stores in their order,
finite numbers, a release of the ledger, one version per store. Meanwhile `brewcast split 10`, `promote`, `rollback` and
`lift` (which allows a refused recipe again) are called as a user would. For each command the report has the time of the first
new answer after the command's start and return, and the time of the last old answer.
Exit status 1 if an answer is missing or wrong, if a command fails or has no effect, or if memory grows in the second half; in
the first half, a process is still growing to its size. The service has its own core; load and commands share another.
"""

import argparse
import array
import asyncio
import gc
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import httptools
from builds import shell

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench" / "peers" / "serving"))

from process import SERVE, Service, free_port, link_project, pin_to_core, prepare_files  # noqa: E402

from brewcast.common.records import LedgerEntry, ReleaseDescription  # noqa: E402
from brewcast.common.text import format_count  # noqa: E402

PY = sys.executable
CONNECTIONS = 16
TIMEOUT = 30  # seconds that an answer may take
CYCLE = (["split", "10"], ["promote", "--yes"], ["rollback"], ["lift"])
MAX_GROWTH = 0.01  # share of its size that memory may grow by in the second half; pages are not counted more exactly


# -- requests, and checks of the answers


class AnswerChecks:
    "Checks every answer, and counts."

    def __init__(self, versions: set[str]):
        self.versions = versions  # that may answer
        self.counts, self.failures = Counter(), Counter()
        self.examples: dict[str, str] = {}  # by kind of failure
        self.times, self.durations = array.array("d"), array.array("d")  # seconds, of every answer
        self.last: dict[str, str] = {}  # version by store
        self.is_split = False  # may two versions answer, each for its stores?
        self.may_refuse_plans = False  # may a baseline answer? It refuses a plan with 409
        self.start_phase()

    def start_phase(self) -> None:
        "From now on, changes of versions belong to the next command."
        self.old, self.new_at, self.old_at = dict(self.last), {}, {}

    def last_old_answer(self) -> float:
        "Time of the last answer by the old version, for stores whose version changed."
        return max((self.old_at[store] for store in self.new_at if store in self.old_at), default=math.nan)

    def fail(self, kind: str, example: str) -> None:
        self.failures[kind] += 1
        self.examples.setdefault(kind, example[:300])

    def check(self, ids: list[str], has_plan: bool, status: int, body: bytes, sent: float) -> None:
        now = time.monotonic()
        self.times.append(now)
        self.durations.append(now - sent)
        if status == 409 and has_plan and self.may_refuse_plans:
            self.counts["plans that a baseline refused"] += 1
            return None
        if status != 200:
            return self.fail(f"status {status}", body.decode(errors="replace"))
        try:
            answers = json.loads(body)
            versions = [(answer["store_id"], answer["model_version"]) for answer in answers]
            are_finite = all(
                math.isfinite(answer[name]) for answer in answers for name in ("forecast", "lower", "upper")
            )
        except (ValueError, KeyError, TypeError) as error:
            return self.fail("not an answer", f"{error!r} in {body[:200]!r}")
        if [store for store, _ in versions] != ids or not are_finite:
            return self.fail("not the requested stores, or no finite numbers", f"{ids} got {body[:200]!r}")
        if unknown := {version for _, version in versions} - self.versions:
            return self.fail("a version that was not published", str(unknown))
        if len({version for _, version in versions}) > 1:
            self.counts["answers of two versions"] += 1
            if not self.is_split:
                self.fail("two versions in an answer outside of a split", f"{body[:200]!r}")
        for store, version in versions:
            # the champion also answers plans for a challenger that uses none: such an answer is no step back
            if not (has_plan and self.may_refuse_plans):
                self.record_version(store, version, sent, now)
            self.counts[version] += 1

    def record_version(self, store: str, version: str, sent: float, now: float) -> None:
        if version != self.old.get(store, version):
            self.new_at.setdefault(store, now)
        else:
            self.old_at[store] = now
            if sent > self.new_at.get(store, now):
                self.fail("the old version after the new one", f"{store}: {version}")
        self.last[store] = version


class Client(asyncio.Protocol):
    "One connection that is never idle."

    def __init__(self, requests: list[tuple[bytes, list[str], bool]], checks: AnswerChecks, seed: int):
        self.requests, self.checks, self.rng = requests, checks, random.Random(seed)
        self.ids = None  # stores of the open request
        self.is_ending = False  # close after the next answer?
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpResponseParser(self)
        self.send()

    def send(self):
        request, self.ids, self.has_plan = self.rng.choice(self.requests)
        self.body, self.sent = [], time.monotonic()
        self.transport.write(request)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_body(self, body):
        self.body.append(body)

    def on_message_complete(self):
        ids, self.ids = self.ids, None
        self.checks.check(ids, self.has_plan, self.parser.get_status_code(), b"".join(self.body), self.sent)
        if self.is_ending:
            self.transport.close()
        elif self.parser.should_keep_alive():
            asyncio.get_running_loop().call_soon(self.send)

    def connection_lost(self, error):
        if self.ids is not None:
            self.checks.fail("a connection was closed before its answer", repr(error))
        if not self.closed.done():
            self.closed.set_result(None)


async def run_client(port: int, requests: list, checks: AnswerChecks, seed: int, ended: asyncio.Event) -> None:
    "Open one connection after the other until the end. An answer after the timeout is a failure."
    loop = asyncio.get_running_loop()
    while not ended.is_set():
        try:
            _, client = await loop.create_connection(partial(Client, requests, checks, seed), "127.0.0.1", port)
        except OSError as error:
            checks.fail("no connection", repr(error))
            await asyncio.sleep(0.1)
            continue
        seed += CONNECTIONS
        while not client.closed.done():
            await asyncio.wait([client.closed], timeout=0.5)
            client.is_ending = ended.is_set()
            if client.ids is not None and time.monotonic() - client.sent > TIMEOUT:
                checks.fail("no answer", f"after {TIMEOUT} s, {client.ids[:3]}")
                client.ids = None
                client.transport.abort()


def build_requests(files: Path, port: int) -> list[tuple[bytes, list[str], bool]]:
    "Requests, their stores, and whether they have a plan. Of ten, seven are for one store, two for up to 50, one is a what-if."
    stores = json.loads((files / "about.json").read_text())["stores"]
    plan_lines = (files / "one.plan").read_text().splitlines() if (files / "one.plan").exists() else []
    rng, requests = random.Random(0), []
    for i in range(3000):
        ids = rng.sample(stores, min(len(stores), rng.randint(2, 50) if i % 10 in (7, 8) else 1))
        text = rng.choice(plan_lines) if i % 10 == 9 and plan_lines else json.dumps({"store_ids": ids})
        head = f"POST /forecast HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()
        requests.append((request, json.loads(text)["store_ids"], "plan" in text))
    return requests


# -- the commands


class Project:
    "A copy of the project, in which commands are run."

    def __init__(self, root: Path, source: str):
        self.root, self.source, self.state = root, source, root / "state" / source
        self.environment = shell(PYTHONPATH=str(root), BREWCAST_ROOT=str(root), BREWCAST_BY="soak")
        sys.path.insert(0, str(root))
        pairs = [entry for entry in self.ledger() if entry.challenger and self.has_releases(entry)]
        if not pairs:
            raise SystemExit(f"{source} never had a challenger: a build creates one when it compares two recipes")
        self.first_entry = pairs[-1]
        self.publish_challenger()

    def has_releases(self, entry: LedgerEntry) -> bool:
        return all((self.state / "releases" / one.release).exists() for one in (entry, entry.challenger))

    def ledger(self) -> list[LedgerEntry]:
        from brewcast.common.ledger import read_ledger

        return read_ledger(self.state)

    def publish_challenger(self) -> None:
        "Write the ledger entry of a `publish`: the newest champion that had a challenger, and that challenger."
        from brewcast.registry.ledger_writer import append_entry

        changed = {"at": None, "by": None, "action": "publish", "share": 0, "barred": []}
        append_entry(self.state, self.first_entry.model_copy(update=changed))

    def may_refuse_plans(self, entries: list[LedgerEntry]) -> bool:
        "Does a model of these entries use no plan?"
        names = [entry.release for entry in entries]
        names += [entry.challenger.release for entry in entries if entry.share and entry.challenger]
        files = [self.state / "releases" / name / "release.json" for name in set(names)]
        releases = [ReleaseDescription.read(path) for path in files]
        return any(why for release in releases for why in release.plan_overrides.values())

    async def run(self, words: list[str]) -> tuple[int, str]:
        "Run a command; its exit status and output."
        process = await asyncio.create_subprocess_exec(
            *[PY, "-m", "brewcast.cli", *words, "--source", self.source],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode, output.decode(errors="replace")


async def measure_command(project: Project, checks: AnswerChecks, words: list[str], settle: float) -> dict:
    "Run a command, wait for its effect for `settle` seconds, and report when the answers changed."
    name, before = f"brewcast {' '.join(words)}", project.ledger()[-1]
    checks.start_phase()
    checks.is_split = checks.may_refuse_plans = True  # the command may take effect at any time
    start = time.monotonic()
    status, output = await project.run(words)
    returned, after = time.monotonic(), project.ledger()[-1]
    await asyncio.sleep(min(2.0, settle))
    checks.is_split = bool(after.share and after.challenger)
    checks.may_refuse_plans = project.may_refuse_plans([after])
    await asyncio.sleep(max(0.0, settle - 2.0))
    result = {
        "command": name,
        "took": returned - start,
        "from": before.release,
        "to": after.release,
        "stores": len(checks.new_at),
        "status": status,
        "output": output,
    }
    if status or after.n == before.n:
        checks.fail(f"{name} failed", output)
    if checks.new_at:
        first_new = min(checks.new_at.values())
        result |= {"seen_from_start": first_new - start, "seen_from_return": first_new - returned}
        result["old_until_from_return"] = checks.last_old_answer() - returned
    elif before.release != after.release:
        checks.fail(f"{name} had no effect on the answers", output)
    answers = zip(checks.times, checks.durations, strict=True)
    meanwhile = [duration for at, duration in answers if start < at < returned + 2]
    return result | {"worst_ms": 1e3 * max(meanwhile, default=0.0)}


async def soak(
    project: Project, service: Service, requests: list, minutes: float
) -> tuple[AnswerChecks, list[dict], list]:
    "Load, commands and memory for some minutes: (checks, results of the commands, samples of memory)."
    checks = AnswerChecks({project.first_entry.release, project.first_entry.challenger.release})
    checks.may_refuse_plans = project.may_refuse_plans([project.first_entry])
    ended, memory, results = asyncio.Event(), [], []
    clients = [asyncio.create_task(run_client(service.port, requests, checks, i, ended)) for i in range(CONNECTIONS)]
    start, cycles = time.monotonic(), max(1, round(minutes))
    interval = minutes * 60 / (cycles * len(CYCLE) + 1)  # seconds from one command to the next

    async def sample_memory():
        while not ended.is_set():
            memory.append((time.monotonic() - start, service.rss()))
            await asyncio.sleep(1)

    sampling = asyncio.create_task(sample_memory())
    await asyncio.sleep(interval)
    for cycle in range(cycles):
        if cycle:
            project.publish_challenger()
            await asyncio.sleep(1)
        for words in CYCLE:
            command_start = time.monotonic()
            results.append(await measure_command(project, checks, words, interval / 2))
            print(command_line_report(results[-1]), file=sys.stderr, flush=True)
            pause = interval - (time.monotonic() - command_start)
            pause -= 1 if words == CYCLE[-1] else 0  # the second after a new challenger
            await asyncio.sleep(max(0.0, pause))
    ended.set()
    await asyncio.gather(sampling, *clients)
    return checks, results, memory


# -- the report


def command_line_report(result: dict) -> str:
    "One line about a command."
    line = f"{result['command']:<18} took {result['took']:.1f} s"
    if "seen_from_start" in result:
        line += f"; first new answer {result['seen_from_start']:.2f} s after its start, "
        line += f"{result['seen_from_return']:+.2f} s after its return; last old answer {result['old_until_from_return']:+.2f} s; {format_count(result['stores'], 'store')}"
    else:
        line += "; no store changes its version"
    return f"{line}; slowest answer {result['worst_ms']:.0f} ms"


def memory_growth(memory: list[tuple[float, float]]) -> dict[str, float]:
    "Megabytes: the median of each quarter, and the growth in the second half, by a straight line."
    end, values = memory[-1][0], [value for _, value in memory]
    quarters = [
        statistics.median([value for at, value in memory if i <= 4 * at / end <= i + 1] or values) for i in range(4)
    ]
    late = [(at, value) for at, value in memory if at >= end / 2]
    slope = statistics.linear_regression(*zip(*late, strict=True)).slope if len(late) > 2 else 0.0
    return {"first": values[0], "quarters": quarters, "mb_a_minute": 60 * slope, "grown": slope * end / 2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="a published project, default this one")
    parser.add_argument("--source", default="simulated")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--serve", default=SERVE, metavar="WORDS", help=f"Python's arguments, default {SERVE!r}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    load_before, root = os.getloadavg(), args.root.resolve()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        about, port = prepare_files(root, args.source, work / "files"), free_port()
        project = Project(link_project(root, args.source, work / "project"), args.source)
        serve = [PY, *args.serve.split(), "--host", "127.0.0.1", "--port", port]
        environment = project.environment | {
            "BREWCAST_STATE": str(project.state),
            "BENTOML_HOME": str(work / "bentoml"),
        }
        requests = build_requests(work / "files", port)
        first_body = json.dumps({"store_ids": about["stores"][:1]}).encode()
        command = pin_to_core(serve, cores[0] if len(cores) > 1 else None)
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[1:]))  # for the load and the commands
        gc.disable()  # a garbage collection would show as latency
        with Service(command, project.root, environment, port, "/forecast", first_body, work / "log") as service:
            checks, results, memory = asyncio.run(soak(project, service, requests, args.minutes))
        log_bytes = sum(path.stat().st_size for path in (project.state / "predictions").glob("*.jsonl"))
    return report(args, load_before, checks, results, memory, log_bytes)


def report(
    args: argparse.Namespace, load_before: tuple, checks: AnswerChecks, results: list, memory: list, log_bytes: int
) -> int:
    "Print the report; 1 if something failed."
    durations = sorted(checks.durations)
    growth = memory_growth(memory)
    quarters = growth["quarters"]
    is_short = args.minutes < 2  # a process is still growing to its size
    is_flat = is_short or growth["grown"] <= MAX_GROWTH * quarters[3]
    answers, n_failed = len(durations), sum(checks.failures.values())
    where = f"{os.cpu_count()} cores, load {load_before[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"\n{args.source}, {args.minutes:g} minutes, {CONNECTIONS} connections; {where}\n")
    print("\n".join(map(command_line_report, results)))
    if not durations:
        print("there was no answer")
        return 1
    p50, p99 = (1e3 * durations[int(share * (answers - 1))] for share in (0.5, 0.99))
    print(f"\n{answers:,} answers, {answers / (60 * args.minutes):,.0f} per second; ", end="")
    print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {1e3 * durations[-1]:.0f} ms")
    print("; ".join(f"{name}: {count:,}" for name, count in sorted(checks.counts.items())))
    print(f"failed: {n_failed}")
    for kind, n in checks.failures.items():
        print(f"  {n} x {kind}: {checks.examples[kind]}")
    trend = "too short to judge" if is_short else "flat" if is_flat else "GROWS"
    print(
        f"memory (RSS): {growth['first']:.0f} MB at the start, by quarter {', '.join(f'{q:.1f}' for q in quarters)} MB, "
        f"{growth['mb_a_minute']:+.2f} MB per minute in the second half: {trend}"
    )
    print(f"prediction log: {log_bytes / 1e6:,.0f} MB")
    if args.json:
        figures = {
            "answers": answers,
            "p50_ms": p50,
            "p99_ms": p99,
            "worst_ms": 1e3 * durations[-1],
            "failed": checks.failures,
            "counted": checks.counts,
            "commands": results,
            "memory": growth,
            "flat": is_flat,
            "samples": memory,
        }
        args.json.write_text(json.dumps(figures, indent=1))
    return 0 if is_flat and not n_failed else 1


if __name__ == "__main__":
    sys.exit(main())
