"Lines of a till, and a function that ingests them: what tests of files and of ingest share."

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from brewcast.data.ingest import ingest

HEADER = "STORE,DATE,CITY,CATEGORY,PIECES,PRICE,TOTAL,WEATHER,PROMOTION,HOLIDAY"
LINES = [
    "S1,1/5/2022,Montréal,Coffee,3,2.50,7.50,Hot,Yes,False",
    "S1,1/6/2022,Montréal,Pastry,1,3.25,3.25,,No,False",
    "S2,1/5/2022,San José,Coffee,2,2.55,5.10,Rainy,,True",
    "S2,1/6/2022,San José,Coffee,4,2.50,10.00,Cold,Yes,False",
]
COLUMNS = {"STORE": "text", "DATE": "date", "CITY": "text", "CATEGORY": "text", "PIECES": "integer"}
COLUMNS |= {"PRICE": "decimal", "TOTAL": "decimal", "WEATHER": "text?", "PROMOTION": "yes_no?", "HOLIDAY": "boolean"}
SQL = """SELECT STORE AS store_id, DATE AS date, CITY AS city, CATEGORY AS category, PRICE AS price,
    PIECES AS quantity_sold, WEATHER AS weather, PROMOTION AS promotion, HOLIDAY AS holiday,
    TOTAL AS total_sale, _file, _line FROM till"""


def text(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def adds_up(dataset: dict, sales: list[dict], lineage: list[dict]):
    "Every sale line is in the lineage of its store and month, and every file's rows are."
    given, told, by_file = Counter(), Counter(), Counter()
    for row in sales:
        given.update({(row["store_id"], row["date"].replace(day=1), k): v for k, v in unit(row).items()})
    for row in lineage:
        told.update({(row["store_id"], row["month"], k): row[k] for k in ("lines", "quantity_sold")})
        by_file[row["file"]] += row["lines"]
        assert row["first_line"] is None or row["last_line"] - row["first_line"] + 1 >= row["lines"]
    assert given == told
    keys = [(row["store_id"], row["month"], row["file"] or "") for row in lineage]
    assert keys == sorted(set(keys))
    if dataset["counted"] == "lines of the files":
        rows_in = {f: n["rows_in"] for table in dataset["tables"].values() for f, n in table["files"].items()}
        assert by_file == {file: rows_in[file] for file in by_file}
        assert by_file.total() == dataset["rows_in"]


def unit(row: dict) -> dict:
    return {"lines": 1, "quantity_sold": row["quantity_sold"]}


def reader(tmp_path: Path):
    "A function that ingests a file's content, and gives dataset, sales and quarantine."

    def run(content: str | bytes | None, name: str = "till.csv", sql: str = SQL, more: dict | None = None, **changes):
        data, out = tmp_path / "data", tmp_path / "out"
        data.mkdir(exist_ok=True)
        if content is not None:
            (data / name).write_bytes(content.encode() if isinstance(content, str) else content)
        (tmp_path / "toy.sql").write_text(sql)
        till = {"name": "till", "path": name, "date_format": "%m/%d/%Y", "columns": COLUMNS} | (more or {})
        gives = SimpleNamespace(
            **{n: out / f"{n}.parquet" for n in ("sales", "lineage", "largest", "plan", "quarantine")}
        )
        gives.dataset = out / "dataset.json"
        given = {"source": "toy", "data": data, "sql": tmp_path / "toy.sql", "plan_sql": None, "files": [till]}
        given |= {"lacks": ["country", "product"], "key": None, "categories": ["Coffee", "Pastry"], "returns": False}
        dataset = ingest(**(given | {"max_bad_share": 0.9} | changes), product_paths=gives)
        sales, aside, lineage = (
            pq.read_table(path).to_pylist() for path in (gives.sales, gives.quarantine, gives.lineage)
        )
        adds_up(dataset, sales, lineage)
        for table in dataset["tables"].values():
            for rows in table["files"].values():
                left_out = rows.get("rows_left_out_by_query", 0)
                assert rows["rows_in"] + rows["rows_set_aside"] + left_out == rows["rows_read"]
        several = dataset["counted"].endswith("of several sale lines")
        assert dataset["rows_in"] == len(sales) or several
        assert (
            dataset["rows_read"] == dataset["rows_in"] + dataset["rows_set_aside"] + dataset["rows_left_out_by_query"]
        )
        return SimpleNamespace(dataset=dataset, sales=sales, aside=aside, lineage=lineage, gives=gives)

    run.data = tmp_path / "data"
    return run


def assert_costs_itself_only(read, bad: str, column: str | None, reason: str):
    # given a bad line among good ones / when they are read
    got = read(text(*LINES[:2], bad, *LINES[2:]))
    # then the good ones pass, and the bad one is told with file, line, column, reason and its text
    assert len(got.sales) == 4
    told = {"table": "till", "file": "till.csv", "line": 4, "column": column, "reason": reason, "row": bad}
    assert got.aside == [told]


def assert_refused(read, content: str | bytes | None, settings: dict, said: str):
    with pytest.raises((ValueError, FileNotFoundError)) as refusal:
        read(content, **settings)
    assert said.replace("[*]", "*") in str(refusal.value)
    assert not (read.data.parent / "out" / "sales.parquet").exists()
