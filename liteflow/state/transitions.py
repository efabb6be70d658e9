"""Changes of status, of runs and of task instances: the only module that writes a status, and each with its event.

An event is written in the transaction of the change that it describes, and its `previous` is the status of the event
before it. Replaying the events of a run gives the statuses in its rows. `Transitions` buffers what happens
in one turn of the loop; the functions write at once, within the caller's transaction, when a process creates a run,
takes it over, or cancels one that has no owner.

An instance is PENDING, and a run has no status, before its first event. Two words occur in events alone: REMOVED, when
an instance or its item no longer exists, and DELETED, when a whole run does not.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii as _quoted
from typing import Final, NamedTuple

from liteflow.planning.selection import NOT_SELECTED
from liteflow.state.bulk_insert import BulkInsert
from liteflow.state.process_identity import user_name
from liteflow.state.records import CopiedResults, InstanceKey, NewInstance, RunEnd
from liteflow.states import RUN_ENDED

_EVENT: Final = "run_id, task_id, map_index, attempt, previous, status, reason, at"
_START_EVENT: Final = "run_id, task_id, map_index, attempt, previous, status, at"
_INSTANCE: Final = (
    "run_id, task_id, map_index, status, try_number, error_log, reason, started_at, ended_at, log_path, updated_at"
)
_WAITING_INSTANCE: Final = (
    "run_id, task_id, map_index, status, try_number, reason, started_at, log_path, updated_at, handle, wake_at"
)
_STARTED_INSTANCE: Final = "run_id, task_id, map_index, status, try_number, started_at, log_path, updated_at"
#: A column that the inserted row does not name gets its default: NULL, and 0 for `tolerated` and `settled`.
_ON_CHANGE: Final = (
    "ON CONFLICT DO UPDATE SET status=excluded.status, try_number=excluded.try_number, error_log=excluded.error_log, "
    "reason=excluded.reason, started_at=excluded.started_at, ended_at=excluded.ended_at, log_path=excluded.log_path, "
    "updated_at=excluded.updated_at, tolerated=excluded.tolerated, settled=excluded.settled, handle=excluded.handle, "
    "wake_at=excluded.wake_at, host=excluded.host"
)

#: A node of the graph: a task, or what stands for a group. All others are hooks.
OF_GRAPH: Final = "kind IN ('task', 'group', 'entry')"
IS_HOOK: Final = "kind IN ('hook', 'precondition')"
#: An instance that has started and has not ended.
_OPEN: Final = "instance.status IN ('RUNNING', 'QUEUED', 'UP_FOR_RETRY')"
#: An instance that keeps its status when its run is resumed or retried: a success, a task that skipped itself, and
#: what is settled.
_KEEPS: Final = (
    "(instance.status='SUCCESS' OR instance.settled OR (instance.status='SKIPPED' AND EXISTS (SELECT 1 FROM "
    "liteflow_attempts AS last WHERE (last.run_id, last.task_id, last.map_index, last.attempt)=(instance.run_id, "
    "instance.task_id, instance.map_index, instance.try_number) AND last.status='SKIPPED')))"
)
#: An instance that a resume or a retry sets back to PENDING. A hook that has ended stays as it is, and so does an
#: instance that waits: its attempt has not ended.
RESETS: Final = f"(instance.status NOT IN ('PENDING', 'WAITING') AND NOT {_KEEPS} AND (instance.{OF_GRAPH} OR {_OPEN}))"
#: An instance with an attempt that has no verdict: a QUEUED one may have started, as its executor starts it as soon as
#: a slot is free. A mapped task as a whole is RUNNING too, but has no attempts.
_HAS_ATTEMPT: Final = "status IN ('RUNNING', 'QUEUED') AND try_number > 0"
#: An instance whose attempt waits; one without a handle waits for its next iteration, and has no attempt.
_WAITS: Final = "status='WAITING' AND handle IS NOT NULL"
#: The status of an instance once its attempt was recorded as LOST.
_AFTER_LOST: Final = f"CASE WHEN {_HAS_ATTEMPT} THEN 'LOST' ELSE status END"
_OF_INSTANCE: Final = "WHERE run_id=? AND task_id=? AND map_index=?"
#: The updates that follow the rows of a turn, in their order.
_TOLERATE: Final = f"UPDATE liteflow_task_instances SET tolerated=1 {_OF_INSTANCE}"
_NEXT_ROUND: Final = f"UPDATE liteflow_task_instances SET round=round+1 {_OF_INSTANCE}"
_TOUCH: Final = f"UPDATE liteflow_task_instances SET updated_at=max(updated_at, ?) {_OF_INSTANCE}"
_REMOVE: Final = f"DELETE FROM liteflow_task_instances {_OF_INSTANCE}"
_REMOVE_VALUES: Final = f"DELETE FROM liteflow_xcom {_OF_INSTANCE}"
_SET_HOST: Final = f"UPDATE liteflow_task_instances SET host=?, updated_at=max(updated_at, ?) {_OF_INSTANCE}"
_SET_PLACES: Final = "UPDATE liteflow_dag_runs SET places=? WHERE run_no=?"
_UPDATES: Final = (_TOLERATE, _NEXT_ROUND, _TOUCH, _REMOVE, _REMOVE_VALUES, _SET_HOST, _SET_PLACES)

#: Ends the attempts of instances that wait. Parameters: the epoch and the time, then those of the condition.
_END_WAIT: Final = (
    "INSERT INTO liteflow_attempts (run_id, task_id, map_index, attempt, status, epoch, started_at, ended_at, error, "
    "log_path, round) SELECT run_id, task_id, map_index, try_number, 'CANCELLED', ?, coalesce(started_at, updated_at), "
    "?, 'cancelled while it waited', log_path, round FROM liteflow_task_instances AS instance"
)
#: Whether an instance is not selected in a partial run. (A skipped task that a rerun lets count as a success, because
#: its failure is ignored, is tolerated too, and not settled for good.)
UNSELECTED: Final = "(instance.status='SKIPPED' AND instance.tolerated AND instance.settled=1)"
#: `settled` of an instance that has ended and stays as it is while other tasks run again.
_SETTLED_FOR_RERUN: Final = 2


class RunKey(NamedTuple):
    """A run, as its rows name it."""

    run_no: int
    run_id: str


# -- what the loop buffers -------------------------------------------------------------------------------------------


class Transitions:
    """The changes of status in one run since the last commit."""

    def __init__(self, run: RunKey) -> None:
        self._run = run
        self._hooks = BulkInsert(
            "INSERT INTO liteflow_task_instances",
            "run_id, task_id, map_index, status, kind, dependencies, hook_events, updated_at",
            "ON CONFLICT DO UPDATE SET kind=excluded.kind, dependencies=excluded.dependencies, "
            "hook_events=excluded.hook_events, updated_at=excluded.updated_at",
        )
        self._mapped = BulkInsert(
            "INSERT INTO liteflow_task_instances",
            "run_id, task_id, map_index, map_key, item, position, status, timeout, updated_at",
            "ON CONFLICT DO UPDATE SET map_key=excluded.map_key, item=excluded.item, position=excluded.position, "
            "timeout=excluded.timeout",
        )
        self._waits = BulkInsert("INSERT INTO liteflow_task_instances", _WAITING_INSTANCE, _ON_CHANGE)
        self._instances = BulkInsert("INSERT INTO liteflow_task_instances", _INSTANCE, _ON_CHANGE)
        self._events = BulkInsert("INSERT INTO liteflow_events", _EVENT)
        # Most rows are starts. They leave out the columns that are NULL then: `sqlite3` takes long to bind a None.
        self._starts = BulkInsert("INSERT INTO liteflow_task_instances", _STARTED_INSTANCE, _ON_CHANGE)
        self._start_events = BulkInsert("INSERT INTO liteflow_events", _START_EVENT)
        self._abandoned: list[tuple[int, float, str, str, int]] = []  # epoch, time, and the instance
        self._updates: dict[str, list[tuple[str | float, ...]]] = {statement: [] for statement in _UPDATES}
        self.run_status = "RUNNING"  # until it ends
        self.run_end: RunEnd | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        changed = self._events.values or self._start_events.values or self._hooks.values or self._waits.values
        return bool(changed) or self.run_end is not None or bool(self._updates[_SET_PLACES])

    def start(self, task_id: str, map_index: int, event: InstanceEvent, log_path: str | None) -> None:
        """Record that an attempt is about to start, as RUNNING, or is QUEUED for a slot of its executor.

        It is the last change of an instance in a turn: the attempt starts once the turn is committed.
        """
        run_id = self._run.run_id
        attempt, previous, status, _, now = event
        started_at = now if status == "RUNNING" else None
        self._starts.values += (run_id, task_id, map_index, status, attempt, started_at, log_path, now)
        self._start_events.values += (run_id, task_id, map_index, attempt, previous, status, now)

    def note_start(self, task_id: str, map_index: int, attempt: int, started_at: float) -> None:
        """Record that a QUEUED attempt was RUNNING: a `change`, with the end of the attempt, writes its row."""
        self._events.values += (self._run.run_id, task_id, map_index, attempt, "QUEUED", "RUNNING", None, started_at)

    def change(
        self,
        task_id: str,
        map_index: int,
        event: InstanceEvent,
        error: str | None = None,
        started_at: float | None = None,
        log_path: str | None = None,
    ) -> None:
        """Record another change of status; `error`, `started_at` and `log_path` are those of the attempt it ends."""
        run_id = self._run.run_id
        attempt, previous, status, reason, now = event
        self._instances.values += (
            run_id, task_id, map_index, status, attempt, error, reason, started_at, now, log_path, now,
        )  # fmt: skip
        self._events.values += (run_id, task_id, map_index, attempt, previous, status, reason, now)

    def wait(self, task_id: str, map_index: int, event: InstanceEvent, wait: WaitRow) -> None:
        """Record what an instance waits for. An instance that was WAITING for the same reason gets no event."""
        run_id = self._run.run_id
        attempt, previous, status, reason, now = event
        handle, wake_at, started_at, log_path, is_event = wait
        self._waits.values += (
            run_id, task_id, map_index, status, attempt, reason, started_at, log_path, now, handle, wake_at,
        )  # fmt: skip
        if is_event:
            self._events.values += (run_id, task_id, map_index, attempt, previous, status, reason, now)

    def abandon_wait(self, task_id: str, map_index: int, epoch: int, now: float) -> None:
        """Record the attempt of an instance that waits as CANCELLED; its next status follows."""
        self._abandoned.append((epoch, now, self._run.run_id, task_id, map_index))

    def note(self, task_id: str, map_index: int, event: InstanceEvent) -> None:
        """Record an event that leaves the status of an instance as it is."""
        run_id = self._run.run_id
        self._events.values += (run_id, task_id, map_index, *event)
        self._updates[_TOUCH].append((event.at, run_id, task_id, map_index))

    def note_host(self, task_id: str, map_index: int, attempt: int, host: str, now: float) -> None:
        """Record the machine of an attempt that is RUNNING. The event is for those who follow the instance."""
        run_id = self._run.run_id
        self._events.values += (run_id, task_id, map_index, attempt, "RUNNING", "RUNNING", None, now)
        self._updates[_SET_HOST].append((host, now, run_id, task_id, map_index))

    def note_places(self, places: str) -> None:
        """Record what is known of the machines of the clusters (JSON, see `running.machines`)."""
        self._updates[_SET_PLACES].append((places, self._run.run_no))

    def tolerate(self, task_id: str, map_index: int) -> None:
        """Record that an instance, which FAILED, counts as a success."""
        self._updates[_TOLERATE].append((self._run.run_id, task_id, map_index))

    def reset(self, task_id: str, map_index: int, event: InstanceEvent) -> None:
        """Record that an instance has yet to run: it has no times, no error and no log."""
        run_id = self._run.run_id
        attempt, previous, status, reason, now = event
        self._instances.values += (
            run_id, task_id, map_index, status, attempt, None, None, None, None, None, now,
        )  # fmt: skip
        self._events.values += (run_id, task_id, map_index, attempt, previous, status, reason, now)

    def add_instances(
        self, task_id: str, instances: Iterable[tuple[int, str | None, str]], timeout_s: float | None, now: float
    ) -> None:
        """Add the instances of a mapped task (index, label, digest of the item), in the order of its list.

        An instance of the previous part of the run keeps its status.
        """
        run_id = self._run.run_id
        for position, (index, label, item) in enumerate(instances):
            self._mapped.values += (run_id, task_id, index, label, item, position, "PENDING", timeout_s, now)

    def remove(self, task_id: str, map_index: int, event: InstanceEvent) -> None:
        """Record that an instance of a mapped task no longer exists: its attempts and events stay, its row does not."""
        attempt, previous, _, reason, now = event
        self._events.values += (self._run.run_id, task_id, map_index, attempt, previous, "REMOVED", reason, now)
        for statement in (_REMOVE, _REMOVE_VALUES):
            self._updates[statement].append((self._run.run_id, task_id, map_index))

    def trigger_hook(self, task_id: str, map_index: int, kind: str, owner: str, events: str, now: float) -> None:
        """Store what a hook is triggered by (JSON); its row is made, PENDING, when it has none. `owner`: its task."""
        dependencies = json.dumps([owner] if owner else [])
        self._hooks.values += (self._run.run_id, task_id, map_index, "PENDING", kind, dependencies, events, now)

    def retrigger_hook(self, task_id: str, map_index: int, attempt: int, previous: str, now: float) -> None:
        """Record that a hook which has ended was triggered once more."""
        self.reset(task_id, map_index, InstanceEvent(attempt, previous, "PENDING", "triggered again", now))
        if previous == "SUCCESS":
            self._updates[_NEXT_ROUND].append((self._run.run_id, task_id, map_index))

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all of it but the end of the run, within the caller's transaction. It can be repeated."""
        if self._abandoned:
            which = "run_id=? AND task_id=? AND map_index=?"
            connection.executemany(f"{_END_WAIT} WHERE {_WAITS} AND {which}", self._abandoned)
        for rows in self._rows():
            if rows.values:
                rows.write(connection)
        for statement, parameters in self._updates.items():
            if parameters:
                connection.executemany(statement, parameters)

    def _rows(self) -> tuple[BulkInsert, ...]:
        """Return the rows in the order in which they are written."""
        return self._hooks, self._mapped, self._waits, self._instances, self._events, self._starts, self._start_events

    def write_run_end(self, connection: sqlite3.Connection, run_end: RunEnd) -> None:
        """Write the end of the run."""
        change_run(connection, self._run, self.run_status, run_end.status, run_end.at, reason=run_end.reason)
        if run_end.timed_out:
            connection.execute("UPDATE liteflow_dag_runs SET timed_out=1 WHERE run_no=?", (self._run.run_no,))
        if run_end.outputs is not None:
            values = (run_end.outputs, self._run.run_no)
            connection.execute("UPDATE liteflow_dag_runs SET outputs=? WHERE run_no=?", values)

    def clear(self) -> None:
        """Forget what was committed."""
        for rows in self._rows():
            rows.values.clear()
        for parameters in self._updates.values():
            parameters.clear()
        self._abandoned.clear()
        self.run_end = None


class InstanceEvent(NamedTuple):
    """A change of status of a task instance, and the number of its latest attempt."""

    attempt: int
    previous: str
    status: str
    reason: str | None
    at: float


class WaitRow(NamedTuple):
    """The facts about a wait that are stored besides the status."""

    handle: str | None  # JSON; None: it waits for its next iteration
    wake_at: float | None  # when it is polled next, or its next iteration starts; None: it waits for a decision
    started_at: float | None  # of its attempt, as the next
    log_path: str | None
    is_event: bool = True  # whether its status or the reason has changed


# -- runs -------------------------------------------------------------------------------------------------------------


def insert_run(connection: sqlite3.Connection, row: Mapping[str, object]) -> int:
    """Insert the row of a new run, whose first `change_run` follows in the same transaction. Returns its number.

    Raises:
        sqlite3.IntegrityError: there is a run with its id.
    """
    columns, values = ", ".join(row), ",".join("?" * len(row))
    cursor = connection.execute(
        f"INSERT INTO liteflow_dag_runs ({columns}, status, epoch, start_no) VALUES ({values}, 'PENDING', 1, "
        "(SELECT coalesce(max(seq), 0) + 1 FROM liteflow_events))",
        list(row.values()),
    )
    return int(cursor.lastrowid or 0)


def change_run(
    connection: sqlite3.Connection,
    run: RunKey,
    previous: str | None,
    status: str,
    now: float,
    *,
    reason: str | None = None,
    note: str | None = None,
) -> None:
    """Change the status of a run; `note` is the reason in the event where the row has none."""
    started = "started_at=coalesce(started_at, :now), " if status == "RUNNING" else ""
    ended_at = now if status in RUN_ENDED else None
    connection.execute(
        f"UPDATE liteflow_dag_runs SET {started}status=:status, reason=:reason, ended_at=:ended_at "
        "WHERE run_no=:run_no",
        {"status": status, "reason": reason, "ended_at": ended_at, "now": now, "run_no": run.run_no},
    )
    connection.execute(
        "INSERT INTO liteflow_events (run_id, previous, status, reason, at) VALUES (?,?,?,?,?)",
        (run.run_id, previous, status, reason or note, now),
    )


def mark_deleted(connection: sqlite3.Connection, run: RunKey, status: str, now: float) -> None:
    """Record that a run is deleted.

    The event is the one that stays: so `seq` never goes back, and a program that follows the events learns of it.
    """
    if status != "DELETED":
        change_run(connection, run, status, "DELETED", now, note=f"deleted by {user_name()}")


# -- task instances --------------------------------------------------------------------------------------------------


def add_tasks(connection: sqlite3.Connection, run_id: str, instances: Iterable[NewInstance], now: float) -> None:
    """Add the tasks that a run does not have, as PENDING, and update the definition of those that it has."""
    connection.executemany(
        "INSERT INTO liteflow_task_instances (run_id, task_id, status, dependencies, timeout, kind, updated_at) "
        "VALUES (?,?,'PENDING',?,nullif(?,''),?,?) ON CONFLICT (run_id, task_id, map_index) DO UPDATE SET "
        "dependencies=excluded.dependencies, timeout=excluded.timeout, kind=excluded.kind",
        (
            (
                run_id,
                task_id,
                f"[{', '.join(map(_quoted, upstream))}]",
                "" if timeout_s is None else timeout_s,
                kind,
                now,
            )
            for task_id, upstream, timeout_s, kind in instances
        ),
    )


def record_checkpoint(
    connection: sqlite3.Connection, run_id: str, epoch: int, durations: Mapping[str, float], now: float
) -> None:
    """Record tasks, with the seconds they took, as succeeded before this state file had the run."""
    execute_many, reason = connection.executemany, "from a checkpoint"
    execute_many(
        "INSERT INTO liteflow_attempts (run_id, task_id, attempt, status, epoch, started_at, ended_at) "
        "VALUES (?,?,1,'SUCCESS',?,?,?)",
        ((run_id, task_id, epoch, now - seconds, now) for task_id, seconds in durations.items()),
    )
    execute_many(
        "UPDATE liteflow_task_instances SET status='SUCCESS', try_number=1, reason=?, "
        "started_at=?, ended_at=?, updated_at=? WHERE run_id=? AND task_id=?",
        ((reason, now - seconds, now, now, run_id, task_id) for task_id, seconds in durations.items()),
    )
    execute_many(
        f"INSERT INTO liteflow_events ({_EVENT}) VALUES (?,?,-1,1,'PENDING','SUCCESS',?,?)",
        ((run_id, task_id, reason, now) for task_id in durations),
    )


def record_unselected(connection: sqlite3.Connection, run_id: str, task_ids: Iterable[str], now: float) -> None:
    """Record tasks of a partial run as SKIPPED, which count as a success for the tasks that depend on them."""
    rows = [(NOT_SELECTED, now, now, run_id, task_id) for task_id in task_ids]
    connection.executemany(
        "UPDATE liteflow_task_instances SET status='SKIPPED', settled=1, tolerated=1, reason=?, ended_at=?, "
        "updated_at=? WHERE run_id=? AND task_id=? AND map_index < 0",
        rows,
    )
    connection.executemany(
        f"INSERT INTO liteflow_events ({_EVENT}) VALUES (?,?,-1,0,'PENDING','SKIPPED',?,?)",
        ((run_id, task_id, NOT_SELECTED, now) for _, _, _, _, task_id in rows),
    )


def copy_results(connection: sqlite3.Connection, run_id: str, copied: CopiedResults, now: float) -> None:
    """Copy instances of another run with their values to a run that has their tasks.

    The values of tasks that are not selected are copied for others to read: the tasks stay SKIPPED.
    """
    reason = f"{NOT_SELECTED}, values from run {copied.run_id}" if copied.values_only else f"from run {copied.run_id}"
    for task_id, map_index in copied.instances:
        key = (copied.run_id, task_id, map_index)
        (map_key, item, position, status, tolerated, timeout, started_at, ended_at) = connection.execute(
            "SELECT map_key, item, position, status, tolerated, timeout, started_at, ended_at "
            f"FROM liteflow_task_instances {_OF_INSTANCE}",
            key,
        ).fetchone()
        if copied.values_only:
            status, tolerated, started_at, ended_at = "SKIPPED", 1, None, now
        if map_index >= 0 or not copied.values_only:
            row = (run_id, task_id, map_index, map_key, item, position, status, tolerated, timeout)
            connection.execute(
                "INSERT INTO liteflow_task_instances (run_id, task_id, map_index, map_key, item, position, status, "
                "tolerated, timeout, settled, reason, started_at, ended_at, updated_at) "
                "VALUES (?,?,?,?,?,?,?,?,?,1,?,?,?,?) ON CONFLICT DO UPDATE SET status=excluded.status, "
                "tolerated=excluded.tolerated, settled=1, reason=excluded.reason, started_at=excluded.started_at, "
                "ended_at=excluded.ended_at, updated_at=excluded.updated_at",
                (*row, reason, started_at, ended_at, now),
            )
            connection.execute(
                f"INSERT INTO liteflow_events ({_EVENT}) VALUES (?,?,?,0,'PENDING',?,?,?)",
                (run_id, task_id, map_index, status, reason, now),
            )
        connection.execute(
            "INSERT INTO liteflow_xcom SELECT ?, task_id, map_index, key, encoding, value, size, file, sha256, ? "
            f"FROM liteflow_xcom {_OF_INSTANCE}",
            (run_id, now, *key),
        )
    connection.executemany(
        "UPDATE liteflow_xcom SET file=? WHERE run_id=? AND file=?",
        ((copy, run_id, file) for file, copy in copied.files.items()),
    )


def has_open_attempt(connection: sqlite3.Connection, run_id: str) -> bool:
    """Return whether an attempt of a run has no verdict."""
    sql = f"SELECT 1 FROM liteflow_task_instances WHERE run_id=? AND {_HAS_ATTEMPT} LIMIT 1"
    return connection.execute(sql, (run_id,)).fetchone() is not None


def record_lost(connection: sqlite3.Connection, run_id: str, epoch: int, now: float) -> None:
    """Record the attempts of a dead owner as LOST. `reset` or `cancel` has to follow in the same transaction."""
    of_run = f"FROM liteflow_task_instances WHERE run_id=? AND {_HAS_ATTEMPT}"
    connection.execute(
        f"INSERT INTO liteflow_events ({_EVENT}) "
        f"SELECT run_id, task_id, map_index, try_number, status, 'LOST', 'its owner died', ? {of_run}",
        (now, run_id),
    )
    connection.execute(
        "INSERT INTO liteflow_attempts (run_id, task_id, map_index, attempt, status, epoch, started_at, ended_at, "
        "error, log_path, round, host) SELECT run_id, task_id, map_index, try_number, 'LOST', ?, "
        f"coalesce(started_at, updated_at), ?, "
        f"'its owner died', log_path, round, host {of_run}",
        (epoch, now, run_id),
    )


def reset(connection: sqlite3.Connection, run_id: str, reason: str, now: float) -> None:
    """Set all that is to run again (`RESETS`) back to PENDING, after `record_lost`."""
    _change_status_where(connection, "PENDING", f"run_id=? AND {RESETS}", (run_id,), reason, now)


def reset_instances(
    connection: sqlite3.Connection, run_id: str, reasons: Mapping[InstanceKey, str], now: float
) -> None:
    """Set instances that have ended back to PENDING, each for its reason and in a new round; delete their values."""
    for (task_id, map_index), reason in reasons.items():
        parameters = (run_id, task_id, map_index)
        of_instance = "run_id=? AND task_id=? AND map_index=? AND instance.status<>'PENDING'"
        _change_status_where(connection, "PENDING", of_instance, parameters, reason, now, round_rises="1")
        connection.execute("DELETE FROM liteflow_xcom WHERE run_id=? AND task_id=? AND map_index=?", parameters)


def forget_hook_events(connection: sqlite3.Connection, run_id: str, hooks: Iterable[InstanceKey]) -> None:
    """Forget what hooks that have ended have handled, so that the same end of the run triggers them again."""
    connection.executemany(
        "UPDATE liteflow_task_instances SET hook_events='[]' WHERE run_id=? AND task_id=? AND map_index=?",
        [(run_id, *key) for key in hooks],
    )


def reset_open(connection: sqlite3.Connection, run_id: str, reason: str, now: float) -> None:
    """Set what a dead owner has left open back to PENDING, after `record_lost`, and nothing that has ended."""
    _change_status_where(connection, "PENDING", f"run_id=? AND {_OPEN}", (run_id,), reason, now)


def mark(
    connection: sqlite3.Connection, run_id: str, instances: Iterable[InstanceKey], status: str, reason: str, now: float
) -> None:
    """Give instances a status by hand, without an attempt. A resume runs a failure again, and leaves all else."""
    settled = int(status != "FAILED")
    for task_id, map_index in instances:
        of_instance, parameters = "run_id=? AND task_id=? AND map_index=?", (run_id, task_id, map_index)
        _change_status_where(connection, status, of_instance, parameters, reason, now)
        connection.execute(
            f"UPDATE liteflow_task_instances SET settled=?, error_log=NULL, started_at=NULL WHERE {of_instance}",
            (settled, *parameters),
        )


def settle(connection: sqlite3.Connection, run_id: str, *, but_cancelled: bool) -> None:
    """Let what has ended and would run again keep its state until the run has ended: only chosen tasks run again.

    `but_cancelled`: not what an interruption has cancelled.
    """
    ended = "'FAILED', 'SKIPPED', 'UPSTREAM_FAILED'" + ("" if but_cancelled else ", 'CANCELLED'")
    connection.execute(
        f"UPDATE liteflow_task_instances AS instance SET settled={_SETTLED_FOR_RERUN} "
        f"WHERE run_id=? AND kind IN ('task', 'entry') AND status IN ({ended}) AND NOT {_KEEPS}",
        (run_id,),
    )


def unsettle(connection: sqlite3.Connection, run_id: str) -> None:
    """End what `settle` did: the run has ended, and the next resume runs all that did not succeed."""
    connection.execute(
        f"UPDATE liteflow_task_instances SET settled=0 WHERE run_id=? AND settled={_SETTLED_FOR_RERUN}", (run_id,)
    )


def grant(connection: sqlite3.Connection, run_id: str, instances: Iterable[InstanceKey]) -> None:
    """Let instances that have ended without success count as a success for the tasks that depend on them."""
    connection.executemany(
        "UPDATE liteflow_task_instances SET tolerated=1 WHERE run_id=? AND task_id=? AND map_index=?",
        ((run_id, *key) for key in instances),
    )


def cancel(connection: sqlite3.Connection, run_id: str, reason: str, now: float) -> None:
    """Cancel the tasks of a run that has no owner, after `record_lost`. Tasks that have ended do not change.

    A hook that was triggered and has not ended is PENDING, so that a resume runs it.
    """
    ended = "('SUCCESS', 'FAILED', 'SKIPPED', 'UPSTREAM_FAILED', 'CANCELLED')"
    of_task = f"run_id=? AND instance.{OF_GRAPH} AND instance.status NOT IN {ended}"
    _change_status_where(connection, "CANCELLED", of_task, (run_id,), reason, now)
    of_hook = f"run_id=? AND instance.{IS_HOOK} AND instance.status NOT IN {ended} AND instance.status<>'PENDING'"
    _change_status_where(connection, "PENDING", of_hook, (run_id,), reason, now)


def _change_status_where(
    connection: sqlite3.Connection,
    status: str,
    condition: str,
    parameters: Sequence[object],
    reason: str,
    now: float,
    *,
    round_rises: str = "status='SUCCESS'",
) -> None:
    """Change the status of all instances that a condition selects; the attempts of those that wait end as CANCELLED.

    `round_rises` is the condition on which an instance begins a new round: a success is unique within its round.
    """
    epoch = "(SELECT epoch FROM liteflow_dag_runs AS run WHERE run.run_id=instance.run_id)"
    connection.execute(f"{_END_WAIT.replace('?', epoch, 1)} WHERE {_WAITS} AND {condition}", (now, *parameters))
    connection.execute(
        f"INSERT INTO liteflow_events ({_EVENT}) SELECT run_id, task_id, map_index, try_number, {_AFTER_LOST}, ?, ?, ? "
        f"FROM liteflow_task_instances AS instance WHERE {condition}",
        (status, reason, now, *parameters),
    )
    pending = status == "PENDING"
    connection.execute(
        "UPDATE liteflow_task_instances AS instance SET status=?, reason=?, ended_at=?, updated_at=?, tolerated=0, "
        f"handle=NULL, wake_at=NULL, settled=0, round=round+({round_rises}){', error_log=NULL' if pending else ''} "
        f"WHERE {condition}",
        (status, None if pending else reason, None if pending else now, now, *parameters),
    )


# -- fires of triggers -----------------------------------------------------------------------------------------------


def add_fire(connection: sqlite3.Connection, row: Mapping[str, object]) -> bool:
    """Add the fire of a trigger, unless the trigger has one with its key. Returns whether it was added."""
    columns, values = ", ".join(row), ",".join("?" * len(row))
    sql = f"INSERT OR IGNORE INTO liteflow_fires ({columns}) VALUES ({values})"
    return connection.execute(sql, list(row.values())).rowcount > 0


def claim_fire(connection: sqlite3.Connection, fire_no: int, now: float) -> bool:
    """Record that the run of a waiting fire is about to start. Returns whether the fire was waiting."""
    sql = "UPDATE liteflow_fires SET status='CLAIMED', claimed_at=? WHERE fire_no=? AND status='WAITING'"
    return connection.execute(sql, (now, fire_no)).rowcount > 0


def start_fire(connection: sqlite3.Connection, run_id: str, now: float) -> bool:
    """Record that the run of a fire starts, in the transaction that creates the run: of two processes one succeeds.

    Returns False when the run has a fire that was decided before. Most runs have none.
    """
    sql = "UPDATE liteflow_fires SET status='STARTED', decided_at=? WHERE run_id=? AND status='CLAIMED'"
    if connection.execute(sql, (now, run_id)).rowcount:
        return True
    return connection.execute("SELECT 1 FROM liteflow_fires WHERE run_id=?", (run_id,)).fetchone() is None


def end_fire(connection: sqlite3.Connection, run_id: str, status: str, reason: str, now: float) -> bool:
    """Record that a fire starts no run. Returns False when it was decided before."""
    sql = (
        "UPDATE liteflow_fires SET status=?, reason=?, decided_at=? WHERE run_id=? AND status IN ('CLAIMED', 'WAITING')"
    )
    return connection.execute(sql, (status, reason, now, run_id)).rowcount > 0
