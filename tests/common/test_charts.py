"Charts: the same numbers give the same bytes, and every label can be read."

import subprocess
import sys

import pytest
from conftest import ROOT

from brewcast.common.charts import (
    create_figure,
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
