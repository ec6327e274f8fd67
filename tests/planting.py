"The planted mistakes of tests/targets/mistakes.yaml, and how one is planted in a document."

import copy
import functools
from pathlib import Path

import yaml

from brewcast.targets.compiled_checks import compiled_documents, filled_in
from brewcast.targets.kubernetes_objects import Manifests

ROOT = Path(__file__).resolve().parent.parent
RENDERED = ROOT / "deploy/rendered/brewcast.yaml"
RULES = ROOT / "deploy/prometheus/rules.yml"
COMPILED = {"argo": ROOT / "deploy/argo/brewcast.yaml", "kubeflow": ROOT / "deploy/kubeflow/pipeline.yaml"}
WITH_AN_ORCHESTRATOR = "two schedules that overlap"  # the values are right by themselves


def planted_mistakes(*places: str) -> dict[str, dict]:
    "The mistakes with one of these values of `in`, by name; without any, all mistakes."
    (mistakes,) = parsed(ROOT / "tests/targets/mistakes.yaml")
    return {mistake["mistake"]: mistake for mistake in mistakes if not places or mistake["in"] in places}


def plant(document: dict, mistake: dict) -> dict:
    "A copy of a document with a mistake in it. KeyError or IndexError if its place does not exist."
    changed = copy.deepcopy(document)
    if "remove" in mistake:
        path = mistake["remove"]
    else:
        path, value = mistake.get("set") or mistake["rename"]
    *parents, last = path
    place = changed
    for step in parents:
        place = place[step]
    if "set" in mistake:
        place[last] = value
    elif "rename" in mistake:
        place[value] = place.pop(last)
    else:
        del place[last]
    assert changed != document, f"{mistake['mistake']}: the document has it already"
    return changed


@functools.cache
def parsed(path: Path) -> list[dict]:
    "The documents of a YAML file."
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def rendered_documents() -> list[dict]:
    "The rendered manifests: fresh objects at each call."
    return copy.deepcopy(parsed(RENDERED))


def is_meant(document: dict, mistake: dict) -> bool:
    "Is the mistake for this object: by its kind, and where there are several, by the last word of its name?"
    if mistake["in"] == "kubeflow":  # one document
        return True
    names = {document["metadata"]["name"], document["metadata"]["name"].rpartition("-")[2]}
    return document["kind"] == mistake["kind"] and mistake.get("name", document["metadata"]["name"]) in names


def planted_documents(mistake: dict) -> list[dict]:
    "The rendered manifests, the alert rules, or what is compiled for an orchestrator, with a mistake in them."
    if mistake["in"] == "rules":
        return [plant(parsed(RULES)[0], mistake)]
    place = COMPILED.get(mistake["in"])
    documents = filled_in(compiled_documents(place)) if place else rendered_documents()
    (place,) = [number for number, document in enumerate(documents) if is_meant(document, mistake)]
    documents[place] = plant(documents[place], mistake)
    return documents


def objects_found(check, *mistakes: dict) -> list[str]:
    "Objects and paths that a check finds in the rendered manifests with mistakes: kind, and set, remove or rename."
    documents = rendered_documents()
    for mistake in mistakes:
        (place,) = [
            number for number, document in enumerate(documents) if is_meant(document, {"in": "manifests", **mistake})
        ]
        documents[place] = plant(documents[place], {"mistake": "one more", **mistake})
    return [f"{found.object} {found.path}" for found in check(Manifests(documents))]
