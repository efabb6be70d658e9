"""The repetition of a task: it runs again until a condition holds for what it has returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from liteflow.errors import DefinitionError, InputError
from liteflow.record import Record
from liteflow.values.payload import Payload, decode, is_pickled
from liteflow.work import Ref, RunInfo


class IterationFacts(Record):
    """The values that the condition of a repetition may use."""

    info: RunInfo
    task_id: str
    map_index: int
    attempt: int
    iteration: int  #: from 1
    values: Mapping[str, Payload]  #: what the iteration has stored, by key
    inputs: Mapping[str, Payload]  #: stored values of upstream tasks, by `work.input_name`


class UntilCondition(Protocol):
    """A condition that the loop evaluates after each iteration: it must not wait."""

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of upstream tasks that it takes."""

    def is_done(self, facts: IterationFacts) -> bool:
        """Return whether this iteration is the last. Raises InputError."""


class Repeat(Record):
    """How a task is repeated. Each iteration is an attempt, and between them the task is WAITING.

    Args:
        until: in Python a function of the value that the task has returned, called in the process of the run.
    """

    until: UntilCondition | Callable[[Any], Any]
    every: float = 0.0  #: seconds between the end of an iteration and the start of the next
    max: int | None = None  #: the number of iterations after which the task has failed
    timeout: float | None = None  #: seconds after which no further iteration starts, and the task has failed

    def problem(self) -> str | None:
        """Return the mistake in these options."""
        if self.max is None and self.timeout is None:
            return "Repeat needs max or timeout: a repetition has an end"
        numbers = (self.every, 0 if self.max is None else self.max, 0 if self.timeout is None else self.timeout)
        if not all(isinstance(number, int | float) and number >= 0 for number in numbers):
            return "every, max and timeout of Repeat are numbers, 0 or more"
        return None if callable(self.until) or hasattr(self.until, "is_done") else "until of Repeat is a function"

    def condition(self) -> UntilCondition:
        """Return the condition for the loop."""
        until: Any = self.until
        return until if hasattr(until, "is_done") else _Predicate(until)


class _Predicate:
    """A Python function as a condition."""

    reads: Sequence[Ref] = ()

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self._func = func

    def is_done(self, facts: IterationFacts) -> bool:
        payload = facts.values.get("return_value")
        if payload is not None and is_pickled(payload):
            raise InputError("the value is a Python object (it was pickled), which `until` of Repeat cannot read")
        try:
            return bool(self._func(None if payload is None else decode(payload)))
        except Exception as error:  # the code of the user
            raise InputError(f"until of Repeat raised {type(error).__name__}: {error}") from error


def checked_repeat(repeat: Repeat | None, task_id: str) -> Repeat | None:
    """Return the repetition of a task. Raises DefinitionError."""
    if repeat is None:
        return None
    if (problem := repeat.problem()) is not None:
        raise DefinitionError(f"task {task_id!r}: {problem}")
    return repeat
