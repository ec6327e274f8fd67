"How the months went: which count, which baseline was hardest to beat, and what the page says and draws of them."

import json
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from brewcast.common.core import write_json
from brewcast.delivery.track_record import (
    first_three,
    is_stopped,
    lowest_error_baseline,
    month_events,
    month_record,
    read_track_record,
    served_error_table,
    track_record_chart,
    track_record_page,
    track_record_section,
    track_record_sentences,
    track_record_through,
)
from brewcast.model.recipes import FEATURES, RATE_FEATURES

REFUSED = {"verdict": "refuse", "rule": "min_gain", "reason": "a gain of 0.2%, 1.0% is asked", "promoted": False}
PROMOTED = {"verdict": "promote", "rule": "better", "reason": "better in 9 of 12 months", "promoted": True}
KEPT = {"retrain": False, "rule": "calendar", "reason": "it was trained a month ago", "trusted": True}
STOP = {"check": "unit_shift", "level": "stop", "where": "price", "text": "price is 100 times what it was"}
WARN = {"check": "few_lines", "level": "warn", "where": "S1", "text": "half as many lines as usual"}


def record(month: str, served: float, **more) -> dict:
    "What a month came to, as `write_month_record` writes it down."
    errors = {"served": served, "last_month": 0.2, "mean_of_3": 0.15, "same_month_last_year": None, "seasonal": 0.06}
    made = {"month": month, "status": "published", "errors": errors, "n": 12, "coverage": 0.8}
    made |= {"decision": KEPT | {"retrain": True, "reason": "it is time"}, "verdict": REFUSED, "findings": []}
    made |= {"alarm": False, "alarm_reason": "", "reports": {"drift": f"state/shop/{month}.html", "page": "month.html"}}
    return made | more


@pytest.fixture
def story(tmp_path):
    "Six months as they stand in the state: the first without outcomes, the fourth stopped, and mended by a second record."
    records = [
        record("2023-01", 0.05, errors=None),
        record("2023-02", 0.05, coverage=0.9),
        record("2023-03", 0.06, alarm=True, alarm_reason="errors rose to 9.1%", verdict=PROMOTED),
        record("2023-04", 5.0, status="stopped", findings=[STOP, WARN], coverage=0.0, decision=KEPT),
        record("2023-04", 0.04, findings=[WARN], coverage=0.6),
        record("2023-05", 0.07, decision=KEPT),
    ]
    paths = [write_json(made, tmp_path / f"{i}-{made['month']}.json") for i, made in enumerate(records)]
    return read_track_record(paths)


def test_months_without_outcomes_or_with_bad_data_say_nothing_of_errors(story):
    # given a month whose data was stopped with an error of 500 %, and mended afterwards
    table = served_error_table(story)
    # then what counts is the mended one, and months whose outcome is known
    assert table.served.to_dict() == {
        pd.Timestamp("2023-02-01"): 0.05,
        pd.Timestamp("2023-03-01"): 0.06,
        pd.Timestamp("2023-04-01"): 0.04,
        pd.Timestamp("2023-05-01"): 0.07,
    }
    # and as long as it is not mended, nothing of that month
    assert served_error_table(story[:4]).index.max() == pd.Timestamp("2023-03-01")
    assert lowest_error_baseline(table) == "seasonal" and table.same_month_last_year.isna().all()


def test_before_any_outcome_is_known_there_is_no_best_baseline_and_the_story_is_told_all_the_same():
    first = [record("2023-01", 0.05, errors=None)]
    assert served_error_table(first).empty and lowest_error_baseline(served_error_table(first)) is None
    (counted,) = track_record_sentences(first)
    assert counted.endswith(": data stopped 0, drift alarm 0, retrained 1, promoted 0, refused 1.")
    assert "–" in track_record_section(first) and "Jan 2023" in track_record_section(first)


def test_the_story_counts_what_was_better_worse_and_the_same(story):
    error, held, counted = track_record_sentences(story)
    assert "off by 5.5% on average over 4 months" in error and "(seasonal) by 6.0%" in error
    assert error.endswith("better in 2 months, the same in 1.")
    assert held == "Its intervals held 77.5% of outcomes, 60.0% in Apr 2023."  # without what was stopped
    assert counted == "In 5 months: data stopped 1, drift alarm 1, retrained 4, promoted 1, refused 4."


def test_what_happened_has_its_reason_and_a_stop_outweighs_all_else(story):
    _, refused, alarmed, stopped, mended, kept = map(month_events, story)
    assert refused == [("refused", REFUSED["reason"])]
    assert alarmed == [("drift alarm", "errors rose to 9.1%"), ("promoted", PROMOTED["reason"])]
    assert stopped == [("data stopped", STOP["text"])]
    assert mended == [("refused", REFUSED["reason"]), ("data noted", WARN["text"])]
    assert kept == [("kept", KEPT["reason"]), ("refused", REFUSED["reason"])]


def test_many_findings_are_counted_and_not_all_written():
    assert first_three(["a", "b", "c"]) == "a; b; c" and first_three(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
    many = record("2023-04", 1.0, status="stopped", findings=[STOP | {"text": f"column {i}"} for i in range(9)])
    assert month_events(many) == [("data stopped", "column 0; column 1; column 2; and 6 more")]


@pytest.mark.parametrize("width", [350, 1000])
def test_the_chart_has_a_line_for_each_baseline_that_is_known_and_a_dot_for_each_event(story, width):
    picture = ET.fromstring(track_record_chart(story, width))
    # what served is the strong line, on top, with dots; a baseline that was never known has no line
    kinds = [line.get("class").split()[1] for line in picture.iter("polyline")]
    assert kinds == ["seasonal", "mean-of-3", "last-month", "strong"]
    lanes = [dot for dot in picture.iter("circle") if dot.get("fill")]
    assert len(lanes) == 1 + 1 + 4 + 1 + 4  # as counted, by month
    colours = {dot.get("fill"): dot.get("cx") for dot in lanes}
    assert colours["#c9761b"] == colours["#1d6a4a"] != colours["#a3271f"]  # March: alarmed and promoted; April: stopped
    assert picture.get("aria-label") == " ".join(track_record_sentences(story))


def test_the_section_lists_the_newest_month_first_with_links_as_seen_from_the_page(story):
    section = str(track_record_section(story, lambda path: f"../../{path}"))
    rows = re.findall(r'<tr><th scope="row" class="step">(.*?)</th>(.*?)</tr>', section)
    assert [month for month, _ in rows] == ["May 2023", "Apr 2023", "Apr 2023", "Mar 2023", "Feb 2023", "Jan 2023"]
    assert '<a href="../../state/shop/2023-05.html">drift</a>' in rows[0][1] and "month.html" not in section
    assert "<td>7.0%</td><td>6.0%</td>" in rows[0][1] and "<td>–</td><td>–</td>" in rows[-1][1]
    assert track_record_section([]) == ""


def test_reasons_are_never_markup_and_a_page_of_its_own_needs_nothing_else(story):
    # given findings and reasons with HTML in them, as a source's file may bring them
    wrong = "<script>alert(1)</script>"
    story[3]["findings"] = [STOP | {"text": wrong}]
    story[4]["verdict"] = REFUSED | {"reason": wrong}
    # when the story is a page
    page = track_record_page(story, f"shop: {wrong}")
    # then none of it is markup, the table is open, nothing is fetched, and it is the same each time
    assert "<script" not in page and page.count("&lt;script&gt;") == 4
    assert "<details open>" in page and not re.search(r"https?://|url\(|@import", page)
    assert page == track_record_page(json.loads(json.dumps(story)), f"shop: {wrong}")


ROWS = pd.DataFrame({"series_id": ["S1", "S2"], "month": pd.Timestamp("2023-05-01"), "actual": [90.0, 100.0]})
ROWS = ROWS.assign(**dict.fromkeys(RATE_FEATURES, 3.0), expected_units=30.0).reindex(columns=[*ROWS, *FEATURES])
SERVED = pd.DataFrame({"series_id": ["S1", "S2"], "forecast": [90.0, 119.0], "lower": 80.0, "upper": 99.0})


@pytest.mark.parametrize("status", ["published", "stopped"])
def test_the_story_ends_with_the_month_that_its_page_stands_for(story, status):
    # given a page of May 2023, whose data was stopped or not, and the forecasts that had served
    stop = STOP | {"figures": {"month": "2023-05"}}
    decision = KEPT | {"figures": {"alarm": ""}, "findings": [stop, {"level": "note", "text": "fine"}]}
    decision |= {"rule": "bad_data", "trusted": False} if status == "stopped" else {"findings": []}
    archived = [SERVED.assign(month=month) for month in ("2023-04-01", "2023-05-01")]
    before = [made for made in story if made["month"] < "2023-05"]
    # when its own month is told
    record = month_record(pd.Timestamp("2023-05-01"), decision, REFUSED, archived, ROWS)
    told_now = track_record_through(before, record)
    # then it is the last one, judged by the forecast that had served for it, and a stop counts as one
    assert told_now[-1]["month"] == "2023-05" and told_now[-1]["status"] == status == record["status"]
    assert is_stopped(decision) == (status == "stopped")
    assert record["errors"]["served"] == pytest.approx(0.1) and record["coverage"] == 0.5
    stops = {"published": 1, "stopped": 2}[status]  # April's, which was mended, is the other
    assert track_record_sentences(told_now)[-1].startswith(f"In 5 months: data stopped {stops}, ")
    assert re.search(r'class="step">(.*?)</th>', str(track_record_section(told_now)))[1] == "May 2023"
    assert (served_error_table(told_now).index.max() == pd.Timestamp("2023-05-01")) == (status == "published")


def test_a_month_that_was_told_before_or_comes_later_is_not_told_twice(story):
    # given a build of April once more, after May was worked through: it is stopped still, or mended
    (stopped, mended) = [made for made in story if made["month"] == "2023-04"]
    assert [made["status"] for made in track_record_through(story, stopped)[-2:]] == ["published", "stopped"]
    assert [made["month"] for made in track_record_through(story, mended)] == [made["month"] for made in story[:5]]
    # and a month that was stopped twice is one month that was stopped
    assert track_record_sentences([story[3], story[3] | {"findings": []}])[-1].startswith(
        "In 1 month: data stopped 1, "
    )
