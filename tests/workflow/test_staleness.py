"What makes a stage stale, the reason that is given, and which stages then run."

import json
import shutil
from pathlib import Path

import pytest
from building import stale_stages
from conftest import ROOT
from toy import ENV, STAGES, pause_stage, replace_in_file, resume_stages, start_build, started_stages
from waits import wait_until

from brewcast.common.params import Stage
from brewcast.common.paths import write_text
from brewcast.workflow import staleness


def stale(root: Path) -> list[str]:
    "The stages that Ploomber itself would run."
    from ploomber.constants import TaskStatus
    from ploomber.spec import DAGSpec

    dag = DAGSpec(str(root / "pipeline.yaml")).to_dag().render(show_progress=False)
    return [task.name for task in dag.values() if task.exec_status != TaskStatus.Skipped]


def add_cell(notebook: Path) -> None:
    content = json.loads(notebook.read_text())
    content["cells"].insert(2, content["cells"][1] | {"id": "added", "source": "x = 1"})
    notebook.write_text(json.dumps(content))


CASES = {  # a change, the reasons by stage (the beginning of each), the stages that run, those skipped as unchanged
    "prose": (lambda r: replace_in_file(r / "nbs/data/10_ingest.ipynb", "# ingest", "# other words"), {}, [], []),
    "a comment": (lambda r: replace_in_file(r / "nbs/data/10_ingest.ipynb", "# the run", "# runs"), {}, [], []),
    "a docstring in a notebook": (
        lambda r: replace_in_file(r / "nbs/model/22_judge.ipynb", "Write half", "Write a half"),
        {},
        [],
        [],
    ),
    "a docstring in a module": (
        lambda r: replace_in_file(r / "brewcast/common/areas.py", "As it is.", "Nothing is done."),
        {},
        [],
        [],
    ),
    "a layout": (lambda r: replace_in_file(r / "brewcast/common/areas.py", "return x", "return (x)"), {}, [], []),
    "own code": (
        lambda r: replace_in_file(r / "nbs/data/11_clean.ipynb", "str(twice(lags))", "str(twice(lags) * 2)"),
        {"clean": ["cell 5 of 11_clean.ipynb, `Path(product['out']).write_text(str(twice(lags) * 2))`, changed"]},
        ["clean", "judge"],
        [],
    ),
    "a new cell": (
        lambda r: add_cell(r / "nbs/data/11_clean.ipynb"),
        {"clean": ["cell 3 of 11_clean.ipynb, `x = 1`, is new"]},
        ["clean"],
        ["judge"],
    ),
    "a parameter": (
        lambda r: (r / "env.yaml").write_text(ENV.replace("12]", "6]")),
        {"clean": ["parameter lags: [1, 12] -> [1, 6]"]},
        ["clean", "judge"],
        [],
    ),
    "a parameter in a mapping": (
        lambda r: (r / "env.yaml").write_text(ENV.replace("wins: 7", "wins: 8")),
        {"look": ["parameter wins: 7 -> 8"]},
        ["look"],
        [],
    ),
    "a module, through another": (
        lambda r: replace_in_file(r / "brewcast/common/areas.py", "return x", "return x * 1"),
        {stage: [f"module common.areas: area ({stage} -> data.shapes -> common.areas)"] for stage in STAGES},
        list(STAGES),
        [],
    ),
    "a module's imports": (
        lambda r: replace_in_file(
            r / "brewcast/data/shapes.py", "from ..common.areas import area", "def area(x):\n    return x"
        ),
        {stage: ["module common.areas: was removed", "module data.shapes: top-level code, area"] for stage in STAGES},
        list(STAGES),
        [],
    ),
    "code in the __init__ of a package": (
        lambda r: (r / "brewcast/common/__init__.py").write_text("width = 3\n"),
        {stage: [f"module common: is new ({stage} -> data.shapes -> common)"] for stage in STAGES},
        list(STAGES),
        [],
    ),
    "a template beside a module": (
        lambda r: write_text(r / "brewcast/data/templates/shape.html", "<p>"),
        {stage: ["brewcast/data/templates/shape.html is new"] for stage in STAGES},
        list(STAGES),
        [],
    ),
    "how stages are run": (lambda r: (r / "brewcast/workflow/extra.py").write_text("x = 1\n"), {}, [], []),
    "a module that nobody imports": (lambda r: (r / "brewcast/data/extra.py").write_text("x = 1\n"), {}, [], []),
    "a file that a tool reads": (
        lambda r: replace_in_file(r / "settings.ini", "status = 3", "status = 4"),
        {"look": ["settings.ini changed"]},
        ["look"],
        [],
    ),
    "the SQL": (
        lambda r: (r / "sql/near.sql").write_text("SELECT 2"),
        {"ingest": ["sql/near.sql changed"]},
        ["ingest", "clean", "look"],
        ["judge"],
    ),
    "the data": (
        lambda r: replace_in_file(r / "data/near/till.csv", "S1", "S2"),
        {"ingest": ["data/near changed"]},
        ["ingest", "clean", "look"],
        ["judge"],
    ),
    "a product changed by hand": (
        lambda r: (r / "products/near/clean/out.txt").write_text("by hand"),
        {"clean": ["out.txt was changed by hand after the stage wrote it"]},
        ["clean"],
        ["judge"],
    ),
    "a missing product": (
        lambda r: (r / "products/near/look/out.txt").unlink(),
        {"look": ["out.txt is missing"]},
        ["look"],
        [],
    ),
    "a missing record": (
        lambda r: (r / "products/near/look/.built.json").unlink(),
        {"look": ["did not finish"]},
        ["look"],
        [],
    ),
    "a missing folder": (
        lambda r: shutil.rmtree(r / "products/near/look"),
        {"look": ["has not run yet"]},
        ["look"],
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_why_names_the_reasons_and_the_stale_stages_run(toy, brewcast, case):
    change, expected, executed, unchanged = CASES[case]
    # given a built project
    assert not any(json.loads(brewcast("why --json").out).values())
    # when one thing changes
    change(toy)
    # then `why` names its reasons and no others
    reasons = json.loads(brewcast("why --json").out)
    own = {
        stage: [r["text"] for r in found if not r["text"].endswith("runs again")] for stage, found in reasons.items()
    }
    own = {stage: texts for stage, texts in own.items() if texts}
    assert own.keys() == expected.keys()
    for stage, texts in expected.items():
        assert len(own[stage]) == len(texts)
        assert all(found.startswith(text) for found, text in zip(own[stage], texts, strict=True)), own[stage]
    # and Ploomber would run exactly the stages that have a reason, of their own or from upstream
    assert stale(toy) == [stage for stage, found in reasons.items() if found]
    # and a build runs these stages, but skips one whose upstream products came out the same
    output = brewcast("build").err
    assert sorted(started_stages(output), key=list(STAGES).index) == executed
    assert [
        stage for stage in STAGES if f"{stage}      unchanged" in output or f"{stage:<10} unchanged" in output
    ] == unchanged
    # and afterwards nothing is stale
    assert not any(json.loads(brewcast("why --json").out).values())
    assert stale(toy) == []


def test_input_files_are_found_in_any_folder(tmp_path):
    # given a query at the root, and a data folder that is also called products, with a program in it
    for name in ["near.sql", "data/products/till.csv", "data/products/more/till.csv", "data/products/prepare.py"]:
        write_text(tmp_path / name, "1")
    write_text(tmp_path / "pipeline.yaml", "tasks: []")
    write_text(tmp_path / "products/near/inputs.json", "{}")
    params = {"sql": "near.sql", "data": "data/products", "unit": "pieces", "made": "products/near/inputs.json"}
    stage = Stage("nbs/10_one.ipynb", params=params, product={})

    def file_fingerprints():
        hashes = staleness.FileHashes(tmp_path / "hashes.json")
        write_text(tmp_path / "nbs/10_one.ipynb", '{"cells": []}')
        return staleness.fingerprint("one", stage, tmp_path, hashes).files

    # then all of these are inputs, but the products of a build are not
    before = file_fingerprints()
    assert before.keys() == {"near.sql", "data/products"}
    write_text(tmp_path / "data/products/more/till.csv", "2")
    assert file_fingerprints()["data/products"] != before["data/products"]
    write_text(tmp_path / "near.sql", "2")
    assert file_fingerprints()["near.sql"] != before["near.sql"]


def test_the_month_page_depends_on_every_template_of_its_package(tmp_path):
    hashes = staleness.FileHashes(tmp_path / "hashes.json")
    stage = Stage("nbs/delivery/30_forecast.ipynb", params={}, product={})
    files = staleness.fingerprint("forecast", stage, ROOT, hashes).files
    templates = [path.relative_to(ROOT).as_posix() for path in (ROOT / "brewcast/delivery/templates").iterdir()]
    assert "brewcast/delivery/templates/track_record.html" in templates and set(templates) <= set(files)


def test_data_that_arrives_while_a_stage_runs_makes_it_stale(toy, brewcast):
    # given a build of new rows, paused in its first stage
    till = toy / "data/near/till.csv"
    replace_in_file(till, "S1", "S1\nS2")
    pause_stage(toy, "ingest")
    process = start_build(toy)
    out = toy / "products/near/ingest/out.txt"
    wait_until(lambda: out.exists() and out.read_text() == "half", "in the middle of ingest")
    # when more rows arrive, then the next build runs the stage again: nobody knows whether it read them
    replace_in_file(till, "S2", "S2\nS3")
    resume_stages(toy)
    assert process.wait(120) == 0
    assert "ingest" in started_stages(brewcast("build").err)
    assert started_stages(brewcast("build").err) == []


def test_a_default_that_the_pipeline_replaces_makes_no_stage_stale(toy):
    # given the default of a parameter that pipeline.yaml passes, as `make export` writes it after a change of env.yaml
    notebook = toy / "nbs/model/22_judge.ipynb"
    text = notebook.read_text()
    assert text.count("gain = 0.01") == 1
    notebook.write_text(text.replace("gain = 0.01", "gain = 0.5"))
    assert stale_stages(toy) == []
    # and given a value of the stage's own, which nothing replaces
    notebook.write_text(text.replace("gain = 0.01", "gain = 0.01\\nown = 3"))
    assert stale_stages(toy) == ["judge"]
