"The month page is complete, escapes names, is the same each time, and needs no network."

import json
import re
import subprocess

import chromium
import numpy as np
import pandas as pd
import pytest
from looking import CHROMIUM, SCREENS, complaints_of, open_offline
from verdicts import SEASONAL, make_decision, make_errors, make_month, make_verdict, price_finding

from brewcast.common.parameter_types import Calendar
from brewcast.common.records import BetterBaseline
from brewcast.delivery.month_page import month_page, planner_questions, total_error
from brewcast.delivery.track_record import track_record_section
from brewcast.model.recipes import BASELINES

FLAGS = ["--headless", *chromium.FLAGS, "--enable-logging=stderr", "--virtual-time-budget=2000"]
TARGET = pd.Timestamp("2026-01-01")
CALENDAR = Calendar(unit="day", hemisphere="north", countries={"USA": "US", "Mexico": "MX"}, decided_after_days=2)
REPORTS = {"quality": "quality.html", "drift": "drift.html"}
ODD_NAME = "Café <b>№ 7</b> & 'Co' \"" + "long" * 40


def months_of(store: str, level: float, count: int) -> pd.DataFrame:
    month = pd.date_range(end=TARGET - pd.DateOffset(months=1), periods=count, freq="MS")
    season = 1 + 0.2 * np.sin(2 * np.pi * month.month / 12)
    rows = pd.DataFrame({"series_id": store, "store_id": store, "month": month, "quantity_sold": level * season})
    return rows.assign(country=["USA", "Mexico"][len(store) % 2], city="Reno", trading_days=30, promotion_share=0.2)


def past_errors(stores: list[str]) -> pd.DataFrame:
    months = pd.date_range(end=TARGET - pd.DateOffset(months=1), periods=12, freq="MS")
    rows = pd.MultiIndex.from_product([["candidate", "champion", *BASELINES], months, stores]).to_frame(index=False)
    rows.columns = ["model", "month", "series_id"]
    factor = rows["model"].map({"candidate": 1.04}).fillna(0.9)
    rows = rows.assign(cutoff=rows["month"] - pd.Timedelta(days=1), actual=1000.0, forecast=1000 * factor)
    return rows.assign(lower=rows["forecast"] * 0.95, upper=rows["forecast"] * 1.05)


def inputs(stores: int = 6) -> dict:
    "The arguments of the page for some stores; one has an odd name, and one more has no forecast."
    names = [ODD_NAME, *(f"STORE{100 + i}" for i in range(1, stores))]
    past = pd.concat([months_of(s, 500.0 + 10 * i, 30 if i else 5) for i, s in enumerate(names)])
    closed = months_of("GONE", 300.0, 30).iloc[:20]
    forecast = (
        past.groupby("store_id", as_index=False)["quantity_sold"].last().rename(columns={"quantity_sold": "forecast"})
    )
    forecast["forecast"] *= 1.02
    forecast = forecast.assign(
        month=TARGET, cutoff=TARGET - pd.Timedelta(days=1), recipe="forest", series_id=forecast["store_id"]
    )
    forecast = forecast.assign(lower=forecast["forecast"] * 0.9, upper=forecast["forecast"] * 1.1)
    forecast["young"] = forecast["store_id"] == ODD_NAME
    predictions = past_errors(names)
    error = (predictions["actual"] - predictions["forecast"]).abs() / predictions["actual"]
    errors = {model: make_errors(wape) for model, wape in error.groupby(predictions["model"]).mean().items()}
    by_month = predictions.assign(wape=error).groupby(["cutoff", "model"], as_index=False)["wape"].mean()
    by_month["cutoff"] = by_month["cutoff"].dt.strftime("%Y-%m-%d")
    verdict = make_verdict(errors=errors, cutoffs=sorted(set(by_month["cutoff"])), by_month=by_month.to_dict("records"))
    plan = pd.DataFrame(
        {"store_id": names, "month": TARGET, "published": TARGET - pd.DateOffset(months=1), "promotion_share": 0.4}
    )
    return {
        "forecast": forecast,
        "store_month": pd.concat([past, closed], ignore_index=True),
        "verdict": verdict,
        "decision": make_decision(train_through="2025-12-31", rule="first"),
        "dataset": {
            "rows_read": 1000,
            "rows_in": 993,
            "rows_set_aside": 7,
            "first_date": "2023-07-01",
            "last_date": "2025-12-31",
        },
        "predictions": predictions,
        "previous_forecast": forecast.assign(month=TARGET - pd.DateOffset(months=1)),
        "outcomes": past.assign(actual=past["quantity_sold"]),
        "plan": plan.assign(trading_days=29, price=4.0),
        "quarantine": pd.DataFrame({"table": "till", "column": "PRICE", "reason": ["is not a number"] * 7}),
        "calendar": CALENDAR,
        "links": {"ingest": "../ingest/ingest.html"},
    }


QUANTITIES = ["quantity_sold", "forecast", "lower", "upper", "actual"]


def with_fields(record, **fields):
    "A copy of a record with other fields."
    return record.model_copy(update=fields)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(style|script).*?</\1>", "", page)))


def test_the_page_has_every_store_and_answers_a_planner_s_questions():
    # given stores, one of them in its first year, and one without a forecast
    arguments = inputs()
    # when the page is made
    page = month_page(**arguments, source_name="GloboJava", unit="pieces")
    text = text_of(page)
    # then it shows all of them, the verdict, the plan, the last forecast, the errors and the quarantined rows
    table = page[page.index('<table id="stores"') :]
    for store in arguments["forecast"]["store_id"]:
        if store != ODD_NAME:
            assert f'<th scope="row">{store}' in table
    assert page.count('class="spark"') == len(arguments["forecast"])
    for expected in [
        "January 2026:",
        "The random forest forecasts",
        "Won 12 of 12 months.",
        "promotion on 40% of days (last month 20%)",
        "Martin Luther King Jr. Day",
        "The forecast of December 2025 was",
        "1 store without a forecast: GONE (last sold in February 2025)",
        "1 store without a full year",
        "993 of 1,000 rows were used; 7 were quarantined (0.70%)",
        "is not a number",
        "No model yet.",
        "of outcomes were inside the interval (nominal coverage 80%)",
    ]:
        assert expected in text, expected
    assert 'href="../ingest/ingest.html"' in page


def test_a_store_without_a_forecast_or_with_a_forecast_of_0_has_a_reason():
    # given a store that is closed, one that is too new, and one with a forecast of 0
    arguments = inputs()
    zero = arguments["forecast"]["store_id"] == "STORE102"
    arguments["forecast"].loc[zero, ["forecast", "lower", "upper"]] = 0.0
    reasons = {"GONE": "the plan has 0 trading days in January 2026", "NEW": "too new: no complete month yet"}
    page = month_page(**arguments, reasons=reasons | {"STORE102": "closed in January of the last two years"})
    # then each has its reason in its own place, and no other store has one
    names = "GONE (the plan has 0 trading days in January 2026) and NEW (too new: no complete month yet)"
    assert f"2 stores without a forecast: {names}." in text_of(page)
    row = page[page.index('<th scope="row">STORE102', page.index('<table id="stores"')) :]
    assert "<small>closed in January of the last two years</small>" in row[: row.index("</tr>")]
    assert page.count("closed in January of the last two years") == 1
    # and if there are many, the page names the file that has all of them
    assert "and 9 more, all in forecast.csv." in text_of(
        month_page(**arguments, reasons={f"N{i}": "too new" for i in range(20)})
    )


@pytest.mark.parametrize("stopped", [False, True])
def test_one_store_one_city_and_one_month_are_written_in_the_singular(stopped):
    # given one store, one judged month, one quarantined row, one biased city, and a track record of one month
    arguments = inputs(1)
    last = arguments["predictions"]["month"].max()
    arguments["predictions"] = arguments["predictions"][arguments["predictions"]["month"] == last]
    arguments["store_month"] = arguments["store_month"][arguments["store_month"]["store_id"] != "GONE"]
    cutoffs = arguments["verdict"].cutoffs[-1:]
    city = {
        "kind": "city",
        "group": "Reno",
        "stores": 1,
        "n": 1,
        "wape": 0.1,
        "bias": 0.0,
        "called": True,
        "apart": 0.1,
        "apart_low": 0.0,
        "apart_high": 0.2,
    }
    by_month = [row for row in arguments["verdict"].by_month if row["cutoff"] in cutoffs]
    bias = [city | {"bias_low": None, "bias_high": None}]
    arguments["verdict"] = with_fields(arguments["verdict"], cutoffs=cutoffs, by_month=by_month, bias=bias)
    arguments["dataset"] |= {"rows_read": 1, "rows_in": 0, "rows_set_aside": 1}
    arguments["quarantine"] = arguments["quarantine"].head(1)
    arguments["decision"] = with_fields(arguments["decision"], rule="bad_data" if stopped else "first")
    record = make_month("2025-12", errors={"served": 0.1, "last_month": 0.2}, n=1, coverage=1.0)
    # when its page is made
    text = text_of(month_page(**arguments, source_name="shop", track_record=track_record_section([record])))
    # then no noun after 1 is in the plural
    assert not re.findall(r"\b1 (?:[a-z]+ )?(?:stores|months|cities|countries|rows|reasons|days|weeks)\b", text)
    assert "In 1 month: " in text
    assert stopped or ("of the last 1 month" in text and "of 1 city only biased ones" in text and "1 store" in text)


@pytest.mark.parametrize(
    "gate, words", [("refuse: no", "Refuse: no"), ("insufficient_evidence: no", "Not enough evidence: no")]
)
def test_a_baseline_that_is_better_than_the_serving_model_is_named(gate, words):
    arguments = inputs()
    better = BetterBaseline(
        baseline="seasonal",
        said="seasonal, a baseline, was better",
        gate=gate,
        settings="train.weights=[0]",
    )
    arguments["verdict"] = with_fields(arguments["verdict"], better_baseline=better)
    text = text_of(month_page(**arguments, source_name="shop"))
    assert "seasonal, a baseline, was better. A baseline never becomes the candidate automatically" in text.replace(
        "Seasonal", "seasonal"
    )
    assert (
        f"The verdict of the gate on it would be: {words}. To make it the candidate: make run SOURCE=shop train.weights=[0]"
        in text
    )
    assert "baseline, was better" not in text_of(month_page(**inputs()))


def test_the_page_asks_about_assumptions_and_names_what_is_left_out():
    # given a store that was closed last January, one that is closed every January, an unusual month and a gap
    trade = [{"series_id": "S1", "does": "may_be_closed"}, {"series_id": "S2", "does": "closed"}]
    outliers = [
        {"series_id": s, "month": "2025-01", "kind": "odd", "ratio": 0.9, "otherwise": 0.2} for s in ("S3", "S4")
    ]
    cleaned = {"gaps": {"2025-03": "no store has sale lines: a gap"}}
    questions = planner_questions({"trade": trade, "odd_seasons": outliers}, cleaned, TARGET)
    text = text_of(month_page(**inputs(), questions=questions))
    for expected in [
        "S1 sold nothing in January 2025. Open in January 2026? Enter it in the plan (trading_days); until then",
        "S2 sold nothing in January 2025, nor in the year before: the forecast is 0.",
        "January 2025 was unusual at S3 and S4: it is left out of the season. The seasonal factor is 0.90",
        "March 2025: no store has sale lines: a gap.",
    ]:
        assert expected in text, expected
    # and a page without questions has no such section
    assert "Questions and notes for the planner" in text
    assert "Questions and notes for the planner" not in month_page(**inputs()) and len(questions) == 4


def test_a_forecast_of_0_and_a_row_without_an_outcome():
    arguments = inputs()
    arguments["forecast"] = arguments["forecast"].assign(**dict.fromkeys(["forecast", "lower", "upper"], 0.0))
    assert "January 2026: 0 pieces expected" in text_of(month_page(**arguments, unit="pieces"))
    gap = arguments["predictions"].assign(
        actual=arguments["predictions"].actual.mask(arguments["predictions"].series_id == "STORE101")
    )
    without_store = arguments["predictions"][arguments["predictions"].series_id != "STORE101"]
    assert total_error(gap, "candidate") == total_error(without_store, "candidate")


def test_the_same_inputs_give_the_same_page():
    one, two = (month_page(**inputs()) for _ in range(2))
    assert one == two


def test_an_input_is_not_changed():
    # given
    arguments, copy = inputs(), inputs()
    # when
    month_page(**arguments)
    # then
    for name, value in arguments.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, copy[name])
        else:
            assert value == copy[name]


def test_names_are_escaped():
    # given a store, a source and a reason with HTML in them
    arguments = inputs()
    arguments["verdict"] = with_fields(arguments["verdict"], reason="<script>alert(1)</script>")
    # when
    page = month_page(**arguments, source_name="<img src=x onerror=alert(1)>", unit='"pieces"')
    # then none of it is markup
    assert "<b>№ 7</b>" not in page and "<img" not in page and "alert(1)</script>" not in page
    assert "&lt;b&gt;№ 7&lt;/b&gt; &amp; " in page


def test_nothing_is_fetched():
    page = month_page(**inputs())
    assert not re.search(r"https?://|url\(|@import|<(link|script|img)[^>]+(src|href)=[\"'](?!data:)", page)


@pytest.mark.parametrize("missing", ["country", "city", "promotion_share", "trading_days"])
def test_a_column_may_be_missing(missing):
    # given a source without a column, or with an empty one
    without, empty = inputs(), inputs()
    without["store_month"] = without["store_month"].drop(columns=missing)
    empty["store_month"] = empty["store_month"].assign(**{missing: None})
    # when both pages are made, then they are equal
    assert month_page(**without) == month_page(**empty)


def test_a_first_month_of_a_source_with_few_columns():
    # given no archive, no plan, no intervals, no calendar, no predictions, and only four columns
    arguments = inputs()
    for name in ("previous_forecast", "plan", "quarantine", "calendar", "links", "predictions"):
        arguments[name] = None
    arguments["store_month"] = arguments["store_month"][["series_id", "store_id", "month", "quantity_sold"]]
    arguments["forecast"] = arguments["forecast"][["store_id", "series_id", "month", "cutoff", "forecast"]].assign(
        lower=np.nan, upper=np.nan
    )
    arguments["verdict"] = with_fields(arguments["verdict"], by_month=[])
    # when
    text = text_of(month_page(**arguments))
    # then
    assert "There is no archived forecast yet: this is the first month." in text
    assert "Plan and calendar" not in text and "nan" not in text.lower().replace("finance", "")


def test_after_a_refusal_the_page_says_which_recipe_forecasts():
    # given a verdict after which a baseline serves on
    arguments = inputs()
    arguments["forecast"]["recipe"] = "seasonal"
    arguments["verdict"] = with_fields(arguments["verdict"], promoted=False, verdict="refuse", recipe=SEASONAL)
    # when
    page = month_page(**arguments)
    # then the row of the baseline is marked
    assert "candidate refused" in page and "last year&#39;s season forecasts, as before" in page
    assert 'class="own"><th scope="row">three-month mean × last year&#39;s season – forecasts' in page


@pytest.mark.parametrize("stores", [1, 500])
def test_one_store_or_many(stores):
    page = month_page(**inputs(stores))
    assert page.count('class="spark"') == stores
    assert len(page) < 60_000 + 1_500 * stores


def test_weeks_are_counted_if_the_source_reports_weeks():
    # given a source of weeks: five Fridays in January 2026, four in December 2025 and five in January 2025
    arguments = inputs()
    arguments["store_month"]["trading_days"] = np.where(arguments["store_month"]["month"] == "2025-12-01", 4, 5)
    arguments["plan"] = None
    # when
    weekly = CALENDAR.model_copy(update={"unit": "week", "weekday": "FRI", "countries": {"*": "US"}})
    text = text_of(month_page(**arguments | {"calendar": weekly}))
    # then
    assert "The month has 5 trading weeks per store; last month had 4, the same month last year 5." in text


STOP_TEXT = "2025-12: price: 100 times what it was. Correct the <export>"
STOP = price_finding("unit_shift", "stop", STOP_TEXT, "2025-12")


def test_a_stopped_month_says_so_first_and_has_no_forecast():
    # given a month whose data is stopped, after a published month
    arguments = inputs()
    stopped = {"rule": "bad_data", "trusted": False, "reason": "not trusted", "findings": [STOP]}
    arguments["decision"] = with_fields(arguments["decision"], **stopped)
    arguments["forecast"]["forecast"] = 7001.0 + np.arange(len(arguments["forecast"]))
    # when
    page = month_page(
        **arguments, source_name="GloboJava", track_record='<section id="track-record">the track record</section>'
    )
    text = text_of(page)
    # then title and heading say so first; then come the month, the reasons, and the forecast that still serves
    assert "<title>January 2026 – GloboJava – stopped, no forecast</title>" in page
    assert "<h1>STOPPED: no forecast of January 2026</h1>" in page and page.count("<h1>") == 1
    main = text[text.index("Do not order from this page") :]
    assert main.index("The data of December 2025 is not trusted") < main.index("100 times what it was")
    assert "still serves: the forecast of December 2025" in text and "Correct the &lt;export&gt;" in page
    # and neither a store's forecast nor the total is on the page
    assert 'id="stores"' not in page and 'class="spark"' not in page and "expected" not in text
    for forecast in arguments["forecast"]["forecast"]:
        assert f"{forecast:,.0f}" not in text
    # but what helps to correct the data is: the errors of the last forecast, the track record, the quarantined rows
    for expected in ("The forecast of December 2025 was", "the track record", "993 of 1,000 rows were used"):
        assert expected in text, expected


def test_a_first_month_without_trusted_data_is_published_with_a_warning():
    # given a source's first month, with a stop and no earlier forecast
    arguments = inputs()
    arguments["decision"] = with_fields(arguments["decision"], rule="no_model", trusted=False, findings=[STOP])
    # when
    text = text_of(month_page(**arguments))
    # then there is a forecast, with a warning above it
    assert text.index("Data not trusted published as the first month") < text.index("Forecast by store")
    assert "100 times what it was" in text and "STOPPED" not in text


def test_holidays_of_a_country_outside_the_calendar_are_not_known():
    # given stores in the USA, a calendar without the USA, and one that says that the USA has no holidays
    arguments = inputs()
    calendars = [CALENDAR.model_copy(update={"countries": codes}) for codes in ({"Mexico": "MX"}, {"USA": None})]
    unlisted, without = (text_of(month_page(**arguments | {"calendar": calendar})) for calendar in calendars)
    # then the page shows the difference
    assert "USA not known, because calendar.countries does not list it" in unlisted
    assert "not known" not in without


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")
def test_the_page_opens_offline_in_a_browser(tmp_path):
    # given the page as a file
    (tmp_path / "month.html").write_text(month_page(**inputs()))
    # when a browser without name resolution opens it
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    run = subprocess.run(
        [CHROMIUM, *FLAGS, *offline, "--dump-dom", f"file://{tmp_path}/month.html"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # then its script ran (the search box is shown), and the console is silent
    assert re.search(r"<label>\s*<span class=\"soft\">Find", run.stdout)
    assert "STORE105" in run.stdout
    assert "CONSOLE" not in run.stderr, run.stderr


def page_of(kind: str) -> str:
    "A month page: of some stores, of one store, of large figures, of a source's first month, or of a stopped month."
    arguments = inputs(1 if kind == "one store" else 6)
    months = pd.date_range(end="2025-12-01", periods={"one store": 1, "long": 40}.get(kind, 12), freq="MS")
    errors = {"served": 0.05, "last_month": 0.2, "mean_of_3": 0.15, "same_month_last_year": None, "seasonal": 0.06}
    records = [make_month(f"{month:%Y-%m}", errors=errors, n=9, coverage=0.8, reports=REPORTS) for month in months]
    group = {"kind": "age", "stores": 3, "wape": 0.1, "bias_low": -0.11, "bias_high": 0.02, "apart": -0.05}
    group |= {"apart_low": -0.1, "apart_high": -0.01, "bias": -0.05}
    bias = [group | {"group": name, "called": name == "first year"} for name in ("first year", "second year", "older")]
    arguments["verdict"] = with_fields(arguments["verdict"], bias=bias)
    if kind == "millions":  # as in a source of money
        for table in ("forecast", "store_month", "previous_forecast", "outcomes"):
            quantities = [name for name in QUANTITIES if name in arguments[table]]
            arguments[table] = arguments[table].assign(**{name: 9876.5 * arguments[table][name] for name in quantities})
    if kind == "first month":
        arguments |= {"previous_forecast": None, "outcomes": None}
    if kind == "stopped":
        arguments["decision"] = with_fields(arguments["decision"], rule="bad_data", trusted=False, findings=[STOP])
    section = "" if kind == "first month" else track_record_section(records)
    return month_page(**arguments, source_name="GloboJava", unit="pieces", track_record=section)


@pytest.mark.parametrize("kind", ["some stores", "long", "one store", "millions", "first month", "stopped"])
def test_every_text_can_be_read_on_a_phone_and_on_a_desk_light_and_dark(offline_browser, tmp_path, kind):
    # given the page as a file
    path = tmp_path / "month.html"
    path.write_text(page_of(kind))
    for width, scheme in SCREENS:
        # when it is opened, and with it the table of all months
        page = open_offline(offline_browser, path, width, scheme)
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        # then every text can be read, nothing else is fetched, and the page is light or dark
        assert complaints_of(page) == []
        for part in ("document.body", "document.querySelector('.card')"):
            color = page.evaluate(f"getComputedStyle({part}).backgroundColor.match(/\\d+/g).map(Number)")
            assert (min(color) > 200, max(color) < 60) == (scheme == "light", scheme == "dark")
        # and paper is light
        page.emulate_media(media="print")
        color = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert min(color) > 200
        page.context.close()


@pytest.mark.parametrize(
    "mistake",
    ["#groups th{white-space:nowrap;min-width:300px}", "figcaption{margin-top:-40px}", "main{width:600px}"],
)
def test_a_text_that_cannot_be_read_is_found(offline_browser, tmp_path, mistake):
    # given a page with a mistake in its style
    path = tmp_path / "month.html"
    path.write_text(page_of("some stores").replace("</style>", f"{mistake}</style>"))
    # then the check that the test above uses says so
    page = open_offline(offline_browser, path, 390)
    assert complaints_of(page)
    page.context.close()


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")
def test_the_table_can_be_searched_and_sorted(tmp_path):
    # given the page, and a user who searches for STORE104 and sorts by the forecast
    script = """<script>{
        const rows = body => [...body.querySelectorAll('tr[data-find]')], box = document.getElementById('find');
        const search = word => { box.value = word; box.dispatchEvent(new Event('input')); };
        search('store104');
        const shown = rows(document).filter(row => row.offsetParent).map(row => row.cells[0].innerText);
        search('');
        document.querySelectorAll('#stores thead button')[3].click();
        const bodies = [...document.querySelectorAll('#stores tbody')];
        const order = bodies.map(body => rows(body).map(row => +row.cells[4].dataset.v));
        document.title = JSON.stringify({shown, order});
    }</script>"""
    (tmp_path / "month.html").write_text(month_page(**inputs()).replace("</body>", script + "</body>"))
    # when
    run = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path}/month.html"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # then one row is shown, and in each country the largest forecast comes first
    result = json.loads(re.search(r"<title>(.*?)</title>", run.stdout)[1])
    assert [name.split()[0] for name in result["shown"]] == ["STORE104"]
    assert result["order"] and all(order == sorted(order, reverse=True) for order in result["order"])
