"""Evaluate the expressions of a task, in the worker, or in the orchestrator for commands.

It is also checked here, before a run, whether expressions can be evaluated whose values are known already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from lightflow.errors import Location, Problem
from lightflow.expressions.language import NameNotFound, Namespace, evaluate, text_for
from lightflow.expressions.template import split
from lightflow.import_path import unpickling_from
from lightflow.spec.model import BoundValue, Expression, Expressions, KeyTemplate, Template
from liteflow import Call, Command, InputError, LiteflowError
from liteflow.api import (
    EMPTY_MAPPING,
    LONGEST_WORD,
    HookEvent,
    Payload,
    Ref,
    RunInfo,
    Work,
    decode_value,
    idempotency_key,
    input_name,
    is_pickled,
    moment_from_epoch,
    process_bytes,
    replace,
)

_B = TypeVar("_B", Call, Command)
Values = Mapping[str, Any]  #: what expressions can name, by the name

_ITEM: Final = "item"
_PASTED: Final = re.compile("\0([0-9]+)\0")


class DeferredTaskBody(NamedTuple):
    """The deferred part of a task's body: its expressions (see `liteflow.work.DeferredBody`)."""

    expressions: Expressions
    folder: str  #: from which relative paths start

    @property
    def reads(self) -> Sequence[Ref]:
        """Return the values of other tasks that the expressions use."""
        return self.expressions.reads

    def complete(self, body: _B, info: RunInfo, work: Work) -> _B:
        """Return the body for an attempt, with a value in place of each expression. Raises InputError."""
        with unpickling_from(self.expressions.workflow["dir"], self.folder):
            return self._complete(body, info, work)

    def _complete(self, body: _B, info: RunInfo, work: Work) -> _B:
        expressions = self.expressions
        inputs = work.inputs or {}
        # Nothing in the orchestrator unpickles, and the orchestrator evaluates the expressions of commands.
        read = decode_plain if isinstance(body, Command) else decode_value
        values = attempt_values(expressions, info, work.task_id, work.map_index, work.attempt, inputs, read)
        values |= {"iteration": work.iteration, "previous": _Previous(work.previous or {}, read)}
        if expressions.item and work.items:  # a hook of a mapped task as a whole has no item
            values[expressions.item] = read(work.items[_ITEM])
        if work.hook is not None:
            values["hook"] = _hook_values(work.hook, info)
        environment = values["env"] = Environment(expressions.layers, values)
        env = environment.values()
        words = {name: process_text(word, values, name) for name, word in expressions.words.items()}
        cwd = body.cwd
        if expressions.cwd is not None:
            cwd = _folder(expressions.cwd, values, self.folder)
        if isinstance(body, Command):
            texts = [_pasted_text(template, values, info) for template in expressions.pasted]
            argv = tuple(_PASTED.sub(lambda match: texts[int(match[1])], word) for word in body.argv)
            return body._replace(argv=argv, cwd=cwd, env={**body.env, **env, **words}, late=None)
        texts = [_pasted_text(template, values, info) for template in expressions.pasted]
        kwargs = {name: _filled(value, values, texts) for name, value in body.kwargs.items()}
        return body._replace(kwargs=kwargs, cwd=cwd, env={**body.env, **env, **words}, late=None)


# -- what expressions can name ---------------------------------------------------------------------------------------


def attempt_values(
    expressions: Expressions,
    info: RunInfo,
    task_id: str,
    map_index: int,
    attempt: int,
    inputs: Mapping[str, Payload],
    read: Callable[[Payload], Any],
) -> dict[str, Any]:
    """Return what the expressions of an attempt can name, except `env`."""
    tasks = Tasks(inputs, read, expressions.names)
    return {
        "params": params_of(expressions, info.params),
        "run": {
            "id": info.run_id,
            "logical_date": moment_from_epoch(info.logical_date),
            "attempt": attempt,
            "idempotency_key": idempotency_key(info.run_id, task_id, map_index),
        },
        "task": {"id": task_id, "attempt": attempt, "index": map_index},
        "workflow": expressions.workflow,
        "tasks": tasks,
        "needs": tasks,
        "secrets": info.secrets or {},
    }


def _hook_values(event: HookEvent, info: RunInfo) -> dict[str, Any]:
    """Return the names of `hook`: the event that the hook handles."""
    from lightflow.page_address import run_page  # only for hooks

    return {
        "event": event.event,
        "task": event.task_id,
        "map_index": event.map_index if event.map_index >= 0 else None,
        "status": event.status,
        "attempt": event.attempt,
        "error": event.error,
        "url": run_page(info.db_path, info.run_id),
    }


def expansion_values(expressions: Expressions, info: RunInfo, task_id: str, inputs: Mapping[str, Payload]) -> Values:
    """Return what expressions can name before the task has an instance or an attempt."""
    tasks = Tasks(inputs, decode_plain, expressions.names)
    values: dict[str, Any] = {
        "params": params_of(expressions, info.params),
        "run": {"id": info.run_id, "logical_date": moment_from_epoch(info.logical_date)},
        "task": {"id": task_id},
        "workflow": expressions.workflow,
        "tasks": tasks,
        "needs": tasks,
        "secrets": info.secrets or {},
    }
    values["env"] = Environment(replace(expressions, enclosing_env={}, own_env={}).layers, values)
    return values


def early_values(expressions: Expressions, params: Values) -> dict[str, Any]:
    """Return what expressions can name before the run starts."""
    values: dict[str, Any] = {"params": params_of(expressions, params), "workflow": expressions.workflow}
    values["env"] = Environment(expressions.layers, values, before_run=True)
    return values


def params_of(expressions: Expressions, params: Values) -> Values:
    """Return the parameters that expressions can name, given those of the run."""
    return params if expressions.params is None else expressions.params


class ValueNotKnown(InputError):
    """A variable has no value before there is an attempt."""


class Environment(Namespace):
    """The environment of a task, as expressions name it.

    It has layers of variables over the environment of this process. A variable is evaluated when it is first used.
    Variables of one layer may name each other, in any order; a variable that names itself means that of the layers
    below. With `before_run` there is no attempt yet: a variable that depends on the attempt raises ValueNotKnown.
    """

    def __init__(
        self, layers: Sequence[Mapping[str, str | Template]], values: Values, *, before_run: bool = False
    ) -> None:
        self._layers, self._values, self._before_run = layers, values, before_run
        self._results: dict[tuple[int, str], str] = {}
        self._evaluating: list[tuple[int, str]] = []

    def get(self, name: str) -> str:
        """Return the value of a variable. Raises NameNotFound, or InputError with the place of its expression."""
        return self.below(len(self._layers), name)

    def values(self) -> dict[str, str]:
        """Return all variables of the layers. Raises InputError."""
        return {name: self.get(name) for layer in self._layers for name in layer}

    def below(self, depth: int, name: str) -> str:
        """Return the value of a variable in the layers below `depth`."""
        for number in range(depth - 1, -1, -1):
            if name in self._layers[number] and (number, name) not in self._evaluating[-1:]:
                return self._value(number, name)
        if name in os.environ:
            return os.environ[name]
        raise NameNotFound(f"there is no environment variable {name!r}")

    def _value(self, number: int, name: str) -> str:
        written = self._layers[number][name]
        if isinstance(written, str):
            return written
        key = (number, name)
        if key in self._evaluating:
            cycle = self._evaluating[self._evaluating.index(key) :]
            names = " and ".join(dict.fromkeys(variable for _, variable in cycle))
            raise NameNotFound(f"the environment variables {names} name each other")
        if key not in self._results:
            self._evaluating.append(key)
            try:
                self._results[key] = self._text(written, {**self._values, "env": _LowerLayers(self, number + 1)}, name)
            finally:
                self._evaluating.pop()
        return self._results[key]

    def _text(self, template: Template, values: Values, name: str) -> str:
        expressions = [part for part in template if isinstance(part, Expression)]
        if self._before_run and not all(expression.early for expression in expressions):
            for expression in expressions:
                if expression.early:
                    _evaluated(expression, values)  # to report its mistakes
            raise ValueNotKnown(f"the environment variable {name} is only known when the task starts")
        return process_text(template, values, name)


class _LowerLayers(Namespace):
    """`env` in the expression of a variable."""

    def __init__(self, environment: Environment, depth: int) -> None:
        self._environment, self._depth = environment, depth

    def get(self, name: str) -> str:
        return self._environment.below(self._depth, name)


class Tasks(Namespace):
    """`tasks`: the stored values of other tasks. `names` has the ids for names that are not ids in one word."""

    def __init__(
        self, inputs: Mapping[str, Payload], read: Callable[[Payload], Any], names: Mapping[str, str] = EMPTY_MAPPING
    ) -> None:
        self._inputs, self._read, self._names = inputs, read, names

    def get(self, name: str) -> TaskValues:
        return TaskValues(name, self)

    def task_id(self, name: str) -> str:
        """Return the id of the task with this name."""
        return self._names.get(name, name)

    def is_name(self, words: str) -> bool:
        """Return whether these words are the name of a task, or begin that of a task in a group."""
        return any(name == words or name.startswith(f"{words}.") for name in self._names)

    def value(self, ref: Ref) -> Any:
        payload = self._inputs.get(input_name(ref))
        if payload is None:
            what = "result" if ref.key == "return_value" else f"output {ref.key!r}"
            raise NameNotFound(f"task {ref.task_id!r} has no {what}; where it may have none, write | default(…)")
        try:
            return self._read(payload)
        except LiteflowError as error:
            raise InputError(f"task {ref.task_id!r}: {error}") from None


class TaskValues(Namespace):
    """`tasks.NAME`, where the name may have several words, or `tasks.NAME.outputs`."""

    def __init__(self, name: str, tasks: Tasks, *, outputs: bool = False) -> None:
        self._name, self._tasks, self._outputs = name, tasks, outputs

    @property
    def is_task(self) -> bool:
        """Whether it is `tasks.NAME`, not its outputs."""
        return not self._outputs

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self._tasks.task_id(self._name)

    def get(self, name: str) -> Any:
        if not self._outputs:
            if self._tasks.is_name(f"{self._name}.{name}"):
                return TaskValues(f"{self._name}.{name}", self._tasks)
            if name == "outputs":
                return TaskValues(self._name, self._tasks, outputs=True)
        return self._tasks.value(Ref(self.task_id, name if self._outputs else "return_value"))


class StoredValues(Namespace):
    """`outputs` of an iteration: stored values by name."""

    def __init__(self, values: Mapping[str, Payload], read: Callable[[Payload], Any]) -> None:
        self._values, self._read = values, read

    def get(self, name: str) -> Any:
        if name not in self._values:
            raise NameNotFound(f"there is no output {name!r}; where there may be none, write | default(…)")
        return self._read(self._values[name])


class _Previous(Namespace):
    """`previous`: the iteration before."""

    def __init__(self, values: Mapping[str, Payload], read: Callable[[Payload], Any]) -> None:
        self._outputs = StoredValues(values, read)

    def get(self, name: str) -> Any:
        return self._outputs if name == "outputs" else self._outputs.get("return_value")


def decode_plain(payload: Payload) -> Any:
    """Return a value that was not pickled. Raises InputError."""
    if is_pickled(payload):
        raise InputError(
            "the value is a Python object (it was pickled), which only Python tasks can take, as an argument; "
            "for lists, conditions and commands return numbers, text, lists, mappings, dates or paths"
        )
    return decode_value(payload)


# -- values of templates ---------------------------------------------------------------------------------------------


def value_of(template: Template, values: Values) -> Any:
    """Return the value of a template: of a lone expression with its type, otherwise text. Raises InputError."""
    if len(template) == 1 and isinstance(template[0], Expression):
        return _evaluated(template[0], values)
    return "".join(part if isinstance(part, str) else _text(part, values) for part in template)


def _evaluated(expression: Expression, values: Values) -> Any:
    try:
        return evaluate(expression.source, values)
    except (LocatedError, ValueNotKnown):
        raise
    except InputError as error:
        raise _error(expression.location, str(error)) from None


def _text(expression: Expression, values: Values) -> str:
    value = _evaluated(expression, values)
    try:
        return text_for(value)
    except InputError as error:
        raise _error(expression.location, str(error)) from None


def process_text(template: Template, values: Values, variable: str = "") -> str:
    """Return the value of a template as text that a process can receive, as a variable or a word. Raises InputError."""
    text = "".join(part if isinstance(part, str) else _text(part, values) for part in template)
    at = _place_of(template)
    if "\0" in text:
        raise _error(at, "the value holds a NUL character, which no program can be given")
    try:
        size = len(process_bytes(text))
    except UnicodeEncodeError:
        raise _error(
            at, "the value holds half of a character (a lone surrogate), which no program can be given"
        ) from None
    if size + len(variable) + 2 > LONGEST_WORD:
        message = f"the value is {size:,} bytes long; a program can be given {LONGEST_WORD // 1024} KiB"
        raise _error(at, f"{message}, so pass it in a file")
    return text


def _place_of(template: Template) -> Location:
    """Return the place of the first expression of a template."""
    return next(part.location for part in template if isinstance(part, Expression))


def _pasted_text(template: Template, values: Values, info: RunInfo) -> str:
    """Return a value that becomes part of a script, and so of a command line. Raises InputError for a secret."""
    text = process_text(template, values)
    if info.masker is not None and (name := info.masker.secret_in(text.encode("utf-8", "surrogateescape"))) is not None:
        message = f"raw(…) would put the secret {name} on a command line, where other users can read it"
        raise _error(_place_of(template), message)
    return text


class LocatedError(InputError):
    """A mistake in an expression, with the place of the expression."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _error(at: Location, message: str) -> LocatedError:
    return LocatedError(at.problem(message))


def _folder(template: Template, values: Values, start: str) -> str:
    text = process_text(template, values)
    if not text:
        raise _error(_place_of(template), "must not be empty")
    return os.path.normpath(os.path.join(start, os.path.expanduser(text)))


def fill(value: Any, templates: Mapping[str, Template], values: Values) -> Any:
    """Return a value in which each text that is a template is replaced, at any depth. Raises InputError."""
    kind = type(value)
    if kind is str:
        template = templates.get(value)
        return value if template is None else value_of(template, values)
    if kind is list:
        return [fill(item, templates, values) for item in value]
    if kind is dict:
        return {name: fill(item, templates, values) for name, item in value.items()}
    return value


# -- keys of task types ----------------------------------------------------------------------------------------------


class TemplateText(str):
    """A text with expressions in the keys of a task, as written; each attempt has a value in its place."""

    __slots__ = ("key",)
    key: KeyTemplate

    def __new__(cls, text: str, key: KeyTemplate) -> TemplateText:
        self = super().__new__(cls, text)
        self.key = key
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return TemplateText, (str(self), self.key)


def with_templates(config: Mapping[str, Any], keys: Sequence[KeyTemplate]) -> dict[str, Any]:
    """Return the keys of a task with a TemplateText in place of each text that has expressions."""
    result = dict(config)
    for key in keys:
        container: Any = result
        for step in key.path[:-1]:
            inner = container[step]
            container[step] = container = list(inner) if isinstance(inner, list) else dict(inner)
        container[key.path[-1]] = TemplateText(container[key.path[-1]], key)
    return result


def _filled(value: Any, values: Values, pasted: Sequence[str]) -> Any:
    """Return an argument with a value in place of each TemplateText, at any depth. Raises InputError."""
    kind = type(value)
    if kind is TemplateText:
        return _KINDS[value.key.kind](value.key.template, values)
    if kind is str:
        return _PASTED.sub(lambda match: pasted[int(match[1])], value) if pasted else value
    if kind is list:
        return [_filled(item, values, pasted) for item in value]
    if kind is dict:
        return {name: _filled(item, values, pasted) for name, item in value.items()}
    return value


def _bound(template: Template, values: Values) -> list[str | BoundValue]:
    return [part if isinstance(part, str) else BoundValue(_evaluated(part, values)) for part in template]


def _url(template: Template, values: Values) -> str:
    """Return a URL whose values are percent-encoded, so that none is more than a part of its path or query."""
    if len(template) == 1:
        return process_text(template, values)
    from urllib.parse import quote

    parts = []
    for part in template:
        if isinstance(part, str):
            parts.append(part)
            continue
        text = _text(part, values)
        if text in (".", ".."):
            raise _error(part.location, f"the value is {text!r}, which would change the path of the URL")
        parts.append(quote(text.encode("utf-8", "surrogateescape"), safe=""))
    return "".join(parts)


def _header(template: Template, values: Values) -> str:
    text = process_text(template, values)
    if "\r" in text or "\n" in text:
        raise _error(_place_of(template), "the value holds a line break, which would begin another header")
    return text


#: The value of a template by the kind of its key. The parser reads keys of the kinds `shell` and `none`.
_KINDS: Final[Mapping[str, Callable[[Template, Values], Any]]] = {
    "text": value_of,
    "bind": _bound,
    "url": _url,
    "header": _header,
}


# -- before a run ----------------------------------------------------------------------------------------------------


def option(template: Template, params: Values, expressions: Expressions) -> Any:
    """Return the value of an option such as `timeout`, which is known before the run starts.

    Raises:
        InputError: it cannot be evaluated; the message has no place.
    """
    values = early_values(expressions, params)
    results = [part if isinstance(part, str) else evaluate(part.source, values) for part in template]
    return results[0] if len(results) == 1 else "".join(map(text_for, results))


def keys_before_run(
    config: Mapping[str, Any], expressions: Expressions, params: Values, secrets: Mapping[str, str]
) -> dict[str, Any]:
    """Return the keys of a task with the values of the expressions, alone in a key, that are known before the run."""
    values = {**early_values(expressions, params), "secrets": secrets}
    keys = dict(config)
    for key in expressions.config:
        (part, *rest), (name, *inner) = key.template, key.path
        if rest or inner or isinstance(part, str):
            continue
        with suppress(InputError):
            keys[str(name)] = evaluate(part.source, values)
    return keys


def early_problems(expressions: Expressions, params: Values) -> Iterator[Problem]:
    """Yield the mistakes in expressions whose values are known before the run starts."""
    values = early_values(expressions, params)
    checks = [partial(values["env"].get, name) for layer in expressions.layers for name in layer]
    templates = [
        *expressions.words.values(),
        *expressions.pasted,
        *(key.template for key in expressions.config),
        *expressions.mapping.values(),
        *([expressions.cwd] if expressions.cwd is not None else []),
    ]
    for template in templates:
        parts = [part for part in template if isinstance(part, Expression) and part.early]
        checks += [partial(_evaluated, part, values) for part in parts]
    for check in checks:
        try:
            check()
        except LocatedError as error:
            yield error.problem
        except (ValueNotKnown, NameNotFound):
            pass  # NameNotFound: variables that name each other, which the parser reports


class _MaskedSecrets(Namespace):
    def get(self, name: str) -> str:
        return "***"


def preview(
    text: str,
    params: Values,
    expressions: Expressions,
    hidden: Collection[str] = (),
    extra_values: Values | None = None,
) -> str:
    """Return a text for people with the values that are known before a run; other expressions stay as written.

    Secrets, and the environment variables in `hidden`, which hold secrets, are shown as `***`.
    """
    layers = (dict.fromkeys(hidden, "***"), *expressions.layers)
    values: dict[str, Any] = {
        "params": params_of(expressions, params),
        "workflow": expressions.workflow,
        "secrets": _MaskedSecrets(),
        **(extra_values or {}),
    }
    values["env"] = Environment(layers, values)
    shown = []
    for part in split(text):
        if isinstance(part, str):
            shown.append(part)
            continue
        try:
            shown.append(text_for(evaluate(part.source, values)))
        except InputError:
            shown.append(text[part.start : part.end])
    return "".join(shown)
