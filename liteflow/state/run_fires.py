"""The fires of triggers, as far as a reader of runs needs them."""

from __future__ import annotations

import json
from typing import Final

from liteflow.record import Record

#: The fire of the run of a row, as JSON; a part of a statement that selects runs.
FIRE_COLUMN: Final = (
    "(SELECT json_array(trigger_id, at, started_by) FROM liteflow_fires AS fire "
    "WHERE fire.run_id=liteflow_dag_runs.run_id)"
)
#: When a schedule of each dag is due next.
NEXT_FIRES_SQL: Final = (
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
