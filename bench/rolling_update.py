"""Replace the replicas of the service one by one under load, as a cluster does. No request may fail.

    .venv/bin/python bench/rolling_update.py [--image NAME] [--replicas 2] [--clients 8] [--drain 3]

A small TCP proxy stands for the cluster's Service: a new connection goes to the next replica that is ready. For each replica a new
one is started. Once it is ready it gets connections; then the old one gets none, keeps the open ones for a while (the chart's
preStop), and gets SIGTERM. Half of the clients open a connection for each request, half keep theirs as long as they can: a
connection that the service closes between two requests, or announces to close, is opened again, as every HTTP client does.
Needs an image (`make image`) and podman.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from containers import ServiceContainer, ask, free_low_port, service_image  # noqa: E402


class Proxy:
    "Passes the bytes of each connection to one of the ports in `targets`, in turns. Runs in a thread, in `with`."

    def __init__(self):
        self.targets: list[int] = []  # ports of the replicas that are ready
        self.port = free_low_port()
        self.loop = asyncio.new_event_loop()
        self._turn = 0

    def __enter__(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(asyncio.start_server(self._pass_on, "127.0.0.1", self.port))
        self.loop.run_forever()

    async def _pass_on(self, reader, writer):
        self._turn += 1
        target = self.targets[self._turn % len(self.targets)]
        with contextlib.suppress(OSError):
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(self._copy(reader, other_writer), self._copy(other_reader, writer))
        writer.close()

    @staticmethod
    async def _copy(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()  # the client sees the end as soon as the service closes

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


class Load:
    "Clients that ask for forecasts one after another until the end of `with`. Each failure is noted."

    def __init__(
        self,
        port: int,  # of the proxy
        body: bytes,  # of each request
        clients: int,  # half of them keep their connections
    ):
        self.port, self.body = port, body
        self.seconds: list[float] = []  # of each answered request
        self.failures: list[str] = []
        self.versions: set[str] = set()
        self.reopened = 0  # connections that a client opened again
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i % 2 == 0,)) for i in range(clients)]

    def _ask(self, keeps: bool):
        connection = None
        while not self._is_over.is_set():
            start = time.monotonic()
            try:
                if connection is not None and (not connection.sock or is_closed(connection.sock)):
                    connection.close()
                    connection, self.reopened = None, self.reopened + 1
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                connection.request("POST", "/forecast", self.body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = response.read()
                if response.status != 200:
                    raise ValueError(f"{response.status} {answer[:200]!r}")
                self.seconds.append(time.monotonic() - start)
                self.versions.add(json.loads(answer)[0]["model_version"])
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.failures.append(f"{'kept' if keeps else 'new'} connection: {type(error).__name__} {error}")
                connection = connection and connection.close()
            if not keeps and connection is not None:
                connection = connection.close()
            time.sleep(0.002)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()


def is_closed(sock) -> bool:
    "Whether the other side has closed a connection that is between two requests."
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            sock.settimeout(20)


class Update(NamedTuple):
    "The result of an update under load."

    requests: int  # answered
    failures: list[str]
    reopened: int  # connections that a client opened again
    median_ms: float
    slowest_ms: float
    ready_seconds: list[float]  # start of each new replica
    stop_seconds: list[float]  # SIGTERM to the end of each old replica


def first_store(port: int) -> str:
    "A store that the service knows."
    status, answer = ask(port, "GET", "/forecast")
    if status != 200:
        raise RuntimeError(f"/forecast: {status} {answer[:200]!r}")
    return json.loads(answer)[0]["store_id"]


def rolling_update(
    image: str,  # name and tag
    replicas: int = 2,
    clients: int = 8,
    drain: float = 3.0,  # seconds between the last new connection and SIGTERM, as the chart's preStop
) -> Update:
    "Replace each replica by a new one of the same image while clients ask."
    ready, stopped = [], []
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy())
        running = [stack.enter_context(ServiceContainer(image)) for _ in range(replicas)]
        proxy.targets = [each.port for each in running]
        body = json.dumps({"store_ids": [first_store(running[0].port)]}).encode()
        with Load(proxy.port, body, clients) as load:
            time.sleep(1)
            for old in running:
                new = stack.enter_context(ServiceContainer(image))
                ready.append(new.ready_seconds)
                proxy.targets = [port for port in [*proxy.targets, new.port] if port != old.port]
                time.sleep(drain)
                stopped.append(old.stop())
            time.sleep(1)
    milliseconds = [1e3 * seconds for seconds in load.seconds]
    return Update(
        requests=len(milliseconds),
        failures=load.failures,
        reopened=load.reopened,
        median_ms=statistics.median(milliseconds),
        slowest_ms=max(milliseconds),
        ready_seconds=ready,
        stop_seconds=stopped,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="default: the one of the release that is served")
    parser.add_argument("--source", default="simulated")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument(
        "--drain", type=float, default=3.0, metavar="SECONDS", help="between no new connection and SIGTERM"
    )
    args = parser.parse_args()
    result = rolling_update(args.image or service_image(ROOT, args.source), args.replicas, args.clients, args.drain)
    print(f"{result.requests:,} requests answered, {len(result.failures)} failed", *result.failures[:5], sep="\n  ")
    print(
        f"median {result.median_ms:.1f} ms, slowest {result.slowest_ms:.0f} ms; {result.reopened} kept connections reopened"
    )
    print("ready after", *(f"{seconds:.1f} s" for seconds in result.ready_seconds))
    print("ended after", *(f"{seconds:.1f} s" for seconds in result.stop_seconds))
    sys.exit(1 if result.failures else 0)


if __name__ == "__main__":
    main()
