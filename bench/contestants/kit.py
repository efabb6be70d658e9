"""The common part of all contestants: the work, the clock, and the proof that the work was done.

Only the standard library, and little of it: this module is in every contestant's memory.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

SLOTS = 4
#: Grows by one with every task that ran in this process.
DONE: list[None] = []


def nothing() -> None:
    """Count the call: the other costs of the task are those of the engine."""
    DONE.append(None)


def seed(place: int) -> int:
    """Run a task of the first layer."""
    DONE.append(None)
    return place


def join(left: int, right: int) -> int:
    """Run a task of a further layer, which reads two values."""
    DONE.append(None)
    return (left + right + 1) % 1_000_003


def parents(place: int, width: int) -> tuple[int, int]:
    """Return the two upstreams of a task in the layer above."""
    return place, (7 * place + 1) % width


def expected(layers: int, width: int) -> list[int]:
    """Return the values of the last layer."""
    row = list(range(width))
    for _ in range(layers - 1):
        row = [(row[left] + row[right] + 1) % 1_000_003 for left, right in (parents(p, width) for p in range(width))]
    return row


class Clock:
    """Runs from `start` to `stop`; `built` marks where building the graph ended and running it began."""

    def __init__(self) -> None:
        self.began = self.ready = self.ended = 0.0
        self.cpu_before = 0.0

    def start(self) -> None:
        """Start the clock, after servers, workers and connections."""
        gc.collect()
        self.cpu_before = time.process_time()
        self.began = time.perf_counter()

    def built(self) -> None:
        """Mark the end of building the graph."""
        self.ready = time.perf_counter()

    def stop(self) -> None:
        """Stop the clock, before the shutdown."""
        self.ended = time.perf_counter()


CLOCK = Clock()


def peak_kb() -> int:
    """Return the peak memory of this process, in kilobytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def report(seconds: float, **more: Any) -> None:
    """Print the measurements, as the last line of a contestant."""
    print(json.dumps({"seconds": seconds, **more}), flush=True)


def demand(proof: bool, text: str) -> None:
    """Exit with a reason if the work was not done."""
    if not proof:
        sys.exit(f"the work was not done: {text}")


def main(programs: Mapping[str, Callable[..., Any]], in_process: bool = True) -> None:
    """Run the workload of the command line, check its result, and report the time.

    A program returns how many tasks its engine says succeeded, or the values of the last layer. Tasks that run in
    this process are counted here too.
    """
    name, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
    count = sizes[0] * sizes[1] if len(sizes) == 2 else sizes[0]
    CLOCK.start()
    result = programs[name](*sizes)
    if not CLOCK.ended:
        CLOCK.stop()
    if isinstance(result, int):
        demand(result == count, f"{result} of {count} tasks")
    else:
        demand(list(result) == expected(*sizes), "the values of the last layer are wrong")
    if in_process and not name.endswith("processes") and name not in ("shell", "chain"):
        demand(len(DONE) == count, f"{len(DONE)} of {count} tasks left a trace")
    build = CLOCK.ready - CLOCK.began if CLOCK.ready else None
    report(CLOCK.ended - CLOCK.began, build=build, tasks=count, peak_kb=peak_kb(), cpu_before=CLOCK.cpu_before)
