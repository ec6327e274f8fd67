"Readers of pictures: texts that overlap or are cut, colours that are not of the palette, axes without a unit."

import itertools
import re
import xml.etree.ElementTree as ET

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from brewcast.common.charts import svg_text
from brewcast.common.palette import PALETTE, contrast_ratio

DECORATION = {"card", "line"}  # the background and the grid: no reader needs to see them
MIN_CONTRAST = 3  # of marks to the card, by the Web Content Accessibility Guidelines 2
TOLERANCE = 0.5  # pixels


def shown_texts(figure: Figure) -> list[Text]:
    "The texts of a drawn figure, without the ticks outside of the axes' limits."
    texts = list(figure.texts)
    for axis in figure.axes:
        texts += [axis.title, axis._left_title, axis._right_title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        for side in (axis.xaxis, axis.yaxis):
            low, high = sorted(side.get_view_interval())
            slack = (high - low) * 1e-6
            texts += [tick.label1 for tick in side.get_major_ticks() if low - slack <= tick.get_loc() <= high + slack]
    return [text for text in texts if text.get_text().strip() and text.get_visible()]


def text_problems(figure: Figure) -> list[str]:
    "Texts that overlap another one, or that are outside of the picture."
    figure.draw_without_rendering()  # texts are placed when a figure is drawn
    boxes = [(text.get_text(), inner_box(text.get_window_extent())) for text in shown_texts(figure)]
    frame = figure.bbox
    problems = [
        f"{text!r} is outside"
        for text, box in boxes
        if box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    ]
    pairs = itertools.combinations(boxes, 2)
    return problems + [f"{one!r} overlaps {other!r}" for (one, box), (other, box2) in pairs if box.overlaps(box2)]


def inner_box(box: Bbox) -> Bbox:
    return Bbox.from_extents(box.x0 + TOLERANCE, box.y0 + TOLERANCE, box.x1 - TOLERANCE, box.y1 - TOLERANCE)


def color_problems(figure: Figure) -> list[str]:
    "Colours that are not of the palette, transparent marks, bitmaps, and marks that are hard to see."
    svg = svg_text(figure)
    ET.fromstring(svg)  # a picture is also a file of its own, which must be valid XML
    drawing = svg.split("</style>")[1]
    problems = [f"{color} is not in the palette" for color in sorted(set(re.findall(r"#[0-9a-f]{6}\b", drawing)))]
    problems += ["a mark is transparent"] * bool(re.search(r"(?<!-)opacity: *0?\.[0-9]*[1-9]", drawing))
    problems += ["a mark is transparent"] * bool(re.search(r"(fill|stroke)-opacity: *0?\.[0-9]*[1-9]", drawing))
    problems += ["a bitmap has no dark mode"] * ("<image" in drawing)
    roles = set(re.findall(r"var\(--([\w-]+)\)", drawing)) - DECORATION
    for role in sorted(role for role in roles if not role.startswith("heat-")):  # a heat map has a scale and a frame
        for color, card in zip(PALETTE[role], PALETTE["card"], strict=True):
            ratio = contrast_ratio(color, card)
            problems += [f"{role} has a contrast of {ratio:.1f}"] if ratio < MIN_CONTRAST else []
    return problems


def axis_problems(figure: Figure) -> list[str]:
    "Charts without words on what they show, and numbers without a unit."
    problems = []
    for number, axis in enumerate(figure.axes):
        ticks = {side: drawn_labels(axis, side) for side in ("x", "y")}
        above, below = axis.get_title(loc="left"), axis.get_xlabel()
        numbers = {
            side: [text for text in texts if re.fullmatch(r"[−+\d.,]+(k|M|bn)?", text)] for side, texts in ticks.items()
        }
        if numbers["y"] and not above:
            problems.append(f"chart {number}: no unit above {numbers['y'][0]}")
        years = [text for text in numbers["x"] if re.fullmatch(r"(19|20)\d\d", text)]
        if len(numbers["x"]) > len(years) and not below:
            problems.append(f"chart {number}: no unit below {numbers['x'][0]}")
        if not above and not below and not all(text.endswith("%") for text in ticks["x"]):
            problems.append(f"chart {number}: no words on what it shows")
    return problems


def drawn_labels(axis, side: str) -> list[str]:
    labels = axis.get_xticklabels() if side == "x" else axis.get_yticklabels()
    return [label.get_text() for label in labels if label.get_text()]


def picture_problems(figure: Figure) -> list[str]:
    "What a reader could not read in a picture."
    return text_problems(figure) + color_problems(figure) + axis_problems(figure)
