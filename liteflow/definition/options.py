"""What may be said of a task besides its work, as keywords: `TaskOptions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Final, NamedTuple

from liteflow.definition.around import check_flow
from liteflow.errors import DefinitionError
from liteflow.limits import MAX_PRIORITY, slot_needs
from liteflow.modes import MODES
from liteflow.planning.ready_queue import QueueOptions
from liteflow.planning.retry import RetryPolicy
from liteflow.planning.trigger_rules import TRIGGER_RULES, TriggerRule


class TaskOptions(NamedTuple):
    """What may be said of a task besides its work.

    Seconds throughout. `retries` counts extra attempts; see `RetryPolicy` for the other retry options and
    `rules` for `trigger_rule`. `mode` overrides the run's; `kill_grace` is the time between the polite signal
    and the hard one. `retry_on` limits retries to exceptions (classes or names, bases included), `retry_on_exit_codes`
    to exit codes of commands. Of a mapped task: with `fail_fast` the first instance that fails for good ends the
    others; `map_key` names instances for people, a pattern for `str.format` such as `"{region}"`; at most
    `max_parallel` of them run at once. `secrets` names those of the dag that its process finds in its environment.

    `priority`: of tasks that may start, those with the higher number go first. `pool` (a name or several; `pool_slots`
    of each) and `resources` (pool: slots): the task starts when the pools of the dag have these slots free, and holds
    them while it runs.

    `run_if` is asked at the beginning of each attempt, with its context; if it says no the task is SKIPPED. With
    `continue_on_error` (True, or a list of exit codes and exceptions) others take a failure for a success. A `branch`
    returns the ids of those directly below that shall go on, a `short_circuit` whether all that follow shall. For
    `setup` and `teardown` see `Task.as_setup` and `Task.as_teardown`. The hooks, `on_start` to `on_exit`, are functions
    that are called with nothing or with the context, whose `hook` tells what they are about.
    """

    retries: int = 0
    retry_delay: float = 0.0
    retry_backoff: float = 1.0
    max_retry_delay: float | None = None
    retry_jitter: float = 0.0
    retry_on: Sequence[type[BaseException] | str] = ()
    retry_on_exit_codes: Sequence[int] = ()
    timeout: float | None = None
    kill_grace: float | None = None
    trigger_rule: TriggerRule = "all_success"
    mode: str | None = None
    secrets: Sequence[str] = ()
    fail_fast: bool = False
    map_key: str | None = None
    priority: int = 0
    max_parallel: int | None = None
    pool: str | Sequence[str] | None = None
    pool_slots: int = 1
    resources: Mapping[str, int] | Sequence[tuple[str, int]] = ()
    run_if: Callable[[Any], Any] | None = None
    continue_on_error: bool | Sequence[int | str | type[BaseException]] = False
    branch: bool = False
    short_circuit: bool = False
    ignore_downstream_trigger_rules: bool = True
    setup: bool = False
    teardown: bool = False
    on_failure_fail_run: bool = False
    on_start: Callable[..., Any] | None = None
    on_success: Callable[..., Any] | None = None
    on_failure: Callable[..., Any] | None = None
    on_retry: Callable[..., Any] | None = None
    on_cancel: Callable[..., Any] | None = None
    on_exit: Callable[..., Any] | None = None

    def checked(self, task_id: str) -> TaskOptions:
        """Itself, if all of it makes sense.

        Raises:
            DefinitionError: names the task and the option.
        """

        def wrong(name: str, wanted: str) -> DefinitionError:
            return DefinitionError(f"task {task_id!r}: {name}={getattr(self, name)!r} must be {wanted}")

        if type(self.retries) is not int or self.retries < 0:
            raise wrong("retries", "a whole number, 0 or more")
        for name in ("retry_delay", "retry_jitter"):
            if not _number(getattr(self, name)) or getattr(self, name) < 0:
                raise wrong(name, "a number, 0 or more")
        if not _number(self.retry_backoff) or self.retry_backoff < 1:
            raise wrong("retry_backoff", "a number, 1 or more")
        for name in ("timeout", "kill_grace", "max_retry_delay"):
            value = getattr(self, name)
            if value is not None and (not _number(value) or value < 0 or (name == "timeout" and value == 0)):
                raise wrong(name, "a number of seconds above 0, or None" if name == "timeout" else "seconds, or None")
        if self.retry_on != () and not _list_of(self.retry_on, str | type):
            raise wrong("retry_on", "a list of exceptions or of their names")
        if self.retry_on_exit_codes != () and not _list_of(self.retry_on_exit_codes, int):
            raise wrong("retry_on_exit_codes", "a list of whole numbers")
        if self.trigger_rule not in TRIGGER_RULES:
            raise wrong("trigger_rule", f"one of {', '.join(TRIGGER_RULES)}")
        if self.secrets != () and not _list_of(self.secrets, str):
            raise wrong("secrets", "a list of names")
        if self.mode is not None and self.mode not in MODES:
            raise wrong("mode", f"one of {', '.join(MODES)}")
        if not isinstance(self.fail_fast, bool):
            raise wrong("fail_fast", "True or False")
        if self.map_key is not None and not isinstance(self.map_key, str):
            raise wrong("map_key", 'a pattern such as "{region}", or None')
        if type(self.priority) is not int or abs(self.priority) > MAX_PRIORITY:
            raise wrong("priority", f"a whole number from -{MAX_PRIORITY:,} to {MAX_PRIORITY:,}")
        if self.max_parallel is not None and (type(self.max_parallel) is not int or self.max_parallel < 1):
            raise wrong("max_parallel", "a whole number, 1 or more, or None")
        check_flow(self, wrong)
        if self.pool is not None or self.pool_slots != 1 or self.resources != ():
            slot_needs(task_id, self.pool, self.pool_slots, self.resources)
            if isinstance(self.resources, Mapping):  # options are compared and hashed
                return self._replace(resources=tuple(sorted(self.resources.items())))
        return self

    @property
    def order(self) -> QueueOptions:
        """Its place among the tasks that may start."""
        if self.pool is None and self.resources == ():
            return QueueOptions(self.priority, self.max_parallel)
        return QueueOptions(
            self.priority, self.max_parallel, slot_needs("", self.pool, self.pool_slots, self.resources)
        )

    @property
    def policy(self) -> RetryPolicy:
        names = [one if isinstance(one, str) else one.__name__ for one in self.retry_on]
        return RetryPolicy(
            self.retries,
            self.retry_delay,
            self.retry_backoff,
            self.max_retry_delay,
            self.retry_jitter,
            tuple(names),
            tuple(self.retry_on_exit_codes),
        )


def _list_of(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(one, kind) for one in value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e15


OPTION_NAMES: Final = frozenset(TaskOptions._fields)
NO_OPTIONS: Final = TaskOptions()


def make_options(options: Mapping[str, Any], task_id: str, base: TaskOptions = NO_OPTIONS) -> TaskOptions:
    """Options from keywords; those not given are as in `base`.

    Raises:
        DefinitionError: an unknown name (with the nearest one), or a value that makes no sense.
    """
    if not options:
        return base
    for name in options:
        if name not in OPTION_NAMES:
            import difflib

            near = difflib.get_close_matches(name, OPTION_NAMES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DefinitionError(f"task {task_id!r}: there is no option {name!r}{hint}")
    return base._replace(**options).checked(task_id)
