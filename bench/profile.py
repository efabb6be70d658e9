"""`python -m bench profile`: where the time of a task goes, for tasks in threads.

The parts of a run are timed from outside by their processor time, one thread at a time; what is left over is Python's
switching between threads and what lies between the parts.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

from bench.contestants.loop import layered as durable_loop
from bench.measure import ROOT

LAYERS: Final = 100
WIDTH: Final = 100


class Parts:
    """Collect the microseconds a task of each part of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, owner: Any, name: str, part: str) -> None:
        """Count the processor time of a function."""
        function = getattr(owner, name)
        self.seconds.setdefault(part, 0.0)

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[part] += time.thread_time() - began

        setattr(owner, name, timed)


def measure() -> tuple[float, dict[str, float]]:
    """Return the microseconds a task of a layered dag: of the whole process, and of its parts."""
    from bench.contestants import lightflow
    from liteflow import dag, dagrun
    from liteflow.executors import open as opening
    from liteflow.executors import outcome_queue, thread
    from liteflow.running import loop, outcomes, run, starting
    from liteflow.state import store

    parts = Parts()
    parts.time(dag.Dag, "task", "building the dag")
    parts.time(dagrun.DagRun, "value", "reading the last values back")
    parts.time(dag.Dag, "compile", "the graph as the loop runs it, with digests")
    parts.time(run.Runner, "acquire", "storing the run and its tasks")
    parts.time(store.Store, "__init__", "opening and closing the state file")
    parts.time(store.Store, "close", "opening and closing the state file")
    parts.time(outcome_queue.OutcomeQueue, "wait", "waiting for outcomes")
    parts.time(store.Store, "commit", "SQLite: intents, verdicts, values, events")
    parts.time(outcomes.OutcomeHandler, "finish", "what an outcome changes, and what may start")
    parts.time(loop.Loop, "_take", "taking what may start")
    parts.time(starting.Starter, "work", "what a task is to be given")
    parts.time(opening._Executor, "submit", "handing it to a thread")
    parts.time(thread, "run_attempt", "the task itself, with its arguments and its value")
    began = time.process_time()
    lightflow.layered(LAYERS, WIDTH, "thread")
    whole = time.process_time() - began
    tasks = LAYERS * WIDTH / 1e6
    return whole / tasks, {part: seconds / tasks for part, seconds in parts.seconds.items()}


def main() -> int:
    """Print the parts, the largest first."""
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        whole, parts = measure()
        loop = _microseconds(lambda: durable_loop(LAYERS, WIDTH))
        os.chdir(ROOT)
    print(f"{LAYERS * WIDTH:,} tasks in threads, each reads two values; processor time, µs a task\n")
    for part, spent in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"{spent:8.1f}  {part}")
    print(f"{whole - sum(parts.values()):8.1f}  threads that take turns, and the rest")
    print(f"{whole:8.1f}  all\n{loop:8.1f}  a throw-away loop that is durable and nothing else")
    return 0


def _microseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) / (LAYERS * WIDTH) * 1e6


__all__ = ["main"]
