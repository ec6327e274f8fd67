"The service as a process of its own, and a client that keeps what it was told."

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

from releases import ROOT

from brewcast.package import call, quiet_environment


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


@contextlib.contextmanager
def application(release, work, **variables):
    "The service in a process of its own, without BentoML around it."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = {f"BREWCAST_{name.upper()}": str(value) for name, value in variables.items()}
    environment = quiet_environment(work) | {"PYTHONPATH": str(ROOT), "BREWCAST_RELEASE": str(release)} | named
    with open(work / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "brewcast.service", "--port", str(port)],
            cwd=work,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(400):
            assert process.poll() is None, (work / "log").read_text()
            with contextlib.suppress(OSError):
                if call(port, "GET", "/readyz", patience=5)[0] == 200:
                    break
            time.sleep(0.1)
        yield SimpleNamespace(port=port, process=process, log=work / "log")
    finally:
        process.terminate()
        process.wait(120)
