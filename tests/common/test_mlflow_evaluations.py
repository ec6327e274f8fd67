"An evaluation is added to a run once: repeated, killed on the way and repeated, and beside that of another month."

import contextlib
import json
from pathlib import Path

import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor

from brewcast.common.mlflow import MetricPoint, log_model_run, mlflow_client
from brewcast.common.mlflow_evaluations import Evaluation, add_evaluation, evaluation_tag

HASH = "aaaabbbbcccc"
DAYS = [f"{day:%Y-%m-%d}" for day in pd.date_range("2023-05-31", periods=13, freq="ME")]
STEPS = ["log_artifacts", "log_inputs", "get_metric_history", "log_batch", "set_tag"]  # calls of MLflow's client


def evaluation(cutoff: str, days: list[str], **values: float) -> Evaluation:
    "An evaluation with the same error at all cutoffs, but for those of `values` (a day with underscores)."
    points = [MetricPoint("wape", day, values.get(f"d{day}".replace("-", "_"), 0.05)) for day in days]
    points += [MetricPoint("overall/wape", cutoff, 0.05), MetricPoint("coverage", cutoff, float("nan"))]
    tables = {"models": pd.DataFrame({"model": ["candidate"], "wape": [0.05]})}
    tags = {"judged": f"judged at {cutoff}"}
    return Evaluation(
        f"{cutoff}-refuse-{len(values)}", points, tables, {"a.png": b"png"}, tags, {"predictions": cutoff * 4}
    )


JUNE, JULY = evaluation("2024-06-30", DAYS[:12]), evaluation("2024-07-31", DAYS[1:])


@pytest.fixture
def root(tmp_path) -> Path:
    "A project with a finished run, as an earlier Brewcast has logged it."
    metrics = {"wape_2023-04": 0.1}
    log_model_run(DummyRegressor(), HASH, {}, metrics, {}, [], tmp_path, "shop", {"rows": "f" * 64})
    return tmp_path


def contents(root: Path) -> dict:
    "What MLflow has of the run."
    with mlflow_client("shop", root) as (client, experiment):
        (run,) = client.search_runs([experiment])
        names = set(run.data.metrics)
        curves = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        files = [
            file.path
            for folder in client.list_artifacts(run.info.run_id, "evaluation")
            for file in client.list_artifacts(run.info.run_id, folder.path)
        ]
        return {
            "status": run.info.status,
            "points": {name: sorted((p.step, p.timestamp, p.value) for p in curve) for name, curve in curves.items()},
            "files": sorted(files),
            "tags": {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.source")},
            "data": sorted((each.dataset.name, each.dataset.source) for each in run.inputs.dataset_inputs),
        }


def test_a_month_is_added_beside_the_last_one_and_none_twice(root):
    assert [add_evaluation(HASH, each, root, "shop") for each in (JUNE, JUNE, JULY, JULY)] == [True, False, True, False]
    found = contents(root)
    assert found["status"] == "FINISHED" and [step for step, *_ in found["points"]["wape"]] == list(range(281, 294))
    assert [step for step, *_ in found["points"]["overall/wape"]] == [294, 295]
    assert "coverage" not in found["points"] and found["points"]["wape_2023-04"][0][2] == 0.1
    assert found["files"] == [
        f"evaluation/{each.name}/{name}" for each in (JUNE, JULY) for name in ("a.png", "models.json")
    ]
    assert found["tags"]["judged"] == "judged at 2024-07-31"
    assert [name for name, _ in found["data"]] == ["predictions", "predictions", "rows"]


@pytest.mark.parametrize("call", STEPS)
def test_an_evaluation_that_was_killed_is_repeated_without_a_double_point(root, tmp_path_factory, monkeypatch, call):
    from mlflow import MlflowClient

    add_evaluation(HASH, JUNE, root, "shop")
    # given a program that is killed before, or just after, a call to MLflow
    real = getattr(MlflowClient, call)
    for is_done in (False, True):

        def killed(*given, is_done=is_done, **options):
            if is_done:
                real(*given, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(MlflowClient, call, killed)
            add_evaluation(HASH, JULY, root, "shop")
    # when it is repeated, then all is there as if nothing had happened
    add_evaluation(HASH, JULY, root, "shop")
    whole = tmp_path_factory.mktemp("whole")
    log_model_run(DummyRegressor(), HASH, {}, {"wape_2023-04": 0.1}, {}, [], whole, "shop", {"rows": "f" * 64})
    for each in (JUNE, JULY):
        add_evaluation(HASH, each, whole, "shop")
    found, expected = contents(root), contents(whole)
    for each in (found, expected):
        each["tags"] = {name: each["tags"].get(name) for name in ("judged", evaluation_tag(JULY.name))}
        each["points"].pop("wape_2023-04")  # its time is that of the run
    assert found == expected


def test_a_corrected_month_counts_from_then_on(root):
    add_evaluation(HASH, JUNE, root, "shop")
    corrected = evaluation("2024-07-31", DAYS[1:], d2024_04_30=0.07)
    add_evaluation(HASH, corrected, root, "shop")
    with mlflow_client("shop", root) as (client, experiment):
        (run,) = client.search_runs([experiment])
        april = [p for p in client.get_metric_history(run.info.run_id, "wape") if p.step == 292]
    assert [p.value for p in sorted(april, key=lambda p: p.timestamp)] == [0.05, 0.07]


def test_mlflow_shows_the_tables_of_all_evaluations(root):
    for each in (JUNE, JULY):
        add_evaluation(HASH, each, root, "shop")
    tables = [each["path"] for each in json.loads(contents(root)["tags"]["mlflow.loggedArtifacts"])]
    assert tables == [f"evaluation/{each.name}/models.json" for each in (JUNE, JULY)]
