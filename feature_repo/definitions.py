"What Feast knows of Brewcast: an entity, three tables, the views over them and the service that models read."

import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, FileSource, ValueType

FOLDER = os.environ.get("BREWCAST_FEATURES", "")
if not FOLDER:
    raise RuntimeError("BREWCAST_FEATURES is not set: run `. ./activate [source]` first")

# What is forecast: a store, later a store's category.
series = Entity(name="series", join_keys=["series_id"], value_type=ValueType.STRING)

# A row describes one cutoff (event_timestamp) and is known from `created` on, when the month's data was in.
sources = {
    name: FileSource(
        name=name,
        path=f"{FOLDER}/{name}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    for name in ["history", "ahead", "profile"]
}

# A forecast never uses a row that is more than one cutoff old.
AGE = timedelta(days=45)
# the past of the series and of its peers
history = FeatureView(name="history", entities=[series], source=sources["history"], ttl=AGE)
# what is decided beforehand: the calendar and the plan
ahead = FeatureView(name="ahead", entities=[series], source=sources["ahead"], ttl=AGE)
# where the store is
profile = FeatureView(name="profile", entities=[series], source=sources["profile"], ttl=AGE)

# What every recipe reads, in training and in service.
next_month = FeatureService(name="next_month", features=[history, ahead, profile])
