"""Clone, run and compare: how long `make run` takes, what the errors are, and whether clean runs give the same bytes.

    .venv/bin/python bench/clean_runs.py [--runs 3] [--source walmart --data ../shared/data/walmart]

Each run is a fresh clone of HEAD with an environment and state of its own; the last uses one thread where the others use
all. Downloads are included in the time (what the machine's package caches hold, is not downloaded again).
"""

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {"BREWCAST_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}


def clean_run(folder: Path, commit: str, source: str, data: str, threads: dict) -> float:
    "Clone a commit and run it; wall seconds from the clone to the summary."
    kept = {name: os.environ[name] for name in os.environ if name.endswith(("_CERT", "_CERT_FILE", "_BUNDLE"))}
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **kept, **threads}
    place = [f"DATA={Path(data).resolve()}"] if data else []
    begun = time.monotonic()
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    subprocess.run(["git", "-C", folder, "checkout", "-q", commit], check=True)
    done = subprocess.run(["make", "run", f"SOURCE={source}", *place], cwd=folder, env=environment)
    if done.returncode:
        raise SystemExit(f"make run failed in {folder}")
    return time.monotonic() - begun


def data_products(folder: Path, source: str) -> dict[str, str]:
    "sha256 of each Parquet and JSON product."
    at = folder / "products" / source
    files = [
        path for path in sorted(at.rglob("*")) if path.suffix in (".parquet", ".json") and not path.name.startswith(".")
    ]
    return {str(path.relative_to(at)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def report(folder: Path, source: str) -> None:
    "The errors, and how much of the way from the best baseline to the floor the candidate goes."
    errors = json.loads((folder / "products" / source / "evaluate" / "verdict.json").read_text())["errors"]
    for name, error in sorted(errors.items(), key=lambda pair: pair[1]["wape"]):
        print(f"  {name:<22}{error['wape']:.4f}")
    best = min(errors[name]["wape"] for name in ("last_month", "mean_of_3", "same_month_last_year", "seasonal"))
    if "floor" in errors:
        closed = (best - errors["candidate"]["wape"]) / (best - errors["floor"]["wape"])
        print(f"  of the way from the best baseline to the floor: {closed:.0%}")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=3)
    asked.add_argument("--source", default="simulated")
    asked.add_argument("--data", default="")
    asked = asked.parse_args()
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    found = []
    with tempfile.TemporaryDirectory() as tmp:
        for i in range(asked.runs):
            folder, last = Path(tmp) / f"clone {i}" / "brewcast", asked.runs > 1 and i == asked.runs - 1
            seconds = clean_run(folder, commit, asked.source, asked.data, ONE_THREAD if last else {})
            print(f"run {i + 1}: {seconds:.0f} s from the clone{', one thread' if last else ''}", flush=True)
            found.append(data_products(folder, asked.source))
        report(folder, asked.source)
    names = set().union(*found)
    differ = sorted(name for name in names if len({products.get(name) for products in found}) > 1)
    print(f"{len(names)} data products; different between the runs: {', '.join(differ) or 'none'}")
    raise SystemExit(bool(differ))


if __name__ == "__main__":
    main()
