"Every example of docs/pages/serving.md runs unchanged, against a service that is started by its own command."

import re
import sys

import pytest
from clients import run_service
from conftest import ROOT, project_environment

from brewcast.common.ledger import read_ledger

PAGE = (ROOT / "docs/pages/serving.md").read_text()
EXAMPLES = [
    (kind, text) for kind, text in re.findall(r"(?s)```(sh|python)\n(.*?)```", PAGE) if "make serve" not in text
]


@pytest.fixture(scope="module")
def served(project, tmp_path_factory):
    "The small project, built and published, and `make serve` on a free port."
    environment = project_environment(project.root)
    command, log = ["make", "serve", "PORT=PORT"], tmp_path_factory.mktemp("served") / "log"
    with run_service(command, log, cwd=project.root, env=environment) as service:
        yield project, service.port


def test_there_are_examples_in_both_languages():
    assert {kind for kind, _ in EXAMPLES} == {"sh", "python"} and len(EXAMPLES) == 5
    assert "make serve" in PAGE


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_unchanged(served, number, tmp_path):
    (project, port), (kind, text) = served, EXAMPLES[number]
    text = text.replace("localhost:3000", f"localhost:{port}")
    if kind == "python":
        (tmp_path / "example.py").write_text(text)
        result = project.run(f"{sys.executable} {tmp_path}/example.py")
        assert "STORE10" in result.out
        return
    (project.root / "scratch").mkdir(exist_ok=True)
    for line in text.splitlines():  # one by one, since the shell would hide the failure of all but the last
        result = project.run(f". ./activate >/dev/null && {line.split('  #')[0]}")
        assert "error:" not in result.all.lower(), result.all  # with the colon: a promotion reports forecast errors
        if "STORE1" in line or line.startswith("cat"):
            assert "STORE101" in result.out or "forecasts by" in result.out or "printf" in line, result.out


def test_every_setting_is_on_the_page():
    from brewcast.serving.app import read_settings

    variables = {f"BREWCAST_{name.upper()}" for name in read_settings({})}
    assert variables == set(re.findall(r"(?m)^\| `(BREWCAST_\w+)`", PAGE))


def test_a_manual_decision_stays_valid_in_the_next_builds(served):
    # given a build with another candidate: its gain is too small for a promotion, so it is the challenger
    project, _ = served
    state = project.root / "state/simulated"
    project.run("make run train.n_estimators=21")
    last = read_ledger(state)[-1]
    assert last.recipe.params["n_estimators"] == 20
    assert last.challenger.recipe.params["n_estimators"] == 21
    # when it is promoted by hand, then the next build does not undo that, and the other recipe is its shadow
    project.run(". ./activate && brewcast promote --yes")
    assert "promoted by hand" in project.run("make run").out
    last = read_ledger(state)[-1]
    assert (last.verdict.rule, last.recipe.params["n_estimators"]) == ("by_hand", 21)
    assert last.challenger.recipe.params["n_estimators"] == 20
    # when it is rolled back, then no build promotes it, until `brewcast lift`
    # (more than one rollback: the last build published the same recipe again, newly fitted)
    while read_ledger(state)[-1].recipe.params["n_estimators"] == 21:
        project.run(". ./activate && brewcast rollback")
    assert "barred until `brewcast lift`" in project.run("make run train.n_estimators=21").out
    last = read_ledger(state)[-1]
    assert (last.verdict.rule, last.recipe.params["n_estimators"]) == ("barred", 20)
    assert last.barred[0].params["n_estimators"] == 21
