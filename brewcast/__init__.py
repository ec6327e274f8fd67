"""From raw till data to a served, monitored forecast of each store's sales for the next month.

cli > operations > workflow, registry > delivery > model, serving > data > common: each package imports only what stands
below it, and its docstring says what lives there. Modules are exported from the notebooks in nbs/, which has the same tree.
"""

__version__ = "0.1.0"
