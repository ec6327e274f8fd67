"""Runs a compiled WorkflowTemplate here, as Argo would: it knows the file, and nothing of the stages.

The order by the dependencies, parameters, artifacts by their paths, the retry strategy with its expression, the mutexes.
A pod is a folder (`FolderPods`) or a container of the stage image (`ContainerPods`). One pod runs at a time.
"""

import contextlib
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, Protocol

from containers import limit_options, podman
from filelock import FileLock
from step_folders import StepFolders

PROJECT = Path("/app")


class Pod(NamedTuple):
    "What is asked for: a template's container, and the volumes that it mounts by their place."

    task: str
    container: dict
    user: int
    volumes: dict[Path, dict]  # by the place in the container

    def claims(self) -> dict[str, Path]:
        "The claims that it mounts, each with its place."
        kinds = {path: volume.get("persistentVolumeClaim") for path, volume in self.volumes.items()}
        return {claim["claimName"]: path for path, claim in kinds.items() if claim}


class Attempt(NamedTuple):
    "A pod that has ended."

    task: str
    status: int


class Pods(Protocol):
    "Where pods run."

    def run(self, pod: Pod, inputs: dict[Path, Path]) -> tuple[int, Path]:
        "Put artifacts in place, run a pod. Returns its exit status, and the folder that is the project in it."


class FolderPods:
    "A pod is a folder with the project's code."

    def __init__(self, folders: StepFolders):
        self.folders, self.said = folders, {}

    def run(self, pod: Pod, inputs: dict[Path, Path]) -> tuple[int, Path]:
        claims = pod.claims()
        task = SimpleNamespace(name=pod.task, command=pod.container["args"], upstream=[*inputs], artifact=None)
        task.state, task.data = "brewcast-state" in claims, "brewcast-data" in claims
        self.folders.artifacts = {place: (place.relative_to(PROJECT), kept) for place, kept in inputs.items()}
        done = self.folders.run(task, capture_output=True, text=True)
        self.said[pod.task] = done.stderr
        return done.returncode, self.folders.work / "tasks" / pod.task


class ContainerPods:
    "A pod is a container of the stage image: read-only, without rights and network, and only with its volumes."

    def __init__(self, image: str, work: Path, claims: dict[str, Path]):
        self.image, self.work, self.claims, self.said = image, work, claims, {}

    def run(self, pod: Pod, inputs: dict[Path, Path]) -> tuple[int, Path]:
        root = self.work / pod.task
        shutil.rmtree(root, ignore_errors=True)
        for place, kept in inputs.items():
            copy_artifact(kept, root / place.relative_to(PROJECT))
        owned = {place: self.claims[claim] for claim, place in pod.claims().items()}
        options = [f"--user={pod.user}:{pod.user}", "--network=none", *limit_options()]
        for mount in pod.container["volumeMounts"]:
            host = owned.get(Path(mount["mountPath"]), root / Path(mount["mountPath"]).name)
            host.mkdir(parents=True, exist_ok=True)
            subprocess.run(["chmod", "-R", "a+rwX", host], check=True)  # the container's user is another
            options.append(f"--volume={host}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}")
        security, limits = pod.container["securityContext"], pod.container["resources"]["limits"]
        options += [f"--cap-drop={name}" for name in security["capabilities"]["drop"]]
        options += ["--read-only", "--read-only-tmpfs=false"] if security["readOnlyRootFilesystem"] else []
        options += [] if security["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]
        options += [
            f"--memory={limits['memory'].removesuffix('i').lower()}",
            f"--entrypoint={json.dumps(pod.container['command'])}",
        ]
        done = podman("run", "--rm", *options, self.image, *pod.container["args"], check=False, timeout=1800)
        self.said[pod.task] = done.stderr
        return done.returncode, root


def copy_artifact(source: Path, target: Path) -> None:
    "Copy a folder without the times of its files, as an archive that is unpacked."
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy)


def filled_templates(spec: dict, given: dict[str, str]) -> dict[str, dict]:
    "The templates by their names, with the values of the run's parameters."
    values = {parameter["name"]: parameter["value"] for parameter in spec["arguments"]["parameters"]}
    assert given.keys() <= values.keys(), f"{given.keys() - values.keys()} is not a parameter"
    text = json.dumps(spec["templates"])
    for name, value in (values | given).items():
        assert isinstance(value, str), f"{name}: Argo's parameters are texts"
        text = text.replace(f"{{{{workflow.parameters.{name}}}}}", json.dumps(value)[1:-1])
    assert "{{workflow." not in text, re.search(r"\{\{workflow\..*?\}\}", text)[0]
    return {template["name"]: template for template in json.loads(text)}


def may_retry(strategy: dict, status: int, tried: int) -> bool:
    "What the retry strategy says after a failure."
    if tried > strategy["limit"] or strategy["retryPolicy"] not in ("Always", "OnFailure"):
        return False
    last = SimpleNamespace(exitCode=str(status), status="Failed")
    text = strategy.get("expression", "True").replace("&&", " and ").replace("||", " or ")
    return eval(text, {"__builtins__": {}}, {"asInt": int, "lastRetry": last})


def run_workflow(template: dict, pods: Pods, work: Path, patience: float = -1, **given: str) -> list[Attempt]:
    "Run a WorkflowTemplate until all tasks have succeeded, or one has failed for good. `patience`: seconds for a mutex."
    spec = template["spec"]
    templates = filled_templates(spec, given)
    waiting = {task["name"]: task for task in templates[spec["entrypoint"]]["dag"]["tasks"]}
    attempts, kept = [], {}
    with contextlib.ExitStack() as locks:
        for mutex in spec.get("synchronization", {}).get("mutexes", []):
            locks.enter_context(FileLock(work / f"{mutex['name']}.lock", timeout=patience))
        while waiting:
            done = {attempt.task for attempt in attempts if attempt.status == 0}
            ready = [task for task in waiting.values() if done.issuperset(task.get("dependencies", []))]
            assert ready, f"{', '.join(waiting)}: they wait for one another"
            task = waiting.pop(ready[0]["name"])
            attempts += run_task(task, templates[task["template"]], spec, pods, work, kept)
            if attempts[-1].status:
                break
    return attempts


def run_task(task: dict, template: dict, spec: dict, pods: Pods, work: Path, kept: dict[str, Path]) -> list[Attempt]:
    "Run a task, again where its retry strategy says so, and keep its artifacts, by the name that others call them."
    given = {artifact["name"]: artifact["from"] for artifact in task.get("arguments", {}).get("artifacts", [])}
    wanted = {artifact["name"]: Path(artifact["path"]) for artifact in template.get("inputs", {}).get("artifacts", [])}
    inputs = {path: kept[given[name]] for name, path in wanted.items()}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounted = {Path(mount["mountPath"]): volumes[mount["name"]] for mount in template["container"]["volumeMounts"]}
    pod = Pod(task["name"], template["container"], spec["securityContext"]["runAsUser"], mounted)
    attempts = []
    while True:
        status, root = pods.run(pod, inputs)
        attempts.append(Attempt(task["name"], status))
        if status == 0:
            break
        strategy = template["retryStrategy"]
        if not may_retry(strategy, status, len(attempts)):
            return attempts
        wait = strategy["backoff"]
        time.sleep(float(wait["duration"].removesuffix("s")) * wait["factor"] ** (len(attempts) - 1))
    for artifact in template.get("outputs", {}).get("artifacts", []):
        name = f"{{{{tasks.{task['name']}.outputs.artifacts.{artifact['name']}}}}}"
        kept[name] = work / "artifacts" / task["name"] / artifact["name"]
        copy_artifact(root / Path(artifact["path"]).relative_to(PROJECT), kept[name])
    return attempts
