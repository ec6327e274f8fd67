"""Prepare requests for the services and files for the peers, from a built project and with its own library.

    python prepare.py ROOT SOURCE FOLDER

It writes to FOLDER:
- rows.parquet: each store's features as Feast's online store returns them
- model.joblib, the scikit-learn model (its hash is checked), and mlflow/, the same model for MLflow
- model.onnx and inputs.parquet, if the model has a forest: its trees, and each store's encoded row
- one.ids, many.ids: requests, one per line; .mlflow: the same for MLflow; .plan: with a plan, if the model uses one
- about.json: month, intervals, features, and scikit-learn's forecasts for the lines of one.ids and one.plan
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path

MANY = 100  # stores in a request of the second kind
PLANS = 2000  # requests with a plan, all different, so that no answer can come from a cache


def write_onnx(model, rows, folder: Path) -> float:
    """Write the trees as ONNX, and each store's row after the encoders. Returns the largest relative difference.

    The whole pipeline as one ONNX graph is 7 times slower. It scales in single precision, so some rows take another branch."""
    import numpy as np
    import onnxruntime
    import pandas as pd
    from skl2onnx import to_onnx

    encoders, forest = model.pipeline_[:-1], model.pipeline_[-1]
    encoded = encoders.transform(rows).astype(np.float32)
    graph = to_onnx(forest, encoded[:1], target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString()
    (folder / "model.onnx").write_bytes(graph)
    table = pd.DataFrame(encoded, columns=[f"x{i}" for i in range(encoded.shape[1])])
    table["mean3"] = (rows["rate_mean3"] * rows["expected_units"]).to_numpy(float)
    table["partner"] = (rows[model.partner] * rows["expected_units"]).to_numpy(float)
    table.insert(0, "store_id", rows.index)
    table.to_parquet(folder / "inputs.parquet", index=False)
    session = onnxruntime.InferenceSession(graph)
    factor = np.exp(session.run(None, {session.get_inputs()[0].name: encoded})[0][:, 0].astype(float))
    forecast = (table["mean3"] * factor) ** model.weight * table["partner"] ** (1 - model.weight)
    return float(np.abs(forecast.to_numpy() / model.predict(rows) - 1).max())


def write_mlflow(model, rows, folder: Path) -> None:
    "Write the model for `mlflow models serve`."
    import mlflow
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        model,
        folder / "mlflow",
        serialization_format="cloudpickle",
        signature=infer_signature(rows, model.predict(rows)),
        pip_requirements=["scikit-learn"],
    )


def expected_answers(model, rows, features: list, intervals: dict) -> list[list[float]]:
    "scikit-learn's forecast, lower and upper bound of each row."
    factors = [[1.0, *intervals[store_id]] for store_id in rows.index]
    units = model.predict(rows[features]).tolist()
    return [[one * factor for factor in three] for one, three in zip(units, factors, strict=True)]


def write_plan_requests(rows, levers: list[str], folder: Path):
    "Write what-if requests. Returns the rows of the one-store requests with their plans applied."
    import numpy as np

    from brewcast.serving.release import PLAN_COLUMNS, apply_plan

    plannable = rows[rows[[PLAN_COLUMNS[lever] for lever in levers]].notna().all(axis=1)]
    if not levers or not len(plannable):
        return plannable.iloc[:0]
    rng = random.Random(0)

    def plan(store):
        values = {
            "price": round(plannable.price_mean3[store] * rng.uniform(0.9, 1.1), 4),
            "promotion_share": round(rng.uniform(0, 0.5), 3),
            "holidays": rng.randint(0, 3),
        }
        return {lever: values[lever] for lever in levers}

    requests = [(store, plan(store)) for i in range(PLANS) for store in [plannable.index[i % len(plannable)]]]
    write_lines(folder / "one.plan", [{"store_ids": [store], "plan": store_plan} for store, store_plan in requests])
    several = [rng.sample(plannable.index.tolist(), min(MANY, len(plannable))) for _ in range(PLANS // 10)]
    write_lines(folder / "many.plan", [{"store_ids": ids, "plan": plan(ids[0])} for ids in several])
    numbers = [name for name in plannable if plannable[name].dtype.kind == "f"]
    column_index = {name: i for i, name in enumerate(numbers)}
    planned = plannable.loc[[store for store, _ in requests]].copy()
    values = planned[numbers].to_numpy()
    rows_with_plan = [apply_plan(values[[i]], column_index, store_plan) for i, (_, store_plan) in enumerate(requests)]
    planned[numbers] = np.vstack(rows_with_plan)
    return planned


def write_lines(path: Path, contents: list) -> None:
    "One JSON object a line."
    path.write_text("".join(json.dumps(content) + "\n" for content in contents))


def write_requests(rows, features: list, folder: Path) -> None:
    "Write requests: every store alone, and many at once in random order."
    rng, stores = random.Random(0), rows.index.tolist()
    values = {store: list(json.loads(row.to_json()).values()) for store, row in rows[features].iterrows()}
    several = [rng.sample(stores, min(MANY, len(stores))) for _ in range(100)]
    for name, requests in {"one": [[store] for store in stores], "many": several}.items():
        write_lines(folder / f"{name}.ids", [{"store_ids": ids} for ids in requests])
        split = [{"columns": features, "data": [values[store] for store in ids]} for ids in requests]
        write_lines(folder / f"{name}.mlflow", [{"dataframe_split": each} for each in split])


def prepare(root: Path, source: str, folder: Path) -> None:
    "Write all files."
    from brewcast.common.params import environment

    os.environ.update(environment(root, source))
    import pandas as pd

    from brewcast.model.feature_store import online_rows
    from brewcast.model.recipes import load_model

    products = root / "products" / source
    recipe = json.loads((products / "forecast" / "recipe.json").read_text())
    release = json.loads((products / "package" / "release" / "release.json").read_text())
    model = load_model(products / "forecast" / "model.joblib", recipe["model_sha256"])
    shutil.copyfile(products / "forecast" / "model.joblib", folder / "model.joblib")
    forecast = pd.read_parquet(products / "forecast" / "forecast.parquet")
    rows = online_rows(products / "features", source, forecast["series_id"].tolist())
    rows.index = pd.Index(forecast["store_id"], name="store_id")
    features = list(model.feature_names_in_)
    rows[sorted({"has_own_season", *features})].to_parquet(folder / "rows.parquet")
    write_mlflow(model, rows[features], folder)
    write_requests(rows, features, folder)
    levers = [lever for lever, refused in release.get("levers", {}).items() if refused is None]
    intervals = json.loads((products / "forecast" / "intervals.json").read_text())["factors"]
    about = {
        "recipe": recipe["recipe"],
        "month": forecast["month"].iloc[0].strftime("%Y-%m-%d"),
        "intervals": intervals,
        "features": features,
        "stores": rows.index.tolist(),
        "levers": levers,
        "ids": expected_answers(model, rows, features, intervals),
        "plan": [],
    }
    if levers:
        planned = write_plan_requests(rows, levers, folder)
        about["plan"] = expected_answers(model, planned, features, intervals)
    if hasattr(model, "pipeline_"):
        about |= {"weight": model.weight, "onnx_apart": write_onnx(model, rows, folder)}
    (folder / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
