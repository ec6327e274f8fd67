"One look for all pictures: the same numbers are the same bytes, and every name can be read."

import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT

from brewcast.common.charts import (
    create_figure,
    label_lines,
    label_month_axis,
    placeholder_figure,
    png_bytes,
    save_and_show,
    whole_percent,
)

DRAW = """
from brewcast.common.charts import create_figure, label_lines, png_bytes
figure, axes = create_figure("Sales rise", "by month", columns=2)
for axis in axes:
    axis.plot([1, 2, 3], [3.0, 1.5, 4.25], color="#8f4a12")
    label_lines(axis, {"one": (4.25, "#8f4a12"), "two": (4.2, "#3c5f8a")})
picture = png_bytes(figure)
"""


def drawn() -> bytes:
    made = {}
    exec(DRAW, made)
    return made["picture"]


def test_the_same_numbers_are_the_same_bytes_in_this_process_and_in_another():
    script = DRAW + "import sys; sys.stdout.buffer.write(picture)"
    other = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True).stdout
    assert drawn() == drawn() == other
    assert other.startswith(b"\x89PNG") and b"Software" not in other


def test_the_file_and_the_notebook_hold_the_same_picture_under_its_title(tmp_path):
    # given a picture
    figure, axes = create_figure("Sales rise", "by month")
    axes[0].plot([1, 2], [1, 3])
    # when it is shown
    image = save_and_show(figure, tmp_path / "deep/sales.png")
    # then the file has the bytes that the notebook has, and who cannot see it reads its title
    assert (tmp_path / "deep/sales.png").read_bytes() == image.data == png_bytes(figure)
    assert image.alt == "Sales rise"
    # and what a source does not have is a picture, too
    assert (
        save_and_show(placeholder_figure("No prices", "the source has none"), tmp_path / "none.png").alt == "No prices"
    )


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_titles_pictures_and_the_room_for_names_do_not_meet(columns):
    figure, axes = create_figure("What is found", "how to read it", columns=columns)
    figure.canvas.draw()
    boxes = [axis.get_window_extent() for axis in axes]
    texts = [text.get_window_extent() for text in figure.texts]
    assert len(axes) == columns
    assert all(box.y1 < text.y0 for box in boxes for text in texts) and not texts[0].overlaps(texts[1])
    room = [b.x0 - a.x1 for a, b in zip(boxes, boxes[1:], strict=False)] + [figure.bbox.x1 - boxes[-1].x1]
    assert all(free > 1.2 * figure.dpi for free in room)


def test_names_of_lines_that_end_together_are_moved_apart():
    # given five lines that end in nearly the same place, at the lower edge
    _, (axis,) = create_figure("Errors")
    axis.set_ylim(0, 100)
    names = ["candidate", "champion", "season", "last month", "mean"]
    # when they are named
    label_lines(axis, {name: (0.1 * i, "#22211f") for i, name in enumerate(names)})
    axis.figure.canvas.draw()
    # then no name covers another, and they stand in the order of their lines, beside the picture
    boxes = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert list(boxes) == names
    assert not any(boxes[a].overlaps(boxes[b]) for a in names for b in names if a != b)
    assert sorted(names, key=lambda name: boxes[name].y0) == names
    assert all(box.x0 > axis.get_window_extent().x1 for box in boxes.values())


def test_a_time_axis_is_labelled_by_years_or_by_some_months():
    for count, labels in [
        (30, ["2023", "2024"]),
        (18, ["Jul 2022", "Oct 2022", "Jan 2023", "Apr 2023", "Jul 2023", "Oct 2023"]),
        (2, ["Jul 2022", "Aug 2022"]),
    ]:
        months = pd.date_range("2022-07-01", periods=count, freq="MS")
        _, (axis,) = create_figure("Sales")
        axis.plot(months, range(count))
        label_month_axis(axis, months)
        assert [label.get_text() for label in axis.get_xticklabels()] == labels


def test_a_whole_per_cent_has_its_sign_and_none_where_it_is_nothing():
    shares = {0.042: "+4%", -0.042: "−4%", 0.004: "0%", -0.004: "0%", 0: "0%", 1.5: "+150%"}
    assert {share: whole_percent(share) for share in shares} == shares
