"Shared by the tests of source files and ingest: a till's lines, and a function that ingests them."

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from brewcast.common.increments import Increments
from brewcast.data.ingest import ingest
from brewcast.data.source_files import source_tables

HEADER = "STORE,DATE,CITY,CATEGORY,PIECES,PRICE,TOTAL,WEATHER,PROMOTION,HOLIDAY"
LINES = [
    "S1,1/5/2022,Montréal,Coffee,3,2.50,7.50,Hot,Yes,False",
    "S1,1/6/2022,Montréal,Pastry,1,3.25,3.25,,No,False",
    "S2,1/5/2022,San José,Coffee,2,2.55,5.10,Rainy,,True",
    "S2,1/6/2022,San José,Coffee,4,2.50,10.00,Cold,Yes,False",
]
COLUMNS = {
    "STORE": "text",
    "DATE": "date",
    "CITY": "text",
    "CATEGORY": "text",
    "PIECES": "integer",
    "PRICE": "decimal",
    "TOTAL": "decimal",
    "WEATHER": "text?",
    "PROMOTION": "yes_no?",
    "HOLIDAY": "boolean",
}
SQL = """SELECT STORE AS store_id, DATE AS date, CITY AS city, CATEGORY AS category, PRICE AS price,
    PIECES AS quantity_sold, WEATHER AS weather, PROMOTION AS promotion, HOLIDAY AS holiday,
    TOTAL AS total_sale, _file, _line FROM till"""


def csv_text(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def ingest_paths(folder: Path) -> SimpleNamespace:
    "Where ingest shall write its products."
    tables = ("lineage", "largest", "plan", "quarantine")
    paths = {name: folder / f"{name}.parquet" for name in tables}
    return SimpleNamespace(**paths, sales=folder / "sales", dataset=folder / "dataset.json")


def read_sales(folder: Path) -> list[dict]:
    "The sale lines of all months, sorted by store and date."
    rows = [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: (row["store_id"], row["date"]))


def sales_bytes(folder: Path) -> dict[str, bytes]:
    "The bytes of each month's file."
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def assert_lineage_adds_up(dataset: dict, sales: list[dict], lineage: list[dict]):
    "The lineage has every sale line of each store and month, and every row of each file."
    from_sales, from_lineage, lines_by_file = Counter(), Counter(), Counter()
    for row in sales:
        month = row["date"].replace(day=1)
        from_sales[row["store_id"], month, "lines"] += 1
        from_sales[row["store_id"], month, "quantity_sold"] += row["quantity_sold"]
    for row in lineage:
        for name in ("lines", "quantity_sold"):
            from_lineage[row["store_id"], row["month"], name] += row[name]
        lines_by_file[row["file"]] += row["lines"]
        assert row["first_line"] is None or row["last_line"] - row["first_line"] + 1 >= row["lines"]
    assert from_sales == from_lineage
    keys = [(row["store_id"], row["month"], row["file"] or "") for row in lineage]
    assert keys == sorted(set(keys))
    if dataset["counted"] == "lines of the files":
        files = [pair for table in dataset["tables"].values() for pair in table["files"].items()]
        rows_in = {file: rows["rows_in"] for file, rows in files}
        assert lines_by_file == {file: rows_in[file] for file in lines_by_file}
        assert lines_by_file.total() == dataset["rows_in"]


def assert_rows_add_up(dataset: dict, sales: list[dict]):
    "Every row that was read is in the sales, in quarantine, or left out by the query."
    for table in dataset["tables"].values():
        for rows in table["files"].values():
            left_out = rows.get("rows_left_out_by_query", 0)
            assert rows["rows_in"] + rows["rows_set_aside"] + left_out == rows["rows_read"]
    is_one_to_many = dataset["counted"].endswith("of several sale lines")
    assert dataset["rows_in"] == len(sales) or is_one_to_many
    rows_out = dataset["rows_set_aside"] + dataset["rows_left_out_by_query"]
    assert dataset["rows_read"] == dataset["rows_in"] + rows_out


def make_reader(tmp_path: Path):
    "A function that ingests a file's content, and returns dataset, sales, quarantine, lineage and the products' paths."

    def read(
        content: str | bytes | None,  # None: the test has written the files itself
        name: str = "till.csv",
        sql: str = SQL,
        settings: dict | None = None,  # further settings of the table
        **arguments,  # further arguments of ingest
    ):
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        if content is not None:
            (data / name).write_bytes(content.encode() if isinstance(content, str) else content)
        (tmp_path / "toy.sql").write_text(sql)
        till = {"name": "till", "path": name, "date_format": "%m/%d/%Y", "columns": COLUMNS} | (settings or {})
        defaults = {
            "source": "toy",
            "data": data,
            "sql": tmp_path / "toy.sql",
            "plan_sql": None,
            "files": [till],
            "lacks": ["country", "product"],
            "key": None,
            "categories": ["Coffee", "Pastry"],
            "returns": False,
            "max_bad_share": 0.9,
        }
        paths = ingest_paths(tmp_path / "out")
        defaults["cache"] = Increments(tmp_path / "cache")
        arguments = defaults | arguments
        arguments["files"] = source_tables(arguments["files"])
        dataset = ingest(**arguments, product_paths=paths)
        sales = read_sales(paths.sales)
        quarantine, lineage = (pq.read_table(path).to_pylist() for path in (paths.quarantine, paths.lineage))
        assert_lineage_adds_up(dataset, sales, lineage)
        assert_rows_add_up(dataset, sales)
        found = {"dataset": dataset, "sales": sales, "quarantine": quarantine, "lineage": lineage, "paths": paths}
        return SimpleNamespace(**found, sales_bytes=sales_bytes(paths.sales))

    read.data = tmp_path / "data"
    return read


def assert_only_bad_line_is_lost(read, bad_line: str, column: str | None, reason: str):
    # given a bad line between good ones / when they are read
    result = read(csv_text(*LINES[:2], bad_line, *LINES[2:]))
    # then the good lines pass, and the bad one is in quarantine with file, line, column, reason and its text
    assert len(result.sales) == 4
    assert result.quarantine == [
        {"table": "till", "file": "till.csv", "line": 4, "column": column, "reason": reason, "row": bad_line}
    ]


def assert_refused(read, content: str | bytes | None, arguments: dict, message: str):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read(content, **arguments)
    assert message.replace("[*]", "*") in str(error.value)
    assert not (read.data.parent / "out" / "sales").exists()
