"""R31: a machine whose link is cut ends what it runs by its lease, and its tasks run again.

Proved: the hostile tasks of R28 on two workers of Dask that are in network namespaces on a bridge. A link that is cut
for a third of the lease costs nothing. When both are cut, nothing lives a second after the lease has ended, and the
attempts of a machine that is not cut go on. The lost tasks run again and succeed once the links are there again.

    pytest tests/crash/test_r31_cut.py --crash-scale 5
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashkit import await_none
from dask_kit import DaskCluster, dask_cluster
from far_trials import AFTER_LEASE_S, SHORT_LEASE_S, Trial
from netns_kit import Network, network


@pytest.fixture
def machines() -> Iterator[Network]:
    with network(2) as made:
        yield made


@pytest.fixture
def cluster(machines: Network, tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path, network=machines) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r31_the_lease_ends_the_tasks_of_a_machine_that_is_cut_off(
    machines: Network,
    cluster: DaskCluster,
    tmp_path: Path,
    figure: Callable[..., str],
    scaled: Callable[[int], int],
) -> None:
    placer = (sys.executable, "-m", "lightflow.clusters.dask", cluster.address)
    worst = 0.0
    for number in range(scaled(1)):
        run = Trial(tmp_path / f"{number}", placer, cluster.nannies, SHORT_LEASE_S, machines.address)
        try:
            run.await_ready()
            _cut_for_a_moment(run, machines)
            worst = max(worst, _cut(run, machines, 0))
            worst = max(worst, _cut(run, machines, 1))
            for machine in range(2):
                machines.join(machine)
            run.await_success()
        finally:
            run.end()
    words = {"lease_s": SHORT_LEASE_S, "left": 0, "worst_cut_ms": round(worst * 1000), "short_cuts": scaled(1)}
    figure("R31", rounds=scaled(1), **words, lost_by_short_cuts=0)


def _cut_for_a_moment(run: Trial, machines: Network) -> None:
    before = run.count()
    machines.cut(0)
    time.sleep(SHORT_LEASE_S / 3)
    machines.join(0)
    run.goes_on()
    assert run.count() == before


def _cut(run: Trial, machines: Network, machine: int) -> float:
    """Cut a link. Return after how many seconds the last process of a task on that machine has ended."""

    def inside() -> list[int]:
        return [pid for pid in run.left_pids() if machines.is_inside(pid, machine)]

    assert inside()
    others = [pid for pid in run.left_pids() if not machines.is_inside(pid, machine)]
    machines.cut(machine)
    took, left = await_none(inside, SHORT_LEASE_S + AFTER_LEASE_S)
    assert left == []
    assert set(others) <= set(run.left_pids()), "the other machine goes on"
    return took
