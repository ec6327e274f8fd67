"Reference pages, generated from the project: modules of the library, parameters, commands."

import ast
import contextlib
import importlib
import inspect
import io
import re
import subprocess
import textwrap
from collections import Counter
from pathlib import Path

import yaml
from fastcore.docments import docments
from notebooks import defined_names

from brewcast.cli import app, main
from brewcast.common.parameter_types import type_in_words
from brewcast.workflow.parameter_cells import yaml_comments

MAX_CONSTANT_LINES = 12  # a longer constant is not shown; it is in its notebook
MAX_CALL_LENGTH = 76  # characters of a signature; a longer one gets one line per parameter


def import_modules(
    names: list[str],  # such as "model.features"
) -> dict[str, object]:  # module by name, in the same order
    "Import modules of the library."
    return {name: importlib.import_module(f"brewcast.{name}") for name in names}


def module_page(
    name: str,  # such as "model.features"
    notebook: str,  # its notebook, such as "model/13_features"
    notebook_link: str,  # path of the notebook's page, relative to this one
    module: object,  # the imported module
) -> str:  # Markdown
    "A module: parameters and result of each exported name, in the order of its notebook."
    lines = [f"# brewcast.{name}", module.__doc__ or "", f"From [`nbs/{notebook}.ipynb`]({notebook_link})."]
    source = Path(module.__file__).read_text()
    nodes = defined_names(source)
    for symbol in module.__all__:
        node = nodes[symbol]
        definition = f"{notebook_link}#def-{symbol}"
        lines += [f"## `{symbol}` {{ #{symbol} }}", f"[in the notebook]({definition}){{ .home }}"]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines += function_lines(node, getattr(module, symbol), node.name)
        elif isinstance(node, ast.ClassDef):
            lines += class_lines(node, getattr(module, symbol), source.splitlines())
        elif node.end_lineno - node.lineno < MAX_CONSTANT_LINES:
            code_lines = "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])
            lines.append(f"```python\n{code_lines}\n```")
    return "\n\n".join(lines)


def class_lines(
    node: ast.ClassDef,  # the syntax of the class
    cls: object,  # the class
    source: list[str],  # lines of its module: the syntax has no comments
) -> list[str]:  # Markdown blocks
    "A class: docstring, fields, constructor and methods."
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    lines = [f"```python\nclass {node.name}({bases})\n```"] if bases else []
    lines.append(ast.get_docstring(node) or "")
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    if fields:
        code_lines = [line for item in fields for line in source[item.lineno - 1 : item.end_lineno]]
        lines.append("```python\n" + textwrap.dedent("\n".join(code_lines)) + "\n```")
    cls = getattr(cls, "inner", cls)  # BentoML wraps a service's class
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            if item.name == "__init__":
                lines += function_lines(item, getattr(cls, item.name, None), node.name)
            elif not item.name.startswith("_"):
                lines.append(f"### `{node.name}.{item.name}` {{ #{node.name}.{item.name} }}")
                lines += function_lines(item, getattr(cls, item.name, None), item.name)
    return lines


def function_lines(
    node: ast.FunctionDef,  # the syntax of the function, for types and defaults as they are written
    function: object,  # the function, for its comments; None if it cannot be imported
    name: str,  # the name in the signature
) -> list[str]:  # Markdown blocks
    "A function: signature, docstring, and a table of its parameters."
    comments = parameter_comments(inspect.unwrap(function)) if callable(function) else {}
    rows, parameters = [], []
    for arg, default, stars in arguments(node):
        if arg.arg == "self":
            continue
        parameters.append(f"{stars}{arg.arg}" + (f"={ast.unparse(default)}" if default else ""))
        annotation = code(ast.unparse(arg.annotation)) if arg.annotation else ""
        default_text = code(ast.unparse(default)) if default else ""
        rows.append([code(stars + arg.arg), annotation, default_text, cell(comments.get(arg.arg))])
    signature = f"{name}({', '.join(parameters)})"
    if len(signature) > MAX_CALL_LENGTH:
        signature = f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + ")"
    if node.returns:
        rows.append(["**returns**", code(ast.unparse(node.returns)), "", cell(comments.get("return"))])
    description = ast.get_docstring(node) or ""
    return [f"```python\n{signature}\n```", description, table(["parameter", "type", "default", ""], rows)]


def parameter_comments(
    function: object,  # unwrapped
) -> dict[str, str | None]:  # comment by parameter; that of the result is under "return"
    "The comments beside a function's parameters."
    if not inspect.isfunction(function):
        return {}
    comments = {name: docment.docment for name, docment in docments(function, full=True, args_kwargs=True).items()}
    # docments misses the comment of the result if the closing parenthesis has a line of its own and no type
    closing_line = re.search(r"(?m)^\s*\):  # (.+)$", inspect.getsource(function))
    comments["return"] = comments.get("return") or (closing_line and closing_line[1])
    return comments


def table(
    titles: list[str],  # of the columns
    rows: list[list[str]],  # one text per column
) -> str:  # Markdown; empty without rows
    "A table without its empty columns."
    used = [column for column in range(len(titles)) if any(row[column] for row in rows)]
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line[column] for column in used)} |" for line in lines) if used else ""


def arguments(
    node: ast.FunctionDef,  # the syntax of a function
) -> list[tuple[ast.arg, ast.expr | None, str]]:  # (argument, default, "", "*" or "**")
    "The arguments of a function in order."
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults
    result = [(arg, default, "") for arg, default in zip(positional, defaults, strict=True)]
    if args.vararg:
        result.append((args.vararg, None, "*"))
    result += [(arg, default, "") for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if args.kwarg:
        result.append((args.kwarg, None, "**"))
    return result


def code(
    text: str,  # Python code
) -> str:  # HTML for a cell of a table
    "Code in a table cell. A pipe is escaped, since it would begin the next column."
    return "<code>" + text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;") + "</code>"


def cell(
    text: str | None,  # a comment
) -> str:  # Markdown for a cell of a table
    "A comment in a table cell."
    return " ".join((text or "").split()).replace("|", "&#124;").replace("<", "&lt;")


def linkable_names(
    library: dict[str, object],  # modules by name
) -> dict[str, str]:  # module by exported name
    "Names that are linked to the reference: exported by one module only, and not just a lower-case word."
    exported = [(symbol, name) for name, module in library.items() for symbol in module.__all__]
    modules_with_name = Counter(symbol for symbol, _ in exported)
    return {
        symbol: name
        for symbol, name in exported
        if modules_with_name[symbol] == 1 and not re.fullmatch("[a-z]+", symbol)
    }


def parameter_rows(
    text: str,  # a YAML file of parameters
) -> list[tuple[str, str, str, str]]:  # (section, parameter, value, comment), in order
    "Every parameter of a YAML file with the comment beside it. A line `# -- title` begins a section."
    comments, rows, section = yaml_comments(text), [], ""
    lines = enumerate(text.splitlines())
    sections = {number: line[5:].strip() for number, line in lines if line.startswith("# -- ")}

    def walk(node, path):
        nonlocal section
        for key, value in node.value:
            first = key.start_mark.line
            section = next((title for line, title in reversed(sections.items()) if line < first), "")
            name = ".".join([*path, key.value])
            begins_below = value.start_mark.line > first
            value_text = "" if begins_below else text[value.start_mark.index : value.end_mark.index]
            rows.append((section, name, " ".join(value_text.split()), comments.get(name, "")))
            if begins_below and isinstance(value, yaml.MappingNode):
                walk(value, [*path, key.value])

    walk(yaml.compose(text), [])
    return rows


def stages_with_parameter(
    tasks: list[dict],  # pipeline.yaml, "tasks"
    name: str,  # a parameter, such as "gate.min_gain"
) -> list[str]:  # names of stages
    "The stages that read a parameter, by pipeline.yaml."
    placeholders = {task["name"]: {str(value) for value in (task.get("params") or {}).values()} for task in tasks}
    return [stage for stage, values in placeholders.items() if f"{{{{{name}}}}}" in values]


def parameters_page(
    root: Path,  # the project folder
    pages: dict[str, str],  # page by stage
) -> str:  # Markdown
    "Every parameter with its value, its comment and the stages that read it; and the files of the other sources."
    tasks = yaml.safe_load((root / "pipeline.yaml").read_text())["tasks"]
    lines = ["# Parameters", "All parameters in `env.yaml`: the values of the default source, each with its reason."]
    lines.append("`make run SOURCE=name` reads `env.<name>.yaml`, which has only [the differences](#other-sources).")
    sections = {}
    for section, name, value, comment in parameter_rows((root / "env.yaml").read_text()):
        readers = ", ".join(f"[{stage}]({pages[stage]})" for stage in stages_with_parameter(tasks, name))
        row = [code(name), code(value) if value else "", cell(type_in_words(name)), cell(comment), readers]
        sections.setdefault(section, []).append(row)
    for section, rows in sections.items():
        lines.append(f"\n## {section[:1].upper()}{section[1:]}\n")
        lines.append(table(["parameter", "value", "type", "meaning and reason", "read by"], rows))
    lines.append("\n## Other sources")
    for path in sorted(root.glob("env.*.yaml")):
        lines.append(f"\n### {path.name}\n\n```yaml\n{path.read_text().strip()}\n```")
    return "\n".join(lines)


def commands_page(
    root: Path,  # the project folder
) -> str:  # Markdown
    "The help of `make` and of every `brewcast` command."
    make_help = subprocess.run(["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    lines = ["# Commands"]
    for line in make_help.splitlines():
        target = re.match(r"  ([a-z-]+) +(.*)", line)
        if target:
            lines.append(f"| `make {target[1]}` | {cell(target[2])} |")
        elif line and not line.startswith(" "):
            lines.append(f"\n## {line}\n\n| command | |\n| --- | --- |")
        elif line:
            lines.append(f"\n{line.strip()}")
    lines.append(
        "\n## brewcast\n\n`make` calls these commands. Use them after `. ./activate`; some have more options here."
    )
    for name in (info.name for info in app.registered_commands):
        lines.append(f"\n### `brewcast {name}` {{ #brewcast-{name} }}\n\n```text\n{usage(name)}\n```")
    return "\n".join(lines)


def usage(
    command: str,  # such as "month"
) -> str:
    "The text of `brewcast COMMAND --help`."
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main([command, "--help"])
    return output.getvalue().strip()
