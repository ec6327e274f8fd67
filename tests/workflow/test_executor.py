"What a build leaves after a stop or a failure, and what it prints while it runs."

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from building import stale_stages, start_build_to_last_stage
from conftest import ROOT, commands
from toy import BUILD, ENV, replace_in_file, resume_stages, start_build, started_stages
from waits import restore_stop_signals, wait_until

from brewcast.workflow import staleness


def test_a_change_of_the_state_makes_a_stage_stale_and_another_build_key_does_not(toy, run):
    inputs = toy / "products/near/inputs.json"
    before = json.loads(inputs.read_text())
    assert before == {
        "archived_forecasts": [],
        "barred": [],
        "by_hand": None,
        "challenger": None,
        "build_key": staleness.build_key(toy, "near"),
        "champion": None,
        "known": None,
        "months": [],
    }
    champion = {"recipe": {"name": "x", "params": {}}, "release": "r1"}
    champion |= {"train_through": "2024-04-01", "cutoff": "2024-05-31"}
    # when the state has another champion, the stages with the parameter `inputs` are stale
    (toy / "brewcast/common/ledger.py").write_text(
        "from brewcast.common.records import ServingModel, StateInputs\n"
        f"CHAMPION = ServingModel.model_validate({champion})\n"
        "def resolve_inputs(source, root, key):\n"
        "    return StateInputs(champion=CHAMPION, archived_forecasts=[], barred=[])\n"
        "def state_files(inputs):\n"
        "    return []\n"
    )
    assert started_stages(run(BUILD).err) == ["judge"]
    assert json.loads(inputs.read_text())["champion"] == champion
    # and the same champion under another build key is no change
    (toy / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8"))
    assert started_stages(run(BUILD).err) == ["look"]
    assert json.loads(inputs.read_text())["build_key"] != before["build_key"]


def test_a_build_with_nothing_to_do_says_so_and_imports_neither_ploomber_nor_pandas(toy, run):
    assert "nothing to do" in run(BUILD).err  # nothing is published yet, so the stages are checked
    (toy / "products/near/.seal").write_text(staleness.build_state_hash(toy, "near"))
    output = run(f"{sys.executable} -X importtime -m brewcast.cli build").err
    assert "nothing to do: near is up to date" in output
    imported = {name.split(".")[0] for name in re.findall(r"(?m)^import time:.*\| +(\S+)$", output)}
    assert "brewcast" in imported and not imported & {"ploomber", "pandas"}
    # and another MLflow server changes the hash: nothing has to be built, but the server has to catch up
    with pytest.MonkeyPatch.context() as patched:
        before = staleness.build_state_hash(toy, "near")
        patched.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
        assert staleness.build_state_hash(toy, "near") != before and stale_stages(toy) == []
    assert staleness.build_state_hash(toy, "near") == before
    # and a product changed by hand is built again
    (toy / "products/near/judge/out.txt").write_text("by hand")
    assert started_stages(run(BUILD).err) == ["judge"]


def test_damaged_inputs_are_written_again_although_no_stage_is_stale(toy, run):
    inputs = toy / "products/near/inputs.json"
    before = inputs.read_text()
    for damage in ("", "{", "[1]", before.replace("champion", "chmpion")):
        inputs.write_text(damage)
        assert "nothing to do" in run(BUILD).err and inputs.read_text() == before


def test_a_failure_names_stage_cell_error_and_notebook_and_the_old_products_come_back(toy, brewcast):
    complete = (toy / "products/near/judge/out.txt").read_text()
    # given a stage that fails with half of its product written, and with another parameter
    (toy / "env.yaml").write_text(ENV.replace("fails: false", "fails: true").replace("12]", "6]"))
    output = brewcast("build", fails=True).err
    assert "judge failed: ValueError: parameter fails is set" in output
    assert "cell 5 of 22_judge.ipynb" in output
    assert "partly executed notebook: products/near/failed/judge/judge.ipynb" in output
    # then its old products are back, and the incomplete ones are in failed/
    assert (toy / "products/near/judge/out.txt").read_text() == complete
    assert (toy / "products/near/judge/judge.ipynb").exists()
    assert sorted(p.name for p in (toy / "products/near/failed/judge").iterdir() if p.suffix in (".ipynb", ".txt")) == [
        "judge.ipynb",
        "out.txt",
    ]
    assert (toy / "products/near/failed/judge/out.txt").read_text() == "half"
    assert "parameter fails is set" in (toy / "products/near/failed/judge/judge.ipynb").read_text()
    # when the parameter is changed back, then the product is the old one; Ploomber alone would keep the incomplete one
    (toy / "env.yaml").write_text(ENV)
    assert started_stages(brewcast("build").err) == ["clean"]
    assert (toy / "products/near/judge/out.txt").read_text() == complete
    assert stale_stages(toy) == []
    # and the stages that could not run after a failure are named
    replace_in_file(toy / "nbs/data/11_clean.ipynb", "str(twice(lags))", "str(1 / 0)")
    output = brewcast("build", fails=True).err
    assert "clean failed: ZeroDivisionError" in output and "not run because of this failure: judge" in output


def kernels_of(root: Path) -> list[int]:
    "The process ids of a build's kernels and of its warm process."
    import psutil

    pids = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("BREWCAST_LOCK", "").startswith(str(root)):
                pids.append(process.pid)
        except psutil.Error:
            continue
    return pids


def test_a_build_shows_a_slow_step_of_a_stage(toy):
    # given a stage that reads a file until it is resumed
    reads = "from brewcast.common import progress; progress.FIRST_LINE_SECONDS = 0; progress.Step('reading till.csv').__enter__()"
    replace_in_file(toy / "nbs/model/22_judge.ipynb", "while pause.exists():", f"{reads}\\n    while pause.exists():")
    # when it runs, then the build shows the step
    process, log = start_build_to_last_stage(toy), toy / "build.log"
    wait_until(lambda: re.search(r"^ {9}reading till.csv: \d+ s$", log.read_text(), re.M), "shown", process, log=log)
    resume_stages(toy)
    assert process.wait(120) == 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_build_leaves_no_kernel_and_the_next_one_finishes_its_work(toy, brewcast, stop):
    process = start_build_to_last_stage(toy)
    assert kernels_of(toy)
    process.send_signal(stop)
    assert process.wait(120) == (-signal.SIGKILL if stop == signal.SIGKILL else 130)
    if stop != signal.SIGKILL:
        assert kernels_of(toy) == []
        assert "not finished: judge" in (toy / "build.log").read_text()
    resume_stages(toy)
    assert started_stages(brewcast("build").err) == ["judge"]
    assert kernels_of(toy) == []
    assert (toy / "products/near/judge/out.txt").read_text() == "whole"
    assert not (toy / "state/near/.lock.holder").exists()


def test_stopping_make_stops_its_build(toy):
    shutil.copy(ROOT / "Makefile", toy)
    (toy / ".venv").symlink_to(ROOT / ".venv")
    make = start_build_to_last_stage(
        toy, ["make", "-o", ".venv/ready", "build", "SOURCE=near"]
    )  # do not set up the environment
    make.terminate()  # only make gets the signal, and passes it on to the build
    assert make.wait(120) != 0
    wait_until(lambda: kernels_of(toy) == [], "ended with its kernels")
    assert "not finished: judge" in (toy / "build.log").read_text()


def test_the_message_about_an_unknown_source_names_the_sources(toy, run):
    output = run(f"{BUILD} --source fra", fails=True).err
    assert (
        output.strip()
        == "error: no source is called 'fra': there are near; a new one needs sql/fra.sql and env.fra.yaml"
    )


def test_another_source_inherits_the_parameters_that_it_does_not_change(toy, brewcast):
    (toy / "env.far.yaml").write_text("meta: {import_from: env.yaml}\nsource: far\ngate: {wins: 3}\n")
    brewcast("build --source far")
    assert (toy / "products/far/look/out.txt").read_text() == "3"
    assert stale_stages(toy) == []
    assert staleness.build_key(toy, "far") != staleness.build_key(toy, "near")


def test_a_module_edited_by_hand_is_not_overwritten(toy):
    # given modules that are exported from their notebooks
    for name in ["nbs", "brewcast"]:
        shutil.rmtree(toy / name)
        shutil.copytree(ROOT / name, toy / name)
    for name in ["pipeline.yaml", "env.yaml"]:  # which name these notebooks
        shutil.copy2(ROOT / name, toy / name)
    run_in_toy = commands(toy)
    command = f"{sys.executable} -m brewcast.cli export"
    run_in_toy(command)
    assert "every module matches its notebook" in run_in_toy(command).out
    # when a module is edited by hand, then it is kept and the message has the remedy
    module = toy / "brewcast/common/hashing.py"
    text = module.read_text() + "\nextra = 1\n"
    module.write_text(text)
    output = run_in_toy(command, fails=True).err
    assert "brewcast/common/hashing.py was edited" in output and "nbdev_update" in output
    assert module.read_text() == text
    # and when a notebook is edited, its module is exported
    module.write_text(text.removesuffix("\nextra = 1\n"))
    replace_in_file(toy / "nbs/common/hashing.ipynb", "def sha256(", "def sha_256(")
    assert run_in_toy(command).out == "common/hashing.ipynb\n"
    assert "def sha_256(" in module.read_text()


# --- temporary failures

RETRY = "fails: false\nretries: {limit: 1, wait: 0.1}"


def fail_in(root: Path, stage: str, notebook: str, n: int, error: str) -> None:
    "Let a stage raise an error in its first `n` runs. Each run adds a line to the file `runs`."
    code = (
        f"open('runs', 'a').write('{stage} ')\\n"
        f"if open('runs').read().count('{stage}') <= {n}:\\n"
        f"    Path(product['out']).write_text('half')\\n"
        f"    {error}\\n"
    )
    replace_in_file(root / "nbs" / notebook, "# the run\\n", f"# the run\\n{code}")


def test_a_stage_that_fails_for_a_while_only_runs_again_and_ends_in_the_same_bytes(toy, brewcast):
    executed = "products/near/clean/clean.ipynb"
    fail_in(toy, "clean", "data/11_clean.ipynb", 1, "raise ConnectionRefusedError('no server')")
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]").replace("fails: false", RETRY))
    # when its first run finds no server, then the second one makes the products, and the build goes on
    done = brewcast("build")
    assert re.search(r"(?m)^ +clean: no server: a temporary failure, again in 0.1 s \(retry 1 of 1\)$", done.err)
    assert (toy / "runs").read_text() == "clean clean "
    assert (toy / "products/near/clean/out.txt").read_text() == "[1, 6, 1, 6]"
    assert stale_stages(toy) == [] and not (toy / "products/near/failed").exists()
    # and nothing of it is left in the executed notebook: the same without a failure gives the same cells
    cells = json.loads((toy / executed).read_text())["cells"]
    outputs = [cell.get("outputs") for cell in cells]
    (toy / "products/near/clean/out.txt").unlink()
    assert started_stages(brewcast("build").err) == ["clean"]
    assert [cell.get("outputs") for cell in json.loads((toy / executed).read_text())["cells"]] == outputs
    assert "temporary" not in (toy / executed).read_text()


def test_what_a_retry_does_not_mend_ends_with_75_and_the_old_products(toy, brewcast):
    fail_in(toy, "clean", "data/11_clean.ipynb", 9, "raise TimeoutError('the lock is held')")
    (toy / "env.yaml").write_text(ENV.replace("fails: false", RETRY))
    before = (toy / "products/near/clean/out.txt").read_text()
    done = brewcast("build", fails=True)
    assert done.status == 75 and "a temporary failure: the same command may succeed later" in done.err
    assert (toy / "runs").read_text() == "clean clean "
    assert (toy / "products/near/clean/out.txt").read_text() == before
    assert "This failure is temporary" in (toy / "products/near/failed/clean/clean.ipynb").read_text()
    # and without retries it ends at once, as a stage does that runs alone
    assert brewcast("build retries.limit=0", fails=True).status == 75
    assert brewcast("run --only clean", fails=True).status == 75
    assert (toy / "runs").read_text() == "clean " * 4


def test_a_bug_is_not_tried_again_even_beside_a_temporary_failure(toy, brewcast):
    fail_in(toy, "clean", "data/11_clean.ipynb", 9, "raise ValueError('bad data')")
    fail_in(toy, "look", "data/12_look.ipynb", 9, "raise ConnectionError('no server')")
    (toy / "env.yaml").write_text(ENV.replace("fails: false", RETRY))
    done = brewcast("build", fails=True)
    assert done.status == 1 and "clean failed: ValueError: bad data" in done.err
    runs = (toy / "runs").read_text().split()
    assert (runs.count("clean"), runs.count("look")) == (1, 2)
    assert brewcast("run --only clean", fails=True).status == 1


def test_a_kernel_that_the_system_kills_is_not_tried_again(toy, brewcast):
    fail_in(toy, "clean", "data/11_clean.ipynb", 9, "import os; os.kill(os.getpid(), 9)")
    (toy / "env.yaml").write_text(ENV.replace("fails: false", RETRY))
    assert brewcast("build", fails=True).status == 1
    assert (toy / "runs").read_text() == "clean "


def test_a_build_is_stopped_at_once_while_a_stage_waits_for_its_next_try(toy):
    fail_in(toy, "clean", "data/11_clean.ipynb", 9, "raise ConnectionError('no server')")
    (toy / "env.yaml").write_text(ENV.replace("fails: false", RETRY.replace("0.1", "3600")))
    before = (toy / "products/near/clean/out.txt").read_text()
    process, log = start_build(toy, toy / "build.log", preexec_fn=restore_stop_signals), toy / "build.log"
    wait_until(lambda: "again in 3600 s" in log.read_text(), "waiting", process, log=log)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert (toy / "products/near/clean/out.txt").read_text() == before
    assert "not finished: clean" in log.read_text() and kernels_of(toy) == []
