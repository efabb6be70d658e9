"""What the store promises to whoever writes through it, and what SQLite itself enforces."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from liteflow.errors import OwnerDied, RunNotFound, RunOwned, StaleRun, StoreError
from liteflow.state.admin import request, save_value
from liteflow.state.deletion import delete_runs
from liteflow.state.history import History
from liteflow.state.locks import LockFile
from liteflow.state.records import NewInstance, NewRun, PreviousState
from liteflow.state.schema import SCHEMA_VERSION
from liteflow.state.store import Store
from liteflow.states import Verdict
from liteflow.values.payload import encode
from liteflow.work import ErrorInfo, Outcome

Open = Callable[..., Store]


def leave(store: Store) -> None:
    """What the kernel does when the process dies."""
    store.close()
    store._locks.close()


def new_run(run_id: str = "r1", tasks: tuple[str, ...] = ("a", "b"), **fields: Any) -> NewRun:
    instances = [NewInstance(task_id, list(tasks[:number]), 30.0) for number, task_id in enumerate(tasks)]
    return NewRun(
        run_id=run_id,
        dag_id="flow",
        description="words",
        graph_digest="digest",
        graph_snapshot='{"tasks": []}',
        instances=instances,
        **fields,
    )


def outcome(verdict: Verdict, value: object = None, attempt: int = 1, **fields: Any) -> Outcome:
    payload = None if value is None else encode(value)
    fields = {"pushed": None, "error": None, "exit_code": None, "log_path": None, **fields}
    return Outcome(0, attempt, verdict, payload, started_at=10.0, ended_at=20.0, **fields)


def succeed(store: Store, task_id: str, value: object = None, attempt: int = 1) -> None:
    store.batch.start_attempt(task_id, -1, attempt, "PENDING", None, 1.0)
    store.commit()
    store.batch.finish_attempt(task_id, -1, outcome("SUCCESS", value, attempt))
    store.batch.change_status(task_id, -1, attempt, "RUNNING", "SUCCESS", None, 2.0)
    store.commit()


def rows(db: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


# -- clusters of a dead owner ------------------------------------------------------------------------------


def _die_with_a_far_attempt(opened: Open, *, starts: bool = True) -> None:
    store = opened()
    store.create(new_run(settings={"clusters": {"lab": {"slots": 2, "lease_s": 0.2}}}))
    if starts:
        store.batch.start_attempt("a", -1, 1, "PENDING", None, 1.0)
        store.commit()
    leave(store)


def test_a_run_is_not_taken_over_while_far_attempts_of_its_owner_may_run(opened: Open, db: str) -> None:
    _die_with_a_far_attempt(opened)
    store = opened()
    with pytest.raises(OwnerDied, match="its tasks on clusters still end") as error:
        store.claim("r1", [], ("digest", "{}"))
    assert 0 < error.value.lease_s <= 1.0
    assert rows(db, "SELECT status, epoch FROM liteflow_dag_runs") == [("RUNNING", 1)], "nothing has changed"
    assert opened()._locks.acquire(1), "another process may take it over meanwhile"


def test_it_is_taken_over_once_they_have_ended(opened: Open, db: str) -> None:
    _die_with_a_far_attempt(opened)
    store = opened()
    with pytest.raises(OwnerDied) as error:
        store.claim("r1", [], ("digest", "{}"))
    tasks, _, _ = store.claim("r1", [], ("digest", "{}"), dead_s=error.value.lease_s)
    assert tasks["a"].status == "PENDING"
    assert rows(db, "SELECT task_id, status FROM liteflow_attempts") == [("a", "LOST")]


def test_without_an_open_attempt_nothing_is_waited_for(opened: Open) -> None:
    _die_with_a_far_attempt(opened, starts=False)
    opened().claim("r1", [], ("digest", "{}"))


# -- one turn ----------------------------------------------------------------------------------------------


def test_a_new_run_is_running_and_its_tasks_pending(opened: Open, db: str) -> None:
    opened().create(new_run(params={"day": 3}, logical_date=5.0, source="/x/flow.py"), session=77)
    with History(db) as history:
        run = history.run("r1")
        assert (run.status, run.params, run.logical_date, run.source) == ("RUNNING", {"day": 3}, 5.0, "/x/flow.py")
        assert run.owner_session == 77
        assert [(each.task_id, each.status, each.dependencies, each.timeout) for each in history.instances("r1")] == [
            ("a", "PENDING", [], 30.0),
            ("b", "PENDING", ["a"], 30.0),
        ]
        assert history.dags()[0].description == "words"


def test_nothing_is_seen_before_the_commit(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    assert not store.batch
    store.batch.start_attempt("a", -1, 1, "PENDING", "/logs/a", 1.0)
    assert store.batch
    with History(db) as history:
        assert history.instance("r1", "a").status == "PENDING"  # type: ignore[union-attr]
        assert history.attempts("r1") == []
        store.commit()
        assert not store.batch
        assert history.instance("r1", "a").status == "RUNNING"  # type: ignore[union-attr]
        assert [each.log_path for each in history.attempts("r1")] == ["/logs/a"]


def test_a_queued_attempt_is_running_only_when_it_has_started(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    store.batch.start_attempt("a", -1, 1, "PENDING", "/logs/a", 1.0, "QUEUED")
    store.commit()
    with History(db) as history:
        instance = history.instance("r1", "a")
        assert instance is not None
        assert (instance.status, instance.try_number, instance.started_at) == ("QUEUED", 1, None)
        assert history.attempts("r1") == []
        store.batch.record_start("a", -1, 1, 2.0)
        store.batch.finish_attempt("a", -1, outcome("SUCCESS", None, 1))
        store.batch.change_status("a", -1, 1, "RUNNING", "SUCCESS", None, 3.0)
        store.commit()
        changes = [(event.previous, event.status) for event in history.events("r1") if event.task_id == "a"]
        assert changes == [("PENDING", "QUEUED"), ("QUEUED", "RUNNING"), ("RUNNING", "SUCCESS")]
        assert [attempt.status for attempt in history.attempts("r1")] == ["SUCCESS"]


def test_a_queued_attempt_of_a_dead_run_is_lost_because_it_may_have_started(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    store.batch.start_attempt("a", -1, 1, "PENDING", "/logs/a", 1.0, "QUEUED")
    store.commit()
    leave(store)
    again = opened()
    tasks, _, _ = again.claim("r1", [], ("digest", "{}"))
    assert tasks["a"] == PreviousState("PENDING", 1)
    with History(db) as history:
        assert [(attempt.status, attempt.log_path) for attempt in history.attempts("r1")] == [("LOST", "/logs/a")]
        changes = [(event.previous, event.status) for event in history.events("r1") if event.task_id == "a"]
        assert changes[:2] == [("PENDING", "QUEUED"), ("QUEUED", "LOST")]


@pytest.mark.parametrize("count", [1, 3, 4, 15, 16, 63, 64, 147])
def test_turns_of_any_size_are_written_whole(opened: Open, db: str, count: int) -> None:
    store = opened()
    tasks = tuple(f"t{number:03}" for number in range(count))
    store.create(
        NewRun(
            run_id="r1",
            dag_id="flow",
            graph_digest="digest",
            graph_snapshot="{}",
            instances=[NewInstance(task_id, []) for task_id in tasks],
        )
    )
    for task_id in tasks:
        store.batch.start_attempt(task_id, -1, 1, "PENDING", None, 1.0)
    store.commit()
    for number, task_id in enumerate(tasks):
        store.batch.finish_attempt(task_id, -1, outcome("SUCCESS", number))
        store.batch.change_status(task_id, -1, 1, "RUNNING", "SUCCESS", None, 2.0)
    store.commit()
    with History(db) as history:
        assert [(each.task_id, each.status) for each in history.instances("r1")] == [
            (each, "SUCCESS") for each in tasks
        ]
        assert [(each.task_id, each.attempt) for each in history.attempts("r1")] == [(name, 1) for name in tasks]
        events = [each for each in history.events("r1") if each.task_id is not None]
        assert [(each.task_id, each.status) for each in events] == [
            *((each, "RUNNING") for each in tasks),
            *((each, "SUCCESS") for each in tasks),
        ]
    assert rows(db, "SELECT task_id, value FROM liteflow_xcom ORDER BY 1") == [
        (task_id, str(number)) for number, task_id in enumerate(tasks)
    ]


def test_a_verdict_its_value_and_the_runs_end_are_one_transaction(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run(tasks=("a",)))
    store.batch.start_attempt("a", -1, 1, "PENDING", None, 1.0)
    store.commit()
    store.batch.finish_attempt("a", -1, outcome("SUCCESS", [1], pushed={"k": encode("v")}))
    store.batch.change_status("a", -1, 1, "RUNNING", "SUCCESS", None, 2.0)
    store.batch.end_run("SUCCESS", None, 3.0)
    with History(db) as history:
        assert (history.values("r1"), history.run("r1").status) == ([], "RUNNING")
        store.commit()
        assert [(each.key, each.encoding) for each in history.values("r1")] == [("k", "json"), ("return_value", "json")]
        assert (history.run("r1").status, history.run("r1").ended_at) == ("SUCCESS", 3.0)
    assert rows(db, "SELECT value FROM liteflow_xcom WHERE key='return_value'") == [("[1]",)]  # SQL can read it


def test_an_error_keeps_its_end(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    store.batch.start_attempt("a", -1, 1, "PENDING", None, 1.0)
    store.commit()
    long = "x" * 200_000 + "\nValueError: the end"
    store.batch.finish_attempt("a", -1, outcome("FAILED", error=ErrorInfo("ValueError: the end", long)))
    store.batch.change_status("a", -1, 1, "RUNNING", "FAILED", "ValueError: the end", 2.0)
    store.commit()
    with History(db) as history:
        (attempt,) = history.attempts("r1")
    assert attempt.error is not None
    assert attempt.error.endswith("ValueError: the end")
    assert len(attempt.error) <= 65536


def test_a_refused_commit_is_tried_again(opened: Open, db: str) -> None:
    """A reader that turns writer for a moment must not cost a verdict."""
    store = opened()
    store.create(new_run())
    other = sqlite3.connect(db, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._connection.execute("PRAGMA busy_timeout=1")
    tries: list[str] = []

    def watch(sql: str) -> None:
        if sql == "BEGIN IMMEDIATE":
            tries.append(sql)
            if len(tries) == 2:
                other.execute("ROLLBACK")

    store._connection.set_trace_callback(watch)
    succeed(store, "a")
    other.close()
    assert len(tries) == 3  # refused, tried again, and the second commit
    with History(db) as history:
        assert history.instance("r1", "a").status == "SUCCESS"  # type: ignore[union-attr]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_durability(opened: Open, db: str, durability: str) -> None:
    store = opened(durability=durability)
    store.create(new_run())
    succeed(store, "a")
    (level,) = store._connection.execute("PRAGMA synchronous").fetchone()
    assert level == (2 if durability == "power" else 1)
    store.batch.end_run("FAILED", None, 1.0)
    store.commit()
    (level,) = store._connection.execute("PRAGMA synchronous").fetchone()
    assert level == 2, "a run's verdict is always synced"


# -- ownership ---------------------------------------------------------------------------------------------


def test_a_run_has_one_owner(opened: Open) -> None:
    opened().create(new_run())
    with pytest.raises(RunOwned, match=r"run r1 is owned by process \d+ on \S+, which is still running"):
        opened().claim("r1", [], ("digest", "{}"))


def test_a_refused_claim_changes_nothing(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    before = rows(db, "SELECT * FROM liteflow_dag_runs"), rows(db, "SELECT * FROM liteflow_events")
    with pytest.raises(RunOwned):
        opened().claim("r1", [], ("other", "{}"))
    assert (rows(db, "SELECT * FROM liteflow_dag_runs"), rows(db, "SELECT * FROM liteflow_events")) == before
    succeed(store, "a")


def test_a_dead_owners_run_can_be_claimed_at_once(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run(tasks=("a", "b", "c")), session=77)
    succeed(store, "a", 5)
    store.batch.start_attempt("b", -1, 1, "PENDING", None, 1.0)
    store.commit()
    leave(store)
    with History(db) as history:
        assert history.run("r1").status == "INTERRUPTED"
        assert "its owner died" in str(history.run("r1").reason)
    second = opened()
    tasks_left, _, session = second.claim("r1", new_run(tasks=("a", "b", "c")).instances, ("digest", "{}"))
    assert session == 77, "so that what the dead owner left behind can be swept"
    assert {task_id: tuple(each[:2]) for task_id, each in tasks_left.items()} == {
        "a": ("SUCCESS", 1),
        "b": ("PENDING", 1),
        "c": ("PENDING", 0),
    }
    with History(db) as history:
        assert history.run("r1").status == "RUNNING"
        assert [(each.task_id, each.status, each.error) for each in history.attempts("r1")] == [
            ("a", "SUCCESS", None),
            ("b", "LOST", "its owner died"),
        ]


def test_a_claim_brings_new_tasks_and_edges(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    leave(store)
    instances = [NewInstance("a", ["z"], 5.0), NewInstance("z", [])]
    opened().claim("r1", instances, ("digest2", '{"tasks": [{"id": "a"}]}'))
    with History(db) as history:
        assert history.instance("r1", "a").dependencies == ["z"]  # type: ignore[union-attr]
        assert history.instance("r1", "z").status == "PENDING"  # type: ignore[union-attr]
        assert history.graph(history.run("r1").graph_digest) == {"tasks": [{"id": "a"}]}


@pytest.mark.alters_rows("settings that cannot be read")
@pytest.mark.parametrize("damaged", [False, True])
def test_a_claim_stores_its_settings(opened: Open, db: str, damaged: bool) -> None:
    store = opened()
    store.create(new_run(settings={"mode": "process", "max_workers": 4, "log_dir": "/logs"}))
    leave(store)
    if damaged:
        with contextlib.closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("UPDATE liteflow_dag_runs SET settings='{'")
    opened().claim("r1", [], ("digest", "{}"), settings={"mode": "thread", "max_workers": 2})
    with History(db) as history:
        stored = history.run("r1").settings
    assert stored == {"mode": "thread", "max_workers": 2, **({} if damaged else {"log_dir": "/logs"})}


def test_a_claim_of_an_unchanged_definition_does_not_walk_it(opened: Open, db: str) -> None:
    """A run of 100,000 tasks of which a few are left must not cost what all of them do."""
    store = opened()
    store.create(new_run())
    succeed(store, "a")
    leave(store)

    def walked() -> Iterator[NewInstance]:
        pytest.fail("the definition is the same")
        yield

    tasks_left, _, _ = opened().claim("r1", walked(), ("digest", '{"tasks": []}'))
    assert tasks_left == {"a": PreviousState("SUCCESS", 1), "b": PreviousState("PENDING", 0)}


def test_a_claim_keeps_what_is_known_of_a_task_whose_definition_changed(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    succeed(store, "a")
    leave(store)
    opened().claim("r1", iter([NewInstance("a", ["b"], 7.0), NewInstance("b", [])]), ("digest2", "{}"))
    with History(db) as history:
        result = [(each.status, each.try_number, each.dependencies, each.timeout) for each in history.instances("r1")]
    assert result == [("SUCCESS", 1, ["b"], 7.0), ("PENDING", 0, [], None)]


def test_an_owner_that_was_replaced_cannot_write(opened: Open, db: str) -> None:
    """The epoch fences even where the lock was lost (for example, by a copied file system)."""
    store = opened()
    store.create(new_run())
    store.batch.start_attempt("a", -1, 1, "PENDING", None, 1.0)
    store.commit()
    store._locks.close()  # loses its locks, but lives on
    successor = opened()
    successor.claim("r1", [], ("digest", "{}"))
    store.batch.finish_attempt("a", -1, outcome("SUCCESS", "late"))
    store.batch.change_status("a", -1, 1, "RUNNING", "SUCCESS", None, 2.0)
    store._locks = LockFile(db)
    with pytest.raises(StaleRun, match="taken over by another process"):
        store.commit()
    with History(db) as history:
        assert history.values("r1") == []
        assert [each.status for each in history.attempts("r1")] == ["LOST"]
    succeed(successor, "a", attempt=2)


def test_a_deleted_runs_owner_cannot_write(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    with pytest.raises(RunOwned):
        delete_runs(db, ["r1"])
    connection = sqlite3.connect(db)
    connection.execute("DELETE FROM liteflow_dag_runs")
    connection.commit()
    connection.close()
    store.batch.start_attempt("a", -1, 1, "PENDING", None, 1.0)
    with pytest.raises(StaleRun):
        store.commit()


def test_run_ids_are_unique(opened: Open) -> None:
    opened().create(new_run())
    with pytest.raises(StoreError, match="there is a run 'r1' already"):
        opened().create(new_run())


def test_unknown_runs(opened: Open, db: str) -> None:
    store = opened()
    with pytest.raises(RunNotFound, match="no run 'nope'"):
        store.claim("nope", [], ("d", "{}"))
    with pytest.raises(RunNotFound, match="no run 'nope'"):
        delete_runs(db, ["nope"])


def test_run_numbers_are_never_used_again(opened: Open, db: str) -> None:
    """The number is the lock's byte: a reused one could lock out a stranger."""
    store = opened()
    store.create(new_run("r1"))
    leave(store)
    delete_runs(db, ["r1"])
    opened().create(new_run("r2"))
    with History(db) as history:
        assert history.run("r2").run_no == 2


# -- what SQLite enforces by itself ------------------------------------------------------------------------


@pytest.fixture
def raw(opened: Open, db: str) -> Iterator[sqlite3.Connection]:
    """A connection of somebody who knows nothing of us, to a file with a run in it."""
    store = opened()
    store.create(new_run())
    succeed(store, "a")
    connection = sqlite3.connect(db, isolation_level=None)
    yield connection
    connection.close()


ATTEMPT = "INSERT INTO liteflow_attempts (run_id, task_id, attempt, status, epoch, started_at, ended_at) VALUES "


def test_a_task_succeeds_once(raw: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        raw.execute(f"{ATTEMPT} ('r1', 'a', 2, 'SUCCESS', 1, 1.0, 2.0)")
    raw.execute(f"{ATTEMPT} ('r1', 'a', 2, 'FAILED', 1, 1.0, 2.0)")
    with pytest.raises(sqlite3.IntegrityError, match="has ended cannot change"):
        raw.execute("UPDATE liteflow_attempts SET status='SUCCESS' WHERE attempt=2")


@pytest.mark.parametrize("change", ["status='FAILED'", "status='RUNNING'", "error='x'", "ended_at=99.0"])
def test_an_attempt_that_has_ended_cannot_change(raw: sqlite3.Connection, change: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="has ended cannot change"):
        raw.execute(f"UPDATE liteflow_attempts SET {change}")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE liteflow_dag_runs SET created_at='yesterday'",
        "UPDATE liteflow_task_instances SET try_number='many'",
        "UPDATE liteflow_task_instances SET status=NULL",
        "UPDATE liteflow_dag_runs SET graph_digest=NULL",
        "INSERT INTO liteflow_events (run_id, status, at) VALUES ('r1', 'X', 'now')",
    ],
)
def test_tables_are_strict(raw: sqlite3.Connection, sql: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(sql)


def test_an_attempts_number_is_used_once(raw: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(f"{ATTEMPT} ('r1', 'a', 1, 'FAILED', 1, 1.0, 2.0)")


def test_the_seeds_tables_have_the_seeds_columns(raw: sqlite3.Connection) -> None:
    for table, columns in {
        "liteflow_dags": "dag_id, description",
        "liteflow_dag_runs": "run_id, dag_id, status, created_at",
        "liteflow_task_instances": "run_id, task_id, status, dependencies, timeout, try_number, error_log, updated_at",
        "liteflow_xcom": "run_id, task_id, key, value",
    }.items():
        raw.execute(f"SELECT {columns} FROM {table}").fetchall()
    (dependencies,) = raw.execute("SELECT dependencies FROM liteflow_task_instances WHERE task_id='b'").fetchone()
    assert json.loads(dependencies) == ["a"]


def test_the_file_names_its_owner(raw: sqlite3.Connection) -> None:
    assert raw.execute("PRAGMA application_id").fetchone() == (0x4C466C77,)
    assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# -- requests and values of others -------------------------------------------------------------------------


def test_requests_reach_their_owner_only(opened: Open, db: str) -> None:
    each, two = opened(), opened()
    each.create(new_run("r1"))
    two.create(new_run("r2"))
    assert each.requests() == []
    request(db, "r1", "cancel", "enough")
    assert [(each.action, each.detail) for each in each.requests()] == [("cancel", "enough")]
    assert two.requests() == []


def test_a_request_of_an_ended_run_is_closed(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    request(db, "r1", "cancel")
    store.batch.end_run("CANCELLED", "enough", 1.0)
    store.commit()
    assert rows(db, "SELECT count(*) FROM liteflow_requests WHERE handled_at IS NULL") == [(0,)]


def test_values_by_hand_replace_each_other(opened: Open, db: str) -> None:
    store = opened()
    store.create(new_run())
    for value in (1, 2):
        save_value(db, "r1", "a", "k", encode(value))
    assert store.value("a", key="k") == encode(2)
    assert store.value("a", key="other") is None


def test_a_rest_writes_what_a_sync_needs(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite syncs the log only with a commit that writes, and writes no page that stays as it was."""
    locks = LockFile(db)
    store = Store(db, locks)
    try:
        store.create(
            NewRun(
                run_id="r1", dag_id="flow", graph_digest="digest", graph_snapshot="{}", instances=[NewInstance("a", [])]
            )
        )
        with monkeypatch.context() as patch:
            patch.setattr("liteflow.state.store._SYNC_EVERY_S", 1e9)
            store.batch.start_attempt("a", -1, 1, "PENDING", None, 1.0)
            store.commit()
        before = os.path.getsize(f"{db}-wal")
        monkeypatch.setattr("liteflow.state.store._SYNC_EVERY_S", 0.0)
        store.sync_if_idle()
        after = os.path.getsize(f"{db}-wal")
        assert after > before
        store.sync_if_idle()
        assert os.path.getsize(f"{db}-wal") == after, "once is enough"
        with History(db) as history:
            assert history.run("r1").status == "RUNNING"
        store.batch.end_run("SUCCESS", None, 2.0)
        store.commit()
    finally:
        store.close()
        locks.close()
