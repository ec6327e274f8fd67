"""How stages run: when one is stale, kernels, the executor, patches of Ploomber, records of runs, reports.
It may import only common, and names no stage: pipeline.yaml has all that it must know about stages.
Never here: what a stage does.
"""
