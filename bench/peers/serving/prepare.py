"""What the services are asked, and what the peers serve: made once, from a built project, with its own library.

    python prepare.py ROOT SOURCE FOLDER

To FOLDER:
- rows.parquet: each store's features as Feast's online store returns them
- model.joblib, the scikit-learn model (its hash is checked), and mlflow/, the same as an MLflow model
- model.onnx and inputs.parquet, where the model has a forest: its trees, and each store's row as they take it
- one.ids, many.ids: requests, one a line; .mlflow: the same as MLflow takes them; .plan: with a plan, where it may be given
- about.json: month, intervals, features, and what scikit-learn says to the lines of one.ids and one.plan
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path

MANY = 100  # stores in a request of the second kind
PLANS = 2000  # requests with a plan, no two the same: nothing asked before is asked again soon


def forest_as_onnx(model, rows, folder: Path) -> float:
    """The trees, and each store's row behind the pipeline's encoders. The whole pipeline as one graph is 7 times slower
    and, since it scales in single precision, sends some rows down another branch. The largest relative difference."""
    import numpy as np
    import onnxruntime
    import pandas as pd
    from skl2onnx import to_onnx

    encoders, forest = model.pipeline_[:-1], model.pipeline_[-1]
    taken = encoders.transform(rows).astype(np.float32)
    graph = to_onnx(forest, taken[:1], target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString()
    (folder / "model.onnx").write_bytes(graph)
    table = pd.DataFrame(taken, columns=[f"x{i}" for i in range(taken.shape[1])])
    table["mean3"] = (rows["rate_mean3"] * rows["expected_units"]).to_numpy(float)
    table["partner"] = (rows[model.partner] * rows["expected_units"]).to_numpy(float)
    table.insert(0, "store_id", rows.index)
    table.to_parquet(folder / "inputs.parquet", index=False)
    session = onnxruntime.InferenceSession(graph)
    factor = np.exp(session.run(None, {session.get_inputs()[0].name: taken})[0][:, 0].astype(float))
    got = (table["mean3"] * factor) ** model.weight * table["partner"] ** (1 - model.weight)
    return float(np.abs(got.to_numpy() / model.predict(rows) - 1).max())


def as_mlflow(model, rows, folder: Path) -> None:
    "The model as `mlflow models serve` takes it."
    import mlflow
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        model,
        folder / "mlflow",
        serialization_format="cloudpickle",
        signature=infer_signature(rows, model.predict(rows)),
        pip_requirements=["scikit-learn"],
    )


def told(model, rows, features: list, intervals: dict) -> list[list[float]]:
    "What scikit-learn says: forecast, lower and upper of each row."
    factors = [[1.0, *intervals[store_id]] for store_id in rows.index]
    units = model.predict(rows[features]).tolist()
    return [[one * factor for factor in three] for one, three in zip(units, factors, strict=True)]


def plans(rows, levers: list[str], folder: Path):
    "Requests that ask what if; the rows as those of one store would have them."
    import numpy as np

    from brewcast.serving.release import PLAN_COLUMNS, apply_plan

    known = rows[rows[[PLAN_COLUMNS[lever] for lever in levers]].notna().all(axis=1)]
    if not levers or not len(known):
        return known.iloc[:0]
    dice = random.Random(0)

    def plan(store):
        drawn = {
            "price": round(known.price_mean3[store] * dice.uniform(0.9, 1.1), 4),
            "promotion_share": round(dice.uniform(0, 0.5), 3),
            "holidays": dice.randint(0, 3),
        }
        return {lever: drawn[lever] for lever in levers}

    asked = [(store, plan(store)) for i in range(PLANS) for store in [known.index[i % len(known)]]]
    write_lines(folder / "one.plan", [{"store_ids": [store], "plan": planned} for store, planned in asked])
    several = [dice.sample(known.index.tolist(), min(MANY, len(known))) for _ in range(PLANS // 10)]
    write_lines(folder / "many.plan", [{"store_ids": ids, "plan": plan(ids[0])} for ids in several])
    numbers = [name for name in known if known[name].dtype.kind == "f"]
    place, repeated = {name: i for i, name in enumerate(numbers)}, known.loc[[store for store, _ in asked]].copy()
    values = repeated[numbers].to_numpy()
    repeated[numbers] = np.vstack([apply_plan(values[[i]], place, planned) for i, (_, planned) in enumerate(asked)])
    return repeated


def write_lines(path: Path, contents: list) -> None:
    "One JSON object a line."
    path.write_text("".join(json.dumps(content) + "\n" for content in contents))


def requests(rows, features: list, folder: Path) -> None:
    "Every store alone, and many at once in random order."
    dice, known = random.Random(0), rows.index.tolist()
    values = {store: list(json.loads(row.to_json()).values()) for store, row in rows[features].iterrows()}
    several = [dice.sample(known, min(MANY, len(known))) for _ in range(100)]
    for name, asked in {"one": [[store] for store in known], "many": several}.items():
        write_lines(folder / f"{name}.ids", [{"store_ids": ids} for ids in asked])
        split = [{"columns": features, "data": [values[store] for store in ids]} for ids in asked]
        write_lines(folder / f"{name}.mlflow", [{"dataframe_split": each} for each in split])


def prepare(root: Path, source: str, folder: Path) -> None:
    "All of it."
    from brewcast.common.params import environment

    os.environ.update(environment(root, source))
    import pandas as pd

    from brewcast.model.feature_store import online_rows
    from brewcast.model.recipes import load_model

    made = root / "products" / source
    recipe = json.loads((made / "forecast" / "recipe.json").read_text())
    release = json.loads((made / "package" / "release" / "release.json").read_text())
    model = load_model(made / "forecast" / "model.joblib", recipe["model_sha256"])
    shutil.copyfile(made / "forecast" / "model.joblib", folder / "model.joblib")
    forecast = pd.read_parquet(made / "forecast" / "forecast.parquet")
    rows = online_rows(made / "features", source, forecast["series_id"].tolist())
    rows.index = pd.Index(forecast["store_id"], name="store_id")
    features = list(model.feature_names_in_)
    rows[sorted({"has_own_season", *features})].to_parquet(folder / "rows.parquet")
    as_mlflow(model, rows[features], folder)
    requests(rows, features, folder)
    levers = [lever for lever, refused in release.get("levers", {}).items() if refused is None]
    intervals = json.loads((made / "forecast" / "intervals.json").read_text())["factors"]
    about = {
        "recipe": recipe["recipe"],
        "month": forecast["month"].iloc[0].strftime("%Y-%m-%d"),
        "intervals": intervals,
        "features": features,
        "stores": rows.index.tolist(),
        "levers": levers,
        "ids": told(model, rows, features, intervals),
        "plan": told(model, plans(rows, levers, folder), features, intervals) if levers else [],
    }
    if hasattr(model, "pipeline_"):
        about |= {"weight": model.weight, "onnx_apart": forest_as_onnx(model, rows, folder)}
    (folder / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
