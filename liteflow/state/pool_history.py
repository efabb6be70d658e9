"""The part of `History` that reads pools, and the slots that runs hold and are queued for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from liteflow.record import Record
from liteflow.state.row_kinds import ID, INT, REAL, REAL_OR_NOT, TEXT, Kind


class SlotRecord(NamedTuple):
    """Slots of a pool that a task of a live run, or the run itself (task id empty), holds or is queued for."""

    pool: str
    run_id: str
    task_id: str
    map_index: int
    slots: int
    asked_at: float
    taken_at: float | None
    run_no: int


class PoolRecord(Record, kw_only=False):
    """A pool; `by_hand`: a command has set its size."""

    name: str
    slots: int
    description: str
    by_hand: bool
    updated_at: float


class PoolHistory(Protocol):
    """A history, as far as it reads pools."""

    def _rows(self, sql: str, parameters: Sequence[object], kinds: Sequence[Kind]) -> list[Any]: ...

    def _has(self, table: str) -> bool: ...

    def is_owned(self, run_no: int) -> bool: ...

    def pools(self) -> list[PoolRecord]:
        """Return the pools, ordered by name."""
        if not self._has("liteflow_slots"):
            return []
        sql = "SELECT name, slots, description, by_hand, updated_at FROM liteflow_pools ORDER BY name"
        rows = self._rows(sql, (), (TEXT, INT, TEXT, INT, REAL))
        return [PoolRecord(name, slots, about, bool(by_hand), at) for name, slots, about, by_hand, at in rows]

    def slots(self) -> list[SlotRecord]:
        """Return the slots that live runs hold, then those they are queued for, in the order of arrival."""
        if not self._has("liteflow_slots"):
            return []
        rows = self._rows(
            "SELECT pool, run_id, task_id, map_index, slots, asked_at, taken_at, run_no FROM liteflow_slots "
            "ORDER BY taken_at IS NULL, asked_at, run_no",
            (),
            (TEXT, ID, TEXT, INT, INT, REAL, REAL_OR_NOT, INT),
        )
        alive = {run_no: run_no > 0 and self.is_owned(run_no) for run_no in {row[-1] for row in rows}}
        return [SlotRecord(*row) for row in rows if alive[row[-1]]]
