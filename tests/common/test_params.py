"Sources, parameters and the environment: unknown names and wrong values are refused before anything runs."

import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, commands, copy_project
from toy import BUILD, ENV, replace_in_file

from brewcast.common.params import (
    check_parameters,
    env_file,
    env_files,
    environment,
    flatten_parameters,
    lock_differences,
    parameter_defaults,
    parameters,
    read_env,
)

CLI = f"{sys.executable} -m brewcast.cli"


@pytest.mark.parametrize("source", env_files(ROOT))
def test_every_source_has_known_parameters_only(source):
    env = parameters(ROOT, source)
    assert env["source"] == source
    values = flatten_parameters(env, parameter_defaults(ROOT))
    assert values["calendar.unit"] in ("day", "week", "month")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trian": {"seed": 1}}, "trian.seed is not a parameter: did you mean train.seed?"),
        ({"train": {"sed": 1}}, "train.sed is not a parameter: did you mean train.seed?"),
        ({"max_bad_shares": 0.1}, "max_bad_shares is not a parameter: did you mean max_bad_share?"),
        ({"seed": 1}, "seed is not a parameter: did you mean train.seed?"),
        ({"calendar": {"open_within_day": 3}}, "calendar.open_within_day is not a parameter: did you mean calendar.open_within_days?"),
        ({"calendar": {"unit": "days"}}, "calendar.unit is 'days', but must be one of day, week, month"),
        ({"calendar": {"hemisphere": "West"}}, "calendar.hemisphere is 'West', but must be one of north, south"),
        ({"judged": "12"}, "judged is '12', but must be a whole number"),
        ({"returns": 1}, "returns is 1, but must be true or false"),
        ({"train": 3}, "train is 3, but must be a mapping, such as {a: b}"),
        ({"coverage": -0.1}, "coverage is -0.1, but must be above 0"),
        ({"limits": {"rows": 0}}, "limits.rows is 0, but must be at least 1"),
        ({"zero_means": "none"}, "zero_means is 'none', but must be one of value, gap, or null"),
        ({"categories": "Tea"}, "categories is 'Tea', but must be a list"),
        ({"train": {"weights": ["half"]}}, "train.weights[0] is 'half', but must be a number"),
        ({"files": [{"name": "till", "columns": {"a": "text"}, "delimeter": ";"}]}, "files[0].delimeter is not a setting of a table; there are name, columns, path"),
        ({"files": [{"name": "till", "columns": {}}]}, "files[0].columns is {}, but must be at least one entry"),
        ({"gate": {"max_luck": 0.1}}, "gate.max_luck is now called gate.max_p_value"),
        ({"coverage": 8}, "coverage is 8, but must be below 1"),
        ({"monitor": {"false_alarms_a_year": None}}, "monitor.false_alarms_a_year is null, but must be a number"),
        ({"judged": 0}, "judged is 0, but must be at least 1"),
        ({"data": "/srv/till"}, "data is '/srv/till', but must be a folder of the project, or a link: `make run DATA=/srv/till` creates the link"),
        ({"through": datetime.date(2025, 6, 30)}, "through is 2025-06-30, but must be a month such as 2012-10"),
        ({"through": "2025-13"}, "through is 2025-13, but must be a month"),
        ({"calendar": {"unit": "week"}}, "calendar.weekday is null, but the unit is week: which day of the week is the date of a week?"),
        ({"calendar": {"open_within_days": "ten"}}, "calendar.open_within_days is 'ten', but must be a whole number"),
        ({"calendar": {"complete_within_days": -1}}, "calendar.complete_within_days is -1, but must be at least 0"),
        ({"calendar": {"countries": {"*": "Norwy"}}}, "calendar.countries.* is 'Norwy', which is not a known country code: did you mean \"NO\"?"),
        ({"calendar": {"countries": {"Spain": "es"}}}, "calendar.countries.Spain is 'es', which is not a known country code: did you mean \"ES\"?"),
        ({"calendar": {"countries": {"Spain": "US-CA"}}}, "which is not a known country code"),
        ({"data": "../till"}, "data is '../till', but must be a folder of the project, or a link"),
        ({"nonsense": 1}, "nonsense is not a parameter"),
        ({"same_store": {1: "1"}}, "same_store contains the id 1, but both ids must be text: quote them"),
        ({"same_store": {"001": 1}}, "same_store contains '001': 1, but both ids must be text: quote them"),
        ({"same_store": {"001": "01", "01": "1"}}, "same_store: 01 used both as an old id and as a final id"),
        ({"same_store": {"a": "b", "b": "a"}}, "same_store: a, b used both"),
        ({"same_store": ["001"]}, "same_store is ['001'], but must be a mapping"),
    ],
)  # fmt: skip
def test_an_unknown_name_or_value_is_refused_with_a_suggestion(given, message):
    env = read_env(ROOT)
    for name, value in given.items():
        env[name] = env[name] | value if isinstance(env.get(name), dict) and isinstance(value, dict) else value
    with pytest.raises(ValueError, match=r"env.yaml: ") as error:
        check_parameters(ROOT, env, "env.yaml")
    assert message in str(error.value)


def test_keys_that_come_from_the_data_are_free():
    env = read_env(ROOT)
    env["calendar"]["countries"] = {"Atlantis": None}
    env["same_store"] = {"001": "1", "0001": "1", "A1": "A1"}
    check_parameters(ROOT, env, "env.yaml")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('calendar: {countries: {"*": NO}}', 'calendar.countries.*: YAML reads NO as false; quote it: "NO"'),
        ("on: 1", 'on: YAML reads on as true; quote it: "on"'),
        ("unit: pieces\nunit: kg", "the key unit is also in line"),
        ("files: [{columns: {a: text,\n b: text, a: date}}]", "the key a is also in line"),
    ],
)
def test_text_that_yaml_reads_as_another_type_is_refused_as_it_was_written(tmp_path, written, message):
    # given the parameter file of a source, or of the default source, with an unquoted text
    for name in ("env.yaml", "pipeline.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for file, text in {"env.tea.yaml": f"meta: {{import_from: env.yaml}}\n{written}\n", "env.yaml": written}.items():
        (tmp_path / file).write_text(text)
        # then the error names the file, the parameter, what YAML reads and what to write
        with pytest.raises(ValueError, match=f"^{file}: ") as error:
            read_env(tmp_path, file)
        assert message in str(error.value)


@pytest.mark.parametrize("given", ["categories=[010]", 'calendar.countries={"*": NO}', "unit=off", "sql=2024-05-01"])
def test_text_on_the_command_line_is_checked_too(given):
    with pytest.raises(ValueError, match="YAML reads .*; quote it"):
        parameters(ROOT, "simulated", [given])


def test_a_month_on_the_command_line_must_not_be_a_day():
    assert parameters(ROOT, "simulated", ["through=2012-10"])["through"] == "2012-10"
    with pytest.raises(ValueError, match="through is 2012-10-31, but must be a month"):
        parameters(ROOT, "simulated", ["through=2012-10-31"])


@pytest.mark.parametrize("command", [BUILD, f"{CLI} run", f"{CLI} why", "ploomber build", f"{CLI} publish"])
def test_unquoted_text_stops_every_command_before_anything_runs(toy, run, command):
    (toy / "env.yaml").write_text(ENV.replace("sql: sql/near.sql", "sql: 010"))
    message = run(command, fails=True)
    assert 'env.yaml: sql: YAML reads 010 as the number 8; quote it: "010"' in message.all
    assert "starts" not in message.err and "Traceback" not in message.all


def test_a_missing_parameter_is_named():
    env = read_env(ROOT)
    del env["train"]["seed"], env["judged"]
    with pytest.raises(ValueError, match="judged is missing; train.seed is missing"):
        check_parameters(ROOT, env, "env.yaml")


@pytest.mark.parametrize(
    "command", [BUILD, f"{CLI} run", f"{CLI} why", "ploomber build", "ploomber status", f"{CLI} publish"]
)
def test_a_misspelled_name_in_the_file_stops_every_command_before_anything_runs(toy, run, command):
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 7, wims: 8"))
    message = run(command, fails=True)
    assert "gate.wims is not a parameter: did you mean gate.wins?" in message.all
    assert "starts" not in message.err


def test_a_name_that_is_misspelled_is_also_reported_as_missing(toy, run):
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wims: 7"))
    message = run(BUILD, fails=True).err
    assert "gate.wims is not a parameter: did you mean gate.wins?; gate.wins is missing" in message
    # Ploomber itself names the missing parameter
    assert "wins" in run("ploomber build", fails=True).all


def test_a_misspelled_name_on_the_command_line_stops_make_and_brewcast(toy, run, tmp_path):
    for command in [f"{BUILD} gate.gian=0.5", f"{CLI} run gate.gian=0.5", f"{CLI} why gate.gian=0.5"]:
        assert "gate.gian is not a parameter: did you mean gate.gain?" in run(command, fails=True).err
    # Ploomber itself refuses an unknown name on its command line
    assert (
        "unrecognized arguments: --env--gate--gian 0.5" in run("ploomber build --env--gate--gian 0.5", fails=True).err
    )
    root = copy_project(tmp_path / "whole")
    make = commands(root)
    assert "train.sed is not a parameter: did you mean train.seed?" in make("make run train.sed=1", fails=True).err
    assert "PROT=1: no such variable; the variables are SOURCE" in make("make serve PROT=1", fails=True).err
    assert not (root / "products").exists() and not (root / "data").exists()


def test_an_environment_that_differs_from_the_lock_is_refused_with_the_command_that_repairs_it(toy, run):
    # given a lock with another version of pandas
    assert lock_differences(ROOT / "requirements.lock") == {}
    lock = toy / "requirements.lock"
    text = lock.read_text()
    here = next(line.split("==")[1].split()[0] for line in text.splitlines() if line.startswith("pandas=="))
    lock.write_text(text.replace(f"pandas=={here}", "pandas==0.1"))
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    # then no build starts, neither by brewcast nor by ploomber
    for command in [BUILD, "ploomber build"]:
        message = run(command, fails=True).all
        assert f"pandas is {here}, locked 0.1" in message and "`make -B setup` repairs it" in message
        assert "starts" not in message


def test_a_value_that_is_not_yaml_and_a_module_that_is_not_python_are_named(toy, run):
    assert "'lags=[1' is not valid YAML" in run(f"{BUILD} 'lags=[1'", fails=True).err
    (toy / "brewcast/common/areas.py").write_text("def area(x):\n    return (x\n")
    assert "brewcast/common/areas.py, line 2: '(' was never closed" in run(f"{CLI} why", fails=True).err


def test_a_parameter_file_that_is_not_yaml_is_named(toy, run):
    replace_in_file(toy / "env.yaml", "lags: [1, 12]", "lags: [1, 12")
    message = run(BUILD, fails=True)
    assert "env.yaml" in message.err and "Traceback" not in message.err


@pytest.mark.parametrize("name", ["sql", "plan_sql", "floor"])
@pytest.mark.parametrize("path", ["/srv/x.sql", "../x.sql"])
def test_a_parameter_must_not_name_a_file_outside_of_the_project(name, path):
    with pytest.raises(ValueError, match=f"{name} is '{path}', but must be a file of the project: Brewcast neither"):
        check_parameters(ROOT, read_env(ROOT) | {name: path}, "env.yaml")


def interpreter(path: Path, version: str) -> Path:
    "A script that prints a Python version."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


def test_another_python_is_used_or_refused_before_anything_is_removed(tmp_path):
    # given an environment
    for name in ("Makefile", "requirements.lock", "settings.ini", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    here = interpreter(tmp_path / ".venv/bin/python", "3.11.9")
    (tmp_path / ".venv/root").write_text(str(tmp_path))
    (tmp_path / ".venv/ready").touch()

    def make(python, *options):
        environment = {
            name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")
        }
        line = ["make", *options, "setup", *([f"PYTHON={python}"] if python else [])]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    # then without a choice, or with the same Python, there is nothing to do
    for python in ("", interpreter(tmp_path / "the same", "3.11.9")):
        assert "Nothing to be done" in make(python)[1]
    # another Python is used
    assert "rm -rf .venv" in make(interpreter(tmp_path / "3.12", "3.12.1"), "-n")[1]
    # and a wrong or too old one is refused, and the environment stays
    for python, what in {
        interpreter(tmp_path / "old", "3.10.13"): "Python 3.10.13",
        "/nonexistent": "not a Python",
        "/bin/cat": "not a Python",
    }.items():
        status, message = make(python)
        assert status and f"{python} is {what}, but Brewcast needs Python 3.11 to 3.13: make PYTHON=" in message
        assert here.exists() and len(message.splitlines()) <= 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "north-west",
            "'north-west' is not a valid source name: use a letter, then letters, digits and _, such as north_west",
        ),
        ("north west", "such as north_west"),
        ("..", "'..' is not a valid source name: use a letter, then letters, digits and _"),
        ("../far", "such as far"),
        (" ", "' ' is not a valid source name"),
        ("1st", "'1st' is not a valid source name"),
        ("çay", "'çay' is not a valid source name"),
        ("walmar", "no source is called 'walmar': did you mean walmart? there are simulated, "),
        ("tea", "no source is called 'tea': there are simulated, "),
    ],
)
def test_an_unknown_source_is_refused_with_a_suggestion(name, message):
    for ask in (env_file, environment, parameters):
        with pytest.raises(ValueError) as error:
            ask(ROOT, name)
        assert message in str(error.value)


@pytest.mark.parametrize(
    "command", ["make why SOURCE=north-west", "make serve SOURCE=north-west", ". ./activate north-west"]
)
def test_a_parameter_file_with_an_invalid_source_name_is_refused(toy, run, command):
    # given a parameter file with such a name
    (toy / "env.north-west.yaml").write_text("meta: {import_from: env.yaml}\nsource: north-west\n")
    shutil.copy(ROOT / "activate", toy / "activate")
    shutil.copy(ROOT / "Makefile", toy / "Makefile")
    (toy / "setup.py").touch()
    (toy / ".venv").symlink_to(ROOT / ".venv")
    (
        os.utime(toy / "setup.py", (0, 0)),
        os.utime(toy / "requirements.lock", (0, 0)),
        os.utime(toy / "settings.ini", (0, 0)),
    )
    # then every command refuses it before anything runs
    message = run(command, fails=True).err
    assert (
        "error: 'north-west' is not a valid source name: use a letter, then letters, digits and _, such as north_west"
        in message
    )


def test_a_source_has_the_name_of_its_file(toy, run):
    (toy / "env.far.yaml").write_text("meta: {import_from: env.yaml}\n")
    message = run(f"{CLI} why --source far", fails=True).err
    assert message == "error: env.far.yaml: source is 'near', but the file name says 'far'\n"


def test_an_impossible_date_is_named_with_its_parameter():
    with pytest.raises(ValueError, match="^'through=2025-06-31': day is out of range for month"):
        parameters(ROOT, "simulated", ["through=2025-06-31"])


def test_a_path_that_some_tools_cannot_use_is_refused_by_every_command(toy):
    # given a project in such a folder, then every command checks it
    moved = toy.rename(toy.with_name("50% off"))
    message = commands(moved)(f"{CLI} environment", fails=True).err
    assert (
        message
        == f"error: the project is in {str(moved)!r}, but some tools cannot use a path with '%': move or rename it\n"
    )


@pytest.mark.parametrize(
    "name", ["50% off", "what?", "a {b}", "cost `5", 'a "b"', "back\\slash", "it's #1 & é (2) [x]"]
)
def test_make_refuses_such_a_path_before_it_installs_anything(tmp_path, name):
    folder = tmp_path / name
    is_fine = name.startswith("it's")
    folder.mkdir()
    for file in ("Makefile", "requirements.lock", "settings.ini", "setup.py"):
        shutil.copy(ROOT / file, folder / file)
    message = commands(folder)("make setup PYTHON=/nonexistent", fails=True).err
    assert ("/nonexistent is not a Python" in message) == is_fine and ("move or rename it" in message) != is_fine
    assert not (folder / ".venv").exists()


def test_a_user_without_a_home_gets_one_in_the_project_and_keeps_own_settings(toy, monkeypatch):
    monkeypatch.setenv("MPLCONFIGDIR", "/tmp/mine")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert "IPYTHONDIR" not in environment(toy, "near") and not (toy / "scratch/home").exists()
    # when the home does not exist or is not writable
    monkeypatch.setenv("HOME", "/nonexistent")
    variables = environment(toy, "near")
    # then the tools write to the project, except where the user has chosen another folder
    assert variables["IPYTHONDIR"] == f"{toy}/scratch/home/ipythondir" and (toy / "scratch/home").is_dir()
    assert variables["MPLCONFIGDIR"] == "/tmp/mine" and "HOME" not in variables


def test_uv_installs_the_environment_without_a_home(tmp_path):
    # given the lines of the Makefile, and a home in which no cache can be created
    lines = (ROOT / "Makefile").read_text().split("cache=$$(")[1].split("export UV_NO_CACHE=1;")[0]
    script = (
        "cache=$("
        + lines.replace("$$", "$").replace("$(PY)", sys.executable)
        + "export UV_NO_CACHE=1; echo $UV_NO_CACHE"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "XDG_"))}
    for home, no_cache in {"/proc/nonexistent": "1", str(tmp_path): ""}.items():
        done = subprocess.run(["sh", "-c", script], env=plain | {"HOME": home}, capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr) == (no_cache, "")
