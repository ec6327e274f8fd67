"Sale lines of a small chain, its plan, and the tables that are made of them: what tests of features and of stores share."

from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from brewcast.common.parameter_types import Calendar
from brewcast.data.clean import clean
from brewcast.model.features import decision_time, feature_versions, record_versions

CALENDAR = Calendar(
    unit="day",
    hemisphere="north",
    countries={"USA": "US", "Canada": "CA", "Mexico": "MX"},
    complete_within_days=0,
    open_within_days=10,
    decided_after_days=2,
)


def make_lines(seed: int = 0) -> pd.DataFrame:
    "Sale lines of seven stores in 30 months: one opens late, one closes, some weather and promotion is missing."
    generator = np.random.default_rng(seed)
    days = pd.date_range("2022-01-01", "2024-06-30")
    parts = []
    for i, country in enumerate(["USA", "Canada", "Mexico", "USA", "USA", "Canada", "USA"]):
        first = "2023-09-10" if i == 5 else "2022-01-01"
        last = "2024-03-31" if i == 6 else "2024-06-30"
        mine = days[(days >= first) & (days <= last)]
        lines = pd.DataFrame({"store_id": f"S{i}", "date": np.repeat(mine, 3), "country": country, "city": f"city {i}"})
        n = len(lines)
        lines["category"], lines["product"] = "Coffee", generator.choice(["Latte", "Mocha"], n)
        lines["price"] = generator.integers(200, 500, n) / 100
        lines["quantity_sold"] = generator.poisson(20 + 5 * i + 3 * np.sin(lines.date.dt.month), n) + 1.0
        lines["weather"] = generator.choice(["Hot", "Cold", "Rainy", None], n, p=[0.4, 0.3, 0.25, 0.05])
        lines["promotion"] = generator.choice([True, False, None], n, p=[0.3, 0.65, 0.05])
        lines["holiday"] = False
        parts.append(lines)
    return pd.concat(parts, ignore_index=True)


def make_plan(seed: int = 0) -> pd.DataFrame:
    "A plan for each store and month, published when the month before begins."
    generator = np.random.default_rng(seed)
    months = pd.date_range("2022-01-01", "2024-07-01", freq="MS")
    plan = pd.MultiIndex.from_product([[f"S{i}" for i in range(7)], months], names=["store_id", "month"]).to_frame(
        index=False
    )
    plan = plan.assign(
        published=plan.month - pd.offsets.MonthBegin(1), price=generator.uniform(3, 4, len(plan)).round(2)
    )
    return plan.assign(
        promotion_share=generator.uniform(0, 1, len(plan)).round(3), trading_days=plan.month.dt.days_in_month
    )


def as_sales(lines: pd.DataFrame) -> ibis.Table:
    "Sale lines as ingest writes them."
    money = pa.decimal128(18, 6)
    schema = pa.schema(
        [(name, pa.string()) for name in ["store_id", "country", "city", "category", "product", "weather"]]
        + [
            ("date", pa.date32()),
            ("price", money),
            ("quantity_sold", money),
            ("promotion", pa.bool_()),
            ("holiday", pa.bool_()),
        ]
    )
    exact = {name: lines[name].map(lambda value: Decimal(f"{value:.6f}")) for name in ["price", "quantity_sold"]}
    table = pa.Table.from_pandas(
        lines.assign(date=lines.date.dt.date, **exact)[schema.names], schema, preserve_index=False
    )
    return ibis.duckdb.connect().create_table("sales", table)


def all_tables(lines: pd.DataFrame, plan: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return feature_versions(record_versions(months_of(lines), None, CALENDAR), plan, CALENDAR)


def months_of(lines: pd.DataFrame) -> pd.DataFrame:
    store_month = clean(as_sales(lines), [], CALENDAR)[0].to_pandas()
    return store_month.assign(month=pd.to_datetime(store_month.month))


def months_at(rates: dict[str, list], start: str = "2022-01-01") -> pd.DataFrame:
    "Store-months of stores that sold so much a day in each month from `start` on; None: no sale line."
    rows = []
    for store, values in rates.items():
        for month, rate in zip(pd.date_range(start, periods=len(values), freq="MS"), values, strict=True):
            if rate is not None:
                days = month.days_in_month
                rows.append((store, month, rate * days, days, month, month + pd.offsets.MonthEnd(0)))
    table = pd.DataFrame(
        rows, columns=["series_id", "month", "quantity_sold", "trading_days", "first_date", "last_date"]
    )
    table = table.assign(store_id=table.series_id, country="USA", city="Reno", price=2.0, weather="Hot", lines=9)
    return table.assign(promotion=True, holiday=False, is_weekend=0.28, season="winter", promotion_share=0.5)


def plan_of(*lines: tuple[str, str, int]) -> pd.DataFrame:
    "A plan of trading days: store, month as YYYY-MM, days; published a month before."
    table = pd.DataFrame(lines, columns=["store_id", "month", "trading_days"])
    table = table.assign(month=pd.to_datetime(table.month)).astype({"trading_days": float})
    return table.assign(published=table.month - pd.DateOffset(months=1), price=np.nan, promotion_share=np.nan)


def at(month: str, hours: int = 0) -> pd.Timestamp:
    "When a month is decided, and some hours later."
    return decision_time(pd.Series([pd.Timestamp(month)]), CALENDAR)[0] + pd.Timedelta(hours=hours)


def corrected_months(lines: pd.DataFrame, plan: pd.DataFrame) -> tuple:
    "A year of S1 at double the sales, noticed when April 2024 is decided; S2's May, noticed after June was."
    months = months_of(lines)
    march, april = (months[months.month <= f"2024-0{m}-01"] for m in (3, 4))
    known = record_versions(march, None, CALENDAR)

    def doubled(frame, series, since, till):
        wrong = (frame.series_id == series) & frame.month.between(since, till)
        return frame.assign(quantity_sold=frame.quantity_sold.where(~wrong, frame.quantity_sold * 2))

    known = record_versions(doubled(april, "S1", "2023-04-01", "2024-03-01"), known, CALENDAR)
    june = doubled(months, "S1", "2023-04-01", "2024-03-01")
    known = record_versions(june, known, CALENDAR)
    final = doubled(june, "S2", "2024-05-01", "2024-05-01")
    known = record_versions(final, known, CALENDAR)
    return known, plan, months, final
