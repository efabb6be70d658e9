"""Draw in a child process: read DOT from stdin, write a file in the requested format to stdout.

It is run by its path with `python -P`, so that no module in the current folder (a pygraphviz.py of the user) is
imported. A fatal error in Graphviz ends its process (`exit(1)`, or a signal), therefore it has one of its own.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

#: The exit codes that the parent distinguishes; every other code is a crash.
NOT_INSTALLED, REFUSED = 3, 4


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
