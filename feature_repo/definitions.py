"Feast definitions: the entity, three tables, a feature view over each, and the feature service that models read."

import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, FileSource, ValueType

FOLDER = os.environ.get("BREWCAST_FEATURES", "")
if not FOLDER:
    raise RuntimeError("BREWCAST_FEATURES is not set: run `. ./activate [source]` first")

# The entity is a series: one store, later perhaps one category of a store.
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

# Cutoffs are one month apart. With 45 days, a forecast may use the row of the cutoff before, and none that is older.
MAX_ROW_AGE = timedelta(days=45)
# the past of the series and of similar series
history = FeatureView(name="history", entities=[series], source=sources["history"], ttl=MAX_ROW_AGE)
# known before the month: the calendar and the plan
ahead = FeatureView(name="ahead", entities=[series], source=sources["ahead"], ttl=MAX_ROW_AGE)
# where the store is: country and city
profile = FeatureView(name="profile", entities=[series], source=sources["profile"], ttl=MAX_ROW_AGE)

# The features of every recipe, in training and in serving.
next_month = FeatureService(name="next_month", features=[history, ahead, profile])
