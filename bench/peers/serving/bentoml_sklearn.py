"BentoML + scikit-learn with BentoML's defaults. PEER_FILES is the folder that prepare.py filled."

import json
import os
from pathlib import Path

import bentoml
import joblib
import pandas as pd
from pydantic import BaseModel, Field

FILES = Path(os.environ["PEER_FILES"])


class ForecastRequest(BaseModel):
    store_ids: list[str] = Field(min_length=1)


class StoreForecast(BaseModel):
    store_id: str
    month: str
    forecast: float
    lower: float
    upper: float


class Forecaster:
    "The model and the stores' rows."

    def __init__(self):
        self.about = json.loads((FILES / "about.json").read_text())
        self.rows = pd.read_parquet(FILES / "rows.parquet")
        self.model = joblib.load(FILES / "model.joblib")

    def answer(self, store_ids: list[str]) -> list[StoreForecast]:
        rows = self.rows.loc[store_ids]
        forecasts = self.model.predict(rows[self.about["features"]])
        answers = []
        for store_id, forecast in zip(store_ids, forecasts, strict=True):
            lower, upper = self.about["intervals"][store_id]
            answers.append(
                StoreForecast(
                    store_id=store_id,
                    month=self.about["month"],
                    forecast=forecast,
                    lower=forecast * lower,
                    upper=forecast * upper,
                )
            )
        return answers


@bentoml.service
class Stock:
    def __init__(self):
        self.forecaster = Forecaster()

    @bentoml.api
    def forecast(self, request: ForecastRequest, /) -> list[StoreForecast]:
        return self.forecaster.answer(request.store_ids)


@bentoml.service
class Batching:
    "The same with BentoML's adaptive batching: requests that wait are answered by one call."

    def __init__(self):
        self.forecaster = Forecaster()

    @bentoml.api(batchable=True)
    def forecast(self, store_ids: list[str]) -> list[StoreForecast]:
        return self.forecaster.answer(store_ids)
