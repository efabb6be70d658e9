"""The resolvers of triggers and their fires."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from lightflow.scheduler import overview
from lightflow.scheduler.overview import TriggerView
from lightflow.server.graphql.context import OperationContext
from lightflow.server.graphql.paging import Connection, checked_first, connection, decode_cursor, decode_number
from lightflow.server.graphql.resolvers import CONNECTION, Resolver, get_run, of, shown
from lightflow.server.problems import RequestProblem
from liteflow import RunNotFound
from liteflow.api import FIRE_STATUSES, FireRecord, RunRecord, read_fires

_MOST_INSTANTS: Final = 200


def list_triggers(
    _: object,
    context: OperationContext,
    first: int | None = None,
    after: str | None = None,
    workflow: str | None = None,
) -> Connection:
    """Return a page of triggers, by id."""
    size, last = checked_first(first, 50), decode_cursor(after)
    views = overview.triggers_of(context.services.db, workflow).triggers
    page = [view for view in views if last is None or view.row.trigger_id > last]
    return connection(page[: size + 1], size, context.as_of, lambda view: view.row.trigger_id)


def get_trigger(context: OperationContext, trigger_id: str) -> TriggerView | None:
    """Return a trigger, or nothing."""
    try:
        views = overview.overview(context.services.db, trigger_id).triggers
    except RunNotFound:
        return None
    return next((view for view in views if view.row.trigger_id == trigger_id), None)


def list_fires(
    _: object,
    context: OperationContext,
    *,
    first: int | None = None,
    after: str | None = None,
    trigger: str | None = None,
    workflow: str | None = None,
    state: Sequence[str] | None = None,
) -> Connection:
    """Return a page of fires, the newest first."""
    size = checked_first(first, 50)
    if not set(state or ()) <= set(FIRE_STATUSES):
        raise RequestProblem(400, "BAD_INPUT", f"state must be of {', '.join(FIRE_STATUSES)}")
    fires = read_fires(
        context.services.db,
        overview.chosen_triggers(context.services.db, workflow, trigger),
        statuses=tuple(state or ()),
        before=decode_number(after),
        limit=size + 1,
    )
    return connection(fires, size, context.as_of, lambda fire: fire.fire_no)


def fire_of_run(run: RunRecord, context: OperationContext) -> FireRecord | None:
    """Return the fire that started a run, or nothing."""
    if run.fire is None:
        return None
    return next(iter(read_fires(context.services.db, run_ids=[run.run_id], limit=1)), None)


def _run(fire: FireRecord, context: OperationContext) -> RunRecord | None:
    return None if fire.run_id is None or fire.status != "STARTED" else get_run(None, context, fire.run_id)


def _next_fires(view: TriggerView, _: OperationContext, first: int | None = None) -> list[float]:
    size = 10 if first is None else first
    if not 1 <= size <= _MOST_INSTANTS:
        raise RequestProblem(400, "BAD_INPUT", f"first must be a number from 1 to {_MOST_INSTANTS}")
    if view.clock is None or view.state != "active":
        return []
    return [fire.due_at for fire in overview.planned({view.row.trigger_id: view.clock}, time.time(), size)]


def _of_row(attribute: str) -> Resolver:
    return lambda view, context: getattr(view.row, attribute)


RESOLVERS: Final[dict[str, Mapping[str, Resolver]]] = {
    "Query": {"triggers": list_triggers, "fires": list_fires},
    "Run": {"fire": fire_of_run},
    "TriggerConnection": CONNECTION,
    "FireConnection": CONNECTION,
    "Trigger": {
        "id": _of_row("trigger_id"),
        "workflow": _of_row("dag_id"),
        "kind": _of_row("kind"),
        "words": of("words"),
        "timezone": of("zone"),
        "state": of("state"),
        "problem": _of_row("problem"),
        "pausedBy": _of_row("paused_by"),
        "nextFires": _next_fires,
    },
    "Fire": {
        "number": of("fire_no"),
        "trigger": of("trigger_id"),
        "key": shown(lambda fire, context: fire.key.partition("\n")[0]),
        "at": of("at"),
        "state": of("status"),
        "reason": shown(of("reason")),
        "startedBy": of("started_by"),
        "decidedAt": of("decided_at"),
        "run": _run,
    },
}
