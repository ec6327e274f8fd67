"One name runs through notebooks, modules, products and tests; imports point down only; and notebooks are wired and clean."

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
from house import CONTRACTS, forbidden_imports, handwritten_file_problems, module_of
from planted import BESIDE, IN_MODULES, IN_NOTEBOOKS, STAGES_NAMED

from brewcast.common.params import env_files, read_env, read_stages, upstream_of
from brewcast.workflow.notebooks import notebooks
from brewcast.workflow.staleness import normal_form

NOTEBOOKS = {path.relative_to(ROOT / "nbs").with_suffix("").as_posix(): path for path in notebooks(ROOT)}
WIRED = read_stages(ROOT, read_env(ROOT))
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


# -- one name


def test_the_same_tree_stands_under_notebooks_modules_and_tests():
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


def test_a_number_means_a_stage_and_stages_are_numbered_in_their_order():
    assert list(WIRED) == STAGES
    numbered = {name: path for name, path in NOTEBOOKS.items() if re.search(r"\b\d\d_", name)}
    assert {f"nbs/{name}.ipynb" for name in numbered} == {wiring["source"] for wiring in WIRED.values()}
    numbers = [int(Path(wiring["source"]).name[:2]) for wiring in WIRED.values()]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("stage", STAGES)
def test_one_name_is_notebook_module_task_products_and_tests(stage):
    notebook = ROOT / WIRED[stage]["source"]
    package = notebook.parent.name
    assert re.fullmatch(rf"\d\d_{stage}", notebook.stem)
    first, *others = read(notebook)["cells"]
    assert "".join(first["source"]).startswith(f"# {stage.capitalize()}\n")
    assert any("".join(cell["source"]).strip() == f"#| default_exp {package}.{stage}" for cell in others)
    assert (ROOT / "brewcast" / package / f"{stage}.py").is_file()
    assert (ROOT / "tests" / package / f"test_{stage}.py").is_file()
    assert {str(Path(path).parent) for path in WIRED[stage]["product"].values()} == {f"products/simulated/{stage}"}
    assert WIRED[stage]["product"]["nb"] == f"products/simulated/{stage}/{stage}.ipynb"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_in_three_lines_what_it_is(package):
    said = importlib.import_module(f"brewcast.{package}").__doc__.strip().splitlines()
    assert len(said) == 3 and said[1].startswith("It may import") and said[2].startswith("Never here: ")


def test_the_package_says_what_it_is_and_holds_no_code():
    tree = ast.parse((ROOT / "brewcast/__init__.py").read_text())
    docstring, version = tree.body
    assert "forecast" in docstring.value.value and version.targets[0].id == "__version__"


# -- imports point down only


def lint(root: Path, fails: bool = False) -> str:
    line = f"PYTHONPATH=. {ROOT}/.venv/bin/lint-imports --no-cache"
    return re.sub(r"\s+", " ", commands(root)(line, fails=fails).out)


@pytest.fixture
def copied(tmp_path):
    "The modules, and what says what they may import."
    shutil.copytree(ROOT / "brewcast", tmp_path / "brewcast", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_every_module_imports_only_what_stands_below_it(copied):
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in lint(copied)


@pytest.mark.parametrize("planted", IN_MODULES)
def test_an_import_that_points_up_is_found(copied, planted):
    module, code, told = IN_MODULES[planted]
    path = copied / "brewcast" / module
    path.parent.mkdir(exist_ok=True)
    (path.parent / "__init__.py").touch()
    path.write_text((path.read_text() if path.exists() else "") + f"\n{code}\n")
    said = lint(copied, fails=True)
    assert "1 broken" in said or "2 broken" in said
    assert told in said


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_cell_of_a_notebook_imports_what_stands_above_it(name):
    assert forbidden_imports(ROOT, name) == []


def test_the_kernels_load_nothing_of_brewcast():
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
def test_what_a_notebook_hides_from_the_import_graph_is_found(tmp_path, planted):
    notebook, code, told = IN_NOTEBOOKS[planted]
    assert [found for found in forbidden_imports(tmp_path, planted_in(tmp_path, notebook, code)) if told in found]


def test_what_is_written_by_hand_asks_only_what_stands_below_it_and_the_bento_only_what_it_holds():
    assert handwritten_file_problems(ROOT) == []


@pytest.mark.parametrize("planted", BESIDE)
def test_what_a_file_beside_the_notebooks_asks_for_is_found(copied, planted):
    file, code, told = BESIDE[planted]
    shutil.copytree(ROOT / "feature_repo", copied / "feature_repo")
    shutil.copy2(ROOT / "bentofile.yaml", copied / "bentofile.yaml")
    (copied / file).write_text(f"{(copied / file).read_text()}\n\n{code}\n")
    assert [wrong for wrong in handwritten_file_problems(copied) if told in wrong]


def test_what_the_bento_holds_is_what_the_contract_keeps_light_and_all_that_it_imports():
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


def test_the_light_part_of_common_loads_no_table_library():
    light = ["hashing", "ledger", "lock", "params", "paths", "text"]
    heavy = {"pandas", "numpy", "pyarrow", "ibis", "pandera", "mlflow", "matplotlib", "ploomber"}
    code = f"import sys; from brewcast.common import {', '.join(light)}; print(*set(sys.modules) & {heavy})"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        == "\n"
    )


def stages_named(root: Path, name: str) -> set[str]:
    "The stages that stand as words in the code of a notebook's exported cells, messages included."
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
def test_workflow_knows_no_stage_by_its_name(name):
    assert stages_named(ROOT, name) == set()


@pytest.mark.parametrize("planted", STAGES_NAMED)
def test_a_stage_that_workflow_names_is_found(tmp_path, planted):
    notebook, code, stage = STAGES_NAMED[planted]
    assert stage in stages_named(tmp_path, planted_in(tmp_path, notebook, code))


# -- notebooks are wired and clean


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_is_wired_and_its_default_is_env_yamls(stage):
    found = declared(ROOT / WIRED[stage]["source"])
    assert found.pop("upstream") == upstream_of(ROOT / WIRED[stage]["source"])
    assert found.pop("product") is None
    assert found == WIRED[stage]["params"]


def test_every_parameter_of_every_source_reaches_a_stage_as_a_python_value():
    # given what Ploomber makes of env.yaml and pipeline.yaml, for each source
    from ploomber.env.envdict import EnvDict
    from ploomber.env.expand import expand_raw_dictionary_and_extract_tags

    spec = yaml.safe_load((ROOT / "pipeline.yaml").read_text())
    for name in env_files(ROOT).values():
        defaults = yaml.safe_load((ROOT / name).read_text())
        env = EnvDict({}, path_to_here=ROOT, defaults=defaults)
        filled, used = expand_raw_dictionary_and_extract_tags(spec, env)
        # then it is what the file says, nested values and nulls too, and no parameter is left over
        ours = read_stages(ROOT, read_env(ROOT, name))
        assert {task["name"]: task["params"] for task in filled["tasks"]} == {n: w["params"] for n, w in ours.items()}
        assert set(read_env(ROOT, name)) - used == set()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_clean_and_has_the_shape_of_its_kind(name):
    content = read(NOTEBOOKS[name])
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert content["nbformat"] == 4 and content["nbformat_minor"] >= 5
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "run `make clean-notebooks`"
    title = "".join(content["cells"][0]["source"])
    assert re.match(r"# .+\n\n> .+", title), "a notebook begins with its title and a line that says what it is"
    if f"nbs/{name}.ipynb" in {wiring["source"] for wiring in WIRED.values()}:
        sources = ["".join(cell["source"]) for cell in content["cells"]]
        run = max(i for i, source in enumerate(sources) if source == "## Run")
        cells = [cell for cell in content["cells"][run:] if cell["cell_type"] == "code"]
        assert cells and all("".join(cell["source"]).startswith("#| eval: false") for cell in cells)


def test_style_is_checked_in_every_package_and_not_in_what_is_made(tmp_path):
    # given unused imports in a notebook of each package, and in what builds, exports and data leave
    shutil.copy2(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for package in PACKAGES:
        planted_in(tmp_path / package, f"{package}/{FIRST[package]}.ipynb", "import this")
        shutil.move(tmp_path / package / "nbs" / package, tmp_path / "nbs" / package)
    for folder in ["brewcast/data", "products/simulated", "state/simulated", "scratch", "release", "data/simulated"]:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "made.py").write_text("import this\n")
    # then the notebooks are found, all of them, and nothing else
    said = commands(tmp_path)(f"{ROOT}/.venv/bin/ruff check --output-format concise .", fails=True).out
    assert {line.split(":")[0] for line in said.splitlines() if "F401" in line} == {
        f"nbs/{package}/{FIRST[package]}.ipynb" for package in PACKAGES
    }


def test_a_stage_reads_of_the_state_what_pipeline_yaml_says():
    # given what a build resolves, and what each stage's code asks for by name
    from brewcast.common.ledger import resolve_inputs
    from brewcast.common.params import executor_settings

    known, told = {*resolve_inputs("nobody", ROOT, "k1"), "known"}, executor_settings(ROOT)["state_inputs"]
    for stage, wiring in WIRED.items():
        given = {"inputs"} & set(wiring["params"])
        assert bool(given) == (stage in told), stage
        code = "\n".join(
            "".join(c["source"]) for c in read(ROOT / wiring["source"])["cells"] if c["cell_type"] == "code"
        )
        asked = set(re.findall(r"""(?:state_inputs|inputs\))(?:\[|\.get\()["'](\w+)["']""", code)) if given else set()
        # then that is declared, no more and no less: what is declared makes it stale
        assert asked <= known and asked == {name.split(".")[0] for name in told.get(stage, [])}, stage
