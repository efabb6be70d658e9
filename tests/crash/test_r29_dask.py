"""R29: a task on a worker of Dask does not outlive its run, its agent or its worker, and Dask repeats none.

Proved: the hostile tasks of R28 on two workers of a real Dask cluster. Killed are the orchestrator, the agents, their
keepers, their guardians, agents and guardians, the workers, a nanny, and both: two seconds later nothing of the tasks
lives. Stopped are the orchestrator and the agents, with and without their guardian: nothing lives a second after the
lease has ended. A run whose orchestrator lives starts the lost tasks again and succeeds. The placer and the scheduler
may be killed, and all but the agents may be stopped: the attempts go on, and end with their run. Plain Dask is beside
it: what its own tasks leave after the same faults.

    pytest tests/crash/test_r29_dask.py --crash-scale 5
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from crashkit import Harness
from dask_kit import DaskCluster, dask_cluster
from far_trials import SHORT_LEASE_S, Trial, stopped

#: The parts that are killed: the run goes on.
KILLED = ("agents", "keepers", "guardians", "agents and guardians", "workers")
#: The parts that attempts do not need.
NOT_NEEDED = ("guardians", "keepers", "placer", "workers", "nannies", "scheduler")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path) as running:
        yield running


Start = Callable[..., Trial]


@pytest.fixture
def start(cluster: DaskCluster, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as started:

        def start(name: str = "run", **options: float) -> Trial:
            placer = (sys.executable, "-m", "lightflow.clusters.dask", cluster.address)
            made = Trial(tmp_path / name, placer, cluster.nannies, **options)
            started.callback(made.end)
            made.await_ready()
            return made

        yield start


def parts(cluster: DaskCluster, run: Trial, part: str) -> list[int]:
    """Return the processes of a part of the cluster, or of the run."""
    of_cluster = {
        "scheduler": [cluster.scheduler],
        "nannies": list(cluster.nannies),
        "workers": cluster.workers(),
    }
    return of_cluster[part] if part in of_cluster else run.parts(part)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r29_a_killed_part_leaves_nothing_and_its_tasks_run_again(
    cluster: DaskCluster, start: Start, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    for part in KILLED:
        worst = 0.0
        for number in range(scaled(1)):
            run = start(f"{part.replace(' ', '_')}-{number}")
            worst = max(worst, run.kill(parts(cluster, run, part)))
            run.await_success()
        figure("R29", trials=scaled(1), left=0, **{f"killed_{part.replace(' ', '_')}_ms": round(worst * 1000)})
    run = start("nanny")
    nanny = cluster.nannies[0]
    worst = run.kill([nanny], below=nanny)  # it does not come back
    run.kill(run.parts("agents"))
    run.await_success()
    figure("R29", trials=1, left=0, killed_nanny_ms=round(worst * 1000))
    cluster.revive()
    cluster.await_workers()
    run = start("nannies")
    worst = run.kill(cluster.nannies)
    cluster.revive()
    run.await_success()
    figure("R29", trials=1, left=0, killed_nannies_ms=round(worst * 1000))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r29_the_lease_ends_the_tasks_of_a_stopped_part_and_they_run_again(
    start: Start, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    for part in ("orchestrator", "agents and a guardian"):
        worst = 0.0
        for number in range(scaled(1)):
            run = start(f"{part.replace(' ', '_')}-{number}", lease_s=SHORT_LEASE_S)
            victims = [run.orchestrator.pid] if part == "orchestrator" else run.parts(part)
            worst = max(worst, run.stop(victims))
            run.await_success()
        took = {f"stopped_{part.replace(' ', '_')}_ms": round(worst * 1000)}
        figure("R29", trials=scaled(1), left=0, lease_s=SHORT_LEASE_S, **took)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r29_attempts_go_on_without_what_they_do_not_need_and_end_with_their_run(
    cluster: DaskCluster, start: Start, figure: Callable[..., str]
) -> None:
    run = start()
    for part in NOT_NEEDED:
        with stopped(parts(cluster, run, part)):
            run.goes_on()
    worst = run.end_by(signal.SIGKILL)
    figure("R29", trials=1, left=0, ended_without_need=0, SIGKILL_to_orchestrator_ms=round(worst * 1000))
    run = start("again")
    for part in ("placer", "scheduler"):
        for pid in parts(cluster, run, part):
            os.kill(pid, signal.SIGKILL)
        run.goes_on()
    worst = run.end_by(signal.SIGTERM)
    figure("R29", trials=1, left=0, ended_without_need=0, SIGTERM_to_orchestrator_ms=round(worst * 1000))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r29_plain_dask_leaves_processes(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    report = harness.run("plain_dask", seed=seed)
    for fault, (before, left, new) in report["faults"].items():
        figure("R29-plain-dask", **{f"{fault}_before": before, f"{fault}_left": left, f"{fault}_new": new})
    assert any(left for _, left, _ in report["faults"].values()), "the trial shows what is left"
