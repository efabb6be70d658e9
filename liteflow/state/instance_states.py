"""The part of `History` that reads the states of the task instances of a run: the columns that a list shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from liteflow.state.row_kinds import ID, INSTANCE_STATE_KINDS, INT, REAL_OR_NOT, STATE, Kind


class InstanceStates(NamedTuple):
    """The task instances and hooks of a run, as columns: fields of `InstanceRecord`."""

    task_id: Sequence[str]
    map_index: Sequence[int]
    map_key: Sequence[str | None]
    status: Sequence[str]
    try_number: Sequence[int]
    started_at: Sequence[float | None]
    ended_at: Sequence[float | None]
    reason: Sequence[str | None]
    tolerated: Sequence[int]
    kind: Sequence[str]
    host: Sequence[str | None]


#: The machine of a cluster that runs the attempt of an instance, or that ran its last one.
HOST_COLUMN: Final = (
    "coalesce(host, (SELECT last.host FROM liteflow_attempts AS last "
    "WHERE (last.run_id, last.task_id, last.map_index, last.attempt)=(liteflow_task_instances.run_id, "
    "liteflow_task_instances.task_id, liteflow_task_instances.map_index, try_number)))"
)


class InstanceStateHistory(Protocol):
    """A history, as far as it reads the states of instances."""

    def _rows(self, sql: str, parameters: Sequence[object], kinds: Sequence[Kind]) -> list[Any]: ...

    def instance_states(self, run_id: str) -> InstanceStates:
        """Return the task instances of a run by task id and map index, and then its hooks, by id."""
        columns = ", ".join([*InstanceStates._fields[:-1], HOST_COLUMN])
        sql = f"SELECT {columns} FROM liteflow_task_instances WHERE run_id=? AND"
        rows = [
            row
            for kinds in ("kind='task'", "kind IN ('hook', 'precondition')")
            for row in self._rows(f"{sql} {kinds} ORDER BY task_id, map_index", (run_id,), INSTANCE_STATE_KINDS)
        ]
        return InstanceStates._make(zip(*rows, strict=True) if rows else [()] * len(InstanceStates._fields))

    def instance_span(self, run_id: str, task_id: str) -> tuple[float | None, float | None]:
        """Return when the first of the instances of a mapped task started, and when the last one ended."""
        sql = "SELECT min(started_at), max(ended_at) FROM liteflow_task_instances WHERE run_id=? AND task_id=?"
        ((started_at, ended_at),) = self._rows(f"{sql} AND map_index>=0", (run_id, task_id), (REAL_OR_NOT, REAL_OR_NOT))
        return started_at, ended_at

    def statuses(self, run_id: str) -> list[tuple[str, int, str]]:
        """Return task id, map index and status of the task instances of a run, ordered by task id."""
        sql = "SELECT task_id, map_index, status FROM liteflow_task_instances WHERE run_id=? AND kind='task'"
        return self._rows(f"{sql} ORDER BY 1, 2", (run_id,), (ID, INT, STATE))

    def task_statuses(self, run_id: str) -> dict[str, str]:
        """Return the status of each task of a run, without its instances, ordered by task id."""
        sql = "SELECT task_id, status FROM liteflow_task_instances WHERE run_id=? AND map_index<0 AND kind='task'"
        return dict(self._rows(f"{sql} ORDER BY 1", (run_id,), (ID, STATE)))

    def task_failures(self, dag_id: str, since: float, most: int) -> dict[str, int]:
        """Return in how many failed runs of a dag each task failed: of the last `most` that have started since then."""
        sql = (
            "SELECT task_id, count(*) FROM (SELECT run_id FROM liteflow_dag_runs WHERE status='FAILED' AND dag_id=? "
            "AND started_at>=? ORDER BY started_at DESC LIMIT ?) JOIN liteflow_task_instances USING (run_id) "
            "WHERE map_index<0 AND kind='task' AND status='FAILED' AND NOT tolerated GROUP BY 1"
        )
        return dict(self._rows(sql, (dag_id, since, most), (ID, INT)))
