"""R26: child runs survive the death of any process, and nothing of one runs on without its parent.

Proved: a run of a mapped task with two child runs, killed after each stored change of any of its runs: the parent, its
guardian, both at once, the process of a child run, the guardian of a child run. Nothing is alive without a parent after
that; a resume ends the run, no task that has succeeded runs again, no step runs twice at a time, and each instance has
one child run.
Not proved: kills between two stored changes at a moment of its own choice, and three levels (R1, R1b, R2).
"""

from __future__ import annotations

from collections.abc import Callable

from child_kill import DEFECTS
from crashkit import Harness


def test_r26_nothing_of_a_child_run_is_lost_repeated_or_orphaned(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    found = harness.run("child_kill", "--points", scaled(12), seed=seed)
    defects = {kind: found[kind] for kind in DEFECTS}
    line = figure("R26", kills=found["kills"], **defects, seed=seed, seconds=found["worst_seconds"])
    assert not any(defects.values()), line
    assert found["kills"] >= scaled(12) // 2, line


def test_r26_control_a_worker_outlives_its_guardian(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where workers are not killed with their guardian, child runs go on without a parent."""
    found = harness.run("child_kill", "--points", 4, "--control", "outlives", seed=seed)
    figure("R26-control", kills=found["kills"], outlived=found["outlived"])
    assert found["outlived"] > 0
