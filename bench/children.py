"""`python -m bench children`: what a child run costs, next to a task that calls `lightflow run`.

The processor time is that of all processes of the run. Rounds of the two alternate, so a busy machine slows both.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROUNDS: Final = 5
MANY: Final = 200
WALL_GOAL_S: Final = 0.3
TOLERANCE: Final = 1.5
CHILD: Final = "params: {n: 0}\ntasks: {a: {run: 'true'}}\noutputs: {n: '${{ params.n }}'}\n"
NOTHING: Final = "tasks: {a: {run: 'true'}}\n"
AS_CHILD: Final = "tasks: {a: {type: workflow, file: child.yaml}}\n"
AS_COMMAND: Final = f"tasks: {{a: {{run: '{sys.executable} -m lightflow run child.yaml --quiet --db other.db'}}}}\n"
AS_MANY: Final = (
    f"tasks:\n  a:\n    type: workflow\n    file: child.yaml\n    params: {{n: '${{{{ item }}}}'}}\n"
    f"    foreach: {{items: {list(range(MANY))}}}\n"
)


class Cost(NamedTuple):
    """What a run has taken, in seconds."""

    wall_s: float
    cpu_s: float


def cost(text: str) -> Cost:
    """Execute a workflow in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "child.yaml").write_text(CHILD, encoding="utf-8")
        Path(folder, "w.yaml").write_text(text, encoding="utf-8")
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [sys.executable, "-m", "lightflow", "run", "w.yaml", "--quiet"]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return Cost(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def least(costs: Sequence[Cost]) -> Cost:
    """Return the least of each."""
    return Cost(min(each.wall_s for each in costs), min(each.cpu_s for each in costs))


def main() -> int:
    """Measure, print, and return 1 if a goal is clearly missed."""
    rounds = [[cost(text) for text in (NOTHING, AS_CHILD, AS_COMMAND)] for _ in range(ROUNDS)]
    nothing, child, command = (least(column) for column in zip(*rounds, strict=True))
    child_s, command_s = child.wall_s - nothing.wall_s, command.wall_s - nothing.wall_s
    child_cpu_s, command_cpu_s = child.cpu_s - nothing.cpu_s, command.cpu_s - nothing.cpu_s
    print(
        f"a child run of one task: {child_s:.3f} s more than the task (goal {WALL_GOAL_S} s), {child_cpu_s:.3f} s CPU"
    )
    print(f"the same by `run: lightflow run`: {command_s:.3f} s, {command_cpu_s:.3f} s of CPU")
    print(f"a child run takes {child_cpu_s / command_cpu_s:.2f} times the CPU of a command")
    many = cost(AS_MANY)
    each_s = (many.cpu_s - nothing.cpu_s) / MANY
    print(f"{MANY} child runs of one task: {many.wall_s:.1f} s, {each_s:.3f} s of CPU each")
    return int(child_s > WALL_GOAL_S * TOLERANCE or child_cpu_s > command_cpu_s)
