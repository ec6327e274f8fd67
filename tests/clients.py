"Start the service as a process, and send requests to it."

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


def post(
    port: int, body: bytes | dict, content_type: str | None = "application/json", path: str = "/forecast", **headers
):
    "POST a body; returns (status, JSON of the answer). `x_request_id=` sends the header x-request-id."
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type:
        headers["content-type"] = content_type
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def send_until_closed(port: int, begin: bytes, piece: bytes, max_bytes: int = 64_000_000) -> int | None:
    "Send `begin`, then `piece` again and again. Returns the bytes sent when the service closed, None if it never did."
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        sent = len(begin)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(begin)
            while sent < max_bytes:
                client.sendall(piece)
                sent += len(piece)
            return None
        return sent


@contextlib.contextmanager
def run_service(command: list[str], log: Path, ready: str = "/readyz", **options):
    """Run a service on a free port (PORT in the command) until the block ends, in a session of its own.

    It is ready: it answers a GET of the path `ready`.
    """
    port = free_port()
    line = [re.sub(r"\bPORT$", str(port), part) for part in command]
    with log.open("w") as output:
        process = subprocess.Popen(line, stdout=output, stderr=output, start_new_session=True, **options)
    try:
        wait_until(lambda: _is_ready(port, ready), "ready", process, patience=180, log=log)
        yield SimpleNamespace(port=port, process=process, log=log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


def _is_ready(port: int, path: str) -> bool:
    with contextlib.suppress(OSError):
        return http_request(port, "GET", path, timeout=5)[0] == 200
    return False


@contextlib.contextmanager
def run_application(release, work, **variables):
    "Run the service without BentoML. `api_keys=` sets BREWCAST_API_KEYS, and so on."
    settings = {f"BREWCAST_{name.upper()}": str(value) for name, value in variables.items()}
    environment = isolated_environment(work) | {"PYTHONPATH": str(ROOT), "BREWCAST_RELEASE": str(release)} | settings
    command = [sys.executable, "-m", "brewcast.serving.app", "--port", "PORT"]
    with run_service(command, work / "log", cwd=work, env=environment) as service:
        yield service
