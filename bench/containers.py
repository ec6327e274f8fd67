"""Containers as a cluster runs them: read-only, without rights and as nobody. Started, asked, measured and stopped by podman."""

import contextlib
import http.client
import itertools
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

HARDENED = (  # what the chart asks of a cluster; the image says which user
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)
_numbers = itertools.count()


def service_image(
    root: Path,  # the project
    source: str = "simulated",  # a published source
) -> str:  # name and tag
    "The image that `make image` builds now. Raises FileNotFoundError if nothing is published."
    from brewcast.targets.images import SERVICE_IMAGE, served_release

    return f"{SERVICE_IMAGE}:{served_release(root, source).name}"


def podman(
    *words: str | Path,  # subcommand and arguments
    check: bool = True,  # Is a failure an error?
    timeout: float = 600,  # seconds
) -> subprocess.CompletedProcess:
    "Run podman. Raises RuntimeError with its last lines if it fails, SystemExit if it is not installed."
    if not shutil.which("podman"):
        raise SystemExit("podman is missing: apt install podman")
    # files: a container in the background would keep a pipe open
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(["podman", *map(str, words)], stdout=output, stderr=errors, timeout=timeout, check=False)
        output.seek(0)
        errors.seek(0)
        done.stdout, done.stderr = output.read(), errors.read()
    if check and done.returncode:
        raise RuntimeError(f"podman {words[0]}: {done.stderr.strip()[-1000:]}")
    return done


def limit_options() -> list[str]:
    "Limits that this process may give: podman's own are higher where root lacks CAP_SYS_RESOURCE."
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1] % 2**63, 4096)
    return [f"--ulimit=nofile={files}:{files}", f"--ulimit=nproc={processes}:{processes}"]


def free_low_port() -> int:
    "A loopback port that is not in use, below those that the kernel gives to clients."
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def ask(
    port: int,
    method: str,  # GET or POST
    path: str,  # such as /readyz
    body: bytes | None = None,
    timeout: float = 10,  # seconds
) -> tuple[int, bytes]:  # status and body
    "One request on a connection of its own."
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


class ServiceContainer:
    "The service in a container. `with` starts it and waits until it is ready; at the end it is stopped and removed."

    def __init__(
        self,
        image: str,  # name and tag
        options: tuple[str, ...] = HARDENED,
        timeout: float = 120,  # seconds that it may take to become ready
    ):
        self.image, self.options, self.timeout = image, options, timeout
        self.port = free_low_port()
        self.name = f"brewcast-bench-{os.getpid()}-{next(_numbers)}"

    def __enter__(self):
        start = time.monotonic()
        address = f"--publish=127.0.0.1:{self.port}:3000"
        podman("run", "-d", "--name", self.name, *self.options, *limit_options(), address, f"localhost/{self.image}")
        try:
            while not self.is_ready():
                if time.monotonic() - start > self.timeout or not self.is_running():
                    raise RuntimeError(f"{self.image} is not ready:\n{self.logs()[-2000:]}")
                time.sleep(0.02)
        except BaseException:
            self.remove()
            raise
        self.ready_seconds = time.monotonic() - start
        return self

    def is_ready(self) -> bool:
        "Does the service answer that it is ready?"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return ask(self.port, "GET", "/readyz", timeout=1)[0] == 200
        return False

    def state(self) -> dict:
        "What podman knows of the container."
        return json.loads(podman("inspect", self.name).stdout)[0]["State"]

    def is_running(self) -> bool:
        "Does its first process run?"
        return self.state()["Running"]

    def logs(self) -> str:
        "What the service has printed."
        done = podman("logs", self.name, check=False)
        return done.stdout + done.stderr

    def memory(self) -> float:
        "Resident set size of all its processes, in megabytes."
        first = psutil.Process(self.state()["Pid"])
        return sum(each.memory_info().rss for each in [first, *first.children(recursive=True)]) / 1e6

    def stop(
        self,
        grace: int = 30,  # seconds until SIGKILL
    ) -> float:  # seconds that it took
        "Send SIGTERM and wait for the end."
        start = time.monotonic()
        podman("stop", "-t", str(grace), self.name)
        return time.monotonic() - start

    def remove(self):
        "End and remove the container with its volumes."
        podman("rm", "-f", "-v", "-t", "5", self.name, check=False)

    def __exit__(self, *_):
        self.remove()
