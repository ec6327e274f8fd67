"Whoever must be refused is refused for the right reason; and where a rule sleeps, its saboteur gets through."

import re

import gate_red_team
import pytest
from gate_red_team import LINE_UP, SHORT, bring_all, lines_of, main, make_chain

from brewcast.model import leakage_checks
from brewcast.model.evaluate import GATE_CHECKS
from brewcast.model.leakage_checks import UNFIT_RULES
from brewcast.model.recipes import RECIPES

pytestmark = pytest.mark.filterwarnings("ignore")  # scikit-learn's, of columns that are empty in a young chain
EXPECTED = {
    "worse": "min_gain",
    "knows the future": "leak",
    "knows the future, too": "leak",
    "leans on the others": "leak",
    "bad for one country": "max_group_loss_country",
    "bad for small stores": "max_group_loss_size",
    "tuned": "tuned_on_judged",
    "altered": "file",
    "from elsewhere": "environment",
    "too sure of itself": "coverage",
    "truly better": "better",
    "a tie": "min_gain",
    "too few months": "fewest_cutoffs",
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return make_chain(tmp_path_factory.mktemp("chain"), **SHORT)


@pytest.fixture(scope="module")
def results(chain):
    return {result["name"]: result for result in bring_all(chain)}


def one(chain, name):
    (result,) = bring_all(chain, [saboteur for saboteur in LINE_UP if saboteur.name == name])
    return result


def test_each_is_treated_as_it_must_be(results):
    assert {name: result["rule"] for name, result in results.items()} == EXPECTED
    assert all(result["right"] for result in results.values())
    assert [name for name, result in results.items() if result["verdict"] == "promote"] == ["truly better"]
    assert results["too few months"]["verdict"] == "insufficient_evidence"


def test_each_reason_has_its_figures(results):
    assert all(re.search(r"\d", result["reason"]) for result in results.values())
    for name in ("knows the future", "tuned"):
        assert results[name]["by_errors"] == "better" and results[name]["gain"] > 0.2  # or nobody would have to look


def test_no_saboteurs_recipe_is_left_behind(results):
    assert sorted(RECIPES) == ["forest", "last_month", "mean_of_3", "same_month_last_year", "seasonal"]


@pytest.mark.parametrize(
    ("name", "asleep"),
    [("altered", "file_mismatch"), ("from elsewhere", "environment_mismatch"), ("tuned", "tuning_leak")],
)
def test_where_nobody_looks_the_saboteur_is_promoted(chain, monkeypatch, name, asleep):
    monkeypatch.setattr(leakage_checks, asleep, lambda *told: None)
    result = one(chain, name)
    assert (result["verdict"], result["right"]) == ("promote", False)


@pytest.mark.parametrize("name", ["bad for one country", "too sure of itself"])
def test_where_a_check_is_left_out_the_saboteur_is_promoted(chain, monkeypatch, name):
    sleeping = [check for check in GATE_CHECKS if check.__name__ not in ("_check_group_loss", "_check_coverage")]
    gate_verdict = gate_red_team.gate_verdict
    monkeypatch.setattr(gate_red_team, "gate_verdict", lambda *told: gate_verdict(*told, checks=sleeping))
    result = one(chain, name)
    assert (result["verdict"], result["right"]) == ("promote", False)


def test_the_show_fails_when_one_gets_through(chain, monkeypatch, capsys):
    monkeypatch.setattr(gate_red_team, "unfit_reasons", lambda *told: {})
    monkeypatch.setattr(gate_red_team, "make_chain", lambda *told, **size: chain)
    few = [saboteur for saboteur in LINE_UP if saboteur.name in ("altered", "a tie")]
    assert main(["--short"], few) == 1
    told = capsys.readouterr().out
    assert "WRONG altered" in told and "must be: refused, file" in told and "ok    a tie" in told
    assert "1 of 2 treated as they must be" in told and "\033" not in told  # no terminal, no colours


def test_a_terminal_has_colours(results):
    coloured = lines_of(LINE_UP[1], results["knows the future"], colours=True)
    assert "\033[32m" in coloured and "by its errors alone it would have been promoted" in coloured
    assert set(UNFIT_RULES) >= {
        results[name]["rule"] for name in ("knows the future", "altered", "from elsewhere", "tuned")
    }
