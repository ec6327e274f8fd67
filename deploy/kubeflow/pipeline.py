"""The pipeline for Kubeflow and Vertex AI, made from deploy/dag.json: `compile` makes containers of the stage image.

`run` runs the same tasks here as lightweight components, each in a copy of the project, with its state and data.
"""

import argparse
import inspect
import json
import linecache
from pathlib import Path

from kfp import compiler, dsl, kubernetes, local

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "registry.example.com/planning/brewcast-stage@sha256:" + "fedcba9876543210" * 4  # invented, as in the chart
PYTHON, USER = "/usr/bin/python3.11", 65532  # of the stage image
WRITTEN = ("products", "state", "scratch", "cache", "data")  # its folders that are volumes
ALERTS = ("BREWCAST_ALERTMANAGER", "BREWCAST_ALERT_WEBHOOK", "BREWCAST_ALERT_TOKEN")  # addresses; publish uses them


def run_step(step: dict, given: dict, project: str, python: str):
    "Put in place what a step reads, run it, and hand over the folder that it writes. Needs the standard library alone."
    import os
    import shutil
    import subprocess
    from pathlib import Path

    root = Path(project)
    for upstream, folder in step["reads"].items():
        shutil.copytree(given[upstream], root / folder.format(**given), dirs_exist_ok=True)
    for name in step["volumes"] if given["shared"] else []:  # where none is mounted
        volume = Path(given["shared"], name)
        if name == "state":  # of a source that has none yet
            (volume / given["source"]).mkdir(parents=True, exist_ok=True)
        (root / name).mkdir(exist_ok=True)
        for entry in volume.iterdir():
            (root / name / entry.name).symlink_to(entry)
    words = [python, "-m", "brewcast.cli", *(word.format(**given) for word in step["command"]), "--retry"]
    done = subprocess.run(words, cwd=root, env=os.environ | {"PYTHONPATH": str(root), "BREWCAST_ROOT": str(root)})
    if done.returncode:
        raise SystemExit(done.returncode)
    if step["writes"]:
        shutil.copytree(root / step["writes"].format(**given), given["artifact"], dirs_exist_ok=True)


def run_in_copy(step: dict, given: dict):
    "Run a step in a copy of the project without its products, state and data."
    import shutil
    import tempfile
    from pathlib import Path

    project = Path(given["shared"])
    left_out = {"products", "state", "scratch", "cache", "data", "release", "backups", "_docs"}
    with tempfile.TemporaryDirectory() as folder:
        for part in project.iterdir():
            if part.is_file():
                shutil.copy2(part, folder)
            elif part.name not in left_out and not part.name.startswith("."):
                shutil.copytree(part, Path(folder, part.name), ignore=shutil.ignore_patterns("__pycache__"))
        run_step(step, given, folder, str(project / ".venv/bin/python"))


MAIN = """
import json, sys
given = dict(word.split("=", 1) for word in sys.argv[2:])
run_step(json.loads(sys.argv[1]), given, "/app", sys.executable)
"""


def define(name: str, parameters: dict, body: str, **names):
    "A function with parameters (name -> annotation, and default) and a body of one line. kfp reads them from its text."
    text = f"def {name}({', '.join(f'{key}: {kind}' for key, kind in parameters.items())}):\n    {body}\n"
    linecache.cache[f"<{name}>"] = (len(text), None, text.splitlines(True), f"<{name}>")
    exec(compile(text, f"<{name}>", "exec"), names)
    return names[name]


def make_component(dag: dict, task: dict, image: str | None):
    "The component of a task: a container of an image, or without one a function that runs the step here."
    folders = {other["name"]: other["artifact"] for other in dag["tasks"]}
    reads = {name: folders[name] for name in task["upstream"]}
    volumes = [name for name in WRITTEN if task.get(name)]
    step = {"command": task["command"], "reads": reads, "volumes": volumes, "writes": task["artifact"]}
    texts = [one["name"] for one in dag["parameters"] if f"{{{one['name']}}}" in task["command"]]
    parameters = dict.fromkeys([*texts, "shared"], "str") | dict.fromkeys(reads, "dsl.Input[dsl.Artifact]")
    if task["artifact"]:
        parameters["artifact"] = "dsl.Output[dsl.Artifact]"
    given = "{name: getattr(value, 'path', value) for name, value in locals().items()}"
    if image is None:
        function = define(task["name"], parameters, f"run_in_copy({step!r}, {given})", dsl=dsl)
        own = {"base_image": "python:3.11", "install_kfp_package": False}  # neither is used here
        return dsl.component(function, additional_funcs=[run_step, run_in_copy], **own)

    def container(given):  # name=value: an argument is never empty
        words = [f"{name}={value}" for name, value in given.items()]
        command = [PYTHON, "-c", inspect.getsource(run_step) + MAIN]
        return dsl.ContainerSpec(image=image, command=command, args=[json.dumps(step), *words])

    function = define(task["name"], parameters, f"return container({given})", dsl=dsl, container=container)
    return dsl.container_component(function)


def set_pod(task: dict, made: dsl.PipelineTask, claims: str):
    "What Kubernetes alone knows: user, volumes and the secret. Vertex AI takes no such thing."
    kubernetes.set_security_context(made, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    for name in WRITTEN:
        mount = kubernetes.mount_pvc if task.get(name) else kubernetes.empty_dir_mount
        mount(made, f"{claims}-{name}", f"/app/{name}", *([name] if name == "state" and task[name] else []))  # subPath
    if not task["artifact"]:  # publish
        variables = {name: name for name in (*ALERTS, "BREWCAST_ONLINE_STORE", "MLFLOW_TRACKING_URI")}
        kubernetes.use_secret_as_env(made, f"{claims}-publish", variables, optional=True)  # by key


def make_pipeline(dag: dict, image: str | None, has_pods: bool = False):
    "The pipeline of a DAG. Nothing is cached, as data and state are no inputs that kfp knows; the steps retry themselves."

    def make_tasks(given):
        made = {}
        for task in dag["tasks"]:
            component = make_component(dag, task, image)
            taken = {name: channel for name, channel in given.items() if name in component.component_spec.inputs}
            taken |= {name: made[name].outputs["artifact"] for name in task["upstream"]}
            one = made[task["name"]] = component(**taken).set_caching_options(False)
            if image:
                one.set_cpu_limit(task["cpu"]).set_cpu_request(task["cpu"])
                one.set_memory_limit(task["memory"]).set_memory_request(task["memory"])
            if has_pods:
                set_pod(task, one, dag["name"])

    parameters = {one["name"]: f"str = {one['default']!r}" for one in dag["parameters"]} | {"shared": "str = ''"}
    function = define("run_month", parameters, "make_tasks(locals())", make_tasks=make_tasks)
    return dsl.pipeline(function, name=dag["name"], description="A run of one month")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["compile", "run"])
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE", help="parameters of a run, such as source=walmart")
    parser.add_argument("--project", type=lambda path: Path(path).resolve(), default=ROOT)
    parser.add_argument("--image", default=IMAGE)
    parser.add_argument("--to", default="deploy/kubeflow/pipeline.yaml")
    options = parser.parse_args()
    dag = json.loads((options.project / "deploy/dag.json").read_text())
    if options.action == "run":
        local.init(local.SubprocessRunner(use_venv=False), str(options.project / "scratch/kubeflow"))
        make_pipeline(dag, None)(shared=str(options.project), **dict(value.split("=", 1) for value in options.values))
    else:
        compiler.Compiler().compile(make_pipeline(dag, options.image), options.to)
        on_kubernetes = options.to.removesuffix("yaml") + "kubernetes.yaml"
        compiler.Compiler().compile(make_pipeline(dag, options.image, has_pods=True), on_kubernetes)
