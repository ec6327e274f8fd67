"The command line: its arguments, its messages, its effects, and errors of one line with a remedy."

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT
from toy import ENV, cell, replace_in_file
from waits import wait_until

from brewcast.cli import (
    app,
    copy_release,
    export_statements,
    main,
    prepare_data,
    release_command,
    staleness_report,
)
from brewcast.workflow.reasons import Reason

CLI = [sys.executable, "-m", "brewcast.cli"]
HELP = {info.name: info.help for info in [*app.registered_commands, *app.registered_groups]}


def run_cli(*arguments: str, cwd: Path, **variables) -> subprocess.CompletedProcess:
    "The command line as a process of its own, somewhere."
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([*CLI, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


# --- arguments


def test_help_lists_every_command_with_its_description_outside_of_a_project_too(tmp_path):
    done = run_cli("--help", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    listed = re.sub(r"\n {5,}", " ", done.stdout.split("Commands:\n")[1])  # each command on one line
    assert re.findall(r"(?m)^  ([a-z-]+) +(\S.+)$", listed) == [*HELP.items()]
    assert len(HELP) == 32 and all(HELP.values())


def test_help_is_plain_text_of_the_same_width_wherever_it_is_printed(tmp_path):
    # given variables that make other programs print colours or boxes
    colours = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "GITHUB_ACTIONS": "true"}
    for command in ([], ["month"]):
        plain = run_cli(*command, "-h", cwd=tmp_path).stdout
        assert run_cli(*command, "--help", cwd=tmp_path, **colours).stdout == plain
        assert plain.isascii() and "\x1b" not in plain and max(map(len, plain.splitlines())) <= 80


@pytest.mark.parametrize("command", HELP)
def test_every_command_has_its_own_help(command, capsys):
    for option in ("--help", "-h"):
        assert main([command, option]) == 0
        output = capsys.readouterr().out
        assert f"Usage: brewcast {command} " in output and HELP[command] in " ".join(output.split())


def test_the_shell_completes_commands_options_and_sources_of_the_project(toy):
    def completed(line: str, cwd: Path) -> list[str]:
        variables = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_BREWCAST_COMPLETE": "complete_bash"}
        done = run_cli(cwd=cwd, BREWCAST_ROOT="", **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    (toy / "env.far.yaml").write_text("meta: {import_from: env.yaml}\nsource: far\n")
    assert completed("brewcast re", toy) == ["restore", "replay", "release"]
    assert completed("brewcast why --j", toy) == ["--json"]
    assert completed("brewcast why --source ", toy) == ["near", "far"]
    assert completed("brewcast why --source f", toy) == ["far"]
    assert completed("brewcast why --source ", toy.parent) == []


# --- messages


def test_outside_of_a_project_the_error_is_one_line(tmp_path):
    done = run_cli("why", cwd=tmp_path, BREWCAST_ROOT="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path}: no pipeline.yaml here or above; run this inside a Brewcast project\n"


def test_why_gives_the_same_reasons_as_json_and_as_text(toy, brewcast):
    # given one stage with a reason, one that follows from it, and two without
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]"))
    # when JSON is requested, then it has the parts of the reason
    reasons = json.loads(brewcast("why --json").out)
    assert list(reasons) == ["ingest", "clean", "look", "judge"]
    (own,) = reasons["clean"]
    assert (own["kind"], own["name"], own["old"], own["new"]) == ("parameter", "lags", [1, 12], [1, 6])
    # and the text has the same reason, once
    text = brewcast("why").out
    records = {stage: [Reason(**reason) for reason in of_stage] for stage, of_stage in reasons.items()}
    assert text == staleness_report(records) + "\n"
    assert text.splitlines() == [
        "ingest     is up to date",
        "clean      is stale",
        "           - parameter lags: [1, 12] -> [1, 6]",
        "look       is up to date",
        "judge      follows from clean",
    ]


def test_why_reports_a_notebook_that_was_edited_and_not_exported(toy, brewcast):
    # given a module exported from a notebook, and a build
    write = lambda body: write_notebook(toy, "nbs/common/areas.ipynb", "common.areas", body)  # noqa: E731
    write("return x")
    brewcast("build")
    assert not any(json.loads(brewcast("why --json").out).values())
    # when the notebook is edited, and nothing else is done
    write("return x * 1")
    # then it is a reason for every stage that imports it
    assert "- module common.areas: area (judge -> data.shapes -> common.areas)" in brewcast("why").out


def write_notebook(root: Path, name: str, module: str, body: str) -> None:
    sources = [f"#| default_exp {module}", f"#| export\ndef area(x):\n    {body}"]
    cells = [cell("markdown", 0, "# Areas\n\n> A toy."), *(cell("code", n, text) for n, text in enumerate(sources, 1))]
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    (root / name).write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def test_the_module_can_be_run_and_from_a_folder_below_the_root(toy, run):
    output = run(f"cd data/near && {shlex.join([sys.executable, '-m', 'brewcast'])} why").out
    assert output.splitlines() == [f"{stage:<10} is up to date" for stage in ("ingest", "clean", "look", "judge")]


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_reader_that_closes_the_pipe_is_not_an_error(toy, run, unbuffered):
    # given a reader that ends before the first line
    closed_pipe = "mkfifo closed; (exec <closed) & exec 3>closed; wait"
    # when the command writes to the closed pipe, then it ends as usual
    done = run(f"{closed_pipe}; {shlex.join(CLI)} why --json >&3; echo status $?", PYTHONUNBUFFERED=unbuffered)
    assert (done.out, done.err) == ("status 0\n", "")


def test_a_shell_reads_exported_variables_unchanged():
    # given values with special characters of shells
    odd = {
        "PLAIN": "a",
        "QUOTED": 'it\'s "so"',
        "MONEY": "$HOME `id` \\ !",
        "LINES": "one\ntwo",
        "NONE": "",
        "PATHS": "/a folder/é",
    }
    # when shells read them
    for shell in ("sh", "bash"):
        script = f"{export_statements(odd)}\nenv -0"
        done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
        read = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
        # then they are unchanged
        assert {name: read[name] for name in odd} == odd


def test_the_source_comes_from_the_option_then_the_shell_then_env_yaml(toy, brewcast):
    (toy / "env.far.yaml").write_text("meta: {import_from: env.yaml}\nsource: far\ngate: {wins: 3}\n")
    line = "export BREWCAST_SOURCE="
    assert f"{line}near" in brewcast("environment").out.splitlines()
    os.environ["SOURCE"] = "far"
    assert f"{line}far" in brewcast("environment").out.splitlines()
    assert f"{line}near" in brewcast("environment --source near").out.splitlines()


# --- effects


@pytest.fixture
def project(tmp_path):
    "A project with one source and no build."
    root = tmp_path / "project"
    root.mkdir()
    for name, text in {
        "env.yaml": "source: shop\ndata: data/shop\n",
        "pipeline.yaml": "tasks: []\n",
        "settings.ini": "",
    }.items():
        (root / name).write_text(text)
    return root


def test_data_is_linked_and_the_link_survives_a_move_of_project_and_data(project, tmp_path):
    # given two folders of data beside the project
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "till.csv").write_text(name)
    # when each becomes the data of the source
    for name in ("one", "two", "two"):
        path = prepare_data(project, "shop", str(tmp_path / name))
        assert path == project / "data/shop" and (path / "till.csv").read_text() == name
    assert prepare_data(project, "shop") == path
    # then both can be moved together
    (tmp_path / "elsewhere").mkdir()
    for name in ("two", "project"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert (tmp_path / "elsewhere/project/data/shop/till.csv").read_text() == "two"
    # and the other folder was not touched
    assert (tmp_path / "one/till.csv").read_text() == "one"


def test_in_a_read_only_project_a_failed_copy_is_reported_and_the_rest_works(project, monkeypatch, capsys):
    # given a current release, in a project that becomes read-only half-way through the copy
    state, copy = project / "state/shop", shutil.copy2
    (state / "releases/r1").mkdir(parents=True)
    for name in ("a", "release.json"):
        (state / "releases/r1" / name).write_text("r1")
    (state / "current").symlink_to("releases/r1")

    def read_only(source, target, **more):
        if not str(source).endswith("/a"):
            raise OSError(30, "Read-only file system", str(target))
        return copy(source, target, **more)

    monkeypatch.setattr(shutil, "copytree", partial(shutil.copytree, copy_function=read_only))
    # when it is copied, that is an error; the command of `activate` only prints it
    with pytest.raises(OSError, match="r1, not copied to release/, where `bentoml build` reads it: .*Read-only"):
        copy_release(project, "shop")
    release_command(project, "shop")
    assert capsys.readouterr().out.startswith("r1, not copied to release/")
    assert not (project / "release").exists() and not list(project.glob(".release*"))
    # and if the same copy exists already, there is no error
    shutil.copytree(state / "releases/r1", project / "release", copy_function=copy)
    assert copy_release(project, "shop") == "r1" and not list(project.glob(".release*"))


def test_clean_deletes_products_and_scratch_and_nothing_else(toy, brewcast):
    # given the files of builds of two sources, of a release and of experiments
    for name in ("products/far/out.txt", "scratch/look/out.txt", "release/release.json", "backups/near.tar"):
        (toy / name).parent.mkdir(parents=True, exist_ok=True)
        (toy / name).touch()
    remaining = ["products/far/out.txt", "backups/near.tar", "data/near/till.csv", "env.yaml"]
    runs = sorted((toy / "state/near/runs").iterdir())
    # when one source is cleaned
    brewcast("clean")
    # then its products are deleted; the state, the data and the products of the other source remain
    assert not any((toy / name).exists() for name in ("products/near", "scratch", "release"))
    assert all((toy / name).exists() for name in remaining)
    assert runs and sorted((toy / "state/near/runs").iterdir()) == runs


@pytest.fixture
def shown(project, tmp_path):
    """Opens the month page of a machine on which every browser is a script that writes down its name and the address."""
    page = project / "products/shop/forecast/month.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html>")
    programs, calls = tmp_path / "programs", tmp_path / "calls.txt"
    programs.mkdir()

    def show(*browsers: str, **variables: str) -> list[str]:
        for name in browsers:
            (programs / name).write_text(f'#!/bin/sh\necho "{name} $1" >> {calls}\n')
            (programs / name).chmod(0o755)
        quiet = dict.fromkeys(["BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"], "")
        done = run_cli(
            "open", "--source", "shop", cwd=project, PATH=str(programs), BREWCAST_ROOT="", **(quiet | variables)
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{page}\n", "")
        if "xdg-open" in browsers and "BROWSER" not in variables:
            wait_until(lambda: calls.exists() and calls.read_text(), "shown")  # it runs on in the background
        return calls.read_text().splitlines() if calls.exists() else []

    show.address = page.as_uri()
    return show


@pytest.mark.parametrize(
    "variables",
    [{}, {"DISPLAY": ":7", "SSH_CONNECTION": "10.0.0.1 50000 10.0.0.2 22"}, {"BROWSER": "/nowhere/browser"}],
)
def test_without_a_browser_the_path_of_the_page_is_printed(shown, variables):
    # given no display, or ssh, or a missing browser; text browsers are installed
    assert shown("lynx", "w3m", "www-browser", "firefox", **variables) == []


def test_a_text_browser_is_used_only_if_browser_names_it(shown):
    assert shown("lynx", "www-browser", "links", DISPLAY=":7") == []
    assert shown(BROWSER="lynx") == [f"lynx {shown.address}"]


@pytest.mark.parametrize("display", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_with_a_display_the_page_is_opened(shown, display):
    assert shown("lynx", "xdg-open", **{display: ":7"}) == [f"xdg-open {shown.address}"]


def test_the_browser_in_the_variable_is_preferred(shown):
    named = {"BROWSER": "/nowhere/browser:mine", "SSH_CONNECTION": "10.0.0.1 50000 10.0.0.2 22"}
    assert shown("mine", "xdg-open", "lynx", **named) == [f"mine {shown.address}"]


def test_a_missing_page_is_an_error_with_a_remedy(project):
    done = run_cli("open", "--source", "shop", cwd=project, BREWCAST_ROOT="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: products/shop is not built: `make run SOURCE=shop` builds it\n"


def test_publish_without_changes_says_so(toy, brewcast, monkeypatch):
    monkeypatch.setattr("brewcast.cli.is_build_complete", lambda *_: True)
    assert "near: nothing to publish: production already matches the products" in brewcast("publish").err


def test_a_user_error_is_one_line_and_status_one(toy, brewcast):
    replace_in_file(toy / "env.yaml", "wins: 7", "wins: seven")
    for command in ("why", "build", "clean --source far", "summary"):
        output = brewcast(command, fails=True)
        assert (output.status, output.out) == (1, "")
        assert output.err.startswith("error: ") and "Traceback" not in output.err and len(output.err.splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "month --through 2025-06-30",
        "month --through ''",
        "trace S1 2025-06-30",
        "replay --since 2025-6",
        "replay --through june",
    ],
)
def test_an_invalid_month_is_refused_before_anything_else(toy, brewcast, line):
    output = brewcast(line, fails=True)
    status = 4 if line.startswith("month") else 1  # of `brewcast month`, 1 means that it waits
    assert (output.status, output.out) == (status, "") and "is not a month; write it like 2012-10" in output.err


def test_a_port_in_use_is_an_error(toy, brewcast):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        output = brewcast(f"ui --port {port}", fails=True)
    assert (
        output.err == f"error: port {port} of 127.0.0.1 is in use: choose another with --port, or PORT=3001 with make\n"
    )
