"What MLflow must show of a build, read from its database and its artifacts."

import contextlib
import json
import re
import sqlite3
from pathlib import Path

import yaml

from brewcast.common.mlflow import month_step
from brewcast.common.records import Verdict

CURVES = ("wape", "bias", "coverage", "rmsse")
VERSIONS = """
SELECT v.version, v.description, v.run_id, v.storage_location,
    (SELECT group_concat(alias) FROM registered_model_aliases a WHERE a.version = v.version) AS aliases
FROM model_versions v
"""
DATASETS = """
SELECT d.name, (SELECT value FROM input_tags t WHERE t.input_uuid = i.input_uuid AND t.name = 'mlflow.data.context')
FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id WHERE i.destination_type = 'RUN' AND i.destination_id = ?
"""


def mlflow_problems(database: Path, root: Path, verdict: Verdict) -> list[str]:
    "What the versions in a database, whose artifacts are in this project, lack after a build with this verdict."
    steps = [month_step(cutoff) for cutoff in verdict.cutoffs]
    problems = []
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for version, description, run, location, aliases in connection.execute(VERSIONS).fetchall():
            found = [
                *metric_problems(connection, run, steps),
                *input_problems(connection, run),
                *artifact_problems(connection, run, database.parent.name, root),
                *model_problems(root / location),
            ]
            role = next((name for name in ("champion", "challenger") if name in (aliases or "")), "neither")
            words = ("Trained through", f"**{role}", "ledger entry", "The gate on ")
            if missing := [word for word in words if word not in (description or "")]:
                found.append(f"its description does not say {missing}")
            problems += [f"version {version}: {problem}" for problem in found]
    return problems


def metric_problems(connection: sqlite3.Connection, run: str, steps: list[int]) -> list[str]:
    "Metrics of a run that are no curves over the judged cutoffs."
    names = [name for (name,) in connection.execute("SELECT key FROM latest_metrics WHERE run_uuid = ?", [run])]
    problems = [f"the metric {name} has a month in its name" for name in names if re.search(r"\d{4}-\d\d", name)]
    points = connection.execute("SELECT key, step FROM metrics WHERE run_uuid = ?", [run]).fetchall()
    twice = {name for name, step in points if points.count((name, step)) > 1}
    problems += [f"{name} has two points at step" for name in sorted(twice)]
    for curve in CURVES:
        logged = {step for name, step in points if name == curve}
        if not logged or not logged <= set(steps) or (curve == "wape" and logged != set(steps)):
            problems.append(f"{curve} has not a point for each judged cutoff")
    query = "SELECT value FROM params WHERE run_uuid = ? AND key = 'recipe'"
    ((recipe,),) = connection.execute(query, [run]).fetchall()
    others = {f"wape_of/{name}" for name in ("last_month", "seasonal") if name != recipe}  # its own curve is `wape`
    if missing := {"overall/wape", *others} - set(names):
        problems.append(f"{sorted(missing)} is missing")
    return problems


def input_problems(connection: sqlite3.Connection, run: str) -> list[str]:
    "What a run lacks of its data and its model."
    datasets = connection.execute(DATASETS, [run]).fetchall()
    problems = [f"{name} has no context" for name, context in datasets if not context]
    if {name for name, _ in datasets} < {"rows.parquet", "predictions.parquet"}:
        problems.append("no data set of its rows and predictions")
    query = "SELECT count(*) FROM inputs WHERE destination_type = 'MODEL_OUTPUT' AND source_id = ?"
    if connection.execute(query, [run]).fetchone() != (1,):
        problems.append("no model as output")
    return problems


def artifact_problems(connection: sqlite3.Connection, run: str, source: str, root: Path) -> list[str]:
    "Files of a run that are missing, and tables that MLflow could not show."
    folder = root / "state" / source / "mlartifacts" / run / "artifacts"
    query = "SELECT value FROM tags WHERE run_uuid = ? AND key = 'mlflow.loggedArtifacts'"
    tables = [each["path"] for (value,) in connection.execute(query, [run]) for each in json.loads(value)]
    problems = [f"{path} is listed, but not there" for path in tables if not (folder / path).is_file()]
    for path in tables:
        if (folder / path).is_file() and set(json.loads((folder / path).read_text())) != {"columns", "data"}:
            problems.append(f"{path} is no table")
    names = {path.name for path in folder.glob("evaluation/*/*")}
    wanted = {"models.json", "by_month.json", "by_country.json", "by_size.json", "verdict.json", "summary.md"}
    return problems + [f"{name} is missing" for name in sorted((wanted | {"monthly_errors.png"}) - names)]


def model_problems(folder: Path) -> list[str]:
    "What a logged model lacks."
    model = yaml.safe_load((folder / "MLmodel").read_text())
    names = ("signature", "saved_input_example_info")
    return [f"its model has no {name}" for name in names if not model.get(name)]
