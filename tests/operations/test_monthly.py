"Monthly runs of a small shop: killed and run again, corrected data, stopped data, late data, and a replay."

import csv
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import ROOT, commands, project_environment, small_project
from verdicts import make_month
from waits import wait_until

from brewcast.common.core import read_json, read_parquet
from brewcast.common.ledger import month_record_paths, read_ledger
from brewcast.common.parameter_types import Calendar
from brewcast.common.params import read_env
from brewcast.common.records import Decision
from brewcast.delivery.track_record import read_track_record
from brewcast.model.features import decision_time, open_series, store_month_as_of
from brewcast.operations.monthly import next_month_to_run

ENV = """
meta: {import_from: env.yaml}
source: shop
data: data/shop
floor: null
"""  # a build overwrites changed files of the simulated source, so this is another source

MONTH = ".venv/bin/python -m brewcast.cli month"  # `make` ends with 2 for any failure


class Till:
    "The shop's export: each change starts from the original lines."

    def __init__(self, path):
        self.path = path
        with open(path, newline="") as file:
            self.header, *self.lines = csv.reader(file)

    def write(self, change=None) -> None:
        "Write the lines. `change` gets each line as a dict and returns the new line, or None for a line that is late."
        with open(self.path, "w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(self.header)
            for line in self.lines:
                row = dict(zip(self.header, line, strict=True))
                if row := change(row) if change else row:
                    rows.writerow(list(row.values()))


def number(text: str, times: float, digits: int = 2) -> str:
    return f"{float(text) * times:.{digits}f}"


def doubled(row: dict) -> dict:
    "A correction: STORE101 sold twice as much in November 2022."
    if row["STOREID"] == "STORE101" and row["DATE"].startswith("2022-11"):
        return row | {
            "QUANTITYSOLD": number(row["QUANTITYSOLD"], 2, 0),
            "TOTALSALE": number(row["TOTALSALE"], 2),
        }
    return row


def in_cents(row: dict) -> dict:
    "A broken till: May's prices are in cents."
    row = doubled(row)
    if row["DATE"].startswith("2023-05"):
        return row | {"PRICE": number(row["PRICE"], 100), "TOTALSALE": number(row["TOTALSALE"], 100)}
    return row


def corrected_may_without_june(row: dict) -> dict | None:
    "A correction of the current month, for STORE102 in May, while the lines of June are still missing."
    row = doubled(row)
    if row["DATE"] >= "2023-06":
        return None
    if row["STOREID"] == "STORE102" and row["DATE"].startswith("2023-05"):
        return row | {"QUANTITYSOLD": number(row["QUANTITYSOLD"], 2, 0), "TOTALSALE": number(row["TOTALSALE"], 2)}
    return row


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "A project whose data ends in June 2023. The tests of this file use it one after the other, in their order."
    root = small_project(tmp_path_factory.mktemp("a year") / "brewcast", months=30, stores=10, lines=30_000)
    (root / "env.shop.yaml").write_text(ENV)
    (root / "data/simulated").rename(root / "data/shop")
    state = root / "state/shop"
    read = lambda name: read_json(root / "products/shop" / name)  # noqa: E731
    return SimpleNamespace(
        root=root,
        state=state,
        run=commands(root),
        read=read,
        till=Till(root / "data/shop/globojava.csv"),
        records=lambda: read_track_record(month_record_paths(state)),
        alerts=lambda: [read_json(path) for path in sorted((state / "alerts").glob("*.json"))],
    )


def test_the_first_month(shop):
    done = shop.run("make month SOURCE=shop THROUGH=2023-03", timeout=900)
    assert re.search(r"(?m)^2023-03  no forecast of this month had served; ", done.out)
    (entry,), (record,) = read_ledger(shop.state), shop.records()
    assert entry.cutoff == "2023-03-31" and record.status == "published"
    # no data from the future was read
    assert read_parquet(shop.root / "products/shop/ingest/sales").date.max() == pd.Timestamp("2023-03-31")
    assert shop.read("ingest/dataset.json")["rows_not_yet"] > 0
    assert read_parquet(shop.root / "products/shop/ingest/plan.parquet").published.max() <= pd.Timestamp("2023-03-31")
    # a month that is done is not run again
    again = shop.run("make month SOURCE=shop THROUGH=2023-03")
    assert "nothing to do: 2023-03 is published" in again.err and len(shop.records()) == 1


def test_a_month_killed_after_its_publication_is_completed_and_published_once(shop):
    # given a correction of an old month, and a run that is killed between the ledger entry and the record
    shop.till.write(doubled)
    command = [".venv/bin/python", "-m", "brewcast.cli", "month", "--source", "shop"]
    step = subprocess.Popen(command, cwd=shop.root, env=project_environment(shop.root), start_new_session=True)
    wait_until(lambda: len(read_ledger(shop.state)) >= 2, "published", step, patience=600)
    os.killpg(step.pid, signal.SIGKILL)
    step.wait()
    killed = len(shop.records())
    # when it is run again
    done = shop.run("make month SOURCE=shop")
    # then that month is completed, and no other is started
    assert killed == 1 and done.out.startswith("2023-04  off by ")
    ledger, records = read_ledger(shop.state), shop.records()
    assert [entry.cutoff for entry in ledger if entry.action == "publish"] == ["2023-03-31", "2023-04-30"]
    assert [record.month for record in records] == ["2023-03", "2023-04"]
    assert records[1].build_key == ledger[1].build_key and not (shop.state / "months/.doing").exists()
    # and its record has the error of the served forecast, beside each baseline
    assert set(records[1].errors) == {"served", "last_month", "mean_of_3", "same_month_last_year", "seasonal"}
    assert 0 < records[1].errors["served"] < 1 and records[1].n > 5
    assert all((shop.root / path).exists() for path in records[1].reports.values())


def test_a_correction_is_known_from_its_ingest_on_and_served(shop):
    features = shop.root / "products/shop/features"
    calendar = Calendar.model_validate(read_env(shop.root, "env.shop.yaml")["calendar"])
    known = read_parquet(features / "known.parquet")
    versions = known[(known.series_id == "STORE101") & (known.month == "2022-11-01")]
    noticed = decision_time(pd.Series([pd.Timestamp("2023-04-01")]), calendar)[0]
    assert versions.created.tolist()[1:] == [noticed]
    first, second = versions.quantity_sold
    assert second == 2 * first
    assert not store_month_as_of(known).equals(store_month_as_of(known, noticed))
    # the forecast of March was made without it, and the feature tables still have its rows
    history = read_parquet(features / "history.parquet")
    first, last = (shop.state / "releases" / entry.release / "online.parquet" for entry in read_ledger(shop.state)[:2])

    def row(release: Path, event: str, version: int) -> tuple[float, float]:
        rows = history[(history.series_id == "STORE101") & (history.event_timestamp == pd.Timestamp(event, tz="UTC"))]
        return read_parquet(release).set_index("series_id").log_level["STORE101"], rows.log_level.iloc[version]

    served, on_file = row(first, "2023-03-31", 0)
    assert served == on_file
    # the current release has the latest version of the rows; a new forecast of March would differ
    served, on_file = row(last, "2023-04-30", -1)
    assert served == on_file
    assert row(first, "2023-03-31", 0) != row(first, "2023-03-31", -1)
    assert open_series(history, pd.Timestamp("2023-04-30")) == sorted(read_parquet(last).series_id)
    # and a replay of an earlier cutoff trains on the outcome known then
    outcomes = read_parquet(features / "outcomes.parquet").set_index(["series_id", "month"])
    restated = outcomes.loc[("STORE101", pd.Timestamp("2022-11-01"))]
    assert restated.known_from == pd.Timestamp("2023-04-30") and restated.actual == 2 * restated.actual_first


def test_bad_data_is_stopped_and_the_current_release_keeps_serving(shop):
    before = read_ledger(shop.state)
    shop.till.write(in_cents)
    done = shop.run(f"{MONTH} --source shop", fails=True)
    assert done.status == 3 and "shop: stopped, status 3 (" in done.err
    assert "2023-05  " in done.out and "STOPPED, nothing was published" in done.out
    assert read_ledger(shop.state) == before
    decision = Decision.read(shop.root / "products/shop/monitor/decision.json")
    record = shop.records()[-1]
    assert decision.rule == "bad_data" and not decision.retrain and not decision.trusted
    stops = {finding.check for finding in record.findings if finding.level == "stop"}
    assert record.status == "stopped" and "unit_shift" in stops and not record.alarm
    assert [a["severity"] for a in shop.alerts() if a["name"] == "data_quality" and a["status"] == "firing"] == [
        "critical"
    ]
    # a manual publish is refused too, with the way out
    refused = shop.run("make publish SOURCE=shop", fails=True)
    assert "not trusted" in refused.err and "quality.accept" in refused.err
    assert read_ledger(shop.state) == before
    # and page, table and summary say so, without a number to order by; the track record has this month with one stop
    page = (shop.root / "products/shop/forecast/month.html").read_text()
    assert "<h1>STOPPED: no forecast of June 2023</h1>" in page
    assert re.search(r'class="step">(.*?)</th>', page[page.index('id="track-record"') :])[1] == "May 2023"
    assert "In 3 months: data stopped 1, " in page
    with open(shop.root / "products/shop/forecast/forecast.csv", newline="", encoding="utf-8-sig") as file:
        ahead = [row for row in csv.DictReader(file) if row["month"] == "2023-06-01"]
    assert ahead and {(row["kind"], row["quantity"], row["upper"]) for row in ahead} == {("stopped", "", "")}
    summary = shop.run("make summary SOURCE=shop").out
    assert summary.startswith("shop: STOPPED. THERE IS NO FORECAST FOR 2023-06")


def test_corrected_data_is_published_and_the_page_has_the_track_record(shop):
    shop.till.write(doubled)
    shop.run("make month SOURCE=shop")
    records = shop.records()
    assert [(r.month, r.status) for r in records[-2:]] == [("2023-05", "stopped"), ("2023-05", "published")]
    assert not [a for a in shop.alerts() if a["name"] == "data_quality" and a["status"] == "firing"]
    page = (shop.root / "products/shop/forecast/month.html").read_text()
    assert (
        'id="track-record"' in page and "data stopped" in page and "2023-04" not in page.split('id="track-record"')[0]
    )


def test_an_incomplete_month_waits_and_corrections_are_served(shop):
    # given a correction of May, while June is missing
    served = read_ledger(shop.state)[-1]
    assert served.cutoff == "2023-05-31"
    shop.till.write(corrected_may_without_june)
    # when June is requested
    done = shop.run(f"{MONTH} --source shop --through 2023-06", fails=True)
    # then it waits, says why, and the correction is served
    assert done.status == 1 and "shop: waiting, status 1 (" in done.err
    assert done.out.startswith("2023-06  waiting: ") and "the data ends on 2023-05-31" in done.out
    assert "corrected sale lines of the month before are published" in done.out
    assert [a["subject"] for a in shop.alerts() if a["name"] == "data_late"] == ["freshness"]
    now = read_ledger(shop.state)[-1]
    assert (now.cutoff, now.release != served.release) == ("2023-05-31", True)
    old, new = (read_parquet(shop.state / "releases" / e.release / "online.parquet") for e in (served, now))
    old, new = (table.set_index("series_id").rate_last for table in (old, new))
    assert new["STORE102"] == pytest.approx(2 * old["STORE102"]) and new["STORE101"] == old["STORE101"]
    # and the next run can start
    assert not (shop.state / "months/.doing").exists()
    assert next_month_to_run(shop.state) == "2023-06"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([], 0),
        (["published"], 0),
        (["stopped", "published"], 0),
        (["published", "waiting"], 1),
        (["stopped"], 3),
        ([RuntimeError("train failed")], 4),
        ([ConnectionRefusedError("MLflow does not answer")], 75),
        (["published", KeyboardInterrupt()], 130),
    ],
)
def test_each_result_of_a_month_has_its_exit_status(toy, brewcast, monkeypatch, statuses, status):
    def work(*_):
        for each in statuses:
            if isinstance(each, BaseException):
                raise each
            yield make_month("2023-05", status=each)

    monkeypatch.setattr("brewcast.operations.monthly.run_months", work)
    monkeypatch.setattr("brewcast.operations.monthly.month_line", lambda record: record.status)
    assert brewcast("month --source near", fails=status != 0).status == status
    # and for a scheduler that counts failures, waiting alone is none
    expected = 0 if status == 1 else status
    assert brewcast("month --source near --waiting-ok", fails=expected != 0).status == expected
    refused = brewcast("month --thru 2023-05", fails=True)
    # and the table in the documentation has exactly these
    documented = re.findall(r"(?m)^\| (\d+) \|", (ROOT / "docs/pages/month.md").read_text())
    assert sorted(map(int, documented)) == [0, 1, refused.status, 3, 4, 75, 130] and str(status) in documented


def test_an_invalid_request_is_refused(shop):
    done = shop.run(f"{MONTH} --source shop --through June", fails=True)
    assert "'June' is not a month" in done.err and done.status == 4
    assert "is not a parameter" in shop.run("make month SOURCE=shop trian.seed=1", fails=True).err


def test_a_replay_does_not_change_what_serves_and_gives_the_same_result(shop):
    served = (read_ledger(shop.state), shop.records())
    done = shop.run("make replay SOURCE=shop SINCE=2023-03 THROUGH=2023-03")
    assert served == (read_ledger(shop.state), shop.records())
    (record,) = json.loads((shop.root / "products/shop/replay/months.json").read_text())
    first = served[1][0]
    assert record["month"] == "2023-03" and record["verdict"]["verdict"] == first.verdict.verdict
    assert "2023-03" in done.out and (shop.root / "products/shop/replay/replay.html").exists()
    # it continues where it was: a second call has nothing to do
    again = shop.run("make replay SOURCE=shop SINCE=2023-03 THROUGH=2023-03")
    assert "nothing to do" in again.err
