"""R16: ten thousand tasks leave nothing behind in the process that ran them.

Proved: after runs with tasks in threads, in worker processes and as commands, one after the other in one program, it
has as many descriptors, threads and processes as after the first of them, no zombie, no left-over file, and its
own memory does not grow with the number of tasks.

    pytest tests/crash/test_r16_leaks.py --crash-scale 100
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crashkit import Harness

TASKS = 10_000
LIMIT_KIB = 1.0  # a task, of memory that is not given back


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r16_nothing_is_left_behind(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    report = harness.run("leaks", "--tasks", scaled(TASKS), seed=seed)
    kinds = {kind: report[kind] for kind in ("descriptors", "threads", "processes", "zombies", "files")}
    line = figure(
        "R16",
        tasks=report["tasks"],
        **kinds,
        kib_per_task=report["kib_per_task"],
        rate=f"{report['tasks'] / report['worst_seconds']:.0f}/s",
        seconds=report["worst_seconds"],
    )
    assert not any(kinds.values()), line
    assert report["kib_per_task"] <= LIMIT_KIB, f"{line} {report['memory']}"


@pytest.mark.parametrize(
    ("control", "kind"),
    [("descriptor", "descriptors"), ("zombie", "zombies"), ("thread", "threads"), ("memory", "kib_per_task")],
)
def test_r16_control(control: str, kind: str, harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """A leak of one thing a round is seen."""
    report = harness.run("leaks", "--tasks", 60, "--rounds", 4, "--control", control, seed=seed)
    figure(f"R16-control-{control}", tasks=report["tasks"], **{kind: report[kind]})
    assert report[kind] > (LIMIT_KIB if kind == "kib_per_task" else 0), report
