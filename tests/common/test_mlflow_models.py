"Registered and logged models: found by content, deleted whole, and by private methods that are as they were."

import pytest
from house import source_hash
from sklearn.dummy import DummyRegressor

from brewcast.common.mlflow import log_model_run, mlflow_client
from brewcast.common.mlflow_models import (
    artifacts_without_run,
    claim_or_read_owner,
    delete_models,
    logged_models,
    read_aliases,
    register_model,
    registered_version,
    set_aliases,
)

DETAILS = {"params": {"recipe": "mean"}, "metrics": {}, "tags": {}, "artifacts": [], "source": "shop"}


@pytest.fixture
def shop(tmp_path):
    "A project with one logged model."
    log_model_run(DummyRegressor(), "aaaabbbbcccc", **DETAILS, root=tmp_path)
    return tmp_path


def test_a_model_is_registered_once_and_only_if_it_was_logged(shop):
    results = [
        register_model("shop", shop, content_hash) for content_hash in ("aaaabbbbcccc", "aaaabbbbcccc", "0" * 12)
    ]
    assert results == ["registered", "present", None]
    assert registered_version("shop", shop, "aaaabbbbcccc").version == 1
    assert registered_version("shop", shop, "0" * 12) is None


def test_without_a_database_nothing_is_registered_and_nothing_is_created(tmp_path):
    assert registered_version("shop", tmp_path, "aaaabbbbcccc") is None
    assert logged_models("shop", tmp_path) == [] == artifacts_without_run(tmp_path / "state/shop")
    assert list(tmp_path.iterdir()) == []


def test_aliases_are_set_and_others_removed(shop):
    # an alias whose model was never logged is left out
    assert set_aliases("shop", shop, {"champion": "aaaabbbbcccc", "challenger": "0" * 12})
    assert read_aliases("shop", shop) == {"champion": "aaaabbbbcccc"}
    assert not set_aliases("shop", shop, {"champion": "aaaabbbbcccc", "challenger": "0" * 12})
    assert set_aliases("shop", shop, {"challenger": "aaaabbbbcccc"})
    assert read_aliases("shop", shop) == {"challenger": "aaaabbbbcccc"}


def test_the_first_owner_stays(shop):
    assert [claim_or_read_owner("shop", shop, owner) for owner in ("ann", "bob")] == ["ann", "ann"]


def test_a_deleted_model_leaves_no_row_and_its_artifacts_without_a_run(shop):
    # given a registered model, and a run of another program
    register_model("shop", shop, "aaaabbbbcccc")
    with mlflow_client("shop", shop) as (client, experiment):
        other = client.create_run(experiment, tags={"who": "an analyst"}).info.run_id
    (model,) = logged_models("shop", shop)
    assert (model.versions, len(model.models), model.deleted) == (["1"], 1, 0)
    # when it is deleted
    delete_models("shop", shop, [model])
    # then MLflow knows neither run, model nor version, and the other run is there
    with mlflow_client("shop", shop) as (client, experiment):
        from mlflow.entities import ViewType

        runs = client.search_runs([experiment], run_view_type=ViewType.ALL)
        assert [run.info.run_id for run in runs] == [other]
        assert list(client.search_logged_models([experiment])) == list(client.search_model_versions("")) == []
    assert artifacts_without_run(shop / "state/shop") == model.paths


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
