"""The goals of Lightflow, as ratios to a baseline, and the limits beyond which a goal has clearly failed."""

from __future__ import annotations

from typing import Final, NamedTuple

from bench.results import Result, ratio_of_rounds

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
    quick_limit: float = 0.0
    """The limit of the ratio of processor times on one processor, in `make bench-quick`; 0 where it has no such row."""

    @property
    def unit(self) -> str:
        """Return the unit of the number."""
        if self.less:
            return " ms"
        return {"": " ×", "kb_per_task": " KB", "cpu_s": " s"}[self.said]

    @property
    def is_ratio(self) -> bool:
        """Whether the number can be compared between machines."""
        return not self.said and not self.less


GOALS: Final = (
    # Not reached, also not by the throw-away loop (see docs/explanation/performance.md): these rows fail
    # if they become worse.
    Goal("wide", "1,000 Python tasks in threads, durable, to the bare pool", 3.0, quick_limit=6.2),
    Goal("layered", "20 × 50 in threads, each reads two values, to the bare pool", 3.0, quick_limit=14.0),
    Goal("large", "10,000 in threads, each reads two values, to the bare pool", 3.0, quick_limit=18.5),
    Goal("wide", "1,000 Python tasks in threads, to the throw-away durable loop", 2.0, beside=LOOP, quick_limit=5.6),
    Goal("layered", "20 × 50 in threads, to the throw-away durable loop", 2.0, beside=LOOP, quick_limit=9.5),
    Goal("large", "10,000 in threads, to the throw-away durable loop", 2.0, beside=LOOP, quick_limit=9.0),
    Goal("wide-processes", "1,000 Python tasks in processes, durable, to the bare process pool", 0.7, quick_limit=4.0),
    Goal("layered-processes", "20 × 50 in processes, to the bare process pool", 0.7, quick_limit=5.0),
    Goal("shell", "500 shell commands, the engine's own time, to `make -j4`", 1.4, quick_limit=2.4),
    Goal("chain", "chain of 200 shell commands, the engine's own time, to `make -j4`", 1.4, quick_limit=4.0),
    Goal("shell", "500 shell commands, the whole command, to `make -j4`", 1.7, ours="lightflow run", quick_limit=3.0),
    Goal(
        "chain",
        "chain of 200 shell commands, the whole command, to `make -j4`",
        1.7,
        ours="lightflow run",
        quick_limit=4.9,
    ),
    Goal(
        "start",
        "`lightflow --version`, CPU above the bare interpreter",
        60,
        ours="lightflow --version",
        less=True,
    ),
    Goal("start", "`lightflow run` of one task, CPU above the bare interpreter", 100, ours="lightflow run", less=True),
    # The same as ratios: 60 and 100 ms above an interpreter that takes 12 ms.
    Goal(
        "start", "`lightflow --version`, CPU, to the bare interpreter", 6.0, ours="lightflow --version", quick_limit=5.0
    ),
    Goal(
        "start",
        "`lightflow run` of one task, CPU, to the bare interpreter",
        9.3,
        ours="lightflow run",
        quick_limit=18.0,
    ),
    Goal("growth-chain", "a task of a chain of many, to one of 1,000", 1.3),
    Goal("growth-fan", "a task of a wide fan, to one of 1,000", 1.3),
    Goal("growth-layered", "a task of many in layers, to one of 1,000", 1.3, quick_limit=1.1),
    Goal("growth-chain", "memory of a task of a long chain", 1.5, said="kb_per_task"),
    Goal("growth-fan", "memory of a task of a wide fan", 1.5, said="kb_per_task"),
    Goal("growth-layered", "memory of a task of many in layers", 1.5, said="kb_per_task"),
    Goal("resume", "resume of a run of 100,000 that is 99 % done, CPU", 3.0, said="cpu_s"),
    Goal("yaml", "load and validate 10,000 tasks, to PyYAML's C loader alone", 1.2, quick_limit=1.65),
    Goal("output", "500 shell commands that print, `--output prefix` to `quiet`", 1.1),
    Goal("read-status", "`lightflow status` with a long history, to a short one", 2.0, quick_limit=1.4),
    Goal("read-runs", "`lightflow runs` with a long history, to a short one", 2.0),
    Goal("read-why", "`lightflow why` with a long history, to a short one", 2.0, quick_limit=1.4),
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
