"""Runs whose tasks are executed by agents: the whole engine, with the agents on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from far_kit import cluster_of
from process_kit import is_alive

from liteflow import Change, Dag, Observer, current_context
from liteflow.processes import tree
from liteflow.state.history import History


def add(a: int, b: int) -> int:
    print("adding")
    return a + b


def meet(own: str, other: str) -> int:
    """Wait until the other task runs too; so both run at once."""
    Path(own).touch()
    while not Path(other).exists():
        time.sleep(0.01)
    return 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_uses_two_machines_and_stores_which(folder: Path, db: str) -> None:
    dag = Dag("flow", db, clusters={"lab": cluster_of({"w1": 1, "w2": 1})})
    with dag:
        first, second = str(folder / "first"), str(folder / "second")
        numbers = [
            dag.task(meet, own=first, other=second, task_id="n0"),
            dag.task(meet, own=second, other=first, task_id="n1"),
        ]
        total = dag.task(add, a=numbers[0], b=numbers[1])
        dag.shell('echo "$LIGHTFLOW_TASK on a far machine"; sleep 0.1', task_id="says", depends_on=total)
    run = dag.run(mode="lab", log_dir=str(folder / "logs"))
    assert run.raise_for_failure()
    assert run.value("add") == 2
    with History(db) as history:
        attempts = list(history.attempts(run.run_id))
    assert {attempt.host for attempt in attempts} == {"w1", "w2"}
    says = next(attempt for attempt in attempts if attempt.task_id == "says")
    assert says.log_path is not None
    assert Path(says.log_path).read_text() == "says on a far machine\n"


def test_the_machine_of_a_running_attempt_is_known(folder: Path, db: str) -> None:
    gate, hosts = folder / "gate", list[str | None]()

    def hold() -> None:
        while not gate.exists():
            time.sleep(0.01)

    def look() -> None:
        """Wait until the state file says where the other task runs."""
        with History(db) as history:
            while not hosts:
                running = [attempt for attempt in history.attempts(history.latest().run_id, "hold") if attempt.host]
                assert all(attempt.status == "RUNNING" for attempt in running)
                hosts.extend(attempt.host for attempt in running)
                time.sleep(0.01)
        gate.touch()

    dag = Dag("flow", db, clusters={"lab": cluster_of({"w1": 1})})
    dag.task(hold, mode="lab")
    dag.task(look, mode="thread")
    assert dag.run(log_dir=str(folder / "logs")).raise_for_failure()
    assert hosts == ["w1"]


def nothing() -> None:
    """End at once."""


class States(Observer):
    """Counts what is stored as RUNNING after each commit, and what was QUEUED."""

    def __init__(self) -> None:
        self.running = self.most_running = self.queued = 0

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.running += (change.status == "RUNNING") - (change.previous == "RUNNING")
            self.queued += change.status == "QUEUED"
        self.most_running = max(self.most_running, self.running)


def test_short_tasks_are_queued_at_agents_and_no_more_run_than_there_are_slots(folder: Path, db: str) -> None:
    dag = Dag("flow", db, clusters={"lab": cluster_of({"w1": 1, "w2": 1})})
    for number in range(400):
        dag.task(nothing, f"t{number}")
    states = States()
    run = dag.run(mode="lab", observers=[states])
    assert run.raise_for_failure()
    assert states.most_running <= 2
    assert states.queued, "tasks that do nothing are sent before there is a slot"
    with History(db) as history:
        assert len(list(history.attempts(run.run_id))) == 400


def test_tasks_that_run_one_after_the_other_use_one_slot(folder: Path, db: str) -> None:
    """A task that starts is not counted a second time, as one that waits: another machine would get an agent."""
    dag = Dag("flow", db, clusters={"lab": cluster_of({"w1": 1, "w2": 1})})
    above = dag.task(nothing, "t0")
    for number in range(1, 40):
        below = dag.task(nothing, f"t{number}")
        above >> below
        above = below
    run = dag.run(mode="lab")
    assert run.raise_for_failure()
    with History(db) as history:
        assert {attempt.host for attempt in history.attempts(run.run_id)} == {"w1"}


def test_a_task_whose_agent_is_killed_runs_again(folder: Path, db: str) -> None:
    marks = folder / "marks"

    def work() -> int:
        with marks.open("a") as file:
            file.write(f"{os.getppid()}\n")
        while marks.read_text().count("\n") == 1:
            time.sleep(0.01)
        return 7

    def kill_agent() -> None:
        while not marks.exists() or not marks.read_text():
            time.sleep(0.01)
        guardian = int(marks.read_text())
        row = tree.process(guardian)
        assert row is not None
        os.kill(row.parent, signal.SIGKILL)

    with Dag("flow", db, clusters={"lab": cluster_of({"w1": 1})}) as dag:
        dag.task(work, mode="lab")
        dag.task(kill_agent, mode="process")
    run = dag.run(log_dir=str(folder / "logs"))
    assert run.raise_for_failure()
    assert run.value("work") == 7
    with History(db) as history:
        verdicts = [attempt.status for attempt in history.attempts(run.run_id) if attempt.task_id == "work"]
    assert verdicts == ["LOST", "SUCCESS"]


def test_a_cancelled_run_leaves_nothing(folder: Path, db: str) -> None:
    pid_file = folder / "pid"

    def hang() -> None:
        pid_file.write_text(str(os.getpid()))
        time.sleep(1000)

    def fail() -> None:
        while not pid_file.exists() or not pid_file.read_text():
            time.sleep(0.01)
        raise RuntimeError("now")

    with Dag("flow", db, clusters={"lab": cluster_of({"w1": 1})}) as dag:
        dag.task(hang, mode="lab")
        dag.task(fail, mode="process")
    assert dag.run(log_dir=str(folder / "logs"), fail_fast=True).failures()
    assert not is_alive(int(pid_file.read_text()))


def large() -> str:
    return "ä" * 3_000_000


def pull_all() -> list[int]:
    context = current_context()
    pulled = [context.xcom_pull("large"), context.xcom_pull("nothing", default="none"), context.xcom_pull("add")]
    with ThreadPoolExecutor(4) as pool:
        works = [pool.submit(copy_context().run, context.xcom_pull, "add") for _ in range(8)]
    return [len(pulled[0]), len(pulled[1]), pulled[2], *{work.result() for work in works}]


def test_a_task_on_another_machine_pulls_values_from_the_owner(folder: Path, db: str) -> None:
    dag = Dag("flow", db, clusters={"lab": cluster_of({"w1": 2})})
    with dag:
        first = [dag.task(large), dag.task(nothing), dag.task(add, a=1, b=2)]
        first >> dag.task(pull_all)
    run = dag.run(mode="lab", log_dir=str(folder / "logs"))
    assert run.raise_for_failure()
    assert run.value("pull_all") == [3_000_000, 4, 3, 3]
