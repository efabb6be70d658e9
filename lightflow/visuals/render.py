"""The child process that draws: DOT on stdin, a file of the wanted format on stdout.

Run by path with `python -P`, so that no module in the current folder (a user's pygraphviz.py) is imported, and
alone in a process because a fatal error in Graphviz ends the process it happens in (`exit(1)`, or a signal).
"""

from __future__ import annotations

import os
import resource
import signal
import sys

#: What the parent tells apart; everything else is a crash.
NOT_INSTALLED, REFUSED = 3, 4


def main(arguments: list[str]) -> int:
    output_format, seconds, dpi = arguments[0], int(arguments[1]), arguments[2]
    signal.alarm(seconds)  # a parent that was killed cannot stop us any more
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Keep the pipe to ourselves: anything the C library prints to stdout would spoil the picture.
    answer = os.fdopen(os.dup(1), "wb")
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
        drawn = graph.draw(format=output_format, prog="dot")
    except Exception as error:  # noqa: BLE001 - whatever the library raises, the parent says it in one sentence
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return REFUSED
    with answer:
        answer.write(drawn)
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # freeing a large graph node by node takes as long as a second layout
