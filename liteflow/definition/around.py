"""Functions around a task's own: predicates and hooks; and what makes no sense among the options of control flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from liteflow.context import current_context
from liteflow.definition.signature import parameters_of
from liteflow.errors import DefinitionError, SkipTask
from liteflow.hooks import HOOK_EVENTS


class Guarded:
    """A function that runs only if a predicate says so; else the task skips itself."""

    def __init__(self, func: Callable[..., Any], predicate: Callable[[Any], Any]) -> None:
        self.__func__ = func  # where it is looked for to tell whether the function is a coroutine function
        self._predicate = predicate

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions that decide what it does."""
        return (self.__func__, self._predicate)

    def __call__(self, **arguments: Any) -> Any:
        if not self._predicate(current_context()):
            raise SkipTask(f"run_if: {getattr(self._predicate, '__name__', 'the predicate')} said no")
        return self.__func__(**arguments)


class HookCall:
    """A function as a hook: it is given the context if it takes an argument."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.__func__ = func
        required = parameters_of(func).required
        if len(required) > 1:
            raise DefinitionError(
                f"{getattr(func, '__name__', func)!s}: a hook is called with nothing, or with the context; "
                f"this one needs {', '.join(sorted(required))}"
            )
        self._name = next(iter(required), None)

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions that decide what it does."""
        return (self.__func__,)

    def __call__(self) -> Any:
        return self.__func__() if self._name is None else self.__func__(**{self._name: current_context()})


def check_flow(options: Any, wrong: Callable[[str, str], DefinitionError]) -> None:
    """Raises what `wrong` makes of the first of these options that makes no sense."""
    for name in ("branch", "short_circuit", "ignore_downstream_trigger_rules", "setup", "teardown"):
        if not isinstance(getattr(options, name), bool):
            raise wrong(name, "True or False")
    if options.branch and options.short_circuit:
        raise wrong("branch", "False where short_circuit is True: a task decides in one way")
    if options.setup and options.teardown:
        raise wrong("setup", "False where teardown is True")
    if options.teardown and options.trigger_rule not in ("all_success", "all_done_setup_success"):
        raise wrong("trigger_rule", "left alone in a teardown, which waits for all that it follows")
    if not isinstance(options.on_failure_fail_run, bool) or (options.on_failure_fail_run and not options.teardown):
        raise wrong("on_failure_fail_run", "True or False, and is for teardowns")
    tolerated = options.continue_on_error
    if not isinstance(tolerated, bool) and not (
        isinstance(tolerated, list | tuple | set | frozenset) and tolerated and all(map(_failure, tolerated))
    ):
        raise wrong("continue_on_error", "True, False, or a list of exit codes and exceptions")
    if options.run_if is not None and not callable(options.run_if):
        raise wrong("run_if", "a function that takes the context, or None")
    for event in HOOK_EVENTS:
        if getattr(options, event) is not None and not callable(getattr(options, event)):
            raise wrong(event, "a function, or None")


def _failure(one: object) -> bool:
    return type(one) in (int, str) or (isinstance(one, type) and issubclass(one, BaseException))
