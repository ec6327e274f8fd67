"Runs the tasks of an orchestrator here, each in a folder of its own, as a pod sees it: with its artifacts and no more."

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from brewcast.common.params import read_env, read_stages
from brewcast.operations.monthly import EXCLUDED_FROM_REPLAY
from brewcast.targets.dag import Dag, DagTask
from brewcast.workflow.runs import comparison_hashes, run_command_in


class Task(Protocol):
    "What the runner needs of a task. `brewcast.targets.dag.DagTask` has it, and what a compiled file says can be given so."

    name: str
    command: list[str]  # arguments of `brewcast`, with all placeholders filled in
    upstream: list[str]  # tasks whose artifacts are put in place
    artifact: str | None  # the folder that is kept afterwards, relative to the project; None: none
    state: bool  # Does the task get the volume of the state?
    data: bool  # Does it get the source's data?


def filled_tasks(dag: Dag, **values: str) -> list[DagTask]:
    "The tasks of a DAG with values in place of {source}, {through} and {overrides}."
    values = {"source": dag.source, "through": "", "overrides": ""} | values
    fill = lambda text: text and text.format(**values)  # noqa: E731
    return [
        task.model_copy(update={"command": [fill(part) for part in task.command], "artifact": fill(task.artifact)})
        for task in dag.tasks
    ]


def product_hashes(
    root: Path,  # has the products
    source: str = "simulated",
    project: Path | None = None,  # its code, if `root` has none
) -> dict[str, dict[str, str]]:
    "The hashes by which the products of two runs are compared, by product, by stage."
    project = project or root
    return comparison_hashes(root, source, read_stages(project, read_env(project)))


class StepFolders:
    "A project whose tasks run in folders below `work`. Between tasks, only artifacts and the state's volume are kept."

    def __init__(
        self,
        project: Path,  # its code, and its data
        work: Path,  # an empty folder
        state: Path | None = None,  # a state to begin with; default: an empty volume
        variables: dict[str, str] | None = None,  # environment variables of all tasks
    ):
        self.project, self.work, self.variables = project, work, variables or {}
        self.artifacts = {}  # by task: the folder in the project, and the copy that is kept
        self.volume = work / "volume"
        if state:
            shutil.copytree(state, self.volume, symlinks=True)
        else:
            self.volume.mkdir(parents=True)

    def prepare(self, task: Task) -> Path:
        "The folder of a task: the code, what it declares, and nothing else."
        folder = self.work / "tasks" / task.name
        shutil.rmtree(folder, ignore_errors=True)
        excluded = EXCLUDED_FROM_REPLAY | {"__pycache__", ".pytest_cache", ".ruff_cache"}
        folder.mkdir(parents=True)
        for path in self.project.iterdir():
            if path.name not in excluded:
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, folder / path.name)
        (folder / ".venv").symlink_to(Path(sys.prefix).resolve())
        if task.data:
            (folder / "data").symlink_to((self.project / "data").resolve())
        for name in task.upstream:
            if name in self.artifacts:
                place, kept = self.artifacts[name]
                shutil.copytree(kept, folder / place, symlinks=True)
        return folder

    @contextlib.contextmanager
    def mounted(self, task: Task, folder: Path) -> Iterator[None]:
        "The state's volume in a task's folder, if the task has it: one task at a time."
        if not task.state:
            yield
            return
        os.replace(self.volume, folder / "state")
        try:
            yield
        finally:
            os.replace(folder / "state", self.volume)

    def run(self, task: Task, **options) -> subprocess.CompletedProcess:
        "Run a task, and keep its artifact if it has succeeded."
        folder = self.prepare(task)
        with self.mounted(task, folder):
            ended = run_command_in(folder, task.command, self.variables, **options)
        if ended.returncode == 0 and task.artifact:
            kept = self.work / "artifacts" / task.name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder / task.artifact, kept, symlinks=True)
            self.artifacts[task.name] = (task.artifact, kept)
        return ended

    def run_all(self, tasks: Iterable[Task], ended: Callable | None = None) -> None:
        "Run tasks in their order, and stop at the first that fails. `ended` gets each with its outcome."
        for task in tasks:
            result = self.run(task, capture_output=True, text=True)
            if ended:
                ended(task, result)
            if result.returncode:
                raise RuntimeError(f"{task.name}: status {result.returncode}\n{result.stdout}\n{result.stderr}")
