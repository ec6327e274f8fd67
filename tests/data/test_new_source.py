"New source: a build would run with what is written of many shapes of exports, and of the real sources."

import sqlite3
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from exports import LINES, SHARED, needs_shared

from brewcast.common.parameter_types import Calendar
from brewcast.common.params import read_env
from brewcast.data.new_source import DEFAULT_CALENDAR, MAX_BAD_SHARE, init_source


def write_year_folders(folder: Path) -> None:
    for month, lines in LINES.groupby(LINES.day.dt.month):
        path = folder / f"{2023 + month % 2}" / f"{month:02}.csv"
        path.parent.mkdir(exist_ok=True)
        lines.to_csv(path, index=False)


def write_store_files(folder: Path) -> None:
    for shop, lines in LINES.groupby("shop"):
        lines.drop(columns="shop").to_csv(folder / f"{shop}.csv", index=False)


def write_another_column(folder: Path) -> None:
    LINES[LINES.day < "2024-04-01"].to_csv(folder / "sales_1.csv", index=False)
    LINES[LINES.day >= "2024-04-01"].assign(promo="N").to_csv(folder / "sales_2.csv", index=False)


def write_star(folder: Path) -> None:
    LINES.replace({"item": {"Green tea": "P1", "Café noir": "P2"}, "shop": {"North": 1, "Southend": 2}}).rename(
        columns={"item": "product_key", "shop": "store_fk"}
    ).drop(columns="price").to_csv(folder / "fact_sales.csv", index=False)
    (folder / "dim_product.csv").write_text("id,name,list_price\nP1,Green tea,2.5\nP2,Café noir,3.25\n")
    (folder / "dim_store.csv").write_text("id,city\n1,Oslo\n2,Bergen\n")


def write_excel(folder: Path) -> None:
    table = LINES.assign(day=LINES.day.dt.strftime("%d/%m/%Y")).to_csv(index=False).replace("\n", ",,\n")
    title = "Sales report,,,,,,\n,,,,,,\nPrinted: 05/07/2024,,,,,,\n"
    (folder / "Sales report.csv").write_text(f"{title}{table},,,,,,\nTotal,,,999,,,\n")


def write_wide_weeks(folder: Path) -> None:
    weeks = LINES.pivot_table(index="shop", columns=LINES.day.dt.strftime("%G-W%V"), values="pieces", aggfunc="sum")
    weeks.reset_index().to_csv(folder / "weeks.csv", index=False)


def write_numbered_days(folder: Path) -> None:
    days = LINES.day.drop_duplicates()
    number = LINES.day.map({day: f"d_{n}" for n, day in enumerate(days, 1)})
    wide = LINES.pivot_table(index="shop", columns=number, values="pieces", aggfunc="sum").reset_index()
    wide.to_csv(folder / "sales_train.csv", index=False)
    calendar = pd.DataFrame({"date": days.dt.strftime("%Y-%m-%d"), "d": [f"d_{n}" for n in range(1, len(days) + 1)]})
    calendar.to_csv(folder / "calendar.csv", index=False)


def write_money(folder: Path) -> None:
    lines = LINES.assign(day=LINES.day.dt.strftime("%d.%m.%y"), price=LINES.price.map("€ {:,.2f}".format))
    lines.to_csv(folder / "till.csv", index=False)


def write_year_and_month(folder: Path) -> None:
    month = LINES.day.dt.month
    lines = LINES.assign(year=2024, month=month).groupby(["year", "month", "shop", "item"], as_index=False).pieces.sum()
    lines.to_csv(folder / "months.csv", index=False)


def write_database(folder: Path) -> None:
    with sqlite3.connect(folder / "shop.db") as con:
        lines = LINES.assign(day=LINES.day.dt.strftime("%Y-%m-%d")).drop(columns="price")
        lines.to_sql("sale_lines", con, index=False)
        pd.DataFrame({"item": ["Green tea", "Café noir"], "price": [2.5, 3.25]}).to_sql("items", con, index=False)
    con.close()


SHAPES = {  # how the files are written, and a part of the query
    "a folder a year": (write_year_folders, "day AS date"),
    "a file a store": (write_store_files, "regexp_extract(_file"),
    "one more column": (write_another_column, "NULL AS promo"),
    "a star schema": (write_star, "JOIN dim_store ON fact_sales.store_fk = dim_store.id"),
    "a sheet": (write_excel, "day AS date"),
    "weeks as columns": (write_wide_weeks, "'%G-W%V-%u'"),
    "numbered days": (write_numbered_days, "JOIN calendar ON sales_train.period = calendar.d"),
    "money and short years": (write_money, "try_strptime(day, '%d.%m.%y')"),
    "year and month": (write_year_and_month, "make_date(year, month, 1)"),
    "a database": (write_database, "JOIN items USING (item)"),
}


@pytest.mark.parametrize("write, query", SHAPES.values(), ids=SHAPES)
def test_a_build_would_accept_what_is_written(tmp_path, write, query):
    # given a folder as a company exports it / when it is described, and tried
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)
    new = init_source(tmp_path, folder, "toy")
    # then a build would run, with every piece and both stores
    assert new.is_ready, new.lines
    assert query in (tmp_path / "sql/toy.sql").read_text()
    assert any(line.startswith("  2 stores, complete months from 20") for line in new.lines), new.lines


@needs_shared
@pytest.mark.parametrize("source", ["walmart", "maven_market"])
def test_a_real_source_is_described_as_its_authors_did(tmp_path, source):
    # given the raw files / when they are described
    new = init_source(tmp_path, SHARED / "data" / source, source)
    # then a build would run, and what a person declared is what was guessed
    ours = yaml.safe_load((tmp_path / f"env.{source}.yaml").read_text())
    theirs = yaml.safe_load((ROOT / f"env.{source}.yaml").read_text())
    assert new.is_ready
    assert (ours["lacks"], ours["key"], ours["returns"]) == (theirs["lacks"], theirs["key"], theirs["returns"])
    assert ours["calendar"]["unit"] == theirs["calendar"]["unit"]
    assert ours["calendar"].get("weekday") == theirs["calendar"].get("weekday")
    declared = {table["path"]: table for table in theirs["files"]}
    for table in ours["files"]:
        known = declared.get(table["path"]) or next(
            known for known in declared.values() if known["name"] == table["name"]
        )
        assert (table.get("date_format"), table.get("key")) == (known.get("date_format"), known.get("key"))
        kinds = {name: kind.removesuffix("?") for name, kind in table["columns"].items()}
        assert kinds == known["columns"]


@needs_shared
def test_a_week_without_a_date_is_left_to_its_owner(tmp_path):
    new = init_source(tmp_path, SHARED / "data" / "dominicks_oj", "oj")
    text = "\n".join(new.lines)
    assert not new.is_ready and "week (100, 101, 102, ...) may count them: write its date in the SQL" in text
    assert "price1 to price11: none of them is taken as the price" in text


def test_the_defaults_are_those_of_env_yaml():
    env = read_env(ROOT)
    calendar = Calendar.model_validate(
        env["calendar"] | {"countries": {"*": None}}
    )  # each source has its own countries
    assert (DEFAULT_CALENDAR, MAX_BAD_SHARE) == (calendar, env["max_bad_share"])


def test_make_passes_folder_and_name_on():
    # given make, which only prints its commands / then DATA is the folder, and SOURCE the name if it was given
    def commands(*words: str) -> str:
        return subprocess.run(["make", "-n", "init-source", *words], cwd=ROOT, capture_output=True, text=True).stdout

    assert 'init-source "../tea" --name "mint"' in commands("DATA=../tea", "SOURCE=mint")
    assert 'init-source "../tea"' in commands("DATA=../tea") and "--name" not in commands("DATA=../tea")
    assert "DATA=folder is missing" in commands()
