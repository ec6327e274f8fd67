"What may be known at a cutoff, and what a correction changes of it."

import numpy as np
import pandas as pd
import pytest
from tables import CALENDAR, all_tables, as_sales, at, corrected_months, make_lines, make_plan, months_of

from brewcast.common.core import write_parquet
from brewcast.data import clean as clean_module
from brewcast.data.clean import clean
from brewcast.model import features
from brewcast.model.features import (
    as_known,
    feature_tables,
    feature_versions,
    month_grid,
    open_series,
    restated,
    without_outcome,
)

CUTOFF = pd.Timestamp("2024-02-29")


def known_bytes(lines: pd.DataFrame, plan: pd.DataFrame, folder) -> dict[str, bytes]:
    "The bytes of every feature table up to the cutoff."
    answer = {}
    for name, table in all_tables(lines, plan).items():
        if name != "outcomes":
            known = table[table.event_timestamp <= CUTOFF.tz_localize("UTC")]
            answer[name] = write_parquet(known, folder / f"{name}.parquet").read_bytes()
            assert len(known) > 100
    return answer


def changed_after(lines: pd.DataFrame, plan: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Another world after the cutoff: other sales, weather and trading days, a new store, other plans."
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


def test_no_byte_up_to_a_cutoff_moves_when_everything_after_it_changes(world, tmp_path):
    lines, plan = world
    assert known_bytes(lines, plan, tmp_path) == known_bytes(*changed_after(lines, plan), tmp_path)


def test_no_byte_up_to_a_cutoff_moves_when_nothing_comes_after_it(world, tmp_path):
    lines, plan = world
    ended = lines[lines.date <= CUTOFF], plan[plan.published <= CUTOFF]
    assert known_bytes(lines, plan, tmp_path) == known_bytes(*ended, tmp_path)


def plant(monkeypatch, leak: str) -> None:
    "Make the features know something of the month that they forecast."
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
        # one level for all time, the most frequent of the whole export: what `df.fillna(df.mode())` does

        def whole(day, columns):
            for column in columns:
                names = [f"{column}_{i}" for i in range(len(clean_module.COUNTED[column]))]
                sums = day.agg(**{name: day[name].sum() for name in names}).to_pandas().iloc[0].tolist()
                name = names[sums.index(max(sums))]
                day = day.mutate(**{name: day[name] + day[f"{column}_none"]})
            return day.mutate(month=day.date.truncate("M").cast("date"))

        monkeypatch.setattr(clean_module, "filled_in", whole)


LEAKS = ["next month's sales", "same-month weather", "same-month trading days", "imputation by the whole history"]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_caught(leak, world, tmp_path, monkeypatch):
    # given a world in which the most frequent weather turns after the cutoff, and some store-days say nothing of it
    lines, plan = world
    quiet = (lines.date.dt.day % 4 == 0) | lines.date.dt.is_month_end
    lines = lines.assign(weather=lines.weather.mask(quiet))
    assert known_bytes(lines, plan, tmp_path) == known_bytes(*changed_after(lines, plan), tmp_path)
    # when a leak is planted
    plant(monkeypatch, leak)
    # then the same comparison fails
    assert known_bytes(lines, plan, tmp_path) != known_bytes(*changed_after(lines, plan), tmp_path)


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
    gone = outcomes[(outcomes.series_id == "S6") & (outcomes.month == "2024-04-01")]
    assert gone.actual.tolist() == [0.0]  # nobody knew: it stays in the evaluation
    young = history[(history.series_id == "S5")].has_own_season
    assert (young == 0).all()


def test_a_planned_closing_is_known(world):
    lines, plan = world
    closing = plan.assign(trading_days=plan.trading_days.mask((plan.store_id == "S6") & (plan.month > "2024-03-31"), 0))
    history = all_tables(lines, closing)["history"]
    assert history[history.series_id == "S6"].event_timestamp.max() < CUTOFF.tz_localize("UTC") + pd.Timedelta(days=2)


def test_weeks_are_counted_by_their_weekday():
    months = pd.date_range("2012-08-01", "2012-10-01", freq="MS")
    friday = {"unit": "week", "weekday": "FRI"}
    assert features.planned_units(months, friday).tolist() == [5, 4, 4]
    labor_day = features.public_holidays(months, "US", friday)  # Monday 3 September, in the week of Friday the 7th
    assert labor_day.tolist() == [0, 1, 1]


def test_the_grid_is_complete(world):
    store_month = clean(as_sales(world[0]), [], CALENDAR)[0].to_pandas()
    store_month = store_month.assign(month=pd.to_datetime(store_month.month))
    grid = month_grid(store_month, world[1], CALENDAR)
    assert grid.groupby("series_id").size().nunique() == 1
    assert grid.index.get_level_values("month").max() == store_month.month.max() + pd.offsets.MonthBegin(1)


def test_the_month_in_which_a_store_opened_is_no_habit(world):
    # given a store that opened on 10 September, and no plan that would say how many days it trades
    lines, plan = world
    ahead = all_tables(lines, plan.iloc[:0])["ahead"]
    first = ahead[ahead.series_id == "S5"].iloc[0]
    # then it is expected to trade on all of October's days
    assert str(first.event_timestamp.date()) == "2023-09-30" and first.expected_units == 31


# -- sale lines that come late, or are corrected


@pytest.fixture(scope="module")
def corrected(world):
    return corrected_months(*world)


def test_a_correction_has_its_own_time_and_the_first_version_stays(corrected):
    known, _, months, final = corrected
    twice = known[known.duplicated(["series_id", "month"], keep=False)]
    assert set(twice.series_id) == {"S1", "S2"} and len(twice) == 2 * (12 + 1)
    assert set(twice[twice.series_id == "S1"].created.drop_duplicates(keep="last").tail(1)) == {at("2024-04-01")}
    assert twice[twice.series_id == "S2"].created.max() == at("2024-06-01", hours=1)
    # what was known at each time is what the source said then
    key = ["series_id", "month"]
    then = as_known(known, at("2024-03-01")).set_index(key).quantity_sold
    assert then.equals(months.set_index(key).quantity_sold.reindex(then.index))
    now = as_known(known, known.created.max()).set_index(key).quantity_sold
    assert now.equals(final.set_index(key).quantity_sold.reindex(now.index))
    # and a build that is repeated adds nothing
    assert restated(final, known, CALENDAR).equals(known)


def test_features_are_those_of_their_decision_and_the_corrected_come_beside_them(corrected):
    known, plan, months, final = corrected
    versions = feature_versions(known, plan, CALENDAR)
    before, after = feature_tables(months, plan, CALENDAR), feature_tables(final, plan, CALENDAR)
    for name in ("history", "ahead", "profile"):
        table, event = versions[name], ["series_id", "event_timestamp"]
        first = table.drop_duplicates(event, keep="first").set_index(event)
        last = table.drop_duplicates(event, keep="last").set_index(event)
        # decisions until March saw the old figures, and no byte of theirs has moved
        old = before[name].set_index(event)
        old = old[old.index.get_level_values("event_timestamp") <= pd.Timestamp("2024-03-31", tz="UTC")]
        pd.testing.assert_frame_equal(first.loc[old.index], old, check_exact=True)
        # the newest version is what a fresh look at the corrected data gives
        new = after[name].set_index(event).drop(columns="created")
        pd.testing.assert_frame_equal(last.loc[new.index].drop(columns="created"), new, check_exact=True)
    moved = versions["history"][versions["history"].duplicated(["series_id", "event_timestamp"])]
    assert set(moved.created) == {at("2024-04-01"), at("2024-06-01", hours=1)}
    assert {"S1", "S2"} <= set(moved.series_id)


def test_an_outcome_says_from_which_cutoff_its_correction_was_known(corrected):
    known, plan, months, final = corrected
    outcomes = feature_versions(known, plan, CALENDAR)["outcomes"].set_index(["series_id", "month"])
    moved = outcomes[outcomes.known_from.notna()]
    assert len(moved) == 12 + 1
    assert set(moved.loc["S1"].known_from) == {pd.Timestamp("2024-04-30")}
    assert set(moved.loc["S2"].known_from) == {pd.Timestamp("2024-07-31")}  # June was decided without it
    assert (moved.actual == 2 * moved.actual_first).all()
    same = outcomes[outcomes.known_from.isna()]
    assert (same.actual == same.actual_first).all()


def test_a_store_that_is_taken_back_is_not_online(world, tmp_path):
    lines, plan = world
    months = months_of(lines)
    known = restated(months, None, CALENDAR)
    gone = (months.series_id == "S3") & (months.month >= "2024-05-01")
    known = restated(months[~gone], known, CALENDAR)
    history = feature_versions(known, plan, CALENDAR)["history"]
    assert open_series(history, pd.Timestamp("2024-06-30")) == ["S0", "S1", "S2", "S4", "S5"]


def test_what_is_not_trusted_is_no_feature_and_no_outcome(world):
    # given a store-month without a quantity, as `clean` leaves it, and another of 30 times as much
    lines, plan = world
    months, when = months_of(lines), pd.Timestamp("2024-01-01")
    there = (months.series_id == "S1") & (months.month == when)
    tables = {}
    for name, value in {"left out": np.nan, "wrong": months.quantity_sold[there].iloc[0] * 30}.items():
        changed = months.assign(quantity_sold=months.quantity_sold.mask(there, value))
        tables[name] = feature_versions(restated(changed, None, CALENDAR), plan, CALENDAR)
    # then the store is open in the month after it, by what it did before
    event = ["series_id", "event_timestamp"]
    row = {
        n: t["history"].set_index(event).loc[("S1", pd.Timestamp("2024-01-31", tz="UTC"))] for n, t in tables.items()
    }
    assert row["wrong"].rate_mean3 > 5 * row["left out"].rate_mean3 > 0 and np.isnan(row["left out"].log_lag_1)
    # and the month is no outcome, while all others are
    outcomes = tables["left out"]["outcomes"].set_index(["series_id", "month"])
    assert outcomes.index[outcomes.actual.isna()].tolist() == [("S1", when)]
    assert outcomes.index[outcomes.actual_first.isna()].tolist() == [("S1", when)]


def test_what_was_accepted_later_is_known_from_then_on(world):
    # given a store-month that was left out, and is accepted three months later
    lines, plan = world
    months, when = months_of(lines), pd.Timestamp("2024-01-01")
    there = (months.series_id == "S1") & (months.month == when)
    first = months[months.month < "2024-04-01"]
    known = restated(first.assign(quantity_sold=first.quantity_sold.mask(there)), None, CALENDAR)
    outcomes = feature_versions(restated(months, known, CALENDAR), plan, CALENDAR)["outcomes"]
    row = outcomes.set_index(["series_id", "month"]).loc[("S1", when)]
    assert row.actual == months.quantity_sold[there].iloc[0] and np.isnan(row.actual_first)
    assert row.known_from >= pd.Timestamp("2024-04-30")


def test_stores_whose_lines_are_missing_have_not_sold_nothing():
    outcomes = pd.DataFrame(
        {"series_id": ["S1", "S2", "S1"], "month": pd.to_datetime(["2024-01-01"] * 2 + ["2024-02-01"])}
    )
    outcomes = outcomes.assign(actual=[0.0, 0.0, 5.0], actual_first=[0.0, 0.0, 5.0])
    doubtful = pd.DataFrame({"month": [pd.Timestamp("2024-01-01")], "store_id": ["S1"]})
    got = without_outcome(outcomes, doubtful)
    assert got.actual.isna().tolist() == got.actual_first.isna().tolist() == [True, False, False]
