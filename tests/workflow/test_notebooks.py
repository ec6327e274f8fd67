"Notebooks are in step with their modules and clean; the tools that export, clean and test them find all packages."

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, commands, copy_project, project_environment

from brewcast.workflow.notebooks import clean_notebooks, export_notebooks, notebooks


def test_exporting_and_cleaning_change_nothing(tmp_path):
    for name in ["nbs", "brewcast", "settings.ini", "setup.py", "pyproject.toml"]:
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, tmp_path / name)

    def contents() -> dict:
        paths = [*(tmp_path / "nbs").rglob("*.ipynb"), *(tmp_path / "brewcast").rglob("*.py")]
        return {path.relative_to(tmp_path).as_posix(): path.read_text() for path in paths}

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


def nested(folder: Path) -> Path:
    "This project with three notebooks, in packages: one that asks another in its lesson, and one that exports nothing."
    for name in ["settings.ini", "setup.py", "pyproject.toml"]:
        shutil.copy(ROOT / name, folder / name)
    for name in ["nbs/common", "nbs/data", "brewcast/common"]:
        (folder / name).mkdir(parents=True)
    write(
        folder / "nbs/common/units.ipynb", "#| default_exp common.units", "#| export\ndef twice(x):\n    return 2 * x"
    )
    look = [
        "import os\nfrom pathlib import Path\n\nassert Path('11_look.ipynb').exists(), os.getcwd()",
        "assert look(2) == 4",
    ]
    told = "#| export\nfrom brewcast.common.units import twice\n\n\ndef look(x):\n    return twice(x)"
    write(folder / "nbs/data/11_look.ipynb", "#| default_exp data.look", told, *look)
    return folder


def write(path: Path, *sources: str) -> None:
    cells = [{"cell_type": "markdown", "id": "t", "metadata": {}, "source": [f"# {path.stem}\n", "\n", "> A toy."]}]
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells += [code | {"id": f"c{n}", "source": source.splitlines(True)} for n, source in enumerate(sources)]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def test_the_tools_find_notebooks_in_packages(tmp_path):
    root, tools = nested(tmp_path), f"PATH={ROOT}/.venv/bin:$PATH; "
    run = commands(root)
    # when they are exported, then each is a module of its package, imports by place, and is in the index
    run(f"{tools} nbdev_export")
    assert "from ..common.units import twice" in (root / "brewcast/data/look.py").read_text()
    index = (root / "brewcast/_modidx.py").read_text()
    assert "'brewcast.data.look': {" in index and "'brewcast.data.look.look': (" in index
    # when lessons are tested, then each runs in the folder of its notebook, and one that fails is seen
    run(f"{tools} nbdev_test --n_workers 0")
    text = (root / "nbs/data/11_look.ipynb").read_text()
    (root / "nbs/data/11_look.ipynb").write_text(text.replace("look(2) == 4", "look(2) == 5"))
    assert "11_look.ipynb" in run(f"{tools} nbdev_test --n_workers 0", fails=True).all
    # when one was saved as Jupyter leaves it, then cleaning takes that out and nothing else
    notebook = json.loads(text)
    shown = {"outputs": [{"name": "stdout", "output_type": "stream", "text": ["x"]}], "execution_count": 3}
    notebook["cells"][-1] |= shown | {"metadata": {"collapsed": True}}
    (root / "nbs/data/11_look.ipynb").write_text(json.dumps(notebook, indent=1, sort_keys=True) + "\n")
    assert clean_notebooks(root) == ["data/11_look.ipynb"]
    run(f"{tools} nbdev_clean")
    assert (root / "nbs/data/11_look.ipynb").read_text() == text


def test_what_jupyter_keeps_beside_a_notebook_is_none_of_ours(tmp_path):
    root = nested(tmp_path)
    shutil.copytree(root / "nbs/data", root / "nbs/data/.ipynb_checkpoints")
    assert [path.name for path in notebooks(root)] == ["units.ipynb", "11_look.ipynb"]


def test_two_notebooks_for_one_module_are_refused_and_neither_is_exported(tmp_path):
    root = nested(tmp_path)
    write(root / "nbs/data/12_again.ipynb", "#| default_exp data.look", "#| export\nnothing = 1")
    told = "nbs/data/11_look.ipynb and nbs/data/12_again.ipynb are both exported to brewcast.data.look"
    with pytest.raises(RuntimeError, match=told):
        export_notebooks(root)
    assert not (root / "brewcast/data").exists()


def test_a_module_whose_notebook_is_gone_is_named(tmp_path, capsys):
    # given notebooks that were exported
    root = nested(tmp_path)
    export_notebooks(root)
    # when one moves to another package, then its module is made there, and the old one is said to be left
    shutil.move(root / "nbs/data/11_look.ipynb", root / "nbs/common/look.ipynb")
    text = (root / "nbs/common/look.ipynb").read_text().replace("default_exp data.look", "default_exp common.look")
    (root / "nbs/common/look.ipynb").write_text(text)
    assert export_notebooks(root) == ["common/look.ipynb"]
    assert (root / "brewcast/common/look.py").exists()
    assert "brewcast/data/look.py was made from a notebook that is gone: remove it" in capsys.readouterr().err


def test_of_two_projects_in_one_process_each_is_exported_to_its_own_place(tmp_path):
    for name in ["one", "other"]:
        (tmp_path / name).mkdir()
        root = nested(tmp_path / name)
        assert export_notebooks(root) == ["common/units.ipynb", "data/11_look.ipynb"]
        assert (root / "brewcast/data/look.py").exists()
