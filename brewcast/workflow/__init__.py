"""How stages are run: what makes them stale, kernels, the executor, what is patched in Ploomber, records of runs, reports.
It may import common alone, and knows no stage by name: what it must know stands in pipeline.yaml.
Never here: what a stage does.
"""
