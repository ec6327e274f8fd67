"The wheel that is built is whole: installed elsewhere, every module is imported and the command answers."

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


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    "An environment that holds the wheel and nothing else; the libraries that it needs are looked up in this one."
    folder = tmp_path_factory.mktemp("wheel")
    project = copy_project(folder / "brewcast")
    build = f"{sys.executable} -m pip wheel -q --no-deps --no-build-isolation --no-index -w {folder} {project}"
    commands(folder)(build)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env/bin/python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    (wheel,) = folder.glob("brewcast-*.whl")
    commands(folder)(f"{sys.executable} -m uv pip install -q --offline --no-deps -p {python} {wheel}")
    with open(f"{site}/libraries.pth", "w") as path:  # a folder that is named so has its own .pth files left alone
        path.write(sysconfig.get_path("purelib") + "\n")
    return folder


def run(installed, line: str) -> str:
    "A command of that environment, from a folder that is no project."
    place = installed / "elsewhere"
    place.mkdir(exist_ok=True)
    return commands(place)(f"PYTHONPATH= {installed}/env/bin/{line}").out


def test_every_module_of_the_wheel_is_imported_from_it(installed):
    file, number = run(installed, f"python -c '{IMPORT_ALL}'").split()
    assert file.startswith(str(installed / "env"))
    assert int(number) > len(notebooks(ROOT))


def test_its_command_answers(installed):
    assert "From till data to a served forecast." in run(installed, "brewcast --help")
    assert (
        run(installed, "brewcast --version")
        == run(installed, "python -m brewcast --version")
        == f"brewcast {__version__}\n"
    )


def test_its_templates_are_in_it(installed):
    code = (
        "from brewcast.common.pages import STYLE_SHEET, template_environment as page; print(len(STYLE_SHEET) > 1000, "
    )
    code += 'page("brewcast.delivery").get_template("month.html").name, page("brewcast.workflow").get_template("report.html").name)'
    assert run(installed, f"python -c '{code}'").split() == ["True", "month.html", "report.html"]
