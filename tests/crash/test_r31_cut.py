"""R31: a machine whose link is cut ends what it runs by its lease, and its tasks run again.

Proved: the hostile tasks of R28 on two machines that are network namespaces on a bridge, as workers of Dask and as
hosts of real servers of ssh. A link that is cut for a third of the lease costs nothing. When one is cut for longer,
nothing lives there a second after the lease has ended, no attempt is LOST before, and the attempts of the other machine
go on. With Dask both are cut, and the lost tasks run again once the links are there again. With ssh they run again on
the other machine; then that machine is gone with all its processes, and its tasks run again on the first. The control
takes the lease from the agents.
Not proved: links that lose or delay packets.

    pytest tests/crash/test_r31_cut.py --crash-scale 5
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crashkit import HERE, await_none
from dask_kit import DaskCluster, dask_cluster
from far_trials import AFTER_LEASE_S, READY_S, SHORT_LEASE_S, Trial
from netns_kit import Network, network
from ssh_kit import ssh_server

from lightflow.clusters import ssh

HOSTS = ("w1", "w2")


@pytest.fixture
def machines() -> Iterator[Network]:
    with network(2) as made:
        yield made


@pytest.fixture
def cluster(machines: Network, tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path, network=machines) as running:
        yield running


@contextmanager
def ssh_trial(folder: Path, python: str = sys.executable) -> Iterator[tuple[Trial, Network]]:
    """Run hostile tasks on two hosts of ssh, of which each has room for all of them."""
    folder.mkdir()
    with network(2) as machines, ssh_server(folder, machines) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        placer = ssh(*(f"{host}:16" for host in HOSTS), python=python).argv
        run = Trial(folder / "run", placer, server.pids, SHORT_LEASE_S)
        try:
            run.await_ready()
            yield run, machines
        finally:
            run.end()


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
    worst = lost_s = 0.0
    for number in range(scaled(1)):
        run = Trial(tmp_path / f"{number}", placer, cluster.nannies, SHORT_LEASE_S, machines.address)
        try:
            run.await_ready()
            _cut_for_a_moment(run, machines)
            for machine, host in enumerate(HOSTS):
                began, took = _cut(run, machines, machine)
                worst = max(worst, took)
                lost_s = max(lost_s, _await_lost(run, host, began))
            for machine in range(2):
                machines.join(machine)
            run.await_success()
        finally:
            run.end()
    words = {"worst_cut_ms": round(worst * 1000), "worst_lost_here_ms": round(lost_s * 1000)}
    figure("R31", rounds=scaled(1), lease_s=SHORT_LEASE_S, left=0, **words, lost_by_short_cuts=0)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r31_the_tasks_of_a_host_of_ssh_that_is_cut_off_or_gone_run_again_on_the_other(
    tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    cut_s = lost_s = gone_s = 0.0
    for number in range(scaled(1)):
        with ssh_trial(tmp_path / f"{number}") as (run, machines):
            _cut_for_a_moment(run, machines)
            began, took = _cut(run, machines, 0)
            cut_s = max(cut_s, took)
            lost_s = max(lost_s, _await_lost(run, HOSTS[0], began))
            _await_again(run, HOSTS[0], HOSTS[1])
            machines.join(0)
            machines.crash(1)
            began = time.monotonic()
            gone_s = max(gone_s, _await_lost(run, HOSTS[1], began))
            run.await_success()
            _await_again(run, HOSTS[1], HOSTS[0])
    took = {"cut": cut_s, "lost_here": lost_s, "gone_lost_here": gone_s}
    words = {f"worst_{name}_ms": round(seconds * 1000) for name, seconds in took.items()}
    figure("R31-ssh", rounds=scaled(1), lease_s=SHORT_LEASE_S, left=0, **words, lost_by_short_cuts=0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r31_without_a_lease_attempts_outlive_their_loss(tmp_path: Path, figure: Callable[..., str]) -> None:
    endless = tmp_path / "endless"
    endless.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "endless_agent.py"} "$@"\n')
    endless.chmod(0o755)
    with ssh_trial(tmp_path / "control", str(endless)) as (run, machines):
        began = time.monotonic()
        with pytest.raises(AssertionError):
            _cut(run, machines, 0)
        _await_lost(run, HOSTS[0], began)
        left = [pid for pid in run.left_pids() if machines.is_inside(pid, 0)]
    figure("R31-control", left=len(left))
    assert left


def _cut_for_a_moment(run: Trial, machines: Network) -> None:
    before = run.count()
    machines.cut(0)
    time.sleep(SHORT_LEASE_S / 3)
    machines.join(0)
    run.goes_on()
    assert run.count() == before


def _cut(run: Trial, machines: Network, machine: int) -> tuple[float, float]:
    """Cut a link. Return when, and after how many seconds the last process of a task on that machine has ended."""
    before = run.attempts("LOST")

    def inside() -> list[int]:
        is_lost = run.attempts("LOST") != before  # read before the processes
        left = [pid for pid in run.left_pids() if machines.is_inside(pid, machine)]
        assert not (is_lost and left), "an attempt is LOST that lives"
        return left

    assert inside()
    others = [pid for pid in run.left_pids() if not machines.is_inside(pid, machine)]
    machines.cut(machine)
    began = time.monotonic()
    took, left = await_none(inside, SHORT_LEASE_S + AFTER_LEASE_S)
    assert left == []
    assert set(others) <= set(run.left_pids()), "the other machine goes on"
    return began, took


def _await_lost(run: Trial, host: str, began: float) -> float:
    """Wait until the attempts of a host are LOST. Return how many seconds after `began` that was."""
    while host not in run.attempts("LOST").values():
        assert time.monotonic() < began + READY_S
        assert run.orchestrator.poll() is None
        time.sleep(0.02)
    return time.monotonic() - began


def _await_again(run: Trial, host: str, other: str) -> None:
    """Wait until what was lost on a host has succeeded on the other one."""
    lost = [task for task, where in run.attempts("LOST").items() if where == host]
    assert lost
    give_up = time.monotonic() + READY_S
    while any(run.attempts("SUCCESS").get(task) != other for task in lost):
        assert time.monotonic() < give_up, run.attempts("SUCCESS")
        time.sleep(0.05)
