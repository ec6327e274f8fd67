"""From store-months to a verdict: features, recipes, backtests, drift, training, and the gate.
It may import data and common.
Never here: what a planner reads, what serves, or anything that changes what serves.
"""
