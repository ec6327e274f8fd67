"""What answers requests: the service, its release, traffic, keys, logs and online rows; and the what-if panel.
It may import common alone; the modules in the Bento import no pandas, scikit-learn, Feast, MLflow, matplotlib or Ploomber.
Never here: training, or anything that writes the ledger.
"""
