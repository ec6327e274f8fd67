"Notebooks as pages: prose and code as they stand in nbs/, outputs as they came out."

import ast
import base64
import contextlib
import re
from html import escape
from pathlib import Path

import nbformat

from brewcast.common.text import format_count
from brewcast.workflow.staleness import code_to_run

LONG = 30  # lines of code; longer cells are folded
HIDDEN = re.compile(r"(?m)^#\| *(hide|default_exp)\b")
DIRECTIVE = re.compile(r"(?m)^#\|.*\n?")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class NotBuilt(Exception):
    "What the site shows has not been built, or not from the code that stands in nbs/."


def code_of(
    notebook: nbformat.NotebookNode,  # with or without outputs
) -> list[str]:  # one text a cell that holds a program
    "A stage's program, without comments, prose, lessons and what papermill injected."
    return [
        form for _, form in code_to_run([cell for cell in notebook.cells if "injected-parameters" not in tags(cell)])
    ]


def tags(
    cell: nbformat.NotebookNode,  # a cell
) -> list[str]:  # its tags
    "What a cell is marked as."
    return cell.metadata.get("tags", [])


def built(
    path: Path,  # a stage's notebook in nbs/
    product: Path,  # the same, executed by the last build, without its lessons
) -> nbformat.NotebookNode:  # the product
    "What the last build made of a stage's notebook. Raises NotBuilt where there is none, or of other code."
    if not product.exists():
        raise NotBuilt(f"{product} is missing: nothing is built yet, `make run` first")
    executed = nbformat.read(product, 4)
    if code_of(nbformat.read(path, 4)) != code_of(executed):
        raise NotBuilt(f"{path} has changed since it was built: `make build` first")
    return executed


def with_parameters(
    notebook: nbformat.NotebookNode,  # a stage's
    executed: nbformat.NotebookNode,  # the same, by a build
) -> nbformat.NotebookNode:  # the first
    "Put in place what a build injected."
    injected = [cell for cell in executed.cells if "injected-parameters" in tags(cell)]
    put = [[cell, *(injected if "parameters" in tags(cell) else [])] for cell in notebook.cells]
    notebook.cells = [cell for cells in put for cell in cells]
    return notebook


def page(
    notebook: nbformat.NotebookNode,  # executed
    name: str,  # the page's name, such as "13_features"
    root: Path,  # the project, whose path is taken out
) -> tuple[str, dict[str, bytes]]:  # Markdown, and its pictures by name relative to the page
    "A notebook as Markdown: hidden cells and directives left out, long cells folded, a mark where a name is defined."
    parts, pictures, heading = [], {}, name
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace(".ipynb)", ".md)"))
            heading = (re.findall(r"(?m)^#+ (.*)", cell.source) or [heading])[-1]
        if cell.cell_type != "code" or HIDDEN.search(cell.source):
            continue
        parts.append(shown_code(cell))
        for number, output in enumerate(cell.outputs):
            parts.append(shown_output(output, f"{name}/{cell.id}-{number}", heading, pictures))
    return "\n\n".join(part for part in parts if part).replace(f"{root}/", "").replace(str(root), "."), pictures


def defined(
    code: str,  # of a cell or a module
) -> dict[str, ast.stmt]:  # the statement that defines it, by name
    "What code defines at its top level: functions, classes, names that are assigned."
    found = {}
    with contextlib.suppress(SyntaxError):
        for node in ast.parse(code).body:
            for target in node.targets if isinstance(node, ast.Assign) else [node]:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                found |= {getattr(part, "id", getattr(part, "name", None)): node for part in parts}
    return found


def shown_code(
    cell: nbformat.NotebookNode,  # a code cell
) -> str:  # Markdown
    "A cell's code, with a mark for each name that it exports."
    code = DIRECTIVE.sub("", cell.source).strip("\n")
    if not code:
        return ""
    exported = "#| export" in cell.source
    names = [name for name in defined(code) if name] if exported else []
    marks = "".join(f'<span id="def-{name}"></span>' for name in names)
    block = f"```python\n{code}\n```" if "```" not in code else f"~~~~python\n{code}\n~~~~"
    folded = "what the build injected here" if "injected-parameters" in tags(cell) else None
    if names and code.count("\n") >= LONG:
        folded = (
            ", ".join(f"<code>{name}</code>" for name in names) + f": {format_count(code.count(chr(10)) + 1, 'line')}"
        )
    if folded:
        block = f'<details class="fold" markdown>\n<summary>{folded}</summary>\n\n{block}\n\n</details>'
    return f"{marks}\n\n{block}" if marks else block


def shown_output(
    output: dict,  # one output of a cell
    path: str,  # of a picture, without its suffix
    heading: str,  # what the picture is about
    pictures: dict[str, bytes],  # is filled
) -> str:  # Markdown
    "One output: a picture, a table or text. Warnings, which name places of this machine, are left out."
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:
        return "*A widget stands here in JupyterLab.*"
    for kind, suffix in (("image/png", "png"), ("image/svg+xml", "svg")):
        if kind in data:
            content = "".join(data[kind])
            pictures[f"{path}.{suffix}"] = base64.b64decode(content) if suffix == "png" else content.encode()
            return f"![{heading}]({path}.{suffix}){{ .output }}"
    if "text/html" in data:
        html = re.sub(r"(?s)<style scoped>.*?</style>", "", "".join(data["text/html"])).replace(' border="1"', "")
        html = re.sub(r"\n\s*", "\n", html).strip()
        return f'<div class="output" data-search-exclude>\n{html}\n</div>'
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    text = "" if output.get("name") == "stderr" else "".join(data.get("text/plain") or output.get("text") or "")
    text = ANSI.sub("", text).strip("\n")
    return f'<pre class="output" data-search-exclude>{escape(text, quote=False)}</pre>' if text else ""
