"Readers of notebooks for tests/test_teaching.py: how long cells are, what they decide, what lessons and help() say."

import ast
import json
import re
from pathlib import Path

MAX_LINES = 40  # of an exported cell, with the directive, comments and blank lines
MAX_MEDIAN_LINES = 15  # of all exported cells; in nbdev's own notebooks it is 11, in fastcore's 7
MAX_RUN_LINES = 15  # of a cell below `## Run`, without the directive
MIN_LESSON_SHARE = 0.3  # lines of cells that assert, for each exported line; fastcore has .67
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
PATCHING = {"patch", "patch_to"}
ASSERTION = re.compile(r"\b(assert |test_\w+\(|pytest\.raises)")
# a name in backticks, a constant such as FEATURES, or words that say where the columns are named
SAYS_COLUMNS = r"[^.]*(`|\b[A-Z]{3,}|\bsame\b|contract's|(these|any|one|only) columns?|columns? (a|of|that|it)\b)"
TABLE = re.compile(r"\b(DataFrame|pa\.Table|ibis\.Table)\b")
DECISIONS = {
    ast.If: "if",
    ast.IfExp: "if",
    ast.Match: "match",
    ast.While: "while",
    ast.Try: "try",
    ast.Compare: "comparison",
    ast.FunctionDef: "function",
    ast.Lambda: "function",
}


def code_cells(notebook: Path) -> list[str]:
    "The sources of a notebook's code cells."
    cells = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def exported_cells(notebook: Path) -> list[str]:
    "The exported cells of a notebook, without those that only import."
    exported = [source for source in code_cells(notebook) if re.search(r"(?m)^#\| *export", source)]
    return [source for source in exported if not all(is_import(node) for node in ast.parse(source).body)]


def is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def line_count(source: str) -> int:
    return len(source.rstrip().splitlines())


def cell_problems(source: str) -> list[str]:
    "What is wrong with an exported cell: it is long, it defines more than one thing, or it patches a class."
    problems = []
    if line_count(source) > MAX_LINES:
        problems.append(f"has {line_count(source)} lines")
    body = ast.parse(source).body
    names = [node.name for node in body if isinstance(node, DEFINITIONS)]
    if len(names) > 1:
        problems.append(f"defines {' and '.join(names)}")
    decorators = [decorator for node in body for decorator in getattr(node, "decorator_list", [])]
    called = {ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in decorators}
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    if called & PATCHING or any(is_class_attribute(target) for target in targets):
        problems.append("patches a class: compose it instead")
    return problems


def is_class_attribute(target: ast.AST) -> bool:
    "Is something set on a class, such as `Release.f = f`? On a module it may be: there are settings without another way."
    return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id[:1].isupper()


def run_cells(notebook: Path) -> list[str]:
    "The code cells below `## Run`, without their directives."
    cells = json.loads(notebook.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    start = max(number for number, source in enumerate(sources) if source == "## Run")
    code = [sources[number] for number in range(start, len(cells)) if cells[number]["cell_type"] == "code"]
    return [re.sub(r"(?m)^#\|.*\n?", "", source) for source in code]


def run_cell_problems(source: str) -> list[str]:
    "What is wrong with a cell below `## Run`: it is long, or it decides something."
    problems = [f"has {line_count(source)} lines"] if line_count(source) > MAX_RUN_LINES else []
    for node in ast.walk(ast.parse(source)):
        word = DECISIONS.get(type(node))
        if isinstance(node, ast.BoolOp):
            word = "or" if isinstance(node.op, ast.Or) else "and"
        elif isinstance(node, ast.comprehension) and node.ifs:
            word = "if"
        if word:
            problems.append(f"decides ({word}); write a function, and test it")
    return problems


def lesson_share(notebook: Path) -> float:
    "Lines of lessons that assert, for each exported line. Blank lines and directives do not count."
    lessons = [source for source in code_cells(notebook) if not re.search(r"(?m)^#\| *(export|eval: *false)", source)]
    n_lesson = sum(lines_of_code(source) for source in lessons if ASSERTION.search(source))
    return n_lesson / max(1, sum(lines_of_code(source) for source in exported_cells(notebook)))


def lines_of_code(source: str) -> int:
    return len([line for line in source.splitlines() if line.strip() and not line.startswith("#|")])


def help_problems(code: str) -> list[str]:
    "What `help()` does not say of the public functions, classes and methods of a module."
    problems = []
    for node in ast.parse(code).body:
        if not isinstance(node, DEFINITIONS) or node.name.startswith("_") or node.name.endswith("_command"):
            continue  # the docstring of a command is what --help prints
        problems += [f"{node.name} has no docstring"] if not ast.get_docstring(node) else []
        if not isinstance(node, ast.ClassDef):
            problems += function_help_problems(node, node.name)
            continue
        for method in node.body:
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and not method.name.startswith("_"):
                problems += function_help_problems(method, f"{node.name}.{method.name}")
    return problems


def function_help_problems(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> list[str]:
    "Columns and errors that the docstring of a function leaves out."
    text = ast.get_docstring(function) or ""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    problems = []
    if any(is_table(argument.annotation) for argument in arguments) and not re.search(f"Needs{SAYS_COLUMNS}", text):
        problems.append(f"{name}: Needs which `columns`?")
    if is_table(function.returns) and not re.search(f"Returns{SAYS_COLUMNS}", text):
        problems.append(f"{name}: Returns which `columns`?")
    return problems + [f"{name}: raises {error}" for error in sorted(raised(function)) if error not in text]


def is_table(annotation: ast.expr | None) -> bool:
    return annotation is not None and bool(TABLE.search(ast.unparse(annotation)))


def raised(function: ast.AST) -> set[str]:
    "The classes of errors in the `raise` statements of a function, not of those inside other functions."
    found = set()
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.Raise) and node.exc:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = ast.unparse(error).split(".")[-1]
            found |= {name} if name[:1].isupper() else set()  # a lower-case name is an error that was caught
        elif not isinstance(node, DEFINITIONS | ast.Lambda):
            found |= raised(node)
    return found
