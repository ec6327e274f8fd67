"New source, the draft: what is missing or doubtful is said, also of the small cases."

import tarfile
from pathlib import Path

import pytest
import yaml
from exports import CASES, LINES, PLAIN, SHARED, needs_shared, write_lines

from brewcast.data.new_source import sql_text
from brewcast.data.new_source_draft import draft_source, open_questions, timezone_of


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
