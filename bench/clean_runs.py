"""Clone, run and compare: duration of `make run`, forecast errors, and whether clean runs write the same bytes.

    .venv/bin/python bench/clean_runs.py [--runs 3] [--source walmart --data ../shared/data/walmart]

Each run is a fresh clone of HEAD with its own environment and state. The last run uses one thread, the others use all.
The time includes downloads, except for packages in the machine's caches.
"""

import argparse
import hashlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

from brewcast.common.records import Verdict

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {"BREWCAST_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}


def clean_run(folder: Path, commit: str, source: str, data: str, threads: dict) -> float:
    "Clone a commit and run it; wall seconds from the clone to the summary."
    certificates = {name: os.environ[name] for name in os.environ if name.endswith(("_CERT", "_CERT_FILE", "_BUNDLE"))}
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **certificates, **threads}
    arguments = [f"DATA={Path(data).resolve()}"] if data else []
    start = time.monotonic()
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    subprocess.run(["git", "-C", folder, "checkout", "-q", commit], check=True)
    process = subprocess.run(["make", "run", f"SOURCE={source}", *arguments], cwd=folder, env=environment)
    if process.returncode:
        raise SystemExit(f"make run failed in {folder}")
    return time.monotonic() - start


def data_products(folder: Path, source: str) -> dict[str, str]:
    "sha256 of each Parquet and JSON product."
    products = folder / "products" / source
    files = [path for path in sorted(products.rglob("*")) if path.suffix in (".parquet", ".json")]
    files = [path for path in files if not path.name.startswith(".")]
    return {str(path.relative_to(products)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def report(folder: Path, source: str) -> None:
    "Print the errors, and how much of the distance from the best baseline to the floor the candidate covers."
    errors = Verdict.read(folder / "products" / source / "evaluate" / "verdict.json").errors
    for name, error in sorted(errors.items(), key=lambda pair: pair[1].wape):
        print(f"  {name:<22}{error.wape:.4f}")
    best = min(errors[name].wape for name in ("last_month", "mean_of_3", "same_month_last_year", "seasonal"))
    if "floor" in errors:
        share = (best - errors["candidate"].wape) / (best - errors["floor"].wape)
        print(f"  of the distance from the best baseline to the floor: {share:.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--source", default="simulated")
    parser.add_argument("--data", default="")
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    hashes = []
    with tempfile.TemporaryDirectory() as tmp:
        for i in range(args.runs):
            folder = Path(tmp) / f"clone {i}" / "brewcast"
            is_last = args.runs > 1 and i == args.runs - 1
            seconds = clean_run(folder, commit, args.source, args.data, ONE_THREAD if is_last else {})
            print(f"run {i + 1}: {seconds:.0f} s from the clone{', one thread' if is_last else ''}", flush=True)
            hashes.append(data_products(folder, args.source))
        report(folder, args.source)
    names = set().union(*hashes)
    differ = sorted(name for name in names if len({of_run.get(name) for of_run in hashes}) > 1)
    print(f"{len(names)} data products; different between the runs: {', '.join(differ) or 'none'}")
    raise SystemExit(bool(differ))


if __name__ == "__main__":
    main()
