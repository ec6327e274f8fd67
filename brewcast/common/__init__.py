"""Shared by all packages: vocabulary, parameters, contracts, reading the ledger, MLflow, charts and text.
It may import libraries, and nothing else of Brewcast.
Never here: code for one package only, or code that knows a stage.
"""
