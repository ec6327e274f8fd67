"Forecasts for a file of stores: the same answers as over HTTP. Wrong lines go to a file of rejects."

import csv
import os
import shutil
import subprocess
import sys

import pytest
from clients import post, run_application
from releases import FOREST, ROOT, SEASONAL, add_release, ledger_entry, ledger_release, write_settings

from brewcast.registry.ledger_writer import append_entry
from brewcast.serving.batch import PLAN_TYPES, forecast_file
from brewcast.serving.traffic import traffic_bucket

STORES = [f"STORE{101 + i}" for i in range(12)]
PLAN = {"promotion_share": 0.3, "holidays": 2}  # the first four stores have no plan of promotions


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "A project with a forest as champion, and a seasonal baseline as challenger for some of the stores."
    root = tmp_path_factory.mktemp("shop")
    state = root / "state/shop"
    champion, challenger = add_release(state, FOREST), add_release(state, SEASONAL)
    append_entry(state, ledger_entry(champion, FOREST, challenger=ledger_release(challenger), share=40))
    write_settings(root)
    return root


@pytest.fixture
def forecast(shop, tmp_path):
    "A function that forecasts the text of a batch, and returns the rows that were written."

    def run(content: str | bytes, to=None) -> list[dict]:
        path = tmp_path / "stores.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with forecast_file("shop", path, to, shop).file.open(newline="") as file:
            return list(csv.DictReader(file))

    run.path = tmp_path / "stores.csv"
    return run


def numbers(row: dict) -> dict:
    "A line of the file with the types of the JSON answer, without the overrides."
    answer = {name: value for name, value in row.items() if name not in PLAN_TYPES}
    return answer | {name: float(answer[name]) for name in ("forecast", "lower", "upper")}


def test_a_batch_gets_the_same_answers_as_requests_to_the_service(forecast, shop, tmp_path):
    # given all stores in reverse order, some stores with two overrides, and one store with other plans
    lines = [(store, {}) for store in reversed(STORES)] + [(store, PLAN) for store in STORES[4:8]]
    lines += [(STORES[5], {"promotion_share": 0.9}), (STORES[5], {})]
    text = "holidays,store_id,promotion_share\n"
    text += "".join(f"{plan.get('holidays', '')},{s},{plan.get('promotion_share', '')}\n" for s, plan in lines)
    # when a batch and a service with the same ledger forecast them
    rows = forecast(text)
    with run_application(tmp_path / "none", tmp_path, state=shop / "state/shop") as service:
        responses = [
            post(service.port, {"store_ids": [store]} | ({"plan": plan} if plan else {})) for store, plan in lines
        ]
    # then every line has the same answer, to the last digit, and its overrides
    assert [status for status, _ in responses] == [200] * len(lines)
    assert [numbers(row) for row in rows] == [answer for _, (answer,) in responses]
    assert [{name: float(row[name]) for name in PLAN_TYPES if row[name]} for row in rows] == [plan for _, plan in lines]
    # and the challenger answered its share, but no line with a plan, because it uses no plan
    without_plan = {row["store_id"]: row["model_version"] for row in rows[:12]}
    assert len(set(without_plan.values())) == 2
    assert len({without_plan[store] for store in STORES if traffic_bucket(store) < 40}) == 1
    assert len({row["model_version"] for row in rows if row["promotion_share"]}) == 1


def test_files_of_spreadsheets_are_read(forecast):
    plain = forecast("store_id,price\nSTORE105,\nSTORE106,\n")
    assert forecast('"store_id","price"\r\n"STORE105",""\r\n"STORE106",\r\n'.encode("utf-8-sig")) == plain
    assert forecast("store_id,price\n\nSTORE105,\n\nSTORE106,") == plain


INVALID_BATCHES = {  # a file's content, and a part of the error
    "no store_id": ("store,price\nSTORE101,1\n", "its header has 'store', 'price'; a batch has the columns store_id"),
    "an unknown column": ("store_id,weather\nSTORE101,1\n", "its header has 'store_id', 'weather'"),
    "semicolons": ("store_id;price\nSTORE101;1\n", "separated by commas"),
    "a column twice": ("store_id,price,price\nSTORE101,1,2\n", "a batch has the columns store_id"),
    "empty": ("", "has no header"),
    "blank lines alone": ("\n\n", "has no header"),
    "a header alone": ("store_id\n\n", "has a header but no lines"),
    "Latin-1": ("store_id\nSTORE101\nCafé\n".encode("latin-1"), "line 3 is not UTF-8"),
    "UTF-16": ("store_id\nSTORE101\n".encode("utf-16"), "line 1 is not UTF-8"),
}


@pytest.mark.parametrize("content, error", INVALID_BATCHES.values(), ids=INVALID_BATCHES)
def test_an_invalid_batch_is_refused_and_old_forecasts_stay(forecast, content, error):
    # given old forecasts
    target = forecast.path.with_suffix(".forecast.csv")
    target.write_text("old")
    # when the file is not a batch, then the error names it, and nothing is written
    with pytest.raises(ValueError) as refusal:
        forecast(content)
    assert str(refusal.value).startswith(f"{forecast.path}: ") and error in str(refusal.value)
    assert target.read_text() == "old"
    assert sorted(path.name for path in target.parent.iterdir()) == ["stores.csv", "stores.forecast.csv"]


def test_the_error_names_a_missing_file_or_a_folder(shop, tmp_path):
    with pytest.raises(ValueError, match="none.csv cannot be read: No such file or directory"):
        forecast_file("shop", tmp_path / "none.csv", None, shop)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="folder.csv cannot be read: Is a directory"):
        forecast_file("shop", tmp_path / "folder.csv", None, shop)


GOOD = "store_id,price,promotion_share,holidays\nSTORE105,,,\n"  # of each batch, in line 2
REJECTED = {  # more lines, and their rejects: (line, column, value, beginning of the reason)
    "an unknown store": ("NOWHERE,,,\n", [(3, "store_id", "NOWHERE", "is not open in 2024-05-01, or not a store")]),
    "a store with a blank": ("STORE106 ,,,\n", [(3, "store_id", "STORE106 ", "is not open")]),
    "no store": (",,,3\n", [(3, "store_id", "", "is required")]),
    "a word": ("STORE106,,,many\n", [(3, "holidays", "many", "must be a whole number")]),
    "half a holiday": ("STORE106,,,0.5\n", [(3, "holidays", "0.5", "must be a whole number")]),
    "a decimal comma": ('STORE106,,"0,5",\n', [(3, "promotion_share", "0,5", "must be a number")]),
    "a number with an underscore": ("STORE106,1_000,,\n", [(3, "price", "1_000", "must be a number")]),
    "one value too many": ("STORE106,,,,2\n", [(3, "", "2", "one value too many")]),
    "NaN": ("STORE106,,nan,\n", [(3, "promotion_share", "nan", "Input should be a finite number")]),
    "a share above one": ("STORE106,,1.5,\n", [(3, "promotion_share", "1.5", "Input should be less than or equal")]),
    "a source without prices": ("STORE106,3,,\n", [(3, "price", "3", "")]),
    "a store without a plan among others": (
        "STORE106,,.5,\nSTORE101,,.5,\nSTORE107,,.5,\nSTORE102,,.5,\nSTORE101,,.5,\n",
        [(line, "promotion_share", "0.5", f"'{s}' has no") for line, s in [(4, "STORE101"), (6, "STORE102"), (7, "STORE101")]],
    ),
    "two things at once": ("X,,2,x\n", [(3, "holidays", "x", "must be"), (3, "promotion_share", "2", "Input should be")]),
    "a quote that is never closed": ('"NOWHERE,,,\nSTORE106,,,\n', [(3, "", "", "cannot be read: unexpected end")]),
    "after blank lines": ("\n,,,\n\r\nNOWHERE,,,\n", [(6, "store_id", "NOWHERE", "is not open")]),
    "a line break in quotes": ('"NO\nWHERE",,,\nSTORE106,,,\n', [(3, "", "", "cannot"), (4, "store_id", 'WHERE"', "is")]),
}  # fmt: skip


@pytest.mark.parametrize("more, expected", REJECTED.values(), ids=REJECTED)
def test_wrong_lines_are_rejected_and_the_others_are_answered(forecast, shop, more, expected):
    # given an earlier batch with a wrong line, and now a batch with others
    forecast(GOOD + "OLD,,,\n")
    # when the batch is forecast
    rows = forecast(GOOD + more)
    # then the other lines have their answers, in order
    ids = [line.split(",")[0] for line in (GOOD + more).splitlines()]
    rejected_lines = {line for line, *_ in expected}
    answered = [store for i, store in enumerate(ids, 1) if store in STORES and i not in rejected_lines]
    assert [row["store_id"] for row in rows] == answered
    assert numbers(rows[0]) == numbers(forecast("store_id\nSTORE105\n")[0])
    # and the file of rejects has line, column, value and reason; the message counts lines
    forecast.path.write_text(GOOD + more, newline="")
    result = forecast_file("shop", forecast.path, None, shop)
    with result.rejects.open(newline="") as file:
        rejects = [(int(row["line"]), row["column"], row["value"], row["reason"]) for row in csv.DictReader(file)]
    assert [row[:3] for row in rejects] == [row[:3] for row in expected]
    assert [row[3].startswith(reason) for row, (*_, reason) in zip(rejects, expected, strict=True)] == [True] * len(
        expected
    )
    count = len(rejected_lines)
    assert (result.lines, result.rejected) == (len(answered), count)
    assert f"{count} of {len(answered) + count} lines rejected, first in line {expected[0][0]}: " in result.message
    assert str(result.rejects) in result.message


def test_a_batch_without_an_answer_is_an_error_and_old_forecasts_stay(forecast):
    target = forecast.path.with_suffix(".forecast.csv")
    target.write_text("old")
    with pytest.raises(
        ValueError, match="no line gets a forecast: 2 lines rejected, first in line 2: store_id 'NOWHERE'"
    ):
        forecast("store_id\nNOWHERE\nNOWHERE\n")
    assert target.read_text() == "old"
    assert (forecast.path.parent / "stores.forecast.rejects.csv").read_text().count("NOWHERE") == 2


def test_old_rejects_are_removed_if_a_batch_has_none(forecast):
    rejects = forecast.path.parent / "stores.forecast.rejects.csv"
    forecast("store_id\nSTORE101\nNOWHERE\n")
    assert rejects.exists()
    forecast("store_id\nSTORE101\n")
    assert not rejects.exists()


def test_old_forecasts_stay_if_new_ones_cannot_be_written(forecast, monkeypatch):
    # given old forecasts, and a disk that is full when the new ones are moved into place
    before = forecast("store_id\nSTORE101\n")

    def full(beside, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="stores.forecast.csv cannot be written: No space left on device"):
        forecast("store_id\nSTORE102\n")
    monkeypatch.undo()
    with forecast.path.with_suffix(".forecast.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == before
    assert len(list(forecast.path.parent.iterdir())) == 2


def test_forecasts_do_not_overwrite_their_batch_or_a_folder(forecast, tmp_path):
    (tmp_path / "same.csv").symlink_to("stores.csv")
    (tmp_path / "stores.rejects.csv").symlink_to("stores.csv")  # where --to stores.txt would have its rejects
    for to in (forecast.path, tmp_path / "same.csv", tmp_path, tmp_path / "stores.txt"):
        with pytest.raises(ValueError, match="name another file for the forecasts"):
            forecast("store_id\nSTORE101\n", to)
    assert forecast.path.read_text() == "store_id\nSTORE101\n"


def test_the_command_works_in_any_folder_and_its_exit_status_shows_rejects(shop, tmp_path):
    # given a batch in another folder, with a path relative to that folder
    (tmp_path / "stores.csv").write_text("store_id\nSTORE105\n")

    def brewcast(root, *more):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "BREWCAST_ROOT": str(root)}
        line = [sys.executable, "-m", "brewcast.cli", "forecast", "stores.csv", "--source", "shop", *more]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    # when every line is valid
    done = brewcast(shop)
    assert done.returncode == 0 and "stores.forecast.csv: 1 forecast by " in done.stdout, done.stderr
    (row,) = csv.DictReader((tmp_path / "stores.forecast.csv").open())
    assert row["store_id"] == "STORE105" and float(row["lower"]) < float(row["forecast"]) < float(row["upper"])
    # when one line is wrong
    (tmp_path / "stores.csv").write_text("store_id\nSTORE105\nNOWHERE\n")
    done = brewcast(shop, "--to", "out/answers.csv")
    assert done.returncode == 3 and "1 of 2 lines rejected, first in line 3: store_id 'NOWHERE'" in done.stdout, (
        done.stderr
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["answers.csv", "answers.rejects.csv"]
    # when every line is wrong
    (tmp_path / "stores.csv").write_text("store_id\nNOWHERE\n")
    done = brewcast(shop)
    assert done.returncode == 1 and "no line gets a forecast: 1 line rejected" in done.stderr
    # given a project in which nothing is published
    empty = shutil.copytree(shop, tmp_path / "empty", ignore=shutil.ignore_patterns("state"))
    done = brewcast(empty)
    assert done.returncode == 1 and "nothing is published yet" in done.stderr and "Traceback" not in done.stderr
