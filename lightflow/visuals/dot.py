"""Write a picture as DOT text, the input of Graphviz, which is also a format of its own.

Every node carries `id="task-…"` and `class="task state-…"`, which Graphviz copies to the SVG group, so that a
page can find a task and change its state while it runs. No URLs: a label must never become a link.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape as html_escape
from typing import Final

from liteflow.api import (
    Picture,
    PictureEdge,
    PictureNode,
    box_label,
    clean_text,
    critical_edges,
    node_caption,
    prefers_left_to_right,
    shorten,
    status_style,
)

#: Graphviz measures with the first installed font; a viewer of the SVG shows the first that it has.
FONT: Final = "Helvetica,Arial,DejaVu Sans,sans-serif"
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LABEL_LIMIT: Final = 44
#: A thin empty line: Graphviz sets lines so tightly that the descender of a `p` or `_` touches the next line.
_GAP: Final = '<FONT POINT-SIZE="3"> </FONT>'
_INK, _QUIET, _LINE = "#1f2933", "#5b6673", "#8b96a3"
#: Above this number of tasks edges are straight: routing curves takes most of the time of a large layout.
_CURVES_UP_TO: Final = 400
#: From so many nodes on that have no edge, invisible edges place them in rows: Graphviz would place them side by side.
_ROWS_FROM: Final = 9
_Rows = Mapping[str, Sequence[Sequence[str]]]  # by group: lists of nodes that invisible edges place in a line
_ROW_SHARE: Final = 0.6  # height of a node by its width, twice: the rows are together about twice as wide as high


def to_dot(picture: Picture, *, headed: bool = True) -> str:
    """Return DOT text, the same for the same picture; `headed=False` leaves out the title."""
    names = node_ids(picture)
    large = len(picture.nodes) > _CURVES_UP_TO
    right = prefers_left_to_right(picture)
    lines = [
        "digraph workflow {",
        f"  graph [{_graph_attributes(picture, right=right, large=large, headed=headed)}]",
        f'  node [shape=box, style="rounded,filled", fontname="{FONT}", fontsize=12, margin="0.14,0.06", '
        'height=0.5, penwidth=1.3, tooltip=" "]',
        f'  edge [color="{_LINE}", penwidth=1.1, arrowsize=0.65, arrowhead=normal, tooltip=" "]',
    ]
    rows = _rows(picture, right=right)
    lines += _members(picture, names, rows, "", "  ", right=right)
    end_nodes = _end_nodes(picture, rows)
    steps = critical_edges(picture)
    lines += [f"  {_edge(edge, names, end_nodes, is_critical=edge in steps)}" for edge in picture.edges]
    lines.append("}")
    return "\n".join(lines) + "\n"


def _members(
    picture: Picture, names: dict[str, str], rows: _Rows, group: str, indent: str, *, right: bool
) -> list[str]:
    """Return the lines of the nodes and clusters in a group, or of those in none."""
    critical = frozenset(picture.critical)
    lines = [
        f"{indent}{_node(node, names[node.task_id], is_critical=node.task_id in critical)}"
        for node in picture.nodes
        if node.group == group
    ]
    for box in picture.boxes:
        if box.group == group:
            look = status_style(box.status)
            name = names[box.group_id]
            label = f'<FONT POINT-SIZE="11"><B>{_html(shorten(box_label(box), _LABEL_LIMIT))}</B></FONT>'
            lines.append(f'{indent}subgraph "cluster_{name}" {{')
            lines.append(
                f'{indent}  graph [id="{name}", class="group state-{look.name}", label=<{label}>, style="rounded", '
                f'color="{look.light.stroke}", fontcolor="{_INK}", margin="10"]'
            )
            members = _members(picture, names, rows, box.group_id, f"{indent}  ", right=right)
            lines += members or [f'{indent}  "{name}" [style=invis, label="", width=0.5, height=0.2]']
            lines.append(f"{indent}}}")
    chains = [[f'"{names[task_id]}"' for task_id in chain] for chain in rows.get(group, ())]
    places = [f"{indent}{' -> '.join(chain)}{' [style=invis]' if len(chain) > 1 else ''}" for chain in chains]
    # Graphviz places the first names at the left or, where edges lead to the right, at the bottom.
    return [*reversed(places), *lines] if right else [*lines, *places]


def _end_nodes(picture: Picture, rows: _Rows) -> dict[str, tuple[str, str]]:
    """Return the first and the last task inside each box, for its edges; the box itself where it has no task."""
    ends = {chains[-1][-1]: chains[0][-1] for chains in rows.values()}  # the first chain is as long as any
    inside: dict[str, list[str]] = {box.group_id: [] for box in picture.boxes}
    parents = {box.group_id: box.group for box in picture.boxes}
    for node in picture.nodes:
        group = node.group
        while group in parents:
            inside[group].append(node.task_id)
            group = parents[group]
    return {
        group: (names[0], ends.get(names[-1], names[-1])) if names else (group, group)
        for group, names in inside.items()
    }


def _edge(edge: PictureEdge, names: dict[str, str], end_nodes: dict[str, tuple[str, str]], *, is_critical: bool) -> str:
    """Return an edge; that of a box ends at the border of its cluster."""
    source, target = edge.source, edge.target
    attributes = [f'class="critical", penwidth=2.6, color="{_INK}"'] if is_critical else []
    if source in end_nodes:
        attributes.append(f'ltail="cluster_{names[source]}"')
        source = end_nodes[source][1]
    if target in end_nodes:
        attributes.append(f'lhead="cluster_{names[target]}"')
        target = end_nodes[target][0]
    return f'"{names[source]}" -> "{names[target]}"' + (f" [{', '.join(attributes)}]" if attributes else "")


def _rows(picture: Picture, *, right: bool) -> _Rows:
    """Return the nodes without edges of each group, or of none, where they are many: each list a row or a column."""
    ends = {end for edge in picture.edges for end in (edge.source, edge.target)}
    groups: dict[str, list[str]] = {}
    for node in picture.nodes:
        if node.task_id not in ends:
            groups.setdefault(node.group, []).append(node.task_id)
    return {group: _chains(loose, right=right) for group, loose in groups.items() if len(loose) >= _ROWS_FROM}


def _chains(names: Sequence[str], *, right: bool) -> list[Sequence[str]]:
    across = round(math.sqrt(_ROW_SHARE * len(names)))
    if right:
        return [names[at : at + across] for at in range(0, len(names), across)]
    return [names[at::across] for at in range(across)]


def node_ids(picture: Picture) -> dict[str, str]:
    """Return the DOM id of each task and box. An invalid id (of a corrupt file) is replaced by a number."""
    return {
        name: f"task-{name}" if _SAFE_ID.fullmatch(name) else f"task~{number}"
        for number, name in enumerate(picture.names())
    }


def _graph_attributes(picture: Picture, *, right: bool, large: bool, headed: bool) -> str:
    attributes = {
        "rankdir": "LR" if right else "TB",
        "bgcolor": "white",
        "pad": "0.3",
        "nodesep": "0.22" if right else "0.3",
        "ranksep": "0.55" if right else "0.5",
        "splines": "line" if large else "spline",
        "fontname": FONT,
        "fontcolor": _INK,
        "labelloc": "t",
        "labeljust": "l",
        "outputorder": "edgesfirst",
        "tooltip": " ",
    }
    if picture.boxes:
        attributes["compound"] = "true"
    if large:
        # Without these limits the search for short edges takes minutes for a few thousand nodes.
        attributes |= {"nslimit": "2", "nslimit1": "2", "mclimit": "0.4"}
    pairs = ", ".join(f'{name}="{value}"' for name, value in attributes.items())
    if not headed:
        return pairs
    label = f'<FONT POINT-SIZE="17"><B>{_html(clean_text(picture.title)) or "workflow"}</B></FONT><BR ALIGN="LEFT"/>'
    if picture.subtitle:
        subtitle = _html(clean_text(picture.subtitle))
        label += f'{_GAP}<BR ALIGN="LEFT"/><FONT POINT-SIZE="11" COLOR="{_QUIET}">{subtitle}</FONT><BR ALIGN="LEFT"/>'
    label += '<FONT POINT-SIZE="8"> </FONT><BR ALIGN="LEFT"/>'
    return f"{pairs}, label=<{label}>"


def _node(node: PictureNode, name: str, *, is_critical: bool) -> str:
    look = status_style(node.status)
    label = shorten(clean_text(node.label), _LABEL_LIMIT)
    second = shorten(node_caption(node), _LABEL_LIMIT)
    html = f"<B>{_html(label)}</B>" if label else " "
    if second:
        html += f'<BR/>{_GAP}<BR/><FONT POINT-SIZE="9">{_html(second)}</FONT>'
    style = "rounded,filled,dashed" if look.dashed else "rounded,filled"
    width = max(_inches(label, 12 * 1.08), _inches(second, 9)) + 0.32
    kind, thick = ("task critical", ", penwidth=2.8") if is_critical else ("task", "")
    return (
        f'"{name}" [id="{name}", class="{kind} state-{look.name}", label=<{html}>, width={width:.2f}, style="{style}", '
        f'fillcolor="{look.light.fill}", color="{look.light.stroke}", fontcolor="{look.light.ink}"{thick}]'
    )


def _html(text: str) -> str:
    """Return text for an HTML-like label. Backslashes are escaped too: Graphviz replaces \\N and \\G even there."""
    return html_escape(text, quote=True).replace("&#x27;", "&#39;").replace("\\", "&#92;")


def _inches(text: str, size: float) -> float:
    """Return an upper estimate of the width of text.

    The text must fit in the box with wider fonts too: an SVG is viewed on machines with other fonts, and without
    fontconfig Graphviz only guesses the width.
    """
    em = 0.0
    for char in text:
        if unicodedata.east_asian_width(char) in "WF":
            em += 1.05
        elif char in "iljt|!.,:;'()[]fI ":
            em += 0.38
        elif char in "mwMW@%…▶":
            em += 0.95
        elif char.isupper() or not char.isascii():
            em += 0.75
        else:
            em += 0.6
    return em * size / 72
