"Charts: the same numbers give the same bytes, and every label can be read."

import itertools
import re
import subprocess
import sys

import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from conftest import ROOT

from brewcast.common.charts import LINE_COLORS, create_figure, picture_of
from brewcast.common.palette import SERIES

DRAW = """
from brewcast.common.charts import create_figure, label_lines, picture_of
figure, axes = create_figure("Sales rise", "by month", rows=2)
for axis in axes:
    axis.plot([1, 2, 3], [3.0, 1.5, 4.25], color="#8f4a12")
    label_lines(axis, {"one": (4.25, "#8f4a12"), "two": (4.2, "#3b8fd9")})
picture = picture_of(figure)
files = picture.png + picture.svg.encode()
"""


def drawn() -> bytes:
    namespace = {}
    exec(DRAW, namespace)
    return namespace["files"]


def test_the_same_numbers_give_the_same_bytes_in_two_processes():
    script = DRAW + "import sys; sys.stdout.buffer.write(files)"
    other = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True).stdout
    assert drawn() == drawn() == other
    assert other.startswith(b"\x89PNG") and b"Software" not in other


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (3, 1), (1, 2)])
def test_titles_charts_and_the_space_for_names_do_not_overlap(rows, columns):
    figure, axes = create_figure("A finding that needs more than one line to be said", rows=rows, columns=columns)
    figure.canvas.draw()
    boxes = [axis.get_window_extent() for axis in axes]
    heading = figure.texts[0].get_window_extent()
    assert len(axes) == rows * columns
    assert all(box.y1 < heading.y0 and box.y0 > 0 for box in boxes)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    edges = sorted({round(box.x0) for box in boxes}) + [round(figure.bbox.x1)]
    room = [edges[edges.index(round(box.x0)) + 1] - box.x1 for box in boxes]
    assert all(free > figure.dpi for free in room)


def test_ids_of_two_pictures_on_a_page_do_not_clash():
    pictures = []
    for title in ("One", "Two"):
        figure, (axis,) = create_figure(title)
        axis.scatter([1, 2], [1, 2], color=LINE_COLORS[0])
        pictures.append(set(re.findall(r' id="([^"]+)"', picture_of(figure).svg)))
    assert pictures[0] and not pictures[0] & pictures[1]


# the readers: about one man in twelve sees less red or less green
@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", ["", "deuteranomaly", "protanomaly"])
def test_lines_are_told_apart_by_readers_with_red_green_blindness(page, sight):
    colors = [np.array([int(pair[page][i : i + 2], 16) / 255 for i in (1, 3, 5)]) for pair in SERIES]
    if sight:
        space = {"name": "sRGB1+CVD", "cvd_type": sight, "severity": 100}
        colors = [np.clip(cspace_convert(color, space, "sRGB1"), 0, 1) for color in colors]
    distances = [deltaE(one, other, input_space="sRGB1") for one, other in itertools.combinations(colors, 2)]
    assert min(distances) > 15  # CAM02-UCS, where 1 is a just noticeable difference
