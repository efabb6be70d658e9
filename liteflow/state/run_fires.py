"""The fires of triggers, as far as a reader of runs needs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from liteflow.record import Record
from liteflow.state.row_kinds import ID, INT, INT_OR_NOT, REAL, STATE, Kind

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


class FireStatistics(NamedTuple):
    """How many fires there are, and how late they were claimed."""

    through: int  # the number of the last fire that is counted
    counts: dict[str, int]  # by status
    delays: tuple[int, ...]  # how many were claimed up to each bound, and how many at all
    seconds: float  # the sum of the delays

    def plus(self, other: FireStatistics) -> FireStatistics:
        """Return the statistics of these fires and later ones."""
        counts = {name: self.counts.get(name, 0) + other.counts.get(name, 0) for name in self.counts | other.counts}
        delays = tuple(map(sum, zip(self.delays, other.delays, strict=True)))
        return FireStatistics(other.through, counts, delays, self.seconds + other.seconds)


class FireHistory(Protocol):
    """A history, as far as it reads fires."""

    def _rows(self, sql: str, parameters: Sequence[object], kinds: Sequence[Kind]) -> list[Any]: ...

    def _has(self, table: str) -> bool: ...

    def first_open_fire(self) -> int | None:
        """Return the number of the oldest fire that is not decided; None where there is none."""
        if not self._has("liteflow_fires"):
            return None
        sql = "SELECT min(fire_no) FROM liteflow_fires WHERE status IN ('CLAIMED', 'WAITING')"
        oldest: int | None = self._rows(sql, (), (INT_OR_NOT,))[0][0]
        return oldest

    def fire_statistics(self, bounds: Sequence[float], after: int, before: int | None = None) -> FireStatistics:
        """Return the statistics of the fires with numbers above one, and below another; `bounds` are in seconds."""
        late = "claimed_at - due_at"
        columns = "".join(f"coalesce(sum({late} <= {bound!r}), 0), " for bound in bounds)
        sql = (
            f"SELECT status, count(*), max(fire_no), {columns}count({late}), coalesce(sum(max(0.0, {late})), 0.0) "
            "FROM liteflow_fires WHERE fire_no>? AND fire_no<? GROUP BY status ORDER BY status"
        )
        kinds = (STATE, INT, INT, *[INT] * (len(bounds) + 1), REAL)
        numbers = (after, 2**63 - 1 if before is None else before)
        rows = self._rows(sql, numbers, kinds) if self._has("liteflow_fires") else []
        return FireStatistics(
            through=max((row[2] for row in rows), default=after),
            counts={row[0]: row[1] for row in rows},
            delays=tuple(sum(row[place] for row in rows) for place in range(3, len(kinds) - 1)),
            seconds=sum(row[-1] for row in rows),
        )

    def broken_triggers(self) -> dict[str, int]:
        """Return the number of triggers with a problem by dag, for dags with one."""
        if not self._has("liteflow_fires"):
            return {}
        sql = (
            "SELECT dag_id, count(*) FROM liteflow_triggers WHERE problem IS NOT NULL AND kind<>'manual' "
            "GROUP BY dag_id ORDER BY dag_id"
        )
        return dict(self._rows(sql, (), (ID, INT)))

    def next_fires(self) -> dict[str, float]:
        """Return when a schedule of each dag is due next, for dags with one that is active."""
        return dict(self._rows(_NEXT_FIRES, (), (ID, REAL)))
