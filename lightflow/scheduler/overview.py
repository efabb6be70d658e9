"""The triggers of a state file for people: what is due, what has fired; pause, fire and preview triggers."""

from __future__ import annotations

import datetime
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.engine.choices import ALL_TASKS, SelectionOptions
from lightflow.instants import ScheduleClock, clock_of, in_words, instant_key
from lightflow.scheduler.decisions import run_id_of
from lightflow.scheduler.workflow_files import read_workflow_file
from lightflow.text import did_you_mean
from liteflow import DefinitionError, RunNotFound, Schedule, WorkflowTrigger
from liteflow.api import (
    FireRecord,
    History,
    NewFire,
    Record,
    TriggerRecord,
    find_fire,
    pause_triggers,
    read_fires,
    read_triggers,
    request_fire,
    scheduler_is_active,
    unpause_triggers,
)

#: The moments that can be written in every time zone, with a year of four digits.
_FIRST_MOMENT: Final = datetime.datetime(1000, 1, 2, tzinfo=datetime.UTC).timestamp()
_LAST_MOMENT: Final = datetime.datetime(9999, 12, 30, tzinfo=datetime.UTC).timestamp()


class TriggerView(Record):
    """A trigger and its state."""

    row: TriggerRecord
    words: str  #: the declaration in few words
    zone: str | None  #: the time zone of a schedule
    next_at: float | None  #: when it is due next; None: unknown, or never
    clock: ScheduleClock | None  #: of a schedule without mistakes

    @property
    def state(self) -> str:
        """Return `active`, `paused` or `problem`."""
        if self.row.problem is not None:
            return "problem"
        return "paused" if self.row.paused_at is not None else "active"


class TriggerSummary(Record):
    """The triggers of a state file, and whether a scheduler works on it."""

    triggers: Sequence[TriggerView]
    has_scheduler: bool


def overview(db: str, name: str | None = None) -> TriggerSummary:
    """Return all triggers, or those of a workflow, or one by its id.

    Raises:
        RunNotFound: there is no such trigger and no such workflow.
    """
    return _summary(db, find_triggers(db, name))


def triggers_of(db: str, workflow: str | None) -> TriggerSummary:
    """Return the triggers of a workflow, or all; a workflow that no server has served has none."""
    return _summary(db, _selected(read_triggers(db), workflow))


def _summary(db: str, rows: Sequence[TriggerRecord]) -> TriggerSummary:
    return TriggerSummary(triggers=[view_of(row) for row in rows], has_scheduler=scheduler_is_active(db))


def find_triggers(db: str, name: str | None, *, with_manual: bool = False) -> list[TriggerRecord]:
    """Return all triggers, or those with this id or of this workflow; `with_manual` also what starts runs by request.

    Raises:
        RunNotFound: there is none.
    """
    rows = read_triggers(db)
    selected = _selected(rows, name, with_manual=with_manual)
    if name is not None and not selected:
        names = {row.dag_id for row in rows} | {row.trigger_id for row in rows}
        hint = (
            did_you_mean(name, sorted(names)) or "; `lightflow serve` stores the triggers of the files that it serves"
        )
        raise RunNotFound(f"{db}: there is no trigger or workflow {name!r} with triggers{hint}")
    return selected


def _selected(rows: Sequence[TriggerRecord], name: str | None, *, with_manual: bool = False) -> list[TriggerRecord]:
    """Return the triggers with this id or of this workflow, or all; `with_manual` also what starts runs by request."""
    return [
        row
        for row in rows
        if name == row.trigger_id or (name in (None, row.dag_id) and (with_manual or row.kind != "manual"))
    ]


def view_of(row: TriggerRecord) -> TriggerView:
    """Return a trigger and its state."""
    clock, words = None, f"{row.kind}: its row was altered"
    try:
        trigger = row.trigger
        words = in_words(trigger)
        clock = clock_of(trigger) if isinstance(trigger, Schedule) else None
    except ValueError:
        pass
    next_at = None
    if clock is not None and row.paused_at is None and row.problem is None:
        now = time.time()
        next_at = row.next_at if row.next_at is not None and row.next_at > now else clock.next_after(now)
    return TriggerView(
        row=row, words=words, zone=None if clock is None else clock.zone_name, next_at=next_at, clock=clock
    )


class PlannedFire(Record):
    """An instant of a schedule that is still to come."""

    trigger_id: str
    instant: float
    due_at: float  #: the instant, and the delay by `jitter`
    local: str  #: the instant in the zone of the schedule


def planned(views: Mapping[str, ScheduleClock], begin: float, limit: int) -> list[PlannedFire]:
    """Return the next instants of schedules by their ids, the soonest first."""
    fires: list[PlannedFire] = []
    for trigger_id, clock in views.items():
        fires += [
            PlannedFire(
                trigger_id=trigger_id,
                instant=instant,
                due_at=instant + clock.delay(trigger_id, instant),
                local=clock.local(instant).strftime("%Y-%m-%d %H:%M:%S%z"),
            )
            for instant in itertools.islice(clock.after(begin), limit)
        ]
    return sorted(fires, key=lambda fire: fire.due_at)[:limit]


def planned_of(db: str, name: str | None, begin: float | None, limit: int) -> list[PlannedFire]:
    """Return the next instants of the stored schedules, or of those in a workflow file.

    Raises:
        RunNotFound: there is no such trigger and no such workflow.
        DefinitionError: the file has a mistake.
    """
    begin = time.time() if begin is None else begin
    if name is not None and (os.path.exists(name) or name.endswith((".yaml", ".yml", ".json", ".py"))):
        return planned(dict(_clocks_of_file(name)), begin, limit)
    views = [view_of(row) for row in find_triggers(db, name)]
    return planned(
        {view.row.trigger_id: view.clock for view in views if view.clock is not None and view.state == "active"},
        begin,
        limit,
    )


def _clocks_of_file(path: str) -> Iterator[tuple[str, ScheduleClock]]:
    file = read_workflow_file(path)
    if file is None or file.problem is not None:
        raise DefinitionError(file.problem if file is not None and file.problem else f"{path}: cannot be read")
    for workflow in file.workflows:
        for declared in workflow.triggers:
            if isinstance(declared.trigger, Schedule):
                yield declared.trigger_id, clock_of(declared.trigger)


def history(db: str, name: str | None, limit: int) -> list[FireRecord]:
    """Return the newest fires of all triggers, of a workflow also those by request, or of one trigger.

    Raises:
        RunNotFound: there is no such trigger and no such workflow.
    """
    names = None if name is None else [row.trigger_id for row in find_triggers(db, name, with_manual=True)]
    return read_fires(db, names, limit=limit)


def chosen_triggers(db: str, workflow: str | None, trigger: str | None) -> list[str] | None:
    """Return the ids of what starts runs of a workflow, requests too, of one trigger, or of one that is both.

    None: of all. A workflow that no server has served has none.
    """
    if workflow is None:
        return None if trigger is None else [trigger]
    rows = _selected(read_triggers(db), workflow, with_manual=True)
    return [row.trigger_id for row in rows if trigger in (None, row.trigger_id)]


def pause(db: str, name: str, by: str) -> list[TriggerRecord]:
    """Pause a trigger, or all triggers of a workflow, and return them. Raises RunNotFound."""
    rows = find_triggers(db, name)
    pause_triggers(db, [row.trigger_id for row in rows], by)
    return find_triggers(db, name)


def unpause(db: str, name: str) -> list[TriggerRecord]:
    """Activate triggers from now on, and return them. Raises RunNotFound."""
    marks: dict[str, str] = {}
    for row in find_triggers(db, name):
        match row.kind:
            case "schedule":
                marks[row.trigger_id] = instant_key(time.time())
            case "workflow":
                with History(db) as events:
                    marks[row.trigger_id] = str(events.position().seq)
            case _:
                marks[row.trigger_id] = row.watermark or ""
    unpause_triggers(db, marks)
    return find_triggers(db, name)


def fire(db: str, trigger_id: str, *, by: str, at: float | None = None, key: str | None = None,
         params: Mapping[str, Any] | None = None, selection: SelectionOptions = ALL_TASKS) -> str:  # fmt: skip
    """Request a fire of a trigger; the scheduler starts its run. Returns the id of the run.

    `key` makes the request unique: with the same key there is one run. `at` is the logical date, `selection` the tasks
    that run.

    Raises:
        RunNotFound: there is no such trigger.
        DefinitionError: a workflow has several triggers, the runs of the trigger are not for this moment, or the key
            was used for other parameters, other tasks or another moment.
    """
    stored = read_triggers(db)
    rows = _selected(stored, trigger_id) or _selected(stored, f"{trigger_id}:manual") or find_triggers(db, trigger_id)
    if len(rows) != 1:
        raise DefinitionError(f"{trigger_id} has several triggers; name one of {', '.join(r.trigger_id for r in rows)}")
    row, now = rows[0], time.time()
    trigger = row.trigger
    if at is not None:
        _check_moment(row, at)
    values = dict(trigger.params) if isinstance(trigger, Schedule) else {}
    key = f"by hand {instant_key(now)} {os.urandom(3).hex()}" if key is None else request_key(key)
    run_id = run_id_of(row.trigger_id, key, now)
    moment = now // 1 if at is None and isinstance(trigger, Schedule | WorkflowTrigger) else at  # as an instant is
    new = NewFire(
        trigger_id=row.trigger_id,
        key=key,
        at=now if moment is None else moment,
        due_at=now,
        status="WAITING",
        run_id=run_id,
        params={**values, **(params or {})},
        selection={name: value for name in type(selection)._fields if (value := getattr(selection, name))},
        started_by=by,
    )
    if not request_fire(db, new) and (before := find_fire(db, row.trigger_id, key)) is not None:
        if {"params": before.params, "selection": before.selection} != new.stored or (
            at is not None and before.at != at
        ):
            raise DefinitionError(
                f"{row.trigger_id}: this key has started run {before.run_id} with other parameters; send another key"
            )
        run_id = str(before.run_id)
    return run_id


def _check_moment(row: TriggerRecord, at: float) -> None:
    """Check the moment that a run is to be for. Raises DefinitionError."""
    if not isinstance(row.trigger, Schedule | WorkflowTrigger):
        raise DefinitionError(f"{row.trigger_id}: only runs of schedules and of `on: workflow` are for a moment")
    if not _FIRST_MOMENT <= at < _LAST_MOMENT:
        raise DefinitionError(f"{row.trigger_id}: the moment must be in the years from 1000 to 9999")


def request_key(key: str) -> str:
    """Return the key of the fire of a request that has a key of its caller."""
    return f"request {key}"


def person() -> str:
    """Return who calls: the user and the machine."""
    import getpass

    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = str(os.getuid())
    return f"{name}@{os.uname().nodename}"
