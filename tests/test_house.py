"Notebooks, modules, products and tests have the same names; imports follow the layers; notebooks are clean."

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, commands
from house import (
    CONTRACTS,
    forbidden_imports,
    handwritten_file_problems,
    module_of,
    names_in_two_modules,
    results_by_processor,
    state_fields_read,
    uses_of_mlflow,
)
from planted import (
    BY_PROCESSOR,
    IN_MODULES,
    IN_NOTEBOOKS,
    IN_OTHER_FILES,
    SECOND_NAMES,
    STAGES_NAMED,
    USES_OF_MLFLOW,
)

from brewcast.common.parameter_types import RunSettings
from brewcast.common.params import env_files, read_env, read_stages, upstream_of
from brewcast.workflow.notebooks import notebooks
from brewcast.workflow.staleness import normal_form

NOTEBOOKS = {path.relative_to(ROOT / "nbs").with_suffix("").as_posix(): path for path in notebooks(ROOT)}
PIPELINE = read_stages(ROOT, read_env(ROOT))
STAGES = ["ingest", "clean", "explore", "features", "monitor", "train", "evaluate", "forecast", "package"]
PACKAGES = sorted({path.parent.name for path in NOTEBOOKS.values()} - {"nbs"})
FIRST = {package: next(path.stem for path in NOTEBOOKS.values() if path.parent.name == package) for package in PACKAGES}


def read(notebook: Path) -> dict:
    return json.loads(notebook.read_text())


def declared(notebook: Path) -> dict:
    "Names and defaults of the parameters cell."
    cells = [cell for cell in read(notebook)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    assert len(cells) == 1, f"{notebook.name}: {len(cells)} cells are tagged `parameters`"
    nodes = ast.parse("".join(cells[0]["source"])).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in nodes if isinstance(node, ast.Assign)}


# -- the same names


def test_notebooks_modules_and_tests_have_the_same_tree():
    modules = {module_of(name) for name in NOTEBOOKS}
    assert {f"brewcast/{name.replace('.', '/')}.py" for name in modules} == {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "brewcast").rglob("*.py")
        if not path.name.startswith("_") and path.name != "models.py"
    }
    tests = {
        "tests/" + "/test_".join(f"/{name.replace('.', '/')}".rsplit("/", 1)).strip("/") + ".py" for name in modules
    }
    assert [path for path in sorted(tests) if not (ROOT / path).is_file()] == []
    in_packages = {
        path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / "tests" / name).glob("*.py")
    }
    assert in_packages - tests == set()


def test_only_stages_have_numbers_in_the_order_of_the_pipeline():
    assert list(PIPELINE) == STAGES
    numbered = {name: path for name, path in NOTEBOOKS.items() if re.search(r"\b\d\d_", name)}
    assert {f"nbs/{name}.ipynb" for name in numbered} == {stage.source for stage in PIPELINE.values()}
    numbers = [int(Path(stage.source).name[:2]) for stage in PIPELINE.values()]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_the_same_name_as_notebook_module_task_products_and_tests(stage):
    notebook = ROOT / PIPELINE[stage].source
    package = notebook.parent.name
    assert re.fullmatch(rf"\d\d_{stage}", notebook.stem)
    first, *others = read(notebook)["cells"]
    assert "".join(first["source"]).startswith(f"# {stage.capitalize()}\n")
    assert any("".join(cell["source"]).strip() == f"#| default_exp {package}.{stage}" for cell in others)
    assert (ROOT / "brewcast" / package / f"{stage}.py").is_file()
    assert (ROOT / "tests" / package / f"test_{stage}.py").is_file()
    assert {str(Path(path).parent) for path in PIPELINE[stage].product.values()} == {f"products/simulated/{stage}"}
    assert PIPELINE[stage].product["nb"] == f"products/simulated/{stage}/{stage}.ipynb"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_docstring_of_a_package_has_three_lines(package):
    lines = importlib.import_module(f"brewcast.{package}").__doc__.strip().splitlines()
    assert len(lines) == 3 and lines[1].startswith("It may import") and lines[2].startswith("Never here: ")


def test_the_package_has_a_docstring_and_no_code():
    tree = ast.parse((ROOT / "brewcast/__init__.py").read_text())
    docstring, version = tree.body
    assert "forecast" in docstring.value.value and version.targets[0].id == "__version__"


# -- imports follow the layers


def lint(root: Path, fails: bool = False) -> str:
    line = f"PYTHONPATH=. {ROOT}/.venv/bin/lint-imports --no-cache"
    return re.sub(r"\s+", " ", commands(root)(line, fails=fails).out)


@pytest.fixture
def copied(tmp_path):
    "A copy of the modules and of the contracts for their imports."
    shutil.copytree(ROOT / "brewcast", tmp_path / "brewcast", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_every_module_imports_only_lower_layers(copied):
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in lint(copied)


@pytest.mark.parametrize("planted", IN_MODULES)
def test_an_import_of_a_higher_layer_is_found(copied, planted):
    module, code, message = IN_MODULES[planted]
    path = copied / "brewcast" / module
    path.parent.mkdir(exist_ok=True)
    (path.parent / "__init__.py").touch()
    path.write_text((path.read_text() if path.exists() else "") + f"\n{code}\n")
    output = lint(copied, fails=True)
    assert "1 broken" in output or "2 broken" in output
    assert message in output


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_cell_of_a_notebook_imports_a_higher_layer(name):
    assert forbidden_imports(ROOT, name) == []


def test_the_kernels_preload_no_module_of_brewcast():
    from brewcast.workflow.kernels import PRELOADED_MODULES

    assert not [module for module in PRELOADED_MODULES if module.split(".")[0] == "brewcast"]


def planted_in(tmp_path: Path, notebook: str, code: str) -> str:
    "A copy of a notebook with one more cell."
    content = read(ROOT / "nbs" / notebook)
    content["cells"].append({"cell_type": "code", "id": "planted", "metadata": {}, "outputs": [], "source": code})
    path = tmp_path / "nbs" / notebook
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return notebook.removesuffix(".ipynb")


@pytest.mark.parametrize("planted", IN_NOTEBOOKS)
def test_a_hidden_import_in_a_notebook_is_found(tmp_path, planted):
    notebook, code, problem = IN_NOTEBOOKS[planted]
    assert [found for found in forbidden_imports(tmp_path, planted_in(tmp_path, notebook, code)) if problem in found]


def test_handwritten_files_import_only_lower_layers_and_the_bento_only_its_libraries():
    assert handwritten_file_problems(ROOT) == []


@pytest.mark.parametrize("planted", IN_OTHER_FILES)
def test_a_wrong_import_in_a_handwritten_file_is_found(copied, planted):
    file, code, problem = IN_OTHER_FILES[planted]
    shutil.copytree(ROOT / "feature_repo", copied / "feature_repo")
    shutil.copy2(ROOT / "bentofile.yaml", copied / "bentofile.yaml")
    (copied / file).write_text(f"{(copied / file).read_text()}\n\n{code}\n")
    assert [found for found in handwritten_file_problems(copied) if problem in found]


def test_the_bento_includes_the_modules_of_its_contract_and_all_that_they_import():
    included = [
        name for name in yaml.safe_load((ROOT / "bentofile.yaml").read_text())["include"] if name.endswith(".py")
    ]
    modules = {name.removesuffix(".py").replace("/", ".") for name in included if not name.endswith("__init__.py")}
    assert modules == set(CONTRACTS[2]["source_modules"])
    code = "import sys, brewcast.serving.bento; print(*[n for n in sys.modules if n.startswith('brewcast')])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    packages = {
        name.removesuffix("/__init__.py").replace("/", ".") for name in included if name.endswith("__init__.py")
    }
    assert set(loaded.split()) <= modules | packages


def test_these_modules_of_common_load_no_table_library():
    light = ["hashing", "ledger", "lock", "params", "paths", "text"]
    heavy = {"pandas", "numpy", "pyarrow", "ibis", "pandera", "mlflow", "matplotlib", "ploomber"}
    code = f"import sys; from brewcast.common import {', '.join(light)}; print(*set(sys.modules) & {heavy})"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        == "\n"
    )


def test_mlflow_is_used_in_its_own_modules_only():
    assert uses_of_mlflow(ROOT / "brewcast") == []


@pytest.mark.parametrize("planted", USES_OF_MLFLOW)
def test_a_use_of_mlflow_elsewhere_is_found(copied, planted):
    module, code, found = USES_OF_MLFLOW[planted]
    path = copied / "brewcast" / module
    path.write_text(f"{path.read_text()}\n\n{code}\n")
    problems = uses_of_mlflow(copied / "brewcast")
    assert {problem.split(":")[0] for problem in problems} == {module} and found in " ".join(problems)


def test_no_result_depends_on_the_vector_units_of_the_processor():
    assert results_by_processor(ROOT / "brewcast") == []


@pytest.mark.parametrize("code", BY_PROCESSOR)
def test_a_result_that_depends_on_the_processor_is_found(tmp_path, code):
    (tmp_path / "module.py").write_text(f"import numpy as np\n\n{code}\n")
    assert len(results_by_processor(tmp_path)) == 1


def stages_named(root: Path, name: str) -> set[str]:
    "The stages that are named in strings of a notebook's exported cells, messages included."
    found = set()
    for cell in read(root / f"nbs/{name}.ipynb")["cells"]:
        if cell["cell_type"] == "code" and "#| export" in "".join(cell["source"]):
            tree = ast.parse(normal_form("".join(cell["source"])))
            texts = [
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            found |= set(re.findall(rf"\b({'|'.join(STAGES)})\b", " ".join(texts)))
    return found


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name.startswith("workflow/")])
def test_workflow_names_no_stage(name):
    assert stages_named(ROOT, name) == set()


@pytest.mark.parametrize("planted", STAGES_NAMED)
def test_a_stage_that_workflow_names_is_found(tmp_path, planted):
    notebook, code, stage = STAGES_NAMED[planted]
    assert stage in stages_named(tmp_path, planted_in(tmp_path, notebook, code))


# -- notebooks have the parameters of env.yaml, and are clean


def test_a_name_is_defined_in_one_module_only():
    assert names_in_two_modules(ROOT / "brewcast") == {}


@pytest.mark.parametrize("planted", SECOND_NAMES)
def test_a_name_that_a_second_module_defines_is_found(tmp_path, planted):
    module, code, name = SECOND_NAMES[planted]
    shutil.copytree(ROOT / "brewcast", tmp_path / "brewcast")
    path = tmp_path / "brewcast" / module
    path.write_text(f"{path.read_text()}\n\n{code}\n")
    found = names_in_two_modules(tmp_path / "brewcast")
    assert [*found] == [name] and module in found[name]


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_has_the_default_of_env_yaml(stage):
    parameters = declared(ROOT / PIPELINE[stage].source)
    assert parameters.pop("upstream") == upstream_of(ROOT / PIPELINE[stage].source)
    assert parameters.pop("product") is None
    assert parameters == PIPELINE[stage].params


def test_every_parameter_of_every_source_reaches_a_stage_as_a_python_value():
    # given env.yaml and pipeline.yaml as Ploomber reads them, for each source
    from ploomber.env.envdict import EnvDict
    from ploomber.env.expand import expand_raw_dictionary_and_extract_tags

    spec = yaml.safe_load((ROOT / "pipeline.yaml").read_text())
    for name in env_files(ROOT).values():
        defaults = yaml.safe_load((ROOT / name).read_text())
        env = EnvDict({}, path_to_here=ROOT, defaults=defaults)
        filled, used = expand_raw_dictionary_and_extract_tags(spec, env)
        # then each stage gets the values of the file, nested values and nulls too, and every parameter is used
        ours = read_stages(ROOT, read_env(ROOT, name))
        assert {task["name"]: task["params"] for task in filled["tasks"]} == {
            name: stage.params for name, stage in ours.items()
        }
        assert set(read_env(ROOT, name)) - used == set(RunSettings.model_fields)  # these say how a build is run


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_clean_and_has_the_shape_of_its_kind(name):
    content = read(NOTEBOOKS[name])
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert content["nbformat"] == 4 and content["nbformat_minor"] >= 5
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "run `make clean-notebooks`"
    title = "".join(content["cells"][0]["source"])
    assert re.match(r"# .+\n\n> .+", title), "a notebook begins with its title and a one-line description"
    if f"nbs/{name}.ipynb" in {stage.source for stage in PIPELINE.values()}:
        sources = ["".join(cell["source"]) for cell in content["cells"]]
        run = max(i for i, source in enumerate(sources) if source == "## Run")
        cells = [cell for cell in content["cells"][run:] if cell["cell_type"] == "code"]
        assert cells and all("".join(cell["source"]).startswith("#| eval: false") for cell in cells)


def test_ruff_checks_every_package_and_no_generated_file(tmp_path):
    # given unused imports in a notebook of each package, and in generated files
    shutil.copy2(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for package in PACKAGES:
        planted_in(tmp_path / package, f"{package}/{FIRST[package]}.ipynb", "import this")
        shutil.move(tmp_path / package / "nbs" / package, tmp_path / "nbs" / package)
    for folder in ["brewcast/data", "products/simulated", "state/simulated", "scratch", "release", "data/simulated"]:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "made.py").write_text("import this\n")
    # then ruff reports all these notebooks, and nothing else
    output = commands(tmp_path)(f"{ROOT}/.venv/bin/ruff check --output-format concise .", fails=True).out
    assert {line.split(":")[0] for line in output.splitlines() if "F401" in line} == {
        f"nbs/{package}/{FIRST[package]}.ipynb" for package in PACKAGES
    }


@pytest.mark.parametrize(
    "code",
    [
        "def f(before: StateInputs | None):\n    return before.known",
        "x = StateInputs.read(path)\nx.known.name",
        "StateInputs.read(find_root() / inputs).known",
    ],
)
def test_an_input_that_code_reads_is_found_in_each_form(code):
    assert state_fields_read(code) == {"known"}


def test_a_stage_reads_the_inputs_from_the_state_that_pipeline_yaml_declares():
    # given the inputs that a build resolves, the declared ones, and those that each stage's code reads
    from brewcast.common.ledger import resolve_inputs
    from brewcast.common.params import executor_settings

    resolved = resolve_inputs("nobody", ROOT, "k1").model_fields_set
    declared_inputs = executor_settings(ROOT).state_inputs
    for name, stage in PIPELINE.items():
        has_inputs = "inputs" in stage.params
        assert has_inputs == (name in declared_inputs), name
        cells = [cell for cell in read(ROOT / stage.source)["cells"] if cell["cell_type"] == "code"]
        names = state_fields_read("\n".join("".join(cell["source"]) for cell in cells))
        # then the code reads exactly the declared ones: a change of these makes the stage stale
        assert names <= resolved
        assert names == {key.split(".")[0] for key in declared_inputs.get(name, [])}, name
