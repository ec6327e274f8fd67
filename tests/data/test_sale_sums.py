"Sums of sale lines: months that are summed by themselves give the same figures as all lines together."

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from brewcast.common.core import write_parquet
from brewcast.data.sale_sums import (
    DAY_LEVELS,
    day_ratios,
    exact_sum,
    level_sums,
    mean_ratios,
    store_month_levels,
    sum_sales,
)


def random_days(seed: int) -> pd.DataFrame:
    "Ninety days of five stores, with sums that no float can hold exactly."
    rng = np.random.default_rng(seed)
    dates = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=90)})
    days = pd.DataFrame({"store_id": [f"S{i}" for i in range(5)]}).merge(dates, how="cross")
    levels = {"weather": ["Hot", "Cold", None], "promotion": [True, False, None], "holiday": [False]}
    choices = {name: rng.choice(np.array(values, dtype=object), len(days)) for name, values in levels.items()}
    return days.assign(quantity=rng.lognormal(3, 1, len(days)), **choices)


@pytest.mark.parametrize("seed", range(3))
def test_sums_of_months_are_the_sums_of_all_days(seed):
    # given
    days = random_days(seed)
    ratios = day_ratios(days)
    # when each month is summed by itself, the last one first
    months = [day_ratios(part) for _, part in days.groupby(days["date"].dt.month)][::-1]
    levels = pd.concat([level_sums(part) for part in months])
    stores = pd.concat([store_month_levels(part) for part in months]).sort_values(["store_id", "month"])
    # then no digit differs
    for name in DAY_LEVELS:
        whole = mean_ratios(level_sums(ratios), name)
        assert mean_ratios(levels, name)["mean"].tolist() == whole["mean"].tolist()
        expected = ratios.groupby(name, observed=True)["ratio"].mean()
        assert whole["mean"].tolist() == pytest.approx(expected.tolist())
    pd.testing.assert_frame_equal(stores.reset_index(drop=True), store_month_levels(ratios), check_exact=True)


def test_an_exact_sum_does_not_depend_on_how_the_numbers_are_split():
    values = np.random.default_rng(0).lognormal(0, 5, 1000).tolist()
    parts = [exact_sum(values[i::7]) for i in range(7)]
    assert math.fsum(number for part in parts for number in part) == math.fsum(values)


def test_a_month_may_have_no_empty_value_where_another_has(tmp_path):
    # given a store that has both kinds of days in January only
    dates = pd.date_range("2024-01-01", "2024-02-29")
    is_holiday = (dates < "2024-02-01") & (dates.day == 1)
    known = {
        "country": "USA",
        "city": "Boston",
        "category": "Coffee",
        "product": "Latte",
        "price": 2.5,
        "weather": "Hot",
    }
    sales = pd.DataFrame(
        known | {"store_id": "S1", "date": dates.date, "quantity_sold": 3.0, "promotion": False, "holiday": is_holiday}
    )
    for month, lines in sales.groupby(dates.strftime("%Y-%m")):
        write_parquet(pa.Table.from_pandas(lines, preserve_index=False), tmp_path / f"{month}.parquet")
    # when the months are summed one by one / then their sums are those of all lines
    stores = sum_sales(tmp_path).stores
    assert stores.holiday_days.tolist()[0] == 1 and stores.holiday_days.isna().tolist() == [False, True]
    pd.testing.assert_frame_equal(stores, sum_sales(sales).stores)
