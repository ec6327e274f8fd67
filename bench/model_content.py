"""The content and the predictions of a fitted model, as JSON.

bench/same_products.py runs this program with the library of the commit that wrote the model:

    python -P bench/model_content.py model.joblib rows.parquet

It unpickles the model, and unpickling can run any code: use it only for a model that a build on this machine has written.
"""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
import pyarrow.parquet as pq

JSON_SCALARS = (bool, int, float, str, type(None))


def json_content(
    value: object,  # any part of a model
) -> object:  # JSON values; an object becomes its class and the parts that a pickle would store
    "The full content of a value: a model's parameters and fitted attributes, down to the nodes of each tree."
    if type(value) in JSON_SCALARS:
        return value
    if isinstance(value, np.ndarray):
        values = value.tolist() if value.dtype.kind != "O" else json_content(value.tolist())
        return {"dtype": str(value.dtype), "shape": list(value.shape), "values": values}
    if isinstance(value, np.generic):
        return {"dtype": str(value.dtype), "value": str(value)}
    if type(value) is dict:
        return {str(key): json_content(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [json_content(item) for item in value]
    if hasattr(value, "__qualname__"):  # a class or a function
        return f"{value.__module__}.{value.__qualname__}"
    reduced = value.__reduce_ex__(2)
    if isinstance(reduced, str):
        return reduced
    arguments, state, items, pairs = (*reduced[1:], None, None, None)[:4]
    return {
        "class": json_content(type(value)),
        "holds": json_content(state),
        "made_with": json_content(arguments),
        "items": json_content([*(items or []), *(pairs or [])]),
    }


def model_content(
    model: Path,  # model.joblib
    rows: Path,  # a Parquet file with the columns that the model was fitted on
) -> dict:  # model, predictions
    "A model's content, and its predictions for the rows of a table."
    fitted = joblib.load(model)
    table = pq.ParquetFile(rows).read().to_pandas(date_as_object=False)
    predictions = fitted.predict(table[list(fitted.feature_names_in_)])
    return {"model": json_content(fitted), "predictions": np.asarray(predictions).tolist()}


if __name__ == "__main__":
    json.dump(model_content(*map(Path, sys.argv[1:])), sys.stdout)
