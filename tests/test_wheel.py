"The wheel is complete: in a new environment, every module can be imported and the command works."

import subprocess
import sys
import sysconfig

import pytest
from conftest import ROOT, commands, copy_project

from brewcast import __version__
from brewcast.workflow.notebooks import notebooks

IMPORT_ALL = """
import importlib, pkgutil, brewcast
names = [module.name for module in pkgutil.walk_packages(brewcast.__path__, "brewcast.")]
for name in names:
    name.endswith("__main__") or importlib.import_module(name)
print(brewcast.__file__, len(names))
"""
PRINT_TEMPLATES = """
from brewcast.common.pages import STYLE_SHEET, template_environment
print(len(STYLE_SHEET) > 1000)
templates = {
    "common": ["small_charts.svg"],
    "delivery": ["month.html", "track_record.html"],
    "operations": ["trace.svg"],
    "serving": ["what_if_caption.html"],
    "workflow": ["report.html", "index.html", "reader.css"],
}
for package, names in templates.items():
    for name in names:
        print(template_environment(f"brewcast.{package}").get_template(name).name)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    "A folder with `env`, an environment with only the wheel; it imports the required libraries from the current one."
    folder = tmp_path_factory.mktemp("wheel")
    project = copy_project(folder / "brewcast")
    build = f"{sys.executable} -m pip wheel -q --no-deps --no-build-isolation --no-index -w {folder} {project}"
    commands(folder)(build)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env/bin/python"
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    (wheel,) = folder.glob("brewcast-*.whl")
    commands(folder)(f"{sys.executable} -m uv pip install -q --offline --no-deps -p {python} {wheel}")
    with open(f"{site}/libraries.pth", "w") as file:  # the .pth files in a folder that is added like this are not read
        file.write(sysconfig.get_path("purelib") + "\n")
    return folder


def run(installed, line: str) -> str:
    "Run a command of that environment, in a folder outside any project."
    folder = installed / "elsewhere"
    folder.mkdir(exist_ok=True)
    return commands(folder)(f"PYTHONPATH= {installed}/env/bin/{line}").out


def test_every_module_is_imported_from_the_wheel(installed):
    file, n_modules = run(installed, f"python -c '{IMPORT_ALL}'").split()
    assert file.startswith(str(installed / "env"))
    assert int(n_modules) > len(notebooks(ROOT))


def test_the_command_works(installed):
    assert "From till data to a served forecast." in run(installed, "brewcast --help")
    assert (
        run(installed, "brewcast --version")
        == run(installed, "python -m brewcast --version")
        == f"brewcast {__version__}\n"
    )


def test_the_wheel_contains_the_templates(installed):
    names = ["small_charts.svg", "month.html", "track_record.html", "trace.svg", "what_if_caption.html"]
    names += ["report.html", "index.html", "reader.css"]
    assert run(installed, f"python -c '{PRINT_TEMPLATES}'").split() == ["True", *names]
