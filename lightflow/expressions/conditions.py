"""The answers to conditions (`if`), worked out in the loop from what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.expressions.evaluate import Environment, LocatedError, NotYet, decode_plain, early_scopes, scopes_of
from lightflow.expressions.language import Function, Scope, ScopeError, evaluate
from lightflow.spec.model import Condition
from liteflow.errors import InputError
from liteflow.hooks import ConditionInputs
from liteflow.work import Ref

_BAD: Final = frozenset(["FAILED", "UPSTREAM_FAILED", "CANCELLED"])
_OTHER_WORDS: Final = {"failure": "failed", "succeeded": "success", "canceled": "cancelled"}


class State(str):
    """A state in an expression, in small letters; it equals its name in any letters, and GitHub's word for it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return False
        word = str.lower(other)
        return str.__eq__(self, _OTHER_WORDS.get(word, word))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class FileCondition(NamedTuple):
    """A condition of a workflow file, as the engine asks it (see `liteflow.hooks.Condition`)."""

    condition: Condition

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
        """The answer. Raises InputError, with the place in the file."""
        scope = self.condition.scope
        assert scope is not None
        scopes = scopes_of(scope, facts.info, facts.task_id, facts.map_index, 1, facts.inputs, decode_plain)
        scopes["tasks"] = scopes["needs"] = _States(scopes["tasks"], facts.states)
        scopes["env"] = Environment(scope.layers, scopes)
        scopes |= _functions(facts.upstream, stopping=facts.stopping)
        try:
            return self._answer(scopes)
        except LocatedError:
            raise
        except InputError as error:
            raise InputError(str(self.condition.expression.at._replace(message=str(error)))) from None

    def early(self, params: Mapping[str, Any]) -> bool | None:
        """The answer, if it is known before a run with these parameters. Raises InputError."""
        scope = self.condition.scope
        if not self.condition.expression.early or scope is None or scope.reads or self.condition.status:
            return None
        try:
            return self._answer(early_scopes(scope, params))
        except NotYet:
            return None

    def _answer(self, scopes: Mapping[str, Any]) -> bool:
        return bool(evaluate(self.condition.expression.source, scopes))


def _functions(upstream: Sequence[str], *, stopping: bool) -> dict[str, Function]:
    return {
        "success": Function(lambda: all(state == "SUCCESS" for state in upstream)),
        "failure": Function(lambda: any(state in _BAD for state in upstream)),
        "always": Function(lambda: True),
        "cancelled": Function(lambda: stopping),
    }


class _States(Scope):
    """`tasks`, with the states that were asked for."""

    def __init__(self, tasks: Scope, states: Mapping[str, str]) -> None:
        self._tasks, self._states = tasks, states

    def get(self, name: str) -> Any:
        return _TaskState(self._tasks.get(name), name, self._states)


class _TaskState(Scope):
    def __init__(self, task: Scope, task_id: str, states: Mapping[str, str]) -> None:
        self._task, self._task_id, self._states = task, task_id, states

    def get(self, name: str) -> Any:
        if name != "status":
            return self._task.get(name)
        if self._task_id not in self._states:
            raise ScopeError(f"the state of task {self._task_id!r} is not known here")
        return State(self._states[self._task_id].lower())
