"""Backends from outside the engine: a run in a mode of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from liteflow import Command, Dag, Task
from liteflow.errors import DefinitionError
from liteflow.executors import Backend, BackendContext, open_executor
from liteflow.executors.attempt import failure
from liteflow.executors.inline import run_attempt
from liteflow.executors.open import BACKENDS, CHILD_RUN, COMMAND
from liteflow.modes import MODES
from liteflow.work import Call, RunInfo, Work


class OneThreadEach(Backend):
    """Starts a thread for each attempt."""

    in_this_process = True

    def __init__(self, context: BackendContext) -> None:
        self.context = context
        self.tasks: list[str] = []
        self.running: dict[int, Work] = {}  # by node
        self.closed = False

    def submit(self, work: Work) -> None:
        self.tasks.append(work.task_id)
        self.running[work.node] = work
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: Work) -> None:
        outcome = run_attempt(cast("Call", self.context.bodies[work.task_id]), work, self.context.info)
        if self.running.pop(work.node, None) is not None:
            self.context.outcomes.post(outcome)

    def cancel(self, node: int, grace_s: float) -> None:
        if (work := self.running.pop(node, None)) is not None:
            self.context.outcomes.post(failure(work, "CANCELLED", "cancelled"))

    def close(self, grace_s: float) -> None:
        self.closed = True


def remembering(opened: list[OneThreadEach]) -> Callable[[BackendContext], Backend]:
    def open_backend(context: BackendContext) -> Backend:
        opened.append(OneThreadEach(context))
        return opened[-1]

    return open_backend


def test_every_mode_of_the_engine_has_a_backend() -> None:
    assert set(BACKENDS) == {*MODES, COMMAND, CHILD_RUN}


def test_a_run_uses_a_backend_that_it_is_given(db: str, tmp_path: Path) -> None:
    def two() -> int:
        print("printed")
        return 2

    def double(number: int) -> int:
        return 2 * number

    opened: list[OneThreadEach] = []
    dag = Dag("d", db)
    dag.task(double, number=dag.task(two))
    dag.add_task(Task("command", body=Command(("true",))))
    run = dag.run(mode="own", backends={"own": remembering(opened)}, log_dir=str(tmp_path / "logs"))
    assert (run.status, run.value("double")) == ("SUCCESS", 4)
    [backend] = opened
    assert backend.tasks == ["two", "double"]
    assert set(backend.context.bodies) == {"two", "double"}
    assert backend.context.slots == 4
    assert backend.closed
    [log] = (tmp_path / "logs").glob("task_two_*.log")
    assert log.read_text() == "printed\n"


def test_a_resume_uses_it_too(db: str) -> None:
    fails = [True]

    def flaky() -> None:
        if fails.pop():
            raise ValueError("not yet")

    opened: list[OneThreadEach] = []
    dag = Dag("d", db)
    dag.task(flaky)
    run = dag.run(mode="own", backends={"own": remembering(opened)})
    assert run.status == "FAILED"
    with pytest.raises(DefinitionError, match="mode 'own' must be one of process, thread, async, inline"):
        dag.resume(run.run_id)
    fails.append(False)
    assert dag.resume(run.run_id, backends={"own": remembering(opened)}).status == "SUCCESS"
    assert [backend.tasks for backend in opened] == [["flaky"], ["flaky"]]


def test_fail_fast_cancels_attempts_of_the_backend(db: str) -> None:
    release = threading.Event()

    def wait() -> None:
        release.wait()

    def fail() -> None:
        raise ValueError("no")

    dag = Dag("d", db)
    dag.task(wait)
    dag.task(fail)
    run = dag.run(mode="own", backends={"own": OneThreadEach}, fail_fast=True)
    release.set()
    assert run.statuses() == {"wait": "CANCELLED", "fail": "FAILED"}


def test_a_name_of_the_engine_overrides_its_backend(db: str) -> None:
    opened: list[OneThreadEach] = []
    dag = Dag("d", db)
    dag.task(int)
    assert dag.run(mode="thread", backends={"thread": remembering(opened)}).status == "SUCCESS"
    assert [backend.tasks for backend in opened] == [["int"]]


def test_a_backend_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    def refuse(context: BackendContext) -> Backend:
        raise ConnectionError("no cluster")

    info = RunInfo(run_id="r", dag_id="d", db_path=str(tmp_path / "db"), log_dir=str(tmp_path), params={})
    bodies = {"a": Call(int), "b": Command(("true",))}
    with pytest.raises(ConnectionError, match="no cluster"):
        open_executor(bodies, info, slots=1, mode="own", backends={"own": refuse})
    with pytest.raises(DefinitionError, match="no mode 'other'; there are process, thread, async, inline, own"):
        open_executor(bodies, info, slots=1, mode="other", backends={"own": refuse})
