"""A month under each orchestrator beside `brewcast run`: the same small project, the same real stages, one after the other.

    .venv/bin/python bench/orchestrators.py [--stores 12 --months 40 --lines 60000] [--repeat 1] [--image NAME] [--tree]

Contestants take turns, each from data alone: no products, no state. `others` is the CPU time of other processes meanwhile; a star
says that they took a tenth of the machine, so that only CPU seconds can be compared. After each run its products are compared with those of
`brewcast run`. Needs `make .venv-kubeflow/ready .venv-airflow/ready`; with `--image` (of `make image-stage`), podman, too: the same
WorkflowTemplate in containers. Podman's containers are no child processes, so their CPU seconds are among `others`.
"""

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml
from builds import ROOT, SOURCE, command_line, copy_project, create_project, run_in, shell
from measure import adopt_orphans, in_turns, measured, measured_call, table

sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/deploy")]

from argo_runner import ContainerPods, FolderPods, run_workflow  # noqa: E402
from own_airflow import Airflow  # noqa: E402
from step_folders import StepFolders, filled_tasks  # noqa: E402

from brewcast.common.params import read_env, read_stages  # noqa: E402
from brewcast.targets.argo import argo_yaml  # noqa: E402
from brewcast.targets.dag import read_dag  # noqa: E402
from brewcast.workflow.runs import comparison_hashes  # noqa: E402

BASE = "brewcast run"


def product_hashes(root: Path) -> dict[str, str]:
    "Hash by product, as `stage/file`."
    by_stage = comparison_hashes(root, SOURCE, read_stages(root, read_env(root)))
    return {f"{stage}/{name}": found for stage, products in by_stage.items() for name, found in products.items()}


def steps_in_place(project: Path) -> Path:
    "Run the tasks of the DAG one after the other in one folder, as a shell script would."
    for task in filled_tasks(read_dag(project)):
        run_in(project, *command_line(*task.command))
    return project


def steps_in_folders(project: Path, work: Path) -> Path:
    "Run the tasks of the DAG each in a folder of its own."
    folders = StepFolders(project, work)
    folders.run_all(filled_tasks(read_dag(project)))
    return work / "tasks/publish"


def argo(project: Path, work: Path, image: str | None = None) -> Path:
    "Run the compiled WorkflowTemplate, in folders or in containers of an image."
    template = next(document for document in yaml.safe_load_all(argo_yaml(project)) if document)
    pods = FolderPods(StepFolders(project, work / "folders"))
    last = work / "folders/tasks/publish"
    if image:
        claims = {"brewcast-state": work / "state", "brewcast-data": work / "data"}
        shutil.copytree(project / "data", claims["brewcast-data"])
        pods, last = ContainerPods(image, work / "pods", claims), work / "pods/publish"
    ended = run_workflow(template, pods, work)[-1]
    if ended.status:
        raise RuntimeError(f"{ended.task}: status {ended.status}: {pods.said[ended.task][-600:]}")
    return last


def kubeflow(project: Path) -> Path:
    "Run the pipeline by kfp's SubprocessRunner."
    words = [ROOT / ".venv-kubeflow/bin/python", ROOT / "deploy/kubeflow/pipeline.py", "run", "--project", project]
    environment = shell(PYTHONPATH=str(project))
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-600:])
    for artifact in project.glob("scratch/kubeflow/*/*/artifact"):
        shutil.copytree(artifact, project / "products" / SOURCE / artifact.parent.name)
    return project


def contest(
    name: str,
    template: Path,  # the project with its data
    folder: Path,  # beside it
    run: Callable[[Path], Path],  # from a copy of the project to the folder that has the products
    made: dict[str, dict],  # product hashes by contestant
) -> dict[str, float]:
    "Measure a run in a fresh copy."
    shutil.rmtree(folder, ignore_errors=True)  # of the round before
    place = copy_project(template, folder.name)
    results = []
    seconds = measured_call(lambda: results.append(run(place)))
    made[name] = product_hashes(results[0])
    return seconds


def contestants(work: Callable[[], Path], image: str | None) -> dict[str, Callable[[Path], Path]]:
    "The ways to run a month, by name."

    def brewcast_run(project: Path) -> Path:
        measured(command_line("run"), project, shell(PYTHONPATH=str(project)))
        return project

    def airflow(project: Path) -> Path:
        home = work() / "airflow"
        Airflow(home, project, SOURCE, shell(PYTHONPATH=str(project))).test()
        return project

    ways = {
        BASE: brewcast_run,
        "steps in one folder": steps_in_place,
        "steps, a folder each": lambda project: steps_in_folders(project, work()),
        "Argo's template, a folder a pod": lambda project: argo(project, work()),
        "Kubeflow, SubprocessRunner": kubeflow,
        "Airflow, `dags test` with a new database": airflow,
    }
    if image:
        ways["Argo's template, a container a pod"] = lambda project: argo(project, work(), image)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=int, default=12)
    parser.add_argument("--months", type=int, default=40)
    parser.add_argument("--lines", type=int, default=60_000)
    parser.add_argument("--full", action="store_true", help="60 months of 66 stores, 1.3 million lines")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--image", help="of the stages; with it, the WorkflowTemplate runs in containers, too")
    parser.add_argument("--tree", action="store_true", help="with uncommitted changes, not only HEAD")
    args = parser.parse_args()
    adopt_orphans()
    load, made = os.getloadavg()[0], {}
    with tempfile.TemporaryDirectory() as folder:
        template = create_project(Path(folder) / "template", args)
        work = functools.partial(tempfile.mkdtemp, dir=folder)
        ways = contestants(lambda: Path(work()), args.image)
        runs = in_turns(
            {
                name: functools.partial(contest, name, template, Path(folder) / f"run {number}", run, made)
                for number, (name, run) in enumerate(ways.items())
            },
            args.repeat,
        )
    print(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after; {os.cpu_count()} cores")
    print(table("A month, from data to a published release", runs, BASE))
    for name, found in made.items():
        differ = [product for product in made[BASE] if found.get(product) != made[BASE][product]]
        print(f"{name}: {len(made[BASE]) - len(differ)} of {len(made[BASE])} products equal {' '.join(differ)}")
    raise SystemExit(any(found != made[BASE] for found in made.values()) or len(made) < len(ways))


if __name__ == "__main__":
    main()
