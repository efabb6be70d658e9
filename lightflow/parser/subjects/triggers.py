"""Triggers, which start runs without a person: the keys `schedule` and `on`."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import FREE, ID_PATTERN, Schema, block, block_at, duration, flag, is_expression
from lightflow.parser.tree import Tree
from lightflow.spec.durations import seconds
from lightflow.text import did_you_mean, quoted
from liteflow import FileTrigger, Param, Schedule, WebhookTrigger, WorkflowTrigger
from liteflow.api import (
    EMPTY_MAPPING,
    OVERLAPS,
    SHORTEST_INTERVAL_S,
    SOURCE_STATES,
    WEBHOOK_SCHEMES,
    Record,
    Trigger,
    trigger_problems,
)

_PARAM: Final = "The parameter of the run that gets "

SCHEDULE: Final = block(
    "Schedule",
    "Runs at instants: those of a cron expression, or one in each interval.",
    {
        "cron": {
            "description": "Five fields: minute, hour, day of month, month, day of week; or a word such as `@daily`. "
            "Where both days are restricted, either of them is enough.",
            "type": "string",
            "examples": ["30 2 * * 1-5", "@hourly"],
        },
        "every": duration(
            "The interval between two instants, in real time. They are counted from `start`, or from 1970.",
            zero=True,
            examples=["15m"],
        )
        | {"minimum": SHORTEST_INTERVAL_S},
        "timezone": {
            "description": "The time zone of the expression, of `start` and of `end`. By default that of the machine.",
            "type": "string",
            "examples": ["Europe/Berlin"],
        },
        "start": {
            "description": "The date or time before which nothing is due.",
            "type": "string",
            "examples": ["2026-12-01"],
            "x-aliases": ["start_date"],
        },
        "end": {
            "description": "The date or time after which nothing is due.",
            "type": "string",
            "examples": ["2027-03-01T00:00"],
            "x-aliases": ["end_date"],
        },
        "jitter": duration(
            "Each start is delayed by less than this, by an amount that is fixed for each instant.",
            zero=True,
            default=0,
            examples=["2m"],
        ),
        "catchup": {
            "description": "The missed instants that run later: none (`false`), the newest (`latest`), those of a "
            'length of time (`"6h"`), or all (`true`); at most 100, one after another.',
            "type": ["boolean", "string", "number"],
            "default": False,
            "examples": ["latest", "6h"],
            "x-expects": 'true, false, "latest", or a time such as "6h"',
        },
        "overlap": {
            "description": "The answer to an instant while a run of the workflow is active: the new run waits "
            "(`queue`), does not start (`skip`), cancels the active run (`cancel`), fails (`fail`), or starts too "
            "(`allow`). The default is `skip`, or what the `concurrency` of the workflow says.",
            "enum": list(OVERLAPS),
            "examples": ["queue"],
            "x-aliases": ["overlap_policy"],
        },
        "params": {
            "description": "The parameters of the runs.",
            "type": "object",
            "patternProperties": FREE,
            "examples": [{"mode": "full"}],
            "x-expects": "a mapping of names to values",
        },
    },
)

FILE: Final = block(
    "File trigger",
    "Runs for files, once they are complete.",
    {
        "path": {
            "description": "The files: a pattern relative to the folder of the server.",
            "type": "string",
            "minLength": 1,
            "examples": ["inbox/*.csv"],
        },
        "settle": duration(
            "A file is complete when its size and its time have not changed for so long.",
            zero=True,
            default=5,
            examples=["5s"],
        ),
        "each": {
            "description": "Whether each file has a run of its own. Otherwise a run gets all files that are complete.",
            "type": "boolean",
            "default": True,
        },
        "param": {"description": f"{_PARAM}the path, or the list of paths.", "type": "string", "examples": ["input"]},
        "initial": flag("Whether files that exist when the trigger is new start runs."),
    },
    required=["path"],
)

WEBHOOK: Final = block(
    "Webhook",
    "Runs for requests whose sender knows a secret.",
    {
        "secret": {"description": "The secret, from `secrets`.", "type": "string", "examples": ["hook_key"]},
        "scheme": {
            "description": "How the sender proves that it knows the secret.",
            "enum": list(WEBHOOK_SCHEMES),
            "default": "github",
        },
        "param": {
            "description": f"{_PARAM}the path of a file with the body of the request.",
            "type": "string",
            "examples": ["body"],
        },
    },
    required=["secret"],
)

WORKFLOW: Final = block(
    "Workflow trigger",
    "Runs after runs of other workflows.",
    {
        "name": {
            "description": "The workflow, or a list of workflows.",
            "type": ["array", "string"],
            "items": {"type": "string", "pattern": ID_PATTERN, "x-expects": "the name of a workflow"},
            "minItems": 1,
            "x-list": True,
            "examples": ["fetch", ["fetch", "clean"]],
        },
        "status": {
            "description": "The states of those runs that count.",
            "type": ["array", "string"],
            "items": {"enum": list(SOURCE_STATES)},
            "minItems": 1,
            "x-list": True,
            "default": ["SUCCESS"],
        },
        "all": flag("Whether a run of each of the workflows is needed, not only of any."),
    },
    required=["name"],
)

_BLOCKS: Final = {"schedule": SCHEDULE, "file": FILE, "webhook": WEBHOOK, "workflow": WORKFLOW}
#: The key that a text alone means, and what to write, by kind.
_SHORT: Final = {
    "schedule": ("cron", 'a cron expression such as "30 2 * * *", or a mapping such as {every: 15m}'),
    "file": ("path", "a path such as inbox/*.csv, or a mapping such as {path: inbox/*.csv}"),
    "webhook": ("secret", "the name of a secret, or a mapping such as {secret: hook_key}"),
    "workflow": ("name", "the name of a workflow, or a mapping such as {name: fetch}"),
}


def _list_of(kind: str, description: str, **keywords: Any) -> Schema:
    """Return the schema of a list of triggers of a kind; a single trigger means a list of it."""
    key, expects = _SHORT[kind]
    inner = block_at(f"trigger_{kind}")
    return {
        "description": description,
        "type": ["array", "object", "string"],
        **inner,
        "items": {"type": ["object", "string"], **inner, "x-shorthand": key, "x-expects": expects},
        "minItems": 1,
        "minLength": 1,
        "x-list": True,
        "x-expects": f"{expects}; or a list of them",
        **keywords,
    }


#: The definitions of the schema.
DEFINITIONS: Final = {f"trigger_{kind}": schema for kind, schema in _BLOCKS.items()}

_SCHEDULES: Final = "When runs start, while `lightflow serve` runs: a cron expression, a mapping, or a list of these."
#: Keys at the top of the file.
KEYS: Final[dict[str, Schema]] = {
    "schedule": _list_of("schedule", _SCHEDULES, examples=["30 2 * * *", [{"every": "15m"}]]),
    "on": block(
        "Triggers",
        "The events that start runs, while `lightflow serve` runs.",
        {
            "schedule": _list_of("schedule", "Another place for the key `schedule` of the workflow."),
            "file": _list_of("file", "Files that arrive.", examples=["inbox/*.csv"]),
            "webhook": _list_of("webhook", "Requests that arrive.", examples=["hook_key"]),
            "workflow": _list_of("workflow", "Runs of other workflows that end.", examples=["fetch"]),
        },
        **{
            "examples": [{"file": {"path": "inbox/*.csv", "param": "input"}}],
            "x-expects": "a mapping such as {file: inbox/*.csv}, with the keys schedule, file, webhook and workflow",
        },
    ),
}


class TriggerContext(Record):
    """The parts of a workflow that its triggers name."""

    params: Mapping[str, Param] | None = EMPTY_MAPPING  #: None: it declares none, and accepts any
    secrets: Container[str] = ()
    has_concurrency: bool = False


class _Node(Record, kw_only=False):
    """A trigger of the file."""

    kind: str
    path: list[Key]
    keys: Mapping[str, Any]


def _nodes(root: Mapping[str, Any]) -> Iterator[_Node]:
    """Yield the triggers of a normalized file, schedules first."""
    on = root.get("on")
    places: list[tuple[str, list[Key], Any]] = [("schedule", ["schedule"], root.get("schedule"))]
    if isinstance(on, dict):
        places += [(kind, ["on", kind], on.get(kind)) for kind in _BLOCKS]
    for kind, path, value in places:
        for index, keys in enumerate(value if isinstance(value, list) else ()):
            if isinstance(keys, dict):
                yield _Node(kind, [*path, index], keys)


def check_triggers(
    tree: Tree, params: Mapping[str, Param], secrets: Container[str], refused: Container[str]
) -> Iterator[Problem]:
    """Report the mistakes in triggers that the schema cannot express. `refused` are the paths that it refuses."""
    root = tree.root
    if "schedule" in root and isinstance(root.get("on"), dict) and "schedule" in root["on"]:
        message = '"schedule" and "on.schedule" mean the same; keep one of them'
        yield tree.problem(["on", "schedule"], message, key=True)
    context = TriggerContext(params=params, secrets=secrets, has_concurrency="concurrency" in root)
    for node in _nodes(root):
        dotted = ".".join(map(str, node.path))
        if any(f"{dotted}.{key}" in refused for key in node.keys) or dotted.rpartition(".")[0] in refused:
            continue
        try:
            trigger = _trigger(node)
        except (TypeError, ValueError):
            continue  # the schema reports it
        for key, message in mistakes_in(trigger, context):
            first, _, inner = key.partition(".")
            path = [*node.path, first, *([inner] if inner else [])] if first in node.keys else node.path
            yield tree.problem(path, message)


def mistakes_in(trigger: Trigger, context: TriggerContext) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in a trigger of a workflow: the key, such as `params.mode`, and a sentence."""
    mistakes = list(trigger_problems(trigger))
    if isinstance(trigger, Schedule) and not mistakes:
        from lightflow.instants import schedule_problems  # imports cronsim

        mistakes += schedule_problems(trigger)
        if trigger.overlap is not None and context.has_concurrency:
            message = "`overlap` and the `concurrency` of the workflow are rules for the same case; keep one of them"
            mistakes.append(("overlap", message))
    yield from mistakes
    if isinstance(trigger, WebhookTrigger) and trigger.secret not in context.secrets:
        yield "secret", f"{quoted(trigger.secret)} is not declared under `secrets`"
    yield from _param_mistakes(trigger, context.params)


def _param_mistakes(trigger: Trigger, params: Mapping[str, Param] | None) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in the parameters that a trigger gives to its runs."""
    if params is None:
        return
    values: Mapping[str, Any] = trigger.params if isinstance(trigger, Schedule) else {}
    for name, value in values.items():
        if name not in params:
            yield f"params.{name}", f"the workflow has no parameter {quoted(name)}{did_you_mean(name, params)}"
        elif is_expression(value):
            yield f"params.{name}", "must be a value: expressions are not evaluated here"
        else:
            try:
                params[name].value(value)
            except ValueError as error:
                yield f"params.{name}", str(error)
    param = trigger.param if isinstance(trigger, FileTrigger | WebhookTrigger) else None
    if param is not None and param not in params:
        yield "param", f"the workflow has no parameter {quoted(param)}{did_you_mean(param, params)}"
    elif param is not None:
        wanted = ("list",) if isinstance(trigger, FileTrigger) and not trigger.each else ("string", "path")
        if params[param].type not in wanted:
            yield "param", f"parameter {quoted(param)} must be of type {' or '.join(wanted)}, not {params[param].type}"
    for name, declared in params.items():
        if declared.required and name not in values and name != param:
            yield "params", f"gives no value for parameter {quoted(name)}, which each run needs"


def build_triggers(root: Mapping[str, Any]) -> tuple[Trigger, ...]:
    """Return the triggers of a file."""
    return tuple(map(_trigger, _nodes(root)))


def _trigger(node: _Node) -> Trigger:
    keys = dict(node.keys)
    for key in ("every", "jitter", "settle"):
        if key in keys:
            keys[key] = seconds(keys[key])
    match node.kind:
        case "schedule":
            catchup = keys.get("catchup", False)
            if isinstance(catchup, str) and catchup != "latest":
                keys["catchup"] = _length(catchup)
            return Schedule(**keys)
        case "file":
            return FileTrigger(**keys)
        case "webhook":
            return WebhookTrigger(**keys)
        case _:
            names, status = tuple(keys.pop("name")), tuple(keys.pop("status", ("SUCCESS",)))
            return WorkflowTrigger(name=names, status=status, **keys)


def _length(text: str) -> float | str:
    """Return the seconds of a length of time, or the text if it is none."""
    import re

    from lightflow.spec.durations import PATTERN

    return seconds(text) if text and re.fullmatch(PATTERN, text) else text


def described_mistakes(triggers: Sequence[Trigger], context: TriggerContext) -> Iterator[str]:
    """Yield the mistakes in the triggers of a dag in Python, each as a sentence."""
    for trigger in triggers:
        for key, message in mistakes_in(trigger, context):
            yield f"{type(trigger).__name__}: {key}: {message}"
