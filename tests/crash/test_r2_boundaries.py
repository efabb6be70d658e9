"""R2: every boundary between two changes of the disk is a safe place to die.

Proved: a run, a resume, a retry of a part, a run that folds its write-ahead log into the database at every turn, a run
with a guardian and workers, and one with child runs, three levels in all, each killed at the entry of each of its page
writes, syncs, truncations, renames and unlinks (the making of the state file and the spilling of a large value
included): the same oracle as R1, nothing lives on, the file can be read at once (what `lightflow run` and `status` do
first), and the next start finishes the run.
Not proved: what a power cut between two of them leaves on the disk.

    pytest tests/crash/test_r2_boundaries.py --crash-seed 7 --crash-scale 100     # all points
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
from crashkit import Harness, Oracle, add_up

POINTS = 240
SHARDS = 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_r2_every_boundary(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    if shutil.which("strace") is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "strace is missing: apt-get install strace"
        pytest.skip("strace is not installed")
    started = [
        harness.start("boundaries", "--points", scaled(POINTS), "--seed", seed * 1000, "--shard", f"{number}/{SHARDS}")
        for number in range(SHARDS)
    ]
    report = add_up([harness.collect(process, 3600) for process in started])
    kinds = {kind: report[kind] for kind in (*Oracle.KINDS, "crashed", "unreadable", "survivors")}
    line = figure(
        "R2",
        points=report["kills"],
        of=report["worst_of"],
        **kinds,
        not_reached=report["missed"],
        seed=seed,
        seconds=report["worst_seconds"],
    )
    again = f"\n{line}\nagain: pytest tests/crash/test_r2_boundaries.py --crash-seed {seed}\n"
    again += "\n".join(report["notes"])
    assert not any(kinds.values()), again
    assert report["kills"] >= min(150, 0.9 * scaled(POINTS)), again


def test_r2_control_a_commit_that_comes_late(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where turns are acknowledged before their transaction is committed, the boundaries show it."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    arguments = ("--points", 30, "--only", "run/inline/plain", "--control", "late_commit")
    report = harness.run("boundaries", *arguments, seed=seed)
    figure("R2-control-late_commit", points=report["kills"], lost=report["lost"], ghost=report["ghost"])
    assert report["lost"] > 0
    assert report["ghost"] > 0
