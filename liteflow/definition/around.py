"""Functions around a task's own: predicates and hooks; and what makes no sense among the options of control flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from liteflow.context import current_context
from liteflow.definition.signature import parameters_of
from liteflow.errors import DefinitionError, SkipTask


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
