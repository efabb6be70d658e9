"""Find the names in an expression without evaluating it, and check that they exist."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from jinja2 import nodes

from lightflow.expressions.language import METHODS, ExpressionError, parse
from lightflow.expressions.value_kinds import mistaken_comparison
from lightflow.text import did_you_mean
from liteflow.api import Record, Ref

#: Names with their attributes; None: any attribute.
SCOPES: Final[Mapping[str, tuple[str, ...] | None]] = {
    "params": None,
    "env": None,
    "run": ("id", "logical_date", "attempt", "idempotency_key"),
    "workflow": ("name", "dir", "file"),
    "task": ("id", "attempt", "index"),
    "tasks": None,
    "secrets": None,
    "iteration": None,
    "previous": ("outputs", "result"),
    "outputs": None,
    "result": None,
    "hook": ("event", "task", "map_index", "status", "attempt", "error", "url"),
}
#: The values of an iteration, which only the condition of a repetition knows.
_OF_ITERATIONS: Final = ("outputs", "result")
#: Names that exist everywhere; `hook` exists in hooks.
EVERYWHERE: Final = tuple(name for name in SCOPES if name not in ("hook", "iteration", "previous", *_OF_ITERATIONS))
#: Names whose values are known before a run starts.
EARLY: Final = frozenset(["params", "env", "workflow"])
#: Names that exist only in mapped tasks, with the key that maps them.
_OF_INSTANCES: Final = {"matrix": "matrix", "item": "foreach"}
_FUNCTIONS: Final = ("range",)
#: Filters and tests that accept a value that does not exist.
_LENIENT: Final = ("default", "d", "defined", "undefined")
#: Functions for conditions: how the upstream tasks have ended.
STATUS_FUNCTIONS: Final = ("success", "failure", "always", "cancelled")


#: Where names are known that are not known everywhere.
_PLACES: Final = {
    "hook": "known in hooks only",
    "iteration": "known in a task with `repeat` only",
    "previous": "known in the keys of a task with `repeat` only",
}


class References(Record):
    """The names that one expression refers to."""

    source: str  #: without `raw(…)`
    names: frozenset[str]  #: such as `params` and `tasks`
    params: frozenset[str]  #: the parameters
    reads: tuple[Ref, ...]  #: the values of other tasks
    raw: bool  #: whether its value is pasted into a script
    quoted: bool  #: whether its value is one word of shell text
    identifier: bool = False  #: whether its value is a name in SQL
    states: tuple[str, ...] = ()  #: the tasks whose status it reads
    status: bool = False  #: whether it calls a status function
    instance_only: bool = False  #: whether it needs an instance of a mapped task, and otherwise only early names
    env: tuple[str, ...] = ()  #: the environment variables
    number: bool = False  #: whether its value is an integer
    task_names: tuple[tuple[str, str], ...] = ()  #: names of tasks that are not a word with their ids


#: The message about a secret where secrets are not allowed.
_NO_SECRETS: Final = (
    "a secret is not allowed here, only in values that a process or a function receives: run, env, args"
)


class NameScope(Record):
    """The names that expressions in one place of a workflow file may use."""

    params: Collection[str]  #: the parameters of the workflow
    tasks: Collection[str]  #: the tasks of the workflow
    scopes: Collection[str] = EVERYWHERE  #: names such as `params`; for `secrets` see the field of that name
    task: str = ""  #: the task that the place belongs to
    groups: tuple[str, ...] = ()  #: the groups that the place is in, the innermost first: their names come first
    group_ids: Collection[str] = ()  #: those of `tasks` that are groups, which have a state and no values
    secrets: Collection[str] | None = None  #: the secrets of the workflow; None: secrets are not allowed here
    secrets_refusal: str = _NO_SECRETS  #: the message about a secret that is not allowed
    condition: bool = False  #: whether the place is an `if`
    item: str = ""  #: in a mapped task: `matrix`, `item`, or the name that `as` declares
    fields: Collection[str] | None = None  #: the attributes of the item; None: any
    unavailable: str = ""  #: the name of the item, where there is no instance yet
    env: Collection[str] | None = None  #: the variables in the file for this place; None: they are not known


class UnknownTask(ExpressionError):
    """An expression names a task that does not exist."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name  #: as it is written, with all words that follow `tasks`


class UnknownFunction(Exception):
    """An expression calls a function that does not exist."""

    def __init__(self, name: str, *, is_method: bool = False) -> None:
        super().__init__(name)
        self.name, self.is_method = name, is_method


def arguments_of(name: str, source: str) -> list[str]:
    """Return the arguments of the first call of a function, as written."""
    begin = re.search(rf"(?<![\w.]){re.escape(name)}\s*\(", source)
    if begin is None:
        return []
    arguments, depth = [""], 0
    for token in re.findall(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|.", source[begin.end() :], re.DOTALL):
        if token in ")]}" and not depth:
            break
        depth += (token in "([{") - (token in ")]}")
        if token == "," and not depth:
            arguments.append("")
        else:
            arguments[-1] += token
    return [argument.strip() for argument in arguments if argument.strip()]


def find_references(source: str, scope: NameScope) -> References:
    """Return what the expression refers to.

    Raises:
        Mistake: it is not a valid expression, or a name does not exist; the message says which names do.
    """
    try:
        return _uses(source, scope)
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None


def _uses(source: str, scope: NameScope) -> References:
    tree = parse(source)
    try:
        return _used_by(tree, source, scope)
    except UnknownFunction as error:
        from lightflow.other_tools import function_answer, method_answer

        if error.is_method:
            answer = method_answer(
                error.name, arguments_of(error.name, source.replace(f".{error.name}", f" {error.name}"))
            )
            hint = f"; {answer}" if answer else did_you_mean(error.name, METHODS)
            raise ExpressionError(f"values have no method {error.name!r}{hint}") from None
        answer = function_answer(error.name, arguments_of(error.name, source))
        near = f"; {answer}" if answer else did_you_mean(error.name, (*_FUNCTIONS, *STATUS_FUNCTIONS))
        raise ExpressionError(f"there is no function {error.name!r}{near}") from None


def _used_by(tree: nodes.Expr, source: str, scope: NameScope) -> References:
    raw = isinstance(tree, nodes.Call) and isinstance(tree.node, nodes.Name) and tree.node.name == "raw"
    if raw:
        assert isinstance(tree, nodes.Call)
        inside = source.strip()
        inside = inside[inside.index("(") + 1 : inside.rindex(")")].strip()
        if len(tree.args) != 1 or tree.kwargs or tree.dyn_args or tree.dyn_kwargs:
            raise ExpressionError("raw(…) takes one value")
        tree, source = parse(inside), inside
    quoted = isinstance(tree, nodes.Filter) and tree.name == "quote"
    identifier = isinstance(tree, nodes.Filter) and tree.name == "ident"
    if any(each.name == "ident" for each in tree.find_all(nodes.Filter)):  # inside the expression
        raise ExpressionError("ident must be the last filter of the expression")
    number = isinstance(tree, nodes.Filter) and tree.name == "int" and not (tree.args or tree.kwargs)
    names, params, reads, states = set[str](), set[str](), dict[Ref, None](), dict[str, None]()
    env, task_names = dict[str, None](), dict[str, str]()
    status = False
    for name, keys in _chains(tree):
        if name.endswith("()"):
            status = True
            if not scope.condition:
                raise ExpressionError(f"{name} is only known in `if`")
            continue
        names.add("tasks" if name == "needs" else name)
        if name in ("tasks", "needs"):
            keys = _with_task_id(keys, scope, task_names)
        _check(name, keys, scope)
        if name in ("tasks", "needs") and keys[1] == "status":
            states[str(keys[0])] = None
        elif name == "params" and keys and isinstance(keys[0], str):
            params.add(keys[0])
        elif name == "env" and isinstance(keys[0], str):
            env[keys[0]] = None
        elif name in ("tasks", "needs"):
            reads[Ref(str(keys[0]), "return_value" if keys[1] == "result" else str(keys[2]))] = None
    if raw and "secrets" in names:
        raise ExpressionError("raw(…) would put the secret on a command line, where other users can read it")
    if message := mistaken_comparison(tree, scope.params if isinstance(scope.params, Mapping) else {}):
        raise ExpressionError(message)
    if env and scope.env is not None:
        _check_variables(tree, scope.env, scope.secrets or ())
    return References(
        source=source,
        names=frozenset(names),
        params=frozenset(params),
        reads=tuple(reads),
        raw=raw,
        quoted=quoted,
        identifier=identifier,
        states=tuple(states),
        status=status,
        instance_only=_needs_instance(names, scope),
        env=tuple(env),
        number=number,
        task_names=tuple(task_names.items()),
    )


def _with_task_id(keys: list[Any], scope: NameScope, task_names: dict[str, str]) -> list[Any]:
    """Return the keys of `tasks` with the id of a task in place of its name, which may have several words.

    A name that is not an id in one word is added to `task_names`.
    """
    words = list(itertools.takewhile(lambda key: isinstance(key, str), keys))
    for count in range(len(words), 0, -1):
        name = ".".join(words[:count])
        task_id = next((f"{group}.{name}" for group in scope.groups if f"{group}.{name}" in scope.tasks), name)
        if task_id in scope.tasks:
            if count > 1 or task_id != name:
                task_names[name] = task_id
            return [task_id, *keys[count:]]
    return keys


def _words(keys: Sequence[Any]) -> str:
    """Return the keys as they are written, up to the first that is not a name."""
    return ".".join(itertools.takewhile(lambda key: isinstance(key, str), keys))


def _needs_instance(names: set[str], scope: NameScope) -> bool:
    """Return whether these names need an instance, and otherwise only values that are known before the run."""
    of_instance = {scope.item, "task"} if scope.item else set[str]()
    return not of_instance.isdisjoint(names) and names - of_instance <= EARLY


def _chains(tree: nodes.Node) -> Iterator[tuple[str, list[Any]]]:
    """Yield each name with its keys: `tasks.a["b"]` as `("tasks", ["a", "b"])`. A key that is not constant is None."""
    keys: list[Any] = []
    node: nodes.Node = tree
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if isinstance(node, nodes.Getattr):
            keys.append(node.attr)
        else:
            keys.append(node.arg.value if isinstance(node.arg, nodes.Const) else None)
            yield from _chains(node.arg)
        node = node.node
    if isinstance(node, nodes.Name):
        yield node.name, keys[::-1]
    elif isinstance(node, nodes.Call):
        if isinstance(node.node, nodes.Name):
            name = node.node.name
            if name == "raw":
                raise ExpressionError("raw(…) must be the whole expression, in the `run` of a shell task")
            if name in STATUS_FUNCTIONS:
                if node.args or node.kwargs or node.dyn_args or node.dyn_kwargs:
                    raise ExpressionError(f"{name}() takes no arguments")
                yield f"{name}()", []
            elif name not in _FUNCTIONS:
                raise UnknownFunction(name)
        else:
            yield from _chains(node.node)
            if isinstance(node.node, nodes.Getattr) and node.node.attr not in METHODS:
                raise UnknownFunction(node.node.attr, is_method=True)
        for child in node.iter_child_nodes(exclude=("node",)):
            yield from _chains(child)
    else:
        for child in node.iter_child_nodes():
            yield from _chains(child)


def _unknown_name(name: str, keys: list[Any], scope: NameScope) -> ExpressionError:
    """Return the error for a name that no expression knows, with the name that was probably meant."""
    hint = ""
    if name in scope.params or name in scope.tasks:
        hint = f", did you mean {'params' if name in scope.params else 'tasks'}.{name}?"
    if not hint:
        from lightflow.other_tools import name_answer

        rest = keys[0] if keys and isinstance(keys[0], str) else ""
        hint = f"; {answer}" if (answer := name_answer(name, rest)) else ""
    names = [each for each in SCOPES if each in EVERYWHERE or each in scope.scopes]
    hint = hint or did_you_mean(name, [*names, scope.item] if scope.item else names)
    return ExpressionError(f"there is no name {name!r}{hint or '; there are ' + ', '.join(names)}")


def _check(name: str, keys: list[Any], scope: NameScope) -> None:
    if name == scope.item:
        _check_item(keys, scope)
        return
    if name and name == scope.unavailable:
        raise ExpressionError(
            f"{name} is not known yet: `if`, `preconditions` and `on_start` come once, before all instances"
        )
    if name in _OF_INSTANCES and set(scope.scopes) >= set(EVERYWHERE):
        called = f"; here it is called {scope.item}" if scope.item else ""
        raise ExpressionError(f"{name} is known inside a task with `{_OF_INSTANCES[name]}`{called}")
    if name == "needs":
        name = "tasks"
    if name in STATUS_FUNCTIONS and scope.condition:
        raise ExpressionError(f"{name} is a function: write {name}()")
    if (name not in SCOPES and name not in _OF_INSTANCES) or (name in _OF_ITERATIONS and name not in scope.scopes):
        raise _unknown_name(name, keys, scope)
    if name == "secrets":
        _check_secret(keys, scope)
        return
    if name not in scope.scopes:
        names = ", ".join(scope.scopes)
        place = _PLACES.get(name) or f"not known here; only {names} are"
        raise ExpressionError(f"{name} is {place}")
    first = keys[0] if keys else None
    if name == "params" and isinstance(first, str) and first not in scope.params:
        hint = did_you_mean(first, scope.params) or ("" if scope.params else "; the workflow declares none")
        raise ExpressionError(f"there is no parameter {first!r}{hint}")
    allowed = SCOPES[name]
    if allowed is not None and first not in allowed:
        shown = f"{name} is not a value by itself"
        if keys:
            shown = f"{name} has no {first!r}{did_you_mean(str(first), allowed)}"
        raise ExpressionError(f"{shown}; there are {', '.join(f'{name}.{attribute}' for attribute in allowed)}")
    if name == "task" and first == "index" and not scope.item:
        raise ExpressionError("task.index is known inside a task with `matrix` or `foreach`")
    if name == "env" and not keys:
        raise ExpressionError("env is not a value by itself; name a variable: env.HOME")
    if name == "tasks":
        _check_task(keys, scope)


def _check_secret(keys: list[Any], scope: NameScope) -> None:
    if scope.secrets is None:
        raise ExpressionError(scope.secrets_refusal)
    first = keys[0] if keys else None
    if not isinstance(first, str):
        raise ExpressionError("secrets needs the name of a secret as it is written: secrets.API_TOKEN")
    if first not in scope.secrets:
        hint = did_you_mean(first, scope.secrets) or ("" if scope.secrets else "; the workflow declares none")
        raise ExpressionError(f"there is no secret {first!r}{hint}")


def _check_variables(tree: nodes.Node, variables: Collection[str], secrets: Collection[str]) -> None:
    """Raise Mistake if an environment variable that is always needed does not exist."""
    for name in _needed(tree):
        if name in variables or name in os.environ:
            continue
        hint = did_you_mean(name, variables)
        if not hint and name in secrets:
            hint = f"; for the secret write secrets.{name}"
        if not hint and name.startswith("LIGHTFLOW_"):
            hint = f"; a task finds it in its own environment: write ${name} in the script"
        hint = hint or f"; where it may be missing, write env.{name} | default('')"
        raise ExpressionError(f"there is no environment variable {name!r}{hint}")


def _needed(tree: nodes.Node) -> Iterator[str]:
    """Yield the environment variables without which the expression never has a value."""
    if isinstance(tree, nodes.CondExpr):
        yield from _needed(tree.test)
    elif isinstance(tree, nodes.And | nodes.Or):
        yield from _needed(tree.left)
    elif name := _variable(tree):
        yield name
    else:
        lenient = isinstance(tree, nodes.Filter | nodes.Test) and tree.name in _LENIENT
        for child in tree.iter_child_nodes():
            if not (lenient and _variable(child)):
                yield from _needed(child)


def _variable(node: nodes.Node) -> str:
    """Return the name of the environment variable that a node represents; empty text for another node."""
    if (
        isinstance(node, nodes.Getattr | nodes.Getitem)
        and isinstance(node.node, nodes.Name)
        and node.node.name == "env"
    ):
        key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
        return key if isinstance(key, str) else ""
    return ""


def _check_item(keys: list[Any], scope: NameScope) -> None:
    if scope.fields is None or not keys or not isinstance(keys[0], str) or keys[0] in scope.fields:
        return
    longer = next((name for name in scope.fields if name.startswith(f"{keys[0]}-")), None)
    hint = f"; write {scope.item}['{longer}']" if longer else did_you_mean(keys[0], scope.fields)
    raise ExpressionError(f"{scope.item} has no {keys[0]!r}{hint}; there are {', '.join(scope.fields)}")


def _check_task(keys: list[Any], scope: NameScope) -> None:
    if not keys or not isinstance(keys[0], str):
        raise ExpressionError("tasks needs the id of a task as it is written: tasks.fetch.outputs.rows")
    task_id = keys[0]
    if task_id == scope.task:
        raise ExpressionError(f"task {task_id!r} cannot take a value of itself")
    if task_id not in scope.tasks:
        longer = next((name for name in scope.tasks if name.startswith((f"{task_id}-", f"{task_id}."))), None)
        hint = f"; write tasks['{longer}']" if longer else did_you_mean(task_id, scope.tasks)
        raise UnknownTask(_words(keys), f"there is no task {task_id!r}{hint}")
    kind = keys[1] if len(keys) > 1 else None
    if task_id in scope.group_ids and kind != "status":
        hint = did_you_mean(f"{task_id}.{kind}", scope.tasks) if isinstance(kind, str) else ""
        message = f"{task_id} is a group, which has no values: name a task in it{hint}"
        raise UnknownTask(_words(keys), message)
    if kind == "outputs" and len(keys) > 2 and isinstance(keys[2], str):
        return
    if kind == "outputs":
        raise ExpressionError(f"tasks.{task_id}.outputs needs the name of an output as it is written")
    if kind == "status" and scope.condition:
        return
    if kind == "status":
        raise ExpressionError(f"tasks.{task_id}.status is only known in `if`")
    if kind != "result":
        shown = f"tasks.{task_id} has no {kind!r}" if kind is not None else f"tasks.{task_id} is not a value by itself"
        raise ExpressionError(f"{shown}; there are tasks.{task_id}.outputs.NAME and tasks.{task_id}.result")
