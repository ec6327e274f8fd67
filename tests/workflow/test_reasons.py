"Which reasons are given why a stage has to run again, in words that lead to what changed."

from toy import started


def test_a_parameter_that_is_changed_back_is_no_reason_after_its_build(toy, brewcast):
    whole = (toy / "products/near/clean/out.txt").read_text()
    assert started(brewcast("build 'lags=[1, 6]'").err) == ["clean", "judge"]
    assert "parameter lags: [1, 6] -> [1, 12]" in brewcast("why").out
    assert started(brewcast("build").err) == ["clean", "judge"]
    assert (toy / "products/near/clean/out.txt").read_text() == whole


def test_why_asks_what_a_change_for_one_run_would_make_stale(brewcast):
    told = brewcast("why gate.wins=9").out.splitlines()
    assert told == [
        "ingest     is up to date",
        "clean      is up to date",
        "look       is stale",
        "           - parameter wins: 7 -> 9",
        "judge      is up to date",
    ]
