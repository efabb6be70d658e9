"""`make bench-quick`: only own baselines, with an exit code for ratios that are clearly outside their limits.

The machine may be busy, and a ratio of elapsed times tells more of that than of the engine. So this compares processor
times, the least of all rounds, because other programs only make a round dearer; and everything shares one processor,
because a bare pool of threads costs half as much there as where its threads meet at Python's lock, and how often they
do depends on what else runs. `make bench` measures elapsed times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from bench.goals import GOALS, Goal
from bench.measure import Sample
from bench.own import files, growth, reading
from bench.results import FRACTIONS, value
from bench.rounds import play, to_stderr
from bench.workloads import WORKLOADS, Workload

ROUNDS: Final = 5
REPEATS: Final = 2
Samples = Mapping[str, Sequence[Sample]]


class Verdict(NamedTuple):
    """The ratio of a goal, and whether it is beyond its limit; None if one side did not run."""

    goal: Goal
    ratio: float | None
    has_failed: bool


def workloads() -> list[Workload]:
    """Return the shared workloads without peers, and smaller forms of our own."""
    shared = [one._replace(entries=tuple(entry for entry in one.entries if not entry.peer)) for one in WORKLOADS]
    own = [growth("layered", 20_000), files(10_000), reading("status", 1000), reading("why", 1000)]
    return [*shared, *own]


def ratios(workload: str) -> list[Goal]:
    """Return the goals of a workload that can be compared between machines."""
    return [goal for goal in GOALS if goal.workload == workload and goal.is_ratio]


def ratio(goal: Goal, workload: Workload, samples: Samples) -> float | None:
    """Return the ratio of the least processor times of both sides; None if one of them did not run."""
    ours, beside = samples.get(goal.ours), samples.get(goal.beside or workload.baseline)
    if not ours or not beside:
        return None
    measure = "work_cpu" if workload.measure in FRACTIONS else f"cpu_{workload.measure}"  # a program has its own name
    return min(value(one, measure) for one in ours) / min(value(one, measure) for one in beside)


def judge(workload: Workload, samples: Samples) -> list[Verdict]:
    """Compare the ratios of a workload with their limits."""
    found = [(goal, ratio(goal, workload, samples)) for goal in ratios(workload.name)]
    return [Verdict(goal, number, number is None or number > goal.quick_limit) for goal, number in found]


def measure(workload: Workload) -> list[Verdict]:
    """Measure a workload, and up to twice more while a ratio is beyond its limit."""
    samples: dict[str, list[Sample]] = {}
    rounds = ROUNDS if workload.tasks < 10_000 or workload.name == "yaml" else 3
    for attempt in range(1 + REPEATS):
        turns = play(workload, workload.entries, rounds, lambda _: None)
        for name, more in turns.samples.items():
            samples.setdefault(name, []).extend(more)
        for name, reason in turns.failed.items():
            to_stderr(f"{workload.name}: {name}: not run: {reason}")
        verdicts = judge(workload, samples)
        if not any(verdict.has_failed for verdict in verdicts):
            break
        if attempt < REPEATS:
            to_stderr(f"{workload.name}: outside its limit, once more")
    return verdicts


def main() -> int:
    """Measure on one processor, print every ratio, and exit with 1 if a ratio fails in all rounds."""
    began, failed = time.monotonic(), 0
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    print(f"{'':72}{'measured':>10}{'limit':>7}")
    for workload in workloads():
        for goal, number, has_failed in measure(workload):
            shown = "not run" if number is None else f"{number:.2f}"
            mark = "  FAILED" if has_failed else ""
            print(f"{goal.title:72}{shown:>10}{goal.quick_limit:>7.2f}{mark}", flush=True)
            failed += has_failed
    verdict = f"{failed} clearly outside their limits" if failed else "all within their limits"
    print(f"\n{verdict}; {time.monotonic() - began:.0f} s")
    return 1 if failed else 0
