"""R20: a retry, a clear, a mark and a fork that are killed have happened as a whole, or not at all.

Proved: each of them, on a run with a mapped task and a large value, killed at the entry of its page writes, syncs,
truncations, renames, links and unlinks: the whole set is stored or nothing, no attempt that has ended is changed, the
events give the rows, and a resume then runs exactly the set.
Not proved: what a power cut leaves on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
from crashkit import Harness

DEFECTS = ("corrupt", "rewritten", "unfolded", "half", "others", "left", "crashed")


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "strace is missing: apt-get install strace"
        pytest.skip("strace is not installed")


def test_r20_a_killed_rerun_has_happened_or_not(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    found = harness.run("rerun_kill", "--points", scaled(10), seed=seed)
    defects = {kind: found[kind] for kind in DEFECTS}
    kills, of = found["kills"], found["worst_of"]
    line = figure(
        "R20",
        points=kills,
        of=of,
        happened=found["happened"],
        nothing=found["nothing"],
        **defects,
        seed=seed,
        seconds=found["worst_seconds"],
    )
    assert not any(defects.values()), line
    assert kills >= 0.8 * min(4 * scaled(10), of), line
    assert found["happened"], line
    assert found["nothing"], line


def test_r20_control_half_a_set(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where a set is stored in two transactions, the kills show it."""
    found = harness.run("rerun_kill", "--only", "clear", "--control", "half_set", seed=seed)
    figure("R20-control-half_set", points=found["kills"], half=found["half"])
    assert found["half"] > 0
