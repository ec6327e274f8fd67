"""What changes what serves: publish, promotion, the ledger's writer, the online store's writer, the test of two champions.
It may import delivery, serving, model, data and common.
Never here: how stages are run, or anything that a stage needs.
"""
