"""Wrappers of the functions that users write: a predicate before a task, and the call of a hook."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from liteflow.context import current_context
from liteflow.definition.signature import parameters_of
from liteflow.errors import DefinitionError, SkipTask
from liteflow.work import Waiting


class RunIfFunction:
    """A function that runs only if a predicate returns true; otherwise the task is SKIPPED."""

    def __init__(self, func: Callable[..., Any], predicate: Callable[[Any], Any]) -> None:
        self.__func__ = func  # executors look here for a coroutine function
        self._predicate = predicate

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions that the digest of the task covers."""
        return (self.__func__, self._predicate)

    def __call__(self, **arguments: Any) -> Any:
        if not self._predicate(current_context()):
            raise SkipTask(f"run_if: {getattr(self._predicate, '__name__', 'the predicate')} said no")
        return self.__func__(**arguments)


class SensorFunction:
    """A function that is called again until it returns something else than `NOT_YET`."""

    def __init__(self, func: Callable[..., Any], every_s: float) -> None:
        self.__func__ = func
        self._every_s = every_s

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions that the digest of the task covers."""
        return (self.__func__,)

    def __call__(self, **arguments: Any) -> Any:
        value = self.__func__(**arguments)
        if isinstance(value, Coroutine):
            return self._awaited(value)
        return self._waiting(value)

    async def _awaited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._waiting(await coroutine)

    def _waiting(self, value: Any) -> Any:
        if not isinstance(value, Waiting):
            return value
        why = value.why or f"{getattr(self.__func__, '__name__', 'the sensor')} returned NOT_YET"
        return Waiting(None, self._every_s, why)


class HookFunction:
    """A function as a hook: it gets the context if it has a parameter without a default."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.__func__ = func
        required = parameters_of(func).required
        if len(required) > 1:
            raise DefinitionError(
                f"{getattr(func, '__name__', func)!s}: a hook is called with no argument or with the context; "
                f"this function needs {', '.join(sorted(required))}"
            )
        self._parameter = next(iter(required), None)

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions that the digest of the hook covers."""
        return (self.__func__,)

    def __call__(self) -> Any:
        return self.__func__() if self._parameter is None else self.__func__(**{self._parameter: current_context()})
