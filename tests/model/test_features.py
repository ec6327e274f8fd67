"The features that are known at a cutoff, and what a correction changes."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tables import (
    CALENDAR,
    all_tables,
    as_sales,
    at,
    corrected_months,
    make_lines,
    make_plan,
    months_at,
    months_of,
    plan_of,
)

from brewcast.common.core import write_json, write_parquet
from brewcast.common.records import Finding, StateInputs
from brewcast.data import clean as clean_module
from brewcast.data.clean import clean
from brewcast.model import features
from brewcast.model.features import (
    baseline_rates,
    closure_report,
    empty_feature_table,
    feature_tables,
    feature_versions,
    features_sentence,
    month_grid,
    open_series,
    outlier_months,
    outlier_season_report,
    own_season,
    read_feature_inputs,
    record_versions,
    relative_level,
    store_month_as_of,
    trusted_feature_tables,
    unify_store_ids,
)
from brewcast.model.recipes import FEATURE_NAMES, RATE_FEATURES

CUTOFF = pd.Timestamp("2024-02-29")


def bytes_up_to_cutoff(lines: pd.DataFrame, plan: pd.DataFrame, folder) -> dict[str, bytes]:
    "The bytes of every feature table up to the cutoff, by name."
    content = {}
    for name, table in all_tables(lines, plan).items():
        if name != "outcomes":
            rows = table[table.event_timestamp <= CUTOFF.tz_localize("UTC")]
            content[name] = write_parquet(rows, folder / f"{name}.parquet").read_bytes()
            assert len(rows) > 100
    return content


def changed_after(lines: pd.DataFrame, plan: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Other data after the cutoff: other sales, weather and trading days, a new store, other plans."
    past, other = lines[lines.date <= CUTOFF], make_lines(seed=1)
    later = other[(other.date > CUTOFF) & (other.date.dt.day % 3 != 0)]
    later = later.assign(
        quantity_sold=later.quantity_sold * 3, weather="Rainy", promotion=True, holiday=True, price=9.99
    )
    new = later[later.store_id == "S0"].assign(store_id="A0", country="Mexico")
    replanned = plan.assign(price=plan.price.where(plan.published <= CUTOFF, 9.0))
    return pd.concat([past, later, new], ignore_index=True), replanned


@pytest.fixture(scope="module")
def world():
    return make_lines(), make_plan()


def test_no_byte_up_to_a_cutoff_changes_when_all_later_data_changes(world, tmp_path):
    lines, plan = world
    assert bytes_up_to_cutoff(lines, plan, tmp_path) == bytes_up_to_cutoff(*changed_after(lines, plan), tmp_path)


def test_no_byte_up_to_a_cutoff_changes_without_later_data(world, tmp_path):
    lines, plan = world
    ended = lines[lines.date <= CUTOFF], plan[plan.published <= CUTOFF]
    assert bytes_up_to_cutoff(lines, plan, tmp_path) == bytes_up_to_cutoff(*ended, tmp_path)


def plant_leak(monkeypatch, leak: str) -> None:
    "Make the features use data of the month to forecast."
    honest = features.history_features

    def leaky(grid):
        table = honest(grid)
        if leak == "next month's sales":
            return table.assign(log_lag_1=np.log(grid.rate))
        if leak == "same-month weather":
            return table.assign(weather_last=grid.weather.astype(object).fillna("unknown"))
        return table

    monkeypatch.setattr(features, "history_features", leaky)
    if leak == "same-month trading days":
        ahead = features.ahead_features
        monkeypatch.setattr(
            features, "ahead_features", lambda grid, *rest: ahead(grid, *rest).assign(expected_units=grid.trading_days)
        )
    if leak == "imputation by the whole history":
        # one level for all months, the most frequent of the whole export, as by `df.fillna(df.mode())`

        def whole(day, columns):
            for column in columns:
                names = [f"{column}_{i}" for i in range(len(clean_module.LEVEL_ORDER[column]))]
                sums = day.agg(**{name: day[name].sum() for name in names}).to_pandas().iloc[0].tolist()
                name = names[sums.index(max(sums))]
                day = day.mutate(**{name: day[name] + day[f"{column}_none"]})
            return day.mutate(month=day.date.truncate("M").cast("date"))

        monkeypatch.setattr(clean_module, "fill_missing", whole)


LEAKS = ["next month's sales", "same-month weather", "same-month trading days", "imputation by the whole history"]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_caught(leak, world, tmp_path, monkeypatch):
    # given data whose most frequent weather changes after the cutoff, and store-days without weather
    lines, plan = world
    has_no_weather = (lines.date.dt.day % 4 == 0) | lines.date.dt.is_month_end
    lines = lines.assign(weather=lines.weather.mask(has_no_weather))
    assert bytes_up_to_cutoff(lines, plan, tmp_path) == bytes_up_to_cutoff(*changed_after(lines, plan), tmp_path)
    # when a leak is planted
    plant_leak(monkeypatch, leak)
    # then the same comparison fails
    assert bytes_up_to_cutoff(lines, plan, tmp_path) != bytes_up_to_cutoff(*changed_after(lines, plan), tmp_path)


def test_a_plan_published_after_the_cutoff_is_not_known(world):
    lines, plan = world
    late = plan.assign(published=plan.published.mask(plan.month == "2024-03-01", pd.Timestamp("2024-03-02")))
    tables = all_tables(lines, late)["ahead"]
    march = tables[tables.event_timestamp == CUTOFF.tz_localize("UTC")]
    assert march.promotion_next.isna().all()
    assert all_tables(lines, plan)["ahead"].promotion_next.notna().all()


def test_open_and_closed_stores(world):
    tables = all_tables(*world)
    history, outcomes = tables["history"], tables["outcomes"]
    at = history.groupby(history.event_timestamp.dt.tz_localize(None)).series_id.agg(set)
    assert "S6" in at[pd.Timestamp("2024-03-31")] and "S6" not in at[pd.Timestamp("2024-04-30")]
    assert "S5" not in at[pd.Timestamp("2023-08-31")] and "S5" in at[pd.Timestamp("2023-09-30")]
    closed = outcomes[(outcomes.series_id == "S6") & (outcomes.month == "2024-04-01")]
    assert closed.actual.tolist() == [0.0]  # not known at the cutoff: the store stays in the evaluation
    assert (history[history.series_id == "S5"].has_own_season == 0).all()


def test_a_planned_closing_is_known(world):
    lines, plan = world
    closing = plan.assign(trading_days=plan.trading_days.mask((plan.store_id == "S6") & (plan.month > "2024-03-31"), 0))
    history = all_tables(lines, closing)["history"]
    assert history[history.series_id == "S6"].event_timestamp.max() < CUTOFF.tz_localize("UTC") + pd.Timedelta(days=2)


def test_the_grid_is_complete(world):
    store_month = clean(as_sales(world[0]), [], CALENDAR)[0].to_pandas()
    store_month = store_month.assign(month=pd.to_datetime(store_month.month))
    grid = month_grid(store_month, world[1], CALENDAR)
    assert grid.groupby("series_id").size().nunique() == 1
    assert grid.index.get_level_values("month").max() == store_month.month.max() + pd.offsets.MonthBegin(1)


def test_the_month_in_which_a_store_opened_is_no_habit(world):
    # given a store that opened on 10 September, and no plan of its trading days
    lines, plan = world
    ahead = all_tables(lines, plan.iloc[:0])["ahead"]
    first = ahead[ahead.series_id == "S5"].iloc[0]
    # then it is expected to trade on all days of October
    assert str(first.event_timestamp.date()) == "2023-09-30" and first.expected_units == 31


# -- late and corrected sale lines


@pytest.fixture(scope="module")
def corrected(world):
    return corrected_months(*world)


def test_a_correction_has_its_own_time_and_the_first_version_stays(corrected):
    versions, _, months, final = corrected
    twice = versions[versions.duplicated(["series_id", "month"], keep=False)]
    assert set(twice.series_id) == {"S1", "S2"} and len(twice) == 2 * (12 + 1)
    assert set(twice[twice.series_id == "S1"].created.drop_duplicates(keep="last").tail(1)) == {at("2024-04-01")}
    assert twice[twice.series_id == "S2"].created.max() == at("2024-06-01", hours=1)
    # the versions as of each time are the source's values of that time
    key = ["series_id", "month"]
    then = store_month_as_of(versions, at("2024-03-01")).set_index(key).quantity_sold
    assert then.equals(months.set_index(key).quantity_sold.reindex(then.index))
    now = store_month_as_of(versions, versions.created.max()).set_index(key).quantity_sold
    assert now.equals(final.set_index(key).quantity_sold.reindex(now.index))
    # and a build that is repeated adds nothing
    assert record_versions(final, versions, CALENDAR).equals(versions)


def test_features_stay_as_they_were_decided_and_corrections_are_added(corrected):
    month_versions, plan, months, final = corrected
    versions = feature_versions(month_versions, plan, CALENDAR)
    before, after = feature_tables(months, plan, CALENDAR), feature_tables(final, plan, CALENDAR)
    for name in ("history", "ahead", "profile"):
        table, event = versions[name], ["series_id", "event_timestamp"]
        first = table.drop_duplicates(event, keep="first").set_index(event)
        last = table.drop_duplicates(event, keep="last").set_index(event)
        # decisions until March used the old figures, and none of their bytes has changed
        old = before[name].set_index(event)
        old = old[old.index.get_level_values("event_timestamp") <= pd.Timestamp("2024-03-31", tz="UTC")]
        pd.testing.assert_frame_equal(first.loc[old.index], old, check_exact=True)
        # the newest version is equal to features computed from the corrected data
        new = after[name].set_index(event).drop(columns="created")
        pd.testing.assert_frame_equal(last.loc[new.index].drop(columns="created"), new, check_exact=True)
    moved = versions["history"][versions["history"].duplicated(["series_id", "event_timestamp"])]
    assert set(moved.created) == {at("2024-04-01"), at("2024-06-01", hours=1)}
    assert {"S1", "S2"} <= set(moved.series_id)


def test_an_outcome_has_the_cutoff_from_which_its_correction_was_known(corrected):
    versions, plan, months, final = corrected
    outcomes = feature_versions(versions, plan, CALENDAR)["outcomes"].set_index(["series_id", "month"])
    moved = outcomes[outcomes.known_from.notna()]
    assert len(moved) == 12 + 1
    assert set(moved.loc["S1"].known_from) == {pd.Timestamp("2024-04-30")}
    assert set(moved.loc["S2"].known_from) == {pd.Timestamp("2024-07-31")}  # June was decided before it
    assert (moved.actual == 2 * moved.actual_first).all()
    same = outcomes[outcomes.known_from.isna()]
    assert (same.actual == same.actual_first).all()


def test_a_removed_store_is_not_online(world, tmp_path):
    lines, plan = world
    months = months_of(lines)
    versions = record_versions(months, None, CALENDAR)
    is_removed = (months.series_id == "S3") & (months.month >= "2024-05-01")
    versions = record_versions(months[~is_removed], versions, CALENDAR)
    history = feature_versions(versions, plan, CALENDAR)["history"]
    assert open_series(history, pd.Timestamp("2024-06-30")) == ["S0", "S1", "S2", "S4", "S5"]


# -- months without lines, of all stores or of one


WAVE = [round(10 + 4 * np.sin(2 * np.pi * month / 12), 3) for month in range(12)]
NO_PLAN = plan_of()


def chain_of(**stores: list) -> pd.DataFrame:
    "Three steady stores from January 2022 on, and others of the same length."
    n = len(next(iter(stores.values())))
    steady = (WAVE * 5)[:n]
    return months_at({f"T{i}": [i * rate for rate in steady] for i in (1, 2, 3)} | stores)


def without(values: list, *positions: int) -> list:
    return [None if i in positions else value for i, value in enumerate(values)]


def outcomes_of(store_month: pd.DataFrame, *more) -> pd.DataFrame:
    tables = feature_versions(record_versions(store_month, None, CALENDAR), NO_PLAN, CALENDAR, *more)
    return tables["outcomes"].set_index(["series_id", "month"])


def test_a_month_without_any_lines_has_no_outcome():
    # given 36 months of four stores, none of which has November 2024
    table = chain_of(A=WAVE * 3)
    november = pd.Timestamp("2024-11-01")
    outcomes = outcomes_of(table[table.month != november])
    # then no store has an outcome in it, and all other months have one
    empty = outcomes.xs(november, level="month")
    assert len(empty) == 4 and empty[["actual", "actual_first", "known_from"]].isna().all().all()
    assert outcomes.drop(empty.index.map(lambda series_id: (series_id, november))).actual.gt(0).all()


def test_a_store_s_gap_has_no_outcome_and_a_closing_has_one():
    # given a store without November 2023, which the other stores have
    november, table = ("A", pd.Timestamp("2023-11-01")), chain_of(A=without(WAVE * 3, 22))
    names = ["actual", "actual_first", "known_from"]
    # then it has no outcome while November is the last month, nor after the store is back
    for last in ("2023-11-01", "2023-12-01", "2024-12-01"):
        outcomes = outcomes_of(table[table.month <= last])
        assert outcomes.loc[november, names].isna().all() and outcomes.actual.isna().sum() == 1
    # where the source says that missing months mean zero, it has one
    assert outcomes_of(table, "value").loc[november].actual == 0
    # a store that does not come back sold nothing in the month after its last: the next month shows it
    closed = chain_of(A=[*(WAVE * 2)[:22], *[None] * 14])
    assert outcomes_of(closed[closed.month <= "2023-11-01"]).loc[november, names].isna().all()
    assert outcomes_of(closed[closed.month <= "2023-12-01"]).loc[november].actual == 0
    assert outcomes_of(closed).loc[november].actual == 0


def test_after_a_gap_seasons_use_the_remaining_months():
    # given a steady season, and the same without one month
    whole, table = chain_of(A=WAVE * 4), chain_of(A=without(WAVE * 4, 26))
    rates = {
        name: month_grid(months, NO_PLAN, CALENDAR).rate for name, months in {"whole": whole, "gap": table}.items()
    }
    forecast = {name: baseline_rates(rate, rate * np.nan).rate_seasonal.loc["A"] for name, rate in rates.items()}
    # then the forecasts after it, and a year later, are those without the gap
    later = forecast["whole"].index[15:]
    np.testing.assert_allclose(forecast["gap"][later], forecast["whole"][later], rtol=1e-9)
    assert own_season(rates["gap"])["A"][later].notna().all()


# -- stores that close every year


KIOSK = [None] * 3 + [8.0, 9.0, 12.0, 14.0, 13.0, 9.0] + [None] * 3


def last_rows(store_month: pd.DataFrame, plan: pd.DataFrame = NO_PLAN) -> pd.DataFrame:
    "The feature rows of the last cutoff, by series_id."
    tables = feature_tables(store_month, plan, CALENDAR)
    rows = tables["history"].merge(tables["ahead"], on=["series_id", "event_timestamp", "created"])
    return rows[
        rows.event_timestamp.dt.tz_localize(None) == store_month.month.max() + pd.offsets.MonthEnd(0)
    ].set_index("series_id")


def first_months(months: int, **stores: list) -> pd.DataFrame:
    return chain_of(**{store: (values * 4)[:months] for store, values in stores.items()})


def test_a_store_closed_in_the_month_of_both_last_years_is_forecast_at_zero():
    # given a kiosk at the end of its third September
    table = first_months(33, kiosk=KIOSK)
    rows = last_rows(table)
    # then it is expected to trade on no day, and needs no season of its peers
    row = rows.loc["kiosk"]
    assert (row.expected_units, row.may_be_closed, row.has_own_season) == (0, 0, 1) and np.isfinite(
        row[RATE_FEATURES].astype(float)
    ).all()
    assert (rows.drop("kiosk").expected_units == 31).all()
    assert closure_report(month_grid(table, NO_PLAN, CALENDAR), CALENDAR) == [{"series_id": "kiosk", "does": "closed"}]
    # and a line of the plan overrides the habit
    assert last_rows(table, plan_of(("kiosk", "2024-10", 20))).loc["kiosk"].expected_units == 20
    assert "T1" not in last_rows(table, plan_of(("T1", "2024-10", 0))).index


def test_a_store_closed_in_one_year_only_is_forecast_and_reported():
    rows = last_rows(first_months(21, kiosk=KIOSK))
    assert rows.loc["kiosk"].expected_units == 31
    assert rows.may_be_closed.to_dict() == {"T1": 0, "T2": 0, "T3": 0, "kiosk": 1}
    assert closure_report(month_grid(first_months(21, kiosk=KIOSK), NO_PLAN, CALENDAR), CALENDAR) == [
        {"series_id": "kiosk", "does": "may_be_closed"}
    ]
    planned = last_rows(first_months(21, kiosk=KIOSK), plan_of(("kiosk", "2023-10", 31)))
    assert planned.loc["kiosk"].may_be_closed == 0


@pytest.mark.parametrize("months, is_habit", [(27, True), (15, False)])
def test_a_store_that_reopened_in_the_month_is_forecast_at_last_year_s_level(months, is_habit):
    # given a kiosk at the end of March, closed since September
    table = first_months(months, kiosk=KIOSK)
    row = last_rows(table).loc["kiosk"]
    # then every baseline forecasts April at last April's rate, and it is reported where it reopened once only
    assert row[RATE_FEATURES].astype(float).tolist() == [8.0] * len(RATE_FEATURES)
    assert (row.expected_units, row.may_be_closed) == (30, 0 if is_habit else 1)
    assert closure_report(month_grid(table, NO_PLAN, CALENDAR), CALENDAR) == [
        {"series_id": "kiosk", "does": "reopens" if is_habit else "may_reopen"}
    ]
    # and May is forecast by the season from April to May
    assert last_rows(first_months(28, kiosk=KIOSK)).loc["kiosk"].rate_seasonal == pytest.approx(9.0)


def test_a_store_closed_for_good_stays_closed_unless_the_plan_opens_it():
    # given a store that closed in June, after more than two years
    table = chain_of(A=[*(WAVE * 3)[:30], *[None] * 3])
    assert "A" not in last_rows(table).index
    # a plan that just goes on does not open it; a plan that starts in the month does, at last year's level
    going_on = plan_of(*[("A", f"2024-{month:02}", 30) for month in range(5, 11)])
    assert "A" not in last_rows(table, going_on).index
    row = last_rows(table, plan_of(("A", "2024-10", 25))).loc["A"]
    assert (
        row.expected_units == 25
        and row.rate_last_year == WAVE[9]
        and np.isfinite(row[RATE_FEATURES].astype(float)).all()
    )


def test_a_missing_file_is_no_habit():
    # given November 2023 missing for all stores, and November 2024 to forecast
    table = chain_of(A=WAVE * 3)
    rows = last_rows(table[(table.month != "2023-11-01") & (table.month < "2024-11-01")])
    assert len(rows) == 4 and (rows.may_be_closed == 0).all() and (rows.expected_units == 30).all()
    # nor is one missing month of one store that traded the year before
    assert last_rows(chain_of(A=without((WAVE * 3)[:34], 22))).loc["A"].may_be_closed == 0


# -- outliers


def scaled(values: list, factors: dict[int, float]) -> list:
    return [value * factors.get(i, 1.0) for i, value in enumerate(values)]


def forecast_by_season(table: pd.DataFrame) -> pd.Series:
    rate = month_grid(table, NO_PLAN, CALENDAR).rate
    return baseline_rates(rate, rate * np.nan).rate_seasonal.unstack("series_id").iloc[-1]


@pytest.mark.parametrize("months", [40, 41, 42, 43, 52, 53])
@pytest.mark.parametrize("factors", [{28: 0.05}, {28: 0.05, 29: 0.05, 30: 0.1}, {28: 6.0}])
def test_an_outlier_changes_neither_its_own_season_nor_the_next_three(months, factors):
    # given one store with a month (or three) of 2024 at a twentieth, or a festival, and the months one or two years later
    forecast = forecast_by_season(chain_of(A=scaled((WAVE * 5)[:months], factors)))
    # then the forecast is the same as without the outlier
    assert forecast["A"] == pytest.approx(WAVE[months % 12], rel=0.02)
    assert forecast["T1"] == pytest.approx(WAVE[months % 12], rel=0.02)


@pytest.mark.parametrize("months", [40, 42])
def test_an_outlier_of_all_stores_changes_no_season_either(months):
    table = chain_of(A=(WAVE * 4)[:months])
    shut = table.assign(quantity_sold=table.quantity_sold.mask(table.month == "2024-05-01", table.quantity_sold / 20))
    assert forecast_by_season(shut)["A"] == pytest.approx(WAVE[months % 12], rel=0.02)
    report = outlier_season_report(month_grid(shut, NO_PLAN, CALENDAR))
    assert {(row["series_id"], row["month"], row["kind"]) for row in report} == {
        (series_id, "2024-05", "odd") for series_id in ["A", "T1", "T2", "T3"]
    }
    if months == 40:  # with the outlier, the season would be the root of a twentieth
        assert report[0]["otherwise"] / report[0]["ratio"] == pytest.approx(20**-0.5)


def test_a_season_seen_in_two_years_has_no_outlier():
    toys = [10.0] * 11 + [40.0]
    rate = month_grid(chain_of(toys=toys * 3, kiosk=KIOSK * 3), NO_PLAN, CALENDAR).rate
    assert (
        not outlier_months(relative_level(rate), 12).loc[:, "2023-01-01":].any()
        and not outlier_months(relative_level(rate), 24).any()
    )
    assert own_season(rate)["toys", pd.Timestamp("2024-12-01")] == pytest.approx(4.0)


def test_a_season_of_one_year_is_used_and_reported():
    # given a store that began in September 2023 and sold a twentieth in May 2024
    table = chain_of(A=[*[None] * 20, *scaled((WAVE * 4)[20:40], {8: 0.05})])
    report = outlier_season_report(month_grid(table, NO_PLAN, CALENDAR))
    # then the season is used as it is, and reported beside the season of its peers
    assert [(row["series_id"], row["month"], row["kind"]) for row in report] == [("A", "2024-05", "alone")]
    assert report[0]["ratio"] < 0.1 and report[0]["otherwise"] == pytest.approx(WAVE[4] / np.mean(WAVE[1:4]), rel=0.02)


def test_features_of_gaps_habits_and_outliers_use_no_later_data():
    # given data with all of them, cut off at the end of several months
    table = chain_of(
        kiosk=(KIOSK * 4)[:46],
        gap=without((WAVE * 4)[:46], 20, 33),
        odd=scaled((WAVE * 4)[:46], {16: 0.05, 31: 8.0}),
        new=[*[None] * 20, *WAVE, *WAVE, 9.0, 9.0],
    )
    table = table[table.month != "2024-02-01"]
    whole = feature_tables(table, NO_PLAN, CALENDAR)
    for last in table.month.drop_duplicates().sort_values().iloc[[12, 20, 27, 33, 38, 41]]:
        then = feature_tables(table[table.month <= last], NO_PLAN, CALENDAR)
        for name, early in then.items():
            now = whole[name][whole[name].event_timestamp <= (last + pd.offsets.MonthEnd(0)).tz_localize("UTC")]
            # a store that opens later has no rows then
            pd.testing.assert_frame_equal(early, now.reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("dated", ["first", "last"])
def test_a_monthly_source_needs_no_settings_of_days(dated):
    # given a line a month, dated on its first or its last day; S1 sold nothing in the last month
    calendar = CALENDAR.model_copy(update={"unit": "month", "complete_within_days": None, "open_within_days": None})
    lines, plan = make_lines().head(1), make_plan().iloc[:0]
    ends = pd.date_range("2022-01-31", "2024-06-30", freq="ME")
    dates = ends if dated == "last" else ends.to_period("M").to_timestamp()
    lines = pd.concat([lines.assign(store_id=store, date=date) for store in ("S0", "S1") for date in dates])
    lines = lines[~((lines.store_id == "S1") & (lines.date >= "2024-06-01"))]
    # when it is cleaned and its features are computed
    store_month, report = clean(as_sales(lines), [], calendar)
    store_month = store_month.to_pandas().assign(month=lambda frame: pd.to_datetime(frame.month))
    history = feature_versions(record_versions(store_month, None, calendar), plan, calendar)["history"]
    # then every month is complete, and a store is open that sold in the last month
    assert report["incomplete_months"] == {} and len(store_month) == 59
    assert open_series(history, pd.Timestamp("2024-05-31")) == ["S0", "S1"]
    assert open_series(history, pd.Timestamp("2024-06-30")) == ["S0"]
    # and a declared setting counts, whatever the unit
    strict = calendar.model_copy(update={"open_within_days": 0})
    assert feature_versions(record_versions(store_month, None, strict), plan, strict)["history"].empty


def test_a_month_in_which_a_store_had_two_ids_is_one_corrected_month():
    months = months_of(make_lines())
    both = months[(months.store_id == "S2") & (months.month == "2024-03-01")]
    halves = [
        both.assign(quantity_sold=both.quantity_sold / 2, series_id=name, store_id=name) for name in ("S02", "S2")
    ]
    versions = record_versions(pd.concat([months.drop(both.index), *halves], ignore_index=True), None, CALENDAR)
    again = record_versions(months, unify_store_ids(versions, {"S02": "S2"}), CALENDAR)
    assert again[again.late].groupby(["series_id", "month"]).size().to_dict() == {("S2", pd.Timestamp("2024-03-01")): 1}
    assert store_month_as_of(again, again.created.max()).quantity_sold.sum() == months.quantity_sold.sum()
    feature_versions(again, make_plan(), CALENDAR)


def test_an_untrusted_month_is_neither_feature_nor_outcome(world):
    # given an untrusted store-month without a quantity, as `clean` leaves it, or with 30 times the quantity
    lines, plan = world
    months, when = months_of(lines), pd.Timestamp("2024-01-01")
    is_untrusted = (months.series_id == "S1") & (months.month == when)
    tables = {}
    for name, value in {"left out": np.nan, "wrong": months.quantity_sold[is_untrusted].iloc[0] * 30}.items():
        changed = months.assign(quantity_sold=months.quantity_sold.mask(is_untrusted, value))
        tables[name] = feature_versions(record_versions(changed, None, CALENDAR), plan, CALENDAR)
    # then the store is open in the next month, with features from the months before
    event = ["series_id", "event_timestamp"]
    row = {
        n: t["history"].set_index(event).loc[("S1", pd.Timestamp("2024-01-31", tz="UTC"))] for n, t in tables.items()
    }
    assert row["wrong"].rate_mean3 > 5 * row["left out"].rate_mean3 > 0 and np.isnan(row["left out"].log_lag_1)
    # and the month has no outcome, while all others have one
    outcomes = tables["left out"]["outcomes"].set_index(["series_id", "month"])
    assert outcomes.index[outcomes.actual.isna()].tolist() == [("S1", when)]
    assert outcomes.index[outcomes.actual_first.isna()].tolist() == [("S1", when)]


def test_a_month_accepted_later_is_known_from_then_on(world):
    # given a store-month that was left out, and is accepted three months later
    lines, plan = world
    months, when = months_of(lines), pd.Timestamp("2024-01-01")
    was_untrusted = (months.series_id == "S1") & (months.month == when)
    first = months[months.month < "2024-04-01"]
    versions = record_versions(first.assign(quantity_sold=first.quantity_sold.mask(was_untrusted)), None, CALENDAR)
    outcomes = feature_versions(record_versions(months, versions, CALENDAR), plan, CALENDAR)["outcomes"]
    row = outcomes.set_index(["series_id", "month"]).loc[("S1", when)]
    assert row.actual == months.quantity_sold[was_untrusted].iloc[0] and np.isnan(row.actual_first)
    assert row.known_from >= pd.Timestamp("2024-04-30")


# -- what the stage reads


def test_the_stage_reads_earlier_versions_under_the_ids_of_today(tmp_path):
    # given a source in which a store had another id when the last build recorded its months
    months = months_at({"S2": [5.0] * 3})
    old = months.assign(series_id="S02", store_id="S02")
    files = {"store_month": months, "plan": plan_of(), "known": record_versions(old, None, CALENDAR)}
    for name, table in files.items():
        write_parquet(table, tmp_path / f"{name}.parquet")
    figures = {"month": "2022-02", "left_out": ["S2"]}
    finding = Finding(check="unit_shift", level="stop", where="S2", text="another unit", figures=figures)
    write_json([finding.content()], tmp_path / "findings.json")
    clean_paths = SimpleNamespace(store_month=tmp_path / "store_month.parquet", findings=tmp_path / "findings.json")
    paths = SimpleNamespace(clean=clean_paths, ingest=SimpleNamespace(plan=tmp_path / "plan.parquet"))
    state = StateInputs(champion=None, known=str(tmp_path / "known.parquet"))
    # when the stage reads its inputs, in a later build and in the first one
    write_json(state, tmp_path / "inputs.json")
    later = read_feature_inputs(paths, str(tmp_path / "inputs.json"), {"S02": "S2"})
    write_json(state.model_copy(update={"known": None}), tmp_path / "inputs.json")
    first = read_feature_inputs(paths, str(tmp_path / "inputs.json"), {"S02": "S2"})
    # then no month of the store was removed or corrected
    assert not record_versions(later.store_month, later.previous, CALENDAR)[["late", "gone"]].any().any()
    assert first.previous is None and len(later.plan) == 0
    # and the month that is not trusted has no outcome
    outcomes = trusted_feature_tables(later, record_versions(months, None, CALENDAR), CALENDAR)["outcomes"]
    assert outcomes.month[outcomes.actual.isna()].tolist() == [pd.Timestamp("2022-02-01")]


# -- what the report shows


def test_every_column_of_the_feature_tables_has_a_name_in_words():
    tables = all_tables(make_lines(), make_plan())
    keys = {"series_id", "store_id", "event_timestamp", "created"}
    columns = {name for table in ("history", "ahead", "profile") for name in tables[table]} - keys
    assert columns - set(FEATURE_NAMES) == set()
    assert not any("_" in row[0] for row in empty_feature_table(tables).rows)


def test_the_answer_of_one_store_and_of_a_source_without_a_country():
    one = {"cutoff": pd.Timestamp("2025-12-31"), "open_series": 1, "young_series": 1}
    nothing = {"trade": [], "odd_seasons": []}
    assert features_sentence(one | {"unlisted_countries": {"*": '"*": "US"'}}, nothing) == (
        "1 store is open at the end of December 2025 and has features for January 2026; 1 of them takes the season of "
        "other stores, being new; no public holidays are known of all stores."
    )
