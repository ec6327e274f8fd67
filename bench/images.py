"""The image of the service, measured: size, start, memory, and requests a second beside the same service outside of a container.

    .venv/bin/python bench/images.py [--image NAME] [--source simulated] [--rounds 3] [--seconds 5] [--json FILE]

Needs a published project, the image of its release (`make image`), podman and wrk. Inside and outside take turns in each round: the
same code, release and requests, 16 connections, one store a request, one service at a time. Start is the time from the command to
the first answer with 200; memory is the resident set after the load. The figures are medians over rounds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PEERS = ROOT / "bench" / "peers" / "serving"
sys.path.insert(0, str(PEERS))

from builds import shell  # noqa: E402
from containers import ServiceContainer, podman, service_image  # noqa: E402
from process import Service, free_port  # noqa: E402

from brewcast.targets.images import ARCHIVES, served_release  # noqa: E402

CONNECTIONS = 16


def requests_per_second(port: int, body: str, seconds: float, folder: Path) -> float:
    "Load a service by wrk."
    requests = folder / "requests"
    requests.write_text(body + "\n")
    url = f"http://127.0.0.1:{port}"
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", PEERS / "load.lua", url, "--", requests]
    done = subprocess.run([*map(str, words), "/forecast"], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    if figures["failed"]:
        raise RuntimeError(f"{figures['failed']} requests failed")
    return figures["answered"] / figures["seconds"]


def one_store(source: str) -> str:
    "A request for the first store of the release's golden answers."
    golden = json.loads((served_release(ROOT, source) / "golden.json").read_text())
    return json.dumps({"store_ids": golden[0]["request"]["store_ids"][:1]})


def inside(image: str, body: str, seconds: float, folder: Path) -> dict[str, float]:
    "One round in a container."
    with ServiceContainer(image) as container:
        rate = requests_per_second(container.port, body, seconds, folder)
        memory = container.memory()
        return {"ready": container.ready_seconds, "rate": rate, "memory": memory, "stop": container.stop()}


def outside(source: str, body: str, seconds: float, folder: Path) -> dict[str, float]:
    "One round of the same entry point with the project's environment."
    port = free_port()
    variables = {"BENTOML_HOST": "127.0.0.1", "PORT": str(port), "BENTOML_HOME": str(folder / "bentoml")}
    variables |= {"BREWCAST_RELEASE": str(served_release(ROOT, source)), "BREWCAST_PREDICTIONS": str(folder / "log")}
    command = [sys.executable, "-m", "brewcast.serving.container"]
    environment = shell(PYTHONPATH=str(ROOT), **variables)
    with Service(command, ROOT, environment, port, "/forecast", body.encode(), folder / "service.log") as service:
        rate = requests_per_second(port, body, seconds, folder)
        return {"ready": service.cold, "rate": rate, "memory": service.rss()}


def sizes(image: str) -> dict[str, float]:
    "Megabytes of the files in the image, and of the archive that is sent."
    listed = json.loads(podman("image", "inspect", f"localhost/{image}").stdout)[0]
    archive = ROOT / ARCHIVES / "service.tar"
    return {
        "files": listed["Size"] / 1e6,
        "archive": archive.stat().st_size / 1e6 if archive.exists() else float("nan"),
    }


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    "The median of each figure."
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="default: the one of the release that is served")
    parser.add_argument("--source", default="simulated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of the load in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round's figures")
    args = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing: apt install wrk")
    image = args.image or service_image(ROOT, args.source)
    body = one_store(args.source)
    rounds = {"inside": [], "outside": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            rounds["inside"].append(inside(image, body, args.seconds, Path(folder)))
            rounds["outside"].append(outside(args.source, body, args.seconds, Path(folder)))
    size = sizes(image)
    print(f"{image}: {size['files']:.0f} MB of files, archive {size['archive']:.0f} MB; load {os.getloadavg()[0]:.1f}")
    for place, figures in {name: medians(each) for name, each in rounds.items()}.items():
        stop = f", ended {figures['stop']:.1f} s after SIGTERM" if "stop" in figures else ""
        print(
            f"{place:<8} ready after {figures['ready']:.1f} s, {figures['rate']:,.0f} requests/s, "
            f"{figures['memory']:.0f} MB resident{stop}"
        )
    if args.json:
        args.json.write_text(json.dumps({"image": image, "size": size, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
