"The track record: which months count, which baseline was hardest to beat, and what the page says and draws."

import json
import re

import pandas as pd
import pytest
from verdicts import make_decision, make_month, make_verdict

from brewcast.common.core import write_json
from brewcast.common.records import DecisionResult, Finding, GateResult, MonthRecord
from brewcast.delivery.month_page import compare_with_previous, store_forecast_table
from brewcast.delivery.track_record import (
    EVENT_COLORS,
    evaluate_served_forecast,
    is_stopped,
    month_record,
    plot_track_record,
    read_track_record,
    served_error_table,
    track_record_page,
    track_record_section,
    track_record_sentences,
    track_record_through,
)
from brewcast.model.monitor import realised_errors
from brewcast.model.recipes import FEATURES, RATE_FEATURES

REFUSED = GateResult(verdict="refuse", rule="min_gain", reason="a gain of 0.2%, at least 1.0% needed", promoted=False)
PROMOTED = GateResult(verdict="promote", rule="better", reason="better in 9 of 12 months", promoted=True)
RETRAINED = DecisionResult(retrain=True, train_through="2023-01-01", rule="calendar", reason="it is time", trusted=True)
NOT_RETRAINED = RETRAINED.model_copy(update={"retrain": False, "reason": "it was trained a month ago"})
STOP = Finding(
    check="unit_shift", level="stop", where="price", text="price is 100 times what it was", figures={"month": "2023-05"}
)
WARN = Finding(check="few_lines", level="warn", where="S1", text="half as many lines as usual", figures={})


def record(month: str, served: float, **more) -> MonthRecord:
    "A record of a month, as `write_month_record` writes it."
    errors = {"served": served, "last_month": 0.2, "mean_of_3": 0.15, "same_month_last_year": None, "seasonal": 0.06}
    reports = {"drift": f"state/shop/{month}.html", "page": "month.html"}
    usual = {"errors": errors, "n": 12, "coverage": 0.8, "decision": RETRAINED, "verdict": REFUSED, "reports": reports}
    return make_month(month, **usual | more)


@pytest.fixture
def records(tmp_path):
    "Records as they are in state/: the first without outcomes; April is stopped, and published by a second record."
    contents = [
        record("2023-01", 0.05, errors=None),
        record("2023-02", 0.05, coverage=0.9),
        record("2023-03", 0.06, alarm=True, alarm_reason="errors rose to 9.1%", verdict=PROMOTED),
        record("2023-04", 5.0, status="stopped", findings=[STOP, WARN], coverage=0.0, decision=NOT_RETRAINED),
        record("2023-04", 0.04, findings=[WARN], coverage=0.6),
        record("2023-05", 0.07, decision=NOT_RETRAINED),
    ]
    paths = [write_json(content, tmp_path / f"{i}-{content.month}.json") for i, content in enumerate(contents)]
    return read_track_record(paths)


def test_the_sentences_count_better_and_equal_months(records):
    error, coverage, events = track_record_sentences(records)
    assert "an error of 5.5% on average over 4 months" in error and "(seasonal) 6.0%" in error
    assert error.endswith("better in 2 months, equal in 1.")
    # without the stopped record
    assert coverage == "77.5% of outcomes were inside the interval, 60.0% in Apr 2023."
    assert events == "In 5 months: data stopped 1, drift alarm 1, retrained 4, promoted 1, refused 4."


def test_the_picture_has_a_line_for_each_known_baseline_and_a_dot_for_each_event(records):
    # given the records, when they are drawn
    figure = plot_track_record(records)
    errors, events = figure.axes
    # then the served forecast has the strongest line, on top; a baseline without any error has no line
    assert [text.get_text() for text in errors.texts] == [
        "last month",
        "3-month mean",
        "seasonal",
        "served forecast",
    ]
    widths = [line.get_linewidth() for line in errors.lines[:4]]
    assert widths.index(max(widths)) == 3 and max(widths) > widths[0]
    # and each event has a dot in each of its months, on a line of its own with its name
    months = {event: line.get_xdata().tolist() for event, line in zip(EVENT_COLORS, events.lines, strict=True)}
    assert [len(dots) for dots in months.values()] == [1, 1, 4, 1, 4]  # each month once
    assert months["drift alarm"] == months["promoted"] != months["data stopped"]  # March; April is stopped
    assert [name.get_text() for name in events.get_yticklabels()] == list(months)
    # and errors and events of a month stand above each other
    assert errors.get_xlim() == events.get_xlim() and errors.bbox.x0 == events.bbox.x0
    assert errors.get_title(loc="left") == "Error: share of sales"
    assert "wrong by 5.5% of sales" in figure.get_suptitle().replace("\n", " ")


def test_the_section_lists_the_newest_month_first_with_links_relative_to_the_page(records):
    section = str(track_record_section(records, lambda path: f"../../{path}"))
    rows = re.findall(r'<tr><th scope="row" class="step">(.*?)</th>(.*?)</tr>', section)
    assert [month for month, _ in rows] == ["May 2023", "Apr 2023", "Apr 2023", "Mar 2023", "Feb 2023", "Jan 2023"]
    assert '<a href="../../state/shop/2023-05.html">drift</a>' in rows[0][1] and "month.html" not in section
    assert "<td>7.0%</td><td>6.0%</td>" in rows[0][1] and "<td>–</td><td>–</td>" in rows[-1][1]
    assert track_record_section([]) == ""


def test_reasons_are_never_markup_and_the_page_needs_no_other_file(records):
    # given findings and reasons that contain HTML, which may come from a source's files
    wrong = "<script>alert(1)</script>"
    records[3] = records[3].model_copy(update={"findings": [STOP.model_copy(update={"text": wrong})]})
    records[4] = records[4].model_copy(update={"verdict": REFUSED.model_copy(update={"reason": wrong})})
    # when the track record is rendered as a page
    page = track_record_page(records, f"shop: {wrong}")
    # then no HTML of theirs is markup, the table is open, nothing is fetched, and the page is the same each time
    assert "<script" not in page and page.count("&lt;script&gt;") == 4
    assert "<details open>" in page and not re.search(r"https?://|url\(|@import", page)
    read_again = [MonthRecord(**json.loads(json.dumps(record.content()))) for record in records]
    assert page == track_record_page(read_again, f"shop: {wrong}")


ROWS = pd.DataFrame({"series_id": ["S1", "S2"], "month": pd.Timestamp("2023-05-01"), "actual": [90.0, 100.0]})
ROWS = ROWS.assign(**dict.fromkeys(RATE_FEATURES, 3.0), expected_units=30.0).reindex(columns=[*ROWS, *FEATURES])
SERVED = pd.DataFrame({"series_id": ["S1", "S2"], "forecast": [90.0, 119.0], "lower": 80.0, "upper": 99.0})


@pytest.mark.parametrize("status", ["published", "stopped"])
def test_the_track_record_ends_with_the_month_of_its_page(records, status):
    # given a page of May 2023, whose data is stopped or not, and the archived forecasts
    findings = [
        STOP,
        Finding(check="freshness", level="note", where="S1", text="fine", figures={"month": "2023-05"}),
    ]
    stopped = {"rule": "bad_data", "trusted": False, "findings": findings}
    decision = make_decision(**NOT_RETRAINED.content() | (stopped if status == "stopped" else {}))
    archived = [SERVED.assign(month=month) for month in ("2023-04-01", "2023-05-01")]
    earlier = [r for r in records if r.month < "2023-05"]
    # when its own month is added
    may = month_record(pd.Timestamp("2023-05-01"), decision, make_verdict(**REFUSED.content()), archived, ROWS)
    records = track_record_through(earlier, may)
    # then it is the last one, with the error of its archived forecast
    assert records[-1].month == "2023-05" and records[-1].status == status == may.status
    assert is_stopped(decision) == (status == "stopped")
    assert may.errors["served"] == pytest.approx(0.1) and may.coverage == 0.5
    stops = {"published": 1, "stopped": 2}[status]  # the other one is April
    assert track_record_sentences(records)[-1].startswith(f"In 5 months: data stopped {stops}, ")
    assert re.search(r'class="step">(.*?)</th>', str(track_record_section(records)))[1] == "May 2023"
    assert (served_error_table(records).index.max() == pd.Timestamp("2023-05-01")) == (status == "published")


def test_monitor_page_and_track_record_say_the_same_of_a_served_forecast():
    # given a forecast of May: one store was open, one has closed and sold nothing, the data of one is not trusted
    may, june = pd.Timestamp("2024-05-01"), pd.Timestamp("2024-06-01")
    served = pd.DataFrame({"series_id": ["S1", "CLOSED", "UNKNOWN"], "month": may, "forecast": [110.0, 30.0, 500.0]})
    served = served.assign(store_id=served.series_id, lower=served.forecast - 20, upper=served.forecast + 20)
    rows = served[["series_id", "month"]].assign(actual=[100.0, 0.0, None], expected_units=30.0)
    rows = rows.assign(**dict.fromkeys(RATE_FEATURES, 3.0)).reindex(columns=[*rows, *FEATURES])
    rows = rows.loc[:, ~rows.columns.duplicated()]
    store_month = pd.DataFrame({"series_id": ["S1"], "store_id": ["S1"], "month": may, "quantity_sold": [100.0]})
    store_month = store_month.assign(country="Mexico", city="Puebla")
    forecast = served[:1].assign(month=june)  # only this store is still open
    # then the closed store counts with nothing sold, the unknown one does not count, and all three say the same
    error, bias, coverage, n = 0.4, 0.4, 0.5, 2
    monitored = realised_errors([served], rows, store_month).iloc[0]
    assert (monitored.wape, monitored.bias) == (pytest.approx(error), pytest.approx(bias))
    assert (monitored.coverage, monitored.n) == (coverage, n)
    recorded = evaluate_served_forecast(served, rows, may)
    assert (recorded.errors["served"], recorded.bias) == (pytest.approx(error), pytest.approx(bias))
    assert (recorded.coverage, recorded.n) == (coverage, n)
    on_page = compare_with_previous(served, rows, store_forecast_table(forecast, store_month), june)
    assert on_page.error == pytest.approx(error) and (on_page.stores, on_page.inside) == (n, 1)
    assert [row["store_id"] for row in on_page.rows] == ["CLOSED", "S1"]
