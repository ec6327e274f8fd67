"The index of a source: one sentence a stage, written at the end of each build, also of one that failed."

import json
import re
import shutil

import pytest
from building import stale_stages
from toy import replace_in_file

from brewcast.common.displays import Answer
from brewcast.common.params import read_env, read_stages
from brewcast.workflow.index_page import NO_ANSWER, NO_REPORT, write_index, write_index_after_build
from brewcast.workflow.runs import read_runs


def words(page) -> str:
    "The text of a page, on one line."
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", "", page.read_text().partition("</style>")[2]))


@pytest.fixture
def index(toy):
    return toy / "products/near/index.html"


def give_run(toy, stage: str, sentence: str = "") -> None:
    "Give a toy stage's notebooks, source and executed, a `## Run`, and its run an answer."
    (source,) = (toy / "nbs").rglob(f"*_{stage}.ipynb")
    for path in [source, toy / f"products/near/{stage}/{stage}.ipynb"]:
        notebook = json.loads(path.read_text())
        notebook["cells"].append({"cell_type": "markdown", "id": "run", "metadata": {}, "source": "## Run"})
        if sentence:
            data, metadata = Answer(sentence)._repr_mimebundle_()
            shown = {"output_type": "execute_result", "data": data, "metadata": metadata, "execution_count": 1}
            cell = {"cell_type": "code", "id": "answer", "metadata": {}, "source": "1", "execution_count": 1}
            notebook["cells"].append(cell | {"outputs": [shown]})
        path.write_text(json.dumps(notebook))


def stages_of(toy):
    return read_stages(toy, read_env(toy))


def test_a_build_writes_the_index_and_prints_its_address(toy, index, brewcast):
    # given an index that somebody has deleted, when a build has nothing to do, then it is there again
    index.unlink()
    done = brewcast("build")
    assert (done.out, done.err.splitlines()[-1]) == ("", f"index     {index.as_uri()}")
    # and it has the stages in the pipeline's order, the run, and what a stage without `## Run` lacks
    text = words(index)
    places = [text.index(f" {stage} {NO_REPORT}") for stage in ("ingest", "clean", "look", "judge")]
    assert places == sorted(places) and read_runs(toy, "near")[-1].run in text and "till.csv in data/near" in text
    assert "did not finish" not in text


def test_a_stage_is_shown_with_its_answer_or_with_what_to_do(toy, index):
    give_run(toy, "clean", "61 of 66 stores sell & open.")
    give_run(toy, "look")
    write_index(toy, "near", stages_of(toy))
    assert "61 of 66 stores sell &amp; open." in index.read_text() and f" look {NO_ANSWER}" in words(index)


def test_a_failed_build_says_so_on_the_index_until_a_build_succeeds(toy, index, brewcast):
    # given a stage that fails, and a project in which another one still works
    replace_in_file(toy / "env.yaml", "fails: false", "fails: true")
    replace_in_file(toy / "env.yaml", "wins: 7", "wins: 8")
    brewcast("build", fails=True)
    # then the index names the stage, the error, and the notebook up to the cell that failed
    text = words(index)
    assert "The last build did not finish judge failed: ValueError: parameter fails is set" in text
    assert "products/near/failed/judge/judge.ipynb" in text and str(toy) not in index.read_text()
    # and after a build that succeeds it is as before
    replace_in_file(toy / "env.yaml", "fails: true", "fails: false")
    brewcast("build")
    assert "did not finish" not in words(index)


def test_stages_after_a_failed_one_are_marked(toy, index, brewcast):
    replace_in_file(toy / "nbs/data/11_clean.ipynb", "str(twice(lags))", "str(1 / 0)")
    brewcast("build", fails=True)
    text = words(index)
    assert "clean failed: ZeroDivisionError" in text and "So judge is from an earlier build." in text
    assert text.count("from an earlier build") == 2  # in the sentence and at the stage; ingest and look are not


def test_the_report_of_a_failed_stage_is_linked(toy, index, brewcast):
    for path in (toy / "nbs").rglob("*_clean.ipynb"):
        notebook = json.loads(path.read_text())
        notebook["cells"].insert(1, {"cell_type": "markdown", "id": "run", "metadata": {}, "source": "## Run"})
        path.write_text(json.dumps(notebook).replace("str(twice(lags))", "str(1 / 0)"))
    brewcast("build", fails=True)
    assert 'href="failed/clean/clean.html"' in index.read_text()
    report = toy / "products/near/failed/clean/clean.html"
    assert "ZeroDivisionError: division by zero" in words(report) and 'href="../../index.html"' in report.read_text()


def test_no_build_reads_the_index(toy, index, brewcast):
    # given a build whose index somebody has changed or deleted, then nothing is stale
    index.write_text("changed")
    assert stale_stages(toy) == []
    index.unlink()
    assert stale_stages(toy) == []


def test_clean_deletes_the_index(index, brewcast):
    assert index.exists()
    brewcast("clean")
    assert not index.exists()


def test_an_index_that_cannot_be_written_does_not_fail_a_build(toy, index, capfd):
    index.unlink()
    index.mkdir()
    write_index_after_build(toy, "near", stages_of(toy))
    assert re.match(r"no \S*products/near/index.html: ", capfd.readouterr().err)
    assert index.is_dir()


def test_a_damaged_notebook_or_record_is_no_reason_to_have_no_index(toy, index):
    (toy / "products/near/look/look.ipynb").write_text("{")
    for record in (toy / "state/near/runs").glob("*.json"):
        record.write_text("{")
    shutil.rmtree(toy / "products/near/judge")
    text = words(write_index(toy, "near", stages_of(toy)))
    assert f" look {NO_REPORT}" in text and " judge Not built yet." in text and "The last complete build" not in text
