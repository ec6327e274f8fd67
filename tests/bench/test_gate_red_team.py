"Every bad candidate is refused for the right reason, and is promoted where that rule is switched off."

import re

import gate_red_team
import pytest
from gate_red_team import CASES, SHORT, format_result, main, make_chain, run_cases

from brewcast.model import leakage_checks
from brewcast.model.evaluate import GATE_CHECKS
from brewcast.model.leakage_checks import UNFIT_RULES
from brewcast.model.recipes import RECIPES

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # scikit-learn's, about columns that are empty in a chain with few months
EXPECTED = {
    "worse": "min_gain",
    "a leaking feature": "leak",
    "a leaking recipe": "leak",
    "depends on the batch": "leak",
    "bad for one country": "max_group_loss_country",
    "bad for small stores": "max_group_loss_size",
    "tuned on judged months": "tuned_on_judged",
    "an altered file": "file",
    "another environment": "environment",
    "intervals too narrow": "coverage",
    "truly better": "better",
    "a tie": "min_gain",
    "too few months": "fewest_cutoffs",
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return make_chain(tmp_path_factory.mktemp("chain"), **SHORT)


@pytest.fixture(scope="module")
def results(chain):
    return {result.name: result for result in run_cases(chain)}


def one(chain, name):
    (result,) = run_cases(chain, [case for case in CASES if case.name == name])
    return result


def test_every_case_gets_the_right_verdict(results):
    assert {name: result.rule for name, result in results.items()} == EXPECTED
    assert all(result.right for result in results.values())
    assert [name for name, result in results.items() if result.verdict == "promote"] == ["truly better"]
    assert results["too few months"].verdict == "insufficient_evidence"


def test_each_reason_has_its_figures(results):
    assert all(re.search(r"\d", result.reason) for result in results.values())
    for name in ("a leaking feature", "tuned on judged months"):
        assert results[name].by_errors == "better" and results[name].gain > 0.2  # the errors alone do not show the leak


def test_the_recipes_of_the_cases_are_removed(results):
    assert sorted(RECIPES) == ["forest", "last_month", "mean_of_3", "same_month_last_year", "seasonal"]


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("an altered file", "file_mismatch"),
        ("another environment", "environment_mismatch"),
        ("tuned on judged months", "tuning_leak"),
    ],
)
def test_without_the_leakage_check_the_candidate_is_promoted(chain, monkeypatch, name, check):
    monkeypatch.setattr(leakage_checks, check, lambda *args: None)
    result = one(chain, name)
    assert (result.verdict, result.right) == ("promote", False)


@pytest.mark.parametrize("name", ["bad for one country", "intervals too narrow"])
def test_without_the_gate_check_the_candidate_is_promoted(chain, monkeypatch, name):
    remaining = [check for check in GATE_CHECKS if check.__name__ not in ("check_group_loss", "check_coverage")]
    gate_verdict = gate_red_team.gate_verdict
    monkeypatch.setattr(gate_red_team, "gate_verdict", lambda *args: gate_verdict(*args, checks=remaining))
    result = one(chain, name)
    assert (result.verdict, result.right) == ("promote", False)


def test_the_exit_status_is_1_after_a_wrong_verdict(chain, monkeypatch, capsys):
    monkeypatch.setattr(gate_red_team, "unfit_reasons", lambda *args: {})
    monkeypatch.setattr(gate_red_team, "make_chain", lambda *args, **size: chain)
    few = [case for case in CASES if case.name in ("an altered file", "a tie")]
    assert main(["--short"], few) == 1
    output = capsys.readouterr().out
    assert "WRONG an altered file" in output and "must be: refused, file" in output and "ok    a tie" in output
    assert "1 of 2 verdicts are right" in output and "\033" not in output  # no colours outside of a terminal


def test_a_terminal_has_colours(results):
    coloured = format_result(CASES[1], results["a leaking feature"], colours=True)
    assert "\033[32m" in coloured and "by its errors alone it would have been promoted" in coloured
    assert set(UNFIT_RULES) >= {
        results[name].rule
        for name in ("a leaking feature", "an altered file", "another environment", "tuned on judged months")
    }
