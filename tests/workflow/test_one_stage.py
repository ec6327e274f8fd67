"One stage alone: it reads the products of the last build, with checked parameters, and changes none of them."

import json
import shutil
from pathlib import Path

import pytest
from building import stale_stages
from conftest import ROOT, commands
from toy import replace_in_file

from brewcast.common.params import parameters_by_stage, read_env, read_stages
from brewcast.workflow.one_stage import check_stage_parameters


def files(root: Path) -> dict:
    "The bytes of all files in products/ and state/."
    paths = [path for name in ("products", "state") for path in (root / name).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if ".lock" not in path.name}


def test_a_stage_runs_alone_with_its_parameters_and_changes_no_build(toy, brewcast):
    before = files(toy)
    # when one stage is run, with another parameter
    output = brewcast("run --only look gate.wins=9").out
    # then it read the products of the build, and its own products are in scratch, with the executed notebook
    folder = toy / "scratch/near/look"
    assert (folder / "out.txt").read_text() == "9"
    assert output == "scratch/near/look: look.ipynb, out.txt\n"
    executed = json.loads((folder / "look.ipynb").read_text())["cells"]
    assert f"{toy}/products/near/ingest/out.txt" in json.dumps(executed)
    # and no file of the build has changed, and nothing is stale
    assert files(toy) == before and stale_stages(toy) == []
    # and the next run starts with an empty folder, and with the parameters of the files
    (folder / "leftover").touch()
    brewcast("run --only look")
    assert (folder / "out.txt").read_text() == "7" and not (folder / "leftover").exists()


def test_a_wrong_stage_or_parameter_is_refused_before_anything_runs(toy, brewcast):
    for line, message in {
        "run --only loko": "error: no stage is called 'loko': did you mean look? the stages are ingest, clean, look, judge\n",
        "run --only ''": "error: no stage is called '': the stages are ingest, clean, look, judge\n",
        "run --only look gate.win=1": "error: gate.win is not a parameter: did you mean gate.wins?\n",
        "run --only look gate.gain=0.1": "error: look does not take gate.gain (judge does); look takes gate.wins\n",
        "run --only look gate.wins=many": "error: the command line: gate.wins is 'many', but must be a value like 7\n",
        "run --only look --data data/near": "error: look does not read DATA: it reads the products of earlier stages\n",
    }.items():
        assert brewcast(line, fails=True).err == message
    assert not (toy / "scratch/near").exists()


def test_a_missing_input_is_named_with_the_command_that_makes_it(toy, brewcast):
    (toy / "products/near/clean/out.txt").unlink()
    (toy / "products/near/inputs.json").unlink()
    message = brewcast("run --only judge", fails=True).err.splitlines()[-1]
    missing = "products/near/inputs.json, products/near/clean/out.txt"
    assert message == f"error: judge reads {missing}, which are missing: run `make run SOURCE=near` first"
    # and a stage that needs neither file runs
    brewcast("run --only look")
    # and if the data is missing, the message is the same as in a build
    shutil.rmtree(toy / "data/near")
    assert (
        "data/near is missing: `make run SOURCE=near DATA=<its folder>`"
        in brewcast("run --only ingest", fails=True).err
    )


def test_the_message_of_a_failed_stage_names_the_cell_and_the_executed_notebook(toy, brewcast):
    replace_in_file(toy / "nbs/data/12_look.ipynb", "str(wins)", "str(1 / 0)")
    message = brewcast("run --only look", fails=True).err
    assert "look failed: ZeroDivisionError: division by zero\n  in cell 5 of 12_look.ipynb" in message
    assert message.endswith("partly executed notebook: scratch/near/look/look.ipynb\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("make build DATA=x", "DATA=x is only for `make run` `make month`"),
        ("make build ONLY=look", "ONLY=look is only for `make run`"),
        ("make run THROUGH=2025-06", "THROUGH=2025-06 is only for `make month` `make replay`"),
        ("make run PORT=3001", "PORT=3001 is only for `make serve` `make ui` `make lab`"),
        ("make DATA=x", "DATA=x is only for"),
        ("make lab PORT=80000", "'80000' is not a port number"),
    ],
)
def test_make_refuses_a_setting_that_a_target_does_not_take(line, message):
    assert message in commands(ROOT)(f"{line} --old-file=.venv/ready", fails=True).err


def test_every_stage_takes_its_own_parameters():
    accepted = parameters_by_stage(ROOT)
    assert list(accepted) == list(read_stages(ROOT, read_env(ROOT)))
    assert "train.seed" in accepted["train"] and "train.seed" not in accepted["features"]
    for stage, names in accepted.items():
        check_stage_parameters(stage, [f"{name}=1" for name in names], accepted)
