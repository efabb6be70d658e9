"""R20: a retry, a clear, a mark and a fork that are killed have happened as a whole, or not at all.

Proved: each of them, on a run with a mapped task, a wait in a group, a repeated task and a large value, killed at the
entry of its page writes, syncs, truncations, renames, links and unlinks: the whole set is stored or nothing, no attempt
that has ended is changed, the events give the rows, and a resume then runs exactly the set.
The same holds where the guardian of a retry is killed: its owner records what is lost, and a resume runs the rest.
Not proved: what a power cut leaves on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
from crashkit import Harness

DEFECTS = ("corrupt", "rewritten", "unfolded", "half", "others", "left", "crashed", "survivors")


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


def test_r20_a_retry_whose_guardian_is_killed(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    found = harness.run("rerun_kill", "--guardians", scaled(12), seed=seed)
    defects = {kind: found[kind] for kind in DEFECTS}
    line = figure("R20-guardian", kills=found["guardians"], **defects, seed=seed, seconds=found["worst_seconds"])
    assert not any(defects.values()), line
    assert found["guardians"] >= 3, line
    assert found["happened"], line


def test_r20_control_a_resume_that_releases_the_rest(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where what is not in the set is not settled, the resume after the end of a guardian runs it, too."""
    found = harness.run("rerun_kill", "--guardians", 12, "--control", "nothing_settled", seed=seed)
    figure("R20-control-nothing_settled", kills=found["guardians"], others=found["others"])
    assert found["others"] > 0
