"A service as a process: started, asked until it answers, measured with everything it started, ended."

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

SERVE = "-m brewcast.serving.app"  # what `make serve` runs; --host and --port follow


def free_port() -> int:
    "A port of the loopback that nobody listens on."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def post(port: int, path: str, body: bytes, patience: float = 60) -> tuple[int, bytes]:
    "Status and body of one request."
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    with contextlib.closing(connection):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def pinned(words: list, core: int | None) -> list[str]:
    "The command, on one core."
    return [*(["taskset", "-c", str(core)] if core is not None else []), *map(str, words)]


def prepared(root: Path, source: str, files: Path) -> dict:
    "about.json of what prepare.py makes of a project."
    files.mkdir()
    command = [sys.executable, Path(__file__).with_name("prepare.py"), root, source, files]
    done = subprocess.run(command, env=shell(PYTHONPATH=str(root)), cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"is {source} built and published in {root}?\n{done.stderr[-2000:]}")
    return json.loads((files / "about.json").read_text())


def project_over_copy(root: Path, source: str, place: Path) -> Path:
    "The project by links, but for what serving reads and changes of its state, which is a copy: the project's stays as it is."
    place.mkdir(parents=True)
    for path in root.iterdir():
        if path.name not in ("state", "release", "backups", ".git"):
            (place / path.name).symlink_to(path)
    left_out = shutil.ignore_patterns("mlartifacts", "runs", "bentoml", "predictions", "forecasts")
    shutil.copytree(root / "state" / source, place / "state" / source, symlinks=True, ignore=left_out)
    return place


class Service:
    "Started by `with`. RuntimeError with the end of its log where no request is answered with 200 within `patience`."

    def __init__(self, command: list, cwd: Path, environment: dict, port: int, path: str, body: bytes, log: Path):
        self.command, self.cwd, self.environment = command, cwd, environment
        self.port, self.path, self.body, self.log = port, path, body, log
        self.patience = 180

    def __enter__(self):
        with open(self.log, "w") as log:
            begun = time.monotonic()
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
                if self.process.poll() is not None or time.monotonic() - begun > self.patience:
                    raise RuntimeError(f"no answer from {' '.join(self.command)}:\n{self.log.read_text()[-2000:]}")
                time.sleep(0.02)
            self.cold, self.cold_cpu = time.monotonic() - begun, self.cpu()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return post(self.port, self.path, self.body)[0] == 200
        return False

    def tree(self) -> list[psutil.Process]:
        "The process and all below it."
        with contextlib.suppress(psutil.Error):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def _sum(self, of) -> float:
        total = 0.0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                total += of(process)
        return total

    def cpu(self) -> float:
        "CPU seconds so far, those of ended children included."
        return self._sum(lambda process: sum(process.cpu_times()[:4]))

    def settled_cpu(self, patience: float = 30) -> float:
        "CPU seconds once nothing is worked on any more: what a client no longer waits for is computed to its end."
        before, until = self.cpu(), time.monotonic() + patience
        while time.monotonic() < until:
            time.sleep(0.25)
            now = self.cpu()
            if now - before < 0.015:  # a tick of the clock is not work
                return now
            before = now
        return before

    def pss(self) -> float:
        "Megabytes; a page that several processes share is counted once."
        return self._sum(lambda process: process.memory_full_info().pss) / 1e6

    def rss(self) -> float:
        "Megabytes; shared pages are counted in each process. Unlike `pss` it does not move when other programs start or end."
        return self._sum(lambda process: process.memory_info().rss) / 1e6

    def __exit__(self, *_):
        tree = self.tree()
        for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            _, tree = psutil.wait_procs(tree, patience)
            if not tree:
                break
        for process in tree:  # left the group
            with contextlib.suppress(psutil.Error):
                process.kill()
