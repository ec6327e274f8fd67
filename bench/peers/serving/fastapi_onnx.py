"""FastAPI + ONNX. PEER_FILES is the folder that prepare.py filled.

The stores' encoded rows are in memory. So neither pandas nor scikit-learn is imported, and a request is a look-up and one call
of onnxruntime. The endpoint is `async def`: the model takes microseconds, and a thread would cost more.
"""

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
from fastapi import FastAPI
from pydantic import BaseModel, Field

FILES = Path(os.environ["PEER_FILES"])
loaded = {}  # model and tables, while the app runs


class ForecastRequest(BaseModel):
    store_ids: list[str] = Field(min_length=1)


class StoreForecast(BaseModel):
    store_id: str
    month: str
    forecast: float
    lower: float
    upper: float


@asynccontextmanager
async def lifespan(app: FastAPI):
    about = json.loads((FILES / "about.json").read_text())
    table = pq.read_table(FILES / "inputs.parquet")
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "store_id"}
    mean3, partner = (columns.pop(name) for name in ("mean3", "partner"))
    loaded["month"], loaded["weight"] = about["month"], about["weight"]
    loaded["position"] = {store_id: i for i, store_id in enumerate(table["store_id"].to_pylist())}
    loaded["inputs"] = np.stack(list(columns.values()), axis=1).astype(np.float32)
    loaded["mean3"], loaded["partner"] = mean3, partner
    loaded["bounds"] = np.array([about["intervals"][store_id] for store_id in loaded["position"]])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # with a hundred trees and one row, more threads would only wait for each other
    loaded["session"] = onnxruntime.InferenceSession(FILES / "model.onnx", options)
    loaded["input"] = loaded["session"].get_inputs()[0].name
    yield
    loaded.clear()


app = FastAPI(lifespan=lifespan)


@app.post("/forecast")
async def forecast(request: ForecastRequest) -> list[StoreForecast]:
    positions = [loaded["position"][store_id] for store_id in request.store_ids]
    factors = np.exp(loaded["session"].run(None, {loaded["input"]: loaded["inputs"][positions]})[0][:, 0].astype(float))
    forecasts = (loaded["mean3"][positions] * factors) ** loaded["weight"]
    forecasts *= loaded["partner"][positions] ** (1 - loaded["weight"])
    month = loaded["month"]
    return [
        StoreForecast(store_id=store_id, month=month, forecast=value, lower=value * lower, upper=value * upper)
        for store_id, value, (lower, upper) in zip(
            request.store_ids, forecasts.tolist(), loaded["bounds"][positions].tolist(), strict=True
        )
    ]
