"""The changes of one turn of the loop, collected until they are committed as one transaction.

The row of an attempt is written once, with its verdict, and never changes. An attempt that is about to start is the new
status of its task instance: a resume after a crash finds it there, and records the attempt as LOST.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from liteflow.planning.ready_queue import SlotNeeds
from liteflow.record import Record
from liteflow.state.bulk_insert import BulkInsert
from liteflow.state.child_rows import cancel_child_runs
from liteflow.state.parking import WAKE, ParkedUntil
from liteflow.state.pools import SlotAllocator, SlotChange
from liteflow.state.records import AttemptKey, InstanceKey, PreviousInstance, RunEnd
from liteflow.state.transitions import InstanceEvent, RunKey, Transitions, WaitRow
from liteflow.state.undo_rows import UndoRows
from liteflow.states import RunStatus, TaskStatus
from liteflow.values.payload import Payload, spill_root
from liteflow.work import Outcome

_ERROR_LIMIT: Final = 65536

_ATTEMPT: Final = "run_id, task_id, map_index, attempt, status, epoch, started_at, ended_at, exit_code, log_path"


class SlotRequest(Record):
    """An attempt that may start if there are slots for it."""

    task_id: str
    map_index: int
    needs: SlotNeeds
    attempt: int
    previous: str
    log_path: str | None
    at: float


class _Rows(NamedTuple):
    """The rows of a batch, besides those of `Transitions`."""

    attempts: BulkInsert
    other_attempts: BulkInsert  # with the columns that most attempts do not need
    values: BulkInsert


class _ChildRuns(NamedTuple):
    """The child runs of an instance that nothing will continue."""

    instance: InstanceKey
    reason: str
    at: float


class _Ends(NamedTuple):
    """The requests of other processes, by number, and the child runs that end with a batch."""

    requests: list[int]
    child_runs: list[_ChildRuns]


class WriteBatch:
    """The changes of one run since the last commit: the loop adds to it, the store writes it."""

    def __init__(self, path: str, run: RunKey, epoch: int) -> None:
        self._spill_root = spill_root(path)
        self._run = run
        self._epoch = epoch
        self._rows = _Rows(
            attempts=BulkInsert("INSERT INTO liteflow_attempts", _ATTEMPT),
            other_attempts=BulkInsert(
                "INSERT INTO liteflow_attempts", f"{_ATTEMPT}, error, trace, log_lost, repeats, round, codes, host"
            ),
            values=BulkInsert(
                "INSERT OR REPLACE INTO liteflow_xcom",
                "run_id, task_id, map_index, key, encoding, value, size, file, sha256, created_at",
            ),
        )
        self.transitions = Transitions(run)
        #: The rounds of instances that have succeeded and run again: a success is unique within its round.
        self.rounds: dict[tuple[str, int], int] = {}
        self.slot_requests: list[SlotRequest] = []
        self.granted_slots: list[bool] = []  # which of `slot_requests` have their slots, once this is committed
        self.slot_changes: list[SlotChange] = []  # of task instances that return their slots, or take them back
        self._ends = _Ends([], [])
        self._parked: ParkedUntil | None = None  # until the run has ended
        #: An attempt of a task that has an undo is added with its start, and removed with its success.
        self.undos = UndoRows(run.run_id)

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.transitions or self.slot_requests or self.slot_changes or self.undos or self._ends.requests)

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
    ) -> None:
        """Add an attempt that may start once this is committed; QUEUED: when a slot is free."""
        self.transitions.start(task_id, map_index, InstanceEvent(attempt, previous, status, None, now), log_path)
        if task_id in self.undos.tasks:
            self.undos.add(AttemptKey(task_id, map_index, attempt))

    def note(self, task_id: str, map_index: int, attempt: int, status: str, reason: str, now: float) -> None:
        """Add an event of a task instance that keeps its status."""
        self.transitions.note(task_id, map_index, InstanceEvent(attempt, status, status, reason, now))

    def note_host(self, task_id: str, map_index: int, attempt: int, host: str, now: float) -> None:
        """Add the machine of an attempt that is RUNNING."""
        self.transitions.note_host(task_id, map_index, attempt, host, now)

    def note_places(self, places: str) -> None:
        """Add what is known of the machines of the clusters (JSON)."""
        self.transitions.note_places(places)

    def record_start(self, task_id: str, map_index: int, attempt: int, started_at: float) -> None:
        """Add the event that a queued attempt started; `finish_attempt` and `change_status` write its rows."""
        self.transitions.note_start(task_id, map_index, attempt, started_at)

    def add_instances(
        self, task_id: str, instances: Iterable[tuple[int, str | None, str]], timeout_s: float | None, now: float
    ) -> None:
        """Add the instances of a mapped task (index, label, digest of the item), in the order of its list."""
        self.transitions.add_instances(task_id, instances, timeout_s, now)

    def remove_instances(self, task_id: str, removed: Mapping[int, PreviousInstance], reason: str, now: float) -> None:
        """Remove instances whose items are no longer in the list of their task: only their history stays."""
        for index, instance in removed.items():
            event = InstanceEvent(instance.attempts, instance.status, "REMOVED", reason, now)
            self.transitions.remove(task_id, index, event)

    def finish_attempt(self, task_id: str, map_index: int, outcome: Outcome, *, repeats: bool = False) -> None:
        """Add the verdict of an attempt, its values and its error; `repeats`: the task may succeed more than once."""
        error, ended_at = outcome.error, outcome.ended_at
        current_round = self.rounds.get((task_id, map_index), 0) if self.rounds else 0
        plain = error is None and outcome.log_lost is None and outcome.host is None and not repeats
        plain = plain and not current_round
        rows = self._rows.attempts if plain else self._rows.other_attempts
        rows.values += (
            self._run.run_id,
            task_id,
            map_index,
            outcome.attempt,
            outcome.verdict,
            self._epoch,
            ended_at if outcome.started_at is None else outcome.started_at,
            ended_at,
            outcome.exit_code,
            outcome.log_path,
        )
        if not plain:
            rows.values += (
                None if error is None else (error.traceback.rstrip() or error.message)[-_ERROR_LIMIT:],
                None if error is None or not error.trace else error.trace,
                outcome.log_lost,
                int(repeats),
                current_round,
                json.dumps(error.codes, ensure_ascii=False) if error is not None and error.codes else None,
                outcome.host,
            )
        if task_id in self.undos.tasks:
            self.undos.end(AttemptKey(task_id, map_index, outcome.attempt), outcome.undo_error)
        if outcome.value is not None:
            self._store(task_id, map_index, "return_value", outcome.value, ended_at)
        if outcome.pushed:
            for key, payload in outcome.pushed.items():
                self._store(task_id, map_index, key, payload, ended_at)

    def _store(self, task_id: str, map_index: int, key: str, value: Payload, now: float) -> None:
        encoding, data, size, path, sha256 = value
        file = None if path is None else os.path.relpath(path, self._spill_root)
        self._rows.values.values += (self._run.run_id, task_id, map_index, key, encoding, data, size, file, sha256, now)

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
        """Add the new status of a task instance; `outcome` is that of the attempt whose end it is."""
        event = InstanceEvent(attempt, previous, status, reason, now)
        if outcome is None:
            self.transitions.change(task_id, map_index, event)
        else:
            error = None if outcome.error is None else outcome.error.traceback or outcome.error.message
            self.transitions.change(task_id, map_index, event, error, outcome.started_at, outcome.log_path)

    def wait(self, task_id: str, map_index: int, event: InstanceEvent, wait: WaitRow) -> None:
        """Add what an instance waits for: its status is WAITING."""
        self.transitions.wait(task_id, map_index, event, wait)

    def abandon_wait(self, task_id: str, map_index: int, now: float) -> None:
        """Add the end of the attempt of an instance that waits, and that the run no longer has."""
        self.transitions.abandon_wait(task_id, map_index, self._epoch, now)

    def handle_request(self, request_no: int) -> None:
        """Add that a request of another process was acted on, in the transaction of what follows from it."""
        self._ends.requests.append(request_no)

    def cancel_child_runs(self, task_id: str, map_index: int, reason: str, now: float) -> None:
        """Add the end of the child runs of an instance that have not ended, with the change that leaves them behind."""
        self._ends.child_runs.append(_ChildRuns((task_id, map_index), reason, now))

    def mark_tolerated(self, task_id: str, map_index: int) -> None:
        """Mark the failure of an instance, which was added with `change_status`, as one that counts as a success."""
        self.transitions.tolerate(task_id, map_index)

    def trigger_hook(
        self, task_id: str, map_index: int, owner: str, events: str, now: float, kind: str = "hook"
    ) -> None:
        """Add the events (JSON) that trigger a hook of the task `owner`; a new hook is PENDING."""
        self.transitions.trigger_hook(task_id, map_index, kind, owner, events, now)

    def retrigger_hook(self, task_id: str, map_index: int, attempt: int, previous: str, now: float) -> None:
        """Trigger a hook once more that has run before."""
        self.transitions.retrigger_hook(task_id, map_index, attempt, previous, now)
        if previous == "SUCCESS":
            self.rounds[task_id, map_index] = self.rounds.get((task_id, map_index), 0) + 1

    def end_run(
        self,
        status: RunStatus,
        reason: str | None,
        now: float,
        *,
        timed_out: bool = False,
        outputs: str | None = None,
    ) -> None:
        """Add the end of the run; `timed_out`: it exceeded its timeout; `outputs`: see `output_history`."""
        end = RunEnd(status=status, reason=reason, at=now, timed_out=timed_out, outputs=outputs)
        self.transitions.run_end = end

    def park(self, wake_at: float | None) -> None:
        """Have the run resumed at an epoch second, or after a decision, if it ends as INTERRUPTED."""
        self._parked = ParkedUntil(wake_at)

    # -- what the store does with it -----------------------------------------------------------------------

    def write(self, connection: sqlite3.Connection, slots: SlotAllocator) -> None:
        """Write it all, within the caller's transaction. It can be repeated when that was rolled back."""
        for rows in self._rows:
            if rows.values:
                rows.write(connection)
        transitions = self.transitions
        transitions.write(connection)
        if self.slot_changes:
            slots.hold(self.slot_changes)
        if self.slot_requests:
            self._admit(connection, slots)
        if self._ends.requests:
            connection.executemany(
                "UPDATE liteflow_requests SET handled_at=? WHERE request_no=?",
                [(time.time(), number) for number in self._ends.requests],
            )
        for instance, reason, now in self._ends.child_runs:
            cancel_child_runs(connection, self._run.run_id, (instance,), reason, now)
        self.undos.write(connection)
        run_end = transitions.run_end
        if run_end is not None:
            slots.clear(group=True)
            transitions.write_run_end(connection, run_end)
            connection.execute(
                "UPDATE liteflow_requests SET handled_at=? WHERE run_id=? AND handled_at IS NULL "
                f"AND action IN ('cancel', '{WAKE}')",
                (run_end.at, self._run.run_id),
            )
            if self._parked is not None and run_end.status == "INTERRUPTED":
                self._parked.write(connection, self._run.run_id, run_end.at)

    def _admit(self, connection: sqlite3.Connection, slots: SlotAllocator) -> None:
        """Take slots for the attempts that need some, and write the start of those that get them."""
        self.granted_slots = slots.grant(self.slot_requests)
        starts = Transitions(self._run)
        for request, granted in zip(self.slot_requests, self.granted_slots, strict=True):
            if granted:
                event = InstanceEvent(request.attempt, request.previous, "RUNNING", None, request.at)
                starts.start(request.task_id, request.map_index, event, request.log_path)
                if request.task_id in self.undos.tasks:
                    self.undos.add(AttemptKey(request.task_id, request.map_index, request.attempt))
        starts.write(connection)

    def clear(self) -> None:
        """Forget what was committed: the next turn begins."""
        for rows in self._rows:
            rows.values.clear()
        self.undos.clear()
        self.transitions.clear()
        if self.slot_requests:
            self.slot_requests = []
        self.slot_changes.clear()
        self._ends.requests.clear()
        self._ends.child_runs.clear()
