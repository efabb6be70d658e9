"""Slots of pools, held or queued for: rows that all runs of a state file share.

Slots are taken in the transaction that stores the start of an attempt and given back in the one that stores its
verdict, so no more than the size of a pool are ever in use. A row counts only while its run has a live owner, which the
kernel knows (`locks`): the slots of a killed run are free as soon as its last process is gone.

A task that cannot get its slots is queued with a row of its own, in the order of arrival. A later request lets those in
front of it go first that could start now. Where the slots of the first are not free, others may overtake it, at most
`_MOST_OVERTAKES` times. A group of runs is a pool too, with a name that no other pool can have, and a run takes one of
its slots.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from liteflow.errors import DefinitionError, GroupBusy, RunSkipped
from liteflow.limits import Concurrency, Pool, check_slot_needs
from liteflow.planning.ready_queue import SlotNeeds
from liteflow.record import Record
from liteflow.state.locks import LockFile
from liteflow.state.schema import ANCESTORS_SQL

_MOST_OVERTAKES: Final = 10
#: A process that is first in the queue and takes no free slots for so long may be stopped: then others overtake it.
_COURTESY_S: Final = 2.0


class NeedsSlots(Protocol):
    """A request for slots, of a task instance or, with an empty task id, of the run itself."""

    @property
    def task_id(self) -> str: ...
    @property
    def map_index(self) -> int: ...
    @property
    def needs(self) -> SlotNeeds: ...


class SlotChange(NamedTuple):
    """The slots that a task instance holds from now on; none: it gives back what it has."""

    task_id: str
    map_index: int
    needs: SlotNeeds


class _GroupRequest(Record):
    """A request of the run itself for a slot of its group."""

    needs: SlotNeeds
    task_id: str = ""
    map_index: int = -1


class _Key(NamedTuple):
    """The task instance, or the run, that a request is of."""

    run_no: int
    task_id: str
    map_index: int


class _Queued(Record):
    """A request in the queue."""

    since: float  # epoch seconds
    key: _Key
    needs: dict[str, int]
    overtaken: int  # how often

    @property
    def order(self) -> tuple[float, int]:
        """The position in the queue, as a sort key."""
        return self.since, self.key.run_no


class _Snapshot(Record):
    """The slots of all live runs, as one transaction sees them."""

    free: dict[str, int]  # by pool
    holders: dict[str, set[int]]  # numbers of other runs that hold some, by pool
    queue: list[_Queued]


def group_pool(group: str) -> str:
    """Return the name of the pool of a group of runs."""
    return f"run:{group}"


class SlotAllocator:
    """Takes and gives back the slots of one run. Its methods but `changed` are called within a transaction.

    Attributes:
        sizes: those of pools that the state file does not know.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        locks: LockFile,
        run_no: int,
        run_id: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._locks, self._monotonic = connection, locks, monotonic
        self._run_no, self._run_id = run_no, run_id
        self.sizes: dict[str, int] = {}
        self._alive: dict[int, bool] = {}  # whether runs had an owner, at the last request
        self._blocking: set[int] = set()  # runs because of which the last requests were refused
        self._deferred_to: dict[_Key, float] = {}  # since when (monotonic) a request in front was let go first
        self._data_version = -1

    # -- requests ------------------------------------------------------------------------------------------

    def grant(self, requests: Sequence[NeedsSlots]) -> list[bool]:
        """Take slots for each request that can have all it needs, in this order, and queue the others.

        Returns which have their slots.
        """
        now = time.time()
        self._alive.clear()
        self._blocking.clear()
        slots = self._snapshot()
        answers = [self._grant(request, slots, now) for request in requests]
        (self._data_version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return answers

    def _grant(self, request: NeedsSlots, slots: _Snapshot, now: float) -> bool:
        key, needs = _Key(self._run_no, request.task_id, request.map_index), dict(request.needs)
        queued = next((each for each in slots.queue if each.key == key), None)
        position = (now if queued is None else queued.since, self._run_no)
        in_front = [each for each in slots.queue if each.order < position]
        if not self._may_start(needs, slots.free, in_front, key):
            self._blocking.update(*(slots.holders.get(pool, ()) for pool in needs))
            if queued is None:
                self._insert(request, now, None)
                slots.queue.append(_Queued(since=now, key=key, needs=needs, overtaken=0))
            return False
        self._connection.execute("DELETE FROM liteflow_slots WHERE run_no=? AND task_id=? AND map_index=?", key)
        self._insert(request, now, now)
        for pool, count in needs.items():
            slots.free[pool] -= count
        if queued is not None:
            slots.queue.remove(queued)
        self._count_overtakes(key, needs, in_front)
        return True

    def _may_start(self, needs: dict[str, int], free: dict[str, int], in_front: Sequence[_Queued], key: _Key) -> bool:
        """Return whether a request may have its slots now, although these are in front of it."""
        if not _fits(needs, free):
            return False
        left, first = dict(free), list[_Queued]()
        for other in in_front:
            if other.key == key or needs.keys().isdisjoint(other.needs):
                continue
            if not _fits(other.needs, left):
                if other.overtaken >= _MOST_OVERTAKES:
                    self._blocking.add(other.key.run_no)
                    return False
            elif other.key.run_no != self._run_no and not self._is_stuck(other):  # own requests come in their order
                first.append(other)
                for pool, count in other.needs.items():
                    if pool in left:
                        left[pool] -= count
        if _fits(needs, left):
            return True
        for other in first:
            self._deferred_to.setdefault(other.key, self._monotonic())
            self._blocking.add(other.key.run_no)
        return False

    def _is_stuck(self, queued: _Queued) -> bool:
        """Return whether a request has long been first in the queue and not taken the slots it could have."""
        since = self._deferred_to.get(queued.key)
        return since is not None and self._monotonic() - since >= _COURTESY_S

    def _count_overtakes(self, key: _Key, needs: Mapping[str, int], in_front: Sequence[_Queued]) -> None:
        self._connection.executemany(
            "UPDATE liteflow_slots SET passed=passed+1 WHERE run_no=? AND task_id=? AND map_index=?",
            [each.key for each in in_front if each.key != key and not each.needs.keys().isdisjoint(needs)],
        )

    def _insert(self, request: NeedsSlots, asked_at: float, taken_at: float | None) -> None:
        self._connection.executemany(
            "INSERT INTO liteflow_slots (run_no, task_id, map_index, pool, run_id, slots, asked_at, taken_at) "
            "VALUES (?,?,?,?,?,?,?,?)",
            [
                (self._run_no, request.task_id, request.map_index, pool, self._run_id, count, asked_at, taken_at)
                for pool, count in request.needs
            ],
        )

    def hold(self, changes: Sequence[SlotChange]) -> None:
        """Let task instances hold the slots that are given, whether they are free or not, instead of those they hold.

        So the pool of an instance whose wait is continued may be overdrawn: what it waits for is under way.
        """
        self._connection.executemany(
            f"DELETE FROM liteflow_slots WHERE run_no={self._run_no} AND task_id=? AND map_index=?",
            [change[:2] for change in changes],
        )
        now = time.time()
        for change in changes:
            if change.needs:
                self._insert(change, now, now)

    def clear(self, *, group: bool) -> None:
        """Free all slots of the run and remove its requests; with `group` those of its group, too."""
        sql = "DELETE FROM liteflow_slots WHERE run_no=?" + ("" if group else " AND task_id<>''")
        self._connection.execute(sql, (self._run_no,))

    # -- pools ---------------------------------------------------------------------------------------------

    def declare(self, pools: Mapping[str, Pool], needs: Mapping[str, SlotNeeds], now: float) -> None:
        """Store the pools of a workflow with their sizes, except those whose size was set by hand.

        Raises:
            DefinitionError: a task (by id) needs more slots than a pool has.
        """
        for name, pool in pools.items():
            self.sizes[name] = pool.slots or 1
            self._connection.execute(
                "INSERT INTO liteflow_pools (name, slots, description, updated_at) VALUES (?,?,?,?) ON CONFLICT DO "
                "UPDATE SET slots=CASE WHEN by_hand OR ? THEN slots ELSE excluded.slots END, description=CASE WHEN "
                "by_hand OR excluded.description='' THEN description ELSE excluded.description END, updated_at=?",
                (name, pool.slots or 1, pool.description, now, pool.slots is None, now),
            )
        if needs:
            check_slot_needs(needs, {name: size for name, size in self._stored_sizes() if name in pools})

    def _stored_sizes(self) -> list[tuple[str, int]]:
        return self._connection.execute("SELECT name, slots FROM liteflow_pools").fetchall()

    def _snapshot(self) -> _Snapshot:
        execute = self._connection.execute
        slots = _Snapshot(free={**self.sizes, **dict(self._stored_sizes())}, holders={}, queue=[])
        for pool, run_no, held in execute(
            "SELECT pool, run_no, sum(slots) FROM liteflow_slots WHERE taken_at IS NOT NULL GROUP BY 1, 2"
        ).fetchall():
            if pool in slots.free and self._is_alive(run_no):
                slots.free[pool] -= held
                if run_no != self._run_no:
                    slots.holders.setdefault(pool, set()).add(run_no)
        queue: dict[_Key, _Queued] = {}
        for run_no, task_id, map_index, pool, count, since, overtaken in execute(
            "SELECT run_no, task_id, map_index, pool, slots, asked_at, passed FROM liteflow_slots "
            "WHERE taken_at IS NULL ORDER BY asked_at, run_no"
        ).fetchall():
            if self._is_alive(run_no):
                key = _Key(run_no, task_id, map_index)
                if key not in queue:
                    queue[key] = _Queued(since=since, key=key, needs={}, overtaken=overtaken)
                queue[key].needs[pool] = count
        slots.queue.extend(queue.values())
        return slots

    # -- the group of the run ------------------------------------------------------------------------------

    def request_group_slot(self, concurrency: Concurrency, now: float) -> str | None:
        """Take a slot of the run's group; where none is free, do what `on_conflict` says.

        Returns why the run has to wait, or None.

        Raises:
            GroupBusy, RunSkipped: the run does not wait.
            DefinitionError: a run that waits for this one is in the group.
        """
        pool, group = group_pool(str(concurrency.group)), concurrency.group
        self._group_request = _GroupRequest(needs=((pool, 1),))
        self.sizes[pool] = concurrency.limit
        if self.take_group_slot():
            return None
        other_runs = self._other_runs(pool)
        self._check_ancestors(other_runs, group)
        first = other_runs[0][0] if other_runs else "?"
        if concurrency.on_conflict == "skip":
            raise RunSkipped(f"run {first} is running in group {group!r}")
        if concurrency.on_conflict == "fail":
            raise GroupBusy(f"run {first} is running in group {group!r}, and on_conflict is fail: nothing was run")
        if concurrency.on_conflict == "cancel":
            holders = [run_id for run_id, holds in other_runs if holds]
            queued = [run_id for run_id, holds in other_runs if not holds]
            self._connection.executemany(
                "INSERT INTO liteflow_requests (run_id, action, detail, created_at) VALUES (?,'cancel',?,?)",
                [
                    (run_id, f"run {self._run_id} replaces it in group {group!r}", now)
                    for run_id in holders[: len(holders) - concurrency.limit + 1] + queued
                ],
            )
        return f"queued in group {group!r} behind run {first}"

    def _check_ancestors(self, other_runs: Sequence[tuple[str, bool]], group: str | None) -> None:
        """Refuse a child run that would wait for a run that waits for it. Raises DefinitionError."""
        above = {run_id for (run_id,) in self._connection.execute(ANCESTORS_SQL, (self._run_id,))}
        for run_id, _ in other_runs:
            if run_id in above:
                raise DefinitionError(
                    f"run {run_id}, which waits for this child run, is in its concurrency group {group!r}: the child "
                    "run would wait for ever; give the child workflow another group"
                )

    def take_group_slot(self) -> bool:
        """Take a slot of the run's group, or queue for one. Returns whether the run has it."""
        return self.grant([self._group_request])[0]

    def _other_runs(self, pool: str) -> list[tuple[str, bool]]:
        """Return the other live runs that hold slots of a pool (True) or are queued, in the order of arrival."""
        rows = self._connection.execute(
            "SELECT run_id, taken_at IS NOT NULL, run_no FROM liteflow_slots WHERE pool=? AND run_no<>? "
            "ORDER BY taken_at IS NULL, asked_at, run_no",
            (pool, self._run_no),
        )
        return [(run_id, bool(holds)) for run_id, holds, run_no in rows if self._locks.is_held(run_no)]

    # -- changes -------------------------------------------------------------------------------------------

    def changed(self) -> bool:
        """Return whether to repeat requests that were refused. It takes some microseconds, and writes nothing."""
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return False  # locked at the moment: the next write reports it, if it lasts
        now = self._monotonic()
        return (
            version != self._data_version
            or any(run_no != self._run_no and not self._locks.is_held(run_no) for run_no in self._blocking)
            or any(0 <= now - since - _COURTESY_S < 1 for since in self._deferred_to.values())
        )

    def _is_alive(self, run_no: int) -> bool:
        alive = self._alive.get(run_no)
        if alive is None:
            alive = self._alive[run_no] = run_no == self._run_no or self._locks.is_held(run_no)
        return alive


def _fits(needs: Mapping[str, int], free: Mapping[str, int]) -> bool:
    return all(count <= free.get(pool, count) for pool, count in needs.items())
