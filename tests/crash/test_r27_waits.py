"""R27: a run that waits, and one that parks, lose and repeat nothing when they are killed.

Proved: a run with a wait, an approval and a repeated task, and a run that parks, killed at the entry of page writes,
syncs, truncations, renames and unlinks, in the process of the run, its guardian or a worker: what waits according to
the file is not begun again, an acknowledged decision counts once, iterations are counted on, a run is INTERRUPTED by
parking exactly if it is due to be woken, and the resume ends as the run would have.
Not proved: what a power cut leaves on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
from crashkit import Harness

DEFECTS = ("unparked", "unfolded", "waking", "twice", "again", "decisions", "iterations", "crashed")


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "strace is missing: apt-get install strace"
        pytest.skip("strace is not installed")


def test_r27_a_killed_run_waits_on(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    found = harness.run("wait_kill", "--points", scaled(6), seed=seed)
    defects = {kind: found[kind] for kind in DEFECTS}
    kills, of = found["kills"], found["worst_of"]
    line = figure(
        "R27", points=kills, of=of, nothing=found["nothing"], **defects, seed=seed, seconds=found["worst_seconds"]
    )
    assert not any(defects.values()), line
    assert kills >= 0.8 * min(2 * scaled(6), of), line


def test_r27_control_a_wait_that_is_not_stored(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where it is not stored that an attempt waits, the kills show it."""
    found = harness.run("wait_kill", "--points", 12, "--control", "forget_wait", seed=seed)
    figure("R27-control-forget_wait", points=found["kills"], **{kind: found[kind] for kind in DEFECTS})
    assert any(found[kind] for kind in DEFECTS)


def test_r27_control_a_wake_that_is_stored_before_the_end(
    harness: Harness, figure: Callable[..., str], seed: int
) -> None:
    """Where the request to wake a run is not stored with its end, the kills show it."""
    found = harness.run("wait_kill", "--points", 12, "--control", "early_wake", seed=seed)
    figure("R27-control-early_wake", points=found["kills"], **{kind: found[kind] for kind in DEFECTS})
    assert found["unparked"]
