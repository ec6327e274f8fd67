"""What logging to MLflow costs a build: its logging steps with and without it, side by side, in CPU seconds.

    .venv/bin/python bench/mlflow_logging.py [--source simulated] [--times 3] [--build-seconds 60]

Needs a build of the source (`make build`). As in a build, a warm process imports the libraries, a fork of it does what the
stage train logs, another what the stage forecast logs, and the command's process registers and describes the models. Each
time is the CPU time of the processes, children included. The warm process without logging imports all but MLflow.
The state is a temporary one: "first" creates MLflow's database, "next" logs another candidate to it, "again" a build that
has nothing new to log.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from brewcast.workflow.kernels import PRELOADED_MODULES, preload  # noqa: E402

ONLY_FOR_MLFLOW = ("alembic", "mlflow", "skops")
STEPS = ("import", "first", "next", "again")
LIMIT = 3  # CPU seconds a build


def in_fork(function, *arguments) -> float:
    "Run a function in a fork of this process. Returns its CPU seconds."
    reader, writer = os.pipe()
    if not (child := os.fork()):
        start = time.process_time()
        function(*arguments)
        os.write(writer, repr(time.process_time() - start).encode())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os.close(writer)
    text = os.read(reader, 100)
    os.close(reader)
    if status:
        raise RuntimeError(f"{function.__name__} failed")
    return float(text)


def train_step(products: Path, root: Path, source: str, number: int, is_logging: bool) -> None:
    "What the stage train has when it logs, and its log. The number makes it another candidate."
    from brewcast.common.core import read_parquet
    from brewcast.common.mlflow import log_model_run  # noqa: F401  what the stage imports without logging, too
    from brewcast.common.records import ModelCard
    from brewcast.model.mlflow_run import log_candidate
    from brewcast.model.recipes import load_model
    from brewcast.model.train import chosen_errors

    card = ModelCard.read(products / "train/card.json")
    model = load_model(products / "train/model.joblib", card.model_sha256)
    rows = read_parquet(products / "train/rows.parquet")
    if is_logging:
        import pandas as pd

        card = card.model_copy(update={"content_hash": f"{number:012d}"})
        errors = chosen_errors(pd.DataFrame(card.tried), card.recipe) if card.tried else {}
        artifacts = [products / "train/card.json", products / "train/importances.png"]
        log_candidate(model, card, rows, errors, artifacts, root, source)


def forecast_step(products: Path, root: Path, source: str, number: int, is_logging: bool) -> None:
    "What the stage forecast has when it logs, and its log."
    from brewcast.delivery.model_runs import log_build, read_run_inputs

    inputs = read_run_inputs(products)
    if is_logging:
        card = inputs.card.model_copy(update={"content_hash": f"{number:012d}"})
        log_build(products / "forecast", inputs._replace(card=card), root, source)


def publish_step(products: Path, root: Path, source: str, number: int, is_logging: bool) -> None:
    "What a publish writes to MLflow's database."
    from brewcast.common.mlflow_models import register_model, set_descriptions

    if is_logging:
        register_model(source, root, f"{number:012d}")
        set_descriptions(source, root, {f"{number:012d}": "**champion** now"}, [], "A version is a fitted model.")


def measured(products: Path, source: str, is_logging: bool) -> dict[str, float]:
    "CPU seconds by step, in this process and its forks."
    start = time.process_time()
    for name in PRELOADED_MODULES:
        if is_logging or name.split(".")[0] not in ONLY_FOR_MLFLOW:
            preload(name)
    seconds = {"import": time.process_time() - start}
    with tempfile.TemporaryDirectory() as folder:
        for step, number in [("first", 1), ("next", 2), ("again", 2)]:
            arguments = (products, Path(folder), source, number, is_logging)
            seconds[step] = sum(in_fork(each, *arguments) for each in (train_step, forecast_step, publish_step))
    return seconds


def print_table(taken: dict[bool, list[dict]], build_seconds: float | None) -> None:
    "The medians with and without logging, their difference and ratio, and the sum of each kind of build."
    medians = {
        is_logging: {step: statistics.median(each[step] for each in runs) for step in STEPS}
        for is_logging, runs in taken.items()
    }
    print(f"{'CPU seconds':<34}{'with':>8}{'without':>9}{'cost':>8}{'ratio':>8}")
    for step in STEPS:
        with_it, without = medians[True][step], medians[False][step]
        print(f"{step:<34}{with_it:>8.2f}{without:>9.2f}{with_it - without:>8.2f}{with_it / without:>8.2f}")
    costs = {step: medians[True][step] - medians[False][step] for step in STEPS}
    for step in STEPS[1:]:
        cost = costs["import"] + costs[step]
        share = f", {cost / build_seconds:.1%} of a build of {build_seconds:.0f}" if build_seconds else ""
        print(f"a build, {step}: {cost:.2f} CPU s (limit {LIMIT}){share}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="simulated")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--build-seconds", type=float, help="CPU seconds of a whole build, for the share")
    options = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    products = ROOT / "products" / options.source
    taken = {True: [], False: []}
    for _ in range(options.times):
        for is_logging in taken:  # in turns, each in a process of its own
            reader, writer = os.pipe()
            if not (child := os.fork()):
                os.write(writer, json.dumps(measured(products, options.source, is_logging)).encode())
                os._exit(0)
            _, status = os.waitpid(child, 0)
            os.close(writer)
            if status:
                sys.exit("a measurement failed")
            taken[is_logging].append(json.loads(os.read(reader, 10_000)))
            os.close(reader)
    print_table(taken, options.build_seconds)


if __name__ == "__main__":
    main()
