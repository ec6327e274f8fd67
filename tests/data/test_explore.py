"Explore: the numbers behind the pictures are right, and every picture is drawn whatever columns a source has."

import datetime

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brewcast.common.charts import save_and_show
from brewcast.common.core import SALE_LINE_COLUMNS, write_json
from brewcast.data.explore import (
    daily_sales,
    day_effects,
    explore,
    missing_by_month,
    plot_categories,
    plot_days,
    plot_missing,
    plot_prices,
    plot_products,
    plot_sales_by_month,
    plot_season,
    plot_stores,
    price_response,
    product_starts,
    products_by_month,
    store_spans,
)

TYPES = {"date": pa.date32(), "price": pa.decimal128(18, 6), "quantity_sold": pa.decimal128(18, 6)}
TYPES |= {"promotion": pa.bool_(), "holiday": pa.bool_()}
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string())) for name in SALE_LINE_COLUMNS])
LACKING = {
    "walmart": ["country", "city", "category", "product", "price", "weather", "promotion"],
    "nothing but sums": ["country", "city", "category", "product", "price", "weather", "promotion", "holiday"],
}


def sale_lines() -> pd.DataFrame:
    "Two years of two stores: Mug starts late, promotions sell double, a fifth of the weather is missing."
    rng = np.random.default_rng(3)
    days = pd.DataFrame({"date": pd.date_range("2024-01-01", "2025-12-31")})
    products = pd.DataFrame({"product": ["Latte", "Mug"], "category": ["Coffee", "Merchandise"], "price": [4.0, 9.0]})
    stores = pd.DataFrame({"store_id": ["S1", "S2"], "country": ["USA", "Mexico"], "city": ["Reno", "Puebla"]})
    lines = stores.merge(days, how="cross").merge(products, how="cross")
    lines = lines[(lines["product"] != "Mug") | (lines["date"] >= "2024-09-01")]
    lines = lines[(lines["store_id"] != "S2") | (lines["date"] < "2025-07-01")]
    lines["promotion"] = lines["date"].dt.dayofweek == 2
    lines["holiday"] = lines["date"].dt.strftime("%m%d") == "1225"
    lines["weather"] = rng.choice(["Hot", "Cold", "Rainy", None], len(lines), p=[0.3, 0.3, 0.2, 0.2])
    lines["price"] = (lines["price"] * rng.choice([0.9, 1.0, 1.1], len(lines))).round(2)
    lines["quantity_sold"] = np.where(lines["promotion"], 8, 4)
    return lines.sort_values(["store_id", "date", "product"], ignore_index=True)


def write_lines(lines: pd.DataFrame, path) -> pa.Table:
    "Write sale lines as Parquet, and return them as a table."
    arrays = {}
    for name in SALE_LINE_COLUMNS:
        values = lines[name].astype(object).where(lines[name].notna(), None)
        if pa.types.is_decimal(SCHEMA.field(name).type):
            values = [None if v is None else f"{v:.6f}" for v in values]
            arrays[name] = pa.array(values).cast(SCHEMA.field(name).type)
        else:
            values = [v.date() if isinstance(v, datetime.datetime) else v for v in values]
            arrays[name] = pa.array(values, SCHEMA.field(name).type)
    table = pa.table(arrays, schema=SCHEMA)
    pq.write_table(table, path)
    return table


def store_months(lines: pd.DataFrame) -> pd.DataFrame:
    month = lines["date"].dt.to_period("M").dt.to_timestamp()
    groups = lines.assign(month=month).groupby(["store_id", "month"], as_index=False)
    return groups.agg(
        quantity_sold=("quantity_sold", "sum"),
        trading_days=("date", "nunique"),
        country=("country", "first"),
        city=("city", "first"),
    )


def draw_all(tables: dict, months: pd.DataFrame) -> dict:
    return {
        "sales_by_month": plot_sales_by_month(tables["sales_by_month"], "pieces"),
        "categories": plot_categories(tables["categories"], "pieces"),
        "products": plot_products(tables["product_strips"], tables["products"]),
        "season": plot_season(tables["season"]),
        "days": plot_days(tables["days"]),
        "prices": plot_prices(tables["price_level"], tables["price_response"], "pieces"),
        "missing": plot_missing(tables["missing"]),
        "stores": plot_stores(tables["stores"], months),
    }


def title(figure) -> str:
    return figure.texts[0].get_text()


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    path = tmp_path_factory.mktemp("explore") / "sales.parquet"
    return ibis.memtable(write_lines(sale_lines(), path)), path


def test_sums_equal_plain_pandas(sales):
    # given
    lines = sale_lines()
    # when
    table, days = products_by_month(sales[0]), daily_sales(sales[0])
    # then
    month = lines["date"].dt.to_period("M").dt.to_timestamp()
    expected = lines.groupby([month.rename("month"), "category", "product"])["quantity_sold"].sum().astype(float)
    pd.testing.assert_series_equal(
        table.set_index(["month", "category", "product"])["quantity"], expected, check_names=False
    )
    expected = lines.groupby(["store_id", "date"])["quantity_sold"].sum().astype(float)
    pd.testing.assert_series_equal(days.set_index(["store_id", "date"])["quantity"], expected, check_names=False)


def test_a_promotion_is_compared_within_store_and_month(sales):
    effects = day_effects(daily_sales(sales[0])).set_index(["what", "level"])["effect"]
    assert (1 + effects["promotion", "True"]) / (1 + effects["promotion", "False"]) == pytest.approx(2, rel=0.01)


def test_late_products_and_closed_stores_are_found(sales):
    starts, spans = product_starts(products_by_month(sales[0])), store_spans(store_months(sale_lines()))
    assert starts["late"].to_dict() == {"Latte": False, "Mug": True}
    assert spans["state"].to_dict() == {"S1": "open", "S2": "closed"}


def test_missing_shares(sales):
    missing = missing_by_month(sales[0])
    assert missing["weather"].mean() == pytest.approx(sale_lines()["weather"].isna().mean(), abs=0.01)
    assert missing["price"].max() == 0


def test_price_response_is_that_of_the_generator():
    # given quantities that fall by as much as prices rise
    rng = np.random.default_rng(1)
    price = rng.choice([3.6, 4.0, 4.4], 3000)
    lines = pd.DataFrame({"store_id": "S1", "date": pd.Timestamp("2024-05-01"), "product": "Latte", "price": price})
    lines = lines.reindex(columns=SALE_LINE_COLUMNS).assign(quantity_sold=100 * (1 - (price / 4 - 1)))
    # when
    response = price_response(ibis.memtable(write_lines(lines, "/dev/null")))
    # then
    assert np.polyfit(response["price"], response["quantity"], 1)[0] == pytest.approx(-1, abs=0.05)


@pytest.mark.parametrize("lacks", [[], *LACKING.values()], ids=["all columns", *LACKING])
def test_every_picture_is_drawn(lacks, tmp_path):
    # given a source that lacks columns
    lines = sale_lines().assign(**dict.fromkeys(lacks))
    write_lines(lines, tmp_path / "sales.parquet")
    months = store_months(sale_lines()).assign(**{name: None for name in ("country", "city") if name in lacks})
    # when
    tables = explore(tmp_path / "sales.parquet", months)
    pictures = draw_all(tables, months)
    # then each is drawn, and names the columns that the source does not have
    for name, figure in pictures.items():
        save_and_show(figure, tmp_path / f"{name}.png")
    if "category" in lacks:
        assert pictures["categories"].texts[1].get_text() == "This source has no categories."
        assert pictures["products"].texts[1].get_text() == "This source has no products."
        assert pictures["prices"].texts[1].get_text() == "This source has no prices."
        assert "lacks country, city, category" in pictures["missing"].texts[1].get_text()
    else:
        assert title(pictures["products"]) == "1 of 2 products started late: Mug (Sep 2024)"
        assert title(pictures["stores"]).startswith("1 of 2 stores are open")
        assert title(pictures["missing"]).startswith("Most often missing: weather")


def test_tables_and_pictures_are_the_same_bytes(sales, tmp_path):
    months = store_months(sale_lines())
    for run in ("one", "two"):
        tables = explore(sales[1], months)
        write_json(
            {name: table.reset_index().to_dict("records") for name, table in tables.items()},
            tmp_path / run / "tables.json",
        )
        for name, figure in draw_all(tables, months).items():
            save_and_show(figure, tmp_path / run / f"{name}.png")
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_threads_change_nothing(sales, monkeypatch):
    months = store_months(sale_lines())
    monkeypatch.setenv("BREWCAST_THREADS", "1")
    one = explore(sales[1], months)
    monkeypatch.setenv("BREWCAST_THREADS", "2")
    two = explore(sales[1], months)
    for name in one:
        pd.testing.assert_frame_equal(one[name], two[name])


def test_a_picture_has_its_title_as_alternative_text(sales, tmp_path):
    image = save_and_show(plot_missing(missing_by_month(sales[0])), tmp_path / "missing.png")
    _, metadata = image._repr_mimebundle_()
    assert metadata["image/png"]["alt"].startswith("Most often missing: weather")
