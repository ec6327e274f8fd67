"Redis, PostgreSQL and MLflow servers on free local ports, for tests and for the bench of the online store."

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

PASSWORD = "s3cret,=%@/ pässword"  # has characters that a URL and Feast's connection strings must escape
QUOTED_PASSWORD = "s3cret%2C%3D%25%40%2F%20p%C3%A4ssword"


def program_path(name: str) -> str | None:
    "The path of a server's program. Debian does not put PostgreSQL's on the PATH."
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(installed[-1]) if installed else shutil.which(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    "A server with its own data folder. `kill` leaves the data as a crash would."

    def __init__(self):
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="brewcast-", dir="/tmp"))  # the path of a Unix socket must be short
        self.process = None
        self.prepare()
        self.start()

    def start(self) -> None:
        log = self.folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), stdout=output, stderr=output, cwd=self.folder, **self.user_options()
            )
        wait_until(self.answers, "a server that answers", self.process, patience=60, log=log)

    def user_options(self) -> dict:  # Popen's options for the user that runs it: PostgreSQL refuses root
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
                shutil.chown(path, self.user_options()["user"])
        login = ["--auth=scram-sha-256", "--username=brewcast", "--pwfile=password"]
        command = [program_path("initdb"), "-D", "data", "--no-sync", "--locale=C", "--encoding=UTF8", *login]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self.user_options())

    def command(self) -> list[str]:
        # fsync off: no data must survive a crash of the machine. The time zone is not UTC, to catch a push that assumes it.
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "fsync": "off", "timezone": "America/New_York"}
        settings["unix_socket_directories"] = self.folder
        return [
            program_path("postgres"),
            "-D",
            "data",
            *(part for n, v in settings.items() for part in ("-c", f"{n}={v}")),
        ]

    def user_options(self) -> dict:
        import pwd

        if os.geteuid():
            return {}
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}

    def kill(self) -> None:
        self.signal(
            signal.SIGQUIT
        )  # stops at once like a crash, but also its children, which SIGKILL would leave running
        self.process.wait()

    def answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.Error):
            login = {"user": "brewcast", "password": PASSWORD, "dbname": "postgres", "connect_timeout": 2}
            psycopg.connect(host="127.0.0.1", port=self.port, **login).close()
            return True
        return False


class MlflowServer(Server):
    "MLflow's tracking server, with its own folder of artifacts."

    def prepare(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        stores += ["--artifacts-destination", str(self.folder / "artifacts")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [sys.executable, "-m", "mlflow", "server", *address, *stores]

    def user_options(self) -> dict:
        return {"start_new_session": True}

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)  # the whole group, since it has a worker; it may have ended already

    def answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return answer.status == 200
        return False
