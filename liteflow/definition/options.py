"""The options of a task.

`make_options` is the door for Python callers: it checks flat keywords such as `retries=2` and files them into
`TaskOptions`, where each subject has one record. `_KEYWORDS` is the only place that names all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Final

from liteflow.errors import DefinitionError
from liteflow.hooks import HOOK_EVENTS
from liteflow.identifiers import NEW_ID_PATTERN, did_you_mean
from liteflow.limits import MAX_PRIORITY, slot_needs
from liteflow.modes import MODES
from liteflow.planning.control_flow import Tolerance
from liteflow.planning.ready_queue import DEFAULT_QUEUE, QueueOptions
from liteflow.planning.retry import NEVER, RetryPolicy
from liteflow.planning.trigger_rules import TRIGGER_RULES, TriggerRule
from liteflow.record import Record, replace
from liteflow.repeat import Repeat
from liteflow.work import Body, Call, Command


class FlowOptions(Record):
    """The place of a task in the control flow."""

    trigger_rule: TriggerRule = "all_success"
    #: whether it returns the ids of the downstream tasks that continue
    branch: bool = False
    #: whether it returns if the tasks that follow run
    short_circuit: bool = False
    #: whether a short circuit skips all tasks that follow, regardless of their trigger rules; else only the next
    ignore_downstream_trigger_rules: bool = True
    #: which failures count as a success for downstream tasks and for the run; None: no failure
    tolerance: Tolerance | None = None
    setup: bool = False
    teardown: bool = False
    #: whether the failure of a teardown fails the run
    on_failure_fail_run: bool = False


DEFAULT_FLOW: Final = FlowOptions()


class TaskOptions(Record):
    """The options of a task: how it runs, and not what it does. Tasks share a record, so it can be hashed."""

    retry: RetryPolicy = NEVER
    #: priority, parallel instances and pool slots
    queue: QueueOptions = DEFAULT_QUEUE
    flow: FlowOptions = DEFAULT_FLOW
    #: functions and bodies that run after an event; a function is called with no argument or with the context
    hooks: tuple[tuple[str, Callable[..., Any] | Body], ...] = ()
    #: a function that decides at the beginning of each attempt, from the context, whether the task runs or is skipped
    run_if: Callable[[Any], Any] | None = None
    #: seconds an attempt may take
    timeout_s: float | None = None
    #: seconds between the polite and the hard signal; None: as the run says
    grace_s: float | None = None
    #: the execution mode; None: as the run says
    mode: str | None = None
    #: the names of the secrets of the dag in the environment of its process
    secrets: tuple[str, ...] = ()
    #: seconds between the calls of a sensor; None: it is not a sensor
    every_s: float | None = None
    #: how a sensor ends that has waited as long as its timeout: "fail" or "skip"
    on_timeout: str = "fail"
    #: how the task is repeated; None: it runs once
    repeat: Repeat | None = None
    #: whether the first failed instance of a mapped task ends the other instances
    fail_fast: bool = False
    #: a pattern for `str.format` that names the instances of a mapped task, such as "{region}"
    map_key: str | None = None


NO_OPTIONS: Final = TaskOptions()


# -- the keywords ------------------------------------------------------------------------------------------------------


class _Keyword(Record, kw_only=False):
    """A keyword of Python callers: the field that it sets, which values are valid, and how a value is stored."""

    field: str  # of TaskOptions, or of one of its records
    is_valid: Callable[[Any], bool]
    wanted: str
    stored: Callable[[Any], Any] | None = None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e15


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_at_least(least: int) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and value >= least


def _is_whole(least: int, most: int | None = None) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value and (most is None or value <= most)


def _is_list_of(kind: type | UnionType) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple | set | frozenset) and all(isinstance(it, kind) for it in value)


def _or_none(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


def _is_tolerable(value: object) -> bool:
    if isinstance(value, bool):
        return True
    return isinstance(value, list | tuple | set | frozenset) and bool(value) and all(map(_is_failure, value))


def _is_failure(value: object) -> bool:
    return type(value) in (int, str) or (isinstance(value, type) and issubclass(value, BaseException))


def _is_mode(value: object) -> bool:
    """Return whether it can be a mode. When the dag is compiled, its clusters are known (see `limits.checked_mode`)."""
    return isinstance(value, str) and bool(NEW_ID_PATTERN.match(value))


def _is_hook(value: object) -> bool:
    return callable(value) or isinstance(value, Call | Command)


def _names(errors: Sequence[type[BaseException] | str]) -> tuple[str, ...]:
    return tuple(error.__name__ if isinstance(error, type) else error for error in errors)


def tolerance_of(failures: bool | Sequence[int | str | type[BaseException]]) -> Tolerance | None:
    """Return the tolerance that `continue_on_error` means: True, False, or exit codes and exceptions."""
    if isinstance(failures, bool):
        return Tolerance() if failures else None
    codes = tuple(failure for failure in failures if isinstance(failure, int))
    return Tolerance(exit_codes=codes, errors=_names([failure for failure in failures if not isinstance(failure, int)]))


_HOOK: Final = "hooks"
_POOLS: Final = "pools"
_KEYWORDS: Final[Mapping[str, _Keyword]] = {
    "retries": _Keyword("retry.retries", _is_whole(0), "a whole number, 0 or more"),
    "retry_delay": _Keyword("retry.delay_s", _is_at_least(0), "a number, 0 or more"),
    "retry_backoff": _Keyword("retry.backoff", _is_at_least(1), "a number, 1 or more"),
    "max_retry_delay": _Keyword("retry.max_delay_s", _or_none(_is_at_least(0)), "seconds, or None"),
    "retry_jitter": _Keyword("retry.jitter", _is_at_least(0), "a number, 0 or more"),
    "retry_on": _Keyword(
        "retry.on_exceptions", _is_list_of(str | type), "a list of exceptions or of their names", _names
    ),
    "retry_on_exit_codes": _Keyword("retry.on_exit_codes", _is_list_of(int), "a list of whole numbers", tuple),
    "retry_on_codes": _Keyword("retry.on_codes", _is_list_of(str), 'a list of codes such as "http:5??"', tuple),
    "timeout": _Keyword(
        "timeout_s", _or_none(lambda value: _is_number(value) and value > 0), "a number of seconds above 0, or None"
    ),
    "every": _Keyword(
        "every_s", _or_none(lambda value: _is_number(value) and value > 0), "a number of seconds above 0, or None"
    ),
    "on_timeout": _Keyword("on_timeout", lambda value: value in ("fail", "skip"), '"fail" or "skip"'),
    "repeat": _Keyword("repeat", _or_none(lambda value: isinstance(value, Repeat)), "a liteflow.Repeat, or None"),
    "kill_grace": _Keyword("grace_s", _or_none(_is_at_least(0)), "seconds, or None"),
    "trigger_rule": _Keyword(
        "flow.trigger_rule", lambda value: value in TRIGGER_RULES, f"one of {', '.join(TRIGGER_RULES)}"
    ),
    "mode": _Keyword("mode", _or_none(_is_mode), f"one of {', '.join(MODES)}, or the name of a cluster"),
    "secrets": _Keyword("secrets", _is_list_of(str), "a list of names", tuple),
    "fail_fast": _Keyword("fail_fast", _is_bool, "True or False"),
    "map_key": _Keyword(
        "map_key", _or_none(lambda value: isinstance(value, str)), 'a pattern such as "{region}", or None'
    ),
    "priority": _Keyword(
        "queue.priority",
        _is_whole(-MAX_PRIORITY, MAX_PRIORITY),
        f"a whole number from -{MAX_PRIORITY:,} to {MAX_PRIORITY:,}",
    ),
    "max_parallel": _Keyword("queue.max_parallel", _or_none(_is_whole(1)), "a whole number, 1 or more, or None"),
    "pool_while_waiting": _Keyword("queue.holds", _is_bool, "True or False"),
    "branch": _Keyword("flow.branch", _is_bool, "True or False"),
    "short_circuit": _Keyword("flow.short_circuit", _is_bool, "True or False"),
    "ignore_downstream_trigger_rules": _Keyword("flow.ignore_downstream_trigger_rules", _is_bool, "True or False"),
    "setup": _Keyword("flow.setup", _is_bool, "True or False"),
    "teardown": _Keyword("flow.teardown", _is_bool, "True or False"),
    "on_failure_fail_run": _Keyword("flow.on_failure_fail_run", _is_bool, "True or False, and is for teardowns"),
    "continue_on_error": _Keyword(
        "flow.tolerance", _is_tolerable, "True, False, or a list of exit codes and exceptions", tolerance_of
    ),
    "run_if": _Keyword("run_if", _or_none(callable), "a function that takes the context, or None"),
    **dict.fromkeys(HOOK_EVENTS, _Keyword(_HOOK, _or_none(_is_hook), "a function, a Call, a Command, or None")),
    # these three make one list of slots: `slot_needs` checks them
    **dict.fromkeys(("pool", "pool_slots", "resources"), _Keyword(_POOLS, lambda value: True, "")),
}
#: The body of `lightflow.tasks` to add in place of a function with an option of this name.
_PROGRAMS: Final = {
    "container": "add docker(IMAGE, args=[…]), or shell(SCRIPT, container=IMAGE),",
    "environment": 'add python(call="MODULE:FUNCTION", environment={"packages": […]})',
}
OPTION_NAMES: Final = frozenset(_KEYWORDS)
#: the keywords with their fields, by record of `TaskOptions` ("" are its own fields)
_FIELDS: Final = {
    part: [
        (name, keyword.field.rpartition(".")[2])
        for name, keyword in _KEYWORDS.items()
        if keyword.field.rpartition(".")[0] == part and keyword.field not in (_HOOK, _POOLS)
    ]
    for part in ("retry", "", "flow", "queue")
}


def make_options(keywords: Mapping[str, Any], task_id: str) -> TaskOptions:
    """Return the options that these keywords mean.

    Raises:
        DefinitionError: an unknown keyword (the message has the nearest one), or an invalid value.
    """
    if not keywords:
        return NO_OPTIONS
    for name, value in keywords.items():
        keyword = _KEYWORDS.get(name)
        if keyword is None:
            raise DefinitionError(f"task {task_id!r}: there is no option {name!r}{keyword_hint(name, OPTION_NAMES)}")
        if not keyword.is_valid(value):
            raise DefinitionError(f"task {task_id!r}: {name}={value!r} must be {keyword.wanted}")
    return checked(with_keywords(NO_OPTIONS, keywords, task_id), task_id)


def keyword_hint(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown keyword: what to write, or the nearest of the names."""
    if name in _PROGRAMS:
        return f"; a function stays in the Python of the run: {_PROGRAMS[name]} of lightflow.tasks with dag.add"
    return did_you_mean(name, names)


def with_keywords(options: TaskOptions, keywords: Mapping[str, Any], task_id: str = "") -> TaskOptions:
    """Return the options with the values of these keywords, which are valid."""
    top: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {"retry": {}, "queue": {}, "flow": {}}
    hooks = dict(options.hooks)
    for name, value in keywords.items():
        field, stored = _KEYWORDS[name].field, _KEYWORDS[name].stored
        part, _, inner = field.rpartition(".")
        if field == _HOOK:
            hooks[name] = value
        elif field != _POOLS:
            (parts[part] if part else top)[inner] = value if stored is None else stored(value)
    if any(name in keywords for name in ("pool", "pool_slots", "resources")):
        pool, slots = keywords.get("pool"), keywords.get("pool_slots", 1)
        parts["queue"]["needs"] = slot_needs(task_id, pool, slots, keywords.get("resources", ()))
    if parts["retry"]:
        top["retry"] = replace(options.retry, **parts["retry"])
    if parts["queue"]:
        top["queue"] = replace(options.queue, **parts["queue"])
    if parts["flow"]:
        top["flow"] = replace(options.flow, **parts["flow"])
    order = {event: hooks[event] for event in HOOK_EVENTS if hooks.get(event) is not None}
    return replace(options, hooks=tuple(order.items()), **top)


def keywords_of(options: TaskOptions) -> dict[str, Any]:
    """Return the keywords whose values are not the defaults: the inverse of `make_options`."""
    keywords: dict[str, Any] = {}
    for part, names in _FIELDS.items():
        record, default = (getattr(options, part), getattr(NO_OPTIONS, part)) if part else (options, NO_OPTIONS)
        if record is default:
            continue
        for name, field in names:
            value = getattr(record, field)
            if value != getattr(default, field):
                keywords[name] = [*value.exit_codes, *value.errors] or True if name == "continue_on_error" else value
    if options.queue.needs:
        keywords["resources"] = options.queue.needs
    return {**keywords, **dict(options.hooks)} if options.hooks else keywords


def checked(options: TaskOptions, task_id: str) -> TaskOptions:
    """Return the options, if those of the control flow fit together.

    Raises:
        DefinitionError: names the task and the option.
    """
    flow = options.flow

    def wrong(name: str, wanted: str) -> DefinitionError:
        return DefinitionError(f"task {task_id!r}: {name}={getattr(flow, name)!r} must be {wanted}")

    if options.on_timeout != "fail" and options.every_s is None:
        raise DefinitionError(f"task {task_id!r}: on_timeout is for sensors, which have `every`: see dag.sensor")
    if options.queue.holds and not options.queue.needs:
        raise DefinitionError(f"task {task_id!r}: pool_while_waiting is for a task with a pool, and it has none")
    if flow.branch and flow.short_circuit:
        raise wrong("branch", "False where short_circuit is True: a task decides in one way")
    if flow.setup and flow.teardown:
        raise wrong("setup", "False where teardown is True")
    if flow.teardown and flow.trigger_rule not in ("all_success", "all_done_setup_success"):
        raise wrong("trigger_rule", "left alone in a teardown, which waits for all that it follows")
    if flow.on_failure_fail_run and not flow.teardown:
        raise wrong("on_failure_fail_run", _KEYWORDS["on_failure_fail_run"].wanted)
    return options
