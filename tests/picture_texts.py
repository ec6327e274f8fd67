"What is wrong with the texts and the colors of a picture, for the tests of stages that draw."

import itertools
import re

from matplotlib.figure import Figure

from brewcast.common.charts import picture_of


def shown_texts(figure: Figure) -> list:
    "The texts of a drawn figure: title, names and numbers of axes, labels."
    texts = list(figure.texts)
    for axis in figure.axes:
        texts += [*axis.texts, axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label]
        for ticks, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            texts += [tick.label1 for tick in ticks.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in texts if text.get_text() and text.get_visible()]


def picture_problems(figure: Figure) -> list[str]:
    "Texts that overlap or that are cut, and colors that have no dark counterpart."
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown_texts(figure)]
    problems = [
        f"{one!r} lies on {other!r}"
        for (one, box), (other, beside) in itertools.combinations(boxes, 2)
        if box.shrunk(0.98, 0.9).overlaps(beside)  # a box has some air above and below its letters
    ]
    problems += [
        f"{text!r} is cut"
        for text, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1
    ]
    drawing = picture_of(figure).svg.split("</style>")[1]
    return problems + [f"{color} is not in the palette" for color in re.findall(r"#[0-9a-f]{6}\b", drawing)]
