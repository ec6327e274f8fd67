"Execute the lessons of the notebooks: for the pages of the site and, as a script, as a test. `make test` runs them once for both."

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
WORKERS = 3  # kernels spend time on start and stop, so that three keep two cores busy
CELL_TIMEOUT = 300  # seconds; chosen, not measured: lessons use toy tables and take a few seconds


def guides() -> list[Path]:
    "The hand-written notebooks of the site, which show several modules together."
    return sorted((ROOT / "docs/pages").glob("*.ipynb"))


def execute_notebook(
    path: Path,  # a notebook
) -> nbformat.NotebookNode:  # with outputs; cells with `#| eval: false` are not executed
    "Execute the lessons of a notebook. Raises CellExecutionError with the traceback of the cell that failed."
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if "#| eval: false" in cell.source:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "skip-execution"]
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=CRITICAL"],
        kernel_manager_class=kernels.ForkKernelManager,
    ).execute()
    return notebook


def cache_path(
    path: Path,  # a notebook
    root: Path,  # the project folder
    cache: Path,  # the folder of the cache
) -> Path:  # a file in the cache
    "The cached, executed notebook. Its name depends on the notebook's code, on all modules that it imports, and on the lock."
    code = [[cell.id, normal_form(cell.source)] for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    cells = [form for _, form in code]
    modules = module_closure(cells, root / "brewcast")
    data_files = [file.read_text() for file in package_data_files(modules, cells, root / "brewcast")]
    content = [code, modules, data_files, (root / "requirements.lock").read_text()]
    return cache / f"{path.stem}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}.ipynb"


def execute(
    paths: list[Path],  # notebooks
    root: Path,  # the project folder
    cache: Path,  # the folder of the cache
) -> dict[Path, Exception]:  # error by notebook, only of those that failed
    "Execute notebooks in parallel, in kernels forked from one process, and write those that passed to the cache."
    errors = {}

    def execute_one(path):
        try:
            notebook = execute_notebook(path)
            target = cache_path(path, root, cache)
            nbformat.write(notebook, target.with_suffix(".tmp"))
            target.with_suffix(".tmp").replace(target)
        except (CellExecutionError, DeadKernelError, TimeoutError) as error:
            errors[path] = error

    cache.mkdir(parents=True, exist_ok=True)
    os.environ.update(KERNEL_ENVIRONMENT | TELEMETRY_OFF)
    if len(paths) > WORKERS:
        kernels.start_warm_process({})
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(execute_one, paths))
    finally:
        kernels.end_warm_process()
    return errors


def lessons(
    paths: list[Path],  # notebooks
    root: Path,  # the project folder
    cache: Path,  # the folder of the cache; files of other notebooks are removed from it
) -> list[nbformat.NotebookNode]:  # executed, in the same order
    "Notebooks with the outputs of their lessons. A notebook whose content is in the cache is not executed again."
    cached = {path: cache_path(path, root, cache) for path in paths}
    missing = [path for path, file in cached.items() if not file.exists()]
    if missing:
        for path, error in execute(missing, root, cache).items():
            raise RuntimeError(f"{path.name}: {error}") from None
    for file in set(cache.iterdir()) - set(cached.values()):
        file.unlink()
    return [add_outputs(path, nbformat.read(file, 4)) for path, file in cached.items()]


def add_outputs(
    path: Path,  # a notebook in nbs/
    *executed: nbformat.NotebookNode,  # executed copies of it; prose may differ, code may not
) -> nbformat.NotebookNode:  # prose and code of nbs/; a cell's outputs are those of the first copy that has some
    "A notebook with the outputs of its cells."
    notebook = nbformat.read(path, 4)
    outputs = {}
    for copy in reversed(executed):
        outputs |= {cell.id: cell.outputs for cell in copy.cells if cell.get("outputs")}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = outputs.get(cell.id, [])
    return notebook


def main() -> int:  # exit status
    "Execute the lessons of all notebooks and guides, or of the notebooks that are arguments, even if they are in the cache."
    paths = [Path(name).resolve() for name in sys.argv[1:]] or [*notebooks(ROOT), *guides()]
    errors = execute(paths, ROOT, CACHE)
    for path, error in errors.items():
        print(f"{path.relative_to(ROOT)}: {error}", file=sys.stderr)
    print(f"lessons: {format_count(len(paths) - len(errors), 'notebook')} passed, {len(errors)} failed")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
