"""From a source's files to sale lines and store-months: readers, ingest, clean, explore, checks of quality, a simulated chain.
It may import common.
Never here: features, models, or anything that reads the state.
"""
