"""A machine that had said that it leaves does not count when it ends: `max_lost` is for those that die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from far_kit import LIMIT_S, cluster_of

from liteflow import Dag, current_context
from liteflow.processes import tree
from liteflow.state.history import History

MAX_LOST = 1
LEAVING_COUNT = 3  # more machines than may die


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def await_slots(db: str, count: int) -> None:
    """Wait until the state file says that the machines of the cluster have so many slots."""
    with History(db) as history:
        until(lambda: [place["slots"] for place in history.latest().places] == [count])


@pytest.mark.parametrize("leaves", [True, False])
def test_machines_that_leave_do_not_count_towards_max_lost(
    tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    ended_count = LEAVING_COUNT if leaves else MAX_LOST + 1

    def work() -> int:
        attempt = current_context().attempt
        if attempt <= ended_count:
            (tmp_path / f"{attempt}.new").write_text(str(os.getppid()))
            os.rename(tmp_path / f"{attempt}.new", tmp_path / f"{attempt}")
            time.sleep(1000)
        return attempt

    def end_machines() -> None:
        """End the agent of each attempt; one that leaves has said so before, as when a scheduler ends a job."""
        for attempt in range(1, ended_count + 1):
            path = tmp_path / f"{attempt}"
            until(path.exists)
            guardian = tree.process(int(path.read_text()))
            assert guardian is not None
            if leaves:
                await_slots(db, 1)
                os.kill(guardian.parent, signal.SIGTERM)
                await_slots(db, 0)
            os.kill(guardian.parent, signal.SIGKILL)

    with Dag("flow", db, clusters={"lab": cluster_of({"w1": 1})}, max_lost=MAX_LOST) as dag:
        dag.task(work, mode="lab")
        dag.task(end_machines, mode="process")
    run = dag.run(log_dir=str(tmp_path / "logs"))
    with History(db) as history:
        verdicts = [attempt.status for attempt in history.attempts(run.run_id) if attempt.task_id == "work"]
    if leaves:
        assert run.raise_for_failure().value("work") == LEAVING_COUNT + 1
        assert verdicts == [*["LOST"] * LEAVING_COUNT, "SUCCESS"]
    else:
        assert run.statuses() == {"work": "FAILED", "end_machines": "SUCCESS"}
        assert f"lost {MAX_LOST + 1} times: the agent on w1 is lost" in run.failures()["work"]
        assert verdicts == ["LOST"] * (MAX_LOST + 1)
