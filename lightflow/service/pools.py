"""Pools of slots: how much of each is in use, who holds it, who waits; and changing their sizes."""

from __future__ import annotations

from typing import NamedTuple

from liteflow import DefinitionError, RunNotFound
from liteflow.api import MAX_SLOTS, History, PoolRecord, SlotRecord, delete_pool, set_pool
from liteflow.definition.task import check_id


class PoolView(NamedTuple):
    """A pool with those who hold slots of it, and those who wait for some, in the order of their coming."""

    pool: PoolRecord
    holders: list[SlotRecord]
    waiting: list[SlotRecord]

    @property
    def used(self) -> int:
        return sum(one.slots for one in self.holders)


def overview(db: str) -> list[PoolView]:
    """All pools of a state file, by name."""
    with History(db) as history:
        return _views(history)


def _views(history: History) -> list[PoolView]:
    slots = history.slots()
    return [
        PoolView(
            pool,
            [one for one in slots if one.pool == pool.name and one.taken_at is not None],
            [one for one in slots if one.pool == pool.name and one.taken_at is None],
        )
        for pool in history.pools()
    ]


def waits(history: History, run_id: str) -> dict[tuple[str, int], str]:
    """What the task instances of a run that wait for slots wait for, in words."""
    lacking: dict[tuple[str, int], list[str]] = {}
    for view in _views(history):
        for one in view.waiting:
            if one.run_id == run_id:
                lacking.setdefault((one.task_id, one.map_index), []).append(_words(view, one))
    return {key: f"waits for {' and '.join(words)}" for key, words in lacking.items()}


def _words(view: PoolView, one: SlotRecord) -> str:
    if not view.pool.slots:
        return f"pool {view.pool.name!r}, which is paused (it has 0 slots)"
    wanted = f"{one.slots} slot{'' if one.slots == 1 else 's'} of pool {view.pool.name!r}"
    holders = [f"run {other.run_id} holds {other.slots} (task {named(other)})" for other in view.holders[:3]]
    more = f" and {len(view.holders) - 3} more" if len(view.holders) > 3 else ""
    used = f"{view.used} of {view.pool.slots} in use"
    return f"{wanted} ({used}: {', '.join(holders)}{more})" if holders else f"{wanted} ({used})"


def named(one: SlotRecord) -> str:
    """The task instance that slots are for."""
    return one.task_id if one.map_index < 0 else f"{one.task_id}[{one.map_index}]"


def resize(db: str, name: str, slots: str) -> None:
    """Make a pool, or change its size, for all runs from now on; what workflows declare changes it no more.

    Raises:
        DefinitionError: no name, or no number of slots.
    """
    check_id(name, "pool")
    if not (slots.isascii() and slots.isdecimal()) or int(slots[:9]) != int(slots) or int(slots) > MAX_SLOTS:
        raise DefinitionError(f"{slots!r} is no number of slots: give a whole number from 0 (paused) to {MAX_SLOTS:,}")
    set_pool(db, name, int(slots))


def delete(db: str, name: str) -> None:
    """Forget a pool.

    Raises:
        RunNotFound: there is none of that name.
        RunOwned: it is in use.
    """
    with History(db) as history:
        known = [pool.name for pool in history.pools()]
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        raise RunNotFound(f"{db}: there is no pool {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    delete_pool(db, name)
