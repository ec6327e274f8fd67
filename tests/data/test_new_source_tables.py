"New source, tables: columns are found by the names that companies give them, in several languages."

from pathlib import Path

import pytest
from exports import LINES, write_lines

from brewcast.data.new_source_draft import draft_source, open_questions


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
