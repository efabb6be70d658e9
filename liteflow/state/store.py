"""The writes of the process that owns a run: to create it, take it over, commit a turn of the loop, and retry it.

The loop is the only writer of a run: it collects what happened in a `WriteBatch` and commits it as one transaction. The
start of an attempt is stored before the attempt starts, and its verdict before anything follows from it, because the
loop starts nothing and notifies no observer until `commit` has returned. When SQLite refuses (locked, full disk), the
batch stays and the commit is repeated: no verdict is lost, and no false status is stored.

Statuses and events are written by `transitions` alone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from liteflow.errors import OwnerDied, RunNotFound, RunOwned, StaleRun, StoreError
from liteflow.gc_pause import gc_paused
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.state import transitions
from liteflow.state.leases import seconds_left
from liteflow.state.locks import LockFile
from liteflow.state.new_run import insert_graph, insert_run
from liteflow.state.parking import BUSY_FAMILY_SQL, DUE_CHILD_RUNS_SQL
from liteflow.state.pools import SlotAllocator
from liteflow.state.process_identity import boot_id, start_ticks
from liteflow.state.records import (
    NO_SHARED_LIMITS,
    AttemptKey,
    ChooseResets,
    DueUndo,
    NewInstance,
    NewRun,
    Previous,
    PreviousHook,
    PreviousInstance,
    PreviousState,
    PreviousWait,
    Request,
    SharedLimits,
)
from liteflow.state.resets import RESUME, ResetRules, previous_results, set_back, skip_new_tasks
from liteflow.state.run_requests import record_request
from liteflow.state.schema import INSTANCE_VALUES_SQL
from liteflow.state.sqlite_locks import Identity, SqliteLocks
from liteflow.state.state_file import (
    ENDS,
    WRITE_LOCK,
    Transaction,
    checkpoint_wal,
    connect,
    explain,
    files_of,
    translated_errors,
)
from liteflow.state.transitions import RunKey
from liteflow.state.write_batch import WriteBatch
from liteflow.states import RUN_ENDED
from liteflow.values.payload import Payload, payload_from_row
from liteflow.work import HostId

_SYNC_EVERY_S: Final = 1.0  # at most so much is lost to a power cut; nothing to a crash
_NEXT_START: Final = "(SELECT coalesce(max(seq), 0) + 1 FROM liteflow_events)"  # the `start_no` of a start or resume
_COMMIT_RETRY_S: Final = 60.0  # how long a commit is repeated before the run is given up


class _LockedRun(Record):
    """The row of a run that this process has locked, to resume it."""

    run_no: int
    epoch: int
    status: str
    graph: str  # the digest
    session: int | None  # of the last owner
    settings: str  # JSON
    had_owner: bool  # whether it has had an owner


class Store:
    """The one writer of one run. For use from one thread.

    Args:
        path: the state file, absolute.
        locks: its lock file, opened before any process was forked, so that the guardian holds the run too.
        durability: `process` survives any crash of programs, and may lose the last second to a power cut;
            `power` syncs every commit.
    """

    def __init__(self, path: str, locks: LockFile, durability: str = "process") -> None:
        self.path = path
        self.run_id = ""
        self._locks = locks
        self._data_version: int | None = None
        self.batch: WriteBatch  # of the run that is created or claimed
        self.queue_reason: str | None = None  # why the run may not start yet
        self._connection = connect(path)
        self._sync = _Syncing(self._connection, path, locks, always=durability == "power")
        self._file = _OpenFile(path, self._connection, locks)

    # -- becoming the owner --------------------------------------------------------------------------------

    def create(
        self, run: NewRun, session: int | None = None, limits: SharedLimits = NO_SHARED_LIMITS
    ) -> Mapping[str, Mapping[int, PreviousInstance]]:
        """Store a new run as owned by this process. Its tasks are PENDING, unless they are done or not selected.

        The run is RUNNING, or PENDING when its group has no free slot: then `queue_reason` says why (see
        `enter_group`). Returns the instances of mapped tasks that were copied from another run, by index.

        Raises:
            DefinitionError: a task needs more slots than a pool has; nothing was stored.
            GroupBusy, RunSkipped: its group has no free slot, and the run does not wait for one; nothing was stored.
        """
        now = time.time()
        with translated_errors(self.path), gc_paused(), Transaction(self._connection, self._locks):
            key = insert_run(self._connection, self.path, run, now)
            self._set_owner(key, 1, session)
            self._declare_shared_limits(limits, now)
            self._begin(None, None, now)
            transitions.add_tasks(self._connection, run.run_id, run.instances, now)
            transitions.record_unselected(self._connection, run.run_id, run.unselected, now)
            if run.copied is not None:
                transitions.copy_results(self._connection, run.run_id, run.copied, now)
            transitions.record_checkpoint(self._connection, run.run_id, 1, run.done, now)
            return {} if run.copied is None else previous_results(self._connection, run.run_id)[1]

    def claim(
        self,
        run_id: str,
        instances: Iterable[NewInstance],
        graph: tuple[str, str],
        session: int | None = None,
        limits: SharedLimits = NO_SHARED_LIMITS,
        rules: ResetRules = RESUME,
        settings: Mapping[str, Any] = EMPTY_MAPPING,
        dead_s: float = 0.0,
    ) -> tuple[dict[str, PreviousState], dict[str, dict[int, PreviousInstance]], int | None]:
        """Become the owner of a run that has ended or whose owner is dead, to resume it.

        An attempt that was RUNNING or QUEUED is recorded as LOST. All that runs again goes back to PENDING
        (see `resets`). `instances` and `graph` (digest, snapshot) are those of
        the current definition; the first are iterated only when the second has changed. `settings` override those that
        the run has. A dead owner has been dead for at least `dead_s` seconds.
        Returns what the run has of each task and of the instances of mapped tasks by index, and the session of the last
        owner (see `processes.tree`).

        Raises:
            RunNotFound: there is no such run.
            RunOwned: a live process owns it; the message names that.
            OwnerDied: the owner is dead, and attempts that it has started may still run.
            As `create` otherwise.
        """
        now = time.time()
        with translated_errors(self.path), gc_paused(), Transaction(self._connection, self._locks):
            execute = self._connection.execute
            run = self._locked_run(run_id, dead_s)
            status = run.status
            insert_graph(self._connection, *graph)
            execute(
                f"UPDATE liteflow_dag_runs SET epoch=?, graph_digest=?, settings=?, start_no={_NEXT_START}, "
                "timed_out=0, outputs=NULL, places=NULL WHERE run_no=?",
                (run.epoch + 1, graph[0], _merged(run.settings, settings), run.run_no),
            )
            key = RunKey(run.run_no, run_id)
            self._set_owner(key, run.epoch + 1, session)
            self._slots.clear(group=True)
            self._declare_shared_limits(limits, now)
            if status not in RUN_ENDED:
                transitions.change_run(self._connection, key, status, "INTERRUPTED", now, reason="its owner died")
                status = "INTERRUPTED"
            self._begin(status, rules.reason, now)
            if run.had_owner:  # else a fork begins: it was requested before
                record_request(self._connection, run_id, "retry" if rules.rerun else "resume", now)
            transitions.record_lost(self._connection, run_id, run.epoch, now)
            tasks, mapped = set_back(self._connection, run_id, status, rules, now)
            self._load_rounds()
            if graph[0] != run.graph:
                transitions.add_tasks(self._connection, run_id, instances, now)
                skip_new_tasks(self._connection, run_id, tasks, now)
        return tasks, mapped, run.session

    def _locked_run(self, run_id: str, dead_s: float) -> _LockedRun:
        """Lock a run whose owner has ended, and return its row; see `claim` for the errors."""
        row = self._connection.execute(
            "SELECT run_no, epoch, status, graph_digest, owner_session, settings, owner_pid, owner_host, owner_start, "
            "owner_boot FROM liteflow_dag_runs WHERE run_id=?",
            (run_id,),
        ).fetchone()
        if row is None:
            raise RunNotFound(f"{self.path}: there is no run {run_id!r}")
        run_no, epoch, status, graph, session, settings, pid, host, start, boot = row
        run = _LockedRun(
            run_no=run_no,
            epoch=epoch,
            status=status,
            graph=graph,
            session=session,
            settings=settings,
            had_owner=pid is not None,
        )
        if not self._locks.acquire(run.run_no):
            if (host, boot) == (os.uname().nodename, boot_id()) and start_ticks(pid) != start:
                raise OwnerDied(f"run {run_id}: its owner, process {pid}, is dead, but its tasks still end")
            raise RunOwned(f"run {run_id} is owned by process {pid} on {host}, which is still running")
        if run.status == "DELETED":
            self._locks.release(run.run_no)
            raise RunNotFound(f"{self.path}: run {run_id!r} is deleted; delete it again to remove what is left")
        if run.status not in RUN_ENDED:
            lease_s = seconds_left(run.settings, host, boot) - dead_s
            if lease_s > 0 and transitions.has_open_attempt(self._connection, run_id):
                self._locks.release(run.run_no)
                raise OwnerDied(f"run {run_id}: its owner is dead, but its tasks on clusters still end", lease_s)
        return run

    def _set_owner(self, run: RunKey, epoch: int, session: int | None) -> None:
        if not self._locks.acquire(run.run_no):
            raise RunOwned(f"run {run.run_id} is owned by another process, which is still running")
        self.run_id, self._run, self._epoch = run.run_id, run, epoch
        self.batch = WriteBatch(self.path, run, epoch)
        self._slots = SlotAllocator(self._connection, self._locks, run.run_no, run.run_id)
        self._connection.execute(
            "UPDATE liteflow_dag_runs SET owner_pid=?, owner_start=?, owner_boot=?, owner_host=?, owner_session=? "
            "WHERE run_no=?",
            (os.getpid(), start_ticks(), boot_id(), os.uname().nodename, session, run.run_no),
        )

    # -- what the run shares with others -------------------------------------------------------------------

    def _declare_shared_limits(self, limits: SharedLimits, now: float) -> None:
        """Declare the pools, and request a slot of the group: without one the run has to wait."""
        self._slots.declare(limits.pools, limits.needs, now)
        group = limits.concurrency
        self.queue_reason = None if group is None else self._slots.request_group_slot(group, now)

    def _begin(self, previous: str | None, note: str | None, now: float) -> None:
        """Make the run RUNNING, or PENDING while it is queued for its group."""
        status = "RUNNING" if self.queue_reason is None else "PENDING"
        transitions.change_run(self._connection, self._run, previous, status, now, reason=self.queue_reason, note=note)
        self.batch.transitions.run_status = status

    def enter_group(self) -> bool:
        """Request a slot of the group again. Returns whether the run, which waited for it, is RUNNING now."""
        now = time.time()
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            if not self._slots.take_group_slot():
                return False
            self.queue_reason = None
            self._begin("PENDING", None, now)
        return True

    def slots_changed(self) -> bool:
        """Return whether to ask again for slots that were refused, of pools or of the group."""
        return self._slots.changed()

    # -- retrying the whole run ----------------------------------------------------------------------------

    def retry_count(self) -> int:
        """Return how often the run has been retried as a whole, since it was started or was resumed after its end."""
        with translated_errors(self.path):
            row = self._connection.execute(
                "SELECT count(*) FROM liteflow_events WHERE run_id=?1 AND task_id IS NULL AND status='UP_FOR_RETRY' "
                "AND seq > coalesce((SELECT max(seq) FROM liteflow_events WHERE run_id=?1 AND task_id IS NULL "
                "AND status IN ('FAILED', 'CANCELLED', 'SUCCESS')), 0)",
                (self.run_id,),
            ).fetchone()
        return int(row[0])

    def retry_run(self, reason: str, choose: ChooseResets | None = None) -> Previous:
        """Set a run that has failed back for another try after a back-off: successes stay as in `claim`."""
        now = time.time()
        with translated_errors(self.path), gc_paused(), Transaction(self._connection, self._locks):
            self._change_run("UP_FOR_RETRY", now, reason=reason)
            self._slots.clear(group=False)
            rules = ResetRules(reason="the run is retried", choose=choose)
            previous = set_back(self._connection, self.run_id, "RUNNING", rules, now)
            self._load_rounds()
        return previous

    def end_backoff(self) -> None:
        """End the back-off before another try of the run."""
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            self._change_run("RUNNING", time.time(), note="tried again")

    def interrupt(self, reason: str) -> None:
        """Record that this process cannot continue the run, whose tasks have all been ended; a resume continues it."""
        execute = self._connection.execute
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            sql = "SELECT epoch, status FROM liteflow_dag_runs WHERE run_no=?"
            row = execute(sql, (self._run.run_no,)).fetchone()
            epoch, status = row or (None, "")  # a run that could not be stored is not there
            if epoch == self._epoch and status not in RUN_ENDED:
                transitions.change_run(self._connection, self._run, status, "INTERRUPTED", time.time(), reason=reason)
                self._slots.clear(group=True)

    def _change_run(self, status: str, now: float, *, reason: str | None = None, note: str | None = None) -> None:
        previous = self.batch.transitions.run_status
        transitions.change_run(self._connection, self._run, previous, status, now, reason=reason, note=note)
        self.batch.transitions.run_status = status

    def _load_rounds(self) -> None:
        rows = self._connection.execute(
            "SELECT task_id, map_index, round FROM liteflow_task_instances WHERE run_id=? AND round>0", (self.run_id,)
        )
        self.batch.rounds = {(task_id, map_index): number for task_id, map_index, number in rows}

    # -- one turn of the loop ------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write all that was buffered as one transaction; returns when it is durable against a crash.

        Raises:
            StaleRun: another process has taken the run over; nothing was written.
            StoreError, ResourceError: SQLite refused for a minute; nothing was written.
        """
        self.check_file()
        started = time.monotonic()
        pause = 0.05
        while True:
            try:
                self._sync.choose(time.monotonic(), ends_run=self.batch.transitions.run_end is not None)
                with Transaction(self._connection, self._locks):
                    self._write()
                break
            except sqlite3.OperationalError as error:
                if time.monotonic() - started > _COMMIT_RETRY_S:
                    raise explain(error, self.path) from None
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise explain(error, self.path) from None
        self._sync.committed()
        self.batch.clear()

    def _write(self) -> None:
        sql = "SELECT epoch FROM liteflow_dag_runs WHERE run_no=?"
        if self._connection.execute(sql, (self._run.run_no,)).fetchone() != (self._epoch,):
            raise StaleRun(f"run {self.run_id} was taken over by another process; this one stops")
        self.batch.write(self._connection, self._slots)

    def sync_if_idle(self) -> None:
        """Sync what was committed, when nothing has been committed for a while; call it between turns."""
        try:
            self._sync.sync_if_idle(self._run.run_no)
        except sqlite3.OperationalError:
            return  # locked, or a full disk: the next commit reports it, if it lasts
        except sqlite3.Error as error:
            raise explain(error, self.path) from None

    def check_file(self) -> None:
        """Check that the state file and its write-ahead log are still where they were.

        Nothing can read what is written to a deleted file.

        Raises:
            StoreError: one of them was deleted, moved or replaced.
        """
        self._file.check()

    def renew_lock(self) -> None:
        """Keep the run owned when the lock file was deleted.

        Raises:
            StaleRun: another process has taken the run over meanwhile.
        """
        if not self._locks.renew():
            raise StaleRun(f"run {self.run_id} was taken over by another process; this one stops")

    # -- requests, and reading back ------------------------------------------------------------------------

    def requests(self) -> list[Request]:
        """Return the open requests for this run, oldest first. Cheap when no other process has written since."""
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version == self._data_version:
                return []
            rows = self._connection.execute(
                "SELECT request_no, action, detail FROM liteflow_requests "
                "WHERE run_id=? AND handled_at IS NULL ORDER BY request_no",
                (self.run_id,),
            ).fetchall()
        except sqlite3.OperationalError:
            return []  # locked at the moment: the next call returns them
        except sqlite3.Error as error:
            raise explain(error, self.path) from None
        self._data_version = version
        return [Request(*row) for row in rows]

    def value(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Payload | None:
        """Return a stored value of this run, encoded."""
        with translated_errors(self.path):
            row = self._connection.execute(
                "SELECT encoding, value, size, file, sha256 FROM liteflow_xcom "
                "WHERE run_id=? AND task_id=? AND map_index=? AND key=?",
                (self.run_id, task_id, map_index, key),
            ).fetchone()
        return None if row is None else payload_from_row(self.path, row)

    def values(self, task_id: str, key: str) -> list[Payload]:
        """Return what the instances of a mapped task have stored, in the order of its list, encoded."""
        with translated_errors(self.path):
            rows = self._connection.execute(INSTANCE_VALUES_SQL, (self.run_id, task_id, key)).fetchall()
        return [payload_from_row(self.path, row) for row in rows]

    def hooks(self) -> list[PreviousHook]:
        """Return the hooks that were triggered in this run."""
        with translated_errors(self.path):
            rows = self._connection.execute(
                "SELECT task_id, map_index, status, try_number, hook_events FROM liteflow_task_instances "
                f"WHERE run_id=? AND {transitions.IS_HOOK}",
                (self.run_id,),
            ).fetchall()
        return [PreviousHook(*row) for row in rows]

    def waits(self) -> list[PreviousWait]:
        """Return the instances of this run that wait."""
        with translated_errors(self.path):
            rows = self._connection.execute(
                "SELECT task_id, map_index, try_number, handle, wake_at, started_at, reason, log_path "
                "FROM liteflow_task_instances WHERE run_id=? AND status='WAITING'",
                (self.run_id,),
            ).fetchall()
        names = ("task_id", "map_index", "attempt", "handle", "wake_at", "started_at", "reason", "log_path")
        return [PreviousWait(**dict(zip(names, row, strict=True))) for row in rows]

    def is_family_busy(self) -> bool:
        """Return whether a task runs, or will soon, in this run, a run above it, or a child run of one of those."""
        with translated_errors(self.path):
            return self._connection.execute(BUSY_FAMILY_SQL, (self.run_id,)).fetchone() is not None

    def due_child_runs(self, run_ids: Collection[str]) -> set[str]:
        """Return which of these parked child runs can continue: a person has decided, or another process ran them."""
        with translated_errors(self.path):
            rows = self._connection.execute(DUE_CHILD_RUNS_SQL, (json.dumps([*run_ids]),)).fetchall()
        return {run_id for (run_id,) in rows}

    def instance_values(self, task_id: str, map_index: int) -> dict[str, Payload]:
        """Return the stored values of a task instance by key, encoded."""
        with translated_errors(self.path):
            rows = self._connection.execute(
                "SELECT key, encoding, value, size, file, sha256 FROM liteflow_xcom "
                "WHERE run_id=? AND task_id=? AND map_index=?",
                (self.run_id, task_id, map_index),
            ).fetchall()
        return {key: payload_from_row(self.path, row) for key, *row in rows}

    def iterations(self, task_id: str, map_index: int) -> tuple[int, float | None]:
        """Return how many iterations of an instance have ended in its round, and when the first began."""
        with translated_errors(self.path):
            row = self._connection.execute(
                "SELECT count(*), min(started_at) FROM liteflow_attempts WHERE run_id=? AND task_id=? AND map_index=? "
                "AND status='REPEATED' AND round=?",
                (self.run_id, task_id, map_index, self.batch.rounds.get((task_id, map_index), 0)),
            ).fetchone()
        return int(row[0]), row[1]

    def due_undos(self) -> list[DueUndo]:
        """Return the attempts of this run whose undo is due."""
        with translated_errors(self.path):
            rows = self._connection.execute(
                "SELECT task_id, map_index, attempt, status, coalesce(try_number, 0), undos.host, boot "
                "FROM liteflow_undos undos LEFT JOIN liteflow_task_instances USING (run_id, task_id, map_index) "
                "WHERE run_id=?",
                (self.run_id,),
            ).fetchall()
        return [
            DueUndo(
                AttemptKey(*row[:3]), row[3], row[4], ran_on=None if row[5] is None else HostId(row[5], row[6] or "")
            )
            for row in rows
        ]

    def next_free_index(self, task_id: str) -> int:
        """Return the first index that no instance of a mapped task has had in this run."""
        with translated_errors(self.path):
            (last,) = self._connection.execute(
                "SELECT max(map_index) FROM liteflow_attempts WHERE run_id=? AND task_id=?", (self.run_id, task_id)
            ).fetchone()
        return 0 if last is None else max(0, int(last) + 1)

    def close(self) -> None:
        """Close the connection. The lock of the run is freed with the lock file, when the guardian is gone too."""
        self._file.release()
        self._connection.close()


class _Syncing:
    """Which commits are synced to the disk: always that of the run's end, else one in each second."""

    def __init__(self, connection: sqlite3.Connection, path: str, locks: LockFile, *, always: bool) -> None:
        self._connection, self._path, self._locks = connection, path, locks
        self._always = always
        self._synced_at = time.monotonic()
        self._syncing = False  # whether the connection syncs its commits
        self._unsynced = False  # whether anything was committed since the last sync

    def choose(self, now: float, *, ends_run: bool) -> None:
        """Decide whether the next commit is synced."""
        sync = self._always or ends_run or now - self._synced_at >= _SYNC_EVERY_S
        if sync != self._syncing:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
            self._syncing = sync
        if sync:
            self._synced_at = now
            checkpoint_wal(self._connection, self._path, self._locks)

    def committed(self) -> None:
        """Note that a transaction was committed."""
        self._unsynced = not self._syncing

    def sync_if_idle(self, run_no: int) -> None:
        """Sync what was committed, when the last sync was a while ago."""
        now = time.monotonic()
        if not self._unsynced or now - self._synced_at < _SYNC_EVERY_S:
            return
        self.choose(now, ends_run=False)
        # Only a commit that writes syncs the log. SQLite does not write an UPDATE that changes nothing, so raise the
        # epoch and lower it again.
        with Transaction(self._connection, self._locks):
            for sign in "+-":
                self._connection.execute(f"UPDATE liteflow_dag_runs SET epoch=epoch{sign}1 WHERE run_no=?", (run_no,))
        self._unsynced = False


class _OpenFile:
    """The files of a state file that is open for writing, and SQLite's locks on them."""

    def __init__(self, path: str, connection: sqlite3.Connection, locks: LockFile) -> None:
        self._path, self._connection, self._locks = path, connection, locks
        self._sqlite_locks = SqliteLocks(path)
        self._files = files_of(path)
        self._may_checkpoint_on_close = True  # whether SQLite may checkpoint when it closes the file

    def check(self) -> None:
        """Check that the files are those that were opened. Raises StoreError."""
        current = files_of(self._path)
        if current != self._files:
            self._stop_writing(current)

    def _stop_writing(self, current: Sequence[Identity | None]) -> NoReturn:
        """Store what a deleted write-ahead log holds, if no other process has made a new one, and raise StoreError."""
        end, opened = next((end, old) for end, old, new in zip(ENDS, self._files, current, strict=True) if old != new)
        what = f"{self._path}{end}: was deleted, moved or replaced while a run used it; the run was stopped. "
        if current[0] != self._files[0]:
            raise StoreError(f"{what}Put the file back and resume the run, or start a new one")
        assert opened is not None
        self._may_checkpoint_on_close = all(new in (old, None) for old, new in zip(self._files, current, strict=True))
        if self._may_checkpoint_on_close and self._locks.acquire_within(WRITE_LOCK, 1.0):
            try:
                self._connection.execute("PRAGMA wal_checkpoint(FULL)")
                raise StoreError(f"{what}Its content is in {self._path} now; resume the run")
            except sqlite3.Error:
                pass
            finally:
                self._locks.release(WRITE_LOCK)
        raise StoreError(f"{what}The last changes may be missing; resume the run")

    def release(self) -> None:
        """Release SQLite's locks, before the connection is closed."""
        self._sqlite_locks.release(may_checkpoint=self._may_checkpoint_on_close)


def _merged(stored: str, changed: Mapping[str, Any]) -> str:
    """Return stored settings (JSON) with changes; settings that were altered and cannot be read are replaced."""
    if not changed:
        return stored
    try:
        settings = json.loads(stored)
    except (ValueError, RecursionError):
        settings = {}
    return json.dumps({**(settings if isinstance(settings, dict) else {}), **changed})
