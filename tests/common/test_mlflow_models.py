"Models in MLflow: the private methods that delete them are as they were; the lessons of the notebook pin the rest."

import pytest
from house import source_hash

# What `delete_models` uses of MLflow's private methods: the hash of each source as it was when this was written.
PRIVATE_METHODS = {
    "_hard_delete_run": "31dda9d5e403",
    "_hard_delete_logged_model": "1f658890f45f",
}


@pytest.mark.parametrize("name", PRIVATE_METHODS)
def test_the_private_methods_that_delete_are_as_they_were(name):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    digest = source_hash(getattr(SqlAlchemyStore, name))
    assert digest == PRIVATE_METHODS[name], (
        f"MLflow's {name} has changed: check that `delete_models` in nbs/common/mlflow_models.ipynb still deletes the "
        f"row and all that refers to it, then write {digest} here"
    )
