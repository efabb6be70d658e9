"""Evaluate conditions (`if`) in the orchestrator, from stored values and statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.expressions.evaluate import (
    Environment,
    LocatedError,
    StoredValues,
    Tasks,
    TaskValues,
    ValueNotKnown,
    attempt_values,
    decode_plain,
    early_values,
)
from lightflow.expressions.language import Function, NameNotFound, Namespace, evaluate
from lightflow.spec.model import ConditionSpec
from liteflow import InputError
from liteflow.api import ConditionInputs, IterationFacts, Ref

_FAILURES: Final = frozenset(["FAILED", "UPSTREAM_FAILED", "CANCELLED"])
_SYNONYMS: Final = {"failure": "failed", "succeeded": "success", "canceled": "cancelled"}


class StatusText(str):
    """A status in an expression, in small letters. It equals its name in any letters, and the word of GitHub for it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return False
        word = str.lower(other)
        return str.__eq__(self, _SYNONYMS.get(word, word))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class FileCondition(NamedTuple):
    """A condition of a workflow file, for the engine (see `liteflow.hooks.Condition`)."""

    condition: ConditionSpec

    @property
    def text(self) -> str:
        return self.condition.text

    @property
    def reads_status(self) -> bool:
        return self.condition.status

    @property
    def reads(self) -> Sequence[Ref]:
        return self.condition.reads

    @property
    def states(self) -> Sequence[str]:
        return self.condition.states

    def holds(self, facts: ConditionInputs) -> bool:
        """Return whether the condition is true. Raises InputError, with the place in the file."""
        scope = self.condition.scope
        assert scope is not None
        values = attempt_values(scope, facts.info, facts.task_id, facts.map_index, 1, facts.inputs, decode_plain)
        values["tasks"] = values["needs"] = _TasksWithStatus(values["tasks"], facts.states)
        values["env"] = Environment(scope.layers, values)
        values |= _status_functions(facts.upstream, stopping=facts.stopping)
        try:
            return self._evaluate(values)
        except LocatedError:
            raise
        except InputError as error:
            raise InputError(str(self.condition.expression.location.problem(str(error)))) from None

    def early(self, params: Mapping[str, Any]) -> bool | None:
        """Return whether it is true; None if a run with these parameters must start first. Raises InputError."""
        scope = self.condition.scope
        if not self.condition.expression.early or scope is None or scope.reads or self.condition.status:
            return None
        try:
            return self._evaluate(early_values(scope, params))
        except ValueNotKnown:
            return None

    def _evaluate(self, values: Mapping[str, Any]) -> bool:
        return bool(evaluate(self.condition.expression.source, values))


class FileUntil:
    """The condition of a repetition in a workflow file, for the engine (see `liteflow.repeat.UntilCondition`)."""

    def __init__(self, condition: ConditionSpec, *, negated: bool) -> None:
        self._condition = condition
        self._negated = negated

    @property
    def reads(self) -> Sequence[Ref]:
        return self._condition.reads

    def is_done(self, facts: IterationFacts) -> bool:
        """Return whether the iteration is the last. Raises InputError, with the place in the file."""
        scope = self._condition.scope
        assert scope is not None
        values = attempt_values(
            scope, facts.info, facts.task_id, facts.map_index, facts.attempt, facts.inputs, decode_plain
        )
        values |= {"iteration": facts.iteration, "outputs": StoredValues(facts.values, decode_plain)}
        values["env"] = Environment(scope.layers, values)
        if "return_value" in facts.values:
            values["result"] = decode_plain(facts.values["return_value"])
        try:
            return bool(evaluate(self._condition.expression.source, values)) is not self._negated
        except LocatedError:
            raise
        except InputError as error:
            raise InputError(str(self._condition.expression.location.problem(str(error)))) from None


def _status_functions(upstream: Sequence[str], *, stopping: bool) -> dict[str, Function]:
    return {
        "success": Function(lambda: all(status == "SUCCESS" for status in upstream)),
        "failure": Function(lambda: any(status in _FAILURES for status in upstream)),
        "always": Function(lambda: True),
        "cancelled": Function(lambda: stopping),
    }


class _TasksWithStatus(Namespace):
    """`tasks` with the statuses that the condition reads."""

    def __init__(self, tasks: Tasks, statuses: Mapping[str, str]) -> None:
        self._tasks, self._statuses = tasks, statuses

    def get(self, name: str) -> Any:
        return _TaskWithStatus(self._tasks.get(name), self._statuses)


class _TaskWithStatus(Namespace):
    def __init__(self, task: TaskValues, statuses: Mapping[str, str]) -> None:
        self._task, self._statuses = task, statuses

    def get(self, name: str) -> Any:
        task_id = self._task.task_id
        if name == "status" and task_id in self._statuses:
            return StatusText(self._statuses[task_id].lower())
        if name == "status":
            raise NameNotFound(f"the state of task {task_id!r} is not known here")
        value = self._task.get(name)
        is_task = isinstance(value, TaskValues) and value.is_task
        return _TaskWithStatus(value, self._statuses) if is_task else value
