"Sample files: encodings, separators, headers and dates of files as companies export them."

import gzip

import pandas as pd
import pytest

from brewcast.data.sample_files import SAMPLE_BYTES, guess_date_format, guess_type, read_samples

HEADER = ["Datum", "Filiale", "Menge"]
ROWS = [[f"{day:02}.02.2024", name, str(day)] for day in range(1, 29) for name in ("Köln", "Łódź", "Москва")]


def table_text(rows: list[list[str]], delimiter: str = ";") -> str:
    return "\n".join(delimiter.join(row) for row in [HEADER, *rows]) + "\n"


@pytest.mark.parametrize(
    "encoding, name",
    [
        ("utf-8", "Köln"),
        ("utf-8-sig", "Łódź"),
        ("utf-16", "Москва"),
        ("utf-16-le", "Łódź"),
        ("cp1252", "Köln"),
        ("cp1250", "Żółta Łódź"),
        ("cp1251", "Москва"),
    ],
)
def test_text_is_read_in_its_encoding(tmp_path, encoding, name):
    # given a file in some encoding / when its sample is read
    path = tmp_path / "till.csv"
    path.write_bytes(table_text([[day, name, n] for day, _, n in ROWS]).encode(encoding))
    (sample,) = read_samples(path)
    # then its words are right, and the header has no mark
    assert list(sample.rows) == HEADER and set(sample.rows.Filiale) == {name}
    if encoding in ("cp1250", "cp1251", "utf-16-le"):
        assert sample.encoding == encoding
    else:
        assert sample.encoding is None


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(tmp_path, delimiter):
    path = tmp_path / "till.csv"
    path.write_text(table_text(ROWS, delimiter))
    (sample,) = read_samples(path)
    assert (sample.delimiter or ",") == delimiter and len(sample.rows) == len(ROWS)


@pytest.mark.parametrize(
    "pattern",
    [
        "%Y-%m-%d",
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%d.%m.%Y",
        "%Y%m%d",
        "%d %b %Y",
        "%B %d, %Y",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S.%f",
        "%m/%d/%Y %I:%M %p",
    ],
)
@pytest.mark.parametrize("days", ["2023-01-01:2024-12-31", "2024-03-01:2024-03-12"])
def test_dates_are_read_in_the_order_in_which_they_were_written(pattern, days):
    texts = pd.date_range(*days.split(":"), freq="D").strftime(pattern).tolist()
    assert guess_date_format(texts) == pattern


def test_mistakes_make_no_other_type():
    assert guess_type(["1", "2", "3"] * 40 + ["x", "n/a"]).kind == "integer"
    assert guess_type(["2024-01-02"] * 40 + ["soon"]).kind == "date"


def test_only_the_beginning_of_a_large_file_is_read(tmp_path):
    path = tmp_path / "till.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write(table_text(ROWS * 12_000))
    (sample,) = read_samples(path)
    assert not sample.is_whole and len(sample.rows) < SAMPLE_BYTES / 10
