"""The model of all drawings: what to draw, independent of the format.

A `Picture` is plain data. Mermaid text, the HTML page, DOT, SVG, PNG and PDF are functions of it, so a test of the
model covers all formats, and a stored run is drawn as a file that was just read. Colour is never the only sign of a
state: each style has a sign and a word, too.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from liteflow.record import Record
from liteflow.states import TASK_ENDED

_CONTROL: Final = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"


class Node(Record):
    """A task in a picture."""

    task_id: str
    label: str
    kind: str = ""  #: its type, such as shell
    status: str | None = None
    detail: str | None = None  #: a further line, such as the reason of a failure
    duration_s: float | None = None
    status_text: str | None = None  #: replaces the word of the state: `1 of 6 failed`
    group: str = ""  #: the innermost group that it is in
    members: tuple[str, ...] = ()  #: the tasks in whose place it is drawn, when they are folded


class Box(Record):
    """A group in a picture: a box around its tasks."""

    group_id: str
    group: str = ""  #: the group around it
    status: str | None = None
    detail: str | None = None
    duration_s: float | None = None


class Edge(Record, kw_only=False):
    """`target` waits for `source`; both are tasks or boxes."""

    source: str
    target: str


class Picture(Record):
    """A graph with a heading."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    subtitle: str | None = None
    status: str | None = None
    boxes: tuple[Box, ...] = ()  #: the groups, each after the group around it
    facts: tuple[tuple[str, str], ...] = ()  #: further lines of the heading, such as ("Run", "20260102-…")
    critical: tuple[str, ...] = ()  #: the critical path, in order

    def names(self) -> list[str]:
        """Return the ids of all tasks, then those of the boxes: what edges connect."""
        return [*(node.task_id for node in self.nodes), *(box.group_id for box in self.boxes)]

    def statuses(self) -> list[tuple[str, str | None]]:
        """Return all tasks and boxes with their states."""
        tasks = [(node.task_id, node.status) for node in self.nodes]
        return [*tasks, *((box.group_id, box.status) for box in self.boxes)]

    def upstream(self) -> dict[str, list[str]]:
        """Return the direct dependencies of each task, in the order of the edges."""
        upstream: dict[str, list[str]] = {name: [] for name in self.names()}
        for edge in self.edges:
            upstream[edge.target].append(edge.source)
        return upstream

    def counts(self) -> dict[str, int]:
        """Return the number of tasks by state, in the order of the palette; tasks without a state do not count."""
        counted = Counter(node.status for node in self.nodes if node.status is not None)
        styled = [state for state in STATUS_STYLES if state in counted]
        return {state: counted[state] for state in [*styled, *sorted(set(counted) - set(styled))]}


class Colours(Record):
    """The three colours of a box. The contrast of `ink` on `fill` is at least 4.5, which tests check."""

    fill: str
    stroke: str
    ink: str


class StatusStyle(Record):
    """The style of a state in all formats: a css class, a sign and a word, and colours for light and dark paper."""

    name: str
    sign: str
    word: str
    light: Colours
    dark: Colours
    dashed: bool = False


class _Hue(Record):
    """Colours that several states have, for light and for dark paper."""

    light: Colours
    dark: Colours


_VIOLET: Final = _Hue(
    light=Colours(fill="#eee9fb", stroke="#6f4bc6", ink="#33206e"),
    dark=Colours(fill="#2a2344", stroke="#9a7ff0", ink="#e3dbff"),
)
_BLUE: Final = _Hue(
    light=Colours(fill="#d8ecfb", stroke="#0072b2", ink="#06395c"),
    dark=Colours(fill="#0b314d", stroke="#56b4e9", ink="#d3ecfb"),
)
_GREEN: Final = _Hue(
    light=Colours(fill="#d6f2e7", stroke="#00845f", ink="#05412f"),
    dark=Colours(fill="#0b3a2d", stroke="#2bbd92", ink="#cdf3e5"),
)
_GREY: Final = _Hue(
    light=Colours(fill="#eceef1", stroke="#7d858e", ink="#474e57"),
    dark=Colours(fill="#272c33", stroke="#848d97", ink="#bcc4cd"),
)
_ROSE: Final = _Hue(
    light=Colours(fill="#fbe4de", stroke="#b3261e", ink="#6b1712"),
    dark=Colours(fill="#42201c", stroke="#ff8a80", ink="#ffd9d3"),
)
_AMBER: Final = _Hue(
    light=Colours(fill="#fff3e0", stroke="#b45309", ink="#5c2b04"),
    dark=Colours(fill="#41260a", stroke="#f0a04b", ink="#ffe3c4"),
)

# The hues are those of Okabe and Ito, for colour-blind readers. Only FAILED is a dark box, so that it is visible on a
# grey printout, too. States in which nothing ran have a dashed border.
STATUS_STYLES: Final[Mapping[str, StatusStyle]] = {
    "PENDING": StatusStyle(
        name="pending",
        sign="○",
        word="pending",
        light=Colours(fill="#ffffff", stroke="#848d97", ink="#24292f"),
        dark=Colours(fill="#1c2128", stroke="#7d8590", ink="#d7dde3"),
    ),
    "QUEUED": StatusStyle(
        name="queued",
        sign="◔",
        word="queued",
        light=_VIOLET.light,
        dark=_VIOLET.dark,
    ),
    "RUNNING": StatusStyle(
        name="running",
        sign="▶",
        word="running",
        light=_BLUE.light,
        dark=_BLUE.dark,
    ),
    "WAITING": StatusStyle(
        name="waiting",
        sign="◷",
        word="waiting",
        light=Colours(fill="#e3f4f4", stroke="#1b7f86", ink="#0b3d41"),
        dark=Colours(fill="#11373a", stroke="#4fc3cb", ink="#d2f2f4"),
    ),
    "SUCCESS": StatusStyle(
        name="success",
        sign="✓",
        word="success",
        light=_GREEN.light,
        dark=_GREEN.dark,
    ),
    "FAILED": StatusStyle(
        name="failed",
        sign="✗",
        word="failed",
        light=Colours(fill="#b3261e", stroke="#7d1510", ink="#ffffff"),
        dark=Colours(fill="#b3261e", stroke="#ff8a80", ink="#ffffff"),
    ),
    "UP_FOR_RETRY": StatusStyle(
        name="retry",
        sign="↻",
        word="retrying",
        light=Colours(fill="#ffefbf", stroke="#a66f00", ink="#4d3300"),
        dark=Colours(fill="#453407", stroke="#e6a91e", ink="#ffebb5"),
    ),
    "SKIPPED": StatusStyle(
        name="skipped",
        sign="»",
        word="skipped",
        light=_GREY.light,
        dark=_GREY.dark,
        dashed=True,
    ),
    "UPSTREAM_FAILED": StatusStyle(
        name="upstream",
        sign="⊘",
        word="upstream failed",
        light=_ROSE.light,
        dark=_ROSE.dark,
        dashed=True,
    ),
    "CANCELLED": StatusStyle(
        name="cancelled",
        sign="■",
        word="cancelled",
        light=Colours(fill="#dcd7e0", stroke="#5d5068", ink="#2f2737"),
        dark=Colours(fill="#38323e", stroke="#b3a6bf", ink="#e9e2ef"),
    ),
}
#: States that no task has: of runs, attempts and fires.
_OTHER_STYLES: Final[Mapping[str, StatusStyle]] = {
    "INTERRUPTED": StatusStyle(
        name="interrupted",
        sign="⏸",
        word="interrupted",
        light=_AMBER.light,
        dark=_AMBER.dark,
        dashed=True,
    ),
    "TIMED_OUT": StatusStyle(
        name="timeout",
        sign="⧖",
        word="timed out",
        light=_ROSE.light,
        dark=_ROSE.dark,
    ),
    "LOST": StatusStyle(
        name="lost",
        sign="!",
        word="lost",
        light=_AMBER.light,
        dark=_AMBER.dark,
        dashed=True,
    ),
    "REPEATED": StatusStyle(
        name="repeated",
        sign="⟳",
        word="repeated",
        light=_GREEN.light,
        dark=_GREEN.dark,
        dashed=True,
    ),
    "MISSED": StatusStyle(
        name="missed",
        sign="◇",
        word="missed",
        light=_AMBER.light,
        dark=_AMBER.dark,
        dashed=True,
    ),
    "CLAIMED": StatusStyle(
        name="claimed",
        sign="◑",
        word="starting",
        light=_VIOLET.light,
        dark=_VIOLET.dark,
    ),
    "STARTED": StatusStyle(
        name="started",
        sign="→",
        word="started",
        light=_BLUE.light,
        dark=_BLUE.dark,
    ),
    "DELETED": StatusStyle(
        name="deleted",
        sign="∅",
        word="deleted",
        light=_GREY.light,
        dark=_GREY.dark,
        dashed=True,
    ),
}
#: The styles of all states.
ALL_STYLES: Final[Mapping[str, StatusStyle]] = {**STATUS_STYLES, **_OTHER_STYLES}
#: The style of a task without a state: a definition instead of a run.
PLAIN_STYLE: Final = StatusStyle(
    name="plain",
    sign="",
    word="",
    light=Colours(fill="#f3f6fa", stroke="#5f7186", ink="#1f2933"),
    dark=Colours(fill="#222a33", stroke="#8296ab", ink="#dfe6ee"),
)


def status_style(status: str | None) -> StatusStyle:
    """Return the style of a state. An unknown state, of a later version, gets the plain style with its own word."""
    if status is None:
        return PLAIN_STYLE
    if (style := ALL_STYLES.get(status)) is not None:
        return style
    return StatusStyle(
        name="plain",
        sign="?",
        word=clean(status).lower().replace("_", " "),
        light=PLAIN_STYLE.light,
        dark=PLAIN_STYLE.dark,
    )


def clean(text: str) -> str:
    """Return text on one line, without control characters and direction overrides, which are unsafe in all formats."""
    return " ".join(re.sub(_CONTROL, "\ufffd", text).split())


def shorten(text: str, limit: int) -> str:
    """Shorten long text in the middle, because names often differ at their ends."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"


def duration_text(seconds: float | None) -> str:
    """Return a duration for people: 420 ms, 1.42 s, 12.3 s, 3 min 20 s, 2 h 05 min, 3 d 04 h."""
    if seconds is None or seconds != seconds or seconds in (float("inf"), float("-inf")):
        return ""
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def tally_text(counts: Mapping[str, int], noun: str = "instance") -> str:
    """Return the progress of a mapped task: `23/10,000 done, 2 failed, 4 running`; at its end `10,000 instances`."""
    total = sum(counts.values())
    done = sum(number for status, number in counts.items() if status in TASK_ENDED)
    head = f"{done:,}/{total:,} done" if done < total else f"{total:,} {noun}{'' if total == 1 else 's'}"
    shown = [status for status in STATUS_STYLES if counts.get(status) and status not in ("SUCCESS", "PENDING")]
    return ", ".join([head, *(f"{counts[status]:,} {status_style(status).word}" for status in shown)])


def caption(node: Node) -> str:
    """Return the second line of a node: type, sign and word of the state, and duration, as far as they are known."""
    look = status_style(node.status)
    state = f"{look.sign} {node.status_text or look.word}".strip()
    return " · ".join(part for part in (clean(node.kind), state, duration_text(node.duration_s)) if part)


def box_label(box: Box) -> str:
    """Return the line at the edge of a box: the id of the group, sign and word of its state, and its duration."""
    look = status_style(box.status)
    state = f"{look.sign} {look.word}".strip()
    return " · ".join(part for part in (clean(box.group_id), state, duration_text(box.duration_s)) if part)


def make_picture(
    title: str,
    nodes: Iterable[Node],
    dependencies: Mapping[str, Iterable[str]],
    *,
    subtitle: str | None = None,
    status: str | None = None,
    facts: Sequence[tuple[str, str]] = (),
) -> Picture:
    """Return a picture of these nodes, with an edge for each dependency; edges are sorted and appear once.

    A dependency without a task of its own (a damaged history) becomes a node with that remark.
    """
    shown = list(nodes)
    pairs = {(source, task_id) for task_id, sources in dependencies.items() for source in sources}
    missing = {source for source, _ in pairs} - {node.task_id for node in shown}
    shown += [Node(task_id=task_id, label=task_id, kind="not in this run") for task_id in sorted(missing)]
    edges = tuple(Edge(source, target) for source, target in sorted(pairs))
    return Picture(title=title, nodes=tuple(shown), edges=edges, subtitle=subtitle, status=status, facts=tuple(facts))


def layers(picture: Picture) -> dict[str, int]:
    """Return the distance of each task and box from the start (longest path), without those of a cycle."""
    downstream: dict[str, list[str]] = {name: [] for name in picture.names()}
    waiting = dict.fromkeys(downstream, 0)
    inside = [Edge(box.group, box.group_id) for box in picture.boxes if box.group in downstream]
    inside += [Edge(node.group, node.task_id) for node in picture.nodes if node.group in downstream]
    for edge in (*picture.edges, *inside):
        downstream[edge.source].append(edge.target)
        waiting[edge.target] += 1
    layer = {task_id: 0 for task_id, count in waiting.items() if count == 0}
    ready = deque(layer)
    while ready:
        task_id = ready.popleft()
        for target in downstream[task_id]:
            layer[target] = max(layer.get(target, 0), layer[task_id] + 1)
            waiting[target] -= 1
            if waiting[target] == 0:
                ready.append(target)
    return {task_id: depth for task_id, depth in layer.items() if waiting[task_id] == 0}


def layer_sizes(picture: Picture) -> list[int]:
    """Return the number of tasks and boxes in each layer."""
    sizes = Counter(layers(picture).values())
    return [sizes[depth] for depth in sorted(sizes)]


def prefers_left_to_right(picture: Picture) -> bool:
    """Return whether left-to-right fits a screen better than top-down. Boxes and screens are both wide."""
    sizes = layer_sizes(picture)
    if not sizes:
        return True
    depth, breadth = len(sizes), max(sizes)
    if breadth <= depth <= 6:
        return True  # a pipeline on one screen reads like a line of text
    box, gap_along, gap_across, line = 170, 45, 25, 45
    right = (depth * (box + gap_along)) / (breadth * (line + gap_across))
    down = (breadth * (box + gap_across)) / (depth * (line + gap_along))
    return _awkward(right) <= _awkward(down)


def _awkward(ratio: float, ideal: float = 1.6) -> float:
    """Return the distance of a width-to-height ratio from that of a screen, the same for too wide and too tall."""
    return max(ratio / ideal, ideal / ratio)
