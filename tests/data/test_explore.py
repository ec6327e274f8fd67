"Explore: the numbers behind the pictures are right, and every picture can be read, whatever a source has."

import datetime
import re

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import picture_problems
from planted import PICTURES

from brewcast.common.charts import LINE_COLORS, Margins, create_figure, name_axis, save_and_show
from brewcast.common.core import SALE_LINE_COLUMNS, read_parquet, write_json
from brewcast.common.increments import Increments
from brewcast.data.explore import (
    day_effects,
    explore,
    explore_answer,
    last_pictures,
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
from brewcast.data.sale_sums import (
    daily_sales,
    day_ratios,
    level_sums,
    line_sums,
    price_classes,
    store_month_levels,
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


def effects_of(days: pd.DataFrame) -> pd.DataFrame:
    "The effects of days that are all in one table."
    ratios = day_ratios(days)
    return day_effects(level_sums(ratios), store_month_levels(ratios))


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
    return figure.texts[0].get_text().replace("\n", " ")


def reason(figure) -> str:
    "Why there is no picture."
    return figure.texts[1].get_text().replace("\n", " ")


def bars(figure) -> dict[str, str]:
    "The percent below each bar by its name."
    labels = [label.get_text() for axis in figure.axes for label in axis.get_xticklabels()]
    return dict(label.split("\n") for label in labels)


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    path = tmp_path_factory.mktemp("explore") / "sales.parquet"
    return ibis.memtable(write_lines(sale_lines(), path)), path


def test_sums_equal_plain_pandas(sales):
    # given
    lines = sale_lines()
    # when
    table, days = products_by_month(line_sums(sales[0])), daily_sales(sales[0])
    # then
    month = lines["date"].dt.to_period("M").dt.to_timestamp()
    expected = lines.groupby([month.rename("month"), "category", "product"])["quantity_sold"].sum().astype(float)
    pd.testing.assert_series_equal(
        table.set_index(["month", "category", "product"])["quantity"], expected, check_names=False
    )
    expected = lines.groupby(["store_id", "date"])["quantity_sold"].sum().astype(float)
    pd.testing.assert_series_equal(
        days.astype({"store_id": object}).set_index(["store_id", "date"])["quantity"], expected, check_names=False
    )


def test_a_promotion_is_compared_within_store_and_month(sales):
    effects = effects_of(daily_sales(sales[0])).set_index(["what", "level"])["effect"]
    assert (1 + effects["promotion", "True"]) / (1 + effects["promotion", "False"]) == pytest.approx(2, rel=0.01)


def test_the_effect_of_a_promotion_is_the_simulated_one_however_many_days_it_has():
    # given 40 store-months that sell 35 % more in promotions, on 2 to 20 of 30 days
    rng = np.random.default_rng(5)
    days = pd.DataFrame({"date": pd.date_range("2024-01-01", "2027-04-30")})
    month = days["date"].dt.to_period("M")
    days["promotion"] = days["date"].dt.day <= month.map(
        dict(zip(month.unique(), rng.integers(2, 21, 40), strict=True))
    )
    level = month.map(dict(zip(month.unique(), rng.uniform(50, 500, 40), strict=True)))
    days["quantity"] = level.astype(float) * np.where(days["promotion"], 1.35, 1.0)
    days = days.assign(store_id="S1", weather=None, holiday=None)
    # when the effect is measured, then it is that of the simulation, and the bars and the title say it
    effects = effects_of(days.astype({"promotion": "boolean", "holiday": "boolean"}))
    figure = plot_days(effects)
    assert effects.set_index(["what", "level"])["effect"]["promotion", "True"] == pytest.approx(0.35)
    assert title(figure) == "Days with a promotion sell 35% more" and bars(figure)["promotion"] == "+35%"


@pytest.mark.parametrize("promotion", [-0.4, 0.001, 0.29])
@pytest.mark.parametrize("holiday", [None, 0.08, -0.123])
def test_title_and_bars_of_the_days_say_the_same(promotion, holiday):
    rows = [("weekday", str(day), day / 100, 9) for day in range(7)]
    rows += [("promotion", "False", 0.0, 9), ("promotion", "True", promotion, 9)]
    rows += [("holiday", "False", 0.0, 9), ("holiday", "True", holiday, 9)] if holiday else []
    figure = plot_days(pd.DataFrame(rows, columns=["what", "level", "effect", "days"]))
    said = dict(re.findall(r"with a (\w+)(?: sell)? (\d+% more|\d+% less|as much)", title(figure)))
    shown = {name: value for name, value in bars(figure).items() if name in ("promotion", "holiday")}
    words = {"+": " more", "−": " less"}
    assert said == {n: value[1:] + words[value[0]] if value != "0%" else "as much" for n, value in shown.items()}


def test_late_products_and_closed_stores_are_found(sales):
    starts, spans = product_starts(products_by_month(line_sums(sales[0]))), store_spans(store_months(sale_lines()))
    assert starts["late"].to_dict() == {"Latte": False, "Mug": True}
    assert spans["state"].to_dict() == {"S1": "open", "S2": "closed"}


def test_missing_shares(sales):
    missing = missing_by_month(line_sums(sales[0]))
    assert missing["weather"].mean() == pytest.approx(sale_lines()["weather"].isna().mean(), abs=0.01)
    assert missing["price"].max() == 0


def test_price_response_is_that_of_the_generator():
    # given quantities that fall by as much as prices rise
    rng = np.random.default_rng(1)
    price = rng.choice([3.6, 4.0, 4.4], 3000)
    lines = pd.DataFrame({"store_id": "S1", "date": pd.Timestamp("2024-05-01"), "product": "Latte", "price": price})
    lines = lines.reindex(columns=SALE_LINE_COLUMNS).assign(quantity_sold=100 * (1 - (price / 4 - 1)))
    # when
    response = price_response(price_classes(ibis.memtable(write_lines(lines, "/dev/null"))).to_pandas())
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
        assert reason(pictures["categories"]) == "This source has no categories."
        assert reason(pictures["products"]) == "This source has no products."
        assert reason(pictures["prices"]) == "This source has no prices."
        assert "lacks country, city, category" in reason(pictures["missing"])
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


def test_months_give_the_same_tables_as_one_file(tmp_path):
    # given four months in one file and in a folder; S2 closes, and a city is known in some months only
    lines = sale_lines()
    lines = lines[lines["date"].between("2025-05-01", "2025-08-31")]
    lines = lines.assign(city=lines["city"].where(lines["date"] < "2025-06-01"), quantity_sold=lines["price"] / 3)
    months = store_months(lines)
    write_lines(lines, tmp_path / "sales.parquet")
    folder, cache = tmp_path / "sales", Increments(tmp_path / "cache")
    folder.mkdir()
    for month, of_month in lines.groupby(lines["date"].dt.strftime("%Y-%m")):
        write_lines(of_month, folder / f"{month}.parquet")
    # when
    whole, by_month = explore(tmp_path / "sales.parquet", months), explore(folder, months, cache)
    write_lines(of_month.tail(-1), folder / "2025-08.parquet")  # the last month has changed
    made = cache.made
    changed = explore(folder, months, cache)
    # then
    for name, table in whole.items():
        pd.testing.assert_frame_equal(by_month[name], table, check_exact=True)
    assert (made, cache.made, cache.found) == (5, 7, 3)  # a month's sums and its year's are made again
    assert changed["price_level"]["lines"].sum() == len(lines) - 1


def test_threads_change_nothing(sales, monkeypatch):
    months = store_months(sale_lines())
    monkeypatch.setenv("BREWCAST_THREADS", "1")
    one = explore(sales[1], months)
    monkeypatch.setenv("BREWCAST_THREADS", "2")
    two = explore(sales[1], months)
    for name in one:
        pd.testing.assert_frame_equal(one[name], two[name])


def test_a_picture_has_its_title_as_alternative_text(sales, tmp_path):
    picture = save_and_show(plot_missing(missing_by_month(line_sums(sales[0]))), tmp_path / "missing.png")
    assert picture.alt.startswith("Most often missing: weather")
    assert 'aria-label="Most often missing: weather' in picture.svg


LONG = "The Very Long Name Of Something That Nobody Would Call So {}"  # 60 characters with the number
SPECIAL = [
    "=cmd|' /C calc'!A0",
    "$5 and $6 <b>menu</b> & more",
    "CAPITALS FROM A TILL OF THE NINETIES",
    "Ünïcödé",
    "92",
    "a",
]


def renamed(lines: pd.DataFrame, pattern: str) -> pd.DataFrame:
    "Sale lines with other names in every column of names."
    names = ["store_id", "country", "city", "category", "product"]
    return lines.assign(**{name: [pattern.format(value) for value in lines[name]] for name in names})


def many_categories() -> pd.DataFrame:
    "Forty categories of forty products, some of which start late, at prices from 0.02 to 20,000."
    rng = np.random.default_rng(8)
    menu = pd.DataFrame(
        {"category": [f"Category {i}" for i in range(40)], "product": [f"Product {i}" for i in range(40)]}
    )
    menu["price"] = np.geomspace(0.02, 20_000, 40).round(2)
    days = pd.DataFrame({"date": pd.date_range("2023-01-01", "2025-12-31", freq="9D")})
    lines = days.merge(menu, how="cross").assign(store_id="S1", country="USA", city="Reno")
    lines = lines[lines["date"] >= pd.Timestamp("2023-01-01") + pd.to_timedelta(lines["price"].rank() / 60, unit="D")]
    lines["quantity_sold"] = rng.integers(1, 10_000, len(lines))
    lines["weather"] = rng.choice(["Hot", "Cold", None], len(lines))
    return lines.reindex(columns=SALE_LINE_COLUMNS)


def many_places() -> pd.DataFrame:
    "Twenty cities of one country and four of others, a store each, two years."
    rows = [(f"S{i}", "USA" if i < 20 else "Mexico", f"City {i}") for i in range(24)]
    stores = pd.DataFrame(rows, columns=["store_id", "country", "city"])
    days = pd.DataFrame({"date": pd.date_range("2024-01-01", "2025-12-31", freq="5D")})
    lines = stores.merge(days, how="cross")
    lines["quantity_sold"] = 50 + np.arange(len(lines)) % 7 + 20 * (lines["date"].dt.month == 12)
    return lines.assign(category="Tea", product="Tea", price=2.0).reindex(columns=SALE_LINE_COLUMNS)


def special_names() -> pd.DataFrame:
    lines = many_categories()
    number = lines["product"].str.split().str[-1].astype(int)
    names = [SPECIAL[i] if i < len(SPECIAL) else f"Product {i}" for i in number]
    return lines.assign(product=names, category=names, store_id=SPECIAL[1], country=SPECIAL[1], city=SPECIAL[2])


EVERY_FIELD_IS_SOMETIMES_EMPTY = ["country", "city", "category", "product", "price", "weather", "promotion", "holiday"]


def with_gaps() -> pd.DataFrame:
    "Sale lines with empty fields in every column that may have some."
    lines, rng = sale_lines(), np.random.default_rng(4)
    for name in EVERY_FIELD_IS_SOMETIMES_EMPTY:
        lines[name] = lines[name].astype(object).where(rng.random(len(lines)) > 0.1, None)
    return lines


SOURCES = {
    "two stores": sale_lines,
    "one store and one month": lambda: sale_lines().query("store_id == 'S1' and date < '2024-02-01'"),
    "one store and two months": lambda: sale_lines().query("store_id == 'S1' and date < '2024-03-01'"),
    "thirteen months": lambda: sale_lines().query("store_id == 'S1' and date < '2025-02-01'"),
    "one product on one day": lambda: sale_lines().head(1),
    "forty categories": many_categories,
    "many places": many_places,
    "names of 60 characters": lambda: renamed(sale_lines(), LONG),
    "long names in capitals": lambda: renamed(
        many_places(), "WWWWWWWWWWWW WWWWWWWWWWWWWWW WWWWWWWWWWWWWWWWWWWWWWWWW {}"
    ),
    "special names": special_names,
    "gaps in every column": with_gaps,
    "a week a row": lambda: (
        sale_lines().query("date.dt.dayofweek == 2").assign(promotion=lambda t: t["date"].dt.day < 9)
    ),
    "twenty years": lambda: many_places().assign(
        date=lambda t: t["date"] - pd.to_timedelta(t.index % 20 * 365, unit="D")
    ),
    "nothing but returns": lambda: sale_lines().assign(quantity_sold=-1.0),
    "nothing sold": lambda: sale_lines().assign(quantity_sold=0.0),
    **{
        f"without columns, as {name}": lambda lacks=lacks: sale_lines().assign(**dict.fromkeys(lacks))
        for name, lacks in LACKING.items()
    },
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_picture_can_be_read(source, tmp_path):
    # given a source's sale lines and store-months
    lines = SOURCES[source]()
    write_lines(lines, tmp_path / "sales.parquet")
    # when all pictures are drawn
    months = store_months(lines)
    tables = explore(tmp_path / "sales.parquet", months)
    # then no text overlaps another or is cut, colours are those of the palette, and every axis has a unit
    problems = {name: picture_problems(figure) for name, figure in draw_all(tables, months).items()}
    assert {name: found for name, found in problems.items() if found} == {}
    assert explore_answer(tables, "pieces").sentence.endswith(" open.")


@pytest.mark.parametrize("n_changed", [0, 1, 20, 21, 5000])
def test_a_picture_of_5000_stores_can_be_read(n_changed):
    # given 5,000 stores, of which some have opened
    span = pd.date_range("2024-01-01", periods=12, freq="MS")
    months = pd.DataFrame({"store_id": [f"STORE{i}" for i in range(5000)]}).merge(
        pd.DataFrame({"month": span}), how="cross"
    )
    is_late = months["store_id"].isin([f"STORE{i}" for i in range(n_changed)]) & (months["month"] < span[3])
    months = months[~is_late | (months["store_id"] == "STORE0")].assign(country="USA", quantity_sold=1.0)
    # when they are drawn
    figure = plot_stores(store_spans(months), months)
    # then it fits onto a screen
    assert picture_problems(figure) == [] and figure.get_figheight() < 8
    n_late = max(0, n_changed - 1)
    assert title(figure).startswith("All 5,000 stores are open") and (f"{n_late:,} opened" in title(figure)) == (
        n_late > 0
    )
    assert ("changed last" in figure.get_label()) == (n_late > 20)


def test_every_picture_of_the_simulated_source_can_be_read(published):
    products = published.root / "products/simulated"
    months = read_parquet(products / "clean/store_month.parquet")
    tables = explore(products / "ingest/sales", months)
    pictures = draw_all(tables, months)
    assert {name: found for name, figure in pictures.items() if (found := picture_problems(figure))} == {}
    assert "This source has no" not in "".join(text.get_text() for f in pictures.values() for text in f.texts)
    # and the promotions have the effect that the simulation gave them
    promoted = tables["days"].set_index(["what", "level"])["effect"]["promotion", "True"]
    assert promoted == pytest.approx(0.35, abs=0.03)


def test_the_notebook_shows_the_pictures_of_the_last_build_with_their_captions(published):
    product = {"nb": str(published.root / "products/simulated/explore/explore.ipynb")}
    pictures = last_pictures(product)
    assert len(pictures) == 8 and all(picture.caption and picture.svg.startswith("<svg") for picture in pictures)
    folder = published.root / "products/simulated/explore/figures"
    assert {picture.png for picture in pictures} == {path.read_bytes() for path in folder.glob("*.png")}


@pytest.mark.parametrize("planted", PICTURES)
def test_a_picture_that_cannot_be_read_is_found(planted):
    code, problem = PICTURES[planted]
    figure, (axis,) = create_figure("Sales rise", "By month.", margins=Margins(below=0.6))
    axis.plot([1, 2], [1, 2], color=LINE_COLORS[0])
    axis.set_xticks([])
    name_axis(axis, "pieces a month")
    assert picture_problems(figure) == []
    exec(code, {"figure": figure, "axis": axis})
    assert problem in "; ".join(picture_problems(figure))
