"""Changes of status and their events: a program that follows `liteflow_events` knows every status at every moment."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import event_fold
import pytest

from liteflow import Dag, RetryPolicy
from liteflow.errors import RunNotFound, RunOwned
from liteflow.state.admin import cancel_interrupted, request
from liteflow.state.deletion import delete_runs
from liteflow.state.history import History
from liteflow.state.locks import LockFile
from liteflow.state.records import NewInstance, NewRun, PreviousState, Resets
from liteflow.state.resets import ResetRules
from liteflow.state.state_file import Transaction, connect
from liteflow.state.store import Store
from liteflow.state.transitions import RunKey, mark_deleted
from liteflow.states import Verdict
from liteflow.values.payload import encode
from liteflow.work import Outcome

Open = Callable[[], Store]
AGAIN = ResetRules(choose=lambda *_: Resets({("a", -1): "asked for"}))


def die(store: Store) -> None:
    """What the kernel does when the process of a store is killed."""
    store.close()
    store._locks.close()


def create(store: Store, run_id: str = "r1", tasks: tuple[str, ...] = ("a", "b", "c")) -> None:
    instances = [NewInstance(task_id, list(tasks[:number])) for number, task_id in enumerate(tasks)]
    store.create(NewRun(run_id=run_id, dag_id="flow", graph_digest="d", graph_snapshot="{}", instances=instances))


def start(store: Store, task_id: str, attempt: int = 1, index: int = -1) -> None:
    store.batch.start_attempt(task_id, index, attempt, "PENDING", None, 1.0)
    store.commit()


def end(store: Store, task_id: str, verdict: Verdict = "SUCCESS", attempt: int = 1, index: int = -1) -> None:
    payload = encode(attempt) if verdict == "SUCCESS" else None
    outcome = Outcome(
        node=0,
        attempt=attempt,
        verdict=verdict,
        value=payload,
        pushed=None,
        error=None,
        exit_code=None,
        log_path=None,
        started_at=1.0,
        ended_at=2.0,
    )
    store.batch.finish_attempt(task_id, index, outcome)
    store.batch.change_status(task_id, index, attempt, "RUNNING", verdict, None, 2.0, outcome)
    store.commit()


def sql(db: str, text: str, *parameters: object) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(db)
    try:
        with connection:
            return connection.execute(text, parameters).fetchall()
    finally:
        connection.close()


def story(db: str, task_id: str | None, run_id: str = "r1") -> list[tuple[str | None, str]]:
    """The changes of a task, or of the run."""
    with History(db) as history:
        return [(each.previous, each.status) for each in history.events(run_id) if each.task_id == task_id]


# -- what runs again -----------------------------------------------------------------------------------------------


def test_a_resume_reports_that_tasks_are_pending_again(db: str) -> None:
    with Dag("flow", db) as dag:
        a = dag.task(lambda: 1 / 0, task_id="a")
        b = dag.task(lambda: 1, task_id="b")
        a >> b
    run = dag.run(mode="inline")
    dag.resume(run.run_id, mode="inline")
    once = [("PENDING", "RUNNING"), ("RUNNING", "FAILED")]
    assert story(db, "a", run.run_id) == [*once, ("FAILED", "PENDING"), *once]
    skipped = ("PENDING", "UPSTREAM_FAILED")
    assert story(db, "b", run.run_id) == [skipped, ("UPSTREAM_FAILED", "PENDING"), skipped]


def test_a_retry_of_the_run_reports_that_tasks_are_pending_again(db: str) -> None:
    with Dag("flow", db, retry=RetryPolicy(1, delay_s=0)) as dag:
        dag.task(lambda: 1 / 0, task_id="a")
        dag.task(lambda: 1, task_id="b")
    run = dag.run(mode="inline")
    once = [("PENDING", "RUNNING"), ("RUNNING", "FAILED")]
    assert story(db, "a", run.run_id) == [*once, ("FAILED", "PENDING"), *once]
    assert story(db, "b", run.run_id) == [("PENDING", "RUNNING"), ("RUNNING", "SUCCESS")]
    assert story(db, None, run.run_id) == [
        (None, "RUNNING"),
        ("RUNNING", "UP_FOR_RETRY"),
        ("UP_FOR_RETRY", "RUNNING"),
        ("RUNNING", "FAILED"),
    ]


def test_a_lost_attempt_is_lost_and_then_pending(opened: Open, db: str) -> None:
    store = opened()
    create(store)
    start(store, "a")
    die(store)
    opened().claim("r1", [], ("d", "{}"))
    assert story(db, "a") == [("PENDING", "RUNNING"), ("RUNNING", "LOST"), ("LOST", "PENDING")]
    assert story(db, "b") == [], "what was pending stays pending without an event"
    assert story(db, None) == [(None, "RUNNING"), ("RUNNING", "INTERRUPTED"), ("INTERRUPTED", "RUNNING")]


def test_what_is_chosen_to_run_again_is_part_of_taking_the_run_over(opened: Open, db: str) -> None:
    store = opened()
    create(store)
    for task_id in "ab":
        start(store, task_id)
        end(store, task_id)
    die(store)
    seen: list[Any] = []

    def choose(tasks: Any, instances: Any, events: Any) -> Resets:
        seen.append((dict(tasks), [(each.task_id, each.status) for each in events]))
        return Resets({("a", -1): "it was torn down"})

    tasks, _, _ = opened().claim("r1", [], ("d", "{}"), rules=ResetRules(choose=choose))
    assert seen[0][0]["a"] == PreviousState("SUCCESS", 1), "the callback sees what there was"
    assert seen[0][1][-1] == ("b", "SUCCESS")
    assert tasks == {
        "a": PreviousState("PENDING", 1),
        "b": PreviousState("SUCCESS", 1),
        "c": PreviousState("PENDING", 0),
    }
    assert story(db, "a")[-1] == ("SUCCESS", "PENDING")
    with History(db) as history:
        assert [value.task_id for value in history.values("r1")] == ["b"], "its value is gone"


def test_a_crash_within_taking_over_leaves_the_run_as_it_was(opened: Open, db: str) -> None:
    store = opened()
    create(store)
    start(store, "a")
    end(store, "a", "FAILED")
    die(store)
    before = list(sqlite3.connect(db).iterdump())

    def choose(*_: object) -> Resets:
        raise KeyboardInterrupt

    taking = opened()
    with pytest.raises(KeyboardInterrupt):
        taking.claim("r1", [], ("d", "{}"), rules=ResetRules(choose=choose))
    assert list(sqlite3.connect(db).iterdump()) == before


# -- rounds --------------------------------------------------------------------------------------------------------


def test_a_success_is_unique_within_its_round(opened: Open, db: str) -> None:
    store = opened()
    create(store)
    start(store, "a")
    end(store, "a")
    die(store)
    again = opened()
    again.claim("r1", [], ("d", "{}"), rules=AGAIN)
    start(again, "a", 2)
    end(again, "a", attempt=2)
    rounds = "SELECT attempt, status, round FROM liteflow_attempts WHERE task_id='a' ORDER BY attempt"
    assert sql(db, rounds) == [(1, "SUCCESS", 0), (2, "SUCCESS", 1)]
    assert sql(db, "SELECT task_id, round FROM liteflow_task_instances") == [("a", 1), ("b", 0), ("c", 0)]
    die(again)
    third = opened()
    third.claim("r1", [], ("d", "{}"))
    with pytest.raises(sqlite3.IntegrityError):
        sql(
            db,
            "INSERT INTO liteflow_attempts (run_id, task_id, attempt, status, epoch, started_at, ended_at, round) "
            "VALUES ('r1', 'a', 3, 'SUCCESS', 1, 1.0, 2.0, 1)",
        )


# -- cancelling a run without an owner -----------------------------------------------------------------------------


def test_cancelling_an_interrupted_run_loses_no_history(opened: Open, db: str) -> None:
    store = opened()
    create(store, tasks=("a", "b", "c", "d"))
    start(store, "a")
    end(store, "a")
    start(store, "b")
    end(store, "b", "FAILED")
    start(store, "c")
    store.batch.trigger_hook("b.on_failure", -1, "b", "[]", 3.0)
    store.commit()
    with pytest.raises(RunOwned):
        cancel_interrupted(db, "r1", "not wanted")
    die(store)
    request(db, "r1", "cancel")
    cancel_interrupted(db, "r1", "not wanted")
    with History(db) as history:
        run = history.run("r1")
        assert (run.status, run.reason) == ("CANCELLED", "not wanted")
        states = {each.task_id: (each.status, each.reason) for each in history.instances("r1")}
        assert states == {
            "a": ("SUCCESS", None),
            "b": ("FAILED", None),
            "c": ("CANCELLED", "not wanted"),
            "d": ("CANCELLED", "not wanted"),
        }
        assert [(each.task_id, each.status) for each in history.attempts("r1")] == [
            ("a", "SUCCESS"),
            ("b", "FAILED"),
            ("c", "LOST"),
        ]
        assert [each.status for each in history.hooks("r1")] == ["PENDING"], "a resume runs it"
    assert story(db, "c") == [("PENDING", "RUNNING"), ("RUNNING", "LOST"), ("LOST", "CANCELLED")]
    assert story(db, "d") == [("PENDING", "CANCELLED")]
    assert story(db, None)[1:] == [("RUNNING", "INTERRUPTED"), ("INTERRUPTED", "CANCELLED")]
    assert sql(db, "SELECT count(*) FROM liteflow_requests WHERE handled_at IS NULL") == [(0,)]


def test_a_run_that_was_cancelled_without_an_owner_can_be_resumed(opened: Open, db: str) -> None:
    store = opened()
    create(store)
    start(store, "a")
    die(store)
    cancel_interrupted(db, "r1", "not wanted")
    again = opened()
    tasks, _, _ = again.claim("r1", [], ("d", "{}"))
    assert tasks["a"] == PreviousState("PENDING", 1)
    start(again, "a", 2)
    end(again, "a", attempt=2)
    with History(db) as history:
        assert [each.status for each in history.attempts("r1", "a")] == ["LOST", "SUCCESS"]


# -- what is gone --------------------------------------------------------------------------------------------------


def test_an_instance_that_is_removed_keeps_its_attempts_and_events(opened: Open, db: str) -> None:
    store = opened()
    create(store, tasks=("each",))
    store.batch.change_status("each", -1, 0, "PENDING", "RUNNING", None, 1.0)
    store.batch.add_instances("each", [(0, "x", "dx"), (1, "y", "dy")], None, 1.0)
    start(store, "each", index=0)
    end(store, "each", index=0)
    start(store, "each", index=1)
    end(store, "each", "FAILED", index=1)
    die(store)
    again = opened()
    _, instances, _ = again.claim("r1", [], ("d", "{}"))
    again.batch.change_status("each", -1, 0, "PENDING", "RUNNING", None, 5.0)
    again.batch.remove_instances("each", {1: instances["each"][1]}, "its item is gone", 5.0)
    again.commit()
    with History(db) as history:
        assert [each.map_index for each in history.instances("r1")] == [-1, 0]
        assert [(each.map_index, each.status) for each in history.attempts("r1", "each")] == [
            (0, "SUCCESS"),
            (1, "FAILED"),
        ]
        assert history.events("r1")[-1].status == "REMOVED"
    assert again.next_free_index("each") == 2


def test_the_number_of_an_event_is_never_used_again(opened: Open, db: str) -> None:
    for run_id in ("old", "newest"):
        store = opened()
        create(store, run_id)
        start(store, "a")
        die(store)
    with History(db) as history:
        last = history.events(limit=10_000)[-1].seq
    delete_runs(db, ["newest"])
    with History(db) as history:
        (deleted,) = history.events(after=last)
        assert (deleted.run_id, deleted.task_id, deleted.previous, deleted.status) == (
            "newest",
            None,
            "RUNNING",
            "DELETED",
        )
        assert [each.run_id for each in history.events() if each.run_id == "newest"] == ["newest"]
    create(opened(), "next")
    with History(db) as history:
        assert [each.run_id for each in history.events(after=last)] == ["newest", "next"]
    create(opened(), "newest")
    assert story(db, None, "newest") == [("RUNNING", "DELETED"), (None, "RUNNING")], "its id may be used again"


def test_a_run_whose_deletion_was_cut_off_can_only_be_deleted_again(opened: Open, db: str) -> None:
    store = opened()
    create(store)
    start(store, "a")
    die(store)
    connection, locks = connect(db), LockFile(db)
    with Transaction(connection, locks):  # the first step of a deletion
        mark_deleted(connection, RunKey(1, "r1"), "RUNNING", 9.0)
    connection.close()
    locks.close()
    with History(db) as history:
        assert history.run("r1").status == "DELETED"
    with pytest.raises(RunNotFound, match="run 'r1' is deleted; delete it again"):
        opened().claim("r1", [], ("d", "{}"))
    with pytest.raises(RunNotFound, match="run 'r1' is deleted; delete it again"):
        cancel_interrupted(db, "r1", "not wanted")
    delete_runs(db, ["r1"])
    with History(db) as history:
        assert history.runs() == []
        assert [(each.previous, each.status) for each in history.events()] == [("RUNNING", "DELETED")]


# -- the check of all tests ----------------------------------------------------------------------------------------


@pytest.fixture
def eventful(opened: Open, db: str) -> str:
    """A state file with a run in which nearly everything happens."""
    store = opened()
    create(store, tasks=("a", "b", "c", "each"))
    start(store, "a")
    end(store, "a")
    start(store, "b")
    end(store, "b", "FAILED")
    store.batch.change_status("each", -1, 0, "PENDING", "RUNNING", None, 1.0)
    store.batch.add_instances("each", [(0, "x", "dx"), (1, "y", "dy")], None, 1.0)
    start(store, "each", index=0)
    end(store, "each", index=0)
    start(store, "each", index=1)
    store.batch.trigger_hook("b.on_failure", -1, "b", "[]", 3.0)
    start(store, "b.on_failure")
    die(store)
    again = opened()
    _, instances, _ = again.claim(
        "r1", [], ("d", "{}"), rules=ResetRules(choose=lambda *_: Resets({("a", -1): "asked for"}))
    )
    again.batch.remove_instances("each", {1: instances["each"][1]}, "its item is gone", 5.0)
    start(again, "a", 2)
    end(again, "a", attempt=2)
    die(again)
    cancel_interrupted(db, "r1", "not wanted")
    return db


def test_an_event_that_is_left_out_is_found(eventful: str, tmp_path: Path) -> None:
    assert event_fold.differences(eventful) == []
    numbers = [number for (number,) in sql(eventful, "SELECT seq FROM liteflow_events")]
    assert len(numbers) > 25
    for number in numbers:
        copy = tmp_path / f"without_{number}.sqlite"
        shutil.copyfile(eventful, copy)
        sql(str(copy), "DELETE FROM liteflow_events WHERE seq=?", number)
        assert event_fold.differences(copy), f"event {number} is missing, and nobody sees it"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE liteflow_task_instances SET status='PENDING' WHERE task_id='a'",
        "UPDATE liteflow_task_instances SET try_number=9 WHERE task_id='b'",
        "UPDATE liteflow_task_instances SET updated_at=0.5 WHERE task_id='c'",
        "UPDATE liteflow_dag_runs SET status='SUCCESS'",
        "DELETE FROM liteflow_task_instances WHERE task_id='b'",
        "UPDATE liteflow_events SET previous='QUEUED' WHERE task_id='c'",
    ],
)
@pytest.mark.alters_rows("that is the subject")
def test_a_row_that_no_event_explains_is_found(eventful: str, change: str) -> None:
    sql(eventful, change)
    assert event_fold.differences(eventful)
