"""What answers requests: the service, its release, traffic, keys, logs and online rows; and the panel that asks what if.
It may import common alone, and what the Bento holds no pandas, scikit-learn, Feast, MLflow, matplotlib or Ploomber.
Never here: training, or anything that writes the ledger.
"""
