"""Who holds slots of which pool, and who waits for some: rows that all runs of a state file share.

Slots are taken in the transaction that stores the intent to start a task and given back in the one that stores its
verdict, so more than there are can never be in use. A row counts only while its run has a live owner, which the kernel
knows (`locks`): those of a killed one are free the moment the last of its processes is gone.

Whoever finds too few stands in line with a row of his own, in the order of arrival. Who is behind lets those pass that
could start now, and others overtake one whose slots are not free, at most `_PASSES` times. A run's place in its group
is a slot of a pool too, whose name no other pool can have.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from liteflow.errors import GroupBusy, RunSkipped
from liteflow.limits import Concurrency, Pool, check_slot_needs
from liteflow.planning.ready_queue import SlotNeeds
from liteflow.state.locks import LockFile

_PASSES: Final = 10
_COURTESY_S: Final = 2.0  # a process that is first in line and takes nothing for so long may be stopped: go before it


class Asked(Protocol):
    """One that wants slots: a task instance, or with an empty id the run itself."""

    @property
    def task_id(self) -> str: ...
    @property
    def map_index(self) -> int: ...
    @property
    def needs(self) -> SlotNeeds: ...


class _Place(NamedTuple):
    """The run itself."""

    needs: SlotNeeds
    task_id: str = ""
    map_index: int = -1


class _Waiting(NamedTuple):
    """One that stands in line."""

    since: float  # epoch seconds
    run_no: int
    task_id: str
    map_index: int
    needs: dict[str, int]
    passed: int


_Key = tuple[int, str, int]


def group_pool(group: str) -> str:
    """The pool whose slots are the places of a group of runs."""
    return f"run:{group}"


class SlotAllocator:
    """The slots of one run. Its methods but `changed` are called within a transaction.

    `sizes` are those of pools that the state file does not know.
    """

    def __init__(self, connection: sqlite3.Connection, locks: LockFile, run_no: int, run_id: str) -> None:
        self._connection, self._locks = connection, locks
        self._run_no, self._run_id = run_no, run_id
        self.sizes: dict[str, int] = {}
        self._alive: dict[int, bool] = {}  # as of the last look
        self._in_the_way: set[int] = set()  # runs without which we should have got what we asked for
        self._polite_since: dict[_Key, float] = {}  # monotonic: whom we let go first
        self._data_version = -1

    def grant(self, asked: Sequence[Asked]) -> list[bool]:
        """Take slots for each of these that can have all it needs, in this order; the others stand in line."""
        now = time.time()
        self._alive.clear()
        self._in_the_way.clear()
        free, holders, line = self._look()
        answers = []
        for one in asked:
            me: _Key = (self._run_no, one.task_id, one.map_index)
            mine = next((other for other in line if other[1:4] == me), None)
            ahead = [other for other in line if other[:2] < ((mine.since if mine else now), self._run_no)]
            answers.append(self._may_have(dict(one.needs), free, ahead, me))
            if not answers[-1]:
                self._in_the_way.update(*(holders.get(pool, ()) for pool, _ in one.needs))
                if mine is None:
                    self._insert(one, now, None)
                    line.append(_Waiting(now, *me, dict(one.needs), 0))
                continue
            self._connection.execute("DELETE FROM liteflow_slots WHERE run_no=? AND task_id=? AND map_index=?", me)
            self._insert(one, now, now)
            for pool, slots in one.needs:
                free[pool] -= slots
            if mine is not None:
                line.remove(mine)
            self._overtake(one, ahead)
        (self._data_version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return answers

    def declare(self, pools: Mapping[str, Pool], needs: Mapping[str, SlotNeeds], now: float) -> None:
        """Make the pools of a workflow, or bring them to its sizes, save those whose size was set by hand.

        Raises:
            DefinitionError: a task (by id) needs more slots than a pool has.
        """
        execute = self._connection.execute
        for name, (slots, about) in pools.items():
            self.sizes[name] = slots or 1
            execute(
                "INSERT INTO liteflow_pools (name, slots, description, updated_at) VALUES (?,?,?,?) ON CONFLICT DO "
                "UPDATE SET slots=CASE WHEN by_hand OR ? THEN slots ELSE excluded.slots END, description=CASE WHEN "
                "by_hand OR excluded.description='' THEN description ELSE excluded.description END, updated_at=?",
                (name, slots or 1, about, now, slots is None, now),
            )
        if needs:
            check_slot_needs(needs, {name: size for name, size in self._known() if name in pools})

    def _known(self) -> list[tuple[str, int]]:
        return self._connection.execute("SELECT name, slots FROM liteflow_pools").fetchall()

    def come(self, place: Concurrency, now: float) -> str | None:
        """Take the run's place in its group; where there is none, do what its rule says.

        Returns why it has to wait, or None.

        Raises:
            GroupBusy, RunSkipped: it shall not wait.
        """
        pool, group = group_pool(str(place.group)), place.group
        self._place = _Place(((pool, 1),))
        self.sizes[pool] = place.limit
        if self.take_place():
            return None
        others = self._others(pool)
        first = others[0][0] if others else "?"
        if place.on_conflict == "skip":
            raise RunSkipped(f"run {first} is at work in group {group!r}")
        if place.on_conflict == "fail":
            raise GroupBusy(f"run {first} is at work in group {group!r}, and on_conflict is fail: nothing was run")
        if place.on_conflict == "cancel":
            holders = [run_id for run_id, holds in others if holds]
            late = [run_id for run_id, holds in others if not holds]
            self._connection.executemany(
                "INSERT INTO liteflow_requests (run_id, action, detail, created_at) VALUES (?,'cancel',?,?)",
                [
                    (run_id, f"run {self._run_id} takes its place in group {group!r}", now)
                    for run_id in holders[: len(holders) - place.limit + 1] + late
                ],
            )
        return f"waits for its turn in group {group!r}: run {first} is before it"

    def take_place(self) -> bool:
        """Take the run's place in its group, or stand in line for it."""
        return self.grant([self._place])[0]

    def _look(self) -> tuple[dict[str, int], dict[str, set[int]], list[_Waiting]]:
        """What is free of each pool, the other runs that hold some, and who stands in line."""
        execute = self._connection.execute
        free = {**self.sizes, **dict(self._known())}
        holders: dict[str, set[int]] = {}
        for pool, run_no, slots in execute(
            "SELECT pool, run_no, sum(slots) FROM liteflow_slots WHERE taken_at IS NOT NULL GROUP BY 1, 2"
        ).fetchall():
            if pool in free and self._is_alive(run_no):
                free[pool] -= slots
                if run_no != self._run_no:
                    holders.setdefault(pool, set()).add(run_no)
        waiting: dict[_Key, _Waiting] = {}
        for run_no, task_id, map_index, pool, slots, since, passed in execute(
            "SELECT run_no, task_id, map_index, pool, slots, asked_at, passed FROM liteflow_slots "
            "WHERE taken_at IS NULL ORDER BY asked_at, run_no"
        ).fetchall():
            if self._is_alive(run_no):
                one = _Waiting(since, run_no, task_id, map_index, {}, passed)
                waiting.setdefault((run_no, task_id, map_index), one).needs[pool] = slots
        return free, holders, list(waiting.values())

    def _is_alive(self, run_no: int) -> bool:
        alive = self._alive.get(run_no)
        if alive is None:
            alive = self._alive[run_no] = run_no == self._run_no or self._locks.is_held(run_no)
        return alive

    def _may_have(self, needs: dict[str, int], free: dict[str, int], ahead: Sequence[_Waiting], me: _Key) -> bool:
        if not _fits(needs, free):
            return False
        left, polite = dict(free), list[_Waiting]()
        for one in ahead:
            if one[1:4] == me or needs.keys().isdisjoint(one.needs):
                continue
            if not _fits(one.needs, left):
                if one.passed >= _PASSES:
                    self._in_the_way.add(one.run_no)
                    return False
            elif one.run_no != self._run_no and not self._is_stuck(one):  # our own ask in the order of the plan
                polite.append(one)
                for pool, slots in one.needs.items():
                    if pool in left:
                        left[pool] -= slots
        if _fits(needs, left):
            return True
        for one in polite:
            self._polite_since.setdefault(one[1:4], time.monotonic())
            self._in_the_way.add(one.run_no)
        return False

    def _is_stuck(self, one: _Waiting) -> bool:
        """Has it been first in line for long without taking what it could have?"""
        since = self._polite_since.get(one[1:4])
        return since is not None and time.monotonic() - since >= _COURTESY_S

    def _overtake(self, one: Asked, ahead: Sequence[_Waiting]) -> None:
        """Note with those whom this one has passed that it did."""
        for other in ahead:
            if other[1:4] != (self._run_no, one.task_id, one.map_index) and not other.needs.keys().isdisjoint(
                pool for pool, _ in one.needs
            ):
                self._connection.execute(
                    "UPDATE liteflow_slots SET passed=passed+1 WHERE run_no=? AND task_id=? AND map_index=?", other[1:4]
                )

    def _insert(self, one: Asked, asked_at: float, taken_at: float | None) -> None:
        self._connection.executemany(
            "INSERT INTO liteflow_slots (run_no, task_id, map_index, pool, run_id, slots, asked_at, taken_at) "
            "VALUES (?,?,?,?,?,?,?,?)",
            [
                (self._run_no, one.task_id, one.map_index, pool, self._run_id, slots, asked_at, taken_at)
                for pool, slots in one.needs
            ],
        )

    def give_back(self, tasks: Sequence[tuple[str, int]]) -> None:
        """These task instances have ended."""
        self._connection.executemany(
            f"DELETE FROM liteflow_slots WHERE run_no={self._run_no} AND task_id=? AND map_index=?", tasks
        )

    def clear(self, *, place: bool) -> None:
        """Nothing of the run is at work or waits; with `place` it leaves its group, too."""
        sql = "DELETE FROM liteflow_slots WHERE run_no=?" + ("" if place else " AND task_id<>''")
        self._connection.execute(sql, (self._run_no,))

    def _others(self, pool: str) -> list[tuple[str, bool]]:
        """The other live runs that hold slots of a pool (True) or wait for some, in the order of their coming."""
        rows = self._connection.execute(
            "SELECT run_id, taken_at IS NOT NULL, run_no FROM liteflow_slots WHERE pool=? AND run_no<>? "
            "ORDER BY taken_at IS NULL, asked_at, run_no",
            (pool, self._run_no),
        )
        return [(run_id, bool(holds)) for run_id, holds, run_no in rows if self._locks.is_held(run_no)]

    def changed(self) -> bool:
        """Is it worth asking again for what was refused? It costs some microseconds, and writes nothing."""
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return False  # locked just now; whoever writes next has better words for all else
        now = time.monotonic()
        return (
            version != self._data_version
            or any(not self._is_held(run_no) for run_no in self._in_the_way)
            or any(0 <= now - since - _COURTESY_S < 1 for since in self._polite_since.values())
        )

    def _is_held(self, run_no: int) -> bool:
        return run_no == self._run_no or self._locks.is_held(run_no)


def _fits(needs: Mapping[str, int], free: Mapping[str, int]) -> bool:
    return all(slots <= free.get(pool, slots) for pool, slots in needs.items())
