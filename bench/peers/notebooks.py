"""Run the nine notebooks without Brewcast's build. bench/builds.py calls it inside a working copy, with its library.

python notebooks.py wiring            the stages of pipeline.yaml and their parameters, as JSON
python notebooks.py inject FOLDER     write the notebooks to FOLDER, with their parameters in a cell
python notebooks.py papermill         call papermill.execute_notebook for one notebook after the other
python notebooks.py warm FILE         run every cell in this process, after all imports; write the cells' seconds to FILE
"""

import ast
import contextlib
import io
import json
import resource
import sys
import time
from pathlib import Path

import nbformat

ROOT, SOURCE = Path.cwd(), "simulated"
INLINE = "module://matplotlib_inline.backend_inline"


def parameters_of(notebook: nbformat.NotebookNode) -> ast.Module:
    "The parameters cell, parsed."
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return ast.parse(tagged[0].source)


def wiring() -> dict[str, dict]:
    "By stage: its notebook, its upstream stages, and the parameters that Ploomber injects."
    from brewcast.common.params import env_file, read_env, read_stages

    stages = read_stages(ROOT, read_env(ROOT, env_file(ROOT, SOURCE)))
    paths = {}  # by stage, by product
    for name, stage in stages.items():
        paths[name] = {product: str(ROOT / path) for product, path in stage.product.items()}
    result = {}
    for name, stage in stages.items():
        body = parameters_of(nbformat.read(ROOT / stage.source, 4)).body
        upstream = next(ast.literal_eval(node.value) for node in body if node.targets[0].id == "upstream")
        injected = {"upstream": {stage: paths[stage] for stage in upstream or []}, "product": paths[name]}
        result[name] = {"notebook": stage.source, "upstream": upstream or [], "params": stage.params | injected}
    return result


def environment() -> dict[str, str]:
    "The environment variables of the tools."
    from brewcast.common.params import environment

    return environment(ROOT, SOURCE)


def inject_parameters() -> dict[str, nbformat.NotebookNode]:
    "The notebooks with a cell of parameters. Creates the folders of their products."
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebooks = {}
    for name, stage in wiring().items():
        Path(stage["params"]["product"]["nb"]).parent.mkdir(parents=True, exist_ok=True)
        notebook = load_notebook_node(str(ROOT / stage["notebook"]))
        notebooks[name] = parameterize_notebook(notebook, stage["params"], kernel_name="python3", language="python")
    return notebooks


def inject(folder: str) -> None:
    "Write the notebooks for nbconvert, which has no parameters."
    for name, notebook in inject_parameters().items():
        nbformat.write(notebook, Path(folder) / f"{name}.ipynb")


def papermill() -> None:
    "Run the notebooks as a typical papermill script does."
    import papermill

    for stage in wiring().values():
        output = Path(stage["params"]["product"]["nb"])
        output.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            stage["notebook"], output, stage["params"], kernel_name="python3", progress_bar=False
        )


def import_all(notebooks: dict[str, nbformat.NotebookNode]) -> None:
    "Execute every import of the notebooks and of the library modules that they import, also those inside functions."
    import typeguard

    sources = ["\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!")))
               for notebook in notebooks.values() for cell in notebook.cells if cell.cell_type == "code"]  # fmt: skip
    seen, typechecked = set(), typeguard.typechecked
    typeguard.typechecked = lambda thing=None, **_: thing or (lambda inner: inner)  # as `features` imports Feast
    while sources:
        for node in ast.walk(ast.parse(sources.pop())):
            if isinstance(node, ast.ImportFrom) and node.level:
                node.module, node.level = ".".join(filter(None, ["brewcast", node.module])), 0
            line = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            if not line or line in seen or "__future__" in line:
                continue
            seen.add(line)
            with contextlib.suppress(ImportError):
                exec(line, {})
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for module in modules:
                if module.startswith("brewcast.") and module not in seen and module in sys.modules:
                    seen.add(module)
                    sources.append(Path(sys.modules[module].__file__).read_text())
    typeguard.typechecked = typechecked


def warm(figures: str) -> None:
    "The minimum time of the notebooks: only the cells, without kernels, imports and tools."
    import matplotlib
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib_inline.backend_inline import configure_inline_support

    notebooks = inject_parameters()
    import_all(notebooks)
    shell = InteractiveShell.instance(display_pub_class=CapturingDisplayPublisher)
    matplotlib.use(INLINE)
    configure_inline_support(shell, INLINE)
    seconds = {}
    for name, notebook in notebooks.items():
        shell.reset(new_session=False)
        start, cpu_before = time.perf_counter(), cpu_seconds()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                with contextlib.redirect_stdout(io.StringIO()):
                    result = shell.run_cell(cell.source)
                result.raise_error()
        seconds[name] = {"wall": time.perf_counter() - start, "cpu": cpu_seconds() - cpu_before}
    Path(figures).write_text(json.dumps(seconds))


def cpu_seconds() -> float:
    "CPU seconds of this process, and of its children that have ended."
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "wiring":
        print(json.dumps({"stages": wiring(), "environment": environment()}))
    else:
        {"inject": inject, "papermill": papermill, "warm": warm}[command](*arguments)
