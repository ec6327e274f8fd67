"Notebooks as pages: prose and code from nbs/, outputs from the execution."

import ast
import base64
import contextlib
import re
from pathlib import Path

import nbformat
from site_templates import TEMPLATES

from brewcast.common.text import format_count
from brewcast.workflow.staleness import code_to_run

MAX_OPEN_LINES = 30  # lines of code; a longer cell is folded, so that the prose stays in view
HIDDEN = re.compile(r"(?m)^#\| *(hide|default_exp)\b")
DIRECTIVE = re.compile(r"(?m)^#\|.*\n?")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
PARTS = TEMPLATES.get_template("notebook.html").module  # macros


class NotBuilt(Exception):
    "A notebook was not built, or it has changed since the last build."


def cell_tags(
    cell: nbformat.NotebookNode,
) -> list[str]:
    "The tags of a cell."
    return cell.metadata.get("tags", [])


def stage_code(
    notebook: nbformat.NotebookNode,  # with or without outputs
) -> list[str]:  # one text per cell with code to run
    "The code of a stage, without comments, prose, lessons and injected parameters."
    cells = [cell for cell in notebook.cells if "injected-parameters" not in cell_tags(cell)]
    return [form for _, form in code_to_run(cells)]


def read_built_notebook(
    path: Path,  # a stage's notebook in nbs/
    product: Path,  # the same notebook, executed by the last build, without its lessons
) -> nbformat.NotebookNode:  # the product
    "The executed notebook of a stage. Raises NotBuilt if it is missing or its code differs from nbs/."
    if not product.exists():
        raise NotBuilt(f"{product} is missing: nothing is built yet, `make run` first")
    executed = nbformat.read(product, 4)
    if stage_code(nbformat.read(path, 4)) != stage_code(executed):
        raise NotBuilt(f"{path} has changed since it was built: `make build` first")
    return executed


def add_parameters(
    notebook: nbformat.NotebookNode,  # of a stage; is changed
    executed: nbformat.NotebookNode,  # the same notebook, executed by a build
) -> nbformat.NotebookNode:  # the first one
    "Insert the parameters that a build injected, below the cell tagged `parameters`."
    injected = [cell for cell in executed.cells if "injected-parameters" in cell_tags(cell)]
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if "parameters" in cell_tags(cell):
            cells += injected
    notebook.cells = cells
    return notebook


def add_last_pictures(
    notebook: nbformat.NotebookNode,  # of a stage; is changed
    executed: nbformat.NotebookNode,  # the same notebook, executed by a build
) -> nbformat.NotebookNode:  # the first one
    "Give the cell that displays the last build's pictures its outputs. Neither lessons nor builds execute this cell."
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.endswith("display(*last_pictures(product))"):
            cell.outputs = [output for output in outputs if is_picture(output) or is_caption(output)]
    return notebook


def is_picture(
    output: dict,  # one output of a cell
) -> bool:
    "Is it a picture? One is there as PNG and as SVG."
    return "image/png" in output.get("data", {})


def is_caption(
    output: dict,  # one output of a cell
) -> bool:
    "Is it the caption of the picture above it?"
    return bool(output.get("metadata", {}).get("brewcast", {}).get("caption"))


def notebook_page(
    notebook: nbformat.NotebookNode,  # executed
    name: str,  # name of the page, such as "13_features"
    root: Path,  # the project folder; its path is removed from the text
) -> tuple[str, dict[str, bytes]]:  # Markdown; pictures by path relative to the page
    "A notebook as Markdown, without hidden cells and directives. Long cells are folded, exported names get anchors."
    parts, pictures = [], {}
    heading = name
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace(".ipynb)", ".md)"))
            heading = (re.findall(r"(?m)^#+ (.*)", cell.source) or [heading])[-1]
        if cell.cell_type != "code" or HIDDEN.search(cell.source):
            continue
        parts.append(code_block(cell))
        for number, output in enumerate(cell.outputs):
            parts.append(output_block(output, f"{name}/{cell.id}-{number}", heading, pictures))
    text = "\n\n".join(part for part in parts if part)
    return text.replace(f"{root}/", "").replace(str(root), "."), pictures


def defined_names(
    code: str,  # of a cell or a module
) -> dict[str, ast.stmt]:  # the defining statement by name
    "Functions, classes and assigned names at the top level of some code; nothing if it has a syntax error."
    statements = {}
    with contextlib.suppress(SyntaxError):
        for node in ast.parse(code).body:
            annotated = [node.target] if isinstance(node, ast.AnnAssign) else [node]
            for target in node.targets if isinstance(node, ast.Assign) else annotated:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                statements |= {getattr(part, "id", getattr(part, "name", None)): node for part in parts}
    return statements


def code_block(
    cell: nbformat.NotebookNode,  # a code cell
) -> str:  # Markdown
    "The code of a cell, with an anchor for each name that it exports."
    code = DIRECTIVE.sub("", cell.source).strip("\n")
    if not code:
        return ""
    is_exported = "#| export" in cell.source
    names = [name for name in defined_names(code) if name] if is_exported else []
    block = f"```python\n{code}\n```" if "```" not in code else f"~~~~python\n{code}\n~~~~"
    n_lines = code.count("\n") + 1
    if names and n_lines > MAX_OPEN_LINES:
        block = PARTS.folded_code(names, f": {format_count(n_lines, 'line')}", block)
    elif "injected-parameters" in cell_tags(cell):
        block = PARTS.folded_code([], "parameters of the last build", block)
    return f"{PARTS.anchors(names)}\n\n{block}" if names else block


def output_block(
    output: dict,  # one output of a cell
    path: str,  # where a picture goes, without suffix
    heading: str,  # the heading above, as text for a picture without one
    pictures: dict[str, bytes],  # a picture is added here
) -> str:  # Markdown
    "One output: a picture, a table or text. Warnings (stderr) are left out: they contain paths of this machine."
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:
        return "*Here JupyterLab shows a widget.*"
    for kind, suffix in (("image/svg+xml", "svg"), ("image/png", "png")):  # an SVG has a dark mode
        if kind in data:
            content = "".join(data[kind])
            pictures[f"{path}.{suffix}"] = base64.b64decode(content) if suffix == "png" else content.encode()
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", heading)
            return PARTS.picture(f"{path}.{suffix}", " ".join(alt.split()))
    if is_caption(output):
        return PARTS.caption("".join(data["text/plain"]))
    if "text/html" in data:
        html = re.sub(r"(?s)<style scoped>.*?</style>", "", "".join(data["text/html"])).replace(' border="1"', "")
        html = re.sub(r"\n\s*", "\n", html).strip()
        return PARTS.html_output(html)
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    if output.get("name") == "stderr":
        return ""
    text = ANSI.sub("", "".join(data.get("text/plain") or output.get("text") or "")).strip("\n")
    return PARTS.text_output(text) if text else ""
