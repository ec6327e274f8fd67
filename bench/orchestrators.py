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
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml
from builds import ROOT, SOURCE, add_project_arguments, command_line, create_project, run_in, shell
from measure import adopt_orphans, in_turns, measured_call, table

sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/deploy")]

from argo_runner import ContainerPods, FolderPods, run_workflow  # noqa: E402
from own_airflow import Airflow  # noqa: E402
from step_folders import StepFolders, filled_tasks, product_hashes  # noqa: E402

from brewcast.targets.argo import argo_yaml  # noqa: E402
from brewcast.targets.dag import read_dag  # noqa: E402

BASE = "brewcast run"


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
    program = ROOT / "deploy/kubeflow/pipeline.py"
    run_in(project, ROOT / ".venv-kubeflow/bin/python", program, "run", "--project", project)
    for artifact in project.glob("scratch/kubeflow/*/*/artifact"):
        shutil.copytree(artifact, project / "products" / SOURCE / artifact.parent.name)
    return project


def airflow(project: Path, work: Path) -> Path:
    "Run the DAG file by `airflow dags test`, in a new Airflow."
    Airflow(work, project, SOURCE, shell(PYTHONPATH=str(project))).test()
    return project


def brewcast_run(project: Path) -> Path:
    "Run the month as on a laptop."
    run_in(project, *command_line("run"))
    return project


def contest(
    name: str,
    template: Path,  # the project with its data
    run: Callable[[Path, Path], Path],  # from a copy of the project and an empty folder to the folder of the products
    made: dict[str, dict],  # hashes of products by stage, by contestant
) -> dict[str, float]:
    "Measure a run in a fresh copy."
    with tempfile.TemporaryDirectory(dir=template.parent) as folder:
        project = shutil.copytree(template, Path(folder) / "project", symlinks=True)
        (work := Path(folder) / "work").mkdir()
        results = []
        seconds = measured_call(lambda: results.append(run(project, work)))
        made[name] = product_hashes(results[0], SOURCE, template)
    return seconds


def contestants(image: str | None) -> dict[str, Callable[[Path, Path], Path]]:
    "The ways to run a month, by name."
    ways = {
        BASE: lambda project, _: brewcast_run(project),
        "steps in one folder": lambda project, _: steps_in_place(project),
        "steps, a folder each": steps_in_folders,
        "Argo's template, a folder a pod": argo,
        "Kubeflow, SubprocessRunner": lambda project, _: kubeflow(project),
        "Airflow, `dags test` with a new database": airflow,
    }
    if image:
        ways["Argo's template, a container a pod"] = functools.partial(argo, image=image)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_project_arguments(parser, repeat=1)
    parser.add_argument("--image", help="of the stages; with it, the WorkflowTemplate runs in containers, too")
    args = parser.parse_args()
    adopt_orphans()
    load, made = os.getloadavg()[0], {}
    with tempfile.TemporaryDirectory() as folder:
        template = create_project(Path(folder) / "template", args)
        ways = contestants(args.image)
        runs = in_turns(
            {name: functools.partial(contest, name, template, run, made) for name, run in ways.items()}, args.repeat
        )
    print(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after; {os.cpu_count()} cores")
    print(table("A month, from data to a published release", runs, BASE))
    names = [(stage, name) for stage, products in made[BASE].items() for name in products]
    for contestant, found in made.items():
        differ = [f"{stage}/{name}" for stage, name in names if found[stage].get(name) != made[BASE][stage][name]]
        print(f"{contestant}: {len(names) - len(differ)} of {len(names)} products equal {' '.join(differ)}")
    raise SystemExit(any(found != made[BASE] for found in made.values()) or len(made) < len(ways))


if __name__ == "__main__":
    main()
