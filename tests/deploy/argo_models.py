"""Read objects of Argo into hera's models: a field that is lost on the way is one that Argo does not know.

Runs in .venv-checks. Reads {name: [object, ...]} as JSON, writes {name: [problem, ...]}. hera ignores unknown fields, so
each object is written again and compared. Some fields of Argo Events are lost although Argo knows them.
"""

import json
import re
import sys

import hera.events.models as events
import hera.workflows.models as workflows
from pydantic import ValidationError

KINDS = {
    "WorkflowTemplate": workflows.WorkflowTemplate,
    "CronWorkflow": workflows.CronWorkflow,
    "EventSource": events.EventSource,
    "Sensor": events.Sensor,
}
NOT_IN_HERA = re.compile(  # of Argo Events: the models leave these out
    r"(apiVersion|kind)|spec\.webhook\.\w+\.(port|endpoint|method|authSecret)"
    r"|spec\.triggers\.\d+\.template\.\w+\.source\.resource\.\w+"
)


def lost_fields(before: object, after: object, path: str = "") -> list[str]:
    "The paths of what is not the same, or gone."
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(key, before[key], after.get(key)) for key in before]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(number, *pair) for number, pair in enumerate(zip(before, after, strict=True))]
    else:
        return [] if before == after else [path.lstrip(".")]
    return [lost for key, *pair in pairs for lost in lost_fields(*pair, f"{path}.{key}")]


def problems(document: dict) -> list[str]:
    "What hera's model refuses, or does not know."
    kind = document["kind"]
    try:
        read = KINDS[kind].model_validate(document)
    except ValidationError as error:
        return [f"{kind}: {'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors()]
    lost = lost_fields(document, json.loads(read.model_dump_json(by_alias=True, exclude_none=True)))
    return [f"{kind}: {path}: Argo does not know it" for path in lost if not NOT_IN_HERA.fullmatch(path)]


if __name__ == "__main__":
    variants = json.load(sys.stdin)
    found = {
        name: [said for each in each_of if each["kind"] in KINDS for said in problems(each)]
        for name, each_of in variants.items()
    }
    json.dump(found, sys.stdout)
