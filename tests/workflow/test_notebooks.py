"One name runs through; notebooks are wired, clean and in step with their modules."

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, commands, copy_project, project_environment

from brewcast.common.params import env_files, read_env, stages, upstream_of

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
ENV = read_env(ROOT)
WIRED = stages(ROOT, ENV)
STAGES = ["ingest", "clean", "explore", "features", "monitor", "train", "evaluate", "forecast", "package"]


def read(notebook: Path) -> dict:
    return json.loads(notebook.read_text())


def declared(notebook: Path) -> dict:
    "Names and defaults of the parameters cell."
    cells = [cell for cell in read(notebook)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    assert len(cells) == 1, f"{notebook.name}: {len(cells)} cells are tagged `parameters`"
    nodes = ast.parse("".join(cells[0]["source"])).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in nodes if isinstance(node, ast.Assign)}


def test_the_stages_are_these_and_numbered_in_their_order():
    assert list(WIRED) == STAGES
    numbers = [int(Path(wiring["source"]).name[:2]) for wiring in WIRED.values()]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("stage", STAGES)
def test_one_name_is_notebook_module_task_products_and_tests(stage):
    notebook = ROOT / WIRED[stage]["source"]
    assert re.fullmatch(rf"\d\d_{stage}", notebook.stem)
    first, *others = read(notebook)["cells"]
    assert "".join(first["source"]).startswith(f"# {stage.capitalize()}\n")
    assert any("".join(cell["source"]).strip() == f"#| default_exp {stage}" for cell in others)
    assert (ROOT / "brewcast" / f"{stage}.py").is_file()
    assert (ROOT / "tests" / f"test_{stage}.py").is_file()
    assert {str(Path(path).parent) for path in WIRED[stage]["product"].values()} == {f"products/simulated/{stage}"}
    assert WIRED[stage]["product"]["nb"] == f"products/simulated/{stage}/{stage}.ipynb"


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
        ours = stages(ROOT, read_env(ROOT, name))
        assert {task["name"]: task["params"] for task in filled["tasks"]} == {n: w["params"] for n, w in ours.items()}
        assert set(read_env(ROOT, name)) - used == set()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean_and_has_the_shape_of_its_kind(notebook):
    content = read(notebook)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert content["nbformat"] == 4 and content["nbformat_minor"] >= 5
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "run `make clean-notebooks`"
    title = "".join(content["cells"][0]["source"])
    assert re.match(r"# .+\n\n> .+", title), "a notebook begins with its title and a line that says what it is"
    if notebook.stem[3:] in STAGES:
        sources = ["".join(cell["source"]) for cell in content["cells"]]
        run = max(i for i, source in enumerate(sources) if source == "## Run")
        cells = [cell for cell in content["cells"][run:] if cell["cell_type"] == "code"]
        assert cells and all("".join(cell["source"]).startswith("#| eval: false") for cell in cells)


def test_exporting_and_cleaning_change_nothing(tmp_path):
    for name in ["nbs", "brewcast", "settings.ini", "setup.py", "pyproject.toml"]:
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, tmp_path / name)

    def contents() -> dict:
        paths = [*(tmp_path / "nbs").glob("*.ipynb"), *(tmp_path / "brewcast").glob("*.py")]
        return {path.name: path.read_text() for path in paths}

    before = contents()
    commands(tmp_path)(f"PATH={ROOT}/.venv/bin:$PATH; nbdev_export && nbdev_clean")
    changed = [name for name, text in contents().items() if text != before.get(name)]
    assert changed == [], "run `make export clean-notebooks`, and commit what they change"


def test_activate_sets_what_the_tools_need_in_every_shell(tmp_path):
    root = copy_project(tmp_path / "a folder" / "brewcast")
    shells = [shell for shell in ["sh", "bash", "zsh"] if shutil.which(shell)]
    asked = (
        "BREWCAST_SOURCE BREWCAST_FEATURES PLOOMBER_ENV_FILENAME MLFLOW_TRACKING_URI BENTOML_HOME JUPYTER_CONFIG_PATH"
    )
    for shell in shells:
        script = f". ./activate && for n in {asked}; do eval echo \\$n=\\$$n; done; command -v ploomber"
        done = subprocess.run(
            [shell, "-c", script], cwd=root, env=project_environment(root), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said, *lines, ploomber = done.stdout.splitlines()
        assert said == "brewcast: source simulated, parameters env.yaml, release nothing published yet"
        values = dict(line.split("=", 1) for line in lines)
        assert values["BREWCAST_SOURCE"] == "simulated" and values["PLOOMBER_ENV_FILENAME"] == "env.yaml"
        assert values["BENTOML_HOME"] == f"{root}/state/simulated/bentoml"
        assert ploomber == f"{root}/.venv/bin/ploomber"
    done = subprocess.run(
        ["bash", "-c", ". ./activate fra"], cwd=root, env=project_environment(root), capture_output=True, text=True
    )
    assert done.returncode == 1 and "no source is called 'fra': there are simulated" in done.stderr


def test_make_alone_lists_the_targets():
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ["run", "test", "lab", "serve", "ui", "build", "publish", "clean", "format", "lock"]:
        assert re.search(rf"(?m)^  {target} +\S", told), target


def test_the_lock_names_no_registry():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "--hash=sha256:" in lock
    assert not re.search(r"(?m)^--", lock)
