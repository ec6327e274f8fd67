"The pipeline as a picture, drawn from pipeline.yaml and each notebook's `upstream`."

from typing import NamedTuple

import networkx as nx
from site_templates import TEMPLATES

# pixels; chosen, not measured: the longest stage name fits into a box
BOX_WIDTH = 172
BOX_HEIGHT = 50
BOX_GAP = 16  # between two boxes of a row
ROW_STEP = 74  # from the top of a row to the top of the next
MAX_PRODUCTS_LENGTH = 30  # characters of the products' names; more would not fit into a box


class Box(NamedTuple):
    "A stage, what is before the pipeline, or what follows. It is a link."

    name: str
    kind: str  # stage or outside
    products: str  # as many as fit
    href: str
    title: str  # shown when the pointer is over the box
    x: float  # pixels, left edge
    y: float  # pixels, upper edge


class Arrow(NamedTuple):
    "A line from one box's lower edge to another's upper edge."

    x: float  # pixels
    y: float  # pixels
    to_x: float  # pixels
    to_y: float  # pixels


def pipeline_picture(
    stages: dict[str, dict],  # by name: `upstream`, `products`, `href`, `title`
    before: dict,  # the input of the first stage: `name`, `products`, `href`, `title`
    after: list[dict],  # what follows after the last stage, in order; the same keys
) -> str:  # inline SVG; each box is a link
    "The stages from top to bottom. An arrow is left out if a longer path has the same start and end."
    graph = nx.DiGraph([(upstream, name) for name, stage in stages.items() for upstream in stage["upstream"]])
    graph.add_nodes_from(stages)
    order = list(stages)
    rows = [sorted(row, key=order.index) for row in nx.topological_generations(graph)]
    nodes = {name: stage | {"name": name, "kind": "stage"} for name, stage in stages.items()}
    edges = list(nx.transitive_reduction(graph).edges)
    outside = [before | {"kind": "outside"}, *({**node, "kind": "outside"} for node in after)]
    nodes |= {node["name"]: node for node in outside}
    edges += [(before["name"], name) for name in rows[0]]
    for node in after:
        edges += [(rows[-1][-1], node["name"])]
        rows.append([node["name"]])
    rows = [[before["name"]], *rows]

    width = max(len(row) for row in rows) * (BOX_WIDTH + BOX_GAP)
    boxes = {}
    for row_number, row in enumerate(rows):
        left = (width - len(row) * (BOX_WIDTH + BOX_GAP) + BOX_GAP) / 2
        for column, name in enumerate(row):
            boxes[name] = make_box(nodes[name], left + column * (BOX_WIDTH + BOX_GAP), row_number * ROW_STEP + 2)
    picture = TEMPLATES.get_template("pipeline.svg").render(
        width=width,
        height=len(rows) * ROW_STEP - ROW_STEP + BOX_HEIGHT + 4,
        boxes=list(boxes.values()),
        arrows=[arrow_between(boxes[start], boxes[end]) for start, end in edges],
        box_width=BOX_WIDTH,
        box_height=BOX_HEIGHT,
    )
    return " ".join(picture.splitlines())  # Markdown leaves one line of SVG as it is


def make_box(
    node: dict,  # `name`, `kind`, `products`, `href`, `title`
    x: float,  # pixels, left edge
    y: float,  # pixels, upper edge
) -> Box:
    "A box with a name and, below it, its products."
    products = " · ".join(node["products"])
    if len(products) > MAX_PRODUCTS_LENGTH:
        products = f"{products[: MAX_PRODUCTS_LENGTH - 1].rsplit(' · ', 1)[0]} …"
    return Box(node["name"], node["kind"], products, node["href"], node["title"], x, y)


def arrow_between(
    upper: Box,
    lower: Box,
) -> Arrow:
    "The arrow from a box to one below it."
    return Arrow(upper.x + BOX_WIDTH / 2, upper.y + BOX_HEIGHT, lower.x + BOX_WIDTH / 2, lower.y - 1)
