"""Triggers start the runs of a workflow: schedules, files, webhooks, and runs of other workflows.

A trigger is a declaration. The application reads it and starts the runs (`lightflow serve`); the engine stores what
was declared, and which run each fire of a trigger has started (`liteflow.state.triggers`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from liteflow.digest import sha256_hex
from liteflow.errors import DefinitionError
from liteflow.limits import MAX_SLOTS, ON_CONFLICT, Concurrency
from liteflow.record import EMPTY_MAPPING, Record

#: The answers to an instant at which a run of the workflow is active; `allow`: the new run starts too.
OVERLAPS: Final = (*ON_CONFLICT, "allow")
DEFAULT_OVERLAP: Final = "skip"
#: How the sender of a webhook proves who it is.
WEBHOOK_SCHEMES: Final = ("github", "timestamped", "token")
SHORTEST_INTERVAL_S: Final = 1
#: The states of runs after which runs of other workflows may start.
SOURCE_STATES: Final = ("SUCCESS", "FAILED", "CANCELLED", "INTERRUPTED")


class Schedule(Record):
    """Runs at instants: those of a cron expression, or one in each interval. Lengths of time are in seconds."""

    cron: str | None = None  #: five fields, or a word such as "@daily"
    every: float | None = None  #: the interval
    timezone: str | None = None  #: an IANA name; None: the zone of the machine
    start: str | None = None  #: a date or time in that zone, such as "2026-12-01"; nothing is due before it
    end: str | None = None  #: nothing is due after it
    jitter: float = 0.0  #: each start is delayed by less than this, by a fixed amount for each instant
    #: which missed instants run: none (False), the newest ("latest"), those of the last seconds, or all (True)
    catchup: bool | str | float = False
    overlap: str | None = None  #: one of `OVERLAPS`; None: "skip", or what the `concurrency` of the workflow says
    params: Mapping[str, Any] = EMPTY_MAPPING  #: parameters of the runs


class FileTrigger(Record):
    """Runs for files that match a pattern, once they have not changed for `settle` seconds."""

    path: str  #: such as "inbox/*.csv"; a relative path starts from the folder of the server
    settle: float = 5.0
    each: bool = True  #: whether each file has a run of its own; otherwise one run gets all files that are ready
    param: str | None = None  #: the parameter that gets the path, or the list of paths
    initial: bool = False  #: whether files that exist when the trigger is new start runs


class WebhookTrigger(Record):
    """Runs for requests whose sender knows a secret."""

    secret: str  #: the name of a declared secret
    scheme: str = "github"  #: one of `WEBHOOK_SCHEMES`
    param: str | None = None  #: the parameter that gets the path of a file with the body


class WorkflowTrigger(Record):
    """Runs after runs of other workflows."""

    name: tuple[str, ...]
    status: tuple[str, ...] = ("SUCCESS",)  #: the states of those runs
    all: bool = False  #: whether a run of each workflow is needed, not of any


class ManualTrigger(Record):
    """Runs that a person or a program requests from the server; each workflow that is served has it."""


Trigger = Schedule | FileTrigger | WebhookTrigger | WorkflowTrigger | ManualTrigger
#: The kinds of triggers, as workflow files and the state file name them.
TRIGGER_KINDS: Final[Mapping[str, type[Trigger]]] = {
    "schedule": Schedule,
    "file": FileTrigger,
    "webhook": WebhookTrigger,
    "workflow": WorkflowTrigger,
    "manual": ManualTrigger,
}


class DeclaredTrigger(Record):
    """A trigger of a workflow with its id."""

    trigger_id: str
    kind: str
    trigger: Trigger

    @property
    def spec(self) -> str:
        """The fields of the trigger that differ from the defaults, as JSON."""
        return json.dumps(spec_of(self.trigger), sort_keys=True)

    @property
    def digest(self) -> str:
        """A digest of the trigger: another one means that it was changed."""
        return sha256_hex(f"{self.kind} {self.spec}".encode())


def kind_of(trigger: Trigger) -> str:
    """Return the name of the kind of a trigger."""
    return next(kind for kind, cls in TRIGGER_KINDS.items() if type(trigger) is cls)


def declared_triggers(dag_id: str, triggers: Sequence[Trigger]) -> list[DeclaredTrigger]:
    """Return the triggers of a workflow with their ids: `nightly:schedule`, `nightly:schedule:2` and so on."""
    counts: dict[str, int] = {}
    result = []
    for trigger in triggers:
        kind = kind_of(trigger)
        counts[kind] = counts.get(kind, 0) + 1
        number = f":{counts[kind]}" if counts[kind] > 1 else ""
        result.append(DeclaredTrigger(trigger_id=f"{dag_id}:{kind}{number}", kind=kind, trigger=trigger))
    return result


def manual_trigger(dag_id: str) -> DeclaredTrigger:
    """Return the trigger for requests of a workflow that is served."""
    return DeclaredTrigger(trigger_id=f"{dag_id}:manual", kind="manual", trigger=ManualTrigger())


def spec_of(trigger: Trigger) -> dict[str, Any]:
    """Return the fields of a trigger that differ from the defaults, as values of JSON."""
    defaults = type(trigger)._defaults
    fields = {name: getattr(trigger, name) for name in type(trigger)._fields}
    return {
        name: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if name not in defaults or value != defaults[name]
    }


def trigger_from_spec(kind: str, spec: Mapping[str, Any]) -> Trigger:
    """Return the trigger of a kind with these fields.

    Raises:
        ValueError: there is no such kind, or it has no such fields.
    """
    if kind not in TRIGGER_KINDS:
        raise ValueError(f"there is no kind of trigger {kind!r}")
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}
    try:
        cls: Any = TRIGGER_KINDS[kind]
        trigger: Trigger = cls(**fields)
    except TypeError as error:
        raise ValueError(f"{kind}: {error}") from None
    return trigger


def checked_triggers(value: Any) -> tuple[Trigger, ...]:
    """Return the triggers that a program gives: a cron expression, a trigger, or a list of them.

    The expression itself and the time zone are checked where the application reads the dag.

    Raises:
        DefinitionError: a value is not valid.
    """
    values = () if value is None else value if isinstance(value, list | tuple) else (value,)
    triggers = []
    for item in values:
        trigger = Schedule(cron=item) if isinstance(item, str) else item
        if not isinstance(trigger, Schedule | FileTrigger | WebhookTrigger | WorkflowTrigger):
            example = "a trigger such as Schedule(every=900)"
            raise DefinitionError(f"schedule: {item!r} must be a cron expression, or {example}")
        if isinstance(trigger, WorkflowTrigger):
            trigger = WorkflowTrigger(name=_names(trigger.name), status=_names(trigger.status), all=trigger.all)
        for key, message in trigger_problems(trigger):
            raise DefinitionError(f"{type(trigger).__name__}: {key}: {message}")
        triggers.append(trigger)
    return tuple(triggers)


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def trigger_problems(trigger: Trigger) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in a trigger: the key, and a sentence. `lightflow.instants` checks times of schedules."""
    if isinstance(trigger, Schedule):
        yield from _schedule_problems(trigger)
    elif isinstance(trigger, FileTrigger):
        if not isinstance(trigger.path, str) or not trigger.path:
            yield "path", f"must be the path of files such as inbox/*.csv, not {trigger.path!r}"
        if not _is_length(trigger.settle):
            yield "settle", f"must be a length of time of 0 or more, not {trigger.settle!r}"
    elif isinstance(trigger, WebhookTrigger):
        if trigger.scheme not in WEBHOOK_SCHEMES:
            yield "scheme", f"must be one of {', '.join(WEBHOOK_SCHEMES)}, not {trigger.scheme!r}"
    elif isinstance(trigger, WorkflowTrigger):
        if not trigger.name:
            yield "name", "must name a workflow"
        for status in trigger.status:
            if status not in SOURCE_STATES:
                yield "status", f"must be one of {', '.join(SOURCE_STATES)}, not {status!r}"


def _schedule_problems(schedule: Schedule) -> Iterator[tuple[str, str]]:
    if (schedule.cron is None) == (schedule.every is None):
        yield "cron", 'needs "cron" or "every", and not both'
    if schedule.every is not None and not (_is_length(schedule.every) and schedule.every >= SHORTEST_INTERVAL_S):
        yield "every", f"must be at least {SHORTEST_INTERVAL_S} second, not {schedule.every!r}"
    if not _is_length(schedule.jitter):
        yield "jitter", f"must be a length of time of 0 or more, not {schedule.jitter!r}"
    catchup = schedule.catchup
    if not isinstance(catchup, bool) and catchup != "latest" and not _is_length(catchup):
        yield "catchup", f'must be true, false, "latest" or a length of time, not {catchup!r}'
    if schedule.overlap is not None and schedule.overlap not in OVERLAPS:
        yield "overlap", f"must be one of {', '.join(OVERLAPS)}, not {schedule.overlap!r}"


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def overlap_limit(overlap: str | None) -> Concurrency | None:
    """Return the limit of the runs of a schedule in a workflow that declares no `concurrency`."""
    overlap = overlap or DEFAULT_OVERLAP
    return None if overlap == "allow" else Concurrency(limit=1, on_conflict=overlap)  # type: ignore[arg-type]  # checked


def counted_limit(triggers: Sequence[Trigger]) -> Concurrency | None:
    """Return the limit of all other runs of such a workflow: they do not wait, and a run of a schedule sees them."""
    limited = any(isinstance(each, Schedule) and each.overlap != "allow" for each in triggers)
    return Concurrency(limit=MAX_SLOTS) if limited else None
