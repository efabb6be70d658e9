"""Large pictures with fewer boxes: tasks that are alike as one stack, groups as one box, layers as a row of counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from typing import Final, Literal

from liteflow.pictures.boxes import folded, in_place
from liteflow.pictures.picture import Edge, Node, Picture, layer_sizes, layers, status_style, tally_text
from liteflow.record import replace
from liteflow.states import combined_status

#: The name of the remark in `Picture.facts` that says what was folded.
FOLDED: Final = "Folded"
#: The same for a picture of layers, which cannot be unfolded.
LAYERED: Final = "Layers"
Fold = Literal["auto", "none", "all"]
#: Above one of these a picture is folded if nothing else is said: it would not be readable.
EASY_NODES: Final = 200
EASY_BREADTH: Final = 40
#: Above these only the layers are drawn: their layout takes seconds, and a page can show them no longer.
MOST_NODES: Final = 2_000
MOST_EDGES: Final = 8_000
_MOST_LAYERS: Final = 40
_SMALLEST_STACK: Final = 3


def arranged(picture: Picture, fold: Fold = "auto", toggled: Collection[str] = ()) -> Picture:
    """Return a picture that can be read and laid out, with the remark `FOLDED` or `LAYERED` if something is left out.

    Args:
        fold: `all` folds groups and tasks that are alike; `auto` does so for what is large.
        toggled: the ids of groups, and of first tasks of stacks, that are in the other state than `fold` says.
    """
    groups = {box.group_id for box in picture.boxes}
    if fold == "all":
        shown = stacked(folded(picture, groups & set(toggled)), toggled)
    else:
        shown = folded(picture, groups - set(toggled))
        if fold == "auto" and not _is_easy(shown):
            shown = stacked(shown, toggled)
            if not _is_easy(shown):
                shown = folded(shown, groups & set(toggled))
    if len(shown.nodes) > MOST_NODES or len(shown.edges) > MOST_EDGES:
        return _remarked(picture, _layered(shown), LAYERED)
    return _remarked(picture, shown, FOLDED)


def _is_easy(picture: Picture) -> bool:
    if len(picture.nodes) > EASY_NODES:
        return False
    return max(layer_sizes(picture), default=0) <= EASY_BREADTH


def stacked(picture: Picture, unfolded: Collection[str] = ()) -> Picture:
    """Return the picture with a stack in place of tasks of one kind that wait for the same and lead to the same."""
    upstream: dict[str, list[str]] = {name: [] for name in picture.names()}
    downstream: dict[str, list[str]] = {name: [] for name in upstream}
    for edge in picture.edges:
        upstream[edge.target].append(edge.source)
        downstream[edge.source].append(edge.target)
    alike: dict[tuple[object, ...], list[Node]] = {}
    for node in picture.nodes:
        ends = frozenset(upstream[node.task_id]), frozenset(downstream[node.task_id])
        alike.setdefault((node.group, node.kind, *ends), []).append(node)
    nodes = []
    places: dict[str, str] = {}
    for same in alike.values():
        if len(same) < _SMALLEST_STACK or same[0].task_id in unfolded:
            nodes += same
            continue
        stack = _together(same, same[0].task_id, f"{_common_name(same)} ×{len(same):,}", same[0].kind)
        nodes.append(stack)
        places |= {node.task_id: stack.task_id for node in same}
    return in_place(picture, nodes, _place(places), boxes=picture.boxes)


def _layered(picture: Picture) -> Picture:
    """Return the picture with a row of nodes in place of its layers; neighbouring layers share a node."""
    by_layer = layers(picture)
    depth = max(by_layer.values(), default=0) + 1
    width = -(-depth // _MOST_LAYERS)
    rows: dict[int, list[Node]] = {}
    for node in picture.nodes:
        rows.setdefault(by_layer.get(node.task_id, 0) // width, []).append(node)
    nodes = []
    places: dict[str, str] = {}
    for number in sorted(rows):
        same, first = rows[number], number * width + 1
        last = min(first + width - 1, depth)
        label = f"layer {first}" if first == last else f"layers {first:,}–{last:,}"  # noqa: RUF001 - a range
        tasks = sum(len(node.members) or 1 for node in same)
        row = _together(same, same[0].task_id, label, f"{tasks:,} task{'' if tasks == 1 else 's'}")
        nodes.append(replace(row, group=""))
        places |= {node.task_id: row.task_id for node in same}
    row_ids = [node.task_id for node in nodes]
    shown = in_place(replace(picture, edges=()), nodes, _place(places), boxes=())
    return replace(shown, edges=tuple(map(Edge, row_ids, row_ids[1:])))


def _place(places: dict[str, str]) -> Callable[[str], str]:
    return lambda name: places.get(name, name)


def _together(same: Sequence[Node], task_id: str, label: str, kind: str) -> Node:
    """Return the node in place of several."""
    counts: dict[str, int] = {}
    for node in same:
        if node.status is not None:
            counts[node.status] = counts.get(node.status, 0) + 1
    members = [member for node in same for member in (node.members or (node.task_id,))]
    status = combined_status(counts)
    failed = counts.get("FAILED", 0)
    return Node(
        task_id=task_id,
        label=label,
        kind=kind,
        status=status,
        detail=tally_text(counts, "task") if counts else None,
        status_text=f"{failed:,} of {len(same):,} {status_style('FAILED').word}" if failed else None,
        group=same[0].group,
        members=tuple(members),
    )


def _common_name(same: Sequence[Node]) -> str:
    """Return what the labels of several nodes have in common, or the first of them."""
    labels = sorted(node.label for node in same)
    pairs = zip(labels[0], labels[-1], strict=False)
    common = "".join(first for first, last in takewhile(lambda pair: pair[0] == pair[1], pairs)).rstrip(" ×")
    return f"{common}…" if len(common) > 2 else f"{same[0].label} …"


def _remarked(picture: Picture, shown: Picture, name: str) -> Picture:
    """Return a picture with the remark how many tasks are drawn as how many boxes, if that differs."""
    total, drawn = len(picture.nodes), len(shown.nodes)
    if drawn == total:
        return shown
    remark = f"{total:,} tasks are drawn as {drawn:,} box{'' if drawn == 1 else 'es'}"
    return replace(shown, facts=(*shown.facts, (name, remark)))
