"Charts: the same numbers give the same bytes, and every label can be read."

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
    namespace = {}
    exec(DRAW, namespace)
    return namespace["picture"]


def test_the_same_numbers_give_the_same_bytes_in_two_processes():
    script = DRAW + "import sys; sys.stdout.buffer.write(picture)"
    other = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True).stdout
    assert drawn() == drawn() == other
    assert other.startswith(b"\x89PNG") and b"Software" not in other


def test_file_and_notebook_have_the_same_picture_with_its_title_as_alternative_text(tmp_path):
    # given a picture
    figure, axes = create_figure("Sales rise", "by month")
    axes[0].plot([1, 2], [1, 3])
    # when it is shown
    image = save_and_show(figure, tmp_path / "deep/sales.png")
    # then file and notebook have the same bytes, and the alternative text is the title
    assert (tmp_path / "deep/sales.png").read_bytes() == image.data == png_bytes(figure)
    assert image.alt == "Sales rise"
    # and a chart without data is a picture, too
    assert (
        save_and_show(placeholder_figure("No prices", "the source has none"), tmp_path / "none.png").alt == "No prices"
    )


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_titles_charts_and_the_space_for_names_do_not_overlap(columns):
    figure, axes = create_figure("The finding", "how to read it", columns=columns)
    figure.canvas.draw()
    boxes = [axis.get_window_extent() for axis in axes]
    texts = [text.get_window_extent() for text in figure.texts]
    assert len(axes) == columns
    assert all(box.y1 < text.y0 for box in boxes for text in texts) and not texts[0].overlaps(texts[1])
    room = [b.x0 - a.x1 for a, b in zip(boxes, boxes[1:], strict=False)] + [figure.bbox.x1 - boxes[-1].x1]
    assert all(free > 1.2 * figure.dpi for free in room)


def test_names_of_lines_that_end_close_together_move_apart():
    # given five lines that end in nearly the same point, at the lower edge
    _, (axis,) = create_figure("Errors")
    axis.set_ylim(0, 100)
    names = ["candidate", "champion", "season", "last month", "mean"]
    # when the lines are labelled
    label_lines(axis, {name: (0.1 * i, "#22211f") for i, name in enumerate(names)})
    axis.figure.canvas.draw()
    # then no name overlaps another, and the names are in the order of the lines, beside the chart
    boxes = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert list(boxes) == names
    assert not any(boxes[a].overlaps(boxes[b]) for a in names for b in names if a != b)
    assert sorted(names, key=lambda name: boxes[name].y0) == names
    assert all(box.x0 > axis.get_window_extent().x1 for box in boxes.values())


def test_a_time_axis_has_year_labels_or_some_month_labels():
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


def test_a_whole_percent_has_a_sign_unless_it_is_zero():
    shares = {0.042: "+4%", -0.042: "−4%", 0.004: "0%", -0.004: "0%", 0: "0%", 1.5: "+150%"}
    assert {share: whole_percent(share) for share in shares} == shares
