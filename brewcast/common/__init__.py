"""What every package stands on: vocabulary, parameters, contracts, the ledger as it is read, MLflow, charts and text.
It may import libraries, and nothing else of Brewcast.
Never here: what only one package needs, or anything that knows a stage.
"""
