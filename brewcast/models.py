"""Where models pickled before the packages say that their classes are: states and backups of then are read by it.

The one place where an old path is mapped to the present one. joblib, skops and MLflow all import a class by its path.
"""

from brewcast.model.recipes import Baseline, CombinedForest

__all__ = ["Baseline", "CombinedForest"]
