"The service as a process of its own, and a client that keeps what it was told."

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from releases import ROOT
from servers import free_port
from waits import wait_until

from brewcast.delivery.package import http_request, isolated_environment

ONE_STORE = {"store_ids": ["STORE101"]}


def post(port: int, body: bytes | dict, kind: str | None = "application/json", path: str = "/forecast", **headers):
    "POST, and the answer as (status, JSON)."
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, body, ({"content-type": kind} if kind else {}) | names)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def send_until_closed(port: int, begin: bytes, piece: bytes, most: int = 64_000_000) -> int | None:
    "Send a beginning, and then the same piece until the connection is closed. How many bytes went; None: all of them."
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        sent = len(begin)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(begin)
            while sent < most:
                client.sendall(piece)
                sent += len(piece)
            return None
        return sent


@contextlib.contextmanager
def run_service(command: list[str], log: Path, **options):
    "A service that is ready, on a free port (PORT in the command), in a session of its own, of which nothing is left."
    port = free_port()
    line = [re.sub(r"\bPORT$", str(port), part) for part in command]
    with log.open("w") as said:
        process = subprocess.Popen(line, stdout=said, stderr=said, start_new_session=True, **options)
    try:
        wait_until(lambda: _is_ready(port), "ready", process, patience=180, log=log)
        yield SimpleNamespace(port=port, process=process, log=log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError):
        return http_request(port, "GET", "/readyz", timeout=5)[0] == 200
    return False


@contextlib.contextmanager
def run_application(release, work, **variables):
    "The service in a process of its own, without BentoML around it."
    named = {f"BREWCAST_{name.upper()}": str(value) for name, value in variables.items()}
    environment = isolated_environment(work) | {"PYTHONPATH": str(ROOT), "BREWCAST_RELEASE": str(release)} | named
    command = [sys.executable, "-m", "brewcast.serving.app", "--port", "PORT"]
    with run_service(command, work / "log", cwd=work, env=environment) as service:
        yield service
