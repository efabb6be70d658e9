"""Prunes the state file: deletes old runs, a few in each transaction, while other runs continue.

A run is preserved while it is younger than the age limit or among the newest runs of its dag, and in any case while
something needs it (see `_Choice`). The runs that tasks of a run started are preserved or deleted with it. One process
prunes a file at a time.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from liteflow.errors import RunOwned
from liteflow.limits import Retention
from liteflow.record import Record
from liteflow.state.child_rows import family
from liteflow.state.deletion import RunDeletion, forks_of
from liteflow.state.locks import LockFile
from liteflow.state.state_file import connect, connect_read_only, real_path, translated_errors
from liteflow.state.transitions import RunKey

#: what `prune_runs` preserves unless it is called with another retention
DEFAULT_RETENTION: Final = Retention(days=90, runs=20)
#: the byte of the lock file that a process holds while it prunes the state file, or copies it with its values
PRUNE_LOCK: Final = 2**62 + 1
_LIMIT_S: Final = 2.0  # how long a run prunes after its verdict
_DAY_S: Final = 86_400.0
#: States after which a run waits for nothing.
_FINISHED: Final = frozenset({"SUCCESS", "FAILED", "CANCELLED"})


class Pruned(Record):
    """The runs that were deleted, or with `dry_run` would be, by dag; and the number of old runs that stay, by reason.

    `complete` is False when the time limit ended it.
    """

    runs: dict[str, list[str]]
    preserved: dict[str, int]
    complete: bool = True


def prune_runs(
    path: str,
    retention: Retention = DEFAULT_RETENTION,
    dag_id: str | None = None,
    *,
    dry_run: bool = False,
    limit_s: float = math.inf,
    spared_run: str | None = None,
) -> Pruned:
    """Delete the runs of a dag, or of all dags, that the retention does not preserve, with all that belongs to them.

    First it completes deletions that were cut off. With `dry_run` nothing is changed. The `spared_run` stays.

    Raises:
        RunOwned: another process prunes the file.
        StoreError, ResourceError: see `liteflow.errors`.
    """
    path, now = real_path(path), time.time()
    with translated_errors(path), _opened(path, dry_run=dry_run) as (connection, locks):
        dag_ids = [dag_id] if dag_id is not None else _dag_ids(connection)
        candidates = (
            run_id
            for each in dag_ids
            for run_id in _candidates(connection, each, retention, now)
            if run_id != spared_run
        )
        choice = _Choice(connection, locks, now - _DAY_S * (retention.days or 0.0), dry_run=dry_run)
        if dry_run:
            for run_id in candidates:
                choice.choose(run_id)
            return choice.pruned(complete=True)
        deletion = RunDeletion(path, connection, locks, deadline=time.monotonic() + limit_s)
        deletion.remove_files()
        complete = deletion.delete(map(choice.choose, chain(_cut_off(connection, dag_id), candidates)))
        deletion.give_back()
        return choice.pruned(complete=complete)


def _cut_off(connection: sqlite3.Connection, dag_id: str | None) -> list[str]:
    """Return the runs whose deletion was cut off, of all dags; those of a dag are among its candidates."""
    if dag_id is not None:
        return []
    rows = connection.execute("SELECT run_id FROM liteflow_dag_runs WHERE status='DELETED'").fetchall()
    return [run_id for (run_id,) in rows]


def prune_after_run(path: str, retention: Retention, dag_id: str, run_id: str) -> None:
    """Prune the other runs of a dag after a run, for two seconds at most, unless another process prunes the file."""
    with contextlib.suppress(RunOwned):
        prune_runs(path, retention, dag_id, limit_s=_LIMIT_S, spared_run=run_id)


@contextlib.contextmanager
def _opened(path: str, *, dry_run: bool) -> Iterator[tuple[sqlite3.Connection, LockFile]]:
    with contextlib.closing(LockFile(path, read_only=dry_run)) as locks:
        if not dry_run and not locks.acquire(PRUNE_LOCK):
            raise RunOwned(f"{path}: another process prunes or copies it; wait for its end")
        with contextlib.closing(connect_read_only(path) if dry_run else connect(path)) as connection:
            yield connection, locks


def _dag_ids(connection: sqlite3.Connection) -> list[str]:
    return [dag_id for (dag_id,) in connection.execute("SELECT DISTINCT dag_id FROM liteflow_dag_runs ORDER BY 1")]


#: A run that no task of another run started, or whose parent is deleted.
_IS_ROOT: Final = (
    "(run.parent_run_id IS NULL OR NOT EXISTS "
    "(SELECT 1 FROM liteflow_dag_runs AS parent WHERE parent.run_id=run.parent_run_id))"
)


def _candidates(connection: sqlite3.Connection, dag_id: str, retention: Retention, now: float) -> Iterator[str]:
    """Yield the runs of a dag that are not among the newest and were created before the age limit, the oldest first.

    It reads as many runs as are preserved by their number, and those that it yields: a history may be long.
    """
    execute, newest = connection.execute, retention.runs or 0
    end = math.inf
    if newest:
        row = execute(
            f"SELECT run_no FROM liteflow_dag_runs AS run WHERE dag_id=? AND status<>'DELETED' AND {_IS_ROOT} "
            f"ORDER BY run_no DESC LIMIT 1 OFFSET {int(newest) - 1}",
            (dag_id,),
        ).fetchone()
        if row is None:
            return
        (end,) = row
    before = now - _DAY_S * (retention.days or 0.0)
    last, ids = 0, [""]
    while ids:
        rows = execute(
            f"SELECT run_no, run_id, created_at < ? FROM liteflow_dag_runs AS run "
            f"WHERE dag_id=? AND run_no>? AND run_no<? AND {_IS_ROOT} ORDER BY run_no LIMIT 500",
            (before, dag_id, last, end),
        ).fetchall()
        ids = [run_id for _, run_id, is_old in rows if is_old]
        yield from ids
        if not rows or not rows[-1][2]:
            return  # later runs are younger
        last = rows[-1][0]


class _Member(NamedTuple):
    run: RunKey
    dag_id: str
    status: str
    changed_at: float


class _Choice:
    """Chooses runs with their child runs, and counts why others stay.

    A run stays while it waits, while it was changed after the age limit (a child run may be younger than its parent),
    while a fork of it exists, whose rows name its logs, and while a live process owns it.
    """

    def __init__(self, connection: sqlite3.Connection, locks: LockFile, younger_than: float, *, dry_run: bool) -> None:
        self._connection = connection
        self._locks = locks
        self._younger_than = younger_than
        self._dry_run = dry_run
        self._runs: dict[str, list[str]] = {}
        self._preserved = Counter[str]()

    def choose(self, run_id: str) -> list[tuple[RunKey, str]]:
        """Return a run and its child runs, with their statuses, or nothing if they stay.

        This process owns them from now on, unless it only tries.
        """
        members = [member for each in family(self._connection, run_id) if (member := self._member(each))]
        reason = next((reason for member in members if (reason := self._reason_to_preserve(member))), None)
        if reason is None and not self._take(members):
            reason = "running"
        if reason is not None:
            self._preserved[reason] += 1
            return []
        for member in members:
            self._runs.setdefault(member.dag_id, []).append(member.run.run_id)
        return [(member.run, member.status) for member in members]

    def pruned(self, *, complete: bool) -> Pruned:
        """Return what was chosen."""
        return Pruned(runs=self._runs, preserved=dict(self._preserved), complete=complete)

    def _member(self, run_id: str) -> _Member | None:
        row = self._connection.execute(
            "SELECT run_no, dag_id, status, coalesce(ended_at, (SELECT event.at FROM liteflow_events AS event "
            "WHERE event.run_id=run.run_id ORDER BY event.seq DESC LIMIT 1), created_at) "
            "FROM liteflow_dag_runs AS run WHERE run_id=?",
            (run_id,),
        ).fetchone()
        return None if row is None else _Member(RunKey(row[0], run_id), *row[1:])

    def _reason_to_preserve(self, member: _Member) -> str | None:
        run_id, status = member.run.run_id, member.status
        if status == "DELETED":
            return None
        if member.changed_at >= self._younger_than:
            return "changed since"
        if status not in _FINISHED and self._waits(run_id):
            return "waiting"
        return "forked" if forks_of(self._connection, run_id) else None

    def _waits(self, run_id: str) -> bool:
        sql = "SELECT 1 FROM liteflow_task_instances WHERE run_id=? AND status='WAITING'"
        return self._connection.execute(sql, (run_id,)).fetchone() is not None

    def _take(self, members: Sequence[_Member]) -> bool:
        """Take the locks of all runs, or of none; where this process only tries, test them."""
        numbers = [member.run.run_no for member in members if member.run.run_no > 0]
        if self._dry_run:
            return not any(map(self._locks.is_held, numbers))
        for position, number in enumerate(numbers):
            if not self._locks.acquire(number):
                for acquired in numbers[:position]:
                    self._locks.release(acquired)
                return False
        return True
