"Redis, PostgreSQL and MLflow of one's own, on free ports of the loopback, for tests and the bench of the online store."

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from waits import wait_until

PASSWORD = "s3cret,=%@/ pässword"  # with what a URL and Feast's own connection strings have to escape
QUOTED_PASSWORD = "s3cret%2C%3D%25%40%2F%20p%C3%A4ssword"


def program_path(name: str) -> str | None:
    "Where a server's program is: Debian keeps PostgreSQL's out of the PATH."
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else shutil.which(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    "A server with a data folder of its own, which `kill` leaves as a crash would."

    def __init__(self):
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="brewcast-", dir="/tmp"))  # a socket's path must be short
        self.process = None
        self.prepare()
        self.start()

    def start(self) -> None:
        log = self.folder / "log"
        with log.open("ab") as said:
            self.process = subprocess.Popen(self.command(), stdout=said, stderr=said, cwd=self.folder, **self.person())
        wait_until(self.answers, "a server that answers", self.process, patience=60, log=log)

    def person(self) -> dict:  # as whom it runs: PostgreSQL refuses root
        return {}

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RedisServer(Server):
    needs = "redis-server"  # the program, and the Debian package

    def prepare(self) -> None:
        self.url = f"redis://:{QUOTED_PASSWORD}@127.0.0.1:{self.port}/3"
        settings = ["bind 127.0.0.1", f"port {self.port}", f"dir {self.folder}", "appendonly yes", "appendfsync always"]
        (self.folder / "conf").write_text("\n".join([*settings, f'requirepass "{PASSWORD}"', ""]))

    def command(self) -> list[str]:
        return [program_path("redis-server"), str(self.folder / "conf")]

    def answers(self) -> bool:
        import redis

        with contextlib.suppress(redis.RedisError), redis.Redis(port=self.port, password=PASSWORD) as client:
            return client.ping()


class PostgresServer(Server):
    needs = "postgres"  # the program; the Debian package is postgresql

    def prepare(self) -> None:
        self.url = f"postgresql://brewcast:{QUOTED_PASSWORD}@127.0.0.1:{self.port}/postgres"
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in [self.folder, self.folder / "password"]:
                shutil.chown(path, self.person()["user"])
        login = ["--auth=scram-sha-256", "--username=brewcast", "--pwfile=password"]
        command = [program_path("initdb"), "-D", "data", "--no-sync", "--locale=C", "--encoding=UTF8", *login]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self.person())

    def command(self) -> list[str]:
        # fsync off: nothing here outlives the machine. A server in another time zone than UTC is a trap for the push.
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "fsync": "off", "timezone": "America/New_York"}
        settings["unix_socket_directories"] = self.folder
        return [
            program_path("postgres"),
            "-D",
            "data",
            *(part for n, v in settings.items() for part in ("-c", f"{n}={v}")),
        ]

    def person(self) -> dict:
        import pwd

        if os.geteuid():
            return {}
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}

    def kill(self) -> None:
        self.signal(signal.SIGQUIT)  # at once, as a crash, but with its children: SIGKILL would leave them
        self.process.wait()

    def answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.Error):
            login = {"user": "brewcast", "password": PASSWORD, "dbname": "postgres", "connect_timeout": 2}
            psycopg.connect(host="127.0.0.1", port=self.port, **login).close()
            return True
        return False


class MlflowServer(Server):
    "MLflow's tracking server, whose artifacts lie in a place of its own."

    def prepare(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        stores += ["--artifacts-destination", str(self.folder / "artifacts")]
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [sys.executable, "-m", "mlflow", "server", *where, *stores]

    def person(self) -> dict:
        return {"start_new_session": True}

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)  # it has a worker, and may have ended before it

    def answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return answer.status == 200
        return False
