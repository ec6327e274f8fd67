"Notebooks are in step with their modules and clean; the tools that export, clean and test them find all packages."

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, commands, copy_project, project_environment

from brewcast.workflow.notebooks import clean_notebooks, export_notebooks, export_problem, notebooks


def test_exporting_and_cleaning_change_nothing(tmp_path):
    assert [told for path in notebooks(ROOT) if (told := export_problem(path, ROOT))] == []
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
    # and `nbdev_export` names a notebook that is half typed, and leaves its module as it is
    for shell in shells:
        half, module = root / "nbs/common/text.ipynb", root / "brewcast/common/text.py"
        text, before = (ROOT / "nbs/common/text.ipynb").read_text(), module.read_text()
        half.write_text(text.replace('"def compact(', '"def compact(:'))
        script = [shell, "-c", ". ./activate && nbdev_export"]
        done = subprocess.run(script, cwd=root, env=project_environment(root), capture_output=True, text=True)
        assert (
            done.returncode == 1
            and "error: nbs/common/text.ipynb: cell " in done.stderr
            and "Traceback" not in done.stderr
        )
        assert module.read_text() == before
        half.write_text(text)
        done = subprocess.run(script, cwd=root, env=project_environment(root), capture_output=True, text=True)
        assert done.returncode == 0 and module.read_text() == before, done.stderr
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


# --- half typed, by hand, in conflict


def contents(root: Path) -> dict:
    "The library as it is exported."
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "brewcast").rglob("*.py")}


LOOK = "#| export\nfrom brewcast.common.units import twice\n\n\ndef look(x):\n    return twice(x)"
HALF = {  # what was typed so far in a notebook's code cells, and what is said of it
    "code": (
        ["#| default_exp data.look", f"{LOOK}\n\n\ndef half(:"],
        r"cell 3, line 9, `def half\(:`: invalid syntax; it",
    ),
    "the end": (
        ["#| default_exp data.look", f"{LOOK}\n\n\ndef half():"],
        "line 9, `def half.*expected an indented block",
    ),
    "a return": (
        ["#| default_exp data.look", LOOK, "#| export\nreturn 1"],
        "cell 4, line 2, `return 1`: 'return' outside",
    ),
    "a magic": (
        ["#| default_exp data.look", f"{LOOK}\n%time look(1)"],
        "line 7, `%time look.1.`: a magic is no Python",
    ),
    "a shell": (["#| default_exp data.look", f"{LOOK}\n!ls"], "line 7, `!ls`: a magic is no Python"),
    "a directive": (["#| default_exp data.look", LOOK.replace("export", "expor", 1)], "did you mean `#| export`"),
    "its beginning": (["#| default_exp data.look", LOOK.replace("#| export", "#|", 1)], "did you mean `#| export`"),
    "another place": (["#| default_exp data.loo", LOOK], "cell 2, .*its place says `#| default_exp data.look`"),
    "no place": (["1", LOOK], "11_look.ipynb: it exports code, and no cell says where to: `#| default_exp data.look`"),
    "a name": (["#| default_exp data.look", LOOK.replace("export", "export data.x", 1)], "no name follows"),
}


@pytest.mark.parametrize("typed", HALF)
def test_a_notebook_that_is_half_typed_waits_and_the_others_do_not(tmp_path, typed):
    # given a library that is in step
    root = nested(tmp_path)
    export_notebooks(root)
    exported, was = contents(root), (root / "nbs/data/11_look.ipynb").read_text()
    # when a notebook is half typed, and another is edited
    sources, told = HALF[typed]
    write(root / "nbs/data/11_look.ipynb", *sources)
    units = [
        "#| default_exp common.units",
        "#| export\ndef twice(x):\n    return 2 * x\n\n\ndef half(x):\n    return x / 2",
    ]
    write(root / "nbs/common/units.ipynb", *units)
    # then it is named, each time, its module stays, and the other's is made, in the index, too
    for _ in range(2):
        with pytest.raises(RuntimeError, match=told.replace("|", r"\|").replace("`#", "`#")):
            export_notebooks(root)
        now = contents(root)
        assert now["brewcast/data/look.py"] == exported["brewcast/data/look.py"]
        assert b"def half(x)" in now["brewcast/common/units.py"]
        assert (
            b"brewcast.common.units.half" in now["brewcast/_modidx.py"]
            and b"data.look.look" in now["brewcast/_modidx.py"]
        )
        assert now.keys() == exported.keys()
    # and when it is taken back, all is well and nothing is to be exported
    (root / "nbs/data/11_look.ipynb").write_text(was)
    assert export_notebooks(root) == [] and contents(root) == now


def test_what_is_not_exported_may_be_half_typed(tmp_path):
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


def test_a_module_that_nbdev_left_broken_is_made_again_and_so_is_the_index(tmp_path, capsys):
    # given a half-typed notebook that was exported past our check: its module does not parse, and the index is gone
    root = nested(tmp_path)
    export_notebooks(root)
    exported, was = contents(root), (root / "nbs/data/11_look.ipynb").read_text()
    write(root / "nbs/data/11_look.ipynb", "#| default_exp data.look", f"{LOOK}\n\n\ndef half(:")
    commands(root)(f"PATH={ROOT}/.venv/bin:$PATH; nbdev_export", fails=True)
    assert not (root / "brewcast/_modidx.py").exists()
    with pytest.raises(RuntimeError, match="cell 3, line 9, `def half"):
        export_notebooks(root)
    # when the edit is taken back
    (root / "nbs/data/11_look.ipynb").write_text(was)
    export_notebooks(root)
    # then all is as it was
    assert contents(root) == exported
    assert "brewcast/data/look.py was not as its notebook makes it" in capsys.readouterr().err


def test_a_module_that_was_edited_by_hand_is_never_overwritten_in_silence(tmp_path, capsys):
    root = nested(tmp_path)
    export_notebooks(root)
    exported, module = contents(root), root / "brewcast/data/look.py"
    # when it is edited, and its notebook not, then it stays, and the ways out are said
    module.write_text(module.read_text() + "\n\nadded = 1\n")
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match="look.py was edited.*nbdev_update brewcast/data/look.py.*or remove brewcast"
        ):
            export_notebooks(root)
        assert "added = 1" in module.read_text()
    # and where nobody remembers what was exported, the notebook's is made, and the edit is kept beside
    (root / "scratch/.exported.json").unlink()
    export_notebooks(root)
    assert contents(root) == exported
    assert "what it was is kept in scratch/edited/brewcast/data/look.py" in capsys.readouterr().err
    assert "added = 1" in (root / "scratch/edited/brewcast/data/look.py").read_text()
    # and the way out that was said: it is removed, and made again
    module.write_text(module.read_text() + "\n\nadded = 1\n")
    module.unlink()
    export_notebooks(root)
    assert contents(root) == exported


def test_a_merge_with_conflicts_is_named_and_settled_in_the_notebook(tmp_path):
    # given two branches that change the same function
    root, git = nested(tmp_path), "git -c user.name=a -c user.email=a@example.com"
    run, edited = commands(root), lambda body: LOOK.replace("twice(x)", body)
    (root / ".gitignore").write_text("scratch\n")
    export_notebooks(root)
    run(f"git init -qb main && git add -A && {git} commit -qm start && git checkout -qb other")
    for branch, body in {"other": "twice(x) + 1", "main": "twice(x) + 2"}.items():
        run(f"git checkout -q {branch}")
        write(root / "nbs/data/11_look.ipynb", "#| default_exp data.look", edited(body))
        export_notebooks(root)
        run(f"{git} commit -qam {branch}")
    run(f"{git} merge other", fails=True)
    assert "<<<<<<< " in (root / "brewcast/data/look.py").read_text()
    # when it is exported, then the notebook is named, with the line and the way out
    with pytest.raises(RuntimeError, match=r"11_look.ipynb: line \d+: a conflict that git left: `nbdev_fix "):
        export_notebooks(root)
    # and when the way out is taken, then a person has to choose
    run(f"PATH={ROOT}/.venv/bin:$PATH; nbdev_fix nbs/data/11_look.ipynb", fails=True)  # as a conflict is left
    with pytest.raises(
        RuntimeError, match=r"cell \d, line 1, `.<<<<<<< HEAD.`: a conflict that git left: keep one side"
    ):
        export_notebooks(root)
    # and when that is done, then the module is made, whatever git has left in it
    write(root / "nbs/data/11_look.ipynb", "#| default_exp data.look", edited("twice(x) + 3"))
    assert export_notebooks(root) == ["data/11_look.ipynb"]
    assert "twice(x) + 3" in (root / "brewcast/data/look.py").read_text()
    assert "<<<<<<<" not in "".join(text.decode() for text in contents(root).values())


def test_a_notebook_that_is_none_is_named_with_the_way_out(tmp_path):
    root = nested(tmp_path)
    export_notebooks(root)
    exported = contents(root)
    for text in ("", "{", "[1]", '{"cells": 1}', '{"cells": [1]}', "\xff\0"):
        (root / "nbs/data/11_look.ipynb").write_text(text, encoding="latin-1")
        with pytest.raises(RuntimeError, match=r"11_look.ipynb: no notebook \(.*\): `git checkout .*` takes it back"):
            export_notebooks(root)
        with pytest.raises(ValueError, match=r"11_look.ipynb: no notebook \("):
            clean_notebooks(root)
        assert contents(root) == exported
