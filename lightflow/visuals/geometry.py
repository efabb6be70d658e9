"""The geometry of a picture: where its boxes and edges are, for a page that draws them and changes their states.

It comes from the same DOT text as the pictures of `lightflow dag`. Boxes have room for the caption of any state, so
the geometry stays the same while a run changes.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypedDict

from lightflow.visuals.dot import node_ids, to_dot
from lightflow.visuals.layout import LayoutWords, lay_out
from liteflow.api import FOLDED, LAYERED, Picture, replace

TIMEOUT_S: Final = 20
#: The longest caption of a task that runs and has ended; each of its later states fits into the box.
_ROOM: Final = "✓ cancelled"
_ROOM_S: Final = 59 * 60 + 59.0
_WORDS: Final = LayoutWords(drawing="the graph", advice="the table has every task")


class BoxColumns(TypedDict):
    """The boxes around groups, as columns."""

    columns: list[str]
    rows: list[Any]


class GeometryShape(BoxColumns):
    """Where the nodes of a graph, the boxes around its groups and its edges are.

    The rows are nodes; an edge has the numbers of its ends, nodes first, and its points. `members` are the tasks of
    what is one box; `folded` says in words what is folded, and `layered` whether only layers are drawn.
    """

    size: list[float]
    boxes: BoxColumns
    edges: list[Any]
    members: dict[str, list[str]]
    folded: str | None
    layered: bool


def geometry_dot(picture: Picture) -> str:
    """Return the DOT text of a picture whose boxes have room for any state; equal texts have one geometry."""
    nodes = tuple(replace(node, status=None, status_text=_ROOM, duration_s=_ROOM_S) for node in picture.nodes)
    boxes = tuple(replace(box, status=None, duration_s=_ROOM_S) for box in picture.boxes)
    return to_dot(replace(picture, nodes=nodes, boxes=boxes, critical=()), headed=False)


def places(dot: str) -> dict[str, Any]:
    """Return the places of the nodes, boxes and edges of a DOT text, by their names in it. Raises VisualError."""
    laid_out: dict[str, Any] = json.loads(lay_out(dot, "geometry", TIMEOUT_S, words=_WORDS))
    return laid_out


def geometry(picture: Picture, placed: dict[str, Any]) -> GeometryShape:
    """Return the geometry of a picture as columns and rows; edges name nodes and boxes by their numbers."""
    names = node_ids(picture)
    nodes = [
        [node.task_id, node.label, node.kind, node.group, *placed["nodes"][names[node.task_id]]]
        for node in picture.nodes
    ]
    boxes = [[box.group_id, box.group, *placed["boxes"][f"cluster_{names[box.group_id]}"]] for box in picture.boxes]
    numbers = {names[name]: number for number, name in enumerate(picture.names())}
    edges = [
        [numbers[source.removeprefix("cluster_")], numbers[target.removeprefix("cluster_")], points]
        for source, target, points in placed["edges"]
    ]
    facts = dict(picture.facts)
    return {
        "size": placed["size"],
        "columns": ["task", "label", "kind", "group", "x", "y", "width", "height"],
        "rows": nodes,
        "boxes": {"columns": ["group", "parent", "x", "y", "width", "height"], "rows": boxes},
        "edges": edges,
        "members": {node.task_id: list(node.members) for node in picture.nodes if node.members},
        "folded": facts.get(FOLDED) or facts.get(LAYERED),
        "layered": LAYERED in facts,
    }
