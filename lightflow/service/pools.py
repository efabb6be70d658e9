"""Pools of slots: how many slots are in use, who holds them, who waits for them; change the size of a pool."""

from __future__ import annotations

from liteflow import DefinitionError, RunNotFound
from liteflow.api import MAX_SLOTS, History, PoolRecord, Record, SlotRecord, delete_pool, instance_name, set_pool
from liteflow.definition.task import check_id
from liteflow.state.pools import group_pool


class PoolView(Record):
    """A pool with its holders and its queue, in the order of arrival."""

    pool: PoolRecord
    holders: list[SlotRecord]
    waiting: list[SlotRecord]

    @property
    def used(self) -> int:
        """Return the number of slots in use."""
        return sum(holder.slots for holder in self.holders)


def overview(db: str) -> list[PoolView]:
    """Return all pools of a state file, by name."""
    with History(db) as history:
        return _views(history)


def _views(history: History) -> list[PoolView]:
    slots = history.slots()
    return [
        PoolView(
            pool=pool,
            holders=[slot for slot in slots if slot.pool == pool.name and slot.taken_at is not None],
            waiting=[slot for slot in slots if slot.pool == pool.name and slot.taken_at is None],
        )
        for pool in history.pools()
    ]


def queue_reasons(history: History, run_id: str) -> dict[tuple[str, int], str]:
    """Return for each task instance of a run that waits for slots what it waits for, in words."""
    missing: dict[tuple[str, int], list[str]] = {}
    for view in _views(history):
        for slot in view.waiting:
            if slot.run_id == run_id:
                missing.setdefault((slot.task_id, slot.map_index), []).append(_in_words(view, slot))
    return {key: f"waits for {' and '.join(words)}" for key, words in missing.items()}


def group_reason(history: History, run_id: str) -> str | None:
    """Return how a run that waits for its group is queued now, in the words of its reason; None if it is not queued."""
    slots = history.slots()
    queued = next(
        (slot for slot in slots if slot.run_id == run_id and not slot.task_id and slot.taken_at is None), None
    )
    if queued is None:
        return None
    first = next((slot.run_id for slot in slots if slot.pool == queued.pool and slot.run_id != run_id), "?")
    return f"queued in group {queued.pool.removeprefix(group_pool(''))!r} behind run {first}"


def _in_words(view: PoolView, slot: SlotRecord) -> str:
    if not view.pool.slots:
        return f"pool {view.pool.name!r}, which is paused (it has 0 slots)"
    wanted = f"{slot.slots} slot{'' if slot.slots == 1 else 's'} of pool {view.pool.name!r}"
    holders = [f"run {holder.run_id} holds {holder.slots} (task {slot_owner(holder)})" for holder in view.holders[:3]]
    rest = f" and {len(view.holders) - 3} more" if len(view.holders) > 3 else ""
    used = f"{view.used} of {view.pool.slots} in use"
    position = view.waiting.index(slot)
    if position and view.used + slot.slots <= view.pool.slots:  # else the slots in use are reason enough
        first = view.waiting[0]
        rest = f"{rest}; run {first.run_id} is before it in the queue, for {first.slots} (task {slot_owner(first)})"
    return f"{wanted} ({used}: {', '.join(holders)}{rest})" if holders else f"{wanted} ({used}{rest})"


def slot_owner(slot: SlotRecord) -> str:
    """Return the name of the task instance that holds slots or waits for them."""
    return instance_name(slot.task_id, slot.map_index)


def resize(db: str, name: str, slots: str) -> None:
    """Create a pool, or change its size, for all runs from now on. It overrides the size that workflows declare.

    Raises:
        DefinitionError: the name or the number is not valid.
    """
    check_id(name, "pool")
    if not (slots.isascii() and slots.isdecimal()) or int(slots[:9]) != int(slots) or int(slots) > MAX_SLOTS:
        raise DefinitionError(
            f"{slots!r} is not a valid number of slots: use a whole number from 0 (paused) to {MAX_SLOTS:,}"
        )
    set_pool(db, name, int(slots))


def delete(db: str, name: str) -> None:
    """Delete a pool.

    Raises:
        RunNotFound: there is none of that name.
        RunOwned: it is in use.
    """
    with History(db) as history:
        names = [pool.name for pool in history.pools()]
    if name not in names:
        import difflib

        matches = difflib.get_close_matches(name, names, n=1)
        raise RunNotFound(f"{db}: there is no pool {name!r}" + (f"; did you mean {matches[0]!r}?" if matches else ""))
    delete_pool(db, name)
