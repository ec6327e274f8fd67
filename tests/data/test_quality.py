"Quality: harm done to a month is found under its right name, and nothing is said of months that nobody harmed."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from brewcast.data.quality import accepted, check_data, rows_set_aside

CALENDAR = {"unit": "day", "weekday": None, "countries": {"USA": "US"}}
MONTH = pd.Timestamp("2023-04-01")
LEVELS = ["stop", "warn", "note"]


def history(seed: int = 0, stores: int = 8) -> pd.DataFrame:
    "Sixteen months of daily lines with a season, a growing and a closing store, weeks of refurbishment and sales."
    chance, dates = np.random.default_rng(seed), pd.date_range("2022-01-01", "2023-04-30")
    keys = [[f"S{n}" for n in range(stores)], dates, ["Beans", "Mug", "Scone", "Tea"]]
    lines = pd.MultiIndex.from_product(keys, names=["store_id", "date", "product"]).to_frame(index=False)
    number, price = (
        lines.store_id.str[1:].astype(int),
        lines["product"].map({"Beans": 12, "Mug": 9, "Scone": 3, "Tea": 5}),
    )
    lines["category"] = lines["product"].map(
        {"Beans": "Coffee", "Mug": "Merchandise", "Scone": "Pastry", "Tea": "Beverage"}
    )
    season = 1 + 0.3 * np.cos(2 * np.pi * lines.date.dt.dayofyear / 365) + 0.02 * number
    promoted = (lines.date.dt.day < 10) & (chance.random(stores)[number] < 0.5)
    lines["price"] = (price * (1 + 0.04 * number / stores) * np.where(promoted, 0.7, 1.0)).round(2)
    lines["quantity_sold"] = 1.0 + chance.poisson(12 * season * np.where(promoted, 1.4, 1.0))
    christmas = (lines.date.dt.month == 12) & (lines.date.dt.day == 25)
    refurbished = (lines.store_id == f"S{seed % stores}") & lines.date.between("2022-09-05", "2022-09-14")
    again = (lines.store_id == f"S{(seed + 1) % stores}") & lines.date.between("2023-04-03", "2023-04-11")
    closed = (lines.store_id == f"S{(seed + 2) % stores}") & (lines.date >= "2022-11-01")
    return lines[~(christmas | refurbished | again | closed)].reset_index(drop=True)


@pytest.fixture
def judge(tmp_path):
    "A function that says what is found in lines: pairs of check and place, by level."

    def run(lines: pd.DataFrame, calendar: dict = CALENDAR, dataset: dict | None = None, **settings) -> SimpleNamespace:
        lines.to_parquet(tmp_path / "sales.parquet")
        months = pd.DataFrame({"month": sorted(lines.date.dt.to_period("M").dt.to_timestamp().unique())})
        found = check_data(tmp_path / "sales.parquet", months, calendar, [], {"months": 1} | settings, dataset)
        assert all(set(f) == {"check", "level", "where", "text", "figures"} for f in found)
        by_level = {level: [(f["check"], f["where"]) for f in found if f["level"] == level] for level in LEVELS}
        return SimpleNamespace(found=found, **by_level)

    return run


def harmed(lines: pd.DataFrame, change) -> pd.DataFrame:
    "The lines, their last month changed."
    now = lines.date >= MONTH
    return pd.concat([lines[~now], change(lines[now].copy())], ignore_index=True)


def times(column: str, factor: float, **where):
    "A change: one column of some lines is in another unit."

    def change(month):
        chosen = (
            np.logical_and.reduce([month[name] == value for name, value in where.items()]) if where else slice(None)
        )
        month.loc[chosen, column] = month.loc[chosen, column] * factor
        return month

    return change


def second_till(month):
    "A change: S5's lines come again, from another till, with other quantities."
    again = month[month.store_id == "S5"]
    return pd.concat([month, again.assign(quantity_sold=again.quantity_sold + np.arange(len(again)) % 2 + 0.5)])


def march_again(lines: pd.DataFrame) -> pd.DataFrame:
    march = lines[(lines.date >= "2023-03-01") & (lines.date < "2023-03-31")]
    return pd.concat([lines[lines.date < MONTH], march.assign(date=march.date + pd.Timedelta(days=31))])


HARMS = {  # what is done, the check that must tell, where, and how loudly
    "cents everywhere": (times("price", 100), "unit_shift", "all stores", "stop"),
    "cents in a store": (times("price", 100, store_id="S5"), "unit_shift", "store S5", "stop"),
    "cents in a category": (times("price", 100, category="Pastry"), "unit_shift", "category Pastry", "stop"),
    "cases for pieces everywhere": (times("quantity_sold", 1 / 12), "unit_shift", "all stores", "stop"),
    "packs of six in a store": (times("quantity_sold", 1 / 6, store_id="S5"), "unit_shift", "store S5", "stop"),
    "pieces for cases in a category": (
        times("quantity_sold", 24, category="Pastry"),
        "unit_shift",
        "category Pastry",
        "warn",
    ),
    "a store's lines twice": (lambda m: pd.concat([m, m[m.store_id == "S5"]]), "duplicates", "store S5", "stop"),
    "a day twice": (lambda m: pd.concat([m, m[m.date == "2023-04-20"]]), "duplicates", "2023-04-20", "stop"),
    "all twice": (lambda m: pd.concat([m, m]), "duplicates", "7 stores", "stop"),
    "a second till": (second_till, "volume", "store S5", "warn"),
    "a store is missing": (lambda m: m[m.store_id != "S5"], "completeness", "store S5", "note"),
    "half of the stores are missing": (lambda m: m[m.store_id > "S4"], "completeness", "stores", "stop"),
    "half end two weeks early": (
        lambda m: m[(m.store_id > "S4") | (m.date < "2023-04-17")],
        "freshness",
        "stores",
        "stop",
    ),
    "a day is missing": (lambda m: m[m.date != "2023-04-20"], "completeness", "2023-04-20", "stop"),
    "three lines of four are missing": (lambda m: m[m["product"] == "Beans"], "jump", "all stores", "warn"),
}


@pytest.mark.parametrize("seed", range(4))
def test_nothing_stops_where_nothing_was_harmed(judge, seed):
    # given a history with a season, promotions, refurbishments, a store that closed / when each late month is judged
    lines = history(seed)
    for months_less in (0, 4, 10):
        end = MONTH + pd.offsets.MonthEnd(1) - pd.DateOffset(months=months_less)
        got = judge(lines[lines.date <= end + pd.offsets.MonthEnd(0)])
        # then nothing stops it
        assert got.stop == [], got.found


@pytest.mark.parametrize("change, check, where, level", HARMS.values(), ids=HARMS)
def test_harm_is_found_by_its_name(judge, change, check, where, level):
    # given a harmed month / when it is judged
    got = judge(harmed(history(), change))
    # then the right check tells the right place, at least as loudly as the evidence allows
    loud = LEVELS[: LEVELS.index(level) + 1]
    told = [f for f in got.found if f["check"] == check and where in f["where"] and f["level"] in loud]
    assert told, got.found
    assert told[0]["figures"]["month"] == "2023-04" and "2023-04" in told[0]["text"]


def test_a_month_that_is_an_earlier_one_again(judge):
    got = judge(march_again(history()))
    assert ("duplicates", "all stores") in got.stop
    assert next(f for f in got.found if f["check"] == "duplicates")["figures"]["copy_of"] == "2023-03"


@pytest.mark.parametrize(
    "change",
    [
        times("price", 0.7),
        times("price", 1.1, store_id="S5"),
        times("quantity_sold", 1.5),
        times("quantity_sold", 0.5, product="Mug"),
        lambda m: m[(m.store_id != "S5") | (m.date.dt.day < 12) | (m.date.dt.day > 20)],
    ],
    ids=["a sale", "a dearer store", "a good month", "mugs are out", "a refurbishment"],
)
def test_ordinary_events_stop_nothing(judge, change):
    assert judge(harmed(history(), change)).stop == []


def test_a_public_holiday_may_be_closed(judge):
    # given stores that close on a public holiday for the first time
    lines = history()
    got = judge(lines[(lines.date < "2023-02-01") & (lines.date != "2023-01-16")])  # Martin Luther King Day
    assert not [f for f in got.found if f["check"] == "completeness" and f["level"] == "stop"]


def test_a_young_source_is_not_stopped(judge):
    # given three months, the last with cents for dollars
    lines = harmed(history(), times("price", 100))
    assert judge(lines[lines.date >= "2023-02-01"]).stop == []


def test_what_was_not_mended_stops_the_next_month_too(judge):
    # given cents in March, and an April that is right
    lines, march = history(), pd.Timestamp("2023-03-01")
    lines.loc[(lines.date >= march) & (lines.date < MONTH), "price"] *= 100
    got = judge(lines, months=3)
    assert got.stop == [("unit_shift", "all stores")] and got.found[0]["figures"]["month"] == "2023-03"
    # when only the last month is asked for, or March is accepted / then it goes on
    assert judge(lines, months=1).stop == []
    assert judge(lines, months=3, accept=["unit_shift:2023-03"]).stop == []


@pytest.mark.parametrize("entry", ["unit_shift:S5:2023-04", "unit_shift:store S5:2023-04", "unit_shift:2023-04"])
def test_what_is_accepted_is_a_note(judge, entry):
    lines = harmed(history(), times("price", 100, store_id="S5"))
    assert entry.removesuffix(":2023-04") in ("unit_shift", "unit_shift:S5", "unit_shift:store S5")
    got = judge(lines, accept=[entry])
    assert got.stop == [] and ("unit_shift", "store S5") in got.note


@pytest.mark.parametrize("entry", ["unit_shift:S4:2023-04", "unit_shift:2023-03", "duplicates:2023-04"])
def test_nothing_else_is_accepted_with_it(judge, entry):
    lines = harmed(history(), times("price", 100, store_id="S5"))
    assert ("unit_shift", "store S5") in judge(lines, accept=[entry]).stop


@pytest.mark.parametrize("entry", ["S5", "unit_shift", "unit_shift:2023", "unit:2023-04", 7, "unit_shift:2023-13"])
def test_an_unknown_form_is_refused(entry):
    with pytest.raises(ValueError, match="quality.accept: .* is neither check:YYYY-MM nor"):
        accepted([], [entry])


def test_an_unknown_setting_is_refused(judge):
    with pytest.raises(ValueError, match=r"quality: unknown settings \['acept'\]"):
        judge(history(), acept=[])


def test_the_way_out_is_one_that_is_accepted(judge):
    lines = harmed(history(), lambda m: times("price", 100, store_id="S5")(m[m.date != "2023-04-20"]))
    got = judge(lines)
    entries = [f["text"].split("add '")[1].split("' to quality.accept")[0] for f in got.found if f["level"] == "stop"]
    assert len(entries) == len(got.stop) > 1
    assert judge(lines, accept=entries).stop == []


def test_the_order_of_lines_and_the_number_of_threads_make_no_difference(judge, monkeypatch):
    lines = harmed(history(), times("price", 100, store_id="S5"))
    plain = judge(lines).found
    for threads in ("1", "3"):
        monkeypatch.setenv("BREWCAST_THREADS", threads)
        assert judge(lines.sample(frac=1, random_state=int(threads))).found == plain


def dataset(last: dict, **files) -> dict:
    months = {f"2022-{n:02d}": {"rows_in": 1000, "rows_set_aside": 3} for n in range(1, 13)}
    return {"months": months | last, "tables": {"till": {"files": files or {"till.csv": {"columns_not_used": []}}}}}


@pytest.mark.parametrize(
    "last, level",
    [
        ({"2023-01": {"rows_in": 1000, "rows_set_aside": 5}}, None),
        ({"2023-01": {"rows_in": 950, "rows_set_aside": 50}}, "warn"),
        ({"2023-01": {"rows_in": 700, "rows_set_aside": 300}}, "stop"),
        ({"2023-01": {"rows_in": 900, "rows_set_aside": 3}, "2023-02": {"rows_in": 0, "rows_set_aside": 900}}, "stop"),
        ({"2023-01": {"rows_in": 900, "rows_set_aside": 3}, "unknown": {"rows_in": 0, "rows_set_aside": 900}}, "stop"),
        ({"2023-01": {"rows_in": 900, "rows_set_aside": 3}, "unknown": {"rows_in": 0, "rows_set_aside": 30}}, None),
    ],
)
def test_rows_set_aside_in_the_last_months(last, level):
    found = rows_set_aside(dataset(last), pd.Timestamp("2023-01-01"))
    assert [f["level"] for f in found] == ([level] if level else [])


@pytest.mark.parametrize("left, level", [(80, None), (150, None), (600, "warn")])
def test_a_filter_that_takes_far_more_than_ever_is_told(left, level):
    # given a query that leaves out 8 % of each month's rows / when it leaves out more of the last one
    months = {
        f"2022-{n:02d}": {"rows_in": 920, "rows_set_aside": 0, "rows_left_out_by_query": 80} for n in range(1, 13)
    }
    months["2023-01"] = {"rows_in": 1000 - left, "rows_set_aside": 0, "rows_left_out_by_query": left}
    found = rows_set_aside(dataset({}) | {"months": months}, pd.Timestamp("2023-01-01"))
    assert [(f["level"], f["where"]) for f in found] == ([(level, "the query")] if level else [])
    assert not level or "left out 600 rows, 60.0%; usual is 8.0% at most" in found[0]["text"]


def lost(last: int, year: int) -> dict:
    "A store that lost so many of a hundred rows, in the last month and in each of those before."
    months = {f"2022-{n:02d}": {"rows_in": 100 - year, "rows_set_aside": year} for n in range(1, 13)}
    return months | {"2023-01": {"rows_in": 100 - last, "rows_set_aside": last}}


@pytest.mark.parametrize(
    "stores, level, said",
    [
        ({"S5": lost(12, 0)}, "stop", "12 of its rows were set aside, 12.0%; a store's usual share is 0.0%"),
        ({"S5": lost(9, 9)}, "warn", "108 of its rows of the last twelve months were set aside, 9.0%"),
        ({"S5": lost(1, 1)}, None, ""),
        ({f"S{i}": lost(12, 12) for i in range(6)}, None, ""),  # all of them do
        ({f"S{i}": lost(5, 5) for i in range(5)} | {"S5": lost(40, 5)}, "stop", "usual share is 5.0%"),
    ],
)
def test_a_store_that_loses_rows_as_no_other_is_told(stores, level, said):
    told = dataset({"2023-01": {"rows_in": 1000, "rows_set_aside": 5}}) | {"stores_set_aside": stores, "stores": 6}
    found = rows_set_aside(told, pd.Timestamp("2023-01-01"))
    assert [(f["level"], f["where"]) for f in found] == ([(level, "store S5")] if level else [])
    assert not level or said in found[0]["text"]


def test_a_month_whose_rows_were_set_aside_is_stopped_in_the_months_after_too(judge):
    foul = {"rows_in": 700, "rows_set_aside": 300}
    months = [f"{month:%Y-%m}" for month in sorted(history().date.dt.to_period("M").dt.to_timestamp().unique())]
    told = {name: {"rows_in": 1000, "rows_set_aside": 3} for name in months}
    got = {}
    for back in (0, 2, 3):
        known = dataset({}) | {"months": told | {months[-1 - back]: foul}}
        got[back] = judge(history(), dataset=known, months=3)
    stops = {back: [each for each in found.stop if each[0] == "set_aside"] for back, found in got.items()}
    assert stops == {0: [("set_aside", "all stores")], 2: [("set_aside", "all stores")], 3: []}  # three months long


def test_new_columns_are_noted_with_the_file_that_has_them(judge):
    files = {"till_1.csv": {"columns_not_used": ["TILL"]}, "till_2.csv": {"columns_not_used": ["TILL", "LOYALTY"]}}
    got = judge(history(), dataset=dataset({}, **files))
    assert [n for n in got.note if n[0] == "columns"] == [("columns", "till_2.csv"), ("columns", "till")]
    assert "LOYALTY" in got.found[-2]["text"] and "TILL" not in got.found[-2]["text"].replace("till", "")
