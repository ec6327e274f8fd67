"Sale lines in one file a month."

import ibis
import pandas as pd
import pyarrow as pa
import pytest

from brewcast.common.core import write_parquet
from brewcast.data.partitions import month_files, open_sale_lines, partitions_hash

MONTHS = {"2023-12": ["S1", "S2"], "2024-01": ["Š3"], "2024-10": []}


@pytest.fixture
def folder(tmp_path):
    for month, stores in reversed(MONTHS.items()):
        write_parquet(pa.table({"store_id": pa.array(stores, pa.string())}), tmp_path / f"{month}.parquet")
    (tmp_path / "notes.txt").write_text("not a month")
    return tmp_path


def test_months_are_in_order_of_time(folder):
    assert [*month_files(folder)] == [*MONTHS]
    assert month_files(folder)["2024-01"] == folder / "2024-01.parquet"


def test_a_folder_without_months_names_the_stage(tmp_path):
    for empty in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="build the stage 'ingest' again"):
            month_files(empty)
        if empty.exists():
            with pytest.raises(ValueError, match="has no sale lines"):
                open_sale_lines(empty)


def test_a_folder_a_file_and_a_table_are_the_same_lines(folder):
    whole = pd.DataFrame({"store_id": [store for stores in MONTHS.values() for store in stores]})
    one_file = write_parquet(pa.Table.from_pandas(whole), folder.parent / "one.parquet")
    ways = [folder, str(folder), one_file, whole, pa.Table.from_pandas(whole), ibis.memtable(whole)]
    for way in ways:
        assert sorted(open_sale_lines(way).to_pandas().store_id) == sorted(whole.store_id)


def test_one_hash_of_all_months():
    partitions = {"2024-01": {"rows": 1, "sha256": "a" * 64}, "2024-02": {"rows": 2, "sha256": "b" * 64}}
    whole = partitions_hash(partitions)
    assert len(whole) == 64 and partitions_hash(dict(reversed(partitions.items()))) == whole
    changed = partitions | {"2024-02": {"rows": 2, "sha256": "c" * 64}}
    renamed = {"2024-01": partitions["2024-01"], "2024-03": partitions["2024-02"]}
    fewer = {"2024-01": partitions["2024-01"]}
    assert len({whole, *map(partitions_hash, (changed, renamed, fewer))}) == 4
