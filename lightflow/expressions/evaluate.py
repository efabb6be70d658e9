"""The values of a task's expressions: worked out for each attempt, in the process that starts it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from lightflow.errors import Problem
from lightflow.expressions.language import Scope, ScopeError, evaluate, text_for
from lightflow.expressions.template import split
from lightflow.import_path import unpickling_from
from lightflow.spec.model import Expression, Expressions, Template
from liteflow.context import idempotency_key
from liteflow.errors import InputError, LiteflowError
from liteflow.processes.spawn import encoded
from liteflow.values.dates import moment_from_epoch
from liteflow.values.payload import Payload, decode, is_pickled
from liteflow.work import Call, Command, Item, Ref, RunInfo, Work, input_name

_B = TypeVar("_B", Call, Command)
Scopes = Mapping[str, Any]

#: What the kernel takes for one variable, with its name and the NUL behind it.
LARGEST: Final = 128 * 1024
_ITEM: Final = input_name(Item("item"))
_PASTED: Final = re.compile("\0([0-9]+)\0")


class DeferredTaskBody(NamedTuple):
    """The late part of a task's body (see `liteflow.work.Late`). `folder` is where the run was started."""

    expressions: Expressions
    folder: str

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of other tasks that the expressions take."""
        return self.expressions.reads

    def complete(self, body: _B, info: RunInfo, work: Work) -> _B:
        """The body for an attempt, with a value in place of each expression. Raises InputError."""
        with unpickling_from(self.expressions.workflow["dir"], self.folder):
            return self._completed(body, info, work)

    def _completed(self, body: _B, info: RunInfo, work: Work) -> _B:
        found = self.expressions
        stored = work.inputs or {}
        # Nothing in the orchestrator unpickles, and a command is started by the orchestrator.
        read = decode_plain if isinstance(body, Command) else decode
        scopes = scopes_of(found, info, work.task_id, work.map_index, work.attempt, stored, read)
        if found.item and _ITEM in stored:  # a hook may be about a mapped task as a whole
            scopes[found.item] = read(stored[_ITEM])
        variables = scopes["env"] = Environment(found.layers, scopes)
        env = variables.values()
        words = {name: for_process(one, scopes, name) for name, one in found.words.items()}
        cwd = body.cwd
        if found.cwd is not None:
            cwd = _folder(found.cwd, scopes, self.folder)
        if isinstance(body, Command):
            texts = [_pasted(one, scopes, info) for one in found.pasted]
            argv = tuple(_PASTED.sub(lambda match: texts[int(match[1])], word) for word in body.argv)
            return body._replace(argv=argv, cwd=cwd, env={**body.env, **env, **words}, late=None)
        kwargs = {name: fill(value, found.config, scopes) for name, value in body.kwargs.items()}
        return body._replace(kwargs=kwargs, cwd=cwd, env={**body.env, **env}, late=None)


def scopes_of(
    found: Expressions,
    info: RunInfo,
    task_id: str,
    map_index: int,
    attempt: int,
    stored: Mapping[str, Payload],
    read: Callable[[Payload], Any],
) -> dict[str, Any]:
    """What expressions of a task may name, save `env`."""
    tasks = _Tasks(stored, read)
    return {
        "params": info.params,
        "run": {
            "id": info.run_id,
            "logical_date": moment_from_epoch(info.logical_date),
            "attempt": attempt,
            "idempotency_key": idempotency_key(info.run_id, task_id, map_index),
        },
        "task": {"id": task_id, "attempt": attempt, "index": map_index},
        "workflow": found.workflow,
        "tasks": tasks,
        "needs": tasks,
        "secrets": info.secrets or {},
    }


def scopes_before(found: Expressions, info: RunInfo, task_id: str, stored: Mapping[str, Payload]) -> Scopes:
    """What expressions can name before there is an attempt, or an instance, of the task."""
    tasks = _Tasks(stored, decode_plain)
    scopes: dict[str, Any] = {
        "params": info.params,
        "run": {"id": info.run_id, "logical_date": moment_from_epoch(info.logical_date)},
        "task": {"id": task_id},
        "workflow": found.workflow,
        "tasks": tasks,
        "needs": tasks,
        "secrets": info.secrets or {},
    }
    scopes["env"] = Environment(found._replace(enclosing_env={}, own_env={}).layers, scopes)
    return scopes


def names_environment(expression: Expression) -> bool:
    """Whether it may name a variable of the environment."""
    return "env" in expression.source


class NotYet(InputError):
    """A variable has no value before there is an attempt."""


class Environment(Scope):
    """The environment of a task as expressions name it: layers of variables over what the program was started with.

    A variable is worked out when it is first asked for. Those of one layer may name each other, in any order; one that
    names itself means that of the layers below. With `early` there is no attempt yet: a variable that needs one raises
    NotYet.
    """

    def __init__(self, layers: Sequence[Mapping[str, str | Template]], scopes: Scopes, *, early: bool = False) -> None:
        self._layers, self._scopes, self._early = layers, scopes, early
        self._worked_out: dict[tuple[int, str], str] = {}
        self._open: list[tuple[int, str]] = []  # those that are being worked out

    def get(self, name: str) -> str:
        """The value of a variable. Raises ScopeError, or InputError with the place of its expression."""
        return self.below(len(self._layers), name)

    def values(self) -> dict[str, str]:
        """All variables of the layers. Raises InputError."""
        return {name: self.get(name) for layer in self._layers for name in layer}

    def below(self, depth: int, name: str) -> str:
        """The value of a variable as the layers below `depth` have it."""
        for number in range(depth - 1, -1, -1):
            if name in self._layers[number] and (number, name) not in self._open[-1:]:
                return self._value(number, name)
        if name in os.environ:
            return os.environ[name]
        raise ScopeError(f"there is no environment variable {name!r}")

    def _value(self, number: int, name: str) -> str:
        written = self._layers[number][name]
        if isinstance(written, str):
            return written
        place = (number, name)
        if place in self._open:
            names = " and ".join(dict.fromkeys(one for _, one in self._open[self._open.index(place) :]))
            raise ScopeError(f"the environment variables {names} name each other")
        if place not in self._worked_out:
            self._open.append(place)
            try:
                self._worked_out[place] = self._text(written, {**self._scopes, "env": _Below(self, number + 1)}, name)
            finally:
                self._open.pop()
        return self._worked_out[place]

    def _text(self, template: Template, scopes: Scopes, name: str) -> str:
        late = [part for part in template if isinstance(part, Expression) and not part.early] if self._early else []
        if late:
            for part in template:
                if part not in late and isinstance(part, Expression):
                    _evaluated(part, scopes)  # what is wrong with it is known already
            raise NotYet(f"the environment variable {name} is only known when the task starts")
        return for_process(template, scopes, name)


class _Below(Scope):
    """`env` in a variable's own expression."""

    def __init__(self, environment: Environment, depth: int) -> None:
        self._environment, self._depth = environment, depth

    def get(self, name: str) -> str:
        return self._environment.below(self._depth, name)


class _Tasks(Scope):
    """`tasks.a`: what other tasks have stored."""

    def __init__(self, stored: Mapping[str, Payload], read: Callable[[Payload], Any]) -> None:
        self._stored, self._read = stored, read

    def get(self, name: str) -> Scope:
        return _Task(name, self)

    def value(self, ref: Ref) -> Any:
        payload = self._stored.get(input_name(ref))
        if payload is None:
            what = "result" if ref.key == "return_value" else f"output {ref.key!r}"
            raise ScopeError(f"task {ref.task_id!r} has no {what}; where it may have none, write | default(…)")
        try:
            return self._read(payload)
        except LiteflowError as error:
            raise InputError(f"task {ref.task_id!r}: {error}") from None


class _Task(Scope):
    def __init__(self, task_id: str, tasks: _Tasks, *, outputs: bool = False) -> None:
        self._task_id, self._tasks, self._outputs = task_id, tasks, outputs

    def get(self, name: str) -> Any:
        if not self._outputs and name == "outputs":
            return _Task(self._task_id, self._tasks, outputs=True)
        return self._tasks.value(Ref(self._task_id, name if self._outputs else "return_value"))


def decode_plain(payload: Payload) -> Any:
    """A value that was not pickled. Raises InputError."""
    if is_pickled(payload):
        raise InputError(
            "the value is a Python object (it was pickled), which only Python tasks can take, as an argument; "
            "for lists, conditions and commands return numbers, text, lists, mappings, dates or paths"
        )
    return decode(payload)


def value_of(template: Template, scopes: Scopes) -> Any:
    """The value of a template: of a lone expression in its own type, else text. Raises InputError."""
    if len(template) == 1 and isinstance(template[0], Expression):
        return _evaluated(template[0], scopes)
    return "".join(part if isinstance(part, str) else _text(part, scopes) for part in template)


def _evaluated(expression: Expression, scopes: Scopes) -> Any:
    try:
        return evaluate(expression.source, scopes)
    except (LocatedError, NotYet):
        raise
    except InputError as error:
        raise _error(expression.at, str(error)) from None


def _text(expression: Expression, scopes: Scopes) -> str:
    value = _evaluated(expression, scopes)
    try:
        return text_for(value)
    except InputError as error:
        raise _error(expression.at, str(error)) from None


def for_process(template: Template, scopes: Scopes, variable: str = "") -> str:
    """The value as text that a program can be given. Raises InputError."""
    text = "".join(part if isinstance(part, str) else _text(part, scopes) for part in template)
    at = next(part.at for part in template if isinstance(part, Expression))
    if "\0" in text:
        raise _error(at, "the value holds a NUL character, which no program can be given")
    try:
        size = len(encoded(text))
    except UnicodeEncodeError:
        raise _error(
            at, "the value holds half of a character (a lone surrogate), which no program can be given"
        ) from None
    if size + len(variable) + 2 > LARGEST:
        raise _error(at, f"the value is {size:,} bytes long; a program can be given 128 KiB, so hand it over in a file")
    return text


def _pasted(template: Template, scopes: Scopes, info: RunInfo) -> str:
    """A value that becomes part of a script, and so of a command line. Raises InputError."""
    text = for_process(template, scopes)
    if info.masker is not None and (name := info.masker.found(text.encode("utf-8", "surrogateescape"))) is not None:
        at = next(part.at for part in template if isinstance(part, Expression))
        raise _error(at, f"raw(…) would put the secret {name} on a command line, where other users can read it")
    return text


class LocatedError(InputError):
    """What is wrong with an expression, and where it stands."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _error(at: Problem, message: str) -> LocatedError:
    return LocatedError(at._replace(message=message))


def _folder(template: Template, scopes: Scopes, start: str) -> str:
    text = for_process(template, scopes)
    if not text:
        raise _error(next(part.at for part in template if isinstance(part, Expression)), "must not be empty")
    return os.path.normpath(os.path.join(start, os.path.expanduser(text)))


def fill(value: Any, templates: Mapping[str, Template], scopes: Scopes) -> Any:
    """A value with those texts in it replaced that are templates, at any depth. Raises InputError."""
    kind = type(value)
    if kind is str:
        template = templates.get(value)
        return value if template is None else value_of(template, scopes)
    if kind is list:
        return [fill(item, templates, scopes) for item in value]
    if kind is dict:
        return {name: fill(item, templates, scopes) for name, item in value.items()}
    return value


def option(template: Template, params: Scopes, found: Expressions) -> Any:
    """The value of an option such as `timeout`, which is known before the run begins.

    Raises:
        InputError: it has none; without the place.
    """
    scopes = early_scopes(found, params)
    values = [part if isinstance(part, str) else evaluate(part.source, scopes) for part in template]
    return values[0] if len(values) == 1 else "".join(map(text_for, values))


def early_scopes(found: Expressions, params: Scopes) -> dict[str, Any]:
    """What expressions can name before the run begins."""
    scopes: dict[str, Any] = {"params": params, "workflow": found.workflow}
    scopes["env"] = Environment(found.layers, scopes, early=True)
    return scopes


def early_problems(found: Expressions, params: Scopes) -> Iterator[Problem]:
    """What is wrong with the expressions whose values are known before the run begins."""
    scopes = early_scopes(found, params)
    checks = [partial(scopes["env"].get, name) for layer in found.layers for name in layer]
    templates = [*found.words.values(), *found.pasted, *found.config.values(), *found.fan.values()]
    for template in [*templates, *([found.cwd] if found.cwd is not None else [])]:
        parts = [part for part in template if isinstance(part, Expression) and part.early]
        checks += [partial(_evaluated, part, scopes) for part in parts]
    for check in checks:
        try:
            check()
        except LocatedError as error:
            yield error.problem
        except (NotYet, ScopeError):
            pass  # a ScopeError: variables that name each other, which the parser tells


class _Hidden(Scope):
    def get(self, name: str) -> str:
        return "***"


def preview(
    text: str, params: Scopes, found: Expressions, hidden: Collection[str] = (), more: Scopes | None = None
) -> str:
    """A text with the values that are known before a run, for people; other expressions stay as they are written.

    Secrets are shown as `***`, and so are the environment variables that are `hidden` because they hold one. `more` is
    what else is known.
    """
    layers = (dict.fromkeys(hidden, "***"), *found.layers)
    scopes: dict[str, Any] = {"params": params, "workflow": found.workflow, "secrets": _Hidden(), **(more or {})}
    scopes["env"] = Environment(layers, scopes)
    shown = []
    for part in split(text):
        if isinstance(part, str):
            shown.append(part)
            continue
        try:
            shown.append(text_for(evaluate(part.source, scopes)))
        except InputError:
            shown.append(text[part.start : part.end])
    return "".join(shown)
