"Displays: a notebook shows answers, tables and facts as a reader sees them, and their text as a terminal does."

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from brewcast.common.displays import Answer, Column, Facts, report_table
from brewcast.workflow.report import first_answer

CELLS = [
    "from brewcast.common.displays import *",
    "Answer('5 of 6 stores <are> open.')",
    "Facts('The till files.', {'Stores': '6'})",
]


@pytest.fixture(scope="module")
def executed():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    return NotebookClient(notebook, kernel_name="python3").execute()


def test_the_answer_is_found_after_the_notebook_was_saved(executed, tmp_path):
    nbformat.write(executed, tmp_path / "executed.ipynb")
    assert first_answer(nbformat.read(tmp_path / "executed.ipynb", 4).cells) == "5 of 6 stores <are> open."


def test_a_kernel_shows_html_with_escaped_text_and_plain_text(executed):
    answer, facts = (cell.outputs[0]["data"] for cell in executed.cells[1:])
    assert "&lt;are&gt;" in answer["text/html"] and answer["text/plain"] == "5 of 6 stores <are> open."
    assert "<dl>" in facts["text/html"] and facts["text/plain"] == "Stores: 6"


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (None, "percent", "–"),
        (float("nan"), "amount", "–"),
        (pd.NaT, "month", "–"),
        (pd.Timestamp("2025-12-01"), "month", "Dec 2025"),
        (-0.0041, "signed", "−0.4%"),
        (0, "amount", "0"),
        ("None", "text", "None"),
    ],
)
def test_each_form_of_a_value(value, form, shown):
    table = pd.DataFrame({"store": ["S1"], "value": pd.Series([value], dtype=object)})
    assert report_table(table, "A value.", {"store": "Store", "value": Column("Value", form)}).rows == [["S1", shown]]


def test_an_empty_table_has_headings_and_no_rows():
    table = report_table(pd.DataFrame({"store": []}), "No stores.", {"store": "Store"})
    assert table.rows == [] and "<tbody>" in table._repr_html_() and "Store" in str(table)


def test_facts_and_answers_are_values_that_compare():
    assert Answer("Good.") == Answer("Good.") != Answer("Bad.")
    assert Facts("", {"a": "1"}) == Facts("", {"a": "1"})
