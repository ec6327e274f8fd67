"Quality: a fault in a month is found under its right name, and undisturbed months are not stopped."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from brewcast.common.parameter_types import Calendar, QualitySettings
from brewcast.common.records import Finding
from brewcast.data.quality import (
    check_data,
    check_totals,
    untrusted_store_months,
)

CALENDAR = Calendar(unit="day", hemisphere="north", countries={"USA": "US"}, decided_after_days=2)
ONE_MONTH = QualitySettings(accept=[], months=1)
MONTH = pd.Timestamp("2023-04-01")
LEVELS = ["stop", "warn", "note"]


def sale_lines(seed: int = 0, stores: int = 8) -> pd.DataFrame:
    "Sixteen months of daily lines with seasons, a closed store, two refurbishments and promotions."
    rng, dates = np.random.default_rng(seed), pd.date_range("2022-01-01", "2023-04-30")
    keys = [[f"S{n}" for n in range(stores)], dates, ["Beans", "Mug", "Scone", "Tea"]]
    lines = pd.MultiIndex.from_product(keys, names=["store_id", "date", "product"]).to_frame(index=False)
    number = lines.store_id.str[1:].astype(int)
    price = lines["product"].map({"Beans": 12, "Mug": 9, "Scone": 3, "Tea": 5})
    categories = {"Beans": "Coffee", "Mug": "Merchandise", "Scone": "Pastry", "Tea": "Beverage"}
    lines["category"] = lines["product"].map(categories)
    season = 1 + 0.3 * np.cos(2 * np.pi * lines.date.dt.dayofyear / 365) + 0.02 * number
    promoted = (lines.date.dt.day < 10) & (rng.random(stores)[number] < 0.5)
    lines["price"] = (price * (1 + 0.04 * number / stores) * np.where(promoted, 0.7, 1.0)).round(2)
    lines["quantity_sold"] = 1.0 + rng.poisson(12 * season * np.where(promoted, 1.4, 1.0))
    christmas = (lines.date.dt.month == 12) & (lines.date.dt.day == 25)
    refurbished = (lines.store_id == f"S{seed % stores}") & lines.date.between("2022-09-05", "2022-09-14")
    later = (lines.store_id == f"S{(seed + 1) % stores}") & lines.date.between("2023-04-03", "2023-04-11")
    closed = (lines.store_id == f"S{(seed + 2) % stores}") & (lines.date >= "2022-11-01")
    return lines[~(christmas | refurbished | later | closed)].reset_index(drop=True)


@pytest.fixture
def run_checks(tmp_path):
    "A function that checks lines: `findings`, and by level pairs of check and place."

    def run(lines: pd.DataFrame, calendar=CALENDAR, dataset=None, largest=None, **settings) -> SimpleNamespace:
        lines.to_parquet(tmp_path / "sales.parquet")
        months = pd.DataFrame({"month": sorted(lines.date.dt.to_period("M").dt.to_timestamp().unique())})
        settings = QualitySettings(**{"accept": [], "months": 1} | settings)
        findings = check_data(tmp_path / "sales.parquet", months, calendar, [], settings, dataset, largest=largest)
        assert all(set(f.content()) == {"check", "level", "where", "text", "figures"} for f in findings)
        by_level = {level: [(f.check, f.where) for f in findings if f.level == level] for level in LEVELS}
        return SimpleNamespace(findings=findings, **by_level)

    return run


def with_fault(lines: pd.DataFrame, change) -> pd.DataFrame:
    "The lines with a changed last month."
    now = lines.date >= MONTH
    return pd.concat([lines[~now], change(lines[now].copy())], ignore_index=True)


def times(column: str, factor: float, **where):
    "A change: one column of some lines is in another unit."

    def change(month):
        is_changed = np.full(len(month), True)
        for name, value in where.items():
            is_changed &= month[name] == value
        month.loc[is_changed, column] = month.loc[is_changed, column] * factor
        return month

    return change


def second_till(month):
    "A change: S5's lines are delivered again, by another till, with other quantities."
    repeated = month[month.store_id == "S5"]
    quantity = repeated.quantity_sold + np.arange(len(repeated)) % 2 + 0.5
    return pd.concat([month, repeated.assign(quantity_sold=quantity)])


def copy_march_to_april(lines: pd.DataFrame) -> pd.DataFrame:
    march = lines[(lines.date >= "2023-03-01") & (lines.date < "2023-03-31")]
    return pd.concat([lines[lines.date < MONTH], march.assign(date=march.date + pd.Timedelta(days=31))])


FAULTS = {  # the change, the check that must find it, where, and at least at which level
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
def test_undisturbed_months_are_not_stopped(run_checks, seed):
    # given a history with seasons, promotions, refurbishments and a closed store / when each month is checked
    result = run_checks(sale_lines(seed), months=99)
    # then no month is stopped
    assert result.stop == [] and untrusted_store_months(result.findings).empty, result.findings


@pytest.mark.parametrize("change, check, where, level", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_under_its_name(run_checks, change, check, where, level):
    # given a month with a fault / when it is checked
    result = run_checks(with_fault(sale_lines(), change))
    # then the right check names the right place, at this level or a higher one
    levels = LEVELS[: LEVELS.index(level) + 1]
    matches = [f for f in result.findings if f.check == check and where in f.where and f.level in levels]
    assert matches, result.findings
    assert matches[0].figures["month"] == "2023-04" and "2023-04" in matches[0].text


def test_a_month_that_is_an_earlier_one_again(run_checks):
    result = run_checks(copy_march_to_april(sale_lines()))
    assert ("duplicates", "all stores") in result.stop
    assert next(f for f in result.findings if f.check == "duplicates").figures["copy_of"] == "2023-03"


@pytest.mark.parametrize(
    "change",
    [
        times("price", 0.7),
        times("price", 1.1, store_id="S5"),
        times("quantity_sold", 1.5),
        times("quantity_sold", 0.5, product="Mug"),
        lambda m: m[(m.store_id != "S5") | (m.date.dt.day < 12) | (m.date.dt.day > 20)],
    ],
    ids=["a sale", "a more expensive store", "a good month", "fewer mugs", "a refurbishment"],
)
def test_ordinary_events_stop_nothing(run_checks, change):
    assert run_checks(with_fault(sale_lines(), change)).stop == []


def test_a_public_holiday_may_be_closed(run_checks):
    # given stores that close on a public holiday for the first time
    lines = sale_lines()
    result = run_checks(lines[(lines.date < "2023-02-01") & (lines.date != "2023-01-16")])  # Martin Luther King Day
    assert not [f for f in result.findings if f.check == "completeness" and f.level == "stop"]


def test_a_source_with_three_months_is_not_stopped(run_checks):
    # given three months, the last with cents for dollars
    lines = with_fault(sale_lines(), times("price", 100))
    assert run_checks(lines[lines.date >= "2023-02-01"]).stop == []


def test_a_fault_that_is_not_fixed_stops_the_next_month_too(run_checks):
    # given cents in March, and a correct April
    lines, march = sale_lines(), pd.Timestamp("2023-03-01")
    lines.loc[(lines.date >= march) & (lines.date < MONTH), "price"] *= 100
    result = run_checks(lines, months=3)
    assert result.stop == [("unit_shift", "all stores")] and result.findings[0].figures["month"] == "2023-03"
    # when only the last month counts, or March is accepted / then nothing is stopped
    assert run_checks(lines, months=1).stop == []
    assert run_checks(lines, months=3, accept=["unit_shift:2023-03"]).stop == []


@pytest.mark.parametrize("entry", ["unit_shift:S5:2023-04", "unit_shift:store S5:2023-04", "unit_shift:2023-04"])
def test_an_accepted_finding_is_a_note(run_checks, entry):
    lines = with_fault(sale_lines(), times("price", 100, store_id="S5"))
    assert entry.removesuffix(":2023-04") in ("unit_shift", "unit_shift:S5", "unit_shift:store S5")
    result = run_checks(lines, accept=[entry])
    assert result.stop == [] and ("unit_shift", "store S5") in result.note


@pytest.mark.parametrize("entry", ["unit_shift:S4:2023-04", "unit_shift:2023-03", "duplicates:2023-04"])
def test_an_entry_accepts_no_other_finding(run_checks, entry):
    lines = with_fault(sale_lines(), times("price", 100, store_id="S5"))
    assert ("unit_shift", "store S5") in run_checks(lines, accept=[entry]).stop


def test_an_unknown_setting_is_refused(run_checks):
    with pytest.raises(ValueError, match=r"acept\n.*not permitted"):
        run_checks(sale_lines(), acept=[])


def test_the_entry_in_the_text_is_accepted(run_checks):
    lines = with_fault(sale_lines(), lambda m: times("price", 100, store_id="S5")(m[m.date != "2023-04-20"]))
    result = run_checks(lines)
    entries = [f.text.split("add '")[1].split("' to quality.accept")[0] for f in result.findings if f.level == "stop"]
    assert len(entries) == len(result.stop) > 1
    assert run_checks(lines, accept=entries).stop == []


def test_the_order_of_lines_and_the_number_of_threads_make_no_difference(run_checks, monkeypatch):
    lines = with_fault(sale_lines(), times("price", 100, store_id="S5"))
    expected = run_checks(lines).findings
    for threads in ("1", "3"):
        monkeypatch.setenv("BREWCAST_THREADS", threads)
        assert run_checks(lines.sample(frac=1, random_state=int(threads))).findings == expected


def dataset(last: dict, **files) -> dict:
    months = {f"2022-{n:02d}": {"rows_in": 1000, "rows_set_aside": 3} for n in range(1, 13)}
    return {"months": months | last, "tables": {"till": {"files": files or {"till.csv": {"columns_not_used": []}}}}}


def test_a_month_with_quarantined_rows_is_stopped_in_the_months_after_too(run_checks):
    # given a month with many quarantined rows: the last, the third from the end, and the fourth
    many = {"rows_in": 700, "rows_set_aside": 300}
    months = [f"{month:%Y-%m}" for month in sorted(sale_lines().date.dt.to_period("M").dt.to_timestamp().unique())]
    few = {name: {"rows_in": 1000, "rows_set_aside": 3} for name in months}
    stops = {}
    for months_back in (0, 2, 3):
        report = dataset({}) | {"months": few | {months[-1 - months_back]: many}}
        # when they are checked
        result = run_checks(sale_lines(), dataset=report, months=3)
        stops[months_back] = [stop for stop in result.stop if stop[0] == "set_aside"]
    # then it stops for three months
    assert stops == {0: [("set_aside", "all stores")], 2: [("set_aside", "all stores")], 3: []}


def test_a_store_s_day_without_prices_is_no_error(run_checks):
    # given lines without a price on one date of one store, and cents in the last month of another
    lines = with_fault(sale_lines(), times("price", 100, store_id="S5"))
    lines.loc[(lines.store_id == "S3") & (lines.date == "2022-03-03"), "price"] = None
    # when they are checked / then the other findings are the same
    assert run_checks(lines).stop == [("unit_shift", "store S5")]


def test_new_columns_are_noted_with_the_file_that_has_them(run_checks):
    files = {"till_1.csv": {"columns_not_used": ["TILL"]}, "till_2.csv": {"columns_not_used": ["TILL", "LOYALTY"]}}
    result = run_checks(sale_lines(), dataset=dataset({}, **files))
    assert [n for n in result.note if n[0] == "columns"] == [("columns", "till_2.csv"), ("columns", "till")]
    assert "LOYALTY" in result.findings[-2].text and "TILL" not in result.findings[-2].text.replace("till", "")


DATASET = {"months": {"2023-04": {"rows_in": 1, "rows_set_aside": 0}}, "tables": {}}


def places(findings: list[Finding], check: str) -> list[tuple]:
    return [(f.level, f.where) for f in findings if f.check == check]


def test_ids_that_lost_their_zeros_are_a_warning_with_the_line_for_same_store(run_checks):
    # given eight stores that have zeros in their ids until 2022, and none from 2023 on
    lines = sale_lines()
    lines["store_id"] = lines.store_id.str.replace("S", "")
    old = lines.store_id.str.zfill(3)
    lines["store_id"] = old.where(lines.date < "2023-01-01", lines.store_id)
    # when they are checked
    findings = run_checks(lines, dataset=DATASET).findings
    # then one warning names them, with the line for the YAML: the id in use is kept
    assert places(findings, "ids") == [("warn", "7 stores")]  # one store closed before 2023
    text = next(f.text for f in findings if f.check == "ids")
    assert "under two names" in text and 'same_store: {"000": "0", "001": "1"' in text
    # and with that line there is no finding, except for a name that no line has
    one = lines.assign(store_id=lines.store_id.where(lines.store_id.str.len() < 3, lines.store_id.str[-1]))
    report = DATASET | {"same_store": {"001": 400, "00X": 0}}
    assert places(run_checks(one, dataset=report).findings, "ids") == [("note", "same_store")]


def test_two_stores_that_sell_in_the_same_months_are_perhaps_two(run_checks):
    lines = sale_lines()
    lines["store_id"] = lines.store_id.replace({"S7": "s6"})
    findings = run_checks(lines).findings
    assert places(findings, "ids") in ([("warn", "store s6")], [("warn", "store S6")])
    text = next(f.text for f in findings if f.check == "ids")
    assert "perhaps two stores, since both sell in the same months" in text
    assert 'if not: same_store: {"' in text
    # and when they are declared as two, there is no finding
    report = DATASET | {"same_store": {"S6": 9, "s6": 9}}
    assert places(run_checks(lines, dataset=report).findings, "ids") == []


def test_another_id_in_the_plan_is_a_warning(run_checks, tmp_path):
    # given lines of S0 to S7, and a plan of S01 and of a store that has not opened
    run_checks(sale_lines())
    months = pd.DataFrame({"month": [MONTH]})
    findings = check_data(tmp_path / "sales.parquet", months, CALENDAR, [], ONE_MONTH, planned_ids=["S01", "S2", "S99"])
    # then the id with lines is kept
    assert places(findings, "ids") == [("warn", "store S1")]
    assert 'same_store: {"S01": "S1"}' in next(f.text for f in findings if f.check == "ids")


def test_a_country_in_two_spellings_is_a_warning(run_checks):
    lines = sale_lines().assign(country="USA", city="Boston")
    lines.loc[lines.store_id == "S3", "country"] = "Usa"
    findings = run_checks(lines).findings
    assert places(findings, "ids") == [("warn", "country")] and "'USA' and 'Usa'" in findings[0].text


def months_of(stores: int = 6, months: int = 15, seed: int = 0) -> pd.DataFrame:
    "Units by month, a column a store."
    rng = np.random.default_rng(seed)
    index = pd.date_range("2022-01-01", periods=months, freq="MS")
    return pd.DataFrame(rng.poisson(800, (months, stores)) * 1.0, index, [f"S{n}" for n in range(stores)])


def rows(units: pd.DataFrame, **columns) -> pd.DataFrame:
    flat = units.rename_axis("month").melt(ignore_index=False, var_name="store_id", value_name="quantity_sold")
    flat = flat.dropna().reset_index()
    return flat.assign(**{name: flat.store_id.map(values) for name, values in columns.items()})


@pytest.mark.parametrize("seed", range(5))
def test_no_store_is_a_total_by_chance(seed):
    # given many small stores with equal counts in some months, and a large store
    small = months_of(40, 3, seed) // 160
    large = months_of(5, 15, seed)
    large["Airport"] = large.sum(axis=1) + np.random.default_rng(seed).integers(-9, 10, len(large))
    # then there is no finding
    assert check_totals(rows(small), MONTH) == []
    assert check_totals(rows(large.head(11)), MONTH) == []


def test_a_lone_line_is_a_warning_with_its_place_and_is_in_no_comparison(run_checks, tmp_path):
    # given good lines, and one that clean reports as a lone line
    lines = sale_lines()
    ahead = lines.tail(1).assign(store_id="S3", date=pd.Timestamp("2023-07-20"))
    pd.concat([lines, ahead]).to_parquet(tmp_path / "sales.parquet")
    lone = {"store_id": "S3", "date": "2023-07-20T00:00:00", "lines": 1, "place": " (till.csv, line 9)"}
    cleaned = {"first_date": "2022-01-01", "last_date": "2023-04-30", "lone_lines": [lone]}
    months = pd.DataFrame({"month": sorted(lines.date.dt.to_period("M").dt.to_timestamp().unique())})
    findings = check_data(tmp_path / "sales.parquet", months, CALENDAR, [], ONE_MONTH, cleaned=cleaned)
    # then it is a warning with file and line, and the other findings are the same as without it
    assert places(findings, "dates") == [("warn", "store S3")]
    assert "1 lone line on 2023-07-20 (till.csv, line 9)" in findings[0].text
    assert [f for f in findings if f.check != "dates"] == run_checks(lines).findings


def test_every_month_of_a_first_import_is_checked_and_an_old_one_is_left_out(run_checks):
    # given a first import with cents in an old month, and half of the stores missing in another
    lines, october, december = sale_lines(), pd.Timestamp("2022-10-01"), pd.Timestamp("2022-12-01")
    month = lines.date.dt.to_period("M").dt.to_timestamp()
    lines.loc[month == october, "price"] *= 100
    lines = lines[(month != december) | (lines.store_id > "S4")]
    # when it is checked
    result = run_checks(lines, months=3)
    # then both are warnings, which stop nothing, and name the store-months that are left out
    assert (
        result.stop == []
        and ("unit_shift", "all stores") in result.warn
        and ("completeness", "4 stores") in result.warn
    )
    assert all("older than quality.months: it is left out, and stops nothing" in f.text for f in result.findings)
    out = untrusted_store_months(result.findings)
    assert set(out.month) == {october, december} and out.store_id[out.month == october].tolist() == [None]
    assert out.store_id[out.month == december].tolist() == ["S0", "S1", "S3", "S4"]  # S2 closed before
    # and once the findings are accepted, nothing is left out
    accept = ["unit_shift:2022-10", "completeness:2022-12"]
    assert untrusted_store_months(run_checks(lines, months=3, accept=accept).findings).empty


def test_a_month_without_any_lines_is_a_warning(run_checks):
    lines = sale_lines()
    result = run_checks(lines[lines.date.dt.strftime("%Y-%m") != "2022-12"], months=3)
    assert [each for each in result.warn if each[0] == "completeness"] == [("completeness", "7 stores")]
    assert untrusted_store_months(result.findings).month.unique().tolist() == [pd.Timestamp("2022-12-01")]


def test_a_stop_of_the_last_months_is_left_out_too(run_checks):
    result = run_checks(with_fault(sale_lines(), times("price", 100, store_id="S5")))
    assert untrusted_store_months(result.findings).values.tolist() == [[MONTH, "S5"]]
    assert untrusted_store_months(run_checks(sale_lines()).findings).empty


def test_lines_in_two_files_are_a_stop_with_month_and_files(run_checks):
    # given April in two files
    overlap = {"month": "2023-04", "files": ["a.csv", "b.csv"], "repeated": 800, "lines": 840, "by_chance": 90}
    report = dataset({}) | {"repeated": [overlap | {"stores": ["S0", "S5"]}]}
    lines = with_fault(sale_lines(), lambda m: pd.concat([m, m[m.store_id.isin(["S0", "S5"])]]))
    # when it is checked / then there is one finding, without one more for each store that doubled
    result = run_checks(lines, dataset=report)
    assert (
        result.stop == [("duplicates", "a.csv and b.csv")]
        and "2023-04: a.csv and b.csv: 800 lines" in result.findings[0].text
    )
    assert untrusted_store_months(result.findings).store_id.tolist() == ["S0", "S5"]
    # and the entry in its text is accepted
    entry = result.findings[0].text.split("add '")[1].split("' to quality.accept")[0]
    assert run_checks(lines, dataset=report, accept=[entry]).stop == []


def largest(lines: pd.DataFrame) -> pd.DataFrame:
    "The five largest lines of each store-month, as ingest writes them."
    rows = lines.assign(month=lines.date.dt.to_period("M").dt.to_timestamp(), file="a.csv", line=lines.index + 2)
    return rows.sort_values("quantity_sold", ascending=False, key=abs).groupby(["store_id", "month"]).head(5)


def with_lines(lines: pd.DataFrame, quantity: float, month: str, n: int = 1, store: str = "S5") -> pd.DataFrame:
    "Some lines of a store's month have another quantity."
    rows = lines.index[(lines.store_id == store) & (lines.date.dt.strftime("%Y-%m") == month)][-n:]
    return lines.assign(quantity_sold=lines.quantity_sold.where(~lines.index.isin(rows), quantity))


@pytest.mark.parametrize(
    "quantity, month, n, is_found",
    [
        (3000, "2023-04", 1, True),
        (-3000, "2023-04", 1, True),
        (300, "2023-04", 4, True),  # only together are they a quarter of a month
        (300, "2023-04", 1, False),
        (60, "2023-04", 5, False),  # twice the largest line before
        (3000, "2022-07", 1, True),
        (3000, "2022-01", 1, True),  # the store's first month: compared with other stores
    ],
)
def test_a_very_large_line_is_found_with_its_place(run_checks, quantity, month, n, is_found):
    # given lines of a store that sells some 1,400 a month
    lines = with_lines(sale_lines(), quantity, month, n)
    # when they are checked
    result = run_checks(lines, months=3, largest=largest(lines))
    large = [f for f in result.findings if f.check == "large_line"]
    # then the finding has store, month, file, line, quantity, date and the largest line before
    assert [(f.where, f.figures["month"]) for f in large] == ([("store S5", month)] if is_found else [])
    row = lines[lines.quantity_sold == quantity].iloc[-1]
    place = f"a.csv, line {row.name + 2}: {quantity:,} of {row['product']} on {row.date:%Y-%m-%d}, price {row.price:g}"
    assert all(place in "; ".join(f.figures["lines"]) and "The largest line before was" in f.text for f in large)
    assert [f.level for f in large] == (["stop" if month == "2023-04" else "warn"] if is_found else [])
    left_out = untrusted_store_months(result.findings).values.tolist()
    assert left_out == ([[pd.Timestamp(f"{month}-01"), "S5"]] if is_found else [])


def test_no_line_of_a_good_history_is_large(run_checks):
    for seed in range(3):
        lines = sale_lines(seed)
        assert not [f for f in run_checks(lines, largest=largest(lines)).findings if f.check == "large_line"]


def test_a_large_line_does_not_raise_the_limit_unless_it_is_accepted(run_checks):
    # given two large lines
    lines = with_lines(with_lines(sale_lines(), 2000, "2022-09"), 2000, "2023-03")

    def months(**settings) -> list[str]:
        result = run_checks(lines, months=3, largest=largest(lines), **settings)
        return [f.figures["month"] for f in result.findings if f.level in ("stop", "warn")]

    # when nobody accepts the first one / then both are found
    assert sorted(months()) == ["2022-09", "2023-03"]
    # when it is accepted / then the second one is usual
    assert months(accept=["large_line:S5:2022-09"]) == []


def test_a_store_that_is_larger_than_all_others_has_no_large_line(run_checks):
    # given a wholesale store that opens
    lines = sale_lines()
    lines = lines[(lines.store_id != "S5") | (lines.date >= "2023-02-01")]
    lines["quantity_sold"] *= np.where(lines.store_id == "S5", 30, 1)
    result = run_checks(lines, months=3, largest=largest(lines))
    assert not [f for f in result.findings if f.check == "large_line"]


def test_pieces_for_cases_are_one_finding_and_not_one_for_each_line(run_checks):
    lines = with_fault(sale_lines(), times("quantity_sold", 24, store_id="S5"))
    assert run_checks(lines, largest=largest(lines)).stop == [("unit_shift", "store S5")]


@pytest.mark.parametrize(
    "fault, stores",
    [
        (lambda lines: pd.concat([lines, lines]), None),  # both copies in one file
        (lambda lines: pd.concat([lines, lines[lines.store_id == "S5"]]), "S5"),
        (times("quantity_sold", 12.0), None),
        (times("price", 100.0, store_id="S5"), "S5"),
    ],
)
def test_a_fault_that_lasts_does_not_become_usual(run_checks, fault, stores):
    # given a fault in each of the last six months
    lines, since = sale_lines(), pd.Timestamp("2022-11-01")
    lines = pd.concat([lines[lines.date < since], fault(lines[lines.date >= since].copy())], ignore_index=True)
    # when they are checked / then none of the six is trusted, and the last three stop
    result = run_checks(lines, months=3)
    out = untrusted_store_months(result.findings)
    assert sorted(set(out.month)) == [*pd.date_range(since, "2023-04-01", freq="MS")]
    assert {f.figures["month"] for f in result.findings if f.level == "stop"} == {"2023-02", "2023-03", "2023-04"}
    assert stores is None or set(out.store_id) == {stores}
    # and an accepted fault becomes usual for the months after it
    entries = sorted({f"{f.check}:2022-11" for f in result.findings if f.figures["month"] == "2022-11"})
    assert untrusted_store_months(run_checks(lines, months=3, accept=entries).findings).empty


def test_a_unit_shift_of_another_store_hides_no_large_line(run_checks):
    lines = with_lines(sale_lines(), 3000, "2023-04", 1)
    lines = with_fault(lines, times("price", 100.0, store_id="S3"))
    result = run_checks(lines, largest=largest(lines))
    assert ("unit_shift", "store S3") in result.stop and ("large_line", "store S5") in result.stop


def test_a_large_line_with_its_return_is_no_finding(run_checks):
    lines = with_lines(sale_lines(), 3000, "2023-04", 1)
    lines = pd.concat([lines, lines[lines.quantity_sold == 3000].assign(quantity_sold=-2990.0)], ignore_index=True)
    assert not [f for f in run_checks(lines, largest=largest(lines)).findings if f.check == "large_line"]


@pytest.mark.parametrize("date", ["2023-07-20", "2021-03-05"])
def test_a_lone_line_is_no_large_line(tmp_path, date):
    lines = sale_lines()
    mixed = pd.concat([lines, lines.tail(1).assign(date=pd.Timestamp(date))], ignore_index=True)
    mixed.to_parquet(tmp_path / "sales.parquet")
    lone = {"store_id": "S7", "date": f"{date}T00:00:00", "lines": 1, "place": " (till.csv, line 9)"}
    cleaned = {"first_date": "2022-01-01", "last_date": "2023-04-30", "lone_lines": [lone]}
    months = pd.DataFrame({"month": sorted(lines.date.dt.to_period("M").dt.to_timestamp().unique())})
    arguments = (tmp_path / "sales.parquet", months, CALENDAR, [], ONE_MONTH)
    findings = check_data(*arguments, largest=largest(mixed), cleaned=cleaned)
    assert places(findings, "dates") == [("warn", "store S7")] and not places(findings, "large_line")
