"""The part of `History` that reads the states of the task instances of a run: the columns that a list shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from liteflow.state.row_kinds import ID, INSTANCE_STATE_KINDS, INT, STATE, Kind


class InstanceState(NamedTuple):
    """A task instance or a hook in a list of those of a run: fields of `InstanceRecord`."""

    task_id: str
    map_index: int
    map_key: str | None
    status: str
    try_number: int
    started_at: float | None
    ended_at: float | None
    reason: str | None
    tolerated: int
    kind: str


class InstanceStateHistory(Protocol):
    """A history, as far as it reads the states of instances."""

    def _rows(self, sql: str, parameters: Sequence[object], kinds: Sequence[Kind]) -> list[Any]: ...

    def instance_states(self, run_id: str) -> list[InstanceState]:
        """Return the task instances of a run by task id and map index, and then its hooks, by id."""
        sql = f"SELECT {', '.join(InstanceState._fields)} FROM liteflow_task_instances WHERE run_id=? AND"
        rows = [
            row
            for kinds in ("kind='task'", "kind IN ('hook', 'precondition')")
            for row in self._rows(f"{sql} {kinds} ORDER BY task_id, map_index", (run_id,), INSTANCE_STATE_KINDS)
        ]
        return list(map(InstanceState._make, rows))

    def statuses(self, run_id: str) -> list[tuple[str, int, str]]:
        """Return task id, map index and status of the task instances of a run, ordered by task id."""
        sql = "SELECT task_id, map_index, status FROM liteflow_task_instances WHERE run_id=? AND kind='task'"
        return self._rows(f"{sql} ORDER BY 1, 2", (run_id,), (ID, INT, STATE))

    def task_statuses(self, run_id: str) -> dict[str, str]:
        """Return the status of each task of a run, without its instances, ordered by task id."""
        sql = "SELECT task_id, status FROM liteflow_task_instances WHERE run_id=? AND map_index<0 AND kind='task'"
        return dict(self._rows(f"{sql} ORDER BY 1", (run_id,), (ID, STATE)))
