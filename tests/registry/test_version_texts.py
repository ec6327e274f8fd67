"A version's description tells what became of its model, also after a promotion and a rollback by hand."

import contextlib
import sqlite3

import pytest
from releases import FOREST, SEASONAL, write_products, write_settings

from brewcast.common.mlflow_tables import NOTES_LINE
from brewcast.registry import promotion
from brewcast.registry.champion_test import promotion_evidence
from brewcast.registry.model_registry import log_missing_run
from brewcast.registry.publish import publish


@pytest.fixture
def project(tmp_path):
    write_settings(tmp_path)
    write_products(tmp_path, "key1", SEASONAL, challenger=FOREST)
    publish("shop", tmp_path)
    return tmp_path


def descriptions(root) -> dict[str, str]:
    "Descriptions by recipe."
    query = "SELECT p.value, v.description FROM model_versions v JOIN params p ON p.run_uuid = v.run_id AND p.key = 'recipe'"
    with contextlib.closing(sqlite3.connect(root / "state/shop/mlflow.db")) as connection:
        return dict(connection.execute(query))


def test_a_description_says_what_the_model_is_and_why_it_serves(project):
    texts = descriptions(project)
    assert "**seasonal**: Three-month mean × last year's season" in texts["seasonal"]
    assert "Trained through 2024-04" in texts["seasonal"] and "**champion** now" in texts["seasonal"]
    assert "The gate on this model: promote, it is better" in texts["seasonal"]
    assert "**forest**: Forest of 3 trees" in texts["forest"] and "**challenger** now" in texts["forest"]


def test_promotion_and_rollback_by_hand_are_told_with_the_person_s_reason(project, monkeypatch):
    monkeypatch.setenv("BREWCAST_BY", "ann")
    challenger = promotion_evidence("shop", project).challenger
    promotion.promote("shop", project, "the summer menu", challenger)
    texts = descriptions(project)
    assert "**champion** now" in texts["forest"] and "promote by ann" in texts["forest"]
    assert "promoted by hand, the summer menu" in texts["forest"]
    assert "no longer serves, is the challenger" in texts["seasonal"]
    promotion.rollback("shop", project, "too many complaints")
    texts = descriptions(project)
    assert "**neither champion nor challenger** now" in texts["forest"] and "too many complaints" in texts["forest"]
    assert "**champion** now" in texts["seasonal"]


def test_a_person_s_notes_stay_and_an_older_brewcast_s_version_is_described(project):
    with contextlib.closing(sqlite3.connect(project / "state/shop/mlflow.db")) as connection, connection:
        connection.execute("UPDATE model_versions SET description = description || '\n\nAsk Ann.' WHERE version = 1")
        connection.execute("UPDATE model_versions SET description = NULL WHERE version = 2")
    assert publish("shop", project).changed == ["descriptions"]
    assert publish("shop", project).changed == []
    texts = descriptions(project)
    assert sum(text.endswith(f"{NOTES_LINE}\n\nAsk Ann.") for text in texts.values()) == 1
    assert all("** now" in text for text in texts.values())


def test_a_release_whose_run_was_lost_is_logged_with_signature_and_example(project):
    from brewcast.common.mlflow import mlflow_client

    release = (project / "state/shop/current").resolve()
    with mlflow_client("shop", project) as (client, experiment):
        for run in client.search_runs([experiment]):
            client.delete_run(run.info.run_id)
    log_missing_run("shop", project, release)
    with mlflow_client("shop", project) as (client, experiment):
        (run,) = client.search_runs([experiment])
        (output,) = run.outputs.model_outputs
        model = client.get_logged_model(output.model_id)
    text = (project / model.artifact_location / "MLmodel").read_text()
    assert "signature:" in text and "saved_input_example_info:" in text and run.data.tags["about"]
