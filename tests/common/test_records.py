"Records: what a file lacks or has too much is an error with its name, and what was not given is not written."

import json

import pytest

from brewcast.common.core import write_json
from brewcast.common.hashing import content_hash
from brewcast.common.records import (
    Finding,
    LedgerEntry,
    MonthRecord,
    Recipe,
)

FOREST = {"name": "forest", "params": {"weight": 0.5}}
ENTRY = {
    "action": "publish",
    "recipe": FOREST,
    "release": "1f0c3a9b2e4d",
    "train_through": "2024-05-01",
    "cutoff": "2024-05-31",
    "model_hash": "ab",
    "made_in": "k1",
    "from": None,
    "verdict": {"promoted": True, "verdict": "promote", "rule": "better", "reason": "gain 12%"},
}


def refusal(kind, path, content, many=False) -> str:
    "The message with which a file is refused."
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError) as refused:
        kind.read_list(path) if many else kind.read(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_file_that_does_not_fit_is_refused_with_all_that_is_wrong(tmp_path):
    path = tmp_path / "recipe.json"
    # a missing field, a wrong type and an unknown field, all at once, with the file and the way out
    message = refusal(Recipe, path, {"nam": "forest", "params": 5})
    for part in (str(path), "Recipe", "name: Field required", "params: ", "nam: Extra inputs", "`make build`"):
        assert part in message
    # a field inside of another record, by its whole name
    entry = ENTRY | {"recipe": {"name": "forest"}, "cutoff": "May"}
    message = refusal(LedgerEntry, path, entry)
    assert "recipe.params: Field required" in message and "cutoff: " in message and "`make restore`" in message
    # a list: the position
    finding = {"check": "ids", "level": "warn", "where": "all stores", "text": "", "figures": {}}
    assert "1.level: Field required" in refusal(
        Finding, path, [finding, {name: value for name, value in finding.items() if name != "level"}], many=True
    )
    # what is no JSON, or half of it
    assert "Invalid JSON" in refusal(Recipe, path, '{"name": "for')
    assert "Invalid JSON" in refusal(Recipe, path, "")
    # no file
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Recipe.read(tmp_path / "nowhere.json")


def test_what_was_not_given_is_not_written_and_a_file_is_written_back_as_it_was(tmp_path):
    path, copy = tmp_path / "entry.json", tmp_path / "copy.json"
    write_json(ENTRY, path)
    entry = LedgerEntry.read(path)
    write_json(entry, copy)
    assert copy.read_bytes() == path.read_bytes()
    # with a default, and with the name that Python does not allow for a field
    assert entry.share == 0 and entry.barred == [] and entry.previous is None
    assert set(entry.content()) == set(ENTRY)
    # a change is a new record, and it is written
    changed = entry.model_copy(update={"share": 10, "previous": "aaa"})
    assert changed.content() == entry.content() | {"share": 10, "from": "aaa"} and entry.share == 0
    assert content_hash(entry) == content_hash(ENTRY) != content_hash(changed)


def test_the_record_of_a_month_is_written_back_as_it_was_and_says_what_does_not_fit(tmp_path):
    # given a month as a build makes it, before it is published, with a figure that is not a number
    path = tmp_path / "month.json"
    decision = {"retrain": True, "train_through": "2024-05-01", "rule": "age", "reason": "old", "trusted": True}
    month = {"month": "2024-05", "status": "published", "decision": decision, "verdict": ENTRY["verdict"]}
    month |= {"errors": {"served": float("nan"), "seasonal": 0.1, "last_month": None}, "n": 2, "alarm": False}
    path.write_text(json.dumps(month | {"of_another_version": 1}))
    # then it is read, and what was not given is not written
    record = MonthRecord.read(path)
    assert json.dumps(record.content(), sort_keys=True) == json.dumps(month, sort_keys=True)
    assert (record.bias, record.replayed, record.reports, record.release) == (None, [], {}, None)
    # and a file that does not fit is named, with the fields and the way out
    message = refusal(MonthRecord, path, month | {"status": None, "decision": {}})
    for part in (str(path), "status: ", "decision.rule: Field required", "`make restore`"):
        assert part in message
