"""The fires of triggers, as far as a reader of runs needs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from liteflow.record import Record
from liteflow.state.row_kinds import ID, INT, REAL, STATE, Kind

#: The fire of the run of a row, as JSON; a part of a statement that selects runs.
FIRE_COLUMN: Final = (
    "(SELECT json_array(trigger_id, at, started_by) FROM liteflow_fires AS fire "
    "WHERE fire.run_id=liteflow_dag_runs.run_id)"
)
_NEXT_FIRES: Final = (
    "SELECT dag_id, min(next_at) FROM liteflow_triggers WHERE next_at IS NOT NULL AND paused_at IS NULL "
    "AND problem IS NULL GROUP BY dag_id"
)


class RunFire(Record, kw_only=False):
    """The fire of a trigger that started a run."""

    trigger_id: str
    at: float  # the instant for which it is
    started_by: str | None  # the person or program that requested it; None: the scheduler


def run_fire(text: str | None) -> RunFire | None:
    """Return the fire of a run, from `FIRE_COLUMN`; None also where the row was altered."""
    try:
        match json.loads(text or "null"):
            case [str(trigger_id), int() | float() as at, str() | None as started_by]:
                return RunFire(trigger_id, float(at), started_by)
    except (ValueError, RecursionError):
        pass
    return None


class FireDelays(NamedTuple):
    """How late fires were claimed."""

    numbers: tuple[int, ...]  # of fires up to each bound, and of all
    seconds: float  # the sum


class FireHistory(Protocol):
    """A history, as far as it reads fires."""

    def _rows(self, sql: str, parameters: Sequence[object], kinds: Sequence[Kind]) -> list[Any]: ...

    def _has(self, table: str) -> bool: ...

    def fire_counts(self) -> dict[str, int]:
        """Return the number of fires by status."""
        if not self._has("liteflow_fires"):
            return {}
        sql = "SELECT status, count(*) FROM liteflow_fires GROUP BY status ORDER BY status"
        return dict(self._rows(sql, (), (STATE, INT)))

    def broken_triggers(self) -> dict[str, int]:
        """Return the number of triggers with a problem by dag, for dags with one."""
        if not self._has("liteflow_fires"):
            return {}
        sql = (
            "SELECT dag_id, count(*) FROM liteflow_triggers WHERE problem IS NOT NULL AND kind<>'manual' "
            "GROUP BY dag_id ORDER BY dag_id"
        )
        return dict(self._rows(sql, (), (ID, INT)))

    def fire_delays(self, bounds: Sequence[float]) -> FireDelays:
        """Return how late fires were claimed; `bounds` are in seconds, ascending."""
        if not self._has("liteflow_fires"):
            return FireDelays((0,) * (len(bounds) + 1), 0.0)
        columns = "".join(f"coalesce(sum(claimed_at - due_at <= {bound!r}), 0), " for bound in bounds)
        sql = (
            f"SELECT {columns}count(*), coalesce(sum(max(0.0, claimed_at - due_at)), 0.0) FROM liteflow_fires "
            "WHERE claimed_at IS NOT NULL AND due_at IS NOT NULL"
        )
        (row,) = self._rows(sql, (), (*[INT] * (len(bounds) + 1), REAL))
        return FireDelays(tuple(row[:-1]), row[-1])

    def next_fires(self) -> dict[str, float]:
        """Return when a schedule of each dag is due next, for dags with one that is active."""
        return dict(self._rows(_NEXT_FIRES, (), (ID, REAL)))
