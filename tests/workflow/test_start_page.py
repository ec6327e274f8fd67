"The start page of JupyterLab: what it says of a real build, of none, and of a damaged project."

import json
import re
import shutil
import sys

import pytest
from toy import replace_in_file

from brewcast.common.params import read_env, read_stages
from brewcast.workflow.start_page import START_PAGE, read_pipeline_part, read_stage_states


def boxes(html: str) -> dict[str, str]:
    "What the picture says of each stage."
    return dict(re.findall(r"<b>(\w+)</b><span>(.*?)</span></a>", html))


def start_page(root) -> str:
    return json.dumps(json.loads((root / START_PAGE).read_text()))


def test_the_picture_has_the_states_and_reasons_of_a_real_build(toy):
    names = [*read_stages(toy, read_env(toy))]
    # given a project whose stages are all built
    assert boxes(read_pipeline_part(toy, "near")) == dict.fromkeys(names, "up to date")
    # when a parameter changes, and a stage's last run has failed
    replace_in_file(toy / "env.yaml", "wins: 7", "wins: 9")
    (toy / "products/near/failed/clean").mkdir(parents=True)
    html = read_pipeline_part(toy, "near")
    # then the page says so in words, and the others are as they were
    assert boxes(html)["clean"] == "its last run failed" and "products/near/failed/clean" in html
    stale = {name: state for name, state in boxes(html).items() if state.startswith("stale")}
    assert stale and "wins: 7 -&gt; 9" in html and boxes(html)["ingest"] == "up to date"


def test_without_a_build_nothing_is_hashed_or_written(toy):
    shutil.rmtree(toy / "products")
    states = read_stage_states(toy, "near", read_stages(toy, read_env(toy)))
    assert {state.line for state in states} == {"not built"}
    assert not (toy / "products").exists()


DAMAGE = {  # a file, what it holds then, and what the page says
    "a notebook": ("nbs/{judge}", "<<<<<<< HEAD\n", "an unresolved git conflict"),
    "pipeline.yaml": ("pipeline.yaml", "tasks: [", "pipeline.yaml cannot be read"),
    "the ledger": ("state/near/ledger.db", "no database" * 100, "The state of the stages cannot be read: "),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_a_sentence_and_jupyterlab_starts(toy, run, case):
    path, content, sentence = DAMAGE[case]
    judge = next(path for path in (toy / "nbs").rglob("*judge.ipynb"))
    path = toy / path.replace("nbs/{judge}", judge.relative_to(toy).as_posix())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    # when JupyterLab is started: `--version` ends it at once
    result = run(f"{sys.executable} -m brewcast.cli lab -- --version")
    # then it starts, and the page says what is damaged
    assert re.match(r"\d+\.\d+", result.out) and "Traceback" not in result.err
    page = start_page(toy)
    assert sentence in page
    # and it does not guess what a build would run
    assert "A build would run" not in page
