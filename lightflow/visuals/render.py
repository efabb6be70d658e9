"""Draw in a child process: read DOT from stdin, write a file in the requested format to stdout.

The format `geometry` is JSON: only the places of nodes, boxes and edges, for a page that draws them itself.

It is run by its path with `python -P`, so that no module in the current folder (a pygraphviz.py of the user) is
imported. A fatal error in Graphviz ends its process (`exit(1)`, or a signal), therefore it has one of its own.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

#: The exit codes that the parent distinguishes; every other code is a crash.
NOT_INSTALLED, REFUSED = 3, 4


def geometry(drawn: bytes) -> bytes:
    """Return the places in a layout (`json0` of Graphviz) as JSON, in points from the upper left corner.

    `nodes` and `boxes` have the middle and the size of each by its name, `edges` the names of its ends and the points
    of its curve: the start, then three for each piece; the last point is that of the arrow.
    """
    layout = json.loads(drawn)
    left, bottom, right, top = _numbers(layout["bb"])
    nodes, boxes, names = dict[str, Any](), dict[str, Any](), list[str]()
    for each in layout.get("objects", ()):
        names.append(each["name"])
        if "pos" in each:
            x, y = _numbers(each["pos"])
            sides = (round(float(each[side]) * 72, 1) for side in ("width", "height"))
            nodes[each["name"]] = [round(x - left, 1), round(top - y, 1), *sides]
        elif "bb" in each:
            low_x, low_y, high_x, high_y = _numbers(each["bb"])
            middle = [round((low_x + high_x) / 2 - left, 1), round(top - (low_y + high_y) / 2, 1)]
            boxes[each["name"]] = [*middle, round(high_x - low_x, 1), round(high_y - low_y, 1)]
    edges = []
    for each in layout.get("edges", ()):
        if each.get("style") == "invis":
            continue
        points = _curve(each.get("pos", ""))
        flat = [round(value, 1) for x, y in points for value in (x - left, top - y)]
        ends = [each.get("ltail") or names[each["tail"]], each.get("lhead") or names[each["head"]]]
        edges.append([*ends, flat])
    size = [round(right - left, 1), round(top - bottom, 1)]
    return json.dumps({"size": size, "nodes": nodes, "boxes": boxes, "edges": edges}, separators=(",", ":")).encode()


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _curve(text: str) -> list[list[float]]:
    """Return the points of an edge: `e,` is before the point of the arrow, `s,` before one at the start."""
    points, arrow = list[list[float]](), list[list[float]]()
    for part in text.partition(";")[0].split():
        if part.startswith("e,"):
            arrow = [_numbers(part[2:])]
        elif not part.startswith("s,"):
            points.append(_numbers(part))
    return points + arrow


def main(arguments: list[str]) -> int:
    output_format, seconds, dpi = arguments[0], int(arguments[1]), arguments[2]
    signal.alarm(seconds)  # a parent that was killed cannot stop this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Output of the C library on stdout would corrupt the picture, so stdout becomes stderr.
    result = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        import pygraphviz
    except ImportError as error:
        print(error, file=sys.stderr)
        return NOT_INSTALLED
    try:
        graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
        if output_format == "png":
            graph.graph_attr["dpi"] = dpi
        if output_format == "geometry":
            drawn = geometry(graph.draw(format="json0", prog="dot"))
        else:
            drawn = graph.draw(format=output_format, prog="dot")
    except Exception as error:  # noqa: BLE001 - the parent reports any error in one sentence
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return REFUSED
    with result:
        result.write(drawn)
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # to free a large graph takes as long as another layout
