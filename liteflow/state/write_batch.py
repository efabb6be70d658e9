"""What happens in one turn of the loop, collected until it is written as one transaction.

An attempt's row is written once, with its verdict, and never changes. That one is to start is the new state of its
task instance; a resume after a crash finds it there and records the attempt as LOST.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from liteflow.planning.ready_queue import SlotNeeds
from liteflow.state.pools import SlotAllocator
from liteflow.state.records import PreviousInstance
from liteflow.states import RunStatus, TaskStatus
from liteflow.values.payload import Payload, spill_root
from liteflow.work import Outcome

_ERROR_LIMIT: Final = 65536


class _Rows:
    """Rows for one table, kept flat: value after value.

    They are written many in a statement. SQLite works without Python's lock, and a statement for each row would ask
    the threads that run tasks for that lock each time (measured in docs/adr/0032).
    """

    _SIZES: Final = (64, 16, 4, 1)  # few statements, so that all stay prepared

    def __init__(self, into: str, columns: str, then: str = "") -> None:
        self._width = columns.count(",") + 1
        row = "(" + ",".join("?" * self._width) + ")"
        head = f"{into} ({columns}) VALUES "
        self._statements = [(size, f"{head}{','.join([row] * size)} {then}") for size in self._SIZES]
        self.values: list[Any] = []

    def write(self, connection: sqlite3.Connection) -> None:
        values, at = self.values, 0
        for size, statement in self._statements:
            step = size * self._width
            while at + step <= len(values):
                connection.execute(statement, values[at : at + step])
                at += step


class SlotRequest(NamedTuple):
    """An attempt that may start if there are slots for it."""

    task_id: str
    map_index: int
    needs: SlotNeeds
    attempt: int
    previous: str
    log_path: str | None
    at: float


def _instance_rows() -> _Rows:
    return _Rows(
        "INSERT INTO liteflow_task_instances",
        "run_id, task_id, map_index, status, try_number, error_log, reason, started_at, ended_at, log_path, updated_at",
        "ON CONFLICT DO UPDATE SET status=excluded.status, try_number=excluded.try_number, "
        "error_log=excluded.error_log, reason=excluded.reason, started_at=excluded.started_at, "
        "ended_at=excluded.ended_at, log_path=excluded.log_path, updated_at=excluded.updated_at",
    )


def _event_rows() -> _Rows:
    return _Rows("INSERT INTO liteflow_events", "run_id, task_id, map_index, attempt, previous, status, reason, at")


class WriteBatch:
    """The changes of one run since the last commit; the loop adds to it, the store writes it."""

    def __init__(self, path: str, run_id: str, run_no: int, epoch: int) -> None:
        self._spill_root = spill_root(path)
        self._run_id = run_id
        self._run_no = run_no
        self._epoch = epoch
        self._attempts = _Rows(
            "INSERT INTO liteflow_attempts",
            "run_id, task_id, map_index, attempt, status, epoch, started_at, ended_at, exit_code, error, log_path, "
            "trace, log_lost",
        )
        self._repeatable = _Rows(
            "INSERT INTO liteflow_attempts",
            "run_id, task_id, map_index, attempt, status, epoch, started_at, ended_at, exit_code, error, log_path, "
            "trace, log_lost, repeats",
        )
        self._stored = _Rows(
            "INSERT OR REPLACE INTO liteflow_xcom",
            "run_id, task_id, map_index, key, encoding, value, size, file, sha256, created_at",
        )
        self._unfolded = _Rows(
            "INSERT INTO liteflow_task_instances",
            "run_id, task_id, map_index, map_key, item, position, status, timeout, updated_at",
            "ON CONFLICT DO UPDATE SET map_key=excluded.map_key, item=excluded.item, position=excluded.position, "
            "timeout=excluded.timeout",
        )
        self._hooks = _Rows(
            "INSERT INTO liteflow_task_instances",
            "run_id, task_id, map_index, status, dependencies, told, updated_at",
            "ON CONFLICT DO UPDATE SET dependencies=excluded.dependencies, told=excluded.told, "
            "updated_at=excluded.updated_at",
        )
        self._instances, self._events = _instance_rows(), _event_rows()
        self._all = (  # in the order in which they are written
            *(self._hooks, self._attempts, self._repeatable, self._stored, self._unfolded),
            *(self._instances, self._events),
        )
        self._gone: list[tuple[str, str, int]] = []
        #: attempts that need slots, and which of them have got theirs once this is committed
        self.asked: list[SlotRequest] = []
        self.granted: list[bool] = []
        self.released_slots: list[tuple[str, int]] = []  # task instances that give their slots back
        self.before = "RUNNING"  # what the run is until its verdict
        self.verdict: tuple[RunStatus, str | None, float] | None = None  # of the run: status, reason, when

    def __bool__(self) -> bool:
        """Is there anything to write?"""
        changed = self._events.values or self._hooks.values or self.asked
        return bool(changed) or self.verdict is not None

    # -- what the loop adds --------------------------------------------------------------------------------

    def start_attempt(
        self,
        task_id: str,
        map_index: int,
        attempt: int,
        previous: str,
        log_path: str | None,
        now: float,
        status: TaskStatus = "RUNNING",
        into: tuple[_Rows, _Rows] | None = None,
    ) -> None:
        """Add the intent to start an attempt, which may start once this is committed; QUEUED: when a slot is free."""
        run_id = self._run_id
        instances, events = into or (self._instances, self._events)
        instances.values += (
            run_id, task_id, map_index, status, attempt, None, None, now if status == "RUNNING" else None, None,
            log_path, now,
        )  # fmt: skip
        events.values += (run_id, task_id, map_index, attempt, previous, status, None, now)

    def started(self, task_id: str, map_index: int, attempt: int, started_at: float) -> None:
        """Add the event that a queued attempt started; `ended` and `change_status`, which follow, write its rows."""
        self._events.values += (self._run_id, task_id, map_index, attempt, "QUEUED", "RUNNING", None, started_at)

    def unfolded(
        self, task_id: str, instances: Iterable[tuple[int, str | None, str]], timeout_s: float | None, now: float
    ) -> None:
        """A mapped task has these instances (index, label, digest of the item), in the order of its list; what they
        have done in an earlier part of the run stays."""
        run_id = self._run_id
        for position, (index, label, item) in enumerate(instances):
            self._unfolded.values += (run_id, task_id, index, label, item, position, "PENDING", timeout_s, now)

    def remove_instances(self, task_id: str, gone: Mapping[int, PreviousInstance], reason: str, now: float) -> None:
        """The items of these instances are not in the list of their task any more: only their history stays."""
        for index, one in gone.items():
            self._events.values += (
                self._run_id, task_id, index, one.attempts, one.status, "SKIPPED", reason, now,
            )  # fmt: skip
        self._gone += [(self._run_id, task_id, index) for index in gone]

    def ended(self, task_id: str, map_index: int, outcome: Outcome, *, repeats: bool = False) -> None:
        """An attempt's verdict, its values and its error; `repeats`: of what may succeed more than once."""
        error, ended_at = outcome.error, outcome.ended_at
        rows = self._repeatable if repeats else self._attempts
        rows.values += (
            self._run_id,
            task_id,
            map_index,
            outcome.attempt,
            outcome.verdict,
            self._epoch,
            ended_at if outcome.started_at is None else outcome.started_at,
            ended_at,
            outcome.exit_code,
            None if error is None else (error.traceback.rstrip() or error.message)[-_ERROR_LIMIT:],
            outcome.log_path,
            None if error is None or not error.trace else error.trace,
            outcome.log_lost,
        )
        if repeats:
            rows.values.append(1)
        if outcome.value is not None:
            self._store(task_id, map_index, "return_value", outcome.value, ended_at)
        if outcome.pushed:
            for key, payload in outcome.pushed.items():
                self._store(task_id, map_index, key, payload, ended_at)

    def _store(self, task_id: str, map_index: int, key: str, value: Payload, now: float) -> None:
        encoding, data, size, path, sha256 = value
        file = None if path is None else os.path.relpath(path, self._spill_root)
        self._stored.values += (self._run_id, task_id, map_index, key, encoding, data, size, file, sha256, now)

    def change_status(
        self,
        task_id: str,
        map_index: int,
        attempt: int,
        previous: str,
        status: str,
        reason: str | None,
        now: float,
        outcome: Outcome | None = None,
    ) -> None:
        """A task instance's new state; `outcome` is that of the attempt whose end it is."""
        run_id = self._run_id
        error = started_at = log_path = None
        if outcome is not None:
            started_at, log_path = outcome.started_at, outcome.log_path
            if outcome.error is not None:
                error = outcome.error.traceback or outcome.error.message
        self._instances.values += (
            run_id, task_id, map_index, status, attempt, error, reason, started_at, now, log_path, now,
        )  # fmt: skip
        self._events.values += (run_id, task_id, map_index, attempt, previous, status, reason, now)

    def told(self, task_id: str, map_index: int, owner: str, told: str, now: float) -> None:
        """A hook was triggered: `told` is what it is told (JSON), `owner` its task. It gets a row if it has none."""
        above = json.dumps([owner] if owner else [])
        self._hooks.values += (self._run_id, task_id, map_index, "PENDING", above, told, now)

    def again(self, task_id: str, map_index: int, attempt: int, previous: str, now: float) -> None:
        """A hook that has run before was triggered once more."""
        run_id = self._run_id
        self._instances.values += (
            run_id, task_id, map_index, "PENDING", attempt, None, None, None, None, None, now,
        )  # fmt: skip
        self._events.values += (run_id, task_id, map_index, attempt, previous, "PENDING", "triggered again", now)

    # -- what the store does with it -----------------------------------------------------------------------

    def write(self, connection: sqlite3.Connection, slots: SlotAllocator) -> None:
        """Write it all, inside the caller's transaction. It can be done again when that was rolled back."""
        for rows in self._all:
            if rows.values:
                rows.write(connection)
        if self._gone:
            for table in ("liteflow_task_instances", "liteflow_xcom"):
                connection.executemany(f"DELETE FROM {table} WHERE run_id=? AND task_id=? AND map_index=?", self._gone)
        if self.released_slots:
            slots.give_back(self.released_slots)
        if self.asked:
            self._admit(connection, slots)
        if self.verdict is None:
            return
        slots.clear(place=True)
        status, reason, now = self.verdict
        connection.execute(
            "UPDATE liteflow_dag_runs SET status=?, reason=?, ended_at=? WHERE run_no=?",
            (status, reason, now, self._run_no),
        )
        connection.execute(
            "UPDATE liteflow_requests SET handled_at=? WHERE run_id=? AND handled_at IS NULL", (now, self._run_id)
        )
        connection.execute(
            "INSERT INTO liteflow_events (run_id, previous, status, reason, at) VALUES (?,?,?,?,?)",
            (self._run_id, self.before, status, reason, now),
        )

    def _admit(self, connection: sqlite3.Connection, slots: SlotAllocator) -> None:
        """Take slots for those that ask, and write the intents of those that get them."""
        self.granted = slots.grant(self.asked)
        into = (_instance_rows(), _event_rows())
        for one, granted in zip(self.asked, self.granted, strict=True):
            if granted:
                self.start_attempt(
                    one.task_id, one.map_index, one.attempt, one.previous, one.log_path, one.at, into=into
                )
        for rows in into:
            rows.write(connection)

    def clear(self) -> None:
        """It is committed: the next turn begins."""
        for rows in self._all:
            rows.values.clear()
        if self.asked:
            self.asked = []
        self.released_slots.clear()
        self._gone.clear()
        self.verdict = None
