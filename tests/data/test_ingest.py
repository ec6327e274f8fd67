"Ingest: every row is counted, bad rows go to quarantine with their reason, and an unusable source is refused."

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from exports import SHARED
from tills import COLUMNS, LINES, SQL, assert_only_bad_line_is_lost, assert_refused, csv_text, ingest_paths, make_reader

from brewcast.common.core import read_json
from brewcast.common.hashing import sha256
from brewcast.common.params import read_env
from brewcast.data.ingest import bad_row_table, dataset_facts, file_table, ingest, ingest_sentence, reason_table
from brewcast.data.partitions import partitions_hash
from brewcast.data.source_files import source_tables


@pytest.fixture
def read(tmp_path):
    return make_reader(tmp_path)


def test_good_lines_all_pass(read):
    # given four good lines / when they are read
    result = read(csv_text(*LINES))
    # then they are sale lines, sorted, in the contract's types
    assert [row["quantity_sold"] for row in result.sales] == [3, 1, 2, 4]
    assert result.sales[0]["city"] == "Montréal" and result.sales[0]["promotion"] is True
    assert result.sales[1]["weather"] is None and result.sales[0]["country"] is None
    assert result.dataset["rows_set_aside"] == 0 and result.dataset["first_date"] == "2022-01-05"
    january = result.paths.sales / "2022-01.parquet"
    assert result.dataset["partitions"] == {"2022-01": {"rows": 4, "sha256": sha256(january)}}
    assert result.dataset["sales_sha256"] == partitions_hash(result.dataset["partitions"])
    assert pq.read_schema(january).field("price").type == pa.decimal128(18, 6)


BAD_LINES = {  # a line's text, the bad column and the reason
    "unknown weather": (LINES[0].replace("Hot", "Foggy"), "weather", "is none of Hot, Cold, Rainy"),
    "unknown category": (LINES[0].replace("Coffee", "Cofee"), "category", "is none of Coffee, Pastry"),
    "negative price": (LINES[0].replace("2.50", "-2.50"), "price", "is not above 0"),
    "no pieces": (LINES[0].replace(",3,", ",0,"), "quantity_sold", "is not above 0"),
    "a wrong total": (LINES[0].replace("7.50", "7.51"), "total_sale", "is not quantity x price"),
    "a wrong clock": (LINES[0].replace("2022", "2092"), "date", "lies more than a year from all others"),
}


@pytest.mark.parametrize("bad, column, reason", BAD_LINES.values(), ids=BAD_LINES)
def test_a_line_that_breaks_a_rule_loses_only_itself(read, bad, column, reason):
    assert_only_bad_line_is_lost(read, bad, column, reason)


def test_the_order_of_lines_and_the_number_of_threads_make_no_difference(read, monkeypatch):
    plain = read(csv_text(*LINES * 50)).sales_bytes
    for threads in ("1", "3"):
        monkeypatch.setenv("BREWCAST_THREADS", threads)
        assert read(csv_text(*LINES[::-1] * 50)).sales_bytes == plain


REFUSED = {  # content, arguments of `read`, and a part of the error message
    "header only": (csv_text(), {}, "yields no sale line at all"),
    "too many bad": (
        csv_text(*LINES, *["x"] * 2),
        {"max_bad_share": 0.3},
        "till: 2 of 6 rows are bad, above max_bad_share",
    ),
    "a retyped column": (
        csv_text(
            *[
                line.replace(",2.50,", ",5 Jan,").replace(",3.25,", ",6 Jan,").replace(",2.55,", ",6 Jan,")
                for line in LINES
            ]
        ),
        {"max_bad_share": 0.01},
        "column 'PRICE' is not a decimal number (4 rows, such as '5 Jan' and '6 Jan': text)",
    ),
    "a price that is a date": (
        csv_text(*[line.replace(",2.50,", ",2022-01-05,") for line in LINES for _ in range(9)]),
        {"max_bad_share": 0.01},
        "such as '2022-01-05' and '2022-01-05': dates as %Y-%m-%d",
    ),
    "not a list": (csv_text(*LINES), {"files": {"till": {}}}, "files: must be a list"),
    "a name missing in the SQL": (
        csv_text(*LINES),
        {"sql": SQL.replace("AS city", "AS town")},
        "yields ['town'], which sales does not have",
    ),
    "no city": (csv_text(*LINES), {"sql": SQL.replace("CITY AS city,", "")}, "yields no 'city'"),
    "an unknown table": (
        csv_text(*LINES),
        {"sql": SQL.replace("till", "tills")},
        "Table with name tills does not exist",
    ),
    "a lacking column with values": (
        csv_text(*LINES),
        {"lacks": ["country", "product", "city"]},
        "yields values for ['city']",
    ),
    "a wrong type in the SQL": (csv_text(*LINES), {"sql": SQL.replace("DATE AS", "'5 Jan' AS")}, "cast it in the SQL"),
    "a line twice": (csv_text(*LINES), {"sql": f"{SQL} UNION ALL {SQL}"}, "toy.sql: yields line 2 of till.csv 2 times"),
    "a line twice by unnest": (
        csv_text(*LINES),
        {"sql": SQL.replace("FROM till", "FROM (SELECT *, unnest([1, 2]) FROM till)")},
        "toy.sql: yields line 2 of till.csv 2 times",
    ),
    "_file of two tables": (
        csv_text(*LINES),
        {"sql": SQL.replace("till", "till AS a JOIN (SELECT STORE, _file, _line FROM till) AS b USING (STORE)")},
        "write the name of the sales table before both, such as a._file, a._line",
    ),
    "no row": (csv_text(*LINES), {"sql": f"{SQL} WHERE false", "max_bad_share": 1}, "yields no sale line at all"),
}


@pytest.mark.parametrize("content, arguments, message", REFUSED.values(), ids=REFUSED)
def test_a_source_without_sale_lines_is_refused_with_the_reason(read, content, arguments, message):
    assert_refused(read, content, arguments, message)


def test_a_refusal_writes_the_quarantine_and_names_the_top_reasons(read):
    with pytest.raises(ValueError, match=r"does not have 10 fields \(2 rows\).*column 'PRICE' is empty \(1 row\)"):
        read(csv_text(*LINES, "x", "y", LINES[0].replace("2.50", "")), max_bad_share=0.1)
    assert pq.read_table(read.data.parent / "out" / "quarantine.parquet").num_rows == 3


def test_of_a_repeated_key_only_the_first_line_is_kept(read):
    # given a key, a bad line with it, and two good ones
    bad = LINES[0].replace("2.50", "-1")
    again = LINES[0].replace(",3,2.50,7.50", ",4,2.50,10.00")
    result = read(csv_text(bad, *LINES, again), key=["store_id", "date", "category"])
    # then the first good line is kept
    assert [(row["line"], row["column"], row["reason"]) for row in result.quarantine] == [
        (2, "price", "is not above 0"),
        (7, "store_id, date, category", "repeats the key"),
    ]


def test_returns_are_allowed_where_declared(read):
    back = LINES[0].replace(",3,2.50,7.50", ",-3,2.50,-7.50")
    assert len(read(csv_text(*LINES, back)).quarantine) == 1
    assert len(read(csv_text(*LINES, back), returns=True).sales) == 5


def test_a_bad_file_among_many_good_rows_is_refused(read):
    # given a large good file, and a small one with words instead of prices
    read.data.mkdir()
    (read.data / "till_1.csv").write_text(csv_text(*LINES * 300))
    (read.data / "till_2.csv").write_text(csv_text(*[LINES[1].replace("3.25,3.25", "dear,3.25")] * 10))
    with pytest.raises(ValueError, match="till_2.csv: 10 of 10 rows are bad.*'PRICE' is not a decimal .*'dear'"):
        read(None, name="till_*", max_bad_share=0.01)
    # a few bad lines of a small file are allowed
    (read.data / "till_2.csv").write_text(csv_text(*[LINES[1]] * 10, *[LINES[1].replace("3.25,3.25", "dear,3.25")] * 3))
    assert read(None, name="till_*", max_bad_share=0.01).dataset["rows_set_aside"] == 3


def test_rows_are_counted_by_month(read):
    # given bad lines of two months, one without a readable date, and a query that leaves lines out
    february = [line.replace("1/5/", "2/5/").replace("1/6/", "2/6/") for line in LINES]
    bad = [
        february[0].replace("2.50", "-1"),
        february[1].replace("3.25,", "dear,", 1),
        "x",
        LINES[0].replace("1/5", "2/30"),
    ]
    result = read(csv_text(*LINES, *february, *bad), sql=f"{SQL} WHERE PIECES <> 4")
    # then each month has its own counts
    assert result.dataset["months"] == {
        "2022-01": {"rows_in": 3, "rows_set_aside": 0, "rows_left_out_by_query": 1},
        "2022-02": {"rows_in": 3, "rows_set_aside": 2, "rows_left_out_by_query": 1},
        "unknown": {"rows_in": 0, "rows_set_aside": 2},
    }


def test_lines_without_a_partner_in_a_join_are_quarantined(read):
    # given a table of cities with one missing, one twice, and a key
    read.data.mkdir()
    (read.data / "cities.csv").write_text("CITY,COUNTRY\nMontréal,Canada\nMontréal,Canada\n")
    cities = {"name": "cities", "path": "cities.csv", "columns": {"CITY": "text", "COUNTRY": "text"}, "key": ["CITY"]}
    till = {"name": "till", "path": "till.csv", "date_format": "%m/%d/%Y", "columns": COLUMNS}
    sql = SQL.replace(
        "_file, _line FROM till", "COUNTRY AS country, till._file, till._line FROM till JOIN cities USING (CITY)"
    )
    # when sales are joined to it
    result = read(csv_text(*LINES), sql=sql, files=[till, cities], lacks=["product"])
    # then no line is lost silently or counted twice
    assert [row["country"] for row in result.sales] == ["Canada", "Canada"]
    assert result.dataset["rows_left_out_by_query"] == 0 and result.dataset["rows_set_aside"] == 2
    assert [(row["table"], row["line"], row["reason"]) for row in result.quarantine] == [
        ("cities", 3, "repeats the key"),
        ("till", 4, "is left out by toy.sql"),
        ("till", 5, "is left out by toy.sql"),
    ]
    assert result.quarantine[1]["row"] == LINES[2]


FILTERS = {  # the end of a query over till and cities: lines that it filters out, and lines that it loses in a join
    "nothing": ("JOIN cities USING (CITY)", 0, 1),
    "a filter": ("JOIN cities USING (CITY) WHERE PIECES <> 3", 1, 1),
    "a filter on a joined table": ("JOIN cities USING (CITY) WHERE KIND <> 'town'", 1, 1),
    "a filtered left join": ("LEFT JOIN cities ON till.CITY = cities.CITY WHERE cities.KIND <> 'town'", 1, 1),
    "a left join filtered by IS NOT NULL": ("LEFT JOIN cities USING (CITY) WHERE KIND IS NOT NULL", 0, 1),
    "tables joined by the WHERE": (", cities WHERE till.CITY = cities.CITY AND till.PIECES <> 3", 1, 1),
    "a cross join": ("CROSS JOIN cities AS c WHERE till.CITY = c.CITY AND KIND <> 'town' AND PIECES < 99", 1, 1),
    "an anti join": ("ANTI JOIN cities USING (CITY)", 4, 0),
    "a semi join": ("SEMI JOIN cities USING (CITY)", 1, 0),
    "a choice": ("JOIN cities USING (CITY) QUALIFY row_number() OVER (PARTITION BY STORE ORDER BY _line) = 1", 2, 1),
    "two conditions": ("WHERE PIECES > 1 AND PRICE < 3 OR STORE = 'S9'", 1, 0),
}


@pytest.mark.parametrize("end, left_out, lost", FILTERS.values(), ids=FILTERS)
def test_a_filtered_line_is_not_bad_but_a_line_lost_in_a_join_is(read, end, left_out, lost):
    # given five lines, a table of cities that lacks the city of one, and a query that filters
    read.data.mkdir()
    (read.data / "cities.csv").write_text("CITY,KIND\nMontréal,city\nSan José,city\nBoston,town\n")
    cities = {"name": "cities", "path": "cities.csv", "columns": {"CITY": "text", "KIND": "text"}, "key": ["CITY"]}
    till = {"name": "till", "path": "till.csv", "date_format": "%m/%d/%Y", "columns": COLUMNS}
    lines = [*LINES[:3], LINES[3].replace("San José", "Boston"), LINES[3].replace("San José", "Quito")]
    names = SQL.replace("CITY AS city", "till.CITY AS city").replace("_file, _line FROM till", "till._file, till._line")
    # when sales are read by it, whole or as a CTE
    for sql in (f"{names} FROM till {end}", f"WITH x AS ({names} FROM till {end}) SELECT * FROM x"):
        result = read(
            csv_text(*lines),
            sql=sql.replace("_line) = 1", "till._line) = 1"),
            files=[till, cities],
            lacks=["country", "product"],
        )
        # then filtered lines are counted separately
        assert (result.dataset["rows_left_out_by_query"], result.dataset["rows_set_aside"]) == (left_out, lost)
        assert {row["reason"] for row in result.quarantine} == ({"is left out by toy.sql"} if lost else set())
        by_file = result.dataset["tables"]["till"]["files"]["till.csv"]
        assert by_file.get("rows_left_out_by_query", 0) == left_out
        by_month = result.dataset["months"]["2022-01"]
        assert (by_month.get("rows_left_out_by_query", 0), by_month["rows_set_aside"]) == (left_out, lost)


UNPIVOTS = {  # FROM clauses that turn month columns into rows
    "as a statement": "(UNPIVOT wide ON COLUMNS('^20') INTO NAME month VALUE pieces)",
    "as a part of FROM": "wide UNPIVOT (pieces FOR month IN ('2022-01', '2022-02', '2022-03'))",
    "as lists": """(SELECT * EXCLUDE (pair), unnest(pair) FROM (SELECT *,
        unnest([{'month': '2022-01', 'pieces': "2022-01"}, {'month': '2022-02', 'pieces': "2022-02"},
        {'month': '2022-03', 'pieces': "2022-03"}]) AS pair FROM wide))""",
}


@pytest.mark.parametrize("end", UNPIVOTS.values(), ids=UNPIVOTS)
@pytest.mark.parametrize("through", [None, "2022-02"])
def test_one_line_may_be_several_sale_lines(read, end, through):
    # given a table with month columns, two bad cells, and a line that a filter removes
    columns = {"shop": "text", "2022-01": "integer", "2022-02": "integer", "2022-03": "integer"}
    content = "shop,2022-01,2022-02,2022-03\nS1,1,2,3\nS2,4,-5,6\nS3,7,x,9\nS4,1,1,1\nS5,2,2,2\n"
    sql = f"""SELECT shop AS store_id, (month || '-01')::DATE AS date, pieces AS quantity_sold, _file, _line
        FROM {end} WHERE shop <> 'S4'"""
    lacks = ["country", "city", "category", "product", "price", "weather", "promotion", "holiday"]
    settings = {"name": "wide", "columns": columns}
    result = read(content, sql=sql, settings=settings, lacks=lacks, through=through, key=["store_id", "date"])
    # then each cell is a sale line of its own, and only bad ones go to quarantine
    sold = [(row["store_id"], row["date"].month, row["quantity_sold"]) for row in result.sales]
    all_cells = [
        ("S1", 1, 1),
        ("S1", 2, 2),
        ("S1", 3, 3),
        ("S2", 1, 4),
        ("S2", 3, 6),
        *(("S5", m, 2) for m in (1, 2, 3)),
    ]
    assert sold == [cell for cell in all_cells if not through or cell[1] < 3]
    assert [(row["line"], row["column"]) for row in result.quarantine] == [(3, "quantity_sold"), (4, "2022-02")]
    # and rows are counted as lines of the file, but by month as sale lines
    assert result.dataset["months"]["2022-02"] == {"rows_in": 2, "rows_set_aside": 1}
    assert result.dataset["months"]["unknown"] == {"rows_in": 0, "rows_set_aside": 1, "rows_left_out_by_query": 1}
    assert result.dataset["counted"] == "lines of the files, each of several sale lines"
    counts = {name: result.dataset[name] for name in result.dataset if name.startswith("rows_")}
    assert counts == {"rows_read": 5, "rows_in": 2, "rows_set_aside": 2, "rows_left_out_by_query": 1, "rows_not_yet": 0}


def test_a_recursive_query_keeps_the_filter_that_ends_it(read):
    # given a recursive query that its WHERE ends, and a line that the join with it loses
    sql = f"""WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3)
        {SQL} SEMI JOIN n ON PIECES = i WHERE STORE <> 'S9'"""
    # when the filtered lines are searched / then the query still ends
    result = read(csv_text(*LINES), sql=sql)
    assert (len(result.sales), result.dataset["rows_left_out_by_query"]) == (3, 1)


def test_filtered_lines_do_not_refuse_an_export(read):
    cards = [LINES[1].replace("Pastry", "Gift card")] * 4
    result = read(csv_text(*LINES, *cards), sql=f"{SQL} WHERE CATEGORY <> 'Gift card'", max_bad_share=0.01)
    assert result.quarantine == [] and result.dataset["rows_left_out_by_query"] == 4
    with pytest.raises(ValueError, match="4 of 8 rows are bad.*exclude rows that are not sales in the SQL's WHERE"):
        read(csv_text(*LINES, *cards), max_bad_share=0.01)


def test_bad_rows_are_counted_by_store(read):
    # given twelve bad lines of one store, three of another, and a query that renames the stores
    bad = LINES[2].replace(",2,", ",#REF!,")
    content = csv_text(
        *LINES, *[bad] * 11, bad.replace("1/5", "2/5"), *[bad.replace("S2", "S1")] * 3, "x", LINES[0][2:]
    )
    result = read(content, sql=SQL.replace("STORE AS", "'Shop ' || lower(STORE) AS"))
    assert result.dataset["stores_set_aside"] == {
        "Shop s2": {
            "2022-01": {"rows_in": 2, "rows_set_aside": 11},
            "2022-02": {"rows_in": 0, "rows_set_aside": 1},
        }
    }
    # no counts if no column identifies the store, or no store lost ten rows, or two percent
    assert "stores_set_aside" not in read(content, sql=SQL.replace("STORE AS", "STORE || _line AS")).dataset
    assert "stores_set_aside" not in read(csv_text(*LINES, bad)).dataset
    assert "stores_set_aside" not in read(csv_text(*LINES * 300, *[bad] * 11)).dataset


def test_an_aggregating_query_counts_its_own_rows(read):
    sql = """SELECT STORE AS store_id, DATE AS date, min(CITY) AS city, CATEGORY AS category, avg(PRICE) AS price,
        sum(PIECES) AS quantity_sold, NULL AS weather, true AS promotion, bool_or(HOLIDAY) AS holiday
        FROM till GROUP BY ALL"""
    result = read(csv_text(*LINES, LINES[0], LINES[0].replace("S1", "S3").replace("2.50", "-1"), "x"), sql=sql)
    assert result.dataset["rows_read"] == 5 and result.dataset["counted"].startswith("rows of the query")
    assert {(row["file"], row["first_line"]) for row in result.lineage} == {("till.csv", None)}  # the only file
    assert [(row["table"], row["line"], row["column"]) for row in result.quarantine] == [
        ("till", 8, None),
        ("toy.sql", 5, "price"),
    ]


def test_a_plan_is_read_by_its_own_query(read, tmp_path):
    read.data.mkdir()
    (read.data / "plan.csv").write_text("STORE,MONTH\nS1,2022-02-01\nS1,2022-02-01\nS2,2022-02-02\n")
    plan = {
        "name": "plan",
        "path": "plan.csv",
        "columns": {"STORE": "text", "MONTH": "date"},
        "date_format": "%Y-%m-%d",
    }
    till = {"name": "till", "path": "till.csv", "date_format": "%m/%d/%Y", "columns": COLUMNS}
    (tmp_path / "toy.plan.sql").write_text("""SELECT STORE AS store_id, MONTH AS month, MONTH - 1 AS published,
        NULL::DOUBLE AS price, 0.5 AS promotion_share, 28 AS trading_days, _file, _line FROM plan""")
    result = read(csv_text(*LINES), files=[till, plan], plan_sql=tmp_path / "toy.plan.sql")
    assert pq.read_table(result.paths.plan).num_rows == 1
    assert {(row["line"], row["reason"]) for row in result.quarantine} == {
        (3, "repeats the key"),
        (4, "is not the first day of a month"),
    }


COUNTS = {  # rows, stores, first and last date, from the README of each data set
    "walmart": (421_570, 45, "2010-02-05", "2012-10-26"),
    "maven_market": (269_720 + 7_087, 24, "1997-01-01", "1998-12-30"),
    "dominicks_oj": (106_139, 83, "1990-06-20", "1992-10-07"),  # weeks 40 to 160, dated by their last day
}


@pytest.mark.parametrize("source", COUNTS)
def test_the_real_sources(source, tmp_path):
    data = SHARED / "data" / source
    if not data.exists():
        pytest.skip(f"no data: {data} is missing")
    env = read_env(ROOT, f"env.{source}.yaml")
    names = "source sql plan_sql files lacks key categories returns max_bad_share".split()
    paths = ingest_paths(tmp_path)
    env["files"] = source_tables(env["files"])
    ingest(data=data, **{name: env[name] for name in names}, product_paths=paths)
    dataset = read_json(paths.dataset)
    lineage = pd.read_parquet(paths.lineage)
    sales = pd.read_parquet(paths.sales, columns=["store_id", "date"])
    sales["month"] = pd.to_datetime(sales.date).dt.to_period("M").dt.start_time
    lineage_lines = lineage.assign(month=pd.to_datetime(lineage.month)).groupby(["store_id", "month"]).lines.sum()
    assert lineage_lines.equals(sales.groupby(["store_id", "month"]).size().rename("lines"))
    files = {f: rows["rows_in"] for table in dataset["tables"].values() for f, rows in table["files"].items()}
    by_file = lineage.groupby("file").lines.sum().to_dict()
    assert by_file == {file: files[file] for file in by_file} and sum(by_file.values()) == dataset["rows_in"]
    assert len(by_file) == (3 if source == "maven_market" else 1)  # two of transactions, one of returns
    assert (dataset["rows_read"], dataset["stores"], dataset["first_date"], dataset["last_date"]) == COUNTS[source]
    assert dataset["rows_in"] == dataset["rows_read"]


def test_a_store_with_two_ids_is_one_store_in_key_lineage_and_order(read):
    # given a store with the ids S1 and S01, one line under both, and an id without lines
    lines = [*LINES, LINES[0].replace("S1,", "S01,"), LINES[1].replace("S1,1/6", "S01,1/7")]
    # when it is read with the ids declared
    key = ["store_id", "date", "category"]
    result = read(csv_text(*lines), key=key, same_store={"S01": "S1", "S9": "S2"})
    # then there are two stores, sorted, the repeated line is in quarantine, and the ids are counted
    assert [(row["store_id"], row["date"].day) for row in result.sales] == [
        ("S1", 5),
        ("S1", 6),
        ("S1", 7),
        ("S2", 5),
        ("S2", 6),
    ]
    assert [row["line"] for row in result.quarantine] == [6]
    assert [(row["store_id"], row["lines"]) for row in result.lineage] == [("S1", 3), ("S2", 2)]
    assert result.dataset["same_store"] == {"S01": 2, "S9": 0}
    # and without the declaration there are three stores
    again = read(csv_text(*lines), key=key)
    assert {row["store_id"] for row in again.sales} == {"S1", "S01", "S2"} and "same_store" not in again.dataset


def test_the_plan_uses_the_same_store_id(read, tmp_path):
    (
        tmp_path / "plan.sql"
    ).write_text("""SELECT 'S01' AS store_id, DATE '2022-02-01' AS month, DATE '2022-01-15' AS published,
        NULL::DECIMAL(18, 6) AS price, 0.5::DECIMAL(18, 6) AS promotion_share, NULL::BIGINT AS trading_days""")
    result = read(csv_text(*LINES), plan_sql=tmp_path / "plan.sql", same_store={"S01": "S1"})
    assert pq.read_table(result.paths.plan)["store_id"].to_pylist() == ["S1"]
    assert result.dataset["same_store"] == {"S01": 1}


def days_of_store(store: str, first: int, last: int, seed: int = 0, pieces: int = 40) -> list[str]:
    "Five lines a day of one store in May 2022, other lines for another seed."
    lines = []
    rng = np.random.default_rng([seed, ord(store[1])])
    for day in range(1, 32):
        sold = rng.integers(1, pieces, 5)
        lines_of_day = [f"{store},5/{day}/2022,Montréal,Coffee,{n},2.50,{n * 2.5:.2f},Hot,Yes,False" for n in sold]
        lines += lines_of_day if first <= day <= last else []
    return lines


def repeated_lines(read, **files: list[str]) -> list[tuple]:
    "The repeated lines found in files with these lines: month, letters of the files, number, stores."
    for name, lines in files.items():
        (read.data).mkdir(exist_ok=True)
        (read.data / f"till_{name}.csv").write_text(csv_text(*lines))
    pairs = read(None, name="till_*.csv").dataset["repeated"]
    return [
        (pair["month"], "".join(file[5] for file in pair["files"]), pair["repeated"], pair["stores"]) for pair in pairs
    ]


@pytest.mark.parametrize(
    "second, expected",
    [
        (days_of_store("S1", 1, 31) + days_of_store("S2", 1, 31, seed=2), [("2022-05", "ab", 155, ["S1"])]),
        (days_of_store("S1", 28, 31), [("2022-05", "ab", 20, ["S1"])]),  # days that overlap
        (
            days_of_store("S1", 28, 31)[:18] + days_of_store("S1", 28, 31, seed=2, pieces=9000)[18:],
            [("2022-05", "ab", 18, ["S1"])],
        ),  # corrected
        (days_of_store("S2", 1, 31), []),  # another store
        (days_of_store("S1", 1, 31, seed=2), []),  # another till
        (days_of_store("S1", 1, 1), []),  # too few lines
    ],
    ids=["a month", "four days", "four days, corrected", "another store", "another till", "a day"],
)
def test_lines_that_two_files_share_are_reported_beyond_chance(read, second, expected):
    first = days_of_store("S1", 1, 31)
    assert (
        repeated_lines(read, a=first, b=[*second, "S3,5/1/2022,Montréal,Coffee,1,2.50,2.50,Hot,Yes,False"]) == expected
    )


def test_two_tills_with_similar_lines_are_not_reported_as_repeated(read):
    # given two tills with lines of one, two or three pieces
    tills = {name: days_of_store("S1", 1, 31, seed, pieces=4) for name, seed in (("a", 1), ("b", 2))}
    assert repeated_lines(read, **tills) == []
    # when one of them is delivered twice / then it is found
    assert repeated_lines(read, c=[*tills["b"], *days_of_store("S2", 3, 3)]) == [("2022-05", "bc", 155, ["S1"])]


def test_three_files_are_compared_two_by_two(read):
    lines = days_of_store("S1", 1, 31)
    pairs = repeated_lines(read, a=lines, b=lines + days_of_store("S2", 1, 1), c=lines + days_of_store("S3", 1, 1))
    assert [(files, n) for _, files, n, _ in pairs] == [("ab", 155), ("ac", 155), ("bc", 155)]


def test_the_largest_lines_keep_their_file_and_line(read):
    # given seven lines of a month, and one of the next
    lines = [
        f"S1,5/{n}/2022,Montréal,Coffee,{q},2.50,{q * 2.5:.2f},Hot,Yes,False"
        for n, q in enumerate([3, 9, 2, 80, 1, 7, 5], 1)
    ]
    result = read(csv_text(*lines, "S1,6/1/2022,Montréal,Coffee,4,2.50,10.00,Hot,Yes,False"))
    rows = pq.read_table(result.paths.largest).to_pylist()
    # then the five largest are named with file and line
    assert sorted((int(row["quantity_sold"]), row["line"]) for row in rows) == [
        (3, 2),
        (4, 9),
        (5, 8),
        (7, 7),
        (9, 3),
        (80, 5),
    ]
    assert {row["file"] for row in rows} == {"till.csv"} and {row["month"].month for row in rows} == {5, 6}
    # and with the file only, if the query does not yield the line
    result = read(csv_text(*lines), sql=SQL.replace(", _file, _line", ""))
    assert {(row["file"], row["line"]) for row in pq.read_table(result.paths.largest).to_pylist()} == {
        ("till.csv", None)
    }


# -- what the report shows


def test_a_source_without_bad_rows_says_so(read):
    result = read(csv_text(*LINES))
    quarantine = pd.DataFrame(columns=["table", "file", "line", "column", "reason", "row", "value"])
    sentence = ingest_sentence(result.dataset, quarantine)
    assert sentence == "4 sale lines of 2 stores in January 2022 are good; no row was set aside."
    assert file_table(result.dataset).rows == [["till.csv", "till", "4", "4", "0"]]
    assert reason_table(quarantine).values == bad_row_table(quarantine).values == {"Rows set aside": "none"}


def test_one_line_of_one_store_is_in_the_singular(read):
    dataset = read(csv_text(LINES[0])).dataset
    assert ingest_sentence(dataset, pd.DataFrame(columns=["column", "reason"])).startswith("1 sale line of 1 store in ")
    assert dataset_facts(dataset).values["Last day"] == "5 January 2022"


def test_a_row_that_is_set_aside_is_found_by_its_file_and_line_and_not_shown_whole(read):
    # given a line with another separator of thousands, so that it has one field too many
    result = read(csv_text(*LINES, LINES[0].replace("7.50", "7,50"), LINES[1].replace("3.25,3.25", "-3.25,-3.25")))
    quarantine = pd.DataFrame(result.quarantine)
    # then the report says where it is and what is wrong
    table = bad_row_table(quarantine.assign(value=["", "-3.25"]))
    assert [row[:4] for row in table.rows] == [["till.csv", "6", "–", "–"], ["till.csv", "7", "price", "-3.25"]]
    assert not any(LINES[0][:20] in value for row in table.rows for value in row)
    sentence = ingest_sentence(result.dataset, quarantine)
    assert sentence.endswith("2 rows (33.3%) were set aside, for 2 reasons.")
