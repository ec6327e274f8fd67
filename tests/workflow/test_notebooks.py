"Modules are as their notebooks export them, notebooks are clean, and the tools find the notebooks of all packages."

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, commands, copy_project, project_environment

from brewcast.workflow.notebooks import clean_notebooks, export_notebooks, export_problem, notebooks


def test_exporting_and_cleaning_change_nothing(tmp_path):
    assert [problem for path in notebooks(ROOT) if (problem := export_problem(path, ROOT))] == []
    for name in ["nbs", "brewcast", "settings.ini", "setup.py", "pyproject.toml"]:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)

    def contents() -> dict:
        paths = [*(tmp_path / "nbs").rglob("*.ipynb"), *(tmp_path / "brewcast").rglob("*.py")]
        return {path.relative_to(tmp_path).as_posix(): path.read_text() for path in paths}

    before = contents()
    commands(tmp_path)(f"PATH={ROOT}/.venv/bin:$PATH; nbdev_export && nbdev_clean")
    changed = [name for name, text in contents().items() if text != before.get(name)]
    assert changed == [], "run `make export clean-notebooks`, and commit what they change"


def test_activate_sets_the_tools_variables_in_every_shell(tmp_path):
    root = copy_project(tmp_path / "a folder" / "brewcast")
    shells = [shell for shell in ["sh", "bash", "zsh"] if shutil.which(shell)]
    names = (
        "BREWCAST_SOURCE BREWCAST_FEATURES PLOOMBER_ENV_FILENAME MLFLOW_TRACKING_URI BENTOML_HOME JUPYTER_CONFIG_PATH"
    )
    for shell in shells:
        script = f". ./activate && for n in {names}; do eval echo \\$n=\\$$n; done; command -v ploomber"
        result = subprocess.run(
            [shell, "-c", script], cwd=root, env=project_environment(root), capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        summary, *lines, ploomber = result.stdout.splitlines()
        assert summary == "brewcast: source simulated, parameters env.yaml, release nothing published yet"
        values = dict(line.split("=", 1) for line in lines)
        assert values["BREWCAST_SOURCE"] == "simulated" and values["PLOOMBER_ENV_FILENAME"] == "env.yaml"
        assert values["BENTOML_HOME"] == f"{root}/state/simulated/bentoml"
        assert ploomber == f"{root}/.venv/bin/ploomber"
    # and `nbdev_export` names a notebook with unfinished code, and leaves its module as it is
    for shell in shells:
        notebook, module = root / "nbs/common/text.ipynb", root / "brewcast/common/text.py"
        text, before = (ROOT / "nbs/common/text.ipynb").read_text(), module.read_text()
        notebook.write_text(text.replace('"def compact_number(', '"def compact_number(:'))
        script = [shell, "-c", ". ./activate && nbdev_export"]
        result = subprocess.run(script, cwd=root, env=project_environment(root), capture_output=True, text=True)
        assert (
            result.returncode == 1
            and "error: nbs/common/text.ipynb: cell " in result.stderr
            and "Traceback" not in result.stderr
        )
        assert module.read_text() == before
        notebook.write_text(text)
        result = subprocess.run(script, cwd=root, env=project_environment(root), capture_output=True, text=True)
        assert result.returncode == 0 and module.read_text() == before, result.stderr
    result = subprocess.run(
        ["bash", "-c", ". ./activate fra"], cwd=root, env=project_environment(root), capture_output=True, text=True
    )
    assert result.returncode == 1 and "no source is called 'fra': there are simulated" in result.stderr


def test_make_alone_lists_the_targets():
    output = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ["run", "test", "lab", "serve", "ui", "build", "publish", "clean", "format", "lock"]:
        assert re.search(rf"(?m)^  {target} +\S", output), target


def test_the_lock_names_no_package_registry():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "--hash=sha256:" in lock
    assert not re.search(r"(?m)^--", lock)


def nested(folder: Path) -> Path:
    "A project with two notebooks in packages: one imports the other, and has lessons."
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
    exported = "#| export\nfrom brewcast.common.units import twice\n\n\ndef look(x):\n    return twice(x)"
    write(folder / "nbs/data/11_look.ipynb", "#| default_exp data.look", exported, *look)
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
    # when they are exported, then each is a module of its package, with relative imports, and is in the index
    run(f"{tools} nbdev_export")
    assert "from ..common.units import twice" in (root / "brewcast/data/look.py").read_text()
    index = (root / "brewcast/_modidx.py").read_text()
    assert "'brewcast.data.look': {" in index and "'brewcast.data.look.look': (" in index
    # when lessons are tested, then each runs in the folder of its notebook, and one that fails is reported
    run(f"{tools} nbdev_test --n_workers 0")
    text = (root / "nbs/data/11_look.ipynb").read_text()
    (root / "nbs/data/11_look.ipynb").write_text(text.replace("look(2) == 4", "look(2) == 5"))
    assert "11_look.ipynb" in run(f"{tools} nbdev_test --n_workers 0", fails=True).all
    # when one was saved by Jupyter with outputs, then cleaning removes these and nothing else
    notebook = json.loads(text)
    shown = {"outputs": [{"name": "stdout", "output_type": "stream", "text": ["x"]}], "execution_count": 3}
    notebook["cells"][-1] |= shown | {"metadata": {"collapsed": True}}
    (root / "nbs/data/11_look.ipynb").write_text(json.dumps(notebook, indent=1, sort_keys=True) + "\n")
    assert clean_notebooks(root) == ["data/11_look.ipynb"]
    run(f"{tools} nbdev_clean")
    assert (root / "nbs/data/11_look.ipynb").read_text() == text


def test_two_notebooks_for_one_module_are_refused_and_neither_is_exported(tmp_path):
    root = nested(tmp_path)
    write(root / "nbs/data/12_again.ipynb", "#| default_exp data.look", "#| export\nnothing = 1")
    message = "nbs/data/11_look.ipynb and nbs/data/12_again.ipynb are both exported to brewcast.data.look"
    with pytest.raises(RuntimeError, match=message):
        export_notebooks(root)
    assert not (root / "brewcast/data").exists()


def test_a_module_without_a_notebook_is_named(tmp_path, capsys):
    # given exported notebooks
    root = nested(tmp_path)
    export_notebooks(root)
    # when one moves to another package, then its module is exported there, and the old module is named
    shutil.move(root / "nbs/data/11_look.ipynb", root / "nbs/common/look.ipynb")
    text = (root / "nbs/common/look.ipynb").read_text().replace("default_exp data.look", "default_exp common.look")
    (root / "nbs/common/look.ipynb").write_text(text)
    assert export_notebooks(root) == ["common/look.ipynb"]
    assert (root / "brewcast/common/look.py").exists()
    assert "brewcast/data/look.py has no notebook any more: remove the module" in capsys.readouterr().err


def test_two_projects_in_one_process_are_each_exported_to_their_own_folder(tmp_path):
    for name in ["one", "other"]:
        (tmp_path / name).mkdir()
        root = nested(tmp_path / name)
        assert export_notebooks(root) == ["common/units.ipynb", "data/11_look.ipynb"]
        assert (root / "brewcast/data/look.py").exists()


# --- unfinished code, modules edited by hand, merge conflicts


def contents(root: Path) -> dict:
    "The library as it is exported."
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "brewcast").rglob("*.py")}


LOOK = "#| export\nfrom brewcast.common.units import twice\n\n\ndef look(x):\n    return twice(x)"
UNFINISHED = {  # the code cells of a notebook, and the message
    "code": (
        ["#| default_exp data.look", f"{LOOK}\n\n\ndef half(:"],
        r"cell 3, line 9, `def half\(:`: invalid syntax; it",
    ),
    "no body": (
        ["#| default_exp data.look", f"{LOOK}\n\n\ndef half():"],
        "line 9, `def half.*expected an indented block",
    ),
    "a return": (
        ["#| default_exp data.look", LOOK, "#| export\nreturn 1"],
        "cell 4, line 2, `return 1`: 'return' outside",
    ),
    "a magic": (
        ["#| default_exp data.look", f"{LOOK}\n%time look(1)"],
        "line 7, `%time look.1.`: a magic is not Python",
    ),
    "a shell": (["#| default_exp data.look", f"{LOOK}\n!ls"], "line 7, `!ls`: a magic is not Python"),
    "a directive": (["#| default_exp data.look", LOOK.replace("export", "expor", 1)], "did you mean `#| export`"),
    "an empty directive": (
        ["#| default_exp data.look", LOOK.replace("#| export", "#|", 1)],
        "did you mean `#| export`",
    ),
    "another module": (
        ["#| default_exp data.loo", LOOK],
        "cell 2, .*this notebook requires `#| default_exp data.look`",
    ),
    "no module": (
        ["1", LOOK],
        "11_look.ipynb: it exports code, but no cell names the module: add `#| default_exp data.look`",
    ),
    "a name": (
        ["#| default_exp data.look", LOOK.replace("export", "export data.x", 1)],
        "this directive takes no name",
    ),
}


@pytest.mark.parametrize("case", UNFINISHED)
def test_a_notebook_with_unfinished_code_is_not_exported_but_the_others_are(tmp_path, case):
    # given an exported library
    root = nested(tmp_path)
    export_notebooks(root)
    exported, was = contents(root), (root / "nbs/data/11_look.ipynb").read_text()
    # when a notebook has unfinished code, and another one is edited
    sources, message = UNFINISHED[case]
    write(root / "nbs/data/11_look.ipynb", *sources)
    units = [
        "#| default_exp common.units",
        "#| export\ndef twice(x):\n    return 2 * x\n\n\ndef half(x):\n    return x / 2",
    ]
    write(root / "nbs/common/units.ipynb", *units)
    # then each export names it and keeps its module, and the other module and the index are exported
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message.replace("|", r"\|")):
            export_notebooks(root)
        now = contents(root)
        assert now["brewcast/data/look.py"] == exported["brewcast/data/look.py"]
        assert b"def half(x)" in now["brewcast/common/units.py"]
        assert (
            b"brewcast.common.units.half" in now["brewcast/_modidx.py"]
            and b"data.look.look" in now["brewcast/_modidx.py"]
        )
        assert now.keys() == exported.keys()
    # and when the edit is undone, then there is nothing to export
    (root / "nbs/data/11_look.ipynb").write_text(was)
    assert export_notebooks(root) == [] and contents(root) == now


def test_cells_that_are_not_exported_may_have_unfinished_code(tmp_path):
    root = nested(tmp_path)
    write(
        root / "nbs/data/11_look.ipynb",
        "#| default_exp data.look",
        LOOK,
        "#| hide\n%time 1",
        "def half(:",
        "#| eval: false\n(",
    )
    assert export_notebooks(root) == ["common/units.ipynb", "data/11_look.ipynb"]


def test_a_module_that_nbdev_left_broken_is_exported_again_with_the_index(tmp_path, capsys):
    # given unfinished code that nbdev itself has exported: the module is not valid Python, and the index is missing
    root = nested(tmp_path)
    export_notebooks(root)
    exported, was = contents(root), (root / "nbs/data/11_look.ipynb").read_text()
    write(root / "nbs/data/11_look.ipynb", "#| default_exp data.look", f"{LOOK}\n\n\ndef half(:")
    commands(root)(f"PATH={ROOT}/.venv/bin:$PATH; nbdev_export", fails=True)
    assert not (root / "brewcast/_modidx.py").exists()
    with pytest.raises(RuntimeError, match="cell 3, line 9, `def half"):
        export_notebooks(root)
    # when the edit is undone
    (root / "nbs/data/11_look.ipynb").write_text(was)
    export_notebooks(root)
    # then the library is as before
    assert contents(root) == exported
    assert "brewcast/data/look.py differed from its notebook" in capsys.readouterr().err


def test_a_module_that_was_edited_by_hand_is_never_overwritten_silently(tmp_path, capsys):
    root = nested(tmp_path)
    export_notebooks(root)
    exported, module = contents(root), root / "brewcast/data/look.py"
    # when it is edited and its notebook is not, then it stays, and the message has the remedies
    module.write_text(module.read_text() + "\n\nadded = 1\n")
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match="look.py was edited.*nbdev_update brewcast/data/look.py.*or remove brewcast"
        ):
            export_notebooks(root)
        assert "added = 1" in module.read_text()
    # and without a record of the last export, the module is exported, and a copy of the edit is kept
    (root / "scratch/.exported.json").unlink()
    export_notebooks(root)
    assert contents(root) == exported
    assert "its old content is in scratch/edited/brewcast/data/look.py" in capsys.readouterr().err
    assert "added = 1" in (root / "scratch/edited/brewcast/data/look.py").read_text()
    # and the remedy works: a removed module is exported again
    module.write_text(module.read_text() + "\n\nadded = 1\n")
    module.unlink()
    export_notebooks(root)
    assert contents(root) == exported


def test_a_merge_conflict_is_named_and_resolved_in_the_notebook(tmp_path):
    # given two branches that change the same function
    root = nested(tmp_path)
    git = "git -c user.name=a -c user.email=a@example.com"
    run = commands(root)
    (root / ".gitignore").write_text("scratch\n")
    export_notebooks(root)
    run(f"git init -qb main && git add -A && {git} commit -qm start && git checkout -qb other")
    for branch, body in {"other": "twice(x) + 1", "main": "twice(x) + 2"}.items():
        run(f"git checkout -q {branch}")
        write(root / "nbs/data/11_look.ipynb", "#| default_exp data.look", LOOK.replace("twice(x)", body))
        export_notebooks(root)
        run(f"{git} commit -qam {branch}")
    run(f"{git} merge other", fails=True)
    assert "<<<<<<< " in (root / "brewcast/data/look.py").read_text()
    # when it is exported, then the message has the notebook, the line and the remedy
    with pytest.raises(RuntimeError, match=r"11_look.ipynb: line \d+: an unresolved git conflict: `nbdev_fix "):
        export_notebooks(root)
    # and when the remedy is used, then a person has to choose a side
    run(
        f"PATH={ROOT}/.venv/bin:$PATH; nbdev_fix nbs/data/11_look.ipynb", fails=True
    )  # it fails because the conflict remains
    with pytest.raises(
        RuntimeError, match=r"cell \d, line 1, `.<<<<<<< HEAD.`: an unresolved git conflict: keep one side"
    ):
        export_notebooks(root)
    # and when that is done, then the module is exported, whatever git has left in it
    write(root / "nbs/data/11_look.ipynb", "#| default_exp data.look", LOOK.replace("twice(x)", "twice(x) + 3"))
    assert export_notebooks(root) == ["data/11_look.ipynb"]
    assert "twice(x) + 3" in (root / "brewcast/data/look.py").read_text()
    assert "<<<<<<<" not in "".join(text.decode() for text in contents(root).values())


def test_a_file_that_is_not_a_notebook_is_named_with_the_remedy(tmp_path):
    root = nested(tmp_path)
    export_notebooks(root)
    exported = contents(root)
    for text in ("", "{", "[1]", '{"cells": 1}', '{"cells": [1]}', "\xff\0"):
        (root / "nbs/data/11_look.ipynb").write_text(text, encoding="latin-1")
        with pytest.raises(RuntimeError, match=r"11_look.ipynb: not a notebook \(.*\): `git checkout .*` restores it"):
            export_notebooks(root)
        with pytest.raises(ValueError, match=r"11_look.ipynb: not a notebook \("):
            clean_notebooks(root)
        assert contents(root) == exported
