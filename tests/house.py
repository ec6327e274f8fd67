"Readers of code for tests/test_house.py: they find imports that `lint-imports` does not see."

import ast
import hashlib
import inspect
import json
import re
import sys
import textwrap
import tomllib
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

import yaml
from conftest import ROOT
from packaging.utils import canonicalize_name

from brewcast.common.mlflow import ARTIFACTS_FOLDER
from brewcast.common.mlflow_tables import MLFLOW_FILE, MLFLOW_TABLES
from brewcast.delivery.package import dependency_closure
from brewcast.workflow.staleness import normal_form

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = [set(layer.split(" | ")) for layer in CONTRACTS[0]["layers"]]
DYNAMIC_IMPORTS = {"import_module", "__import__", "exec", "eval", "pkgutil", "runpy", "entry_points", "resolve_name"}
MAY_IMPORT_BY_NAME = {"workflow/kernels"}  # it imports PRELOADED_MODULES: libraries, and nothing of brewcast
NOT_IN_BENTO = {("prediction_log.py", "duckdb")}  # to read logs in the monthly run; the service only writes logs


def module_of(notebook: str) -> str:
    "The module that a notebook exports: model.features for model/13_features."
    return re.sub(r"\b\d\d_", "", notebook).replace("/", ".")


def allowed_packages(package: str) -> set[str]:
    "The packages that a package may import, by the contracts of `lint-imports` in pyproject.toml."
    (level,) = [number for number, layer in enumerate(LAYERS) if package in layer]
    may_import = {package}.union(*LAYERS[level + 1 :])
    for contract in CONTRACTS[1:]:
        if f"brewcast.{package}" in contract["source_modules"]:
            may_import -= {name.removeprefix("brewcast.") for name in contract["forbidden_modules"]}
    return may_import


def all_nodes(code: str) -> list[ast.AST]:
    "All nodes of the syntax tree, without the magics of a notebook."
    return list(ast.walk(ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", code))))


def is_read_of_inputs(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "StateInputs.read"


def state_fields_read(code: str) -> set[str]:
    "The attributes of StateInputs that code takes: of a parameter, of a variable, or right after it is read."
    nodes = all_nodes(code)
    parameters = [node for node in nodes if isinstance(node, ast.arg) and node.annotation]
    variables = [node for node in nodes if isinstance(node, ast.Assign) and is_read_of_inputs(node.value)]
    holders = {node.arg for node in parameters if "StateInputs" in ast.unparse(node.annotation)}
    holders |= {ast.unparse(node.targets[0]) for node in variables}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    return {node.attr for node in attributes if ast.unparse(node.value) in holders or is_read_of_inputs(node.value)}


def imported_modules(code: str) -> set[str]:
    "Modules of brewcast that code imports, or has as a string, for example as an argument of `files` or `find_spec`."
    found = set()
    nodes = all_nodes(code)
    # a module after `-m` runs in a process of its own, maybe from an older commit
    programs = {id(argument) for node in nodes for argument in nodes_after_dash_m(node)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            found |= {
                f"{node.module}.{alias.name}" if node.module == "brewcast" else node.module for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and id(node) not in programs:
            found |= {str(node.value)} if re.fullmatch(r"brewcast(\.\w+)+(:\w+)?", str(node.value)) else set()
        elif isinstance(node, ast.Call) and last_name(node.func) in ("import_module", "__import__"):
            name, *package = [
                str(ast.literal_eval(v)) for v in argument_nodes(node) if isinstance(v, ast.Constant)
            ] or [""]
            found.add(package[0] + name if name.startswith(".") and package else name)
    ours = {name for name in found if name and re.match(r"brewcast\.", name)}
    return ours - {"brewcast.__version__"}


def argument_nodes(call: ast.Call) -> list[ast.AST]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def last_name(node: ast.AST) -> str:
    "The last part of a dotted name."
    return ast.unparse(node).split(".")[-1]


def nodes_after_dash_m(node: ast.AST) -> list[ast.AST]:
    "The element after a `-m` in a list or a call."
    items = getattr(node, "elts", None) or getattr(node, "args", None)
    pairs = list(zip(items, items[1:], strict=False)) if isinstance(items, list) else []
    return [following for item, following in pairs if isinstance(item, ast.Constant) and item.value == "-m"]


def packages_in_strings(code: str) -> set[str]:
    "Packages of brewcast that are named in strings, without docstrings: a string may be code that runs."
    nodes = all_nodes(normal_form(code))
    programs = {id(argument) for node in nodes for argument in nodes_after_dash_m(node)}
    texts = [str(node.value) for node in nodes if isinstance(node, ast.Constant) and id(node) not in programs]
    packages = "|".join(sorted(set().union(*LAYERS)))
    return {found for text in texts for found in re.findall(rf"\bbrewcast\.(?:{packages})\b", text)}


def dynamic_imports(code: str) -> set[str]:
    "Functions in the code that import modules dynamically, so that `lint-imports` does not see it."
    found = set()
    for node in all_nodes(code):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found |= names & (DYNAMIC_IMPORTS | {"importlib"}) | (
                {node.module} & DYNAMIC_IMPORTS if isinstance(node, ast.ImportFrom) else set()
            )
        elif isinstance(node, ast.Name | ast.Attribute):
            found |= (
                {last_name(node)} & DYNAMIC_IMPORTS
                if isinstance(node, ast.Name) or last_name(node) not in ("eval", "exec")
                else set()
            )
    return found


def forbidden_imports(root: Path, name: str) -> list[str]:
    "What a notebook imports, names in strings or loads, although its package must not."
    cells = json.loads((root / f"nbs/{name}.ipynb").read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    runs = [number for number, text in enumerate(texts) if text.startswith("## Run")] or [len(texts)]
    found, dynamic = set(), set()
    for number, (cell, text) in enumerate(zip(cells, texts, strict=True)):
        if cell["cell_type"] == "code":
            found |= imported_modules(text)
            dynamic |= dynamic_imports(text) if name not in MAY_IMPORT_BY_NAME else set()
            if "#| export" in text or number > runs[-1]:  # a lesson may name toy modules
                found |= packages_in_strings(text)
    return modules_above(found, name.split("/")[0]) + sorted(dynamic)


def modules_above(modules: set[str], package: str) -> list[str]:
    return sorted(module for module in modules if module.split(".")[1] not in allowed_packages(package))


@cache
def importable_in_bento() -> set[str]:
    "What code can import if only the `serve_requirements` are installed."
    settings = re.search(r"(?m)^serve_requirements = (.*)$", (ROOT / "settings.ini").read_text())[1]
    installed = dependency_closure(settings.split())
    names = {
        name
        for name, dists in packages_distributions().items()
        if {canonicalize_name(dist) for dist in dists} & installed
    }
    return names | set(sys.stdlib_module_names) | {"brewcast"}


def handwritten_file_problems(root: Path) -> list[str]:
    "Problems in the files that are not exported from notebooks, and in what the Bento imports."
    problems = []
    for path in [*sorted((root / "feature_repo").glob("*.py")), root / "brewcast/models.py"]:  # run with the model
        problems += [
            f"{path.relative_to(root)}: {name}" for name in modules_above(imported_modules(path.read_text()), "model")
        ]
    for path in sorted((root / "brewcast").glob("*/__init__.py")):
        if len(ast.parse(path.read_text()).body) != 1 or not ast.get_docstring(ast.parse(path.read_text())):
            problems.append(f"{path.relative_to(root)} has more than a docstring")
    for name in yaml.safe_load((root / "bentofile.yaml").read_text())["include"]:
        for node in all_nodes((root / name).read_text()) if name.endswith(".py") else []:
            if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
                modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                tops = {module.split(".")[0] for module in modules} - importable_in_bento()
                problems += [f"{name}: {top}" for top in tops if (Path(name).name, top) not in NOT_IN_BENTO]
    return problems


MLFLOW_SQL = rf"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:mlflow\.)?(?:{'|'.join(MLFLOW_TABLES)})\b"
MLFLOW_FILES = rf"{re.escape(MLFLOW_FILE)}|{ARTIFACTS_FOLDER}\b"


def uses_of_mlflow(package: Path) -> list[str]:
    "Where other modules than common.mlflow* import MLflow, open its client, or name its tables or files."
    problems = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.startswith("common/mlflow") or path.name == "_modidx.py":
            continue
        for node in all_nodes(normal_form(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                found = [module for module in modules if module.split(".")[0] == "mlflow" and not node_level(node)]
            elif isinstance(node, ast.Constant):
                found = re.findall(f"{MLFLOW_SQL}|{MLFLOW_FILES}", str(node.value))
            else:
                found = [node.id] if isinstance(node, ast.Name) and node.id == "mlflow_client" else []
            problems += [f"{name}: {what}" for what in found]
    return problems


# they call BLAS or LAPACK, whose order of summation, and so the last digit, depends on the processor
BLAS_CALLS = "dot vdot inner matmul tensordot einsum convolve correlate cov corrcoef polyfit lstsq".split()
WHOLE_NUMBERS = {"data/month_sums.py: counts @ values"}  # below 2**53, so exact in any order


def results_by_processor(package: Path) -> list[str]:
    "Where modules call BLAS, or sort by one key without `kind='stable'`: both depend on the processor's vector units."
    problems = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
                found = True
            elif isinstance(node, ast.Attribute):
                found = node.attr == "linalg"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found = node.func.attr in BLAS_CALLS or is_unstable_sort(node)
            else:
                found = False
            problems += [f"{path.relative_to(package).as_posix()}: {ast.unparse(node)}"] if found else []
    return [problem for problem in problems if problem not in WHOLE_NUMBERS]


def is_unstable_sort(call: ast.Call) -> bool:
    "Does a sort leave the order of equal keys to chance? pandas sorts by several keys in a stable way."
    if call.func.attr not in ("sort_values", "argsort", "argpartition"):
        return False
    by = call.args[0] if call.args else None
    has_several = call.func.attr == "sort_values" and isinstance(by, ast.List) and len(by.elts) > 1
    return not has_several and all(ast.unparse(keyword) != "kind='stable'" for keyword in call.keywords)


def node_level(node: ast.AST) -> int:
    "The number of dots of a relative import."
    return getattr(node, "level", 0)


def pinned_versions(distribution: str) -> list[str]:
    "The version of a distribution that settings.ini pins exactly, the locked one, and the installed one."
    name = re.escape(distribution)
    pinned = re.search(rf"(?m)^requirements = .* {name}==(\S+)", (ROOT / "settings.ini").read_text())
    locked = re.search(rf"(?m)^{name}==(\S+)", (ROOT / "requirements.lock").read_text())
    return [pinned[1] if pinned else "not pinned", locked[1] if locked else "not locked", version(distribution)]


def source_hash(function) -> str:
    "A short hash of a function's source, signature included: it says whether another library has changed it."
    return hashlib.sha256(textwrap.dedent(inspect.getsource(function)).encode()).hexdigest()[:12]


def module_level_names(code: str) -> set[str]:
    "The functions, classes and constants that a module defines itself."
    names = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)}
    return {name for name in names if not name.startswith("__")}


def names_in_two_modules(package: Path) -> dict[str, list[str]]:
    "Module-level names, private ones too, that more than one module of a package defines; with the modules."
    modules = {}
    for path in sorted(package.rglob("*.py")):
        if path.name != "_modidx.py":  # nbdev's index
            for name in module_level_names(path.read_text()):
                modules.setdefault(name, []).append(path.relative_to(package).as_posix())
    return {name: places for name, places in modules.items() if len(places) > 1}
