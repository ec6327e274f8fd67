"The pipeline as a picture, drawn from pipeline.yaml and each notebook's `upstream`."

from html import escape

import networkx as nx

WIDTH, HEIGHT, GAP, ROW = 172, 50, 16, 74  # of a box, between two boxes, from row to row


def pipeline_picture(
    stages: dict[str, dict],  # by name: `upstream`, `products`, `href`, `title`
    before: dict,  # what feeds the first stage: `name`, `products`, `href`, `title`
    after: list[dict],  # what follows from the last, in order; the same keys
) -> str:  # inline SVG, whose boxes are links
    "The stages from top to bottom, each a link; an arrow that others imply is left out."
    graph = nx.DiGraph([(up, name) for name, stage in stages.items() for up in stage["upstream"]])
    graph.add_nodes_from(stages)
    order = list(stages)
    rows = [sorted(row, key=order.index) for row in nx.topological_generations(graph)]
    nodes = {name: stage | {"name": name, "kind": "stage"} for name, stage in stages.items()}
    edges = list(nx.transitive_reduction(graph).edges)
    chain = [before | {"kind": "outside"}, *({**node, "kind": "outside"} for node in after)]
    nodes |= {node["name"]: node for node in chain}
    edges += [(before["name"], name) for name in rows[0]]
    for node in after:
        edges += [(rows[-1][-1], node["name"])]
        rows.append([node["name"]])
    rows = [[before["name"]], *rows]

    wide = max(len(row) for row in rows) * (WIDTH + GAP)
    place = {}
    for down, row in enumerate(rows):
        left = (wide - len(row) * (WIDTH + GAP) + GAP) / 2
        for column, name in enumerate(row):
            place[name] = (left + column * (WIDTH + GAP), down * ROW + 2)
    tall = len(rows) * ROW - ROW + HEIGHT + 4
    drawn = [arrow(place[start], place[end]) for start, end in edges] + [box(nodes[n], *place[n]) for n in place]
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return (
        f'<svg class="pipeline" viewBox="0 0 {wide:g} {tall}" width="{wide:g}" role="img" '
        f'aria-label="The pipeline: {escape(", ".join(place))}" xmlns="http://www.w3.org/2000/svg">'
        f'<defs>{tip}<path d="M0 0L8 4L0 8z"/></marker></defs>{"".join(drawn)}</svg>'
    )


def arrow(
    start: tuple[float, float],  # left and top of the box it leaves
    end: tuple[float, float],  # of the box it reaches
) -> str:  # an SVG path
    "A line from one box's lower edge to another's upper edge."
    x, y, to_x, to_y = start[0] + WIDTH / 2, start[1] + HEIGHT, end[0] + WIDTH / 2, end[1] - 1
    half = (to_y - y) / 2
    return f'<path class="edge" d="M{x:g} {y:g}C{x:g} {y + half:g} {to_x:g} {to_y - half:g} {to_x:g} {to_y:g}"/>'


def box(
    node: dict,  # `name`, `kind`, `products`, `href`, `title`
    x: float,  # its left edge
    y: float,  # its upper edge
) -> str:  # an SVG link
    "A box with a name and, below it, what it gives."
    gives = " · ".join(node["products"])
    gives = gives if len(gives) <= 30 else f"{gives[:29].rsplit(' · ', 1)[0]} …"
    middle = x + WIDTH / 2
    return (
        f'<a href="{escape(node["href"])}" class="{node["kind"]}"><title>{escape(node["title"])}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text class="name" x="{middle:g}" y="{y + 21:g}">{escape(node["name"])}</text>'
        f'<text class="gives" x="{middle:g}" y="{y + 39:g}">{escape(gives)}</text></a>'
    )
