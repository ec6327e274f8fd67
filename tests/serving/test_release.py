"A release is what it was, gives its own golden answers, and moves its rows as another plan would."

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
from releases import make_release
from tables import CALENDAR, make_lines, make_plan, months_of

from brewcast.common.core import read_json, write_json
from brewcast.model.features import ahead_features, history_features, month_grid
from brewcast.serving.release import Release, apply_plan, check_release, find_unplanned_row, release_id


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.mark.parametrize("file", ["model.json", "model.onnx", "rows.npz", "intervals.json", "golden.json"])
def test_a_file_that_was_changed_is_not_loaded(release, tmp_path, file):
    # given a release, one file of which has one more byte
    shutil.copytree(release.folder, tmp_path / "release")
    with open(tmp_path / "release" / file, "ab") as changed:
        changed.write(b" ")
    # then it is refused by name, before anything of it is read
    with pytest.raises(ValueError, match=f"{file} is missing or was changed"):
        Release(tmp_path / "release")


def test_a_description_that_was_changed_is_not_believed(release, tmp_path):
    shutil.copytree(release.folder, tmp_path / "release")
    described = read_json(tmp_path / "release" / "release.json")
    write_json(described | {"month": "2024-06-01"}, tmp_path / "release" / "release.json")
    with pytest.raises(ValueError, match="release.json was changed"):
        check_release(tmp_path / "release")


def renamed(folder, **changed):
    "Describe a release anew, hashes and all, as somebody would who knows how."
    described = read_json(folder / "release.json") | changed
    described["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in described["files"]}
    described["release"] = described["model_version"] = release_id(described)
    write_json(described, folder / "release.json")


def another_model(folder, made):
    says = read_json(folder / "model.json")
    says["forest"]["weight"] = 0.4
    write_json(says, folder / "model.json")


def change_rows(folder, change):
    with np.load(folder / "rows.npz") as rows:
        kept = {name: rows[name].copy() for name in rows}
    change(kept["numbers"])
    with open(folder / "rows.npz", "wb") as file:
        np.savez(file, **kept)


def other_rows(folder, made):
    change_rows(folder, lambda numbers: numbers.__imul__(1.001))


def other_intervals(folder, made):
    (folder / "intervals.json").write_text('{"factors": {}, "young": [0.7, 1.4]}')


def nothing_at_all(folder, made):
    change_rows(folder, lambda numbers: numbers.fill(np.nan))


@pytest.mark.parametrize("change", [another_model, other_rows, other_intervals, nothing_at_all])
def test_golden_rows_refuse_another_model_other_rows_and_other_settings(release, tmp_path, change):
    # given a release in which something was changed and every hash made right again
    shutil.copytree(release.folder, tmp_path / "release")
    change(tmp_path / "release", release.products)
    renamed(tmp_path / "release")
    # then its golden rows, or its own forecasts, refuse it
    with pytest.raises(ValueError, match="does not get its golden answer|is not a finite number"):
        Release(tmp_path / "release")


def test_golden_rows_refuse_another_month(release, tmp_path):
    shutil.copytree(release.folder, tmp_path / "release")
    renamed(tmp_path / "release", month="2024-06-01")
    with pytest.raises(ValueError, match="does not get its golden answer"):
        Release(tmp_path / "release")


# --- another plan


NEXT = pd.Timestamp("2024-07-01")  # the month after the last of these sales


@pytest.fixture(scope="module")
def rows_of_plan():
    "A function that makes next month's feature rows, store by store, of a plan in which some things are other."
    months, plan = months_of(make_lines()), make_plan()

    def rows(**planned):
        other = plan.assign(**{name: plan[name].where(plan.month < NEXT, value) for name, value in planned.items()})
        grid = month_grid(months, other, CALENDAR)
        history = history_features(grid)
        made = ahead_features(grid, history, CALENDAR).join(history.price_mean3).xs(NEXT, level="month")
        return made.select_dtypes("number").astype(float)

    return rows


@pytest.mark.parametrize("planned", [{"promotion_share": 0.9}, {"price": 3.0}, {"promotion_share": 0.0, "price": 2.5}])
def test_rows_that_a_plan_moves_are_those_that_the_features_make_of_that_plan(rows_of_plan, planned):
    # given next month's rows as planned, and as the features make them of another plan
    rows, others = rows_of_plan(), rows_of_plan(**planned)
    place = {name: i for i, name in enumerate(rows)}
    numbers = rows.to_numpy(copy=True)
    before = numbers.copy()
    # when the rows are moved to that plan
    moved = apply_plan(numbers, place, planned)
    # then they are the others, in every feature, and those that were moved are as they were
    assert len(rows) == 7 and not np.allclose(before, others, equal_nan=True)
    np.testing.assert_allclose(moved, others.to_numpy())
    np.testing.assert_array_equal(numbers, before)


def test_the_first_row_that_has_nothing_of_what_is_planned_is_named_with_the_lever(rows_of_plan):
    # given rows, the third of which has no plan of promotions, and the last no price: S6 closed three months ago
    rows = rows_of_plan()
    place = {name: i for i, name in enumerate(rows)}
    numbers = rows.to_numpy(copy=True)
    numbers[2, place["promotion_next"]] = np.nan

    def lacking(**planned):
        return find_unplanned_row(apply_plan(numbers, place, planned), place, planned)

    # when they are moved, then each lever names its own, and one that all rows have names none
    assert lacking(promotion_share=0.4) == ("promotion_share", 2)
    assert lacking(price=3.0) == ("price", 6)
    assert lacking(holidays=2) is None


def test_a_release_answers_another_plan_for_the_stores_that_have_one(release):
    # given a release, of whose stores the first four have no plan of promotions
    loaded = Release(release.folder)
    # then the others are answered, each with its own interval, and one of the first is refused by its row
    forecast, lower, upper = loaded.what_if([20, 5], {"promotion_share": 0.5}).T
    np.testing.assert_allclose(np.stack([lower, upper]) / forecast, [[0.9, 0.7], [1.1, 1.4]])
    with pytest.raises(KeyError, match="'promotion_share', 1"):
        loaded.what_if([20, 3], {"promotion_share": 0.5})


def test_a_folder_that_is_no_release_or_one_of_an_older_brewcast_says_what_makes_one(release, tmp_path):
    with pytest.raises(FileNotFoundError, match="release.json is missing: `make run` makes a release"):
        check_release(tmp_path)
    # given a release of before models were compiled
    shutil.copytree(release.folder, tmp_path / "release")
    described = read_json(tmp_path / "release" / "release.json")
    del described["files"]["model.json"]
    write_json(described | {"release": release_id(described)}, tmp_path / "release" / "release.json")
    with pytest.raises(ValueError, match="an older Brewcast made this release"):
        check_release(tmp_path / "release")
