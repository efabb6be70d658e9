"""R34: a run holds as many tasks of Dask as it has slots, gives them back, and outlives the scheduler.

Proved: a run of thousands of tasks on a Dask cluster is followed by the scheduler's own record: at no time has it more
tasks of ours than slots, and none when the run has been idle for ten seconds. When the scheduler is killed the attempts
are lost with their workers, and the tasks are PENDING; when none comes back the run is INTERRUPTED with the reason, and
a resume with a new cluster succeeds.

    pytest tests/crash/test_r34_slots.py
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashkit import HERE, lines
from dask_kit import DaskCluster, dask_cluster
from slots_run import SLOTS

TASKS, TASKS_IN_LONG_FORM = 2_000, 10_000
KINDS_COUNT = 200
LIMIT_S = 240.0
IDLE_S = 10.0


def start(folder: Path, cluster: DaskCluster, *words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / "slots_run.py"), str(folder), cluster.address, *map(str, words)]
    with (folder / "out").open("ab") as out:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)


def await_that(condition: Callable[[], bool], why: Callable[[], object] = lambda: "") -> float:
    """Wait, and return after how many seconds it is so."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LIMIT_S, why()
        time.sleep(0.05)
    return time.monotonic() - began


def most_at_once(client: Any) -> tuple[int, int]:
    """Return how many slots there were at a time, at most, and how many there are, by the record of the scheduler."""

    def count(dask_scheduler: Any) -> tuple[int, int]:
        existing: set[str] = set()
        most = 0
        for key, _, finish, *_ in dask_scheduler.transition_log:
            if str(key).startswith("lightflow-slot-"):
                existing = existing - {key} if finish == "forgotten" else existing | {key}
                most = max(most, len(existing))
        return most, sum(str(key).startswith("lightflow-slot-") for key in dask_scheduler.tasks)

    result: tuple[int, int] = client.run_on_scheduler(count)
    return result


def statuses(db: Path) -> dict[str, str]:
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
    try:
        return dict(connection.execute("SELECT task_id, status FROM liteflow_task_instances WHERE run_id='r'"))
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r34_there_are_at_most_as_many_tasks_of_dask_as_slots_and_idle_ones_are_given_back(
    tmp_path: Path, figure: Callable[..., str], *, long_form: bool
) -> None:
    from distributed import Client

    tasks = TASKS_IN_LONG_FORM if long_form else TASKS
    with dask_cluster(tmp_path, threads=4) as cluster, Client(cluster.address, set_as_default=False) as client:
        run = start(tmp_path, cluster, "many", tasks)
        try:
            db = tmp_path / "many.db"
            await_that(lambda: db.exists() and statuses(db).get("idle") == "RUNNING")
            took_s = await_that(lambda: most_at_once(client)[1] == 0)
            (tmp_path / "go").touch()
            assert run.wait(LIMIT_S) == 0
            most, _ = most_at_once(client)
        finally:
            run.kill()
            run.wait()
    figure("R34", tasks=tasks, slots=SLOTS, slots_at_once=most, given_back_after_s=round(took_s, 1), still_held=0)
    assert 0 < most <= SLOTS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r34_tasks_with_other_resources_share_the_slots(tmp_path: Path, figure: Callable[..., str]) -> None:
    """Count the slots of a run whose tasks are of three kinds; each kind has some of the slots at first."""
    from distributed import Client

    with (
        dask_cluster(tmp_path, threads=SLOTS, resources="GPU=4") as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        run = start(tmp_path, cluster, "kinds", KINDS_COUNT)
        try:
            assert run.wait(LIMIT_S) == 0, (tmp_path / "out").read_text()
            most, _ = most_at_once(client)
        finally:
            run.kill()
            run.wait()
    order = lines(str(tmp_path / "kinds"))
    first_half = {kind: order[: len(order) // 2].count(kind) for kind in "012"}
    figure(
        "R34", kinds=3, tasks=3 * KINDS_COUNT, slots=SLOTS, slots_at_once=most, least_in_half=min(first_half.values())
    )
    assert 0 < most <= SLOTS
    assert min(first_half.values()) > 0, "all kinds have slots while each has tasks"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_r34_a_run_whose_scheduler_is_gone_is_interrupted_with_the_reason_and_can_be_resumed(
    tmp_path: Path, figure: Callable[..., str]
) -> None:
    db = tmp_path / "gated.db"
    with dask_cluster(tmp_path, threads=SLOTS) as cluster:
        run = start(tmp_path, cluster, "gate", 3)
        try:
            await_that(lambda: len(lines(str(tmp_path / "starts"))) == SLOTS)
            os.kill(cluster.scheduler, signal.SIGKILL)
            took_s = await_that(lambda: run.poll() is not None, lambda: (statuses(db), (tmp_path / "out").read_text()))
            assert run.returncode == 1
        finally:
            run.kill()
            run.wait()
    assert {*statuses(db).values()} <= {"PENDING", "UP_FOR_RETRY"}
    out = (tmp_path / "out").read_text()
    assert "the cluster 'far' has no machine that can run a task" in out, out
    (tmp_path / "gate").touch()
    again = tmp_path / "again"
    again.mkdir()
    with dask_cluster(again, threads=SLOTS) as cluster:
        assert start(tmp_path, cluster, "gate", 3).wait(LIMIT_S) == 0, (tmp_path / "out").read_text()
    figure("R34", schedulers_killed=1, interrupted_after_s=round(took_s, 1), resumed=1)
    assert {*statuses(db).values()} == {"SUCCESS"}
