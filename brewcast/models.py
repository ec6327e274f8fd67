"""The old import path of the model classes. Models that were pickled as `brewcast.models.*` are loaded through it.

joblib, skops and MLflow all import a class by its path. Older states and backups have the old path.
No other module maps an old path to a present one.
"""

from brewcast.model.recipes import Baseline, CombinedForest

__all__ = ["Baseline", "CombinedForest"]
