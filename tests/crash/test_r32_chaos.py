"""R32: a workflow on two clusters keeps every promise while everything is killed.

Proved: runs with tasks on workers of Dask, on hosts of ssh and here, one after the other, while agents, keepers,
guardians, workers, clients of ssh, placers, nannies, the scheduler and the orchestrator are killed at random moments,
or stopped for less or longer than the lease: no task that succeeded runs again, no attempts of a task overlap, nothing
is left two seconds after a run, and each run succeeds, or is resumed until it does. In the control keepers leave what
they find.

    pytest tests/crash/test_r32_chaos.py --crash-scale 20      (for 20 minutes; 1 is one minute)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crashkit import Harness

CONTROL_S = 120  # at most: it ends with the first fault


@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_r32_no_success_is_repeated_and_no_attempts_overlap_while_everything_is_killed(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int
) -> None:
    report = harness.run("far_chaos", "--seconds", scaled(60), seed=seed)
    blows = sum(report["blows"].values())
    figure("R32", **report["totals"], blows=blows, **report["faults"], seconds=report["took_s"])
    assert blows > 0
    assert report["totals"]["runs"] > 0
    assert not any(report["faults"].values()), report["notes"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r32_keepers_that_leave_what_they_find_are_noticed(
    harness: Harness, figure: Callable[..., str], seed: int
) -> None:
    report = harness.run("far_chaos", "--seconds", CONTROL_S, "--control", "no_sweep", seed=seed)
    figure("R32-control-no_sweep", blows=sum(report["blows"].values()), **report["faults"])
    assert report["faults"]["overlap"] + report["faults"]["left"] + report["faults"]["rerun"] > 0
