"Quality: harm done to a month is found under its right name, and nothing is said of months that nobody harmed."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from brewcast.data.quality import (
    accept_findings,
    check_data,
    check_quarantined_rows,
    check_totals,
    group_similar_names,
    untrusted_store_months,
)

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

    def run(lines: pd.DataFrame, calendar=CALENDAR, dataset=None, largest=None, **settings) -> SimpleNamespace:
        lines.to_parquet(tmp_path / "sales.parquet")
        months = pd.DataFrame({"month": sorted(lines.date.dt.to_period("M").dt.to_timestamp().unique())})
        settings = {"months": 1} | settings
        found = check_data(tmp_path / "sales.parquet", months, calendar, [], settings, dataset, largest=largest)
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
    # given a history with a season, promotions, refurbishments, a store that closed / when each month is judged
    got = judge(history(seed), months=99)
    # then nothing stops it
    assert got.stop == [] and untrusted_store_months(got.found).empty, got.found


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
        accept_findings([], [entry])


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
    found = check_quarantined_rows(dataset(last), pd.Timestamp("2023-01-01"))
    assert [f["level"] for f in found] == ([level] if level else [])


@pytest.mark.parametrize("left, level", [(80, None), (150, None), (600, "warn")])
def test_a_filter_that_takes_far_more_than_ever_is_told(left, level):
    # given a query that leaves out 8 % of each month's rows / when it leaves out more of the last one
    months = {
        f"2022-{n:02d}": {"rows_in": 920, "rows_set_aside": 0, "rows_left_out_by_query": 80} for n in range(1, 13)
    }
    months["2023-01"] = {"rows_in": 1000 - left, "rows_set_aside": 0, "rows_left_out_by_query": left}
    found = check_quarantined_rows(dataset({}) | {"months": months}, pd.Timestamp("2023-01-01"))
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
    found = check_quarantined_rows(told, pd.Timestamp("2023-01-01"))
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


READ = {"months": {"2023-04": {"rows_in": 1, "rows_set_aside": 0}}, "tables": {}}


def said(found: list[dict], check: str) -> list[tuple]:
    return [(f["level"], f["where"]) for f in found if f["check"] == check]


@pytest.mark.parametrize(
    "pair",
    [("001", "1"), ("101", "101.0"), ("S1", "S01"), ("s1", "S1"), ("Store 7", "STORE-07"), ("12", "\uff11\uff12"), ("0", "000")]
    + [("Peña", "Pen\u0303a"), ("Peña", "Pena"), ("Straße", "STRASSE"), (" 4", "4"), ("'04", "4"), ("N_1", "N\u20131")],
)  # fmt: skip
def test_names_that_exports_change_are_alike(pair):
    assert group_similar_names(pair) == [sorted(pair)]


@pytest.mark.parametrize(
    "pair",
    ["S1 S10", "1-11 11-1", "1.5 1.05", "10 1.0", "A1 B1", "-1 1", "0 10", "100 1", "ハ バ", "Nord Nord2", "1_1 11"],
)
def test_names_that_are_others_are_not(pair):
    assert group_similar_names(pair.split()) == []


def test_ids_that_lost_their_zeros_are_told_with_the_line_that_makes_them_one(judge):
    # given eight stores that have zeros in their ids until 2022, and none from 2023 on
    lines = history()
    lines["store_id"] = lines.store_id.str.replace("S", "")
    old = lines.store_id.str.zfill(3)
    lines["store_id"] = old.where(lines.date < "2023-01-01", lines.store_id)
    # when they are judged
    found = judge(lines, dataset=READ).found
    # then one warning names them, with what to write: the id in use is kept
    assert said(found, "ids") == [("warn", "7 stores")]  # one had closed before
    text = next(f["text"] for f in found if f["check"] == "ids")
    assert "under two names" in text and 'same_store: {"000": "0", "001": "1"' in text
    # and once it is written, nothing is said, but of a name that no line has
    one = lines.assign(store_id=lines.store_id.where(lines.store_id.str.len() < 3, lines.store_id.str[-1]))
    known = READ | {"same_store": {"001": 400, "00X": 0}}
    assert said(judge(one, dataset=known).found, "ids") == [("note", "same_store")]


def test_two_that_sell_in_the_same_months_are_perhaps_two(judge):
    lines = history()
    lines["store_id"] = lines.store_id.replace({"S7": "s6"})
    found = judge(lines).found
    assert said(found, "ids") == [("warn", "store s6")] or said(found, "ids") == [("warn", "store S6")]
    text = next(f["text"] for f in found if f["check"] == "ids")
    assert "two stores, perhaps: both sell in the same months" in text
    assert 'if not: same_store: {"' in text
    # when it was said that they are two, nothing is left to say
    known = READ | {"same_store": {"S6": 9, "s6": 9}}
    assert said(judge(lines, dataset=known).found, "ids") == []


def test_a_plan_that_names_a_store_otherwise_is_told(judge, tmp_path):
    # given lines of S0 to S7, and a plan of S01 and of a store that has not opened
    judge(history())
    months = pd.DataFrame({"month": [MONTH]})
    found = check_data(
        tmp_path / "sales.parquet", months, CALENDAR, [], {"months": 1}, planned_ids=["S01", "S2", "S99"]
    )
    # then the one that has lines is kept
    assert said(found, "ids") == [("warn", "store S1")]
    assert 'same_store: {"S01": "S1"}' in next(f["text"] for f in found if f["check"] == "ids")


def test_a_country_in_two_spellings_is_told(judge):
    lines = history().assign(country="USA", city="Boston")
    lines.loc[lines.store_id == "S3", "country"] = "Usa"
    found = judge(lines).found
    assert said(found, "ids") == [("warn", "country")] and "'USA' and 'Usa'" in found[0]["text"]


def months_of(stores: int = 6, months: int = 15, seed: int = 0) -> pd.DataFrame:
    "Units by month, a column a store."
    draw = np.random.default_rng(seed)
    index = pd.date_range("2022-01-01", periods=months, freq="MS")
    return pd.DataFrame(draw.poisson(800, (months, stores)) * 1.0, index, [f"S{n}" for n in range(stores)])


def rows(units: pd.DataFrame, **columns) -> pd.DataFrame:
    flat = units.rename_axis("month").melt(ignore_index=False, var_name="store_id", value_name="quantity_sold")
    flat = flat.dropna().reset_index()
    return flat.assign(**{name: flat.store_id.map(values) for name, values in columns.items()})


def test_a_total_is_named_with_the_way_to_leave_it_out():
    units = months_of()
    total = units.assign(Total=units.sum(axis=1))
    found = check_totals(rows(total), MONTH)
    assert said(found, "total") == [("stop", "store Total")]
    assert "WHERE store_id <> 'Total'" in found[0]["text"] and "total:Total:2023-04" in found[0]["text"]
    # of three months it is known, of two it is not
    assert said(check_totals(rows(total.tail(3)), MONTH), "total") == [("stop", "store Total")]
    assert check_totals(rows(total.tail(2)), MONTH) == []
    # of a year it may be rounded, and miss a month
    rough = total.assign(Total=(total.Total / 10).round() * 10)
    rough.iloc[3, -1] *= 1.2
    assert said(check_totals(rows(rough), MONTH), "total") == [("stop", "store Total")]
    # of two stores it is only warned of, and of one a copy
    two = units[["S0", "S1"]].assign(Total=units.S0 + units.S1)
    assert said(check_totals(rows(two), MONTH), "total") == [("warn", "store Total")]
    assert said(check_totals(rows(units[["S0"]].assign(Total=units.S0)), MONTH), "total") == [("warn", "store Total")]


def test_subtotals_and_the_total_of_all_are_named_each():
    units = months_of()
    parts = {"North": ["S0", "S1", "S2"], "South": ["S3", "S4", "S5"]}
    summed = units.assign(**{f"Sum {name}": units[stores].sum(axis=1) for name, stores in parts.items()})
    summed["Total"] = units.sum(axis=1)
    country = {store: name for name, stores in parts.items() for store in [*stores, f"Sum {name}"]}
    found = check_totals(rows(summed, country=country), MONTH)
    assert sorted(f["where"] for f in found) == ["store Sum North", "store Sum South", "store Total"]
    assert {f["level"] for f in found} == {"stop"}


@pytest.mark.parametrize("seed", range(5))
def test_no_store_is_a_total_by_chance(seed):
    # given many small stores, whose counts are equal now and then, and a large one
    small = months_of(40, 3, seed) // 160
    large = months_of(5, 15, seed)
    large["Airport"] = large.sum(axis=1) + np.random.default_rng(seed).integers(-9, 10, len(large))
    # then nothing is said
    assert check_totals(rows(small), MONTH) == []
    assert check_totals(rows(large.head(11)), MONTH) == []


def test_a_line_ahead_is_told_with_its_place_and_compared_with_nothing(judge, tmp_path):
    # given good lines, and one that clean found to stand alone
    lines = history()
    ahead = lines.tail(1).assign(store_id="S3", date=pd.Timestamp("2023-07-20"))
    pd.concat([lines, ahead]).to_parquet(tmp_path / "sales.parquet")
    alone = {"store_id": "S3", "date": "2023-07-20T00:00:00", "lines": 1, "place": " (till.csv, line 9)"}
    cleaned = {"first_date": "2022-01-01", "last_date": "2023-04-30", "lone_lines": [alone]}
    months = pd.DataFrame({"month": sorted(lines.date.dt.to_period("M").dt.to_timestamp().unique())})
    found = check_data(tmp_path / "sales.parquet", months, CALENDAR, [], {"months": 1}, cleaned=cleaned)
    # then it is warned of with file and line, and nothing else is said than without it
    assert said(found, "dates") == [("warn", "store S3")]
    assert "1 line(s) on 2023-07-20 (till.csv, line 9) stand alone" in found[0]["text"]
    assert [f for f in found if f["check"] != "dates"] == judge(lines).found


def test_every_month_of_a_first_import_is_judged_and_an_old_one_is_left_out(judge):
    # given a first import with cents in an old month, and half of the stores gone in another
    lines, october, december = history(), pd.Timestamp("2022-10-01"), pd.Timestamp("2022-12-01")
    month = lines.date.dt.to_period("M").dt.to_timestamp()
    lines.loc[month == october, "price"] *= 100
    lines = lines[(month != december) | (lines.store_id > "S4")]
    # when it is judged
    got = judge(lines, months=3)
    # then both are told, stop nothing, and name what is left out
    assert got.stop == [] and ("unit_shift", "all stores") in got.warn and ("completeness", "4 stores") in got.warn
    assert all("older than quality.months: it stops nothing and is left out" in f["text"] for f in got.found)
    out = untrusted_store_months(got.found)
    assert set(out.month) == {october, december} and out.store_id[out.month == october].tolist() == [None]
    assert out.store_id[out.month == december].tolist() == ["S0", "S1", "S3", "S4"]  # S2 has closed before
    # and nothing is, once somebody has vouched for it
    accept = ["unit_shift:2022-10", "completeness:2022-12"]
    assert untrusted_store_months(judge(lines, months=3, accept=accept).found).empty


def test_a_month_that_no_file_has_is_told(judge):
    lines = history()
    got = judge(lines[lines.date.dt.strftime("%Y-%m") != "2022-12"], months=3)
    assert [each for each in got.warn if each[0] == "completeness"] == [("completeness", "7 stores")]
    assert untrusted_store_months(got.found).month.unique().tolist() == [pd.Timestamp("2022-12-01")]


def test_a_stop_of_the_last_months_is_left_out_too(judge):
    got = judge(harmed(history(), times("price", 100, store_id="S5")))
    assert untrusted_store_months(got.found).values.tolist() == [[MONTH, "S5"]]
    assert untrusted_store_months(judge(history()).found).empty


def test_lines_that_two_files_have_are_named_with_month_and_files(judge):
    # given April in two files
    twice = {"month": "2023-04", "files": ["a.csv", "b.csv"], "repeated": 800, "lines": 840, "by_chance": 90}
    known = dataset({}) | {"repeated": [twice | {"stores": ["S0", "S5"]}]}
    lines = harmed(history(), lambda m: pd.concat([m, m[m.store_id.isin(["S0", "S5"])]]))
    # when it is judged / then it is one finding, and not one more for each store that doubled
    got = judge(lines, dataset=known)
    assert (
        got.stop == [("duplicates", "a.csv and b.csv")]
        and "2023-04: a.csv and b.csv: 800 lines" in got.found[0]["text"]
    )
    assert untrusted_store_months(got.found).store_id.tolist() == ["S0", "S5"]
    # and the way out that it names is one
    entry = got.found[0]["text"].split("add '")[1].split("' to quality.accept")[0]
    assert judge(lines, dataset=known, accept=[entry]).stop == []


def largest(lines: pd.DataFrame) -> pd.DataFrame:
    "As ingest gives them."
    told = lines.assign(month=lines.date.dt.to_period("M").dt.to_timestamp(), file="a.csv", line=lines.index + 2)
    return told.sort_values("quantity_sold", ascending=False, key=abs).groupby(["store_id", "month"]).head(5)


def with_lines(lines: pd.DataFrame, quantity: float, month: str, n: int = 1, store: str = "S5") -> pd.DataFrame:
    "Some lines of a store's month have another quantity."
    rows = lines.index[(lines.store_id == store) & (lines.date.dt.strftime("%Y-%m") == month)][-n:]
    return lines.assign(quantity_sold=lines.quantity_sold.where(~lines.index.isin(rows), quantity))


@pytest.mark.parametrize(
    "quantity, month, n, found",
    [
        (3000, "2023-04", 1, True),
        (-3000, "2023-04", 1, True),
        (300, "2023-04", 4, True),  # none is a quarter of a month by itself
        (300, "2023-04", 1, False),
        (60, "2023-04", 5, False),  # twice the largest there ever was
        (3000, "2022-07", 1, True),
        (3000, "2022-01", 1, True),  # the store's first month: beside all others
    ],
)
def test_a_line_that_dwarfs_its_store_is_named_with_its_place(judge, quantity, month, n, found):
    # given lines of a store that sells some 1,400 a month
    lines = with_lines(history(), quantity, month, n)
    # when they are judged
    got = judge(lines, months=3, largest=largest(lines))
    told = [f for f in got.found if f["check"] == "large_line"]
    # then store, month, file, line, quantity, date and what is usual are told
    assert [(f["where"], f["figures"]["month"]) for f in told] == ([("store S5", month)] if found else [])
    row = lines[lines.quantity_sold == quantity].iloc[-1]
    place = f"a.csv, line {row.name + 2}: {quantity:,} of {row['product']} on {row.date:%Y-%m-%d}, price {row.price:g}"
    assert all(place in "; ".join(f["figures"]["lines"]) and "The largest line before was" in f["text"] for f in told)
    assert [f["level"] for f in told] == (["stop" if month == "2023-04" else "warn"] if found else [])
    assert untrusted_store_months(got.found).values.tolist() == ([[pd.Timestamp(f"{month}-01"), "S5"]] if found else [])


def test_no_line_of_a_good_history_is_large(judge):
    for seed in range(3):
        lines = history(seed)
        assert not [f for f in judge(lines, largest=largest(lines)).found if f["check"] == "large_line"]


def test_a_large_line_is_no_measure_of_the_next_unless_it_was_right(judge):
    # given two such lines
    lines = with_lines(with_lines(history(), 2000, "2022-09"), 2000, "2023-03")
    asked = lambda **more: judge(lines, months=3, largest=largest(lines), **more)  # noqa: E731
    months = lambda got: [f["figures"]["month"] for f in got.found if f["level"] in ("stop", "warn")]  # noqa: E731
    # when nobody, or somebody, vouched for the first / then the second is found, or usual
    assert sorted(months(asked())) == ["2022-09", "2023-03"]
    assert months(asked(accept=["large_line:S5:2022-09"])) == []


def test_a_store_that_is_larger_than_all_others_is_no_large_line(judge):
    # given a wholesale store that opens
    lines = history()
    lines = lines[(lines.store_id != "S5") | (lines.date >= "2023-02-01")]
    lines["quantity_sold"] *= np.where(lines.store_id == "S5", 30, 1)
    got = judge(lines, months=3, largest=largest(lines))
    assert not [f for f in got.found if f["check"] == "large_line"]


def test_pieces_for_cases_are_not_told_line_by_line(judge):
    lines = harmed(history(), times("quantity_sold", 24, store_id="S5"))
    assert judge(lines, largest=largest(lines)).stop == [("unit_shift", "store S5")]


@pytest.mark.parametrize(
    "fault, stores",
    [
        (lambda lines: pd.concat([lines, lines]), None),  # both copies in one file
        (lambda lines: pd.concat([lines, lines[lines.store_id == "S5"]]), "S5"),
        (times("quantity_sold", 12.0), None),
        (times("price", 100.0, store_id="S5"), "S5"),
    ],
)
def test_a_fault_that_lasts_is_no_measure_of_what_is_usual(judge, fault, stores):
    # given a fault in each of the last six months
    lines, since = history(), pd.Timestamp("2022-11-01")
    lines = pd.concat([lines[lines.date < since], fault(lines[lines.date >= since].copy())], ignore_index=True)
    # when they are judged, then none of the six is trusted, and the last three stop
    got = judge(lines, months=3)
    out = untrusted_store_months(got.found)
    assert sorted(set(out.month)) == [*pd.date_range(since, "2023-04-01", freq="MS")]
    assert {f["figures"]["month"] for f in got.found if f["level"] == "stop"} == {"2023-02", "2023-03", "2023-04"}
    assert stores is None or set(out.store_id) == {stores}
    # and what somebody vouched for is a measure of what comes after it
    vouched = sorted({f"{f['check']}:2022-11" for f in got.found if f["figures"]["month"] == "2022-11"})
    assert untrusted_store_months(judge(lines, months=3, accept=vouched).found).empty


def test_another_store_s_unit_hides_no_large_line(judge):
    lines = with_lines(history(), 3000, "2023-04", 1)
    lines = harmed(lines, times("price", 100.0, store_id="S3"))
    got = judge(lines, largest=largest(lines))
    assert ("unit_shift", "store S3") in got.stop and ("large_line", "store S5") in got.stop


def test_a_large_line_that_was_taken_back_is_none(judge):
    lines = with_lines(history(), 3000, "2023-04", 1)
    lines = pd.concat([lines, lines[lines.quantity_sold == 3000].assign(quantity_sold=-2990.0)], ignore_index=True)
    assert not [f for f in judge(lines, largest=largest(lines)).found if f["check"] == "large_line"]


@pytest.mark.parametrize("date", ["2023-07-20", "2021-03-05"])
def test_a_line_that_stands_alone_is_no_month_of_large_lines(tmp_path, date):
    lines = history()
    mixed = pd.concat([lines, lines.tail(1).assign(date=pd.Timestamp(date))], ignore_index=True)
    mixed.to_parquet(tmp_path / "sales.parquet")
    alone = {"store_id": "S7", "date": f"{date}T00:00:00", "lines": 1, "place": " (till.csv, line 9)"}
    cleaned = {"first_date": "2022-01-01", "last_date": "2023-04-30", "lone_lines": [alone]}
    months = pd.DataFrame({"month": sorted(lines.date.dt.to_period("M").dt.to_timestamp().unique())})
    asked = (tmp_path / "sales.parquet", months, CALENDAR, [], {"months": 1})
    found = check_data(*asked, largest=largest(mixed), cleaned=cleaned)
    assert said(found, "dates") == [("warn", "store S7")] and not said(found, "large_line")
