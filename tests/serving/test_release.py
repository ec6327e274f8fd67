"A release is checked before it serves, and another plan changes its rows as it would change the features."

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
from releases import make_release
from tables import CALENDAR, make_lines, make_plan, months_of

from brewcast.common.core import read_json, write_json
from brewcast.model.features import ahead_features, history_features, month_grid
from brewcast.serving.release import Release, apply_plan, find_unplanned_row, release_id


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.mark.parametrize("file", ["model.json", "model.onnx", "rows.npz", "intervals.json", "golden.json"])
def test_a_file_that_was_changed_is_not_loaded(release, tmp_path, file):
    # given a release with one more byte in one of its files
    shutil.copytree(release.folder, tmp_path / "release")
    with open(tmp_path / "release" / file, "ab") as changed:
        changed.write(b" ")
    # then the release is refused, and the error names the file
    with pytest.raises(ValueError, match=f"{file} is missing or was changed"):
        Release(tmp_path / "release")


def rename_release(folder, **changed):
    "Write a new description with correct hashes, as an attacker could."
    description = read_json(folder / "release.json") | changed
    description["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in description["files"]
    }
    description["release"] = description["model_version"] = release_id(description)
    write_json(description, folder / "release.json")


def another_model(folder):
    model = read_json(folder / "model.json")
    model["forest"]["weight"] = 0.4
    write_json(model, folder / "model.json")


def change_rows(folder, change):
    with np.load(folder / "rows.npz") as rows:
        arrays = {name: rows[name].copy() for name in rows}
    change(arrays["numbers"])
    with open(folder / "rows.npz", "wb") as file:
        np.savez(file, **arrays)


def other_rows(folder):
    change_rows(folder, lambda numbers: numbers.__imul__(1.001))


def other_intervals(folder):
    (folder / "intervals.json").write_text('{"factors": {}, "young": [0.7, 1.4]}')


def missing_values(folder):
    change_rows(folder, lambda numbers: numbers.fill(np.nan))


@pytest.mark.parametrize("change", [another_model, other_rows, other_intervals, missing_values])
def test_golden_rows_reveal_another_model_other_rows_and_other_intervals(release, tmp_path, change):
    # given a release with a change and correct hashes
    shutil.copytree(release.folder, tmp_path / "release")
    change(tmp_path / "release")
    rename_release(tmp_path / "release")
    # then its golden rows or its forecasts reveal the change
    with pytest.raises(ValueError, match="does not get its golden answer|is not a finite number"):
        Release(tmp_path / "release")


def test_golden_rows_reveal_another_month(release, tmp_path):
    shutil.copytree(release.folder, tmp_path / "release")
    rename_release(tmp_path / "release", month="2024-06-01")
    with pytest.raises(ValueError, match="does not get its golden answer"):
        Release(tmp_path / "release")


# --- another plan


NEXT = pd.Timestamp("2024-07-01")  # the month after the last of these sales


@pytest.fixture(scope="module")
def rows_of_plan():
    "A function that returns next month's feature rows, one a store, under a plan with some values replaced."
    months, plan = months_of(make_lines()), make_plan()

    def rows(**planned):
        other = plan.assign(**{name: plan[name].where(plan.month < NEXT, value) for name, value in planned.items()})
        grid = month_grid(months, other, CALENDAR)
        history = history_features(grid)
        features = ahead_features(grid, history, CALENDAR).join(history.price_mean3).xs(NEXT, level="month")
        return features.select_dtypes("number").astype(float)

    return rows


@pytest.mark.parametrize("planned", [{"promotion_share": 0.9}, {"price": 3.0}, {"promotion_share": 0.0, "price": 2.5}])
def test_apply_plan_gives_the_same_rows_as_features_from_that_plan(rows_of_plan, planned):
    # given next month's rows as planned, and the rows that the features have under another plan
    rows, others = rows_of_plan(), rows_of_plan(**planned)
    column_index = {name: i for i, name in enumerate(rows)}
    numbers = rows.to_numpy(copy=True)
    before = numbers.copy()
    # when the plan is applied to the rows
    moved = apply_plan(numbers, column_index, planned)
    # then every feature is the same, and the input is not changed
    assert len(rows) == 7 and not np.allclose(before, others, equal_nan=True)
    np.testing.assert_allclose(moved, others.to_numpy())
    np.testing.assert_array_equal(numbers, before)


def test_the_first_row_without_a_planned_value_is_found(rows_of_plan):
    # given rows: the third has no plan of promotions, the last no price, because S6 closed three months ago
    rows = rows_of_plan()
    column_index = {name: i for i, name in enumerate(rows)}
    numbers = rows.to_numpy(copy=True)
    numbers[2, column_index["promotion_next"]] = np.nan

    def first_unplanned(**planned):
        return find_unplanned_row(apply_plan(numbers, column_index, planned), column_index, planned)

    # then each override finds its own row, and an override that all rows have finds none
    assert first_unplanned(promotion_share=0.4) == ("promotion_share", 2)
    assert first_unplanned(price=3.0) == ("price", 6)
    assert first_unplanned(holidays=2) is None


def test_a_release_forecasts_another_plan_for_stores_that_have_a_plan(release):
    # given a release whose first four stores have no plan of promotions
    loaded = Release(release.folder)
    # then other stores get forecasts with their own intervals, and the error for a store without a plan names its row
    forecast, lower, upper = loaded.what_if([20, 5], {"promotion_share": 0.5}).T
    np.testing.assert_allclose(np.stack([lower, upper]) / forecast, [[0.9, 0.7], [1.1, 1.4]])
    with pytest.raises(KeyError, match="'promotion_share', 1"):
        loaded.what_if([20, 3], {"promotion_share": 0.5})
