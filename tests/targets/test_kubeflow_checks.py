"What Kubeflow and Vertex AI cannot hold is found in the compiled pipeline, also where nobody planted it before."

import pytest
from planting import COMPILED, plant

from brewcast.targets import kubeflow_checks as checks
from brewcast.targets.compiled_checks import compiled_documents
from brewcast.targets.kubernetes_objects import Manifests

TRAIN = ["root", "dag", "tasks", "train"]
SOURCE = ["root", "inputDefinitions", "parameters", "source"]
CASES = [  # check, change, place, problem
    ("parameters", {"set": [[*SOURCE, "defaultValue"], 7]}, "root.inputDefinitions", "7 is no STRING"),
    ("parameters", {"remove": [*SOURCE, "parameterType"]}, "root.inputDefinitions", "knows no type None"),
    (
        "parameters",
        {"set": [["components", "comp-train", "inputDefinitions", "parameters", "source", "parameterType"], "TEXT"]},
        "components.comp-train",
        "knows no type TEXT",
    ),
    ("references", {"set": [[*TRAIN, "componentRef", "name"], "comp-tran"]}, "root.dag.tasks.train", "no component"),
    ("references", {"remove": [*TRAIN, "inputs", "parameters", "source"]}, "root.dag.tasks.train", "nobody gives it"),
    ("references", {"rename": [SOURCE, "sorce"]}, "root.dag.tasks", "the pipeline has no parameter source"),
    ("references", {"remove": ["deploymentSpec", "executors", "exec-train"]}, "components.comp-train", "no executor"),
    ("retries", {"set": [[*TRAIN, "retryPolicy"], {"maxRetryCount": 3}]}, "root.dag.tasks.train", "every failure"),
]


@pytest.mark.parametrize(("check", "change", "place", "problem"), CASES)
def test_what_kubeflow_cannot_hold_is_found_with_its_place(check, change, place, problem):
    (pipeline,) = compiled_documents(COMPILED["kubeflow"])
    function = getattr(checks, f"check_pipeline_{check}")
    assert list(function(Manifests([pipeline]))) == []
    found = list(function(Manifests([plant(pipeline, {"mistake": "one more", **change})])))
    assert found and found[0].path.startswith(place) and problem in found[0].problem
    assert found[0].object == "Pipeline/brewcast" and found[0].remedy


@pytest.mark.parametrize("default", ["", "walmart", None])
def test_another_default_of_the_type_is_taken(default):
    (pipeline,) = compiled_documents(COMPILED["kubeflow"])
    changed = plant(pipeline, {"mistake": "one more", "set": [[*SOURCE, "defaultValue"], default]})
    assert list(checks.check_pipeline_parameters(Manifests([changed]))) == []
