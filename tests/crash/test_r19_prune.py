"""R19: a prune that is killed leaves no row without its file, and the next prune completes it.

Proved: a prune of several runs with logs, values, large values and checkpoints, killed at the entry of its page writes,
syncs, truncations and unlinks: no row names a file that does not exist, the runs that it preserves have all their
files, the file is intact, and after the next prune nothing of a deleted run is left.
Not proved: what a power cut leaves on the disk (rows are synced before files are removed).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
from crashkit import Harness

DEFECTS = ("corrupt", "missing", "lost", "crashed", "rows", "files")


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "strace is missing: apt-get install strace"
        pytest.skip("strace is not installed")


def test_r19_a_killed_prune_is_completed(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    found = harness.run("prune_kill", "--points", scaled(30), seed=seed)
    defects = {kind: found[kind] for kind in DEFECTS}
    kills, of = found["kills"], found["worst_of"]
    line = figure("R19", points=kills, of=of, **defects, seed=seed, seconds=found["worst_seconds"])
    assert not any(defects.values()), line
    assert kills >= 0.8 * min(scaled(30), of), line


def test_r19_control_files_before_rows(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where files are removed before the rows that name them, the kills show it."""
    found = harness.run("prune_kill", "--points", 10, "--control", "files_first", seed=seed)
    figure("R19-control-files_first", points=found["kills"], missing=found["missing"])
    assert found["missing"] > 0
