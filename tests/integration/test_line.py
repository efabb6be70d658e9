"""Where tasks are very short more of them are handed out than there are slots: what that must not change."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from liteflow import Dag, DagRun
from liteflow.running.observing import Change, Observer
from liteflow.state.history import History

MODES = ["thread", "process"]
SHORT, LONG, SLOTS = 300, 40, 2
LIMIT_S = 30.0


def nothing() -> None:
    """A very short task."""


def long_task(folder: Path) -> Callable[[], None]:
    def wait() -> None:
        with (folder / "begun").open("a") as file:
            file.write("x")
        while not (folder / "gate").exists():
            time.sleep(0.002)

    return wait


class Running(Observer):
    """How many tasks the run says are running, at most and now."""

    def __init__(self) -> None:
        self.now = 0
        self.story: list[tuple[str, str, str]] = []

    def changed(self, changes: list[Change]) -> None:  # type: ignore[override]
        for change in changes:
            self.now += (change.status == "RUNNING") - (change.previous == "RUNNING")
            self.story.append((change.task_id, change.previous, change.status))


def short_then_long(db: str, folder: Path) -> Dag:
    dag = Dag("mixed", db)
    short = [dag.task(nothing, f"short_{number}") for number in range(SHORT)]
    join = dag.task(nothing, "join")
    join << short
    for number in range(LONG):
        join >> dag.task(long_task(folder), f"long_{number}")
    return dag


@pytest.mark.parametrize("mode", MODES)
def test_when_tasks_turn_out_long_only_those_that_run_are_running(db: str, tmp_path: Path, mode: str) -> None:
    dag, watcher, result = short_then_long(db, tmp_path), Running(), list[DagRun]()
    thread = threading.Thread(target=lambda: result.append(dag.run(SLOTS, mode, run_id="r", observers=[watcher])))
    thread.start()
    try:
        give_up = time.monotonic() + LIMIT_S
        counts: dict[str, int] = {}
        while counts != {"SUCCESS": SHORT + 1, "RUNNING": SLOTS, "PENDING": LONG - SLOTS}:
            assert time.monotonic() < give_up, counts
            time.sleep(0.01)
            if Path(db).exists() and (tmp_path / "begun").exists():
                with History(db) as history:
                    counts = history.counts("r")
        assert watcher.now == SLOTS
        assert (tmp_path / "begun").read_text() == "x" * SLOTS
    finally:
        (tmp_path / "gate").touch()
        thread.join(LIMIT_S)
    (run,) = result
    run.raise_for_failure()
    assert (tmp_path / "begun").read_text() == "x" * LONG, "each ran once"
    with History(db) as history:
        assert {one.attempt for one in history.attempts("r")} == {1}
        told: dict[str, str] = {}
        for event in history.events("r", limit=100_000):
            if event.task_id is not None:
                assert event.previous == told.get(event.task_id, "PENDING"), "each state follows from the one before"
                told[event.task_id] = event.status
    assert set(told.values()) == {"SUCCESS"}
    last = {task: status for task, _, status in watcher.story}
    assert Counter(last.values()) == {"SUCCESS": SHORT + 1 + LONG}, "an observer is told the same story"


@pytest.mark.parametrize("mode", MODES)
def test_fail_fast_hands_out_no_more_than_can_run(db: str, tmp_path: Path, mode: str) -> None:
    dag = Dag("strict", db)
    for number in range(SHORT):
        dag.task(nothing, f"short_{number}")

    def fail() -> None:
        raise ValueError("no")

    join = dag.task(nothing, "join")
    join << [dag.tasks[f"short_{number}"] for number in range(SHORT)]
    join >> dag.task(fail, "fails")
    for number in range(LONG):
        join >> dag.task(long_task(tmp_path), f"long_{number}", kill_grace=0.1)
    run = dag.run(SLOTS, mode, fail_fast=True)
    assert run.status == "FAILED"
    assert Counter(run.statuses().values()) == {"SUCCESS": SHORT + 1, "FAILED": 1, "CANCELLED": LONG}
    begun = tmp_path / "begun"
    assert not begun.exists() or begun.read_text() == "x", "there was one slot beside the task that failed"
    (tmp_path / "gate").touch()  # a thread that was given up ends
