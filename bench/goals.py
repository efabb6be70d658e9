"""The goals of Lightflow, as ratios to a baseline, and the limits beyond which a goal has clearly failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from bench.results import Result, ratio_of_rounds

#: Machines are shared, so `make bench-quick` fails only beyond this multiple of a goal.
TOLERANCE: Final = 1.5
LOOP: Final = "throw-away durable loop"


class Goal(NamedTuple):
    """A number with an upper limit."""

    workload: str
    title: str
    most: float
    ours: str = "Lightflow"
    beside: str = ""
    """The other side of the ratio; by default the baseline of the workload. Unused for an absolute number."""
    said: str = ""
    """Name of a number that the program reports, instead of a ratio."""
    less: bool = False
    """Whether the number is the difference of processor times, in milliseconds."""
    tolerance: float = TOLERANCE

    @property
    def unit(self) -> str:
        """Return the unit of the number."""
        if self.less:
            return " ms"
        return {"": " ×", "kb_per_task": " KB", "cpu_s": " s"}[self.said]

    @property
    def limit(self) -> float:
        """Return the limit beyond which the goal has clearly failed."""
        return self.most * self.tolerance

    @property
    def is_ratio(self) -> bool:
        """Whether the number can be compared between machines."""
        return not self.said and not self.less


GOALS: Final = (
    # Not reached, also not by the throw-away loop (see docs/explanation/performance.md): these rows fail
    # if they become worse.
    Goal("wide", "1,000 Python tasks in threads, durable, to the bare pool", 3.0, tolerance=3.5),
    Goal("layered", "20 × 50 in threads, each reads two values, to the bare pool", 3.0, tolerance=5.0),
    Goal("large", "10,000 in threads, each reads two values, to the bare pool", 3.0, tolerance=5.0),
    Goal("wide", "1,000 Python tasks in threads, to the throw-away durable loop", 2.0, beside=LOOP, tolerance=2.0),
    Goal("layered", "20 × 50 in threads, to the throw-away durable loop", 2.0, beside=LOOP, tolerance=2.5),
    Goal("large", "10,000 in threads, to the throw-away durable loop", 2.0, beside=LOOP, tolerance=2.0),
    Goal("wide-processes", "1,000 Python tasks in processes, durable, to the bare process pool", 0.7, tolerance=3.0),
    Goal("layered-processes", "20 × 50 in processes, to the bare process pool", 0.7, tolerance=3.0),
    Goal("shell", "500 shell commands, the engine's own time, to `make -j4`", 1.4),
    Goal("chain", "chain of 200 shell commands, the engine's own time, to `make -j4`", 1.4, tolerance=2.0),
    Goal("shell", "500 shell commands, the whole command, to `make -j4`", 1.7, ours="lightflow run", tolerance=2.0),
    Goal(
        "chain",
        "chain of 200 shell commands, the whole command, to `make -j4`",
        1.7,
        ours="lightflow run",
        tolerance=2.5,
    ),
    Goal("start", "`lightflow --version`, CPU above the bare interpreter", 60, ours="lightflow --version", less=True),
    Goal("start", "`lightflow run` of one task, CPU above the bare interpreter", 100, ours="lightflow run", less=True),
    # The same as ratios: 60 and 100 ms above an interpreter that takes 12 ms.
    Goal("start", "`lightflow --version`, CPU, to the bare interpreter", 6.0, ours="lightflow --version"),
    Goal(
        "start", "`lightflow run` of one task, CPU, to the bare interpreter", 9.3, ours="lightflow run", tolerance=1.8
    ),
    Goal("growth-chain", "a task of a chain of many, to one of 1,000", 1.3),
    Goal("growth-fan", "a task of a wide fan, to one of 1,000", 1.3),
    Goal("growth-layered", "a task of many in layers, to one of 1,000", 1.3),
    Goal("growth-chain", "memory of a task of a long chain", 1.5, said="kb_per_task"),
    Goal("growth-fan", "memory of a task of a wide fan", 1.5, said="kb_per_task"),
    Goal("growth-layered", "memory of a task of many in layers", 1.5, said="kb_per_task"),
    Goal("resume", "resume of a run of 100,000 that is 99 % done, CPU", 3.0, said="cpu_s"),
    Goal("yaml", "load and validate 10,000 tasks, to PyYAML's C loader alone", 1.2),
    Goal("output", "500 shell commands that print, `--output prefix` to `quiet`", 1.1),
    Goal("read-status", "`lightflow status` with a long history, to a short one", 2.0),
    Goal("read-runs", "`lightflow runs` with a long history, to a short one", 2.0),
    Goal("read-why", "`lightflow why` with a long history, to a short one", 2.0),
)


def measured(goal: Goal, result: Result) -> float | None:
    """Return the number of a goal; None if one side of the ratio did not run."""
    rows = {one["name"]: one for one in result["entries"] if "median" in one}
    ours, beside = rows.get(goal.ours), rows.get(goal.beside or result["baseline"])
    if not ours or not beside:
        return None
    if goal.said:
        return float(ours["said"][goal.said])
    if goal.less:
        return float(1000 * (ours["cpu"] - beside["cpu"]))
    return ratio_of_rounds(ours["values"], beside["values"])


def failed(goals: Sequence[Goal], result: Result) -> list[tuple[Goal, float | None]]:
    """Return the ratios of a workload that are clearly outside their goal, or were not measured."""
    found = []
    for goal in goals:
        number = measured(goal, result)
        if number is None or number > goal.limit:
            found.append((goal, number))
    return found
