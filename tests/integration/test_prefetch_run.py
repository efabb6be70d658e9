"""Runs of very short tasks: their attempts are QUEUED until they start, in the state file and for observers."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from liteflow import Dag, DagRun, Observer
from liteflow.running import places
from liteflow.running.observers import Change
from liteflow.running.prefetch import PrefetchLimits
from liteflow.state.history import History

SLOTS, TWO = 4, 2
SHORT, LONG = 300, 40
MODES = ["thread", "process"]
LIMIT_S = 120.0


@pytest.fixture
def all_count_as_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand attempts out in advance however long a busy machine lets the short tasks take."""
    monkeypatch.setattr(places, "NEAR", PrefetchLimits(short_s=60.0, queue_s=6000.0, most=64))


def nothing() -> None:
    """End at once."""


def changes(db: str, run_id: str) -> Iterator[tuple[str, str | None, str]]:
    with History(db) as history:
        for event in history.events(run_id, limit=100_000):
            if event.task_id is not None:
                yield event.task_id, event.previous, event.status


class States(Observer):
    """Folds the changes of a run, and remembers how many tasks were RUNNING at most."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.most_running = 0

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            assert self.states.get(change.task_id, "PENDING") == change.previous
            self.states[change.task_id] = change.status
            self.most_running = max(self.most_running, list(self.states.values()).count("RUNNING"))


@pytest.mark.parametrize("mode", MODES)
def test_no_more_tasks_are_running_than_there_are_slots(db: str, mode: str) -> None:
    dag = Dag("d", db)
    for number in range(600):
        dag.task(nothing, f"t{number}")
    observed = States()
    run = dag.run(SLOTS, mode, observers=[observed])
    assert run.status == "SUCCESS"
    states: dict[str, str] = {}
    running = 0
    for task_id, previous, status in changes(db, run.run_id):
        assert states.get(task_id, "PENDING") == previous
        running += (status == "RUNNING") - (previous == "RUNNING")
        assert running <= SLOTS
        states[task_id] = status
    assert set(states.values()) == set(observed.states.values()) == {"SUCCESS"}
    assert observed.most_running <= SLOTS


def test_a_long_task_behind_short_ones_is_running_while_it_runs(db: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    class OpensTheGate(Observer):
        def changed(self, changes: Sequence[Change]) -> None:
            if any((change.task_id, change.status) == ("long", "RUNNING") for change in changes):
                gate.touch()

    dag = Dag("d", db)
    for number in range(400):
        dag.task(nothing, f"t{number}")
    dag.task(long_task(tmp_path), "long")
    for number in range(400, 800):
        dag.task(nothing, f"t{number}")
    assert dag.run(1, "thread", observers=[OpensTheGate()]).status == "SUCCESS"


def long_task(folder: Path) -> Callable[[], None]:
    """Return a task that adds an x to the file `started`, and ends when the file `gate` is there."""

    def wait() -> None:
        with (folder / "started").open("a") as file:
            file.write("x")
        while not (folder / "gate").exists():
            time.sleep(0.002)

    return wait


class Running(Observer):
    """Counts the tasks that are RUNNING, and keeps every change."""

    def __init__(self) -> None:
        self.now = 0
        self.changes: list[tuple[str, str, str]] = []

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.now += (change.status == "RUNNING") - (change.previous == "RUNNING")
            self.changes.append((change.task_id, change.previous, change.status))


def short_then_long(db: str, folder: Path) -> Dag:
    dag = Dag("mixed", db)
    short = [dag.task(nothing, f"short_{number}") for number in range(SHORT)]
    join = dag.task(nothing, "join")
    join << short
    for number in range(LONG):
        join >> dag.task(long_task(folder), f"long_{number}")
    return dag


def queue_long_tasks(db: str, folder: Path, mode: str) -> tuple[Running, DagRun]:
    """Run short tasks, then long ones, until all of those that have no slot are QUEUED, and to the end."""
    dag, watcher, result = short_then_long(db, folder), Running(), list[DagRun]()
    thread = threading.Thread(target=lambda: result.append(dag.run(TWO, mode, run_id="r", observers=[watcher])))
    thread.start()
    counts: dict[str, int] = {}
    try:
        give_up = time.monotonic() + LIMIT_S
        while counts != {"SUCCESS": SHORT + 1, "RUNNING": TWO, "QUEUED": LONG - TWO}:
            assert time.monotonic() < give_up, counts
            time.sleep(0.01)
            if (folder / "started").exists():
                with History(db) as history:
                    counts = history.counts("r")
        assert watcher.now == TWO
        assert (folder / "started").read_text() in ("x", "x" * TWO)
    finally:
        (folder / "gate").touch()
        thread.join(LIMIT_S)
    return watcher, result[0]


@pytest.mark.usefixtures("all_count_as_short")
@pytest.mark.parametrize("mode", MODES)
def test_long_tasks_are_queued_until_they_run(db: str, tmp_path: Path, mode: str) -> None:
    watcher, run = queue_long_tasks(db, tmp_path, mode)
    run.raise_for_failure()
    assert (tmp_path / "started").read_text() == "x" * LONG, "each ran once"
    with History(db) as history:
        assert {attempt.attempt for attempt in history.attempts("r")} == {1}
        states: dict[str, str] = {}
        for event in history.events("r", limit=100_000):
            if event.task_id is not None:
                assert event.previous == states.get(event.task_id, "PENDING")
                states[event.task_id] = event.status
    assert set(states.values()) == {"SUCCESS"}
    last = {task: status for task, _, status in watcher.changes}
    assert Counter(last.values()) == {"SUCCESS": SHORT + 1 + LONG}


@pytest.mark.usefixtures("all_count_as_short")
@pytest.mark.parametrize("mode", MODES)
def test_fail_fast_queues_nothing(db: str, tmp_path: Path, mode: str) -> None:
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
    run = dag.run(TWO, mode, fail_fast=True)
    assert run.status == "FAILED"
    assert Counter(run.statuses().values()) == {"SUCCESS": SHORT + 1, "FAILED": 1, "CANCELLED": LONG}
    started = tmp_path / "started"
    assert not started.exists() or started.read_text() == "x"
    (tmp_path / "gate").touch()  # abandoned threads end


@pytest.mark.usefixtures("all_count_as_short")
@pytest.mark.parametrize("mode", MODES)
def test_queued_attempts_of_a_stopped_run_never_start(db: str, tmp_path: Path, mode: str) -> None:
    gate = tmp_path / "gate"

    class StopsInTheQueue(Observer):
        def changed(self, changes: Sequence[Change]) -> None:
            if [change.status for change in changes].count("QUEUED") > 10 and changes[-1].task_id.startswith("long"):
                signal.raise_signal(signal.SIGINT)

    dag = Dag("stopped", db)
    short = [dag.task(nothing, f"short_{number}") for number in range(SHORT)]
    join = dag.task(nothing, "join")
    join << short
    for number in range(LONG):
        join >> dag.task(long_task(tmp_path), f"long_{number}", kill_grace=0.1)
    run = dag.run(TWO, mode, run_id="r", observers=[StopsInTheQueue()], raise_signals=False)
    gate.touch()
    assert run.status == "INTERRUPTED"
    ends = Counter((previous, status) for task_id, previous, status in changes(db, "r") if status == "CANCELLED")
    assert ends[("QUEUED", "CANCELLED")] >= LONG - 2 * TWO
    with History(db) as history:
        attempts = [attempt for attempt in history.attempts("r") if attempt.status == "CANCELLED"]
        assert {attempt.ended_at - attempt.started_at for attempt in attempts if attempt.error} >= {0.0}
    assert dag.resume("r", TWO, mode).status == "SUCCESS"
    assert len((tmp_path / "started").read_text()) <= LONG + TWO


SCRIPT = """
import os, signal, sys, time
from liteflow import Dag

def nothing():
    pass

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

dag = Dag("d", sys.argv[1])
for number in range(400):
    dag.task(nothing, f"t{number}")
dag.task(kill if sys.argv[2] == "die" else nothing, "kill")
for number in range(400, 800):
    dag.task(nothing, f"t{number}")
run = dag.run(1, "thread", run_id="r") if sys.argv[2] == "die" else dag.resume("r")
print(run.status)
"""


def test_a_run_that_was_killed_with_queued_attempts_can_be_resumed(db: str) -> None:
    argv = [sys.executable, "-c", SCRIPT, db]
    died = subprocess.run([*argv, "die"], capture_output=True, text=True, check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL, died.stderr
    with History(db) as history:
        states = [instance.status for instance in history.instances("r")]
    assert states.count("RUNNING") <= 1
    resumed = subprocess.run([*argv, "resume"], capture_output=True, text=True, check=False, timeout=60)
    assert resumed.stdout == "SUCCESS\n", resumed.stderr
    ends = [task_id for task_id, _, status in changes(db, "r") if status == "SUCCESS"]
    assert len(ends) == len(set(ends)) == 801
    lost = [(previous, status) for _, previous, status in changes(db, "r") if status == "LOST"]
    assert {previous for previous, _ in lost} <= {"QUEUED", "RUNNING"}
