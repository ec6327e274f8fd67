"New source: what `init-source` guesses of the shapes that companies export, of the small cases and of the real sources."

import sqlite3
import subprocess
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from brewcast.data.new_source import draft_source, init_source, open_questions, sql_text, timezone_of

SHARED = ROOT.parent / "shared"
CASES = sorted(path.name.removesuffix(".tar.xz") for path in (SHARED / "cases").glob("*.tar.xz"))
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not there")

LINES = pd.DataFrame(
    [
        {
            "day": day,
            "shop": shop,
            "item": item,
            "pieces": (day.day * 7 + len(item) + len(shop)) % 9 + 1,
            "price": price,
        }
        for day in pd.date_range("2024-01-01", "2024-06-30")
        for shop in ("North", "Southend")
        for item, price in (("Green tea", 2.5), ("Café noir", 3.25))
    ]
)


def write_lines(path: Path, names: dict[str, str], date_format: str = "%Y-%m-%d", **options) -> None:
    "Write the toy sale lines with other names of columns."
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = LINES.assign(day=LINES.day.dt.strftime(date_format))
    lines.rename(columns=names)[list(names.values())].to_csv(path, index=False, **options)


def guessed_columns(folder: Path) -> dict[str, str]:
    "The column of each role."
    return {role: match.column for role, match in draft_source(folder, "toy").roles.items()}


GERMAN = {"sep": ";", "decimal": ",", "encoding": "cp1252"}
LANGUAGES = {  # names of day, shop, item, pieces and price; the format of dates; how the file is written
    "German": (["Datum", "Filiale", "Artikel", "Menge", "Einzelpreis"], "%d.%m.%Y", GERMAN),
    "Spanish": (["Fecha", "Tienda", "Producto", "Cantidad", "Precio unitario"], "%d/%m/%Y", GERMAN),
    "French": (["Date de vente", "Magasin", "Désignation", "Quantité", "Prix unitaire"], "%d/%m/%Y", GERMAN),
    "Italian": (["Data vendita", "Punto vendita", "Prodotto", "Quantità", "Prezzo"], "%d/%m/%Y", GERMAN),
    "Polish": (["Data sprzedaży", "Sklep", "Towar", "Ilość", "Cena jedn."], "%d.%m.%Y", {"sep": ";"}),
    "Portuguese": (["data_venda", "loja", "produto", "quantidade", "preço"], "%d/%m/%Y", GERMAN),
    "Dutch": (["Datum", "Winkel", "Artikel", "Aantal", "Prijs"], "%d-%m-%Y", {"sep": "\t"}),
    "Russian": (["Дата", "Магазин", "Товар", "Количество", "Цена"], "%d.%m.%Y", {"encoding": "utf-16"}),
    "a till": (["TRANS_DT", "STR_NBR", "ITM_DESC", "UNITS_SLD", "UNT_PRC"], "%Y%m%d", {"sep": "|"}),
    "a shop": (["InvoiceDate", "Branch", "Description", "Qty Ordered", "Price Each"], "%m/%d/%Y %I:%M %p", {}),
}


@pytest.mark.parametrize("names, date_format, options", LANGUAGES.values(), ids=LANGUAGES)
def test_columns_are_found_by_their_names(tmp_path, names, date_format, options):
    # given an export with the names of a language / when it is described
    write_lines(tmp_path / "export.csv", dict(zip(LINES, names, strict=True)), date_format, **options)
    draft = draft_source(tmp_path, "toy")
    # then each column has its role, and dates are read as they were written
    roles = {role: match.column for role, match in draft.roles.items()}
    assert roles == dict(zip(["date", "store_id", "product", "quantity_sold", "price"], names, strict=True))
    assert draft.sales.types[names[0]].date_format == date_format
    assert open_questions(draft) == []


PLAIN = {name: name for name in LINES}
OTHER_COLUMNS = {  # names of columns that are no quantity, price or date of a sale
    "quantity": ["stock_quantity", "customer_count", "inventory_units"],
    "price": ["cost_price", "tax_price"],
    "date": ["delivery_date", "birth_date"],
}


@pytest.mark.parametrize("other", [name for names in OTHER_COLUMNS.values() for name in names])
def test_columns_of_other_things_are_not_taken(tmp_path, other):
    lines = LINES.assign(**{other: LINES.day if "date" in other else LINES.pieces * 3})
    lines[[other, *LINES]].to_csv(tmp_path / "till.csv", index=False)
    assert other not in guessed_columns(tmp_path).values()


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


def test_what_is_missing_is_said(tmp_path):
    assert_says(tmp_path / "empty", {}, "it is empty; put files of sales there")
    assert_says(tmp_path / "pdf", {"report.pdf": "%PDF-1.4"}, "it has report.pdf; put files")
    assert_says(tmp_path / "sheet", {"a.xlsx": "PK\3\4"}, "a.xlsx is not used: is a zip archive or an Excel workbook")
    assert_says(tmp_path / "no header", {"a.csv": "S1,2024-01-02,3\nS1,2024-01-03,4\n"}, "write a header line above")


def assert_says(folder: Path, files: dict[str, str], text: str) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(ValueError) as error:
        draft_source(folder, "toy")
    assert text in str(error.value) and str(folder) in str(error.value)


def test_the_zone_of_instants_is_that_of_the_country(tmp_path):
    for country, zone in {"Japan": "Asia/Tokyo", "United States": "UTC", "Atlantis": "UTC"}.items():
        LINES.assign(day=LINES.day.dt.strftime("%Y-%m-%dT21:45:00+00:00"), country=country).to_csv(
            tmp_path / "till.csv", index=False
        )
        draft = draft_source(tmp_path, "toy")
        assert timezone_of(draft, draft.sales) == zone


def test_a_file_of_other_columns_is_not_lost_without_a_word(tmp_path):
    # given a plan, and a list that no key joins
    write_lines(tmp_path / "sales.csv", PLAIN)
    (tmp_path / "plan.csv").write_text("shop,month,price\nNorth,2024-07,2.5\n")
    (tmp_path / "towns.csv").write_text("code,city\nX,Oslo\n")
    # when the folder is described / then both are named, with what to do
    notes = " ".join(draft_source(tmp_path, "toy").notes)
    assert "plan.csv is not used: it may be a plan" in notes and "towns.csv is not used: no key joins it" in notes


@needs_shared
@pytest.mark.parametrize("case", CASES)
def test_small_cases_are_described(tmp_path, case):
    # given the data of a case / when it is described
    with tarfile.open(SHARED / "cases" / f"{case}.tar.xz") as archive:
        archive.extractall(tmp_path)
    (env,) = (path for path in tmp_path.rglob("env.*.yaml"))
    data = env.parent / "data"
    draft = draft_source(data if data.is_dir() else env.parent, "toy")
    # then nothing is missing, and dates and encoding are those that a person declared
    if case == "no_column":  # nothing but its owner says that the column No names the store
        assert "columns of few values: No" in open_questions(draft)[0]
        return
    assert open_questions(draft) == []
    declared = yaml.safe_load(env.read_text())["files"][0]
    if "date" in draft.roles and "date_format" in declared:
        date = draft.roles["date"]
        assert date.table.types[date.column].date_format == declared["date_format"]
    assert "NOT FOUND" not in sql_text(draft)


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


def test_make_passes_folder_and_name_on():
    # given make, which only prints its commands / then DATA is the folder, and SOURCE the name if it was given
    def commands(*words: str) -> str:
        return subprocess.run(["make", "-n", "init-source", *words], cwd=ROOT, capture_output=True, text=True).stdout

    assert 'init-source "../tea" --name "mint"' in commands("DATA=../tea", "SOURCE=mint")
    assert 'init-source "../tea"' in commands("DATA=../tea") and "--name" not in commands("DATA=../tea")
    assert "DATA=folder is missing" in commands()
