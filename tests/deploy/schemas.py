"""Validate objects of Kubernetes against the schemas of its API server; a field that they don't know is a mistake.

Runs in .venv-checks, with versions of Kubernetes as arguments. Reads {name: [object, ...]} as JSON, writes {name: [problem, ...]}. kubernetes-validate's own
command ends well if it has no schema for a kind: here that is a mistake, too, but for kinds of custom resources.
"""

import functools
import json
import sys

import kubernetes_validate

CUSTOM_GROUPS = ("monitoring.coreos.com/", "keda.sh/", "argoproj.io/")  # these have models of their own


@functools.cache  # most objects are in every variant
def problem_of(content: str, version: str) -> str | None:
    "What is wrong with an object, which is given as JSON."
    document = json.loads(content)
    name = f"{document.get('kind')}/{document.get('metadata', {}).get('name')}"
    if str(document.get("apiVersion")).startswith(CUSTOM_GROUPS):
        return None
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return f"{name}: Kubernetes {version} has no {document['kind']} in {document['apiVersion']}"
    except kubernetes_validate.ValidationError as error:
        return f"{name}: {'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})"
    return None


if __name__ == "__main__":
    variants = json.load(sys.stdin)
    found = {name: [] for name in variants}
    for name, documents in variants.items():
        for content in map(json.dumps, documents):
            found[name] += filter(None, (problem_of(content, version) for version in sys.argv[1:]))
    json.dump(found, sys.stdout)
