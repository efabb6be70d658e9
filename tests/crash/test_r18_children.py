"""R18: what a task forks is ended as in a script, in every mode, however often it forks.

Proved: in no run does a task hang that uses `multiprocessing` (all three start methods), `concurrent.futures`,
`pty.fork` or `os.fork` and ends what it has started; with the run in the main thread of a program, and in another one.

    pytest tests/crash/test_r18_children.py --crash-scale 5      # 400 runs
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crashkit import Harness

RUNS = 80  # each way, in each mode, from each thread


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r18_children_of_tasks_can_be_ended(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    report = harness.run("children", "--runs", scaled(RUNS), seed=seed)
    counts = {kind: report[kind] for kind in ("runs", "hung", "wrong")}
    line = figure("R18", **counts, seconds=report["worst_seconds"])
    assert report["hung"] + report["wrong"] == 0, f"{line} {report['which']}"


@pytest.mark.timeout(3_000)  # what hangs is waited for
def test_r18_control(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where forks have the signal handlers of the run, tasks hang or fail."""
    report = harness.run("children", "--runs", 40, "--control", "signals", seed=seed)
    figure("R18-control-signals", runs=report["runs"], caught=report["hung"] + report["wrong"])
    assert report["hung"] + report["wrong"] > 0, report
