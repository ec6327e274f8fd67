"The lessons of the notebooks, executed: for the pages, and, called as a script, as a test. `make test` runs them once for both."

import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from brewcast.common.params import TELEMETRY_OFF
from brewcast.common.text import format_count
from brewcast.workflow import kernels
from brewcast.workflow.executor import KERNEL_ENVIRONMENT
from brewcast.workflow.notebooks import notebooks
from brewcast.workflow.staleness import module_closure, normal_form, package_data_files

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "scratch/docs/lessons"
WORKERS = 3  # kernels that start and end leave two cores idle


def executed(
    path: Path,  # a notebook
    root: Path,  # the project
) -> nbformat.NotebookNode:  # with outputs; what `## Run` does is left out
    "Execute a notebook's lessons. Raises CellExecutionError with the traceback of the cell that failed."
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if "#| eval: false" in cell.source:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "skip-execution"]
    NotebookClient(
        notebook,
        timeout=300,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=CRITICAL"],
        kernel_manager_class=kernels.ForkKernelManager,
    ).execute()
    return notebook


def place(
    path: Path,  # a notebook
    root: Path,  # the project
    cache: Path,  # a folder
) -> Path:  # a file of it
    "Where an executed notebook is kept: by its code, that of the modules that it imports, and the lock's content."
    code = [[cell.id, normal_form(cell.source)] for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    modules = module_closure([form for _, form in code], root / "brewcast")
    others = [file.read_text() for file in package_data_files(modules, [form for _, form in code], root / "brewcast")]
    content = [code, modules, others, (root / "requirements.lock").read_text()]
    return cache / f"{path.stem}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}.ipynb"


def execute(
    paths: list[Path],  # notebooks
    root: Path,  # the project
    cache: Path,  # where they are kept
) -> dict[Path, Exception]:  # by notebook, of those that failed
    "Execute the lessons of notebooks side by side, in kernels forked from one process, and keep those that passed."
    failed = {}

    def one(path):
        try:
            notebook, kept = executed(path, root), place(path, root, cache)
            nbformat.write(notebook, kept.with_suffix(".tmp"))
            kept.with_suffix(".tmp").replace(kept)
        except (CellExecutionError, DeadKernelError, TimeoutError) as error:
            failed[path] = error

    cache.mkdir(parents=True, exist_ok=True)
    os.environ.update(KERNEL_ENVIRONMENT | TELEMETRY_OFF)
    if len(paths) > WORKERS:
        kernels.start_warm_process({})
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, paths))
    finally:
        kernels.end_warm_process()
    return failed


def lessons(
    paths: list[Path],  # notebooks
    root: Path,  # the project
    cache: Path,  # what was executed before; what is not asked for any more goes
) -> list[nbformat.NotebookNode]:  # executed, in the same order
    "Notebooks with what their lessons show, each executed once for each content of it."
    kept = {path: place(path, root, cache) for path in paths}
    if missing := [path for path, there in kept.items() if not there.exists()]:
        for path, error in execute(missing, root, cache).items():
            raise RuntimeError(f"{path.name}: {error}") from None
    for path in set(cache.iterdir()) - set(kept.values()):
        path.unlink()
    return [with_outputs(path, nbformat.read(there, 4)) for path, there in kept.items()]


def with_outputs(
    path: Path,  # a notebook in nbs/
    *executed: nbformat.NotebookNode,  # the same, its code at least
) -> nbformat.NotebookNode:  # prose and code as they stand in nbs/, a cell's outputs from the first that has some
    "A notebook with what its cells have shown."
    notebook, shown = nbformat.read(path, 4), {}
    for other in reversed(executed):
        shown |= {cell.id: cell.outputs for cell in other.cells if cell.get("outputs")}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = shown.get(cell.id, [])
    return notebook


def main() -> int:  # exit status
    "Execute the lessons of every notebook, or of those that are named, whether or not they have been."
    paths = [Path(name).resolve() for name in sys.argv[1:]] or notebooks(ROOT)
    failed = execute(paths, ROOT, CACHE)
    for path, error in failed.items():
        print(f"{path.relative_to(ROOT)}: {error}", file=sys.stderr)
    print(f"lessons: {format_count(len(paths) - len(failed), 'notebook')} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
