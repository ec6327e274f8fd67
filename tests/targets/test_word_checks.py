"Words that Kubernetes does not know are found, and free text is left alone."

import pytest
from planting import RENDERED, objects_found

from brewcast.targets.kubernetes_objects import Manifests, read_manifests
from brewcast.targets.word_checks import WORDS, check_words

POD = ["spec", "template", "spec"]
CASES = [  # kind, path, word
    ("Service", ["spec", "type"], "clusterIP"),
    ("Deployment", ["spec", "strategy", "type"], "Rolling"),
    ("Deployment", [*POD, "securityContext", "seccompProfile", "type"], "Runtime"),
    ("Deployment", [*POD, "topologySpreadConstraints", 0, "whenUnsatisfiable"], "Schedule"),
    ("CronJob", ["spec", "concurrencyPolicy"], "forbid"),
    ("PersistentVolumeClaim", ["spec", "accessModes", 0], "RWO"),
    ("Ingress", ["spec", "rules", 0, "http", "paths", 0, "pathType"], "exact"),
    ("PodDisruptionBudget", ["spec", "unhealthyPodEvictionPolicy"], "Always"),
]


@pytest.mark.parametrize(("kind", "path", "word"), CASES)
def test_a_word_that_kubernetes_does_not_know_is_found(kind, path, word):
    assert len(objects_found(check_words, {"kind": kind, "set": [path, word]})) == 1


def test_a_known_word_in_other_letters_is_offered():
    pod = {"kind": "Pod", "spec": {"restartPolicy": "never"}}
    (found,) = check_words(Manifests([pod]))
    assert found.remedy == "did you mean Never?"


def test_labels_and_settings_are_free_text():
    pod = {"kind": "Pod", "metadata": {"labels": {"protocol": "forecast"}, "annotations": {"restartPolicy": "mine"}}}
    assert list(check_words(Manifests([pod]))) == []


def test_the_choices_are_sorted_so_that_a_missing_one_is_seen():
    assert all(choices.split() == sorted(choices.split()) for choices in WORDS.values())
    assert list(check_words(read_manifests(RENDERED))) == []
