"Queries that see one line at a time give the same for each file by itself; all others are named, with the reason."

import duckdb
import pytest
from conftest import ROOT

from brewcast.common.params import env_file, env_files, read_env
from brewcast.data.sale_query import is_one_to_many, line_tables, tables_of_query

LINES = "SELECT shop, _file, _line FROM "
JOINED = "SELECT shop, t._file, t._line FROM"
TABLES = ["till", "returns", "stores"]


@pytest.mark.parametrize(
    ("source", "tables"),
    [
        ("simulated", ["till"]),
        ("walmart", ["train"]),
        ("maven_market", ["returns", "transactions"]),
        ("dominicks_oj", ["weeks"]),
    ],
)
def test_the_queries_of_all_sources_are_read_file_by_file(source, tables):
    assert source in env_files(ROOT)
    names = [spec["name"] for spec in read_env(ROOT, env_file(ROOT, source))["files"]]
    assert line_tables((ROOT / f"sql/{source}.sql").read_text(), names) == (tables, "")


BY_LINE = [  # queries in which a line's result depends on no other line
    "FROM till",
    "FROM till SELECT shop, pieces * 2 AS pieces, _file, _line",
    "SELECT * EXCLUDE (pieces) FROM till",
    "SELECT * REPLACE (upper(shop) AS shop) FROM till",
    LINES + '"TILL" WHERE pieces > 2 ORDER BY day',
    LINES + "main.till WHERE list_sum([pieces, 1]) > 2",
    f"WITH t AS (FROM till), u AS (FROM t) {LINES} u",
    f"WITH till AS (FROM till WHERE pieces > 1) {LINES} till",
    f"{LINES} (SELECT * FROM till WHERE pieces > 1) AS t",
    f"{LINES} till UNION ALL {LINES} returns",
    f"{LINES} till UNION ALL BY NAME {LINES} returns",
    f"({LINES} till) UNION ALL ({LINES} returns)",
    f"{JOINED} till AS t JOIN stores USING (shop)",
    f"{JOINED} till AS t LEFT JOIN stores USING (shop)",
    f"{JOINED} stores JOIN till AS t USING (shop) WHERE city > 'C'",
    f"{JOINED} till AS t SEMI JOIN stores USING (shop)",
    f"{JOINED} till AS t ANTI JOIN stores USING (shop)",
    "SELECT t.shop, t._file, t._line FROM till AS t, stores AS s WHERE t.shop = s.shop",
    f"{JOINED} till AS t JOIN (SELECT shop, max(city) AS city FROM stores GROUP BY shop) AS s USING (shop)",
    f"{JOINED} till AS t JOIN (SELECT shop FROM returns GROUP BY shop) AS r USING (shop)",
    "SELECT shop, unnested, _file, _line FROM (SELECT *, pieces AS unnested FROM till)",
]
ALL_AT_ONCE = {  # query: what the reason says
    f"{LINES} till TABLESAMPLE 50 PERCENT": "SAMPLE",
    f"{LINES} till USING SAMPLE 3": "SAMPLE",
    f"{LINES} till LIMIT 3": "LIMIT",
    f"({LINES} till) LIMIT 3": "LIMIT",
    f"{LINES} till FETCH FIRST 3 ROWS ONLY": "LIMIT",
    f"{LINES} (FROM till LIMIT 3)": "LIMIT",
    f"{LINES} till OFFSET 3": "OFFSET",
    f"({LINES} till) OFFSET 3": "OFFSET",
    f"{LINES} till UNION ALL {LINES} returns LIMIT 3": "LIMIT",
    f"{LINES} till UNION ALL {LINES} returns OFFSET 3": "OFFSET",
    f"{LINES} till UNION {LINES} returns": "UNION without ALL",
    f"{LINES} till EXCEPT ALL {LINES} returns": "is no SELECT of a table",
    f"{LINES} till INTERSECT {LINES} returns": "is no SELECT of a table",
    "SELECT DISTINCT ON (shop) shop, _file, _line FROM till": "DISTINCT",
    f"WITH till AS (SELECT DISTINCT * FROM till) {LINES} till": "DISTINCT",
    f"{LINES} till GROUP BY ALL": "GROUP BY",
    f"{LINES} till HAVING count(*) > 2": "HAVING",
    f"{LINES} till QUALIFY row_number() OVER (PARTITION BY shop) = 1": "QUALIFY",
    "SELECT shop, rank() OVER w AS r, _file, _line FROM till WINDOW w AS (ORDER BY day)": "a window function",
    "SELECT shop, sum(pieces) FILTER (pieces > 1) AS pieces, _file, _line FROM till": "an aggregate function",
    "SELECT unnest([shop, shop]) AS shop, _file, _line FROM till": "unnest",
    f"{JOINED} till AS t WHERE EXISTS (FROM returns)": "a subquery",
    f"{JOINED} till AS t WHERE shop IN (SELECT shop FROM till)": "a subquery",
    f"{JOINED} till AS t RIGHT JOIN stores USING (shop)": "RIGHT JOIN",
    f"{JOINED} till AS t FULL JOIN stores USING (shop)": "FULL JOIN",
    f"{JOINED} stores LEFT JOIN till AS t USING (shop)": "LEFT JOIN",
    f"{JOINED} till AS t ASOF JOIN stores AS s ON t.shop >= s.shop": "ASOF JOIN",
    f"{JOINED} till AS t JOIN till AS other USING (shop)": "other lines of it",
    f"{JOINED} till AS t, (SELECT max(day) FROM till) AS last": "other lines of it",
    f"{JOINED} till AS t, LATERAL (SELECT max(day) FROM till) AS last": "no table and no subquery",
    f"WITH RECURSIVE r AS (FROM till UNION ALL FROM r) {LINES} r": "recursive",
    "PIVOT till ON shop USING sum(pieces)": "PIVOT",
    f"{LINES} read_csv('x.csv')": "no table of `files`",
    f"{LINES} other": "no table of `files`",
    "SELECT shop, _file FROM till": "does not pass on _file and _line",
    "SELECT shop, _line FROM till": "does not pass on _file and _line",
    "SELECT * EXCLUDE (_line) FROM till": "does not pass on _file and _line",
    "SELECT * REPLACE (7 AS _line) FROM till": "does not pass on _file and _line",
    "SELECT shop, _file, _line + 1 AS _line FROM till": "does not pass on _file and _line",
    "SELECT shop, _line AS _file, _file AS _line FROM till": "does not pass on _file and _line",
    "SELECT shop, r._file, t._line FROM till AS t JOIN returns AS r USING (shop)": "does not pass on _file and _line",
    "SELECT what no parser reads (": "cannot be parsed",
    "": "cannot be parsed",
}


def run(query: str, till: list[str], returns: list[str]) -> list[tuple]:
    "The rows of a query on the lines of some files."
    con = duckdb.connect()
    for name, files in (("till", till), ("returns", returns)):
        con.execute(f"CREATE TABLE {name} (shop VARCHAR, day DATE, pieces INT, _file VARCHAR, _line BIGINT)")
        for file in files:
            con.execute(f"""INSERT INTO {name} SELECT 'S' || (i * {ord(file[0]) - 95}) % 5, DATE '2024-01-01' + i::INT,
                (i * 7) % 4, '{file}', i + 2 FROM range(9) AS rows(i)""")
    con.execute(
        "CREATE TABLE stores AS FROM (VALUES ('S0', 'Accra'), ('S1', 'Delhi'), ('S3', 'Quito')) AS s(shop, city)"
    )
    return sorted(con.execute(query).fetchall(), key=str)


@pytest.mark.parametrize("query", BY_LINE)
def test_a_query_by_line_gives_the_same_file_by_file(query):
    # given a query that is read file by file
    tables, reason = line_tables(query, TABLES)
    assert (tables, reason) == (["returns", "till"] if "UNION" in query else ["till"], "")
    # when its lines are in two files, and each file is alone, with the tables that are looked up in whole
    files = {"till": ["a.csv", "b.csv"], "returns": ["c.csv", "d.csv"]}
    nothing = {table: [] if table in tables else files[table] for table in files}
    parts = [run(query, **nothing | {table: [file]}) for table in tables for file in files[table]]
    # then the rows are those of all files at once
    assert sorted(sum(parts, []), key=str) == run(query, **files) != []


@pytest.mark.parametrize("query", ALL_AT_ONCE)
def test_a_query_that_compares_lines_says_why(query):
    tables, reason = line_tables(query, TABLES)
    assert tables == [] and ALL_AT_ONCE[query] in reason


def test_names_of_tables_are_as_they_are_declared():
    assert line_tables("SELECT _file, _line FROM TILL", ["Till"]) == (["Till"], "")
    assert tables_of_query("WITH a AS (FROM Till) SELECT * FROM a JOIN stores USING (shop)") == {"a", "till", "stores"}


def test_rows_of_one_line():
    assert is_one_to_many(f"{LINES} (UNPIVOT till ON COLUMNS('^20') INTO NAME month VALUE pieces)")
    assert not any(is_one_to_many(query) for query in BY_LINE)
