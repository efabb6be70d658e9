"""`lightflow run` with its live view, on a terminal of 120 columns, or with its output in a pipe.

`prefix` and `quiet`: in a pipe, commands that print, with that `--output`.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from bench.contestants import kit
from bench.workloads import yaml_tasks


def main() -> None:
    what, count = sys.argv[1], int(sys.argv[2])
    prints = what in ("prefix", "quiet")
    yaml_tasks(Path(), count, chain=False, script="echo a line that is printed" if prints else "true")
    reader, writer = pty.openpty() if what == "terminal" else os.pipe()
    if what == "terminal":
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color"}
    began = time.perf_counter()
    command = [sys.executable, "-m", "lightflow", "run", "flow.yaml", *(["--output", what] if prints else [])]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=environ) as process:
        os.close(writer)
        shown = 0
        while chunk := _read(reader):
            shown += len(chunk)
    seconds = time.perf_counter() - began
    kit.demand(process.returncode == 0, f"exit code {process.returncode}")
    kit.demand(shown > (25 * count if what == "prefix" else 0), "nothing was shown")
    kit.report(seconds, shown_kb=shown / 1024)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # a terminal whose other side is closed
        return b""


if __name__ == "__main__":
    main()
