"""The values of a task's expressions: worked out for each attempt, in the process that starts it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from lightflow.errors import Problem
from lightflow.expressions.language import Scope, ScopeError, evaluate, text_for
from lightflow.expressions.split import split
from lightflow.modules import values_from
from lightflow.parser.spec import Expression, Expressions, Template
from liteflow.context import idempotency_key
from liteflow.errors import InputError, LiteflowError
from liteflow.values.payload import Payload, decode, is_pickled
from liteflow.work import Call, Command, Item, Ref, RunInfo, Work, input_name

_B = TypeVar("_B", Call, Command)
Scopes = Mapping[str, Any]

#: What the kernel takes for one variable, with its name and the NUL behind it.
LARGEST: Final = 128 * 1024
_ITEM: Final = input_name(Item("item"))
_PASTED: Final = re.compile("\0([0-9]+)\0")


class TaskLate(NamedTuple):
    """The late part of a task's body (see `liteflow.work.Late`). `folder` is where the run was started."""

    expressions: Expressions
    folder: str

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of other tasks that the expressions take."""
        return self.expressions.reads

    def complete(self, body: _B, info: RunInfo, work: Work) -> _B:
        """The body for an attempt, with a value in place of each expression. Raises InputError."""
        with values_from(self.expressions.workflow["dir"], self.folder):
            return self._completed(body, info, work)

    def _completed(self, body: _B, info: RunInfo, work: Work) -> _B:
        found = self.expressions
        stored = work.inputs or {}
        # Nothing in the orchestrator unpickles, and a command is started by the orchestrator.
        read = decode_plain if isinstance(body, Command) else decode
        scopes = scopes_of(found, info, work.task_id, work.map_index, work.attempt, stored, read)
        if found.item and _ITEM in stored:  # a hook may be about a mapped task as a whole
            scopes[found.item] = read(stored[_ITEM])
        env = environment(found, scopes)
        scopes["env"] = _Env(env)
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
            "logical_date": info.logical_date,
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
        "run": {"id": info.run_id, "logical_date": info.logical_date},
        "task": {"id": task_id},
        "workflow": found.workflow,
        "tasks": tasks,
        "needs": tasks,
        "secrets": info.secrets or {},
    }
    parts = [part for one in found.fan.values() for part in one if isinstance(part, Expression)]
    if any(map(names_environment, parts)):  # else a value in it that only an attempt has would be missed
        scopes["env"] = _Env(environment(found._replace(own_env={}), scopes))
    return scopes


def names_environment(expression: Expression) -> bool:
    """May it name a variable of the environment?"""
    return "env" in expression.source


class _Env(Scope):
    """The environment of a task: what the file says over what the program was started with."""

    def __init__(self, *layers: Mapping[str, str]) -> None:
        self._layers = layers

    def get(self, name: str) -> str:
        for layer in self._layers:
            if name in layer:
                return layer[name]
        if name in os.environ:
            return os.environ[name]
        raise ScopeError(f"there is no environment variable {name!r}")


class _Tasks(Scope):
    """`tasks.a`: what other tasks have stored."""

    def __init__(self, stored: Mapping[str, Payload], read: Callable[[Payload], Any]) -> None:
        self._stored, self._read = stored, read

    def get(self, name: str) -> Scope:
        return _Task(name, self)

    def value(self, ref: Ref) -> Any:
        payload = self._stored.get(input_name(ref))
        if payload is None:
            what = "returned nothing" if ref.key == "return_value" else f"has no output {ref.key!r}"
            raise ScopeError(f"task {ref.task_id!r} {what}")
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
        raise InputError("the value is a Python object (it was pickled), which only Python tasks can take")
    return decode(payload)


def value_of(template: Template, scopes: Scopes) -> Any:
    """The value of a template: of a lone expression in its own type, else text. Raises InputError."""
    if len(template) == 1 and isinstance(template[0], Expression):
        return _evaluated(template[0], scopes)
    return "".join(part if isinstance(part, str) else _text(part, scopes) for part in template)


def _evaluated(expression: Expression, scopes: Scopes) -> Any:
    try:
        return evaluate(expression.source, scopes)
    except InputError as error:
        raise _error(expression.at, str(error)) from None


def _text(expression: Expression, scopes: Scopes) -> str:
    try:
        return text_for(evaluate(expression.source, scopes))
    except InputError as error:
        raise _error(expression.at, str(error)) from None


def for_process(template: Template, scopes: Scopes, variable: str = "") -> str:
    """The value as text that a program can be given. Raises InputError."""
    text = "".join(part if isinstance(part, str) else _text(part, scopes) for part in template)
    at = next(part.at for part in template if isinstance(part, Expression))
    if "\0" in text:
        raise _error(at, "the value holds a NUL character, which no program can be given")
    try:
        size = len(os.fsencode(text))
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


class PlacedError(InputError):
    """What is wrong with an expression, and where it stands."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _error(at: Problem, message: str) -> PlacedError:
    return PlacedError(at._replace(message=message))


def variables(found: Expressions, scopes: Scopes) -> Scope:
    """The environment as expressions name it: the task's own variables over those of the program."""
    return _Env(environment(found, scopes))


def environment(found: Expressions, scopes: Scopes) -> dict[str, str]:
    """The task's own variables: the workflow's may name those of the program, the task's may name both."""
    env: dict[str, str] = {}
    for layer in found.layers:
        before = {**scopes, "env": _Env(dict(env))}
        env |= {name: one if isinstance(one, str) else for_process(one, before, name) for name, one in layer.items()}
    return env


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
    scopes = {"params": params, "workflow": found.workflow, "env": _Env(found.dotenv)}
    values = [part if isinstance(part, str) else evaluate(part.source, scopes) for part in template]
    return values[0] if len(values) == 1 else "".join(map(text_for, values))


def early_problems(found: Expressions, params: Scopes) -> Iterator[Problem]:
    """What is wrong with the expressions whose values are known before the run begins."""
    layers = found.layers
    templates = [one for layer in layers for one in layer.values() if not isinstance(one, str)]
    templates += [*found.words.values(), *found.pasted, *found.config.values(), *found.fan.values()]
    literal = {name: one for layer in layers for name, one in layer.items() if isinstance(one, str)}
    late = {name for layer in layers for name, one in layer.items() if not isinstance(one, str)}
    scopes = {"params": params, "workflow": found.workflow, "env": _Env(literal)}
    for template in [*templates, *([found.cwd] if found.cwd is not None else [])]:
        for part in template:
            if isinstance(part, Expression) and part.early and not (late and "env" in part.source):
                try:
                    evaluate(part.source, scopes)
                except InputError as error:
                    yield part.at._replace(message=str(error))


class _Hidden(Scope):
    def get(self, name: str) -> str:
        return "***"


def preview(
    text: str, params: Scopes, workflow: Scopes, hidden: Collection[str] = (), more: Scopes | None = None
) -> str:
    """A text with the values that are known before a run, for people; other expressions stay as they are written.

    Secrets are shown as `***`, and so are the environment variables that are `hidden` because they hold one. `more` is
    what else is known.
    """
    env = _Env(dict.fromkeys(hidden, "***"))
    scopes = {"params": params, "workflow": workflow, "env": env, "secrets": _Hidden(), **(more or {})}
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
