"A service as a process: start it, wait for its first answer, measure it with its child processes, and end it."

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
from builds import shell

SERVE = "-m brewcast.serving.app"  # as `make serve` runs it; --host and --port are added


def free_port() -> int:
    "A loopback port that is not in use."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(port: int, path: str, body: bytes, timeout: float = 60) -> tuple[int, bytes]:
    "Status and body of one request."
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


def pin_to_core(words: list, core: int | None) -> list[str]:
    "The command, on one core."
    return [*(["taskset", "-c", str(core)] if core is not None else []), *map(str, words)]


def prepare_files(root: Path, source: str, files: Path) -> dict:
    "Run prepare.py for a project; the content of its about.json."
    files.mkdir()
    command = [sys.executable, Path(__file__).with_name("prepare.py"), root, source, files]
    process = subprocess.run(command, env=shell(PYTHONPATH=str(root)), cwd=root, capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"is {source} built and published in {root}?\n{process.stderr[-2000:]}")
    return json.loads((files / "about.json").read_text())


def link_project(root: Path, source: str, place: Path) -> Path:
    "The project as links, with a copy of the state that serving reads and changes. The project's own state stays unchanged."
    place.mkdir(parents=True)
    for path in root.iterdir():
        if path.name not in ("state", "release", "backups", ".git"):
            (place / path.name).symlink_to(path)
    ignore = shutil.ignore_patterns("mlartifacts", "runs", "bentoml", "predictions", "forecasts")
    shutil.copytree(root / "state" / source, place / "state" / source, symlinks=True, ignore=ignore)
    return place


class Service:
    "Started by `with`. RuntimeError with the end of its log if no request is answered with 200 within `timeout` seconds."

    def __init__(self, command: list, cwd: Path, environment: dict, port: int, path: str, body: bytes, log: Path):
        self.command, self.cwd, self.environment = command, cwd, environment
        self.port, self.path, self.body, self.log = port, path, body, log
        self.timeout = 180  # seconds

    def __enter__(self):
        with open(self.log, "w") as log:
            start = time.monotonic()
            self.process = psutil.Popen(
                self.command,
                cwd=self.cwd,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            while not self._answers():
                if self.process.poll() is not None or time.monotonic() - start > self.timeout:
                    raise RuntimeError(f"no answer from {' '.join(self.command)}:\n{self.log.read_text()[-2000:]}")
                time.sleep(0.02)
            self.cold, self.cold_cpu = time.monotonic() - start, self.cpu()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return post(self.port, self.path, self.body)[0] == 200
        return False

    def tree(self) -> list[psutil.Process]:
        "The process and all its child processes."
        with contextlib.suppress(psutil.Error):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def _sum(self, figure) -> float:
        total = 0.0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                total += figure(process)
        return total

    def cpu(self) -> float:
        "CPU seconds so far, including child processes that have ended."
        return self._sum(lambda process: sum(process.cpu_times()[:4]))

    def settled_cpu(self, timeout: float = 30) -> float:
        "CPU seconds once the service is idle. It finishes requests that the client no longer waits for."
        before, deadline = self.cpu(), time.monotonic() + timeout
        while time.monotonic() < deadline:
            time.sleep(0.25)
            now = self.cpu()
            if now - before < 0.015:  # less than one clock tick of work
                return now
            before = now
        return before

    def pss(self) -> float:
        "Proportional set size in megabytes: a page that several processes share is counted once."
        return self._sum(lambda process: process.memory_full_info().pss) / 1e6

    def rss(self) -> float:
        "Resident set size in megabytes: shared pages count in each process, so other programs do not change it."
        return self._sum(lambda process: process.memory_info().rss) / 1e6

    def __exit__(self, *_):
        tree = self.tree()
        for sign, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            _, tree = psutil.wait_procs(tree, seconds)
            if not tree:
                break
        for process in tree:  # processes that left the process group
            with contextlib.suppress(psutil.Error):
                process.kill()
