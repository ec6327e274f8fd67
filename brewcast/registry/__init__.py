"""Everything that changes what serves: publish, promotion, the ledger and online store writers, the champion test.
It may import delivery, serving, model, data and common.
Never here: how stages are run, or anything that a stage needs.
"""
