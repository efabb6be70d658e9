"""Reads the state file: runs, tasks, attempts, events. Changes nothing and decodes no value.

The kernel (the lock of the run), not a clock, decides whether a run that is stored as RUNNING has an owner: a run whose
owner died is INTERRUPTED at once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from liteflow.errors import CorruptDatabase, RunNotFound
from liteflow.planning.overlooked import OverlookedFailure, overlooked
from liteflow.record import Record, replace
from liteflow.state.attempt_history import AttemptHistory, AttemptRecord, LastAttempts
from liteflow.state.instance_states import HOST_COLUMN, InstanceStateHistory
from liteflow.state.locks import LockFile
from liteflow.state.output_history import OutputHistory
from liteflow.state.pool_history import PoolHistory
from liteflow.state.row_kinds import (
    DAG_KINDS,
    EVENT_KINDS,
    ID,
    INSTANCE_KINDS,
    INT,
    PAYLOAD_KINDS,
    REAL,
    REAL_OR_NOT,
    RUN_KINDS,
    RUN_NO,
    STATE,
    TEXT,
    TEXT_OR_NOT,
    VALUE_KINDS,
    Kind,
    holds,
)
from liteflow.state.run_conditions import RunConditions
from liteflow.state.run_fires import FIRE_COLUMN, FireHistory, RunFire, run_fire
from liteflow.state.run_requests import REQUEST_COLUMN, RunRequest, run_request
from liteflow.state.schema import INSTANCE_VALUES_SQL
from liteflow.state.sqlite_locks import identity
from liteflow.state.state_file import connect_read_only, real_path, translated_errors
from liteflow.state.stored_texts import from_json, is_id, is_task, path_as_named
from liteflow.state.wait_history import WaitHistory
from liteflow.states import Status
from liteflow.values.payload import Payload, payload_from_row, together


class RunRecord(Record, kw_only=False):
    """A run. Times are epoch seconds, UTC. `status` is INTERRUPTED when it is stored as RUNNING and has no owner."""

    run_no: int
    run_id: str
    dag_id: str
    status: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    logical_date: float | None
    parent_run_id: str | None
    params: dict[str, Any]
    graph_digest: str
    source: str | None
    cwd: str | None
    settings: dict[str, Any]
    owner_pid: int | None
    owner_host: str | None
    owner_session: int | None
    resumable: bool
    reason: str | None
    timed_out: bool = False  # it exceeded its timeout
    in_backoff: bool = False  # it failed and starts nothing before its next try
    origin_run_id: str | None = None  # the run that it is a fork of
    selection: list[str] | None = None  # the selected tasks of a partial run
    fire: RunFire | None = None  # of a trigger that started it
    parent_task_id: str | None = None  # of a child run: the task of its parent run
    parent_map_index: int | None = None
    request: RunRequest | None = None  # the last change of it that a person or program requested
    places: Sequence[Any] = ()  # what its owner knows of the machines of its clusters (see `running.machines`)


class UndoRecord(Record, kw_only=False):
    """An attempt whose undo has not succeeded."""

    task_id: str
    map_index: int
    attempt: int
    problem: str | None  # why its undo failed; None: it has not been tried
    host: str | None  # the name of the machine of a cluster on which it ran; None: the machine of the run


class InstanceRecord(NamedTuple):
    """The current state of a task instance, or of a hook that was triggered."""

    task_id: str
    map_index: int
    status: str
    dependencies: list[str]
    timeout: float | None
    try_number: int
    error_log: str | None
    reason: str | None
    started_at: float | None
    ended_at: float | None
    updated_at: float
    map_key: str | None = None  # the label of an instance of a mapped task
    event: str = ""  # of a hook the event that triggered it, or "precondition"; empty for a task
    kind: str = "task"  # or "group", "entry", "hook", "precondition"
    tolerated: bool = False  # it FAILED and counts as a success
    wake_at: float | None = None  # WAITING: when it is polled next, or its next iteration starts; None: by a decision
    settled: bool = False  # a resume leaves it as it is, until the run has ended or for good
    host: str | None = None  # the machine of its last attempt, as `AttemptRecord` has it


class EventRecord(NamedTuple):
    """A change of status, of a run when `task_id` is None."""

    seq: int
    run_id: str
    task_id: str | None
    map_index: int | None
    attempt: int | None
    previous: str | None
    status: str
    reason: str | None
    at: float


class ValueRecord(NamedTuple):
    """A stored value, not decoded."""

    task_id: str
    map_index: int
    key: str
    encoding: str
    size: int
    created_at: float


class FilePosition(NamedTuple):
    """How far a state file goes: what is read later has a greater number."""

    seq: int  # of the last event
    fire_no: int  # of the last fire


class DagRecord(Record, kw_only=False):
    """The metadata of a dag."""

    dag_id: str
    description: str
    source: str | None
    created_at: float
    updated_at: float


_RUN = (
    "SELECT run_no, run_id, dag_id, status, created_at, started_at, ended_at, logical_date, parent_run_id, params, "
    "graph_digest, source, cwd, settings, owner_pid, owner_host, owner_session, resumable, reason, timed_out, "
    f"origin_run_id, selection, {FIRE_COLUMN}, parent_task_id, parent_map_index, {REQUEST_COLUMN}, places "
    "FROM liteflow_dag_runs "
)
_INSTANCE = (
    "SELECT task_id, map_index, status, dependencies, timeout, try_number, error_log, reason, started_at, ended_at, "
    f"updated_at, map_key, hook_events, kind, tolerated, wake_at, settled, {HOST_COLUMN} "
    "FROM liteflow_task_instances WHERE run_id=? "
)


class History(InstanceStateHistory, AttemptHistory, WaitHistory, FireHistory, PoolHistory, OutputHistory):
    """Read-only access to a state file. Use it as a context manager.

    Raises (on opening, and from every method):
        StoreError: there is no such file, or it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = real_path(path)
        self._identity = identity(self.path)
        self._connection = connect_read_only(self.path)
        self._locks = LockFile(self.path, read_only=True)

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        self._locks.close()

    def _rows(self, sql: str, parameters: Sequence[object] = (), kinds: Sequence[Kind] | None = None) -> list[Any]:
        with translated_errors(self.path):
            rows = self._connection.execute(sql, parameters).fetchall()
        if kinds is not None and not all(map(holds, zip(*rows, strict=True), kinds)):
            raise CorruptDatabase(
                f"{self.path}: is damaged (a column holds a value of the wrong type) and was left as it is; "
                "keep a copy, use another --db"
            )
        return rows

    # -- the file as a whole -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[FilePosition]:
        """Let all reads within see one state of the file, and return how far its events and fires go."""
        with translated_errors(self.path):
            self._connection.execute("BEGIN")
        try:
            yield self.position()
        finally:
            with translated_errors(self.path):
                self._connection.execute("COMMIT")

    def position(self) -> FilePosition:
        """Return the numbers of the last event and of the last fire; 0 where there is none."""
        seq = self._rows("SELECT coalesce(max(seq), 0) FROM liteflow_events", (), (INT,))[0][0]
        sql = "SELECT coalesce(max(fire_no), 0) FROM liteflow_fires"
        return FilePosition(seq, self._rows(sql, (), (INT,))[0][0] if self._has("liteflow_fires") else 0)

    def data_version(self) -> int:
        """Return a number that changes with each commit of another connection. It reads no row."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def is_replaced(self) -> bool:
        """Return whether another file, or none, has the path of this one by now."""
        return identity(self.path) != self._identity

    def reopen_locks(self) -> None:
        """Open the lock file again: it is created by the first run, and created again where it was deleted."""
        self._locks.close()
        self._locks = LockFile(self.path, read_only=True)

    def open_runs(self) -> list[tuple[int, str, str, str]]:
        """Return number, id, dag and stored status of the runs that have not ended according to the file."""
        sql = (
            "SELECT run_no, run_id, dag_id, status FROM liteflow_dag_runs "
            "WHERE status IN ('PENDING', 'RUNNING', 'UP_FOR_RETRY') ORDER BY run_no"
        )
        return self._rows(sql, (), (RUN_NO, ID, ID, STATE))

    def run_statistics(self) -> list[tuple[str, str, int, float | None]]:
        """Return dag, stored status, number of runs and their total seconds, for each dag and status.

        It reads the entries of an index, not the rows of the runs.
        """
        sql = (
            "SELECT dag_id, status, count(*), sum(ended_at - started_at) FROM liteflow_dag_runs "
            "GROUP BY status, dag_id ORDER BY dag_id, status"
        )
        return self._rows(sql, (), (ID, STATE, INT, REAL_OR_NOT))

    def running_tasks(self) -> int:
        """Return the number of task instances that run in runs with an owner."""
        alive = [run_id for run_no, run_id, _, _ in self.open_runs() if self.is_owned(run_no)]
        sql = "SELECT count(*) FROM liteflow_task_instances WHERE run_id=? AND status='RUNNING' AND kind='task'"
        return sum(self._rows(sql, (run_id,), (INT,))[0][0] for run_id in alive)

    def is_owned(self, run_no: int) -> bool:
        """Return whether a run has a live owner."""
        return self._locks.is_held(run_no)

    def _has(self, table: str) -> bool:
        """Return whether the file has a table: a reader does not upgrade a file of an older version."""
        return bool(self._rows("SELECT 1 FROM sqlite_schema WHERE name=?", (table,)))

    # -- runs ----------------------------------------------------------------------------------------------

    def runs(
        self,
        dag_id: str | None = None,
        *,
        limit: int = 20,
        before: int | None = None,
        with_children: bool = False,
        matching: RunConditions | None = None,
    ) -> list[RunRecord]:
        """Return runs, the newest first.

        Args:
            dag_id: only runs of this dag.
            limit, before: the most runs, and the `run_no` below which they are: the next page.
            with_children: whether runs that tasks have started are among them.
            matching: further conditions.
        """
        matching = matching or RunConditions()
        conditions = {"dag_id=?": dag_id, "run_no<?": before, **matching.by_columns()}
        where = ["1" if with_children else "parent_run_id IS NULL"]
        where += [condition for condition, value in conditions.items() if value is not None]
        parameters = [value for value in conditions.values() if value is not None]
        if matching.statuses:
            ownerless = [run_no for run_no, *_ in self.open_runs() if not self.is_owned(run_no)]
            condition, values = matching.by_status(ownerless)
            where, parameters = [*where, condition], [*parameters, *values]
        sql = f"{_RUN} WHERE {' AND '.join(where)} ORDER BY run_no DESC LIMIT ?"
        return [self._run(row) for row in self._rows(sql, [*parameters, limit], RUN_KINDS)]

    def children(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[RunRecord]:
        """Return the runs that tasks of a run have started, the oldest first; `after`, a `run_no`, begins a page."""
        return self._related("parent_run_id", run_id, after, limit)

    def forks(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[RunRecord]:
        """Return the forks of a run, the oldest first; `after`, a `run_no`, begins a page."""
        return self._related("origin_run_id", run_id, after, limit)

    def _related(self, column: str, run_id: str, after: int, limit: int | None) -> list[RunRecord]:
        sql = f"{_RUN} WHERE {column}=? AND run_no>? ORDER BY run_no LIMIT ?"
        rows = self._rows(sql, (run_id, after, -1 if limit is None else limit), RUN_KINDS)
        return [self._run(row) for row in rows]

    def run(self, run_id: str) -> RunRecord:
        """Return a run by its id, or by a prefix of its id that no other run has; a child run by a prefix of its own.

        Raises:
            RunNotFound: none or several match.
        """
        runs = self.matching_runs(run_id)
        if not runs:
            raise RunNotFound(f"{self.path}: there is no run {run_id!r}")
        if len(runs) > 1:
            raise RunNotFound(f"{self.path}: more than one run begins with {run_id!r}; give more of it")
        return runs[0]

    def matching_runs(self, run_id: str) -> list[RunRecord]:
        """Return the run with this id, or at most three whose ids begin with it; child runs only without others."""
        rows = self._rows(f"{_RUN} WHERE run_id=?", (run_id,), RUN_KINDS)
        if not rows and run_id:  # a range of ids, which the index answers
            within = (run_id, f"{run_id}\U0010ffff")  # its last letter: SQLite compares bytes
            sql = f"{_RUN} WHERE run_id>=? AND run_id<?"
            rows = self._rows(f"{sql} AND parent_run_id IS NULL LIMIT 3", within, RUN_KINDS)
            rows = rows or self._rows(f"{sql} LIMIT 3", within, RUN_KINDS)
        return [self._run(row) for row in rows]

    def latest(self, dag_id: str | None = None) -> RunRecord:
        """Return the newest run, of one dag or of all.

        Raises:
            RunNotFound: there is none.
        """
        runs = self.runs(dag_id, limit=1)
        if not runs:
            of = f" of {dag_id!r}" if dag_id else ""
            raise RunNotFound(f"{self.path}: there is no run{of} yet")
        return runs[0]

    def last_active(self) -> RunRecord:
        """Return the run that was started or resumed last.

        Raises:
            RunNotFound: there is none.
        """
        sql = f"{_RUN} WHERE parent_run_id IS NULL ORDER BY start_no DESC, run_no DESC LIMIT 1"
        rows = self._rows(sql, (), RUN_KINDS)
        if not rows:
            raise RunNotFound(f"{self.path}: there is no run yet")
        return self._run(rows[0])

    def latest_with(self, task_id: str) -> RunRecord | None:
        """Return the run with a task that was active last, among the last hundred runs and the newest of each dag.

        A search of all runs would take longest when the name is mistyped.
        """
        sql = (
            "WITH recent AS (SELECT run_no FROM "
            "(SELECT run_no FROM liteflow_dag_runs ORDER BY start_no DESC, run_no DESC LIMIT 100) "
            "UNION SELECT (SELECT max(run_no) FROM liteflow_dag_runs r WHERE r.dag_id=d.dag_id) FROM liteflow_dags d) "
            f"{_RUN} JOIN recent USING (run_no) WHERE EXISTS (SELECT 1 FROM liteflow_task_instances i "
            "WHERE i.run_id=liteflow_dag_runs.run_id AND i.task_id=?) ORDER BY start_no DESC, run_no DESC LIMIT 1"
        )
        return next((self._run(row) for row in self._rows(sql, (task_id,), RUN_KINDS)), None)

    def run_count(self, dag_id: str | None = None, *, with_children: bool = False) -> int:
        """Return the number of runs, of one dag or of all. It counts the entries of indexes."""
        sql, of_dag = "SELECT count(*) FROM liteflow_dag_runs", "" if dag_id is None else "dag_id=?"
        parameters = [] if dag_id is None else [dag_id]
        count = int(self._rows(f"{sql} WHERE {of_dag}" if of_dag else sql, parameters, (INT,))[0][0])
        if with_children:
            return count
        # `+` keeps SQLite from reading each run of the dag instead of the few entries of child runs.
        children = f"{sql} WHERE parent_run_id IS NOT NULL" + (f" AND +{of_dag}" if of_dag else "")
        return count - int(self._rows(children, parameters, (INT,))[0][0])

    def _run(self, row: Sequence[Any]) -> RunRecord:
        values = list(row)
        values[9], values[13] = from_json(values[9], {}), from_json(values[13], {})
        values[17], values[19] = bool(values[17]), bool(values[19])
        values[11], values[12] = path_as_named(values[11]), path_as_named(values[12])
        if not isinstance(values[13].get("log_dir"), str | None):
            del values[13]["log_dir"]
        origin, selection, fire, *parent_task, request, places = values[20:]
        selected = None if selection is None else from_json(selection, [])
        values[20:] = [values[3] == "UP_FOR_RETRY", origin, selected, run_fire(fire), *parent_task]
        values += [run_request(request), from_json(places, [])]
        if values[3] == "UP_FOR_RETRY":
            values[3] = "RUNNING"
        record = RunRecord(*values)
        if record.status in ("RUNNING", "PENDING") and not self._locks.is_held(record.run_no):
            # The owner may have ended the run since it was read: read it again before calling it dead.
            again = self._rows(
                "SELECT status, reason, ended_at FROM liteflow_dag_runs WHERE run_no=?",
                (record.run_no,),
                (STATE, TEXT_OR_NOT, REAL_OR_NOT),
            )
            status, reason, ended_at = again[0] if again else (record.status, None, None)
            if status in ("RUNNING", "PENDING", "UP_FOR_RETRY"):
                status, reason = "INTERRUPTED", "its owner died; resume continues it"
            record = replace(record, status=status, reason=reason, ended_at=ended_at)
        elif record.status in ("RUNNING", "PENDING") and self.unknown is not None:
            record = replace(record, reason=self.unknown)
        return record

    @property
    def unknown(self) -> str | None:
        """Why it is unknown which runs have an owner; None when it is known."""
        refused = self._locks.refused
        return None if refused is None else f"whether its owner is alive is unknown: {self._locks.path}: {refused}"

    # -- what belongs to a run -------------------------------------------------------------------------------

    def instances(
        self, run_id: str, *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[InstanceRecord]:
        """Return the task instances of a run by task id and map index: all, or the next ones after an instance."""
        where, parameters = "kind='task'", list[object]([run_id, *(after or ())])
        where += "" if after is None else " AND (task_id, map_index) > (?, ?)"
        sql = f"{_INSTANCE} AND {where} ORDER BY task_id, map_index LIMIT ?"
        rows = self._rows(sql, [*parameters, -1 if limit is None else limit], INSTANCE_KINDS)
        return [_instance(row) for row in rows]

    def labels(self, run_id: str, task_id: str) -> dict[int, str | None]:
        """Return the labels of the instances of a mapped task, by index."""
        sql = (
            "SELECT map_index, map_key FROM liteflow_task_instances "
            "WHERE run_id=? AND task_id=? AND map_index>=0 AND kind='task' ORDER BY map_index"
        )
        return dict(self._rows(sql, (run_id, task_id), (INT, TEXT_OR_NOT)))

    def instance_page(
        self,
        run_id: str,
        task_id: str,
        *,
        statuses: Sequence[str] = (),
        label: str | None = None,
        order: str = "failures",
        offset: int = 0,
        limit: int = 100,
    ) -> list[InstanceRecord]:
        """Return instances of a mapped task, filtered and in an order: `failures` first, by `index`, by `duration`."""
        where, parameters = ["task_id=?", "map_index>=0"], list[object]([run_id, task_id])
        if statuses:
            where.append(f"status IN ({','.join('?' * len(statuses))})")
            parameters += statuses
        if label is not None:
            where.append("instr(coalesce(map_key, ''), ?) > 0")
            parameters.append(label)
        orders = {
            "failures": "status<>'FAILED', status<>'UP_FOR_RETRY', status<>'RUNNING', map_index",
            "index": "map_index",
            "duration": "started_at IS NULL, coalesce(ended_at, updated_at) - started_at DESC, map_index",
        }
        sql = f"{_INSTANCE} AND {' AND '.join(where)} ORDER BY {orders[order]} LIMIT ?,?"
        return [_instance(row) for row in self._rows(sql, [*parameters, offset, limit], INSTANCE_KINDS)]

    def hooks(self, run_id: str) -> list[InstanceRecord]:
        """Return the hooks that were triggered in a run, by id; each depends on its task, those of the run on none."""
        sql = f"{_INSTANCE} AND kind IN ('hook', 'precondition') ORDER BY task_id, map_index"
        return [_instance(row) for row in self._rows(sql, (run_id,), INSTANCE_KINDS)]

    def groups(self, run_id: str) -> list[InstanceRecord]:
        """Return the groups of a run, and the entries of those that have one, by id."""
        sql = f"{_INSTANCE} AND kind IN ('group', 'entry') ORDER BY task_id"
        return list(map(_instance, self._rows(sql, (run_id,), INSTANCE_KINDS)))

    def instance(self, run_id: str, task_id: str, map_index: int = -1) -> InstanceRecord | None:
        rows = self._rows(f"{_INSTANCE} AND task_id=? AND map_index=?", (run_id, task_id, map_index), INSTANCE_KINDS)
        return _instance(rows[0]) if rows else None

    def task_times(self, run_ids: Sequence[str], task_id: str | None = None) -> list[tuple[str, str, float, float]]:
        """Return task id, run id, first start and last end of the tasks that succeeded in some runs."""
        where, parameters = ("", []) if task_id is None else (" AND task_id=?", [task_id])
        sql = (
            "SELECT task_id, run_id, min(started_at), max(ended_at) FROM liteflow_task_instances "
            "WHERE run_id IN (SELECT value FROM json_each(?)) AND kind='task' AND status='SUCCESS' "
            f"AND started_at IS NOT NULL AND ended_at IS NOT NULL{where} GROUP BY task_id, run_id ORDER BY task_id"
        )
        return self._rows(sql, [json.dumps(list(run_ids)), *parameters], (ID, ID, REAL, REAL))

    def tally(self, run_id: str) -> tuple[dict[str, int], dict[str, int]]:
        """Return the number of tasks by status, and that of the instances of mapped tasks."""
        sql = (
            "SELECT map_index >= 0, status, count(*) FROM liteflow_task_instances WHERE run_id=? AND kind='task' "
            "GROUP BY 2, 1"
        )
        rows = self._rows(sql, (run_id,), (INT, STATE, INT))
        tasks = {status: count for of_mapped, status, count in rows if not of_mapped}
        return tasks, {status: count for of_mapped, status, count in rows if of_mapped}

    def counts(self, run_id: str) -> dict[str, int]:
        """Return the number of tasks by status; a mapped task counts once."""
        return self.tally(run_id)[0]

    def events(self, run_id: str | None = None, *, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        """Return the events with a `seq` above `after`, the oldest first."""
        sql = "SELECT seq, run_id, task_id, map_index, attempt, previous, status, reason, at FROM liteflow_events "
        if run_id is None:
            rows = self._rows(f"{sql} WHERE seq>? ORDER BY seq LIMIT ?", (after, limit), EVENT_KINDS)
        else:
            where = "WHERE run_id=? AND seq>? ORDER BY seq LIMIT ?"
            rows = self._rows(f"{sql} {where}", (run_id, after, limit), EVENT_KINDS)
        return [EventRecord(*row) for row in rows]

    def undos(self, run_id: str) -> list[UndoRecord]:
        """Return the attempts of a run whose undo is due or has failed; while the run has an owner also those that run.

        They are sorted by task id, map index and attempt.
        """
        sql = "SELECT task_id, map_index, attempt, problem, host FROM liteflow_undos WHERE run_id=? ORDER BY 1, 2, 3"
        return [UndoRecord(*row) for row in self._rows(sql, (run_id,), (ID, INT, INT, TEXT_OR_NOT, TEXT_OR_NOT))]

    def values(self, run_id: str, task_id: str | None = None) -> list[ValueRecord]:
        """Return the values that a run, or one of its tasks, has stored."""
        sql = "SELECT task_id, map_index, key, encoding, size, created_at FROM liteflow_xcom WHERE run_id=?"
        where, parameters = ("", (run_id,)) if task_id is None else (" AND task_id=?", (run_id, task_id))
        rows = self._rows(f"{sql}{where} ORDER BY task_id, map_index, key", parameters, VALUE_KINDS)
        return [ValueRecord(*row) for row in rows]

    def value_files(self, run_id: str) -> list[tuple[str, int, str]]:
        """Return the files of large values: task id, map index, and the path below the folder of values."""
        sql = "SELECT task_id, map_index, file FROM liteflow_xcom WHERE run_id=? AND file IS NOT NULL"
        return self._rows(sql, (run_id,), (TEXT, INT, TEXT))

    def value(self, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Payload | None:
        """Return a stored value, encoded; of a mapped task without an index the list of its instances' values."""
        select = "SELECT encoding, value, size, file, sha256 FROM liteflow_xcom WHERE run_id=? AND task_id=? AND key=? "
        parameters = (run_id, task_id, key)
        rows = self._rows(f"{select} AND map_index=?", (*parameters, map_index), PAYLOAD_KINDS)
        if rows:
            return payload_from_row(self.path, rows[0])
        if map_index < 0:
            rows = self._rows(INSTANCE_VALUES_SQL, parameters, PAYLOAD_KINDS)
        return together([payload_from_row(self.path, row) for row in rows]) if rows else None

    def graph(self, digest: str) -> dict[str, Any]:
        """Return the snapshot of a definition: `{"tasks": [{"id", "kind", "depends_on", …}]}`.

        An element of the tasks that is not a valid task, as in an altered file, is left out.
        """
        rows = self._rows("SELECT snapshot FROM liteflow_graphs WHERE digest=?", (digest,))
        snapshot: dict[str, Any] = from_json(rows[0][0], {}) if rows else {}
        if not snapshot:
            return {}
        tasks = snapshot.get("tasks")
        return {**snapshot, "tasks": [row for row in tasks if is_task(row)] if isinstance(tasks, list) else []}

    def graph_tasks(self, digest: str) -> list[dict[str, Any]]:
        """Return the tasks of a snapshot."""
        tasks: list[dict[str, Any]] = self.graph(digest).get("tasks", [])
        return tasks

    def overlooked(self, run: RunRecord) -> list[OverlookedFailure]:
        """Return the failures of a run that is SUCCESS, each with the reason why it does not count."""
        if run.status != Status.SUCCESS:
            return []
        columns = "task_id, status, tolerated"
        sql = f"SELECT {columns} FROM liteflow_task_instances WHERE run_id=? AND map_index < 0 AND kind='task'"
        kinds = (TEXT, TEXT, INT)
        failed = self._rows(f"{sql} AND status='FAILED'", (run.run_id,), kinds)
        if not failed:
            return []
        ended = {
            task_id: (status, bool(tolerated)) for task_id, status, tolerated in self._rows(sql, (run.run_id,), kinds)
        }
        return overlooked(self.graph_tasks(run.graph_digest), ended)

    # -- dags ------------------------------------------------------------------------------------------------

    def dags(self, limit: int | None = None) -> list[DagRecord]:
        """Return all dags, or those that were started last, ordered by id."""
        sql = (
            "SELECT * FROM (SELECT dag_id, description, source, created_at, updated_at FROM liteflow_dags "
            "ORDER BY updated_at DESC, dag_id LIMIT ?) ORDER BY dag_id"
        )
        return [_dag(row) for row in self._rows(sql, (-1 if limit is None else limit,), DAG_KINDS)]

    def dag_count(self) -> int:
        """Return the number of dags."""
        return int(self._rows("SELECT count(*) FROM liteflow_dags", (), (INT,))[0][0])

    def dag(self, dag_id: str) -> DagRecord | None:
        sql = "SELECT dag_id, description, source, created_at, updated_at FROM liteflow_dags WHERE dag_id=?"
        return next((_dag(row) for row in self._rows(sql, (dag_id,), DAG_KINDS)), None)

    def run_ids(self, dag_id: str) -> Iterator[str]:
        """Return the ids of the runs of a dag."""
        sql = "SELECT run_id FROM liteflow_dag_runs WHERE dag_id=?"
        return (row[0] for row in self._rows(sql, (dag_id,), (ID,)))


def _instance(row: Sequence[Any]) -> InstanceRecord:
    values = list(row)
    values[3] = [] if values[3] == "[]" else [each for each in from_json(values[3], []) if is_id(each)]
    values[12] = "" if values[12] is None else _event(values[12])
    values[14], values[16] = bool(values[14]), bool(values[16])
    return InstanceRecord(*values)


def _event(events: str) -> str:
    """Return the event that triggered a hook; the text may have been altered."""
    first = next(iter(from_json(events, [])), None)
    event = first[0] if isinstance(first, list) and first else None
    return event if isinstance(event, str) else ""


def _dag(row: Sequence[Any]) -> DagRecord:
    dag_id, description, source, *times = row
    return DagRecord(dag_id, description, path_as_named(source), *times)


__all__ = [
    "AttemptRecord",
    "DagRecord",
    "EventRecord",
    "FilePosition",
    "History",
    "InstanceRecord",
    "LastAttempts",
    "RunRecord",
    "ValueRecord",
]
