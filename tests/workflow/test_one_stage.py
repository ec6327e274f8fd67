"One stage alone: it takes what the last build left, with checked parameters, and changes nothing of a build."

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
    "What builds have left."
    paths = [path for name in ("products", "state") for path in (root / name).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if ".lock" not in path.name}


def test_a_stage_runs_alone_with_its_parameters_and_no_build_is_changed(toy, brewcast):
    before = files(toy)
    # when one stage is run, with another parameter
    told = brewcast("run --only look gate.wins=9")
    # then it took what the build left, and what it made lies in scratch, with the executed notebook
    place = toy / "scratch/near/look"
    assert (place / "out.txt").read_text() == "9"
    assert told.out == "scratch/near/look: look.ipynb, out.txt\n"
    executed = json.loads((place / "look.ipynb").read_text())["cells"]
    assert f"{toy}/products/near/ingest/out.txt" in json.dumps(executed)
    # and no build has changed, nor is anything stale
    assert files(toy) == before and stale_stages(toy) == []
    # and the next one begins anew, with the parameters of the files
    (place / "left").touch()
    brewcast("run --only look")
    assert (place / "out.txt").read_text() == "7" and not (place / "left").exists()


def test_what_the_stage_does_not_take_is_refused_before_anything_runs(toy, brewcast):
    for line, told in {
        "run --only loko": "error: no stage is called 'loko': did you mean look? there are ingest, clean, look, judge\n",
        "run --only ''": "error: no stage is called '': there are ingest, clean, look, judge\n",
        "run --only look gate.win=1": "error: gate.win is no parameter: did you mean gate.wins?\n",
        "run --only look gate.gain=0.1": "error: look does not take gate.gain; judge does: it takes gate.wins\n",
        "run --only look gate.wins=many": "error: the command line: gate.wins is 'many', where a value like 7 is taken\n",
        "run --only look --data data/near": "error: look reads no DATA: it takes what the stages before it left\n",
    }.items():
        assert brewcast(line, fails=True).err == told
    assert not (toy / "scratch/near").exists()


def test_what_is_missing_is_named_with_what_makes_it(toy, brewcast):
    (toy / "products/near/clean/out.txt").unlink()
    (toy / "products/near/inputs.json").unlink()
    told = brewcast("run --only judge", fails=True).err.splitlines()[-1]
    missing = "products/near/inputs.json, products/near/clean/out.txt"
    assert told == f"error: judge takes {missing}, not there yet: `make run SOURCE=near` makes it"
    # and a stage that needs neither runs
    brewcast("run --only look")
    # and where the data is gone, that is said as in a build
    shutil.rmtree(toy / "data/near")
    assert (
        "data/near is missing: `make run SOURCE=near DATA=<its folder>`"
        in brewcast("run --only ingest", fails=True).err
    )


def test_a_stage_that_fails_alone_names_the_cell_and_how_far_it_ran(toy, brewcast):
    replace_in_file(toy / "nbs/data/12_look.ipynb", "str(wins)", "str(1 / 0)")
    told = brewcast("run --only look", fails=True).err
    assert "look failed: ZeroDivisionError: division by zero\n  in cell 5 of 12_look.ipynb" in told
    assert told.endswith("as far as it ran: scratch/near/look/look.ipynb\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("make build DATA=x", "DATA=x is taken by `make run` `make month` only"),
        ("make build ONLY=look", "ONLY=look is taken by `make run` only"),
        ("make run THROUGH=2025-06", "THROUGH=2025-06 is taken by `make month` `make replay` only"),
        ("make run PORT=3001", "PORT=3001 is taken by `make serve` `make ui` `make lab` only"),
        ("make DATA=x", "DATA=x is taken by"),
        ("make lab PORT=80000", "'80000' is no port"),
    ],
)
def test_make_refuses_what_a_target_does_not_take(line, told):
    assert told in commands(ROOT)(f"{line} --old-file=.venv/ready", fails=True).err


def test_every_parameter_is_taken_by_a_stage():
    taken = parameters_by_stage(ROOT)
    assert list(taken) == list(read_stages(ROOT, read_env(ROOT)))
    assert "train.seed" in taken["train"] and "train.seed" not in taken["features"]
    for stage, names in taken.items():
        check_stage_parameters(stage, [f"{name}=1" for name in names], taken)
