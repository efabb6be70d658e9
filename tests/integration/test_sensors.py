"""Python tasks that wait, in real processes: values, logs, limits, kills and secrets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from liteflow import NOT_YET, Call, Dag, Secret, TaskFailed, Waiting, current_context
from liteflow.definition.options import make_options
from liteflow.definition.task import Task
from liteflow.state.admin import cancel_interrupted, request
from liteflow.state.history import History
from liteflow.state.locks import LockFile
from liteflow.state.records import NewRun
from liteflow.state.store import Store
from liteflow.work import Poll

LIMIT_S = 120.0


def look(path: str) -> Any:
    """Return the text of a file, once there is one."""
    print("looked")
    return Path(path).read_text(encoding="utf-8") if os.path.exists(path) else NOT_YET


def begin(path: str) -> Waiting:
    """Start a job that is not done yet, and note that it was started."""
    with open(path + ".starts", "a", encoding="utf-8") as file:
        file.write("started\n")
    return Waiting({"job": 7}, 0.1, f"job 7 for {os.path.basename(path)}")


def end(path: str) -> Any:
    """Return whether the job is done, by the handle that was stored."""
    assert current_context().handle == {"job": 7}
    return look(path)


def waiting_task(path: str, **options: Any) -> Task:
    return Task("job", body=Call(begin, {"path": path}, poll=Poll(func=end)), **options)


def undoable_task(path: str) -> Task:
    kwargs = {"path": path}
    return Task("job", body=Call(begin, kwargs, poll=Poll(func=end), undo=Call(forget, kwargs)))


def rows(db: str, sql: str) -> list[Any]:
    import sqlite3

    with sqlite3.connect(db) as connection:
        return connection.execute(sql).fetchall()


def until(db: str, sql: str, result: list[Any]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up:
        if os.path.exists(db) and rows(db, sql) == result:
            return
        time.sleep(0.01)
    raise AssertionError(f"{sql} does not become {result}; it is {rows(db, sql)}")


@pytest.mark.parametrize("mode", ["thread", "process", "inline", "async"])
def test_a_sensor_waits_in_each_mode(db: str, tmp_path: Path, mode: str) -> None:
    path, logs = tmp_path / "there", tmp_path / "logs"
    dag = Dag("d", db)
    ready = dag.sensor(look, "ready", every=0.05, path=str(path))
    dag.task(lambda text: text + "!", "after", text=ready)

    class WhenItWaits:
        def changed(self, changes: Any) -> None:
            if any(change.status == "WAITING" for change in changes):
                path.write_text("text", encoding="utf-8")

    run = dag.run(2, mode, log_dir=str(logs), observers=[WhenItWaits()])
    assert run.status == "SUCCESS"
    assert run.value("after") == "text!"
    with History(db) as history:
        (attempt,) = history.attempts(run.run_id, "ready")
        assert attempt.status == "SUCCESS"
        assert attempt.log_path is not None
        assert "looked\nlooked" in Path(attempt.log_path).read_text(encoding="utf-8")


def state_of_run(db: str) -> str:
    """Return the state of the run, once its guardian is gone, too."""
    give_up = time.monotonic() + LIMIT_S
    with History(db) as history:
        while (status := history.run("r").status) == "RUNNING" and time.monotonic() < give_up:
            time.sleep(0.01)
    return status


def forget(path: str) -> None:
    """Note that the job was undone, with its handle."""
    Path(path + ".undone").write_text(str(current_context().handle), encoding="utf-8")


_PROGRAM = """
import sys
sys.path[:0] = [{tests!r}]
from test_sensors import Dag, waiting_task
dag = Dag("d", {db!r})
dag.add_task(waiting_task({path!r}))
dag.run(run_id="r")
"""


def test_nothing_is_started_twice_when_the_owner_is_killed(db: str, tmp_path: Path) -> None:
    path = str(tmp_path / "there")
    program = _PROGRAM.format(tests=os.path.dirname(__file__), db=db, path=path)
    owner = subprocess.Popen([sys.executable, "-c", program])
    try:
        until(db, "SELECT status, handle FROM liteflow_task_instances", [("WAITING", '{"job":7}')])
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert state_of_run(db) == "INTERRUPTED"
    with History(db) as history:
        (record,) = history.instances("r")
        assert (record.status, record.reason) == ("WAITING", "job 7 for there")
        (attempt,) = history.attempts("r")
        assert (attempt.attempt, attempt.status) == (1, "WAITING")
    Path(path).write_text("done", encoding="utf-8")
    dag = Dag("d", db)
    dag.add_task(waiting_task(path))
    run = dag.resume("r")
    assert (run.status, run.value("job")) == ("SUCCESS", "done")
    assert Path(path + ".starts").read_text(encoding="utf-8") == "started\n"
    assert rows(db, "SELECT attempt, status FROM liteflow_attempts") == [(1, "SUCCESS")]


def test_a_run_without_owner_that_waits_can_be_cancelled(db: str, tmp_path: Path) -> None:
    path = str(tmp_path / "there")
    program = _PROGRAM.format(tests=os.path.dirname(__file__), db=db, path=path)
    owner = subprocess.Popen([sys.executable, "-c", program])
    try:
        until(db, "SELECT status FROM liteflow_task_instances", [("WAITING",)])
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert state_of_run(db) == "INTERRUPTED"
    cancel_interrupted(db, "r", "cancelled by a test")
    assert rows(db, "SELECT status, handle, wake_at FROM liteflow_task_instances") == [("CANCELLED", None, None)]
    assert rows(db, "SELECT attempt, status FROM liteflow_attempts") == [(1, "CANCELLED")]


def test_a_poll_that_hangs_is_ended_and_repeated(db: str, tmp_path: Path) -> None:
    path = tmp_path / "hung"

    def hang() -> Any:
        if not path.exists():
            path.touch()
            time.sleep(LIMIT_S)
        return 2

    dag = Dag("d", db)
    dag.add_task(Task("job", body=Call(lambda: Waiting(1, 0.0), poll=Poll(func=hang, limit_s=0.3))))
    run = dag.run(2, "process", log_dir=str(tmp_path / "logs"))
    assert (run.status, run.value("job")) == ("SUCCESS", 2)
    reasons = [reason for (reason,) in rows(db, "SELECT reason FROM liteflow_events WHERE status='WAITING'")]
    assert reasons[1] == "poll failed (1 of 5): timed out after 0.3 s"


def test_a_poll_waits_for_no_worker(db: str, tmp_path: Path) -> None:
    """All workers are busy until the wait is over."""
    path = str(tmp_path / "there")

    def work() -> None:
        while not os.path.exists(path + ".seen"):
            time.sleep(0.01)

    def see() -> Any:
        Path(path + ".seen").touch()
        return 1

    dag = Dag("d", db)
    dag.add_task(
        Task(
            "job",
            body=Call(lambda: Waiting(again_s=0.1), poll=Poll(func=see)),
            options=make_options({"priority": 1}, "job"),
        )
    )
    dag.task(work, "busy", timeout=LIMIT_S)
    assert dag.run(1, "process", log_dir=str(tmp_path / "logs")).status == "SUCCESS"


def test_a_handle_holds_no_secret_and_is_plain_data(db: str, tmp_path: Path) -> None:
    dag = Dag("d", db, secrets=[Secret("TOKEN", env="TOKEN")])
    poll = Poll(func=print)
    dag.add_task(Task("secret", body=Call(lambda: Waiting({"token": "s3cret-value"}), poll=poll)))
    dag.add_task(Task("object", body=Call(lambda: Waiting(object), poll=poll)))
    dag.add_task(Task("large", body=Call(lambda: Waiting("x" * 70_000), poll=poll)))
    run = dag.run(2, "process", log_dir=str(tmp_path / "logs"), secrets={"TOKEN": "s3cret-value"})
    assert run.status == "FAILED"
    reasons = dict(rows(db, "SELECT task_id, reason FROM liteflow_task_instances"))
    assert "TOKEN" in reasons["secret"]
    assert "s3cret" not in reasons["secret"]
    assert "plain data" in reasons["object"]
    assert "at most 65,536 bytes" in reasons["large"]


def test_a_sensor_fails_at_once_with_task_failed(db: str, tmp_path: Path) -> None:
    def never() -> Any:
        if current_context().handle is None and not (tmp_path / "first").exists():
            (tmp_path / "first").touch()
            return Waiting(why="a job")
        raise TaskFailed("the job is gone")

    dag = Dag("d", db)
    dag.sensor(never, "job", every=0.01)
    run = dag.run(2, "process", log_dir=str(tmp_path / "logs"))
    assert run.status == "FAILED"
    assert rows(db, "SELECT status, reason FROM liteflow_task_instances") == [("FAILED", "the job is gone")]


def test_a_wait_that_ends_without_success_is_undone(db: str, tmp_path: Path) -> None:
    path = str(tmp_path / "there")
    dag, kwargs = Dag("d", db), {"path": path}
    body = Call(begin, kwargs, poll=Poll(func=end), undo=Call(forget, kwargs))
    dag.add_task(Task("job", body=body, options=make_options({"timeout": 4}, "job")))
    assert dag.run(2, "process", run_id="r", log_dir=str(tmp_path / "logs")).status == "FAILED"
    assert Path(path + ".undone").read_text(encoding="utf-8") == "{'job': 7}"
    assert rows(db, "SELECT attempt, status FROM liteflow_attempts") == [(1, "TIMED_OUT")]
    assert rows(db, "SELECT * FROM liteflow_undos") == []


def test_a_wait_whose_owner_is_killed_is_not_undone(db: str, tmp_path: Path) -> None:
    path = str(tmp_path / "there")
    program = _PROGRAM.format(tests=os.path.dirname(__file__), db=db, path=path)
    program = program.replace("waiting_task(", "undoable_task(").replace("waiting_task\n", "undoable_task\n")
    owner = subprocess.Popen([sys.executable, "-c", program])
    try:
        until(db, "SELECT status FROM liteflow_task_instances", [("WAITING",)])
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert state_of_run(db) == "INTERRUPTED"
    assert not os.path.exists(path + ".undone")
    Path(path).write_text("done", encoding="utf-8")
    dag = Dag("d", db)
    dag.add_task(undoable_task(path))
    assert dag.resume("r").status == "SUCCESS"
    assert not os.path.exists(path + ".undone")
    assert rows(db, "SELECT * FROM liteflow_undos") == []


def test_the_end_of_a_run_leaves_decisions_for_the_next_owner(db: str) -> None:
    """A decision that arrives just before the run is interrupted or parked is not lost."""
    locks = LockFile(db)
    store = Store(db, locks)
    store.create(NewRun(run_id="r", dag_id="d", graph_digest="g", graph_snapshot='{"tasks":[]}', instances=[]))
    for action in ("cancel", "answer"):
        request(db, "r", action, "{}")
    store.batch.end_run("INTERRUPTED", "parked", time.time())
    store.commit()
    store.close()
    locks.close()
    assert rows(db, "SELECT action FROM liteflow_requests WHERE handled_at IS NULL") == [("answer",)]
