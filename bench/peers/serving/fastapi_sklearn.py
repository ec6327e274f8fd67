"FastAPI + scikit-learn. PEER_FILES is the folder that prepare.py filled."

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import joblib
import pandas as pd
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
    loaded["about"] = json.loads((FILES / "about.json").read_text())
    loaded["rows"] = pd.read_parquet(FILES / "rows.parquet")
    loaded["model"] = joblib.load(FILES / "model.joblib")
    yield
    loaded.clear()


app = FastAPI(lifespan=lifespan)


@app.post("/forecast")
def forecast(request: ForecastRequest) -> list[StoreForecast]:
    about, rows = loaded["about"], loaded["rows"].loc[request.store_ids]
    forecasts = loaded["model"].predict(rows[about["features"]])
    answers = []
    for store_id, value in zip(request.store_ids, forecasts, strict=True):
        lower, upper = about["intervals"][store_id]
        answers.append(
            StoreForecast(
                store_id=store_id, month=about["month"], forecast=value, lower=value * lower, upper=value * upper
            )
        )
    return answers
