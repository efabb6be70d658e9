"""The lease of an agent: which answers of the owner move it, and what they say of the clocks."""

from __future__ import annotations

import time

import pytest

from liteflow.processes.guardian import boot_time
from liteflow.remote.agent import Lease

LENGTH_S = 100.0
HOUR_S = 3600.0


def test_the_answer_to_an_old_beat_does_not_shorten_the_lease() -> None:
    lease = Lease(LENGTH_S)
    now = boot_time()
    lease.answered(now, time.time())
    assert lease.deadline == now + LENGTH_S
    lease.answered(now - 50.0, time.time())
    assert lease.deadline == now + LENGTH_S


def test_a_lease_whose_beats_are_answered_too_late_is_over() -> None:
    lease = Lease(0.0)
    lease.answered(boot_time() - LENGTH_S, time.time())
    assert lease.is_over


def test_the_beat_that_was_on_its_way_for_the_shortest_time_measures_the_clocks() -> None:
    lease = Lease(LENGTH_S)
    assert lease.answered(boot_time() - 40.0, time.time() - 20.0 + HOUR_S) == pytest.approx(HOUR_S, abs=60.0)
    assert lease.answered(boot_time() - 80.0, time.time() - 60.0 + HOUR_S) is None
    assert lease.answered(boot_time() - 20.0, time.time() - 10.0 + HOUR_S + 600.0) == pytest.approx(
        HOUR_S + 600, abs=60.0
    )


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_a_clock_that_was_set_is_measured_again_by_a_slower_beat(step_s: float) -> None:
    lease = Lease(LENGTH_S)
    assert lease.answered(boot_time() - 2.0, time.time() - 1.0) == pytest.approx(0.0, abs=60.0)
    assert lease.answered(boot_time() - 10.0, time.time() - 5.0 + step_s) == pytest.approx(step_s, abs=60.0)
    assert lease.answered(boot_time() - 10.5, time.time() - 5.0 + step_s) is None, "nothing was set since"
