"A file of stores in, a file of forecasts out: the same answers as over HTTP, every line or none."

import csv
import os
import shutil
import subprocess
import sys

import pytest
from clients import application, post
from releases import FOREST, ROOT, SEASONAL, lay_release, lay_settings

from brewcast.registry.ledger_writer import append_entry
from brewcast.serving.batch import PLANNED, forecast_file
from brewcast.serving.traffic import place_of

STORES = [f"STORE{101 + i}" for i in range(12)]
PLAN = {"promotion_share": 0.3, "holidays": 2}  # the first four stores have no plan of promotions


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "A project in which a forest serves, and a seasonal baseline answers some of the stores."
    root = tmp_path_factory.mktemp("shop")
    state = root / "state/shop"
    champion, challenger = lay_release(state, FOREST), lay_release(state, SEASONAL)
    append_entry(state, {"release": champion, "challenger": {"release": challenger}, "share": 40})
    lay_settings(root)
    return root


@pytest.fixture
def forecast(shop, tmp_path):
    "A function that has a batch's text forecast, and gives the rows that were written."

    def run(content: str | bytes, to=None) -> list[dict]:
        path = tmp_path / "stores.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with forecast_file("shop", path, to, shop)["file"].open(newline="") as file:
            return list(csv.DictReader(file))

    run.path = tmp_path / "stores.csv"
    return run


def numbers(row: dict) -> dict:
    "A line of the file as JSON has it, without what was planned."
    told = {name: value for name, value in row.items() if name not in PLANNED}
    return told | {name: float(told[name]) for name in ("forecast", "lower", "upper")}


def test_a_batch_is_answered_as_the_service_answers_each_of_its_lines(forecast, shop, tmp_path):
    # given all stores backwards, one of them again with another plan, and some stores with two things planned
    lines = [(store, {}) for store in reversed(STORES)] + [(store, PLAN) for store in STORES[4:8]]
    lines += [(STORES[5], {"promotion_share": 0.9}), (STORES[5], {})]
    text = "holidays,store_id,promotion_share\n"
    text += "".join(f"{plan.get('holidays', '')},{s},{plan.get('promotion_share', '')}\n" for s, plan in lines)
    # when they are forecast as a file, and by a service that follows the same ledger
    rows = forecast(text)
    with application(tmp_path / "none", tmp_path, state=shop / "state/shop") as service:
        asked = [post(service.port, {"store_ids": [store]} | ({"plan": plan} if plan else {})) for store, plan in lines]
    # then every line has the same answer, to the last digit, beside what was planned
    assert [status for status, _ in asked] == [200] * len(lines)
    assert [numbers(row) for row in rows] == [answer for _, (answer,) in asked]
    assert [{name: float(row[name]) for name in PLANNED if row[name]} for row in rows] == [plan for _, plan in lines]
    # and the challenger answered its share, but nothing planned, for it looks at no plan
    planless = {row["store_id"]: row["model_version"] for row in rows[:12]}
    assert len(set(planless.values())) == 2
    assert len({planless[store] for store in STORES if place_of(store) < 40}) == 1
    assert len({row["model_version"] for row in rows if row["promotion_share"]}) == 1


def test_what_a_spreadsheet_saves_is_read(forecast):
    plain = forecast("store_id,price\nSTORE105,\nSTORE106,\n")
    assert forecast('"store_id","price"\r\n"STORE105",""\r\n"STORE106",\r\n'.encode("utf-8-sig")) == plain
    assert forecast("store_id,price\n\nSTORE105,\n\nSTORE106,") == plain


WRONG = {  # a batch's text, and what the error says
    "no store_id": ("store,price\nSTORE101,1\n", "has 'store', 'price'; a batch has store_id"),
    "a column twice": ("store_id,price,price\nSTORE101,1,2\n", "a batch has store_id"),
    "empty": ("", "has no header"),
    "a header alone": ("store_id\n", "has a header and no lines"),
    "an unknown store": ("store_id\nSTORE101\nNOWHERE\n", "1 of 2 lines get no forecast, first line 3: 'NOWHERE'"),
    "no store in a line": ("store_id,price\nSTORE101,\n,3\n", "1 of 2 lines cannot be read, first line 3: store_id"),
    "a word": ("store_id,holidays\nSTORE101,1\nSTORE102,many\n", "first line 3: holidays"),
    "half a holiday": ("store_id,holidays\nSTORE101,0.5\n", "first line 2: holidays"),
    "a number for people": ("store_id,price\nSTORE101,1_000\n", "first line 2: price"),
    "one value too many": ("store_id,price\nSTORE101,1,2\n", "first line 2: one value too many"),
    "NaN": ("store_id,promotion_share\nSTORE105,nan\n", "first line 2: plan.promotion_share"),
    "a share above one": ("store_id,promotion_share\nSTORE105,1.5\n", "first line 2: plan.promotion_share"),
    "a store without a plan": (
        "store_id,promotion_share\nSTORE105,0.5\nSTORE101,0.5\n",
        "plan.promotion_share: 'STORE101' has no such plan for 2024-05-01",
    ),
    "a quote that is never closed": ('store_id\nSTORE101\n"STORE102\nSTORE103\n', "cannot be read from line"),
    "Latin-1": ("store_id\nCafé\n".encode("latin-1"), "byte 12 is no UTF-8"),
}


@pytest.mark.parametrize("content, said", WRONG.values(), ids=WRONG)
def test_a_batch_with_one_wrong_line_is_refused_by_its_place_and_what_was_there_stays(forecast, content, said):
    # given forecasts of before
    target = forecast.path.with_suffix(".forecast.csv")
    target.write_text("of before")
    # when a batch is wrong, then the file and the first line are named, and nothing is written over
    with pytest.raises(ValueError) as refusal:
        forecast(content)
    assert str(refusal.value).startswith(f"{forecast.path}: ") and said in str(refusal.value)
    assert target.read_text() == "of before"
    assert sorted(path.name for path in target.parent.iterdir()) == ["stores.csv", "stores.forecast.csv"]


def test_forecasts_are_never_written_over_their_batch_or_into_a_folder(forecast, tmp_path):
    (tmp_path / "same.csv").symlink_to("stores.csv")
    for to in (forecast.path, tmp_path / "same.csv", tmp_path):
        with pytest.raises(ValueError, match="name another file for the forecasts"):
            forecast("store_id\nSTORE101\n", to)
    assert forecast.path.read_text() == "store_id\nSTORE101\n"


def test_the_command_forecasts_a_file_and_says_by_which_release_or_why_not(shop, tmp_path):
    (tmp_path / "stores.csv").write_text("store_id\nSTORE105\n")

    def brewcast(root):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "BREWCAST_ROOT": str(root)}
        line = [sys.executable, "-m", "brewcast.cli", "forecast", str(tmp_path / "stores.csv"), "--source", "shop"]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    # given a project in which something serves
    done = brewcast(shop)
    assert done.returncode == 0 and "stores.forecast.csv: 1 forecast by " in done.stdout, done.stderr
    (row,) = csv.DictReader((tmp_path / "stores.forecast.csv").open())
    assert row["store_id"] == "STORE105" and float(row["lower"]) < float(row["forecast"]) < float(row["upper"])
    # given one in which nothing does
    empty = shutil.copytree(shop, tmp_path / "empty", ignore=shutil.ignore_patterns("state"))
    done = brewcast(empty)
    assert done.returncode and "nothing is published yet" in done.stderr and "Traceback" not in done.stderr
