"What a build leaves when it is stopped, fails or meets another, and what a user reads meanwhile."

import io
import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from building import stale_stages, start_build_to_last_stage
from conftest import ROOT, commands
from toy import BUILD, ENV, replace_in_file, resume_stages, started_stages
from waits import wait_until

from brewcast.workflow import executor, staleness
from brewcast.workflow.executor import Progress


def test_what_earlier_builds_left_is_upstream_and_the_build_key_is_not(toy, run):
    inputs = toy / "products/near/inputs.json"
    known = json.loads(inputs.read_text())
    assert known == {
        "archived_forecasts": [],
        "barred": [],
        "by_hand": None,
        "challenger": None,
        "build_key": staleness.build_key(toy, "near"),
        "champion": None,
        "known": None,
        "months": [],
    }
    # when a look at the state finds another champion, the stages that take `inputs` are stale
    (toy / "brewcast/common/ledger.py").write_text(
        "def resolve_inputs(source, root, key):\n"
        "    return {'champion': {'name': 'x'}, 'archived_forecasts': [], 'barred': []}\n"
        "def state_files(inputs):\n"
        "    return []\n"
    )
    told = run(BUILD).err
    assert started_stages(told) == ["judge"]
    assert json.loads(inputs.read_text())["champion"] == {"name": "x"}
    # and the same champion under another build key is no change
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    assert started_stages(run(BUILD).err) == ["look"]
    assert json.loads(inputs.read_text())["build_key"] != known["build_key"]


def test_with_nothing_changed_a_build_imports_neither_ploomber_nor_pandas_and_says_so(toy, run):
    assert "nothing to do" in run(BUILD).err  # Ploomber looks, as nothing was published
    (toy / "products/near/.seal").write_text(staleness.build_state_hash(toy, "near"))
    told = run(f"{sys.executable} -X importtime -m brewcast.cli build")
    assert "nothing to do: near is built" in told.err
    imported = {name.split(".")[0] for name in re.findall(r"(?m)^import time:.*\| +(\S+)$", told.err)}
    assert "brewcast" in imported and not imported & {"ploomber", "pandas"}
    # and another MLflow breaks it: nothing is to be built, but it has to follow
    with pytest.MonkeyPatch.context() as patched:
        before = staleness.build_state_hash(toy, "near")
        patched.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
        assert staleness.build_state_hash(toy, "near") != before and stale_stages(toy) == []
    assert staleness.build_state_hash(toy, "near") == before
    # and a product changed by hand breaks the seal
    (toy / "products/near/judge/out.txt").write_text("by hand")
    assert started_stages(run(BUILD).err) == ["judge"]


def test_a_failure_names_stage_cell_error_and_notebook_and_the_trap_is_closed(toy, brewcast):
    whole = (toy / "products/near/judge/out.txt").read_text()
    # given a stage that dies half-way with another parameter
    (toy / "env.yaml").write_text(ENV.replace("fails: false", "fails: true").replace("12]", "6]"))
    told = brewcast("build", fails=True).err
    assert "judge failed: ValueError: the stage was asked to fail" in told
    assert "cell 5 of 22_judge.ipynb" in told and "as far as it ran: products/near/failed/judge/judge.ipynb" in told
    # then its old products are back, the half-made ones lie beside
    assert (toy / "products/near/judge/out.txt").read_text() == whole
    assert (toy / "products/near/judge/judge.ipynb").exists()
    assert sorted(p.name for p in (toy / "products/near/failed/judge").iterdir() if p.suffix in (".ipynb", ".txt")) == [
        "judge.ipynb",
        "out.txt",
    ]
    assert (toy / "products/near/failed/judge/out.txt").read_text() == "half"
    assert "the stage was asked to fail" in (toy / "products/near/failed/judge/judge.ipynb").read_text()
    # when the parameter is changed back, stock Ploomber calls a half-written product up to date; here it is the old one
    (toy / "env.yaml").write_text(ENV)
    assert started_stages(brewcast("build").err) == ["clean"]
    assert (toy / "products/near/judge/out.txt").read_text() == whole
    assert stale_stages(toy) == []
    # and what comes after a failure is named
    replace_in_file(toy / "nbs/data/11_clean.ipynb", "str(twice(lags))", "str(1 / 0)")
    told = brewcast("build", fails=True).err
    assert "clean failed: ZeroDivisionError" in told and "not run because of that: judge" in told


def kernels_of(root: Path) -> list[int]:
    "Processes of a build's kernels, and the one that they are forked from."
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("BREWCAST_LOCK", "").startswith(str(root)):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_what_takes_a_while_in_a_stage_is_shown_by_its_build(toy):
    # given a stage that reads for as long as it is held, in a kernel
    reads = "from brewcast.common import progress; progress.FIRST_LINE_SECONDS = 0; progress.Step('reading till.csv').__enter__()"
    replace_in_file(toy / "nbs/model/22_judge.ipynb", "while held.exists():", f"{reads}\\n    while held.exists():")
    # when it runs / then whoever waits for the build reads it
    process, log = start_build_to_last_stage(toy), toy / "build.log"
    wait_until(lambda: re.search(r"^ {9}reading till.csv: \d+ s$", log.read_text(), re.M), "shown", process, log=log)
    resume_stages(toy)
    assert process.wait(120) == 0


def test_a_build_shows_what_its_stages_say_once_and_what_runs_when_they_say_nothing(tmp_path, monkeypatch):
    told = io.StringIO()
    progress = Progress(["ingest", "clean"], told, tmp_path)
    progress.begin("ingest")
    (tmp_path / "1-1").write_text("reading sales.csv: 20.0 of 80.0 MB, 5 s")
    progress.tick()
    progress.tick()
    (tmp_path / "1-1").write_text("reading sales.csv: 40.0 of 80.0 MB, 10 s")
    progress.tick()
    assert [line.strip() for line in told.getvalue().splitlines()[1:]] == [
        "reading sales.csv: 20.0 of 80.0 MB, 5 s",
        "reading sales.csv: 40.0 of 80.0 MB, 10 s",
    ]
    (tmp_path / "1-1").unlink()
    monkeypatch.setattr(executor, "MAX_SILENT_SECONDS", 0)
    progress.tick()
    assert re.fullmatch(r" {9}ingest \d+ s", told.getvalue().splitlines()[-1])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_build_that_is_stopped_leaves_no_kernel_and_is_healed_by_the_next(toy, brewcast, how):
    process = start_build_to_last_stage(toy)
    assert kernels_of(toy)
    process.send_signal(how)
    assert process.wait(120) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    if how != signal.SIGKILL:
        assert kernels_of(toy) == []
        assert "not run to the end: judge" in (toy / "build.log").read_text()
    resume_stages(toy)
    assert started_stages(brewcast("build").err) == ["judge"]
    assert kernels_of(toy) == []
    assert (toy / "products/near/judge/out.txt").read_text() == "whole"
    assert not (toy / "state/near/.lock.holder").exists()


def test_to_stop_make_stops_its_build(toy):
    shutil.copy(ROOT / "Makefile", toy)
    (toy / ".venv").symlink_to(ROOT / ".venv")
    make = start_build_to_last_stage(
        toy, ["make", "-o", ".venv/ready", "build", "SOURCE=near"]
    )  # the environment is that of these tests
    make.terminate()  # make alone: it tells what it has started
    assert make.wait(120) != 0
    wait_until(lambda: kernels_of(toy) == [], "ended with its kernels")
    assert "not run to the end: judge" in (toy / "build.log").read_text()


def test_an_unknown_source_is_told_which_there_are(toy, run):
    told = run(f"{BUILD} --source fra", fails=True).err
    assert (
        told.strip() == "error: no source is called 'fra': there are near; a new one needs sql/fra.sql and env.fra.yaml"
    )


def test_another_source_keeps_what_it_does_not_change(toy, brewcast):
    (toy / "env.far.yaml").write_text("meta: {import_from: env.yaml}\nsource: far\ngate: {wins: 3}\n")
    brewcast("build --source far")
    assert (toy / "products/far/look/out.txt").read_text() == "3"
    assert stale_stages(toy) == []
    assert staleness.build_key(toy, "far") != staleness.build_key(toy, "near")


def test_a_module_edited_by_hand_is_not_overwritten(toy):
    # given notebooks and modules in step
    for name in ["nbs", "brewcast"]:
        shutil.rmtree(toy / name)
        shutil.copytree(ROOT / name, toy / name)
    environment = commands(toy)
    command = f"{sys.executable} -m brewcast.cli export"
    environment(command)
    assert "every module is in step" in environment(command).out
    # when a module is edited by hand, then it is kept and the way out is named
    module = toy / "brewcast/common/hashing.py"
    text = module.read_text() + "\nextra = 1\n"
    module.write_text(text)
    told = environment(command, fails=True).err
    assert "brewcast/common/hashing.py was edited" in told and "nbdev_update" in told
    assert module.read_text() == text
    # and when a notebook is edited, its module follows
    module.write_text(text.removesuffix("\nextra = 1\n"))
    replace_in_file(toy / "nbs/common/hashing.ipynb", "def sha256(", "def sha_256(")
    assert environment(command).out == "common/hashing.ipynb\n"
    assert "def sha_256(" in module.read_text()
