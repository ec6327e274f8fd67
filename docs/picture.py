"The pipeline as a picture, drawn from pipeline.yaml and each notebook's `upstream`."

from html import escape

import networkx as nx

# pixels; chosen, not measured: the longest stage name fits into a box
BOX_WIDTH = 172
BOX_HEIGHT = 50
BOX_GAP = 16  # between two boxes of a row
ROW_STEP = 74  # from the top of a row to the top of the next
MAX_PRODUCTS_LENGTH = 30  # characters of the products' names; more would not fit into a box


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
    position = {}  # left and top of each box
    for row_number, row in enumerate(rows):
        left = (width - len(row) * (BOX_WIDTH + BOX_GAP) + BOX_GAP) / 2
        for column, name in enumerate(row):
            position[name] = (left + column * (BOX_WIDTH + BOX_GAP), row_number * ROW_STEP + 2)
    height = len(rows) * ROW_STEP - ROW_STEP + BOX_HEIGHT + 4
    arrows = [arrow(position[start], position[end]) for start, end in edges]
    boxes = [box(nodes[name], *position[name]) for name in position]
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return (
        f'<svg class="pipeline" viewBox="0 0 {width:g} {height}" width="{width:g}" role="img" '
        f'aria-label="The pipeline: {escape(", ".join(position))}" xmlns="http://www.w3.org/2000/svg">'
        f'<defs>{tip}<path d="M0 0L8 4L0 8z"/></marker></defs>{"".join(arrows + boxes)}</svg>'
    )


def arrow(
    start: tuple[float, float],  # left and top of the upper box
    end: tuple[float, float],  # left and top of the lower box
) -> str:  # an SVG path
    "A line from one box's lower edge to another's upper edge."
    x, y = start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT
    to_x, to_y = end[0] + BOX_WIDTH / 2, end[1] - 1
    half = (to_y - y) / 2
    return f'<path class="edge" d="M{x:g} {y:g}C{x:g} {y + half:g} {to_x:g} {to_y - half:g} {to_x:g} {to_y:g}"/>'


def box(
    node: dict,  # `name`, `kind`, `products`, `href`, `title`
    x: float,  # pixels, left edge
    y: float,  # pixels, upper edge
) -> str:  # an SVG link
    "A box with a name and, below it, its products."
    products = " · ".join(node["products"])
    if len(products) > MAX_PRODUCTS_LENGTH:
        products = f"{products[: MAX_PRODUCTS_LENGTH - 1].rsplit(' · ', 1)[0]} …"
    middle = x + BOX_WIDTH / 2
    return (
        f'<a href="{escape(node["href"])}" class="{node["kind"]}"><title>{escape(node["title"])}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{middle:g}" y="{y + 21:g}">{escape(node["name"])}</text>'
        f'<text class="gives" x="{middle:g}" y="{y + 39:g}">{escape(products)}</text></a>'
    )
