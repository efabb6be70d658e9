"""`make bench-quick`: only own baselines, with an exit code for ratios that are clearly outside their goals."""

from __future__ import annotations

import time
from typing import Final

from bench.goals import GOALS, Goal, failed, measured
from bench.own import files, growth, reading
from bench.results import Results, machine, result
from bench.rounds import play, to_stderr
from bench.workloads import WORKLOADS, Workload

ROUNDS: Final = 5
REPEATS: Final = 2
#: Beyond this multiple of its limit a ratio is not measured again.
HOPELESS: Final = 1.5


def workloads() -> list[Workload]:
    """Return the shared workloads without peers, and smaller forms of our own."""
    shared = [one._replace(entries=tuple(entry for entry in one.entries if not entry.peer)) for one in WORKLOADS]
    own = [growth("layered", 20_000), files(10_000), reading("status", 1000), reading("why", 1000)]
    return [*shared, *own]


def ratios(workload: str) -> list[Goal]:
    """Return the goals of a workload that can be compared between machines."""
    return [goal for goal in GOALS if goal.workload == workload and goal.is_ratio]


def main() -> int:
    """Measure, print every ratio, and exit with 1 if a ratio fails three times."""
    began = time.monotonic()
    results: Results = {"machine": machine(), "workloads": {}}
    bad = 0
    print(f"{'':72}{'measured':>10}{'goal':>7}{'limit':>7}")
    for workload in workloads():
        goals = ratios(workload.name)
        found: list[tuple[Goal, float | None]] = []
        for attempt in range(1 + REPEATS):
            rounds = ROUNDS if workload.tasks < 10_000 or workload.name == "yaml" else 3
            turns = play(workload, workload.entries, rounds, lambda _: None)
            done = result(workload, list(workload.entries), turns)
            results["workloads"][workload.name] = done
            found = failed(goals, done)
            for name, reason in turns.failed.items():
                to_stderr(f"{workload.name}: {name}: not run: {reason}")
            if not found:
                break
            if any(number is not None and number > HOPELESS * goal.limit for goal, number in found):
                break
            if attempt < REPEATS:
                to_stderr(f"{workload.name}: outside its limit, once more")
        for goal in goals:
            number = measured(goal, done)
            said = "not run" if number is None else f"{number:.2f}"
            mark = "  FAILED" if any(goal is one for one, _ in found) else ""
            print(f"{goal.title:72}{said:>10}{goal.most:>7.2f}{goal.limit:>7.2f}{mark}", flush=True)
        bad += len(found)
    verdict = f"{bad} clearly outside their goal" if bad else "all within their limits"
    print(f"\n{verdict}; {time.monotonic() - began:.0f} s")
    return 1 if bad else 0
