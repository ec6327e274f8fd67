"Notebooks are in step with their modules and clean; the tools that export, clean and test them find all packages."

import re
import shutil
import subprocess

from conftest import ROOT, commands, copy_project, project_environment


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
