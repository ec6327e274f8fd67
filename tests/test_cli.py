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
    build_summary,
    copy_release,
    export_statements,
    last_built_source,
    main,
    prepare_data,
    release_command,
    staleness_report,
)
from brewcast.common.records import (
    BetterBaseline,
    Decision,
    DecisionFigures,
    Evidence,
    Finding,
    IntervalSummary,
    ModelErrors,
    Recipe,
    Verdict,
)
from brewcast.workflow.reasons import Reason

CLI = [sys.executable, "-m", "brewcast.cli"]
HELP = {info.name: info.help for info in app.registered_commands}


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
    assert len(HELP) == 28 and all(HELP.values())


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "Missing command."),
        (["biuld"], "No such command 'biuld'. Did you mean 'build'?"),
        (["why", "--jsn"], "No such option: --jsn (Possible options: --json)"),
        (["lab", "--no-browser"], "No such option: --no-browser"),
        (["split"], "Missing argument 'PERCENT'."),
        (["split", "half"], "Invalid value for 'PERCENT': 'half' is not a percentage"),
        (["prune", "--keep", "all"], "Invalid value for '--keep': Input should be a valid integer"),
        (["publish", "train.seed=1"], "Got unexpected extra argument(s) (train.seed=1)"),
        *(
            (["ui", "--port", port], f"Invalid value for '--port': '{port}' is not a port number")
            for port in ("80000", "0", "abc", "-1", "")
        ),
    ],
)
def test_wrong_arguments_are_refused_with_the_usage(line, message, capsys):
    assert main(line) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Usage: brewcast" in output.err and message in output.err and "Traceback" not in output.err


def parsed(*line: str) -> dict:
    "The arguments of a command line that is parsed, and not run."
    return app(line, standalone_mode=False).arguments


def test_a_share_may_have_a_percent_sign():
    assert [parsed("split", text)["share"] for text in ("10", "10%", "2.5%")] == [10, 10, 2.5]


def test_overrides_may_stand_before_and_after_options():
    for line in ("train.seed=1 gate.wins=2 --source far", "--source far train.seed=1 gate.wins=2"):
        arguments = parsed("build", *line.split())
        assert arguments == {"source": "far", "overrides": ["train.seed=1", "gate.wins=2"]}
    assert list(parsed("build")["overrides"]) == []


def test_what_stands_after_two_hyphens_is_for_jupyterlab():
    arguments = parsed("lab", "--port", "8890", "--", "--no-browser", "--version", "notes.ipynb")
    assert (arguments["port"], arguments["arguments"]) == (8890, ["--no-browser", "--version", "notes.ipynb"])
    assert (parsed("lab")["port"], list(parsed("lab")["arguments"])) == (None, [])


def test_a_path_is_absolute_since_the_command_runs_in_the_projects_folder_and_an_empty_one_stays_empty():
    for line in (["run", "--data"], ["verify", "--keep"], ["trace", "--picture"], ["backup", "--to"]):
        name = line[1].removeprefix("--")
        assert parsed(*line, "~/a")[name] == os.path.expanduser("~/a")
        assert parsed(*line, "a/../b")[name] == os.path.abspath("b")
        assert parsed(*line, "")[name] == "" and parsed(line[0])[name] is None


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


def test_existing_data_is_never_replaced_by_a_link(project, tmp_path):
    (project / "data/shop").mkdir(parents=True)
    (project / "data/shop/till.csv").write_text("the only copy")
    with pytest.raises(FileExistsError, match="data/shop exists and is not a link: move it, or leave DATA out"):
        prepare_data(project, "shop", str(tmp_path))
    assert (project / "data/shop/till.csv").read_text() == "the only copy"
    # and naming the same path again changes nothing
    assert prepare_data(project, "shop", str(project / "data/shop")) == project / "data/shop"


def test_missing_data_is_an_error_with_a_remedy(project, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="data/shop is missing: `make run SOURCE=shop DATA=<its folder>` links it"
    ):
        prepare_data(project, "shop")
    with pytest.raises(FileNotFoundError, match="DATA=/nonexistent: there is no such file or folder"):
        prepare_data(project, "shop", "/nonexistent")
    assert not (project / "data/shop").is_symlink()


def test_the_current_release_is_copied_completely_and_removed_without_a_current_one(project):
    # given two releases; the second has one file less
    state = project / "state/shop"
    for name, files in {"r1": ["release.json", "rows.npz"], "r2": ["release.json"]}.items():
        (state / "releases" / name).mkdir(parents=True)
        for file in files:
            (state / "releases" / name / file).write_text(name)
    copied = lambda: {path.name: path.read_text() for path in (project / "release").iterdir()}  # noqa: E731
    # when one is current, then it is copied; `current` may be a link or a file with its name
    (state / "current").symlink_to("releases/r1")
    assert copy_release(project, "shop") == "r1" and copied() == {"release.json": "r1", "rows.npz": "r1"}
    (state / "current").unlink()
    (state / "current").write_text("r2\n")
    assert copy_release(project, "shop") == "r2" and copied() == {"release.json": "r2"}
    # and when none is current, there is no copy and no temporary folder
    (state / "current").unlink()
    assert copy_release(project, "shop") is None
    assert not (project / "release").exists() and not list(project.glob(".release*"))


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


def test_the_source_of_the_last_build_is_the_one_with_the_newest_inputs(project):
    assert last_built_source(project) is None
    (project / "env.far.yaml").write_text("source: far\ndata: data/far\n")
    for number, source in enumerate(["shop", "far", "a source without a file"]):
        (project / "products" / source).mkdir(parents=True)
        (project / "products" / source / "inputs.json").touch()
        os.utime(project / "products" / source / "inputs.json", (number, number))
    assert last_built_source(project) == "far"
    os.utime(project / "products/shop/inputs.json", (9, 9))
    assert last_built_source(project) == "shop"


def toy_errors(wape: float | None) -> ModelErrors:
    "The scores of a model; only the WAPE matters here."
    return ModelErrors(wape=wape, rmsse=None, bias=None, coverage=None, interval=None, n=1)


def toy_verdict(**fields) -> Verdict:
    "A verdict of the gate, with these fields."
    recipe = Recipe(name="forest", params={})
    evidence = Evidence(gain=0, p_value=1, months_won=0, months=1, wape_candidate=0.1, wape_champion=0.1, groups=[])
    intervals = dict.fromkeys(["coverage", "interval", "constant_coverage", "constant_interval"])
    tables = dict.fromkeys(["by_month", "by_country", "by_size", "bias"], [])
    others = {
        "promoted": False,
        "rule": "min_gain",
        "figures": evidence,
        "recipe": recipe,
        "candidate": recipe,
        "champion": recipe,
        "challenger": None,
        "better_baseline": None,
        "errors": {},
        "first_champion": False,
        "coverage_asked": 0.8,
        "intervals": IntervalSummary(asked=0.8, by_group={}, **intervals),
    }
    return Verdict(**tables | others | fields)


def toy_finding(level: str, text: str) -> Finding:
    return Finding(check="price_scale", level=level, where="all stores", text=text, figures={"month": "2024-05"})


def toy_decision(**fields) -> Decision:
    "A decision not to train, because of the data."
    figures = DecisionFigures(age=1, alarm="", chart="", moved=None, every=None, max_age=None, on_drift=True)
    others = {"rule": "bad_data", "reason": "the data is not trusted", "trusted": False, "figures": figures}
    return Decision(retrain=False, train_through="2024-04-01", **others | fields)


def test_a_summary_has_the_results_of_the_products_and_needs_them(project):
    # given no products, then the error names the command that builds them
    with pytest.raises(FileNotFoundError, match="products/shop is not built: `make run SOURCE=shop` builds it"):
        build_summary(project, "shop")
    # given the products of a build, with one unknown error
    errors = {name: toy_errors(wape) for name, wape in [("candidate", 0.0512), ("season", None), ("champion", 0.04)]}
    cutoffs = ["2024-04-30", "2024-05-31"]
    verdict = toy_verdict(verdict="refuse", reason="it is no better", errors=errors, cutoffs=cutoffs)
    for name, content in {
        "ingest/dataset.json": {"rows_in": 12345, "rows_set_aside": 6},
        "clean/clean.json": {"incomplete_months": {"2024-06": "ends on the 3rd"}, "gaps": {"2024-02": "no store has"}},
        "evaluate/verdict.json": verdict.content(),
        "features/features.json": {"unlisted_countries": {"Norway": '"Norway": "NO"'}},
    }.items():
        (project / "products/shop" / name).parent.mkdir(parents=True)
        (project / "products/shop" / name).write_text(json.dumps(content))
    (project / "products/shop/forecast").mkdir()
    rows = ["store_id,month,kind", "S0,2024-06-01,none", "S1,2024-06-01,forecast", "S2,2024-06-01,forecast"]
    (project / "products/shop/forecast/forecast.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    # then it is half a screen, the best model first
    output = build_summary(project, "shop").splitlines()
    assert output[:2] == ["shop: 12,345 rows accepted, 6 quarantined", "left out  2024-02: no store has"]
    assert output[2] == "left out  2024-06: ends on the 3rd"
    assert output.pop(3) == 'holidays  unknown for Norway: add "Norway": "NO" to calendar.countries'
    assert [line.split() for line in output[5:8]] == [
        ["champion", "0.0400"],
        ["candidate", "0.0512"],
        ["season", "unknown"],
    ]
    assert output[9:12] == [
        "verdict   refuse: it is no better",
        "forecast  2024-06, 2 stores; 1 without a forecast (reasons in forecast.csv)",
        "serves    make serve SOURCE=shop",
    ]
    assert output[-1] == f"page      file://{project}/products/shop/forecast/month.html" and len(output) < 20


def test_a_summary_of_one_store_and_one_month_has_no_plurals_and_names_the_baseline_that_is_better(project):
    # given a source of one store and one row, whose champion a baseline beats
    better = BetterBaseline(
        baseline="seasonal",
        said="seasonal, a baseline, was better",
        gate="refuse: too little",
        settings="train.weights=[0]",
    )
    verdict = toy_verdict(verdict="first", reason="no champion", cutoffs=["2024-05-31"], better_baseline=better)
    for name, content in {
        "ingest/dataset.json": {"rows_in": 1, "rows_set_aside": 0},
        "clean/clean.json": {"incomplete_months": {}},
        "evaluate/verdict.json": verdict.content(),
        "forecast/forecast.csv": None,
    }.items():
        (project / "products/shop" / name).parent.mkdir(parents=True)
        text = json.dumps(content) if content else "store_id,month,kind\nS1,2024-06-01,forecast\n"
        (project / "products/shop" / name).write_text(text)
    # then all nouns are in the singular, and the command names the source
    output = build_summary(project, "shop").splitlines()
    assert output[0] == "shop: 1 row accepted, 0 quarantined"
    assert output[2] == "error one month ahead, over 1 cutoff (WAPE, share of sales)"
    assert output[4:8] == [
        "verdict   first: no champion",
        "baseline  seasonal, a baseline, was better",
        "          the gate's verdict would be refuse: too little; `make run SOURCE=shop train.weights=[0]` makes it the candidate",
        "forecast  2024-06, 1 store",
    ]


def test_the_summary_of_a_stopped_month_says_so_first_and_has_no_quantities(project):
    # given a build whose data was stopped
    stop = toy_finding("stop", "2024-05: price: 100 times what it was. Mend the export")
    decision = toy_decision(findings=[stop, toy_finding("warn", "fewer lines")])
    for name in ("ingest/dataset.json", "clean/clean.json", "evaluate/verdict.json", "monitor/decision.json"):
        (project / "products/shop" / name).parent.mkdir(parents=True)
        (project / "products/shop" / name).write_text(json.dumps(decision.content() if "decision" in name else {}))
    (project / "products/shop/forecast").mkdir()
    rows = ["store_id,month,kind,quantity", "S1,2024-05-01,actual,812", "S1,2024-06-01,stopped,"]
    (project / "products/shop/forecast/forecast.csv").write_text("\n".join(rows) + "\n")
    # then the first line says so, the reason follows, and warnings are left out
    output = build_summary(project, "shop")
    assert output.splitlines()[0].startswith("shop: STOPPED. THERE IS NO FORECAST FOR 2024-06: ")
    assert "stopped   2024-05: price: 100 times what it was. Mend the export" in output
    assert "fewer lines" not in output and "812" not in output and "verdict" not in output
    assert output.endswith(f"page      file://{project}/products/shop/forecast/month.html")


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
