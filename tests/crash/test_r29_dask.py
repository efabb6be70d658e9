"""R29: a task on a worker of Dask does not outlive its run, its agent or its worker, and Dask repeats none.

Proved: the hostile tasks of R28 on two workers of a real Dask cluster, while the agents, guardians, both or the workers
are killed, or the orchestrator is killed: two seconds later nothing of the tasks lives, and a run whose
orchestrator lives starts the lost tasks again and succeeds.
Not proved: a scheduler that is killed. Attempts outlive the placer: their agents belong to the workers of Dask.

    pytest tests/crash/test_r29_dask.py --crash-scale 5
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashkit import await_none, command_line, process_table
from dask_kit import DaskCluster, dask_cluster
from far_trials import LIMIT_S, Trial


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path) as running:
        yield running


def start(cluster: DaskCluster, folder: Path) -> Trial:
    folder.mkdir()
    placer = (sys.executable, "-m", "lightflow.clusters.dask", cluster.address)
    made = Trial(folder, placer, cluster.nannies)
    made.await_ready()
    return made


def workers(cluster: DaskCluster) -> list[int]:
    """Return the processes below the nannies that run agents."""
    return [
        pid
        for pid, row in process_table().items()
        if row.parent in cluster.nannies and "spawn_main" in command_line(pid)
    ]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r29_a_killed_part_leaves_nothing_and_its_tasks_run_again(
    cluster: DaskCluster, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst: dict[str, float] = {}
    for number in range(scaled(1)):
        for part in ("agents", "guardians", "agents and guardians", "workers"):
            run = start(cluster, tmp_path / f"{part.replace(' ', '_')}-{number}")
            try:
                victims = workers(cluster) if part == "workers" else run.parts(part)
                worst[part] = max(worst.get(part, 0.0), run.kill(victims))
                run.await_success()
            finally:
                run.end()
    for part, took in worst.items():
        figure("R29", killed=part.replace(" ", "_"), rounds=scaled(1), left=0, worst_ms=round(took * 1000))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r29_a_killed_orchestrator_leaves_nothing(
    cluster: DaskCluster, tmp_path: Path, figure: Callable[..., str]
) -> None:
    run = start(cluster, tmp_path / "run")
    try:
        run.orchestrator.send_signal(signal.SIGKILL)
        took, left = await_none(lambda: [*run.left(), *run.agent_processes()], LIMIT_S)
        assert left == []
    finally:
        run.end()
    figure("R29", orchestrator="SIGKILL", rounds=1, left=0, worst_ms=round(took * 1000))
