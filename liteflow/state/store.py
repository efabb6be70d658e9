"""Every write to the state file, one transaction each. Nothing else in the engine says INSERT or UPDATE, save `batch`.

The loop is the only writer of a run: it collects what happened in a `batch` and then commits it all at once. Intent
comes before effect and verdict before consequence because the loop starts nothing and tells nobody until `commit` has
returned. If SQLite refuses (locked, full disk), the turn stays and the commit is tried again: a verdict is never lost
to a bad moment, and never turns into a false state.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii as _quoted
from typing import Final, NoReturn

from liteflow.errors import OwnerDied, RunNotFound, RunOwned, StaleRun, StoreError
from liteflow.gc_pause import gc_paused
from liteflow.state.locks import LockFile
from liteflow.state.owner import boot_id, start_ticks
from liteflow.state.pools import SlotAllocator
from liteflow.state.records import (
    NO_SHARED_LIMITS,
    NewInstance,
    NewRun,
    PreviousHook,
    PreviousInstance,
    PreviousState,
    Request,
    SharedLimits,
)
from liteflow.state.schema import VALUES_OF_INSTANCES
from liteflow.state.sqlite_locks import Identity, SqliteLocks
from liteflow.state.state_file import (
    ENDS,
    WRITE_LOCK,
    Transaction,
    checkpoint_wal,
    connect,
    current_folder,
    explain,
    files_of,
    translated_errors,
)
from liteflow.state.write_batch import WriteBatch
from liteflow.values.payload import Payload, payload_from_row

_SYNC_EVERY_S: Final = 1.0  # at most so much is lost to a power cut; nothing to a crash
_NEXT: Final = "(SELECT coalesce(max(seq), 0) + 1 FROM liteflow_events)"  # a start's or a resume's `begun`
_PATIENCE_S: Final = 60.0  # how long a commit is tried again before the run is given up


class Store:
    """The one writer of one run. Used from one thread.

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
        self._run_no = 0
        self._epoch = 0
        self._always_sync = durability == "power"
        self._synced_at = time.monotonic()
        self._syncing = False
        self._unsynced = False  # was anything committed since the last sync?
        self._data_version: int | None = None
        self.batch: WriteBatch  # of the run that is created or claimed
        self.queue_reason: str | None = None  # for what, where the run may not begin yet
        self._connection = connect(path)
        self._sqlite_locks = SqliteLocks(path)
        self._files = files_of(path)
        self._fold = True  # may SQLite fold up the write-ahead log when it closes the file?

    # -- becoming the owner --------------------------------------------------------------------------------

    def create(self, run: NewRun, session: int | None = None, bounds: SharedLimits = NO_SHARED_LIMITS) -> None:
        """Store a new run as owned by this process, with all its task instances PENDING.

        It is RUNNING, or PENDING where its group has no place for it yet: `queue_reason` says so (see `enter_group`).

        Raises:
            DefinitionError: a task needs more slots than a pool has; nothing was stored.
            GroupBusy, RunSkipped: its group has no place, and it shall not wait for one; nothing was stored.
        """
        now = time.time()
        with translated_errors(self.path), gc_paused(), Transaction(self._connection, self._locks):
            execute = self._connection.execute
            execute(
                "INSERT INTO liteflow_dags VALUES (?,?,?,?,?) ON CONFLICT (dag_id) DO UPDATE SET "
                "description=excluded.description, source=excluded.source, updated_at=excluded.updated_at",
                (run.dag_id, run.description, run.source, now, now),
            )
            execute("INSERT OR IGNORE INTO liteflow_graphs VALUES (?,?)", (run.graph_digest, run.graph_snapshot))
            try:
                cursor = execute(
                    "INSERT INTO liteflow_dag_runs (run_id, dag_id, status, created_at, started_at, logical_date, "
                    "parent_run_id, params, graph_digest, source, cwd, settings, epoch, begun) "
                    f"VALUES (?,?,'RUNNING',?,?,?,?,?,?,?,?,?,1,{_NEXT})",
                    (
                        run.run_id,
                        run.dag_id,
                        now,
                        now,
                        run.logical_date,
                        run.parent_run_id,
                        json.dumps(dict(run.params), default=str),
                        run.graph_digest,
                        run.source,
                        current_folder(),
                        json.dumps(dict(run.settings)),
                    ),
                )
            except sqlite3.IntegrityError:
                raise StoreError(f"{self.path}: there is a run {run.run_id!r} already; choose another run id") from None
            self._own(run.run_id, int(cursor.lastrowid or 0), 1, session)
            self._bound(bounds, now)
            self._insert_instances(run.instances, now)
            if self.queue_reason is None:
                self._insert_event(None, "RUNNING", now, None)
            self._insert_done(run.done, now)

    def claim(
        self,
        run_id: str,
        instances: Iterable[NewInstance],
        graph: tuple[str, str],
        session: int | None = None,
        bounds: SharedLimits = NO_SHARED_LIMITS,
    ) -> tuple[dict[str, PreviousState], dict[str, dict[int, PreviousInstance]], int | None]:
        """Become the owner of a run that ended or whose owner died, to go on with it.

        What was RUNNING or QUEUED is recorded as LOST; successes, and tasks that skipped themselves, are kept; all else
        goes back to PENDING. `instances` and `graph` (digest, snapshot) are of the definition as it is now; the first
        are walked only where the second has changed.
        Returns what the run has of each task that it knows, what it has of the instances of mapped ones by index, and
        the last owner's session (see `processes.tree`).

        Raises:
            RunNotFound: there is no such run.
            RunOwned: a live process owns it; the message says which.
            As `create` otherwise.
        """
        now = time.time()
        with translated_errors(self.path), gc_paused(), Transaction(self._connection, self._locks):
            execute = self._connection.execute
            row = execute(
                "SELECT run_no, epoch, status, owner_pid, owner_host, graph_digest, owner_session, owner_start, "
                "owner_boot FROM liteflow_dag_runs WHERE run_id=?",
                (run_id,),
            ).fetchone()
            if row is None:
                raise RunNotFound(f"{self.path}: there is no run {run_id!r}")
            run_no, epoch, status, pid, host, old_graph, before, start, boot = row
            if not self._locks.acquire(run_no):
                if (host, boot) == (os.uname().nodename, boot_id()) and start_ticks(pid) != start:
                    raise OwnerDied(f"run {run_id}: its owner, process {pid}, is dead, but its tasks still end")
                raise RunOwned(f"run {run_id} is owned by process {pid} on {host}, which is still at work")
            execute("INSERT OR IGNORE INTO liteflow_graphs VALUES (?,?)", graph)
            execute(
                "UPDATE liteflow_dag_runs SET status='RUNNING', started_at=coalesce(started_at, ?), ended_at=NULL, "
                f"reason=NULL, epoch=?, graph_digest=?, begun={_NEXT} WHERE run_no=?",
                (now, epoch + 1, graph[0], run_no),
            )
            self._own(run_id, run_no, epoch + 1, session)
            if status in ("RUNNING", "PENDING"):
                self._insert_event(status, "INTERRUPTED", now, "its owner died")
                status = "INTERRUPTED"
            self._slots.clear(place=True)
            self._bound(bounds, now, status)
            if self.queue_reason is None:
                self._insert_event(status, "RUNNING", now, "resumed")
            # A mapped task as a whole is RUNNING, too, but what runs is its instances: it has no attempts.
            # Queued attempts may have started: their executor starts them as soon as a slot is free.
            running = (
                "FROM liteflow_task_instances WHERE run_id=? AND status IN ('RUNNING', 'QUEUED') AND try_number > 0"
            )
            execute(
                "INSERT INTO liteflow_events (run_id, task_id, map_index, attempt, previous, status, reason, at) "
                f"SELECT run_id, task_id, map_index, try_number, status, 'LOST', 'its owner died', ? {running}",
                (now, run_id),
            )
            execute(
                "INSERT INTO liteflow_attempts (run_id, task_id, map_index, attempt, status, epoch, started_at, "
                "ended_at, error, log_path) SELECT run_id, task_id, map_index, try_number, 'LOST', ?, "
                f"coalesce(started_at, updated_at), ?, 'its owner died', log_path {running}",
                (epoch, now, run_id),
            )
            kept, mapped = self._reset(now)
            if graph[0] != old_graph:
                self._insert_instances(instances, now)
        return kept, mapped, before

    def _reset(self, now: float) -> tuple[dict[str, PreviousState], dict[str, dict[int, PreviousInstance]]]:
        """All but what succeeded, or skipped itself, goes back to PENDING. Returns what there is, as `claim` does."""
        execute, run_id = self._connection.execute, self.run_id
        execute(
            "UPDATE liteflow_task_instances AS one SET status='PENDING', reason=NULL, error_log=NULL, ended_at=NULL, "
            "updated_at=? WHERE run_id=? AND NOT (status='SUCCESS' OR (status='SKIPPED' AND EXISTS ("
            "SELECT 1 FROM liteflow_attempts AS last WHERE (last.run_id, last.task_id, last.map_index, last.attempt)="
            "(one.run_id, one.task_id, one.map_index, one.try_number) AND last.status='SKIPPED'))) "
            "AND (told IS NULL OR status IN ('RUNNING', 'QUEUED', 'UP_FOR_RETRY'))",  # hooks that have ended stay so
            (now, run_id),
        )
        sql = "SELECT task_id, status, try_number FROM liteflow_task_instances WHERE run_id=? AND told IS NULL"
        kept = {
            task_id: PreviousState(status, retry_count)
            for task_id, status, retry_count in execute(f"{sql} AND map_index < 0", (run_id,))
        }
        sql = (
            "SELECT task_id, map_index, status, try_number, item, map_key, position FROM liteflow_task_instances "
            "WHERE run_id=? AND map_index >= 0 AND told IS NULL"
        )
        mapped: dict[str, dict[int, PreviousInstance]] = {}
        for task_id, index, *fields in execute(sql, (run_id,)):
            mapped.setdefault(task_id, {})[index] = PreviousInstance(*fields)
        return kept, mapped

    def _own(self, run_id: str, run_no: int, epoch: int, session: int | None) -> None:
        if not self._locks.acquire(run_no):
            raise RunOwned(f"run {run_id} is owned by another process, which is still at work")
        self.run_id, self._run_no, self._epoch = run_id, run_no, epoch
        self.batch = WriteBatch(self.path, run_id, run_no, epoch)
        self._slots = SlotAllocator(self._connection, self._locks, run_no, run_id)
        self._connection.execute(
            "UPDATE liteflow_dag_runs SET owner_pid=?, owner_start=?, owner_boot=?, owner_host=?, owner_session=? "
            "WHERE run_no=?",
            (os.getpid(), start_ticks(), boot_id(), os.uname().nodename, session, run_no),
        )

    def _insert_instances(self, instances: Iterable[NewInstance], now: float) -> None:
        """Add what the run has not, and bring what it has up to the definition."""
        run_id = self.run_id
        self._connection.executemany(
            "INSERT INTO liteflow_task_instances (run_id, task_id, status, dependencies, timeout, updated_at) "
            "VALUES (?,?,'PENDING',?,?,?) ON CONFLICT (run_id, task_id, map_index) DO UPDATE SET "
            "dependencies=excluded.dependencies, timeout=excluded.timeout",
            (
                (run_id, task_id, f"[{', '.join(map(_quoted, above))}]", timeout_s, now)
                for task_id, above, timeout_s in instances
            ),
        )

    def _insert_done(self, done: Mapping[str, float], now: float) -> None:
        """Record tasks as succeeded that did so before this state file knew of them."""
        many, run_id, epoch = self._connection.executemany, self.run_id, self._epoch
        many(
            "INSERT INTO liteflow_attempts (run_id, task_id, attempt, status, epoch, started_at, ended_at) "
            "VALUES (?,?,1,'SUCCESS',?,?,?)",
            ((run_id, task_id, epoch, now - seconds, now) for task_id, seconds in done.items()),
        )
        many(
            "UPDATE liteflow_task_instances SET status='SUCCESS', try_number=1, reason='from a checkpoint', "
            "started_at=?, ended_at=?, updated_at=? WHERE run_id=? AND task_id=?",
            ((now - seconds, now, now, run_id, task_id) for task_id, seconds in done.items()),
        )
        many(
            "INSERT INTO liteflow_events (run_id, task_id, map_index, attempt, previous, status, reason, at) "
            "VALUES (?,?,-1,1,'PENDING','SUCCESS','from a checkpoint',?)",
            ((run_id, task_id, now) for task_id in done),
        )

    def _insert_event(self, previous: str | None, status: str, now: float, reason: str | None) -> None:
        self._connection.execute(
            "INSERT INTO liteflow_events (run_id, previous, status, reason, at) VALUES (?,?,?,?,?)",
            (self.run_id, previous, status, reason, now),
        )

    # -- what bounds it ------------------------------------------------------------------------------------

    def _bound(self, bounds: SharedLimits, now: float, status: str | None = None) -> None:
        """Declare the pools and take a place in the group; or wait for one as PENDING."""
        self._slots.declare(bounds.pools, bounds.needs, now)
        self.queue_reason = None if bounds.place is None else self._slots.come(bounds.place, now)
        if self.queue_reason is None:
            return
        self.batch.before = "PENDING"
        self._connection.execute(
            "UPDATE liteflow_dag_runs SET status='PENDING', started_at=nullif(started_at, ?), reason=? WHERE run_no=?",
            (now, self.queue_reason, self._run_no),  # a run that began earlier has its time from then
        )
        self._insert_event(status, "PENDING", now, self.queue_reason)

    def enter_group(self) -> bool:
        """Has the run that waits got its place? Then it is RUNNING."""
        now = time.time()
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            if not self._slots.take_place():
                return False
            self._connection.execute(
                "UPDATE liteflow_dag_runs SET status='RUNNING', started_at=coalesce(started_at, ?), reason=NULL "
                "WHERE run_no=?",
                (now, self._run_no),
            )
            self._insert_event("PENDING", "RUNNING", now, None)
        self.batch.before, self.queue_reason = "RUNNING", None
        return True

    def slots_changed(self) -> bool:
        """Is it worth asking again for slots, or for a place, that were refused?"""
        return self._slots.changed()

    # -- trying the whole run again ------------------------------------------------------------------------

    def retry_count(self) -> int:
        """How often the run has been tried again as a whole, since it was started or was resumed after its end."""
        with translated_errors(self.path):
            row = self._connection.execute(
                "SELECT count(*) FROM liteflow_events WHERE run_id=?1 AND task_id IS NULL AND status='UP_FOR_RETRY' "
                "AND seq > coalesce((SELECT max(seq) FROM liteflow_events WHERE run_id=?1 AND task_id IS NULL "
                "AND status IN ('FAILED', 'CANCELLED', 'SUCCESS')), 0)",
                (self.run_id,),
            ).fetchone()
        return int(row[0])

    def retry_run(self, reason: str) -> tuple[dict[str, PreviousState], dict[str, dict[int, PreviousInstance]]]:
        """The run has failed and will go on by itself: what succeeded is kept, all else goes back to PENDING."""
        now = time.time()
        with translated_errors(self.path), gc_paused(), Transaction(self._connection, self._locks):
            self._connection.execute("UPDATE liteflow_dag_runs SET reason=? WHERE run_no=?", (reason, self._run_no))
            self._insert_event("RUNNING", "UP_FOR_RETRY", now, reason)
            self._slots.clear(place=False)
            return self._reset(now)

    def reset_tasks(self, reasons: Mapping[str, str]) -> None:
        """These tasks had succeeded and have to run again, with all instances; what they returned is forgotten."""
        now, many, run_id = time.time(), self._connection.executemany, self.run_id
        which = "FROM liteflow_task_instances WHERE run_id=? AND task_id=? AND status IN ('SUCCESS', 'SKIPPED')"
        rows = [(run_id, task_id) for task_id in reasons]
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            many(
                "INSERT INTO liteflow_events (run_id, task_id, map_index, attempt, previous, status, reason, at) "
                f"SELECT run_id, task_id, map_index, try_number, status, 'PENDING', ?, ? {which}",
                [(reason, now, run_id, task_id) for task_id, reason in reasons.items()],
            )
            many(
                "UPDATE liteflow_task_instances SET status='PENDING', reason=NULL, ended_at=NULL "
                "WHERE run_id=? AND task_id=?",
                rows,
            )
            many("DELETE FROM liteflow_xcom WHERE run_id=? AND task_id=?", rows)

    def end_backoff(self) -> None:
        """The rest before another try of the run is over."""
        with translated_errors(self.path), Transaction(self._connection, self._locks):
            self._connection.execute("UPDATE liteflow_dag_runs SET reason=NULL WHERE run_no=?", (self._run_no,))
            self._insert_event("UP_FOR_RETRY", "RUNNING", time.time(), "tried again")

    # -- one turn of the loop ------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write all that was buffered as one transaction; returns when it is durable against a crash.

        Raises:
            StaleRun: another process has taken the run over; nothing was written.
            StoreError, ResourceError: SQLite refused for a minute; nothing was written.
        """
        self.check_file()
        began = time.monotonic()
        pause = 0.05
        while True:
            try:
                self._choose_sync(time.monotonic())
                with Transaction(self._connection, self._locks):
                    self._write()
                break
            except sqlite3.OperationalError as error:
                if time.monotonic() - began > _PATIENCE_S:
                    raise explain(error, self.path) from None
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise explain(error, self.path) from None
        self._unsynced = not self._syncing
        self.batch.clear()

    def rest(self) -> None:
        """Sync what was committed, when nothing has been committed for a while; call it between turns."""
        now = time.monotonic()
        if not self._unsynced or now - self._synced_at < _SYNC_EVERY_S:
            return
        try:
            self._choose_sync(now)
            with Transaction(self._connection, self._locks):  # only a commit that writes syncs the log,
                for sign in "+-":  # and a row that stays as it is is not written
                    sql = f"UPDATE liteflow_dag_runs SET epoch=epoch{sign}1 WHERE run_no=?"
                    self._connection.execute(sql, (self._run_no,))
            self._unsynced = False
        except sqlite3.OperationalError:
            return  # locked, or a full disk: the next commit says so, if it lasts
        except sqlite3.Error as error:
            raise explain(error, self.path) from None

    def check_file(self) -> None:
        """Check that the state file and its write-ahead log are still where they were.

        What is written to a deleted file, nobody will read.

        Raises:
            StoreError: one of them was deleted, moved or replaced.
        """
        now = files_of(self.path)
        if now != self._files:
            self._stop_writing(now)

    def renew_lock(self) -> None:
        """Keep the run owned where somebody has deleted the lock file.

        Raises:
            StaleRun: another process has taken the run over meanwhile.
        """
        if not self._locks.renew():
            raise StaleRun(f"run {self.run_id} was taken over by another process; this one stops")

    def _stop_writing(self, now: Sequence[Identity | None]) -> NoReturn:
        """Store what a deleted write-ahead log holds, if nobody has begun another one; and say what has happened."""
        end, known = next((end, old) for end, old, new in zip(ENDS, self._files, now, strict=True) if old != new)
        what = f"{self.path}{end}: was deleted, moved or replaced while a run used it; the run was stopped. "
        if now[0] != self._files[0]:
            raise StoreError(f"{what}Put the file back and resume the run, or start a new one")
        assert known is not None
        self._fold = all(new in (old, None) for old, new in zip(self._files, now, strict=True))
        if self._fold and self._locks.acquire_within(WRITE_LOCK, 1.0):
            try:
                self._connection.execute("PRAGMA wal_checkpoint(FULL)")
                raise StoreError(f"{what}What it held is in {self.path} now; resume the run")
            except sqlite3.Error:
                pass
            finally:
                self._locks.release(WRITE_LOCK)
        raise StoreError(f"{what}What was stored last may be missing; resume the run")

    def _write(self) -> None:
        row = self._connection.execute("SELECT epoch FROM liteflow_dag_runs WHERE run_no=?", (self._run_no,)).fetchone()
        if row != (self._epoch,):
            raise StaleRun(f"run {self.run_id} was taken over by another process; this one stops")
        self.batch.write(self._connection, self._slots)

    def _choose_sync(self, now: float) -> None:
        """Sync this commit to the disk? Always for the run's verdict, else once a second."""
        sync = self._always_sync or self.batch.verdict is not None or now - self._synced_at >= _SYNC_EVERY_S
        if sync != self._syncing:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
            self._syncing = sync
        if sync:
            self._synced_at = now
            checkpoint_wal(self._connection, self.path, self._locks)

    # -- what others ask for, and reading back ---------------------------------------------------------------

    def requests(self) -> list[Request]:
        """Open requests for this run, oldest first. Cheap when no other process has written since the last call."""
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
            return []  # locked just now: they will be there at the next tick
        except sqlite3.Error as error:
            raise explain(error, self.path) from None
        self._data_version = version
        return [Request(*row) for row in rows]

    def value(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Payload | None:
        """A stored value of this run, still encoded."""
        with translated_errors(self.path):
            row = self._connection.execute(
                "SELECT encoding, value, size, file, sha256 FROM liteflow_xcom "
                "WHERE run_id=? AND task_id=? AND map_index=? AND key=?",
                (self.run_id, task_id, map_index, key),
            ).fetchone()
        return None if row is None else payload_from_row(self.path, row)

    def hooks(self) -> list[PreviousHook]:
        """The hooks that were triggered in this run."""
        with translated_errors(self.path):
            rows = self._connection.execute(
                "SELECT task_id, map_index, status, try_number, told FROM liteflow_task_instances "
                "WHERE run_id=? AND told IS NOT NULL",
                (self.run_id,),
            ).fetchall()
        return [PreviousHook(*row) for row in rows]

    def task_events(self) -> Iterator[tuple[str, int, str | None, str]]:
        """What has happened to the tasks of this run, in order, and which instances of mapped ones have succeeded.

        Each is a task, an index, the previous and the new state.
        """
        with translated_errors(self.path):
            yield from self._connection.execute(
                "SELECT task_id, map_index, previous, status FROM liteflow_events "
                "WHERE run_id=? AND task_id IS NOT NULL AND (map_index < 0 OR status='SUCCESS') ORDER BY seq",
                (self.run_id,),
            ).fetchall()

    def values(self, task_id: str, key: str) -> list[Payload]:
        """What the instances of a mapped task have stored, in the order of its list, still encoded."""
        with translated_errors(self.path):
            rows = self._connection.execute(VALUES_OF_INSTANCES, (self.run_id, task_id, key)).fetchall()
        return [payload_from_row(self.path, row) for row in rows]

    def next_free_index(self, task_id: str) -> int:
        """The first index that no instance of a mapped task has had in this run."""
        with translated_errors(self.path):
            (last,) = self._connection.execute(
                "SELECT max(map_index) FROM liteflow_attempts WHERE run_id=? AND task_id=?", (self.run_id, task_id)
            ).fetchone()
        return 0 if last is None else max(0, int(last) + 1)

    def close(self) -> None:
        """Close the connection; the run's lock is freed with the lock file, when the guardian is gone too."""
        self._sqlite_locks.release(fold=self._fold)
        self._connection.close()
