"""Minutes under load, with splits, promotions and rollbacks: what fails, how soon each is seen, whether memory stays flat.

    .venv/bin/python bench/soak.py [--root . --source simulated] [--minutes 5] [--json FILE]

Serves a copy of a published project's state; the project's own is not touched. 16 connections ask for one store, for
several, and what if, without a pause, and every answer is looked at: status 200, the stores asked for in their order, finite
numbers, a release of the ledger, one version a store. Meanwhile `brewcast split 10`, `promote` and `rollback` (and `lift`,
which lets a recipe stand again) are called as a user would. Of each command: how long after it began and after it returned
the first answer of what it put in force came, and when the last one of what it ended.
Fails (status 1) where an answer is missing or wrong, a command fails or is not seen, or memory grows in the second half: in
the first, a process still finds its size. The service has a core of its own; the load and the commands share the other.
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

from process import SERVE, Service, free_port, pinned, prepared, project_over_copy  # noqa: E402

from brewcast.common.text import format_count  # noqa: E402

PY, CONNECTIONS, PATIENCE = sys.executable, 16, 30  # seconds that an answer may take
CYCLE = (["split", "10"], ["promote", "--yes"], ["rollback"], ["lift"])
GROWTH = 0.01  # share of its size that memory may grow by in the second half: a sum of pages is not known better


# -- what is asked, and what is made of the answers


class Watch:
    "Looks at every answer."

    def __init__(self, versions: set[str]):
        self.versions, self.counted, self.wrong, self.examples = versions, Counter(), Counter(), {}
        self.times, self.took = array.array("d"), array.array("d")
        self.last: dict[str, str] = {}  # version by store
        self.sharing = False  # do two versions answer, each its stores?
        self.unplanned = False  # does one that answers look at no plan? A baseline refuses one, with 409
        self.phase()

    def phase(self) -> None:
        "What changes from now on is due to what happens now."
        self.old, self.new_at, self.old_at = dict(self.last), {}, {}

    def old_changed(self) -> float:
        "When a store that changed was last answered by the version before."
        return max((self.old_at[store] for store in self.new_at if store in self.old_at), default=math.nan)

    def fail(self, kind: str, example: str) -> None:
        self.wrong[kind] += 1
        self.examples.setdefault(kind, example[:300])

    def answered(self, ids: list[str], planned: bool, status: int, body: bytes, sent: float) -> None:
        now = time.monotonic()
        self.times.append(now)
        self.took.append(now - sent)
        if status == 409 and planned and self.unplanned:
            self.counted["plans that a baseline refused"] += 1
            return None
        if status != 200:
            return self.fail(f"status {status}", body.decode(errors="replace"))
        try:
            answers = json.loads(body)
            found = [(answer["store_id"], answer["model_version"]) for answer in answers]
            good = all(math.isfinite(answer[name]) for answer in answers for name in ("forecast", "lower", "upper"))
        except (ValueError, KeyError, TypeError) as error:
            return self.fail("not an answer", f"{error!r} in {body[:200]!r}")
        if [store for store, _ in found] != ids or not good:
            return self.fail("other stores than asked for, or no numbers", f"{ids} got {body[:200]!r}")
        if unknown := {version for _, version in found} - self.versions:
            return self.fail("a version that nobody published", str(unknown))
        if len({version for _, version in found}) > 1:
            self.counted["answers of two versions"] += 1
            if not self.sharing:
                self.fail("two versions in an answer outside of a split", f"{body[:200]!r}")
        for store, version in found:
            self.see(store, version, sent, now)
            self.counted[version] += 1

    def see(self, store: str, version: str, sent: float, now: float) -> None:
        if version != self.old.get(store, version):
            self.new_at.setdefault(store, now)
        else:
            self.old_at[store] = now
            if sent > self.new_at.get(store, now):
                self.fail("went back to the version before", f"{store}: {version}")
        self.last[store] = version


class Asker(asyncio.Protocol):
    "One connection that is never idle."

    def __init__(self, requests: list[tuple[bytes, list[str], bool]], watch: Watch, seed: int):
        self.requests, self.watch, self.dice = requests, watch, random.Random(seed)
        self.ids, self.ending, self.over = None, False, asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpResponseParser(self)
        self.ask()

    def ask(self):
        request, self.ids, self.planned = self.dice.choice(self.requests)
        self.body, self.sent = [], time.monotonic()
        self.transport.write(request)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_body(self, body):
        self.body.append(body)

    def on_message_complete(self):
        ids, self.ids = self.ids, None
        self.watch.answered(ids, self.planned, self.parser.get_status_code(), b"".join(self.body), self.sent)
        if self.ending:
            self.transport.close()
        elif self.parser.should_keep_alive():
            asyncio.get_running_loop().call_soon(self.ask)

    def connection_lost(self, error):
        if self.ids is not None:
            self.watch.fail("a connection was cut before its answer", repr(error))
        if not self.over.done():
            self.over.set_result(None)


async def keep_busy(port: int, requests: list, watch: Watch, seed: int, ended: asyncio.Event) -> None:
    "One connection after the other until the end; an answer that is late counts as failed."
    loop = asyncio.get_running_loop()
    while not ended.is_set():
        try:
            _, asker = await loop.create_connection(partial(Asker, requests, watch, seed), "127.0.0.1", port)
        except OSError as error:
            watch.fail("no connection", repr(error))
            await asyncio.sleep(0.1)
            continue
        seed += CONNECTIONS
        while not asker.over.done():
            await asyncio.wait([asker.over], timeout=0.5)
            asker.ending = ended.is_set()
            if asker.ids is not None and time.monotonic() - asker.sent > PATIENCE:
                watch.fail("no answer", f"after {PATIENCE} s, {asker.ids[:3]}")
                asker.ids = None
                asker.transport.abort()


def requests(files: Path, port: int) -> list[tuple[bytes, list[str], bool]]:
    "Of ten, seven ask for one store, two for up to fifty, one what if; with the stores asked for, and whether with a plan."
    stores = json.loads((files / "about.json").read_text())["stores"]
    planned = (files / "one.plan").read_text().splitlines() if (files / "one.plan").exists() else []
    dice, made = random.Random(0), []
    for i in range(3000):
        ids = dice.sample(stores, min(len(stores), dice.randint(2, 50) if i % 10 in (7, 8) else 1))
        text = dice.choice(planned) if i % 10 == 9 and planned else json.dumps({"store_ids": ids})
        head = f"POST /forecast HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        whole = f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()
        made.append((whole, json.loads(text)["store_ids"], "plan" in text))
    return made


# -- the commands


class Project:
    "A copy in which commands are run."

    def __init__(self, place: Path, source: str):
        self.place, self.source, self.state = place, source, place / "state" / source
        self.environment = shell(PYTHONPATH=str(place), BREWCAST_ROOT=str(place), BREWCAST_BY="soak")
        sys.path.insert(0, str(place))
        pairs = [entry for entry in self.ledger() if entry.get("challenger") and self.stored(entry)]
        if not pairs:
            raise SystemExit(f"{source} never had a challenger: a build makes one where two recipes are compared")
        self.first = pairs[-1]
        self.offer()

    def stored(self, entry: dict) -> bool:
        return all((self.state / "releases" / one["release"]).exists() for one in (entry, entry["challenger"]))

    def ledger(self) -> list[dict]:
        from brewcast.common.ledger import read_ledger

        return read_ledger(self.state)

    def offer(self) -> None:
        "The newest champion that had a challenger, and that challenger as its shadow, as a `publish` leaves them."
        from brewcast.registry.ledger_writer import append_entry

        kept = {name: self.first[name] for name in self.first if name not in ("n", "at", "by")}
        append_entry(self.state, kept | {"action": "publish", "share": 0, "barred": []})

    def unplanned(self, entries: list[dict]) -> bool:
        "May one of these answer with a model that looks at no plan?"
        names = [entry["release"] for entry in entries]
        names += [entry["challenger"]["release"] for entry in entries if entry.get("share") and entry.get("challenger")]
        says = [json.loads((self.state / "releases" / name / "release.json").read_text()) for name in set(names)]
        return any(why for release in says for why in release["levers"].values())

    async def run(self, words: list[str]) -> tuple[int, str]:
        "Exit status, and what was said."
        done = await asyncio.create_subprocess_exec(
            *[PY, "-m", "brewcast.cli", *words, "--source", self.source],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await done.communicate()
        return done.returncode, said.decode(errors="replace")


async def command(project: Project, watch: Watch, words: list[str], settle: float) -> dict:
    "Run one, watch its effect for some time, and say when it was seen."
    name, before = f"brewcast {' '.join(words)}", project.ledger()[-1]
    watch.phase()
    watch.sharing = watch.unplanned = True  # while it is not known when it takes effect
    begun = time.monotonic()
    status, said = await project.run(words)
    returned, after = time.monotonic(), project.ledger()[-1]
    await asyncio.sleep(min(2.0, settle))
    watch.sharing = bool(after.get("share") and after.get("challenger"))
    watch.unplanned = project.unplanned([after])
    await asyncio.sleep(max(0.0, settle - 2.0))
    result = {"command": name, "took": returned - begun, "from": before["release"], "to": after["release"]}
    result |= {"stores": len(watch.new_at), "status": status, "said": said}
    if status or after["n"] == before["n"]:
        watch.fail(f"{name} failed", said)
    if watch.new_at:
        seen = min(watch.new_at.values())
        result |= {"seen_from_start": seen - begun, "seen_from_return": seen - returned}
        result |= {"old_until_from_return": watch.old_changed() - returned}
    elif before["release"] != after["release"]:
        watch.fail(f"{name} was not seen", said)
    near = [took for at, took in zip(watch.times, watch.took, strict=True) if begun < at < returned + 2]
    return result | {"worst_ms": 1e3 * max(near, default=0.0)}


async def soak(project: Project, service: Service, asked: list, minutes: float) -> tuple[Watch, list[dict], list]:
    "Load, commands and memory for some minutes."
    releases = {project.first["release"], project.first["challenger"]["release"]}
    watch, ended, memory, done = Watch(releases), asyncio.Event(), [], []
    watch.unplanned = project.unplanned([project.first])
    busy = [asyncio.create_task(keep_busy(service.port, asked, watch, i, ended)) for i in range(CONNECTIONS)]
    begun, cycles = time.monotonic(), max(1, round(minutes))
    each = minutes * 60 / (cycles * len(CYCLE) + 1)

    async def weigh():
        while not ended.is_set():
            memory.append((time.monotonic() - begun, service.rss()))
            await asyncio.sleep(1)

    scale = asyncio.create_task(weigh())
    await asyncio.sleep(each)
    for cycle in range(cycles):
        if cycle:
            project.offer()
            await asyncio.sleep(1)
        for words in CYCLE:
            start = time.monotonic()
            done.append(await command(project, watch, words, each / 2))
            print(told(done[-1]), file=sys.stderr, flush=True)
            await asyncio.sleep(max(0.0, each - (time.monotonic() - start) - (1 if words == CYCLE[-1] else 0)))
    ended.set()
    await asyncio.gather(scale, *busy)
    return watch, done, memory


# -- the report


def told(result: dict) -> str:
    "A line on a command."
    line = f"{result['command']:<18} took {result['took']:.1f} s"
    if "seen_from_start" in result:
        line += (
            f"; first new answer {result['seen_from_start']:.2f} s after its start, {result['seen_from_return']:+.2f} s"
        )
        line += f" after its return; last old one {result['old_until_from_return']:+.2f} s; {format_count(result['stores'], 'store')}"
    else:
        line += "; no store's version changes"
    return f"{line}; slowest answer meanwhile {result['worst_ms']:.0f} ms"


def growth(memory: list[tuple[float, float]]) -> dict[str, float]:
    "Megabytes: quarters' medians, and what it grew by in the second half (a straight line through it)."
    end, values = memory[-1][0], [value for _, value in memory]
    quarters = [statistics.median([v for at, v in memory if i <= 4 * at / end <= i + 1] or values) for i in range(4)]
    late = [(at, value) for at, value in memory if at >= end / 2]
    slope = statistics.linear_regression(*zip(*late, strict=True)).slope if len(late) > 2 else 0.0
    return {"first": values[0], "quarters": quarters, "mb_a_minute": 60 * slope, "grown": slope * end / 2}


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--root", type=Path, default=ROOT, help="a published project, default this one")
    asked.add_argument("--source", default="simulated")
    asked.add_argument("--minutes", type=float, default=5)
    asked.add_argument("--serve", default=SERVE, metavar="WORDS", help=f"Python's arguments, default {SERVE!r}")
    asked.add_argument("--json", type=Path, metavar="FILE")
    asked = asked.parse_args()
    before, root = os.getloadavg(), asked.root.resolve()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        about, port = prepared(root, asked.source, work / "files"), free_port()
        project = Project(project_over_copy(root, asked.source, work / "project"), asked.source)
        serve = [PY, *asked.serve.split(), "--host", "127.0.0.1", "--port", port]
        environment = project.environment | {
            "BREWCAST_STATE": str(project.state),
            "BENTOML_HOME": str(work / "bentoml"),
        }
        lines = requests(work / "files", port)
        first = json.dumps({"store_ids": about["stores"][:1]}).encode()
        command = pinned(serve, cores[0] if len(cores) > 1 else None)
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[1:]))  # of the load, and of the commands
        gc.disable()  # the answers are no garbage, and a collection would show as latency
        with Service(command, project.place, environment, port, "/forecast", first, work / "log") as service:
            watch, done, memory = asyncio.run(soak(project, service, lines, asked.minutes))
        logged = sum(path.stat().st_size for path in (project.state / "predictions").glob("*.jsonl"))
    return report(asked, before, watch, done, growth(memory), memory, logged)


def report(asked, before: tuple, watch: Watch, done: list, grown: dict, memory: list, logged: int) -> int:
    "To standard output; 1 where something failed."
    took = sorted(watch.took)
    quarters = grown["quarters"]
    short = asked.minutes < 2  # a process is still finding its size
    flat = short or grown["grown"] <= GROWTH * quarters[3]
    answers, failed = len(took), sum(watch.wrong.values())
    where = f"{os.cpu_count()} cores, load {before[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"\n{asked.source}, {asked.minutes:g} minutes, {CONNECTIONS} connections; {where}\n")
    print("\n".join(map(told, done)))
    if not took:
        print("nothing was answered")
        return 1
    p50, p99 = (1e3 * took[int(share * (answers - 1))] for share in (0.5, 0.99))
    print(f"\n{answers:,} answers, {answers / (60 * asked.minutes):,.0f} a second; ", end="")
    print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {1e3 * took[-1]:.0f} ms")
    print("; ".join(f"{name}: {count:,}" for name, count in sorted(watch.counted.items())))
    print(f"failed: {failed}" + "".join(f"\n  {n} x {kind}: {watch.examples[kind]}" for kind, n in watch.wrong.items()))
    print(
        f"memory (RSS): {grown['first']:.0f} MB at first, by quarter {', '.join(f'{q:.1f}' for q in quarters)} MB, "
        f"{grown['mb_a_minute']:+.2f} MB a minute in the second half: {'too short to tell' if short else 'flat' if flat else 'GROWS'}"
    )
    print(f"prediction log: {logged / 1e6:,.0f} MB")
    if asked.json:
        figures = {"answers": answers, "p50_ms": p50, "p99_ms": p99, "worst_ms": 1e3 * took[-1], "failed": watch.wrong}
        figures |= {"counted": watch.counted, "commands": done, "memory": grown, "flat": flat, "samples": memory}
        asked.json.write_text(json.dumps(figures, indent=1))
    return 0 if flat and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
