"Feast definitions: the entity, three tables, a feature view over each, and the feature service that models read."

import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

FOLDER = os.environ.get("BREWCAST_FEATURES", "")
if not FOLDER:
    raise RuntimeError("BREWCAST_FEATURES is not set: run `. ./activate [source]` first")

# The entity is a series: one store, later perhaps one category of a store. Every view joins on its key, series_id.
series = Entity(name="series", join_keys=["series_id"], value_type=ValueType.STRING)

# A row describes one cutoff (event_timestamp). It is available from `created` on, when the month's data had arrived.
sources = {
    name: FileSource(
        name=name,
        path=f"{FOLDER}/{name}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    for name in ["history", "ahead", "profile"]
}

# A view shows the columns of its table, in the table's order: nbs/model/13_features.ipynb computes them, and a build
# refuses a difference. Cutoffs are one month apart: with 45 days, a forecast may use the row of the cutoff before, and
# none that is older.
MAX_ROW_AGE = timedelta(days=45)

# The past of the series and of similar series. A rate is units per trading unit (day, week or month); a log is the
# natural logarithm of a ratio of rates.
history = FeatureView(
    name="history",
    entities=[series],
    source=sources["history"],
    ttl=MAX_ROW_AGE,
    schema=[
        Field(name="rate_last", dtype=Float64),  # what the baselines forecast, as rates: the last month,
        Field(name="rate_mean3", dtype=Float64),  # the mean of three months,
        Field(name="rate_last_year", dtype=Float64),  # the same month last year,
        Field(name="rate_seasonal", dtype=Float64),  # the mean times the series' own season, if it has one,
        Field(name="rate_pooled", dtype=Float64),  # the mean times the season of its country
        Field(name="has_own_season", dtype=Int64),  # 1 if the series has a season of its own, else 0
        Field(name="log_lag_1", dtype=Float64),  # the rate so many months before the target, to rate_mean3
        Field(name="log_lag_2", dtype=Float64),
        Field(name="log_lag_3", dtype=Float64),
        Field(name="log_lag_12", dtype=Float64),
        Field(name="log_own_season", dtype=Float64),
        Field(name="log_pooled_season", dtype=Float64),
        Field(name="log_growth", dtype=Float64),  # rate_mean3 to the same three months a year before
        Field(name="log_level", dtype=Float64),  # rate_mean3 to the mean of twelve months
        Field(name="log_size", dtype=Float64),  # no ratio: the mean rate of twelve months
        Field(name="volatility", dtype=Float64),  # root mean square of the monthly log changes of a year
        Field(name="months_of_history", dtype=Float64),  # months with a rate; a whole number
        Field(name="promotion_share_last", dtype=Float64),  # the promotion's share, in [0, 1]: the last month,
        Field(name="promotion_share_mean3", dtype=Float64),  # the mean of three months,
        Field(name="promotion_share_last_year", dtype=Float64),  # the target month a year ago,
        Field(name="promotion_share_before_last_year", dtype=Float64),  # the mean of the three months before that
        Field(name="price_last", dtype=Float64),  # the mean price, in the source's currency, of the same months
        Field(name="price_mean3", dtype=Float64),
        Field(name="price_last_year", dtype=Float64),
        Field(name="price_before_last_year", dtype=Float64),
        Field(name="weather_last", dtype=String),  # of the last month; "unknown" where the source does not say
        Field(name="promotion_last", dtype=String),  # True, False or unknown
        Field(name="holiday_last", dtype=String),  # True, False or unknown
    ],
)

# What is known before the month begins: its calendar and its plan. A change is to the three months before; a change of
# the year is that change, less the same change a year before.
ahead = FeatureView(
    name="ahead",
    entities=[series],
    source=sources["ahead"],
    ttl=MAX_ROW_AGE,
    schema=[
        Field(name="expected_units", dtype=Float64),  # trading units of the month: a rate times these is the forecast
        Field(name="may_be_closed", dtype=Int64),  # 1 if the series may be closed in the target month, else 0
        Field(name="month_of_year", dtype=Int64),  # 1 to 12
        Field(name="season_next", dtype=String),  # winter, spring, summer or autumn, by hemisphere
        Field(name="holidays_next", dtype=Float64),  # public holidays; a whole number
        Field(name="holidays_change", dtype=Float64),
        Field(name="holidays_change_year", dtype=Float64),
        Field(name="weekend_change", dtype=Float64),  # of the share of weekend days, to the same month last year
        Field(name="units_change", dtype=Float64),  # log ratio of trading units, to the same month last year
        Field(name="promotion_next", dtype=Float64),  # the planned promotion's share, in [0, 1]
        Field(name="promotion_change", dtype=Float64),
        Field(name="promotion_change_year", dtype=Float64),
        Field(name="price_change", dtype=Float64),  # log ratio of the planned price
        Field(name="price_change_year", dtype=Float64),
    ],
)

# Where the store is; "unknown" where the source does not say.
profile = FeatureView(
    name="profile",
    entities=[series],
    source=sources["profile"],
    ttl=MAX_ROW_AGE,
    schema=[
        Field(name="store_id", dtype=String),
        Field(name="country", dtype=String),
        Field(name="city", dtype=String),
    ],
)

# The features of every recipe, in training and in serving.
next_month = FeatureService(name="next_month", features=[history, ahead, profile])
