"""The triggers of workflows and their fires, in the state file.

A `TriggerStore` is the connection of a scheduler. It holds the scheduler's byte of the lock file while it schedules, so
that of several schedulers of a state file one works and the others wait. The functions are for other processes.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from liteflow.errors import RunNotFound, StoreError
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.state import transitions
from liteflow.state.admin import StateWriter
from liteflow.state.locks import LockFile
from liteflow.state.sqlite_locks import identity
from liteflow.state.state_file import (
    Transaction,
    checkpoint_wal,
    connect,
    connect_read_only,
    real_path,
    translated_errors,
)
from liteflow.states import RUN_ENDED
from liteflow.triggers import DeclaredTrigger, Trigger, trigger_from_spec

#: The byte of the lock file that the active scheduler holds: far above the bytes of runs.
SCHEDULER_LOCK: Final = 2**62
_TRIGGER: Final = (
    "trigger_id, dag_id, source, kind, spec, digest, watermark, next_at, paused_at, paused_by, seen_at, problem"
)
_FIRE: Final = (
    "fire_no, trigger_id, key, at, due_at, status, run_id, params, selection, started_by, reason, claimed_at, "
    "decided_at"
)
#: How long the state of a trigger is preserved whose file is missing.
FORGET_S: Final = 30 * 86_400.0


class TriggerRecord(Record):
    """A stored trigger."""

    trigger_id: str
    dag_id: str
    source: str | None
    kind: str
    spec: str  #: JSON
    digest: str
    watermark: str | None  #: the key of the last fire that was decided
    next_at: float | None
    paused_at: float | None  #: None: it is active
    paused_by: str | None
    seen_at: float
    problem: str | None  #: why it cannot fire

    @property
    def trigger(self) -> Trigger:
        """The declaration. Raises ValueError when the row was altered."""
        spec = json.loads(self.spec)
        if not isinstance(spec, dict):
            raise ValueError(f"the specification of trigger {self.trigger_id} cannot be read")
        return trigger_from_spec(self.kind, spec)


class FireRecord(Record):
    """A stored fire: an occasion on which a trigger fired."""

    fire_no: int
    trigger_id: str
    key: str  #: what makes it unique: the instant, the file, the delivery
    at: float  #: the instant
    due_at: float | None
    status: str
    run_id: str | None
    params: str | None  #: JSON
    selection: str | None  #: JSON
    started_by: str | None
    reason: str | None
    claimed_at: float | None
    decided_at: float | None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters for the run. Raises ValueError when the row was altered."""
        return self._mapping(self.params, "parameters")

    @property
    def selected(self) -> dict[str, Any]:
        """The tasks that are to run, as `NewFire` has them. Raises ValueError when the row was altered."""
        return self._mapping(self.selection, "tasks")

    def _mapping(self, text: str | None, subject: str) -> dict[str, Any]:
        try:
            values = json.loads(text or "{}")
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise ValueError(f"the {subject} of fire {self.fire_no} cannot be read")
        return values


class NewFire(Record):
    """A fire to store. Its status is CLAIMED or WAITING where a run follows, else SKIPPED or MISSED."""

    trigger_id: str
    key: str
    at: float
    due_at: float
    status: str
    run_id: str | None = None
    params: Mapping[str, Any] = EMPTY_MAPPING
    selection: Mapping[str, Any] = EMPTY_MAPPING  #: the tasks that are to run, as fields of `Selection`; empty: all
    started_by: str | None = None
    reason: str | None = None

    @property
    def stored(self) -> dict[str, str | None]:
        """The parameters and the selection as they are stored: JSON, in the order of their names."""
        values = {"params": self.params, "selection": self.selection}
        return {name: json.dumps(dict(each), sort_keys=True) if each else None for name, each in values.items()}


class WorkflowTriggers(Record):
    """The triggers of a workflow as its file declares them, each with the watermark at which it begins."""

    dag_id: str
    source: str
    triggers: Sequence[DeclaredTrigger]
    watermarks: Sequence[str]


class TriggerStore:
    """The connection of a scheduler to the state file, which is created if it is missing. For one thread."""

    def __init__(self, path: str) -> None:
        self.path = real_path(path)
        self._locks = LockFile(self.path)
        try:
            self._connection = connect(self.path)
            self._identity = identity(self.path)
        except BaseException:
            self._locks.close()
            raise

    def close(self) -> None:
        """Close the connection and free the scheduler's lock."""
        self._connection.close()
        self._locks.close()

    def acquire(self) -> bool:
        """Become the active scheduler. Returns False while another process is it."""
        return self._locks.acquire(SCHEDULER_LOCK)

    def check(self) -> None:
        """Check that the state file is the one that was opened, and keep the lock when its file was deleted.

        Raises:
            StoreError: the state file was deleted or replaced, or another process has taken the lock.
        """
        if self._identity != identity(self.path):
            raise StoreError(f"{self.path}: was deleted, moved or replaced while the scheduler used it")
        if not self._locks.renew():
            raise StoreError(f"{self.path}: another scheduler has taken over")

    # -- triggers ------------------------------------------------------------------------------------------

    def triggers(self) -> list[TriggerRecord]:
        """Return all triggers."""
        with translated_errors(self.path):
            return _triggers(self._connection)

    def declare(self, workflows: Sequence[WorkflowTriggers]) -> None:
        """Store the triggers of workflows as their files declare them, in one transaction.

        A trigger that is new, or has changed, begins at its watermark: it does not fire for the past. Others keep
        theirs. A new trigger is paused where all other triggers of the workflow are.
        """
        now = time.time()
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            stored: dict[str, dict[str, TriggerRecord]] = {}
            for row in _triggers(self._connection):
                stored.setdefault(row.dag_id, {})[row.trigger_id] = row
            for workflow in workflows:
                self._declare(workflow, stored.get(workflow.dag_id, {}), now)

    def _declare(self, workflow: WorkflowTriggers, stored: Mapping[str, TriggerRecord], now: float) -> None:
        execute = self._connection.execute
        real_triggers = [row for row in stored.values() if row.kind != "manual"]
        paused = bool(real_triggers) and all(row.paused_at is not None for row in real_triggers)
        for trigger_id in stored.keys() - {declared.trigger_id for declared in workflow.triggers}:
            execute("DELETE FROM liteflow_triggers WHERE trigger_id=?", (trigger_id,))
        for declared, watermark in zip(workflow.triggers, workflow.watermarks, strict=True):
            row = stored.get(declared.trigger_id)
            if row is not None and row.digest == declared.digest:
                execute(
                    "UPDATE liteflow_triggers SET source=?, seen_at=?, problem=NULL WHERE trigger_id=?",
                    (workflow.source, now, declared.trigger_id),
                )
                continue
            since, by = (now, "the workflow is paused") if paused and row is None else (None, None)
            if row is not None:
                since, by = row.paused_at, row.paused_by
            execute(
                f"INSERT OR REPLACE INTO liteflow_triggers ({_TRIGGER}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (declared.trigger_id, workflow.dag_id, workflow.source, declared.kind, declared.spec, declared.digest,
                 watermark, None, since, by, now, None),
            )  # fmt: skip

    def set_problem(self, source: str, problem: str | None) -> None:
        """Record why the triggers of a file cannot fire."""
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            self._connection.execute("UPDATE liteflow_triggers SET problem=? WHERE source=?", (problem, source))

    def rest(self, problems: Mapping[str, str]) -> None:
        """Record why the triggers of dags that are not served cannot fire, by dag; `declare` ends it."""
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            self._connection.executemany(
                "UPDATE liteflow_triggers SET problem=? WHERE dag_id=?",
                [(problem, dag_id) for dag_id, problem in problems.items()],
            )

    def forget_triggers(self) -> None:
        """Delete the triggers whose files have been missing for long."""
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            self._connection.execute("DELETE FROM liteflow_triggers WHERE seen_at<?", (time.time() - FORGET_S,))

    def see(self, trigger_ids: Iterable[str]) -> None:
        """Record that the files of these triggers exist."""
        now = time.time()
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            self._connection.executemany(
                "UPDATE liteflow_triggers SET seen_at=? WHERE trigger_id=?", [(now, each) for each in trigger_ids]
            )

    # -- fires ---------------------------------------------------------------------------------------------

    def decide(
        self, fires: Sequence[NewFire], watermarks: Mapping[str, str], next_at: Mapping[str, float | None]
    ) -> list[FireRecord]:
        """Store fires, and move watermarks, in one transaction. Returns the fires that are CLAIMED now.

        A fire whose key the trigger has had is left out: nothing follows from it a second time.
        """
        now = time.time()
        claimed: list[str] = []
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            for fire in fires:
                row = {
                    "trigger_id": fire.trigger_id,
                    "key": fire.key,
                    "at": fire.at,
                    "due_at": fire.due_at,
                    "status": fire.status,
                    "run_id": fire.run_id,
                    **fire.stored,
                    "started_by": fire.started_by,
                    "reason": fire.reason,
                    "claimed_at": now if fire.status == "CLAIMED" else None,
                    "decided_at": now if fire.status not in ("CLAIMED", "WAITING") else None,
                }
                if transitions.add_fire(self._connection, row) and fire.status == "CLAIMED":
                    claimed.append(str(fire.run_id))
            self._connection.executemany(
                "UPDATE liteflow_triggers SET watermark=? WHERE trigger_id=?",
                [(watermark, trigger_id) for trigger_id, watermark in watermarks.items()],
            )
            self._connection.executemany(
                "UPDATE liteflow_triggers SET next_at=? WHERE trigger_id=?",
                [(moment, trigger_id) for trigger_id, moment in next_at.items()],
            )
        checkpoint_wal(self._connection, self.path, self._locks)
        return [fire for run_id in claimed for fire in self.fires(run_id=run_id)]

    def claim(self, fire_no: int) -> bool:
        """Record that the run of a waiting fire is about to start. Returns whether the fire was waiting."""
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            return transitions.claim_fire(self._connection, fire_no, time.time())

    def end(self, run_id: str, status: str, reason: str) -> bool:
        """Record that a fire starts no run. Returns False when it was decided before."""
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            return transitions.end_fire(self._connection, run_id, status, reason, time.time())

    def claimed_fires(self) -> list[FireRecord]:
        """Return the fires whose runs are about to start, the oldest first."""
        with translated_errors(self.path):
            return _fires(self._connection, "status='CLAIMED' ORDER BY fire_no", ())

    def first_waiting_fires(self) -> list[FireRecord]:
        """Return the oldest waiting fire of each trigger that has one, the oldest first."""
        firsts = "SELECT min(fire_no) FROM liteflow_fires WHERE status='WAITING' GROUP BY trigger_id"
        with translated_errors(self.path):
            return _fires(self._connection, f"fire_no IN ({firsts}) ORDER BY fire_no", ())

    def fires(self, *, run_id: str) -> list[FireRecord]:
        """Return the fire of a run."""
        with translated_errors(self.path):
            return _fires(self._connection, "run_id=?", (run_id,))

    def busy_triggers(self, trigger_ids: Sequence[str]) -> set[str]:
        """Return those of the triggers whose last run has not ended and has a live owner."""
        with translated_errors(self.path):
            rows = self._connection.execute(
                "SELECT wanted.value, run.run_no FROM json_each(?) AS wanted JOIN liteflow_fires AS fire ON fire_no="
                "(SELECT max(fire_no) FROM liteflow_fires WHERE status='STARTED' AND trigger_id=wanted.value) "
                "JOIN liteflow_dag_runs AS run USING (run_id) WHERE run.status NOT IN "
                f"({', '.join(repr(status) for status in sorted(RUN_ENDED))})",
                (json.dumps(trigger_ids),),
            ).fetchall()
        return {str(trigger_id) for trigger_id, run_no in rows if self._locks.is_held(run_no)}

    def keys(self, trigger_id: str) -> set[str]:
        """Return the keys of all fires of a trigger."""
        with translated_errors(self.path):
            rows = self._connection.execute("SELECT key FROM liteflow_fires WHERE trigger_id=?", (trigger_id,))
            return {str(row[0]) for row in rows}

    def waiting_runs(self, dag_id: str) -> int:
        """Return how many runs of a workflow wait for their turn in a concurrency group."""
        with translated_errors(self.path):
            rows = self._connection.execute(
                "SELECT s.run_no FROM liteflow_slots AS s JOIN liteflow_dag_runs USING (run_no) "
                "WHERE dag_id=? AND s.task_id='' AND taken_at IS NULL",
                (dag_id,),
            ).fetchall()
        return sum(self._locks.is_held(row[0]) for row in rows)

    def run_ends(self, after: int, limit: int = 1000) -> list[tuple[int, str, str, str, float | None]]:
        """Return ends of runs with a higher `seq`: seq, run id, workflow, status, logical date."""
        with translated_errors(self.path):
            rows = self._connection.execute(
                "SELECT e.seq, e.run_id, r.dag_id, e.status, r.logical_date FROM liteflow_events AS e "
                "JOIN liteflow_dag_runs AS r USING (run_id) WHERE e.seq>? AND e.task_id IS NULL "
                "AND e.status IN ('SUCCESS', 'FAILED', 'CANCELLED', 'INTERRUPTED') ORDER BY e.seq LIMIT ?",
                (after, limit),
            ).fetchall()
        return [tuple(row) for row in rows]

    def last_seq(self) -> int:
        """Return the number of the newest event."""
        with translated_errors(self.path):
            (seq,) = self._connection.execute("SELECT coalesce(max(seq), 0) FROM liteflow_events").fetchone()
        return int(seq)

    def version(self) -> int:
        """Return a number that changes when another process has written."""
        with translated_errors(self.path):
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def _triggers(connection: sqlite3.Connection) -> list[TriggerRecord]:
    rows = connection.execute(f"SELECT {_TRIGGER} FROM liteflow_triggers ORDER BY trigger_id").fetchall()
    names = _TRIGGER.split(", ")
    return [TriggerRecord(**dict(zip(names, row, strict=True))) for row in rows]


def _fires(connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> list[FireRecord]:
    rows = connection.execute(f"SELECT {_FIRE} FROM liteflow_fires WHERE {condition}", values).fetchall()
    names = _FIRE.split(", ")
    return [FireRecord(**dict(zip(names, row, strict=True))) for row in rows]


# -- for processes that are not the scheduler --------------------------------------------------------------------------


def read_triggers(path: str) -> list[TriggerRecord]:
    """Return the triggers of a state file. A file of an older version has none."""
    connection = connect_read_only(path)
    try:
        with translated_errors(path):
            return _triggers(connection) if _has_triggers(connection) else []
    finally:
        connection.close()


def read_fires(
    path: str,
    trigger_ids: Sequence[str] | None = None,
    *,
    run_ids: Sequence[str] | None = None,
    statuses: Sequence[str] = (),
    before: int | None = None,
    limit: int = 20,
) -> list[FireRecord]:
    """Return the newest fires: of some triggers, of some runs, or all; `before`, a `fire_no`, selects the next page."""
    conditions, parameters = ["1"], list[object]()
    for name, values in (("trigger_id", trigger_ids), ("run_id", run_ids), ("status", statuses or None)):
        if values is not None:
            conditions.append(f"{name} IN (SELECT value FROM json_each(?))")
            parameters.append(json.dumps(list(values)))
    if before is not None:
        conditions.append("fire_no<?")
        parameters.append(before)
    connection = connect_read_only(path)
    try:
        with translated_errors(path):
            if not _has_triggers(connection):
                return []
            where = " AND ".join(conditions)
            return _fires(connection, f"{where} ORDER BY fire_no DESC LIMIT ?", [*parameters, limit])
    finally:
        connection.close()


def find_fire(path: str, trigger_id: str, key: str) -> FireRecord | None:
    """Return the fire of a trigger with this key, which is unique for the trigger; None if there is none."""
    connection = connect_read_only(path)
    try:
        with translated_errors(path):
            if not _has_triggers(connection):
                return None
            return next(iter(_fires(connection, "trigger_id=? AND key=?", (trigger_id, key))), None)
    finally:
        connection.close()


def _has_triggers(connection: sqlite3.Connection) -> bool:
    """Return whether the file has the tables; one that an older version wrote does not."""
    sql = "SELECT 1 FROM sqlite_schema WHERE name='liteflow_triggers'"
    return connection.execute(sql).fetchone() is not None


def pause_triggers(path: str, trigger_ids: Sequence[str], by: str) -> None:
    """Pause triggers. An instant that is due meanwhile is neither missed nor run."""
    with StateWriter(path) as connection:
        connection.executemany(
            "UPDATE liteflow_triggers SET paused_at=?, paused_by=? WHERE trigger_id=? AND paused_at IS NULL",
            [(time.time(), by, trigger_id) for trigger_id in trigger_ids],
        )


def unpause_triggers(path: str, watermarks: Mapping[str, str]) -> None:
    """Activate triggers again, each from a watermark on: they do not fire for the past."""
    with StateWriter(path) as connection:
        connection.executemany(
            "UPDATE liteflow_triggers SET paused_at=NULL, paused_by=NULL, watermark=? "
            "WHERE trigger_id=? AND paused_at IS NOT NULL",
            [(watermark, trigger_id) for trigger_id, watermark in watermarks.items()],
        )


def request_fire(path: str, fire: NewFire) -> bool:
    """Store a fire that a person or a program requests; the active scheduler starts its run.

    Returns False when there is one with its key.

    Raises:
        RunNotFound: there is no such trigger.
    """
    row = {name: getattr(fire, name) for name in type(fire)._fields} | fire.stored
    with StateWriter(path) as connection:
        sql = "SELECT 1 FROM liteflow_triggers WHERE trigger_id=?"
        if connection.execute(sql, (fire.trigger_id,)).fetchone() is None:
            raise RunNotFound(f"{path}: there is no trigger {fire.trigger_id!r}")
        return transitions.add_fire(connection, row)


def end_fire(path: str, run_id: str, status: str, reason: str) -> None:
    """Record, in the process of the run, that its fire starts no run."""
    with StateWriter(path) as connection:
        transitions.end_fire(connection, run_id, status, reason, time.time())


def scheduler_is_active(path: str) -> bool:
    """Return whether a scheduler works on the state file."""
    locks = LockFile(real_path(path), read_only=True)
    try:
        return locks.is_held(SCHEDULER_LOCK)
    finally:
        locks.close()
