"Pages that are made from the project itself: the library's modules, the parameters, the commands."

import ast
import contextlib
import importlib
import inspect
import io
import re
import subprocess
from collections import Counter
from pathlib import Path

import yaml
from fastcore.docments import docments
from notebooks import defined

from brewcast.cli import COMMANDS, argument_parser

LONGEST = 12  # lines of a constant; longer ones are read in their notebook


def modules(
    names: list[str],  # such as "model.features"
) -> dict[str, object]:  # by name, in the same order
    "The library's modules that notebooks export."
    return {name: importlib.import_module(f"brewcast.{name}") for name in names}


def module_page(
    name: str,  # such as "model.features"
    notebook: str,  # its notebook, such as "model/13_features"
    back: str,  # the notebook's page, relative to this one
    module: object,  # imported
) -> str:  # Markdown
    "A module: what each exported name takes and gives, in the order in which its notebook tells it."
    lines = [f"# brewcast.{name}", module.__doc__ or "", f"From [`nbs/{notebook}.ipynb`]({back})."]
    source = Path(module.__file__).read_text()
    nodes = defined(source)
    for symbol in module.__all__:
        node = nodes[symbol]
        home = f"{back}#def-{symbol}"
        lines += [f"## `{symbol}` {{ #{symbol} }}", f"[in the notebook]({home}){{ .home }}"]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines += function_lines(node, getattr(module, symbol), node.name)
        elif isinstance(node, ast.ClassDef):
            lines += class_lines(node, getattr(module, symbol))
        elif node.end_lineno - node.lineno < LONGEST:
            shown = "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])
            lines.append(f"```python\n{shown}\n```")
    return "\n\n".join(lines)


def class_lines(
    node: ast.ClassDef,  # its syntax
    made: object,  # what the module has under that name
) -> list[str]:  # Markdown blocks
    "A class: what it is, its fields, how it is made, and its methods."
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    lines = [f"```python\nclass {node.name}({bases})\n```"] if bases else []
    lines.append(ast.get_docstring(node) or "")
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    if fields:
        lines.append("```python\n" + "\n".join(ast.unparse(item) for item in fields) + "\n```")
    made = getattr(made, "inner", made)  # what BentoML wraps
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            if item.name == "__init__":
                lines += function_lines(item, getattr(made, item.name, None), node.name)
            elif not item.name.startswith("_"):
                lines.append(f"### `{node.name}.{item.name}` {{ #{node.name}.{item.name} }}")
                lines += function_lines(item, getattr(made, item.name, None), item.name)
    return lines


def function_lines(
    node: ast.FunctionDef,  # its syntax: types and defaults as they are written
    function: object,  # the function, whose comments are read; None where there is none to be had
    name: str,  # how it is called
) -> list[str]:  # Markdown blocks
    "A function: signature, what it does, and a table of its parameters."
    function = inspect.unwrap(function) if callable(function) else None
    comments = {}
    if inspect.isfunction(function):
        comments = {name: found.docment for name, found in docments(function, full=True, args_kwargs=True).items()}
        after = re.search(r"(?m)^\s*\):  # (.+)$", inspect.getsource(function))  # where the type has a line of its own
        comments["return"] = comments.get("return") or (after and after[1])
    rows, shown = [], []
    for arg, default, star in arguments(node):
        if arg.arg == "self":
            continue
        shown.append(f"{star}{arg.arg}" + (f"={ast.unparse(default)}" if default else ""))
        row = [arg.annotation and code(ast.unparse(arg.annotation)), default and code(ast.unparse(default))]
        rows.append([code(star + arg.arg), *(text or "" for text in row), cell(comments.get(arg.arg))])
    call = f"{name}({', '.join(shown)})"
    if len(call) > 76:
        call = f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + ")"
    if node.returns:
        rows.append(["**gives**", code(ast.unparse(node.returns)), "", cell(comments.get("return"))])
    return [f"```python\n{call}\n```", ast.get_docstring(node) or "", table(["parameter", "type", "default", ""], rows)]


def table(
    titles: list[str],  # of the columns
    rows: list[list[str]],  # texts, one a column
) -> str:  # Markdown; nothing without rows
    "A table without the columns in which nothing stands."
    used = [column for column in range(len(titles)) if any(row[column] for row in rows)]
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line[column] for column in used)} |" for line in lines) if used else ""


def arguments(
    node: ast.FunctionDef,  # a function's syntax
) -> list[tuple[ast.arg, ast.expr | None, str]]:  # (argument, default, its stars)
    "A function's arguments in order."
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    found = [(arg, default, "") for arg, default in zip(plain, defaults, strict=True)]
    found += [(args.vararg, None, "*")] if args.vararg else []
    found += [(arg, default, "") for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return found + ([(args.kwarg, None, "**")] if args.kwarg else [])


def code(
    text: str,  # Python
) -> str:  # for a cell of a table
    "Code in a table, whose columns a pipe would shift."
    return "<code>" + text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;") + "</code>"


def cell(
    text: str | None,  # a comment
) -> str:  # for a cell of a table
    "A comment as Markdown."
    return " ".join((text or "").split()).replace("|", "&#124;").replace("<", "&lt;")


def names(
    library: dict[str, object],  # modules by name
) -> dict[str, str]:  # module by exported name
    "Names that lead to the reference: those of one module only that are no plain word or column of a table."
    exported = [(symbol, name) for name, module in library.items() for symbol in module.__all__]
    count = Counter(symbol for symbol, _ in exported)
    return {symbol: name for symbol, name in exported if count[symbol] == 1 and not re.fullmatch("[a-z]+", symbol)}


def parameters(
    text: str,  # a YAML file of parameters
) -> list[tuple[str, str, str, str]]:  # (section, parameter, value, comment), in order
    "Every parameter of a YAML file with the comment beside it."
    lines, rows, section = text.splitlines(), [], ""
    sections = {number: line[5:].strip() for number, line in enumerate(lines) if line.startswith("# -- ")}

    def walk(node, path):
        nonlocal section
        for key, value in node.value:
            first, last = key.start_mark.line, max(key.start_mark.line, value.end_mark.line - 1)
            section = next((said for at, said in reversed(sections.items()) if at < first), "")
            name = ".".join([*path, key.value])
            nested = isinstance(value, yaml.MappingNode) and value.start_mark.line > first
            same = value.start_mark.line == first
            comment = re.search(r"\s# (.*)", lines[first][value.end_mark.column if same and last == first else 0 :])
            shown = "" if value.start_mark.line > first else text[value.start_mark.index : value.end_mark.index]
            rows.append((section, name, " ".join(shown.split()), comment[1] if comment else ""))
            if nested:
                walk(value, [*path, key.value])

    walk(yaml.compose(text), [])
    return rows


def takers(
    tasks: list[dict],  # of pipeline.yaml
    name: str,  # a parameter, such as "gate.min_gain"
) -> list[str]:  # stages
    "The stages to which a parameter is wired under its own name."
    wired = {task["name"]: {str(value) for value in (task.get("params") or {}).values()} for task in tasks}
    return [stage for stage, values in wired.items() if f"{{{{{name}}}}}" in values]


def parameters_page(
    root: Path,  # the project
    pages: dict[str, str],  # a stage's page by its name
) -> str:  # Markdown
    "Every parameter with its value, who takes it and why; and what each source changes."
    tasks = yaml.safe_load((root / "pipeline.yaml").read_text())["tasks"]
    lines = ["# Parameters", "All of `env.yaml`: the default source's values, each with its reason."]
    lines.append("`make run SOURCE=name` reads `env.<name>.yaml`, which says only [what is different](#other-sources).")
    sections = {}
    for section, name, value, comment in parameters((root / "env.yaml").read_text()):
        taken = ", ".join(f"[{stage}]({pages[stage]})" for stage in takers(tasks, name))
        sections.setdefault(section, []).append([code(name), code(value) if value else "", cell(comment), taken])
    for section, rows in sections.items():
        lines.append(f"\n## {section[:1].upper()}{section[1:]}\n")
        lines.append(table(["parameter", "value", "what it is, and why", "taken by"], rows))
    lines.append("\n## Other sources")
    for path in sorted(root.glob("env.*.yaml")):
        lines.append(f"\n### {path.name}\n\n```yaml\n{path.read_text().strip()}\n```")
    return "\n".join(lines)


def commands_page(
    root: Path,  # the project
) -> str:  # Markdown
    "What `make` and `brewcast` offer, as they say so themselves."
    said = subprocess.run(["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    lines = ["# Commands"]
    for line in said.splitlines():
        if found := re.match(r"  ([a-z-]+) +(.*)", line):
            lines.append(f"| `make {found[1]}` | {cell(found[2])} |")
        elif line and not line.startswith(" "):
            lines.append(f"\n## {line}\n\n| command | |\n| --- | --- |")
        elif line:
            lines.append(f"\n{line.strip()}")
    lines.append("\n## brewcast\n\nWhat `make` calls, after `. ./activate`; some commands take more here.")
    for name in COMMANDS:
        lines.append(f"\n### `brewcast {name}` {{ #brewcast-{name} }}\n\n```text\n{usage(name)}\n```")
    return "\n".join(lines)


def usage(
    command: str,  # of `brewcast`
) -> str:  # what `brewcast COMMAND --help` says
    "How a command is called."
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        argument_parser().parse_args([command, "--help"])
    return said.getvalue().strip()
