"""R17: runs that share a pool or a group never use more than there is, and lose none of it when owners are killed.

Proved: two to four processes, each with a run of its own whose tasks need one to three slots of a shared pool, or whose
runs are of a group that allows one at once; their owners are killed at random moments (also while they wait) and
resumed. No more slots than there are were ever in use, as the kernel's file locks tell; every run ended; no slot was
lost. Not proved: an owner and its guardian that are killed at the same instant, whose tasks live on until the resume.

    pytest tests/crash/test_r17_pools.py --crash-seed 7 --crash-scale 100
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crashkit import Harness, add_up

COUNTS = {"pool": 12, "group": 6}
FAULTS = ("over", "stuck", "codes", "story", "left", "survivors")


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r17_shared_limits(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    started = [
        harness.start("pools", what, "--count", scaled(count), "--seed", seed * 1000) for what, count in COUNTS.items()
    ]
    total = add_up([harness.collect(process, 50_000) for process in started])
    notes = total.pop("notes")
    line = figure("R17", seed=seed, seconds=total.pop("worst_seconds"), **total)
    assert not any(total[kind] for kind in FAULTS), "\n".join([line, *notes])
    assert total["rounds"] == sum(scaled(count) for count in COUNTS.values())
    assert total["kills"]


@pytest.mark.parametrize("what", COUNTS)
def test_r17_control(what: str, harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where runs take no notice of each other, more slots are used than there are."""
    report = harness.run("pools", what, "--count", 4, "--control", "deaf", seed=seed)
    figure(f"R17-control-{what}", rounds=report["rounds"], over=report["over"])
    assert report["over"], report
