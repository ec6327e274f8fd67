"""The nine notebooks without Brewcast's build; run by bench/builds.py inside a working copy, with its library.

python notebooks.py wiring            what pipeline.yaml wires, as JSON
python notebooks.py inject FOLDER     the notebooks with their parameters in a cell, to FOLDER
python notebooks.py papermill         one papermill.execute_notebook after the other
python notebooks.py warm FILE         every cell in this one process, imports done before; cells' own seconds to FILE
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
    "By stage: its notebook, the stages before it, and the parameters that Ploomber injects."
    from brewcast.common.params import env_file, read_env, read_stages

    wired, found = read_stages(ROOT, read_env(ROOT, env_file(ROOT, SOURCE))), {}
    places = {name: {k: str(ROOT / path) for k, path in stage["product"].items()} for name, stage in wired.items()}
    for name, stage in wired.items():
        body = parameters_of(nbformat.read(ROOT / stage["source"], 4)).body
        before = next(ast.literal_eval(node.value) for node in body if node.targets[0].id == "upstream")
        injected = {"upstream": {stage: places[stage] for stage in before or []}, "product": places[name]}
        found[name] = {"notebook": stage["source"], "upstream": before or [], "params": stage["params"] | injected}
    return found


def environment() -> dict[str, str]:
    "What the tools find in their environment."
    from brewcast.common.params import environment

    return environment(ROOT, SOURCE)


def injected() -> dict[str, nbformat.NotebookNode]:
    "The notebooks with a cell of parameters; the folders of their products are made."
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    found = {}
    for name, stage in wiring().items():
        Path(stage["params"]["product"]["nb"]).parent.mkdir(parents=True, exist_ok=True)
        notebook = load_notebook_node(str(ROOT / stage["notebook"]))
        found[name] = parameterize_notebook(notebook, stage["params"], kernel_name="python3", language="python")
    return found


def inject(folder: str) -> None:
    "For nbconvert, which has no parameters."
    for name, notebook in injected().items():
        nbformat.write(notebook, Path(folder) / f"{name}.ipynb")


def papermill() -> None:
    "What a script of papermill users looks like."
    import papermill

    for stage in wiring().values():
        done = Path(stage["params"]["product"]["nb"])
        done.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(stage["notebook"], done, stage["params"], kernel_name="python3", progress_bar=False)


def import_all(notebooks: dict[str, nbformat.NotebookNode]) -> None:
    "Every import statement of the notebooks and of the library modules that they name, also inside functions."
    import typeguard

    waiting = ["\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!")))
               for notebook in notebooks.values() for cell in notebook.cells if cell.cell_type == "code"]  # fmt: skip
    seen, kept = set(), typeguard.typechecked
    typeguard.typechecked = lambda thing=None, **_: thing or (lambda inner: inner)  # as `features` imports Feast
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop())):
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
                    waiting.append(Path(sys.modules[module].__file__).read_text())
    typeguard.typechecked = kept


def warm(figures: str) -> None:
    "The least that the notebooks' work can take: no kernel starts, no imports, no tool; only the cells."
    import matplotlib
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib_inline.backend_inline import configure_inline_support

    notebooks = injected()
    import_all(notebooks)
    shell = InteractiveShell.instance(display_pub_class=CapturingDisplayPublisher)
    matplotlib.use(INLINE)
    configure_inline_support(shell, INLINE)
    found = {}
    for name, notebook in notebooks.items():
        shell.reset(new_session=False)
        wall, cpu = time.perf_counter(), cpu_seconds()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                with contextlib.redirect_stdout(io.StringIO()):
                    done = shell.run_cell(cell.source)
                done.raise_error()
        found[name] = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    Path(figures).write_text(json.dumps(found))


def cpu_seconds() -> float:
    "Of this process, and of those that it started and that ended."
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "wiring":
        print(json.dumps({"stages": wiring(), "environment": environment()}))
    else:
        {"inject": inject, "papermill": papermill, "warm": warm}[command](*arguments)
