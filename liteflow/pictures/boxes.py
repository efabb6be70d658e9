"""Groups in pictures: boxes around their tasks, and pictures in which a box is folded to a node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from liteflow.pictures.picture import Box, Edge, Node, Picture
from liteflow.record import replace


def with_boxes(picture: Picture, rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Return a picture with boxes in place of the nodes of groups; `rows` are the tasks of a stored graph."""
    gates = {row["id"]: row["gate"] for row in rows if row.get("gate") in ("group", "entry")}
    if not gates:
        return picture
    parents = {row["id"]: row["group"] for row in rows if gates.get(row.get("group")) == "group"}
    nodes = tuple(replace(node, group=parents.get(node.task_id, "")) for node in picture.nodes)
    boxes = [
        Box(group_id=node.task_id, group=node.group, status=node.status, detail=node.detail)
        for node in nodes
        if gates.get(node.task_id) == "group"
    ]
    entries = {name: parents[name] for name, gate in gates.items() if gate == "entry" and name in parents}
    return _boxed(replace(picture, nodes=nodes), boxes, entries)


def _boxed(picture: Picture, boxes: Sequence[Box], entries: Mapping[str, str]) -> Picture:
    """Return the picture with boxes in place of the nodes of groups; `entries` has the group of each entry.

    What waits for a group gets an edge from its box, and what a whole group waits for gets an edge to its box.
    """
    if not boxes:
        return picture
    ids, hidden = {box.group_id for box in boxes}, {box.group_id for box in boxes} | entries.keys()
    nodes = tuple(node for node in picture.nodes if node.task_id not in hidden)
    around = _around(boxes, nodes)
    edges = dict[Edge, None]()
    for edge in picture.edges:
        source, target = edge.source, entries.get(edge.target, edge.target)
        if source in entries or target in around.get(source, ()) or (target in ids and target in around[source]):
            continue  # inside a group: from its entry, or to its join
        edges[Edge(source, target)] = None
    edges_to_boxes = _to_boxes(edges, boxes, nodes, around)
    return replace(picture, nodes=nodes, edges=tuple(edges_to_boxes), boxes=tuple(boxes))


def _around(boxes: Sequence[Box], nodes: Iterable[Node]) -> dict[str, tuple[str, ...]]:
    """Return the boxes around each box and node, the innermost first."""
    parents = {box.group_id: box.group for box in boxes}
    around: dict[str, tuple[str, ...]] = {}
    for name, parent in [*parents.items(), *((node.task_id, node.group) for node in nodes)]:
        groups: list[str] = []
        while parent in parents and parent not in groups:
            groups.append(parent)
            parent = parents[parent]
        around[name] = tuple(groups)
    return around


def _to_boxes(
    edges: Iterable[Edge], boxes: Sequence[Box], nodes: Iterable[Node], around: Mapping[str, tuple[str, ...]]
) -> list[Edge]:
    """Return the edges with one to the box where one task leads to all first tasks of a group."""
    edges = list(edges)
    for box in reversed(boxes):  # the inner boxes first
        members = [name for name, groups in around.items() if groups[:1] == (box.group_id,)]
        inner = {edge.target for edge in edges if box.group_id in around.get(edge.source, ())}
        first = {name for name in members if name not in inner}
        sources: dict[str, set[str]] = {}
        for edge in edges:
            if edge.target in first and box.group_id not in around.get(edge.source, ()):
                sources.setdefault(edge.source, set()).add(edge.target)
        common = {source for source, targets in sources.items() if len(first) > 1 and targets == first}
        edges = [edge for edge in edges if not (edge.source in common and edge.target in first)]
        edges += [Edge(source, box.group_id) for source in sources if source in common]
    return edges


def critical_edges(picture: Picture) -> set[Edge]:
    """Return the edges that are steps of the critical path; a step into a group may be the edge to its box."""
    around = _around(picture.boxes, picture.nodes)
    edges = set(picture.edges)
    steps = set[Edge]()
    for source, target in zip(picture.critical, picture.critical[1:], strict=False):
        sources, targets = (source, *around.get(source, ())), (target, *around.get(target, ()))
        steps |= {Edge(above, below) for above in sources for below in targets} & edges
    return steps


def folded(picture: Picture, unfolded: Collection[str] = ()) -> Picture:
    """Return the picture with a node in place of each outermost box, apart from the boxes that stay unfolded."""
    if not picture.boxes:
        return picture
    around = _around(picture.boxes, picture.nodes)

    def shown(name: str) -> str:
        return next((group for group in reversed(around.get(name, ())) if group not in unfolded), name)

    members: dict[str, list[str]] = {}
    for node in picture.nodes:
        members.setdefault(shown(node.task_id), []).extend(node.members or [node.task_id])
    nodes = [node for node in picture.nodes if shown(node.task_id) == node.task_id]
    boxes = []
    for box in picture.boxes:
        if shown(box.group_id) != box.group_id:
            continue
        if box.group_id in unfolded:
            boxes.append(box)
            continue
        inside = members.get(box.group_id, [])
        nodes.append(
            Node(
                task_id=box.group_id,
                label=box.group_id,
                kind=f"group of {len(inside):,} task{'' if len(inside) == 1 else 's'}",
                status=box.status,
                detail=box.detail,
                duration_s=box.duration_s,
                group=box.group,
                members=tuple(inside),
            )
        )
    return in_place(picture, nodes, shown, boxes=tuple(boxes))


def in_place(
    picture: Picture, nodes: Iterable[Node], shown: Callable[[str], str], *, boxes: tuple[Box, ...]
) -> Picture:
    """Return the picture with other nodes and boxes, where `shown` names the node in place of a task or a box."""
    edges = {Edge(shown(edge.source), shown(edge.target)): None for edge in picture.edges}
    return replace(
        picture,
        nodes=tuple(nodes),
        edges=tuple(edge for edge in edges if edge.source != edge.target),
        boxes=boxes,
        critical=tuple(dict.fromkeys(map(shown, picture.critical))),
    )
