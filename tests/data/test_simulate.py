"""The simulated export: its content, its plan, and the random part that no forecast can know."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from brewcast.common.core import SALE_LINE_COLUMNS, read_json
from brewcast.common.hashing import sha256
from brewcast.common.paths import find_root
from brewcast.data import simulate

SMALL = {"months": 24, "stores": 8, "lines": 20_000}
FILES = ["globojava.csv", "globojava_plan.csv", "floor.parquet", "simulated.json"]
COLUMNS = (
    "STOREID,DATE,DAY,MONTH,YEAR,COUNTRY,CITY,PRODUCTCATEGORY,PRODUCT,QUANTITYSOLD,PRICE,TOTALSALE"
    ",WEATHER,PROMOTION,HOLIDAY"
)


def digests(folder: Path) -> dict:
    return {name: sha256(folder / name) for name in FILES}


def read_tills(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "globojava.csv", dtype=str, keep_default_na=False)


def good_lines(tills: pd.DataFrame) -> pd.DataFrame:
    dates = pd.to_datetime(tills.DATE, format="%Y-%m-%d", errors="coerce")
    quantity = pd.to_numeric(tills.QUANTITYSOLD)
    price, total = (tills[name].str.replace(".", "").astype("int64") for name in ["PRICE", "TOTALSALE"])  # cents
    good = dates.notna() & (quantity % 1 == 0) & (price > 0) & (quantity * price == total)
    good &= tills.WEATHER.isin(["Hot", "Cold", "Rainy", ""])
    good &= tills.PRODUCTCATEGORY.isin(["Coffee", "Pastry", "Beverage", "Merchandise"])
    return tills.assign(date=dates, quantity=quantity, month=dates.dt.to_period("M").dt.to_timestamp())[good]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    simulate.write_export(folder, seed=5, **SMALL)
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    simulate.write_export(folder)
    return folder


@pytest.fixture(scope="module")
def small_lines(small):
    return good_lines(read_tills(small))


@pytest.fixture(scope="module")
def full_tills(full):
    return read_tills(full)


@pytest.fixture(scope="module")
def full_lines(full_tills):
    return good_lines(full_tills)


def test_the_same_seed_gives_the_same_bytes_whatever_the_thread_count(small, tmp_path):
    # given an export / when another process writes it with one thread
    arguments = [f"--{name}={value}" for name, value in SMALL.items()]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "PYTHONHASHSEED": "123"}
    command = [sys.executable, "-m", "brewcast.data.simulate", "--seed=5", *arguments, str(tmp_path / "again")]
    done = subprocess.run(command, env=one_thread, cwd=find_root(Path(__file__).parent), capture_output=True, text=True)
    # then the files are the same
    assert done.returncode == 0, done.stderr
    assert "20,000 sale lines" in done.stdout
    assert digests(tmp_path / "again") == digests(small)


def test_another_seed_gives_another_export(small, tmp_path):
    simulate.write_export(tmp_path, seed=6, **SMALL)
    assert not set(digests(tmp_path).values()) & set(digests(small).values())


def test_an_intact_export_is_not_written_again(small):
    before = {name: (small / name).stat().st_mtime_ns for name in FILES}
    again = simulate.write_export(small, seed=5, **SMALL)
    assert again == read_json(small / "simulated.json") | {"written": False}
    assert {name: (small / name).stat().st_mtime_ns for name in FILES} == before


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_or_missing_file_is_written_again(small, tmp_path, name):
    simulate.write_export(tmp_path, seed=5, **SMALL)
    (tmp_path / name).write_bytes(b"[]")
    assert simulate.write_export(tmp_path, seed=5, **SMALL)["written"]
    (tmp_path / name).unlink()
    assert simulate.write_export(tmp_path, seed=5, **SMALL)["written"]
    assert digests(tmp_path) == digests(small)


def test_other_arguments_or_other_code_write_it_again(tmp_path, monkeypatch):
    simulate.write_export(tmp_path, seed=5, **SMALL)
    assert simulate.write_export(tmp_path, seed=5, **SMALL | {"lines": 21_000})["written"]
    monkeypatch.setattr(simulate, "generator_versions", lambda: {"code": "edited"})
    assert simulate.write_export(tmp_path, seed=5, **SMALL | {"lines": 21_000})["written"]


def test_only_the_four_files_are_left(small):
    assert sorted(p.name for p in small.iterdir()) == sorted(FILES)


def test_the_layout_is_globojavas(full, full_tills):
    with open(full / "globojava.csv", encoding="utf-8") as file:
        assert file.readline() == COLUMNS + "\n"
    tills = full_tills
    assert len(tills) == 1_318_543
    assert set(tills.PROMOTION) == {"Yes", "No", ""}
    assert set(tills.HOLIDAY) == {"True", "False"}
    assert set(tills.WEATHER) == {"Hot", "Cold", "Rainy", "", "Foggy"}
    assert 0.049 < (tills.WEATHER == "").mean() < 0.051
    assert 0.049 < (tills.PROMOTION == "").mean() < 0.051


def test_the_manifest_describes_what_was_written(full, full_lines):
    manifest = read_json(full / "simulated.json")
    assert manifest["arguments"] == {"seed": 7, "months": 60, "stores": 66, "lines": 1_318_543}
    assert {name: file["sha256"] for name, file in manifest["files"].items()} == {
        n: sha256(full / n) for n in FILES[:3]
    }
    assert manifest["files"]["globojava.csv"]["rows"] == 1_318_543
    assert manifest["files"]["globojava_plan.csv"]["rows"] == len(pd.read_csv(full / "globojava_plan.csv"))
    assert manifest["files"]["floor.parquet"]["rows"] == pq.read_metadata(full / "floor.parquet").num_rows
    assert manifest["planted_bad_lines"] == sum(manifest["planted_by_kind"].values()) == 1_318_543 - len(full_lines)
    assert 0 < manifest["planted_bad_lines"] < 0.001 * 1_318_543


def test_a_small_export_has_bad_lines_of_every_kind(small, small_lines):
    manifest = read_json(small / "simulated.json")
    assert set(manifest["planted_by_kind"].values()) == {1}
    assert len(small_lines) == 20_000 - manifest["planted_bad_lines"]


def test_good_lines_are_consistent(full_lines):
    parts = full_lines[["YEAR", "MONTH", "DAY"]].astype(int).set_axis(["year", "month", "day"], axis=1)
    assert (pd.to_datetime(parts) == full_lines.date).all()
    assert not full_lines.duplicated(["STOREID", "date", "PRODUCT"]).any()
    promotions_per_store_day = full_lines[full_lines.PROMOTION != ""].groupby(["STOREID", "date"]).PROMOTION.nunique()
    assert promotions_per_store_day.max() == 1
    weathers_per_city_day = full_lines[full_lines.WEATHER != ""].groupby(["CITY", "date"]).WEATHER.nunique()
    assert weathers_per_city_day.max() == 1


def test_the_history_has_its_months_stores_and_late_products(full_lines):
    assert str(full_lines.date.min().date()) == "2021-01-01"
    assert str(full_lines.date.max().date()) == "2025-12-31"
    assert full_lines.date.dt.to_period("M").nunique() == 60
    assert full_lines.STOREID.nunique() == 66
    assert full_lines.groupby("COUNTRY").CITY.nunique().to_dict() == {"Canada": 3, "Mexico": 3, "USA": 6}
    begins = full_lines.groupby("PRODUCT").date.min()
    assert len(begins) == 16
    assert (begins > "2022-06-01").sum() == 2
    assert (begins <= "2021-01-31").sum() == 14


@pytest.mark.parametrize("size", ["small", "full"])
def test_stores_open_and_close(size, request):
    lines = request.getfixturevalue(f"{size}_lines")
    first, last = lines.groupby("STOREID").date.min(), lines.groupby("STOREID").date.max()
    begin, end = lines.date.min(), lines.date.max()
    assert last["STORE101"] > end - pd.Timedelta(days=2)
    assert (first > begin + pd.Timedelta(days=31)).any()
    assert (last < end - pd.Timedelta(days=31)).any()
    assert set(lines.COUNTRY) == {"USA", "Canada", "Mexico"}


@pytest.mark.parametrize("size", ["small", "full"])
def test_the_plan_is_published_before_the_cutoff_and_carried_out(size, request):
    # given the plan and what happened
    folder, lines = request.getfixturevalue(size), request.getfixturevalue(f"{size}_lines")
    lines = lines.rename(columns={"MONTH": "MONTH_NUMBER", "month": "MONTH"})
    plan = pd.read_csv(folder / "globojava_plan.csv", parse_dates=["MONTH", "PUBLISHED"])
    # then it was published before the month began, once for each store and month, and for the month to come
    assert (plan.PUBLISHED <= plan.MONTH - pd.Timedelta(days=1)).all()
    assert not plan.duplicated(["STOREID", "MONTH"]).any()
    assert not plan.isna().any().any()
    after = lines.MONTH.max() + pd.DateOffset(months=1)
    assert plan.MONTH.max() == after
    traded = lines.groupby(["STOREID", "MONTH"]).agg(days=("date", "nunique"))
    promoted = lines[lines.PROMOTION == "Yes"].groupby(["STOREID", "MONTH"]).date.nunique()
    traded["promoted"] = promoted.reindex(traded.index, fill_value=0)
    both = plan.set_index(["STOREID", "MONTH"]).join(traded, how="outer")
    ahead = both.index.get_level_values("MONTH") == after
    assert both.TRADINGDAYS.notna().all()
    # and it was carried out: no promotion day more, and hardly one less, where all of a day's values are missing
    assert ((both.TRADINGDAYS == both.days) | ahead | ((both.TRADINGDAYS == 0) & both.days.isna())).mean() > 0.995
    off = (both.PROMOTIONSHARE * both.TRADINGDAYS - both.promoted).dropna()
    assert off.min() > -0.01 and (off < 0.01).mean() > 0.95
    assert both.PROMOTIONSHARE[traded.index].std() > 0.12


def test_the_planned_price_is_the_months_mean(full, full_lines):
    plan = pd.read_csv(full / "globojava_plan.csv", parse_dates=["MONTH"]).set_index(["STOREID", "MONTH"])
    charged = full_lines.PRICE.astype(float).groupby([full_lines.STOREID, full_lines.month.rename("MONTH")]).mean()
    off = (plan.PRICE.reindex(charged.index) / charged - 1).abs()
    assert off.median() < 1e-6 and off.max() < 0.02  # a bad line is missing from some short months


def test_a_closing_is_announced(full):
    plan = pd.read_csv(full / "globojava_plan.csv")
    closed = plan[plan.TRADINGDAYS == 0]
    assert len(closed) == 6
    assert (closed.MONTH == "2026-01-01").sum() == 1
    assert (closed.MONTH == plan.groupby("STOREID").MONTH.max()[closed.STOREID].to_numpy()).all()


@pytest.mark.parametrize("seed", [7, 8])
def test_the_floor_has_a_lower_error_than_every_baseline(seed):
    # given the simulation at its full size
    simulation = simulate.simulate(seed=seed, months=60, stores=66, lines=1_318_543)
    errors = simulate.wape_by_name(
        simulation["sold"], simulate.baseline_forecasts(simulation["sold"]) | {"floor": simulation["floor"]}
    )
    # then the floor has a small error and every baseline at least twice of it: there is something to learn
    floor = errors.pop("floor")
    assert 0.025 < floor < 0.045
    assert 2 * floor < min(errors.values()) < 0.12


def test_the_floor_has_every_store_that_is_open_and_stays_so(full, full_lines):
    floor = pq.read_table(full / "floor.parquet").to_pandas()
    assert pq.read_schema(full / "floor.parquet").names == ["series_id", "cutoff", "forecast"]
    assert str(pq.read_schema(full / "floor.parquet").field("cutoff").type) == "date32[day]"
    sold = full_lines.groupby(["STOREID", "month"]).quantity.sum()
    floor["month"] = pd.to_datetime(floor.cutoff) + pd.Timedelta(days=1)
    both = floor.set_index(["series_id", "month"]).forecast
    open_before = {(store, month + pd.DateOffset(months=1)) for store, month in sold.index} & set(sold.index)
    assert open_before <= set(both.index)
    assert (both.index.get_level_values("month") == "2026-01-01").sum() == 60
    known = sold[list(both.index.intersection(sold.index))]
    assert (known - both.reindex(known.index)).abs().sum() / known.sum() < 0.04


def test_the_floor_uses_nothing_after_its_cutoff():
    # given hidden states, and others that differ from month 30 on
    months, changed_month = 48, 30
    stores = simulate.draw_stores(3, months, 12)
    expected = simulate.expected_days(simulate.draw_trading_days(3, stores, months), stores, months)
    row, product = simulate.offered_products(3, expected, months, 150_000)
    units = simulate.expected_units(expected, simulate.list_prices(3, stores, months), row, product, months)
    states = simulate.hidden_state(3, stores, months)
    other_states = simulate.hidden_state(4, stores, months)
    changed_states = [
        np.vstack([state[:changed_month], other[changed_month:]])
        for state, other in zip(states, other_states, strict=True)
    ]
    # when the floor is computed
    floor = simulate.floor_forecast(units, expected, stores, row, product, *states)
    changed_floor = simulate.floor_forecast(units, expected, stores, row, product, *changed_states)
    # then it is the same up to the cutoff before month 30, and different later
    same = slice(changed_month + 1)
    later = slice(changed_month + 1, None)
    np.testing.assert_array_equal(floor[same], changed_floor[same])
    assert (floor[later] != changed_floor[later])[~np.isnan(floor[later])].all()


def test_the_sql_yields_sale_lines(small):
    # given the tables with the types that ingest gives them
    connection = duckdb.connect()
    numbered = "row_number() OVER () + 1 AS _line, '{}' AS _file FROM read_csv('{}', all_varchar = true)"
    types = """STOREID, TRY_CAST(DATE AS DATE) AS DATE, COUNTRY, CITY, PRODUCTCATEGORY, PRODUCT, WEATHER,
        CAST(QUANTITYSOLD AS DECIMAL(18, 6)) AS QUANTITYSOLD, CAST(PRICE AS DECIMAL(18, 6)) AS PRICE,
        CAST(TOTALSALE AS DECIMAL(18, 6)) AS TOTALSALE, PROMOTION = 'Yes' AS PROMOTION,
        CAST(HOLIDAY AS BOOLEAN) AS HOLIDAY"""
    connection.execute(f"CREATE VIEW till AS SELECT {types}, {numbered.format(FILES[0], small / FILES[0])}")
    connection.execute(f"CREATE VIEW plan AS SELECT *, {numbered.format(FILES[1], small / FILES[1])}")
    # when the source's queries run
    root = find_root(Path(__file__).parent)
    lines = connection.execute((root / "sql/simulated.sql").read_text()).df()
    plan = connection.execute((root / "sql/simulated.plan.sql").read_text()).df()
    # then they have the columns that every source must yield
    assert list(lines.columns) == [*SALE_LINE_COLUMNS, "total_sale", "_file", "_line"]
    assert list(plan.columns) == "store_id month published price promotion_share trading_days _file _line".split()
    assert len(lines) == SMALL["lines"] and lines._line.max() == SMALL["lines"] + 1
