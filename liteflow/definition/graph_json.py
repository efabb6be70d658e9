"""The stored form of a graph, as JSON: enough to draw it, to detect that a task has changed, and to attach code to it.

`graph_json` writes it when a dag is compiled, `restore_task` reads it when a dag was loaded from the state file.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from liteflow.definition.groups import DagNodes
from liteflow.definition.options import NO_OPTIONS, keywords_of, make_options
from liteflow.definition.task import NO_HOOKS, Task
from liteflow.definition.wrappers import HookFunction, RunIfFunction, SensorFunction
from liteflow.digest import sha256, sha256_hex
from liteflow.errors import DefinitionError
from liteflow.hooks import HOOK_EVENTS
from liteflow.planning.graph import Graph
from liteflow.values.secrets import Secret
from liteflow.work import Body, Command, Item, Ref, stays_here

#: Options that have a key of their own in the row of a task.
_TOP_KEYS: Final = ("retries", "timeout", "priority", "max_parallel", "setup", "teardown", "resources")
#: Options that the row of a task has in another form, or that are code.
_MARKED: Final = frozenset([*_TOP_KEYS, "trigger_rule", "branch", "short_circuit", "run_if", "repeat", *HOOK_EVENTS])
_ROWS_AT_ONCE: Final = 1000


def graph_json(nodes: DagNodes, graph: Graph, bodies: Iterable[Body]) -> tuple[str, str]:
    """Return the digest of a graph and its JSON: `{"tasks": [{"id", "kind", "depends_on", …, "digest"}, …]}`.

    The rows are written in parts, because all rows at once are larger than the dag.
    """
    rows, parts, hasher = _rows(nodes, graph, bodies), list[str](), sha256(b'{"tasks":[')
    while batch := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        part = json.dumps(batch, separators=(",", ":"), default=str)[1:-1]
        hasher.update(("," + part if parts else part).encode("utf-8", "replace"))
        parts.append(part)
    hasher.update(b"]}")
    return str(hasher.hexdigest()), f'{{"tasks":[{",".join(parts)}]}}'


def _rows(nodes: DagNodes, graph: Graph, bodies: Iterable[Body]) -> Iterator[dict[str, Any]]:
    ids, digests = graph.ids, _Digests()
    keywords: dict[int, dict[str, Any]] = {}  # by the identity of options, which tasks share
    for (task_id, task), upstream, body in zip(nodes.tasks.items(), graph.upstream, bodies, strict=True):
        gate = nodes.gates.get(task_id)
        kind = gate or ("command" if isinstance(body, Command) else "python")
        row: dict[str, Any] = {"id": task_id, "kind": kind}
        if gate:
            row["gate"] = gate
        if task.group:
            row["group"] = task.group
        if upstream:
            row["depends_on"] = [ids[number] for number in upstream]
        data: dict[str, Any] = {}
        if task.options is not NO_OPTIONS or task.task_hooks is not NO_HOOKS:
            data = keywords.get(id(task.options)) or keywords.setdefault(id(task.options), keywords_of(task.options))
            row |= _marks(task, data)
        if task.expansion is not None:
            row["mapped"] = True
        if stays_here(body):
            row["here"] = True
        if task.arg_dependencies:
            row["takes"] = dict(task.arg_dependencies)
        if data and (options := _other_options(data)):
            row["options"] = options
        meta = task.meta
        row["digest"] = digests.of(body) if meta is None or "digest" not in meta else meta["digest"]
        yield {**row, **meta} if meta else row


def _marks(task: Task, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have a key of their own, and the marks that drawings show."""
    flow, task_hooks = task.options.flow, task.task_hooks
    marks: dict[str, Any] = {
        "rule": "all_done_setup_success" if flow.teardown else data.get("trigger_rule"),
        "timeout": data.get("timeout"),
        "retries": data.get("retries"),
        "if": task_hooks.condition.text if task_hooks.condition is not None else None,
        "preconditions": len(task_hooks.preconditions),
        "decides": "branch" if flow.branch else "short_circuit" if flow.short_circuit else None,
        "setup": flow.setup,
        "teardown": flow.teardown,
        "continue_on_error": flow.tolerance is not None,
        "hooks": list(task.hooks()),
        "run_if": task.options.run_if is not None,
        "priority": data.get("priority"),
        "max_parallel": data.get("max_parallel"),
        "resources": dict(task.options.queue.needs),
    }
    return {name: value for name, value in marks.items() if value}


def _other_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are data and have no key of their own."""
    return {
        name: value
        for name, value in data.items()
        if name not in _MARKED and (name, value) != ("continue_on_error", True)
    }


# -- reading -----------------------------------------------------------------------------------------------------------


def restore_task(task: Task, row: Mapping[str, Any]) -> None:
    """Give a task the stored dependencies of the task of its id, and the stored options that it does not override.

    Raises:
        DefinitionError: the stored task had something that is code, and the task does not have it.
    """
    _check_code(task, row)
    stored: dict[str, Any] = {name: row[name] for name in _TOP_KEYS if name in row}
    options = row.get("options")
    if isinstance(options, dict):
        stored |= {name: value for name, value in options.items() if name not in _MARKED}
    if row.get("rule") and not row.get("teardown"):
        stored["trigger_rule"] = row["rule"]
    if row.get("decides") in ("branch", "short_circuit"):
        stored[row["decides"]] = True
    if row.get("continue_on_error") is True:
        stored.setdefault("continue_on_error", True)
    if stored:
        task.options = make_options({**stored, **keywords_of(task.options)}, task.task_id)
    task.dependencies.update(row.get("depends_on", ()))
    takes = row.get("takes")
    for name, upstream in takes.items() if isinstance(takes, dict) else ():
        if name in task.parameters.names and name not in task.bound_args and name not in task.arg_dependencies:
            task.bind(name, Ref(str(upstream)))


def _check_code(task: Task, row: Mapping[str, Any]) -> None:
    """Raise DefinitionError where the stored task had code that this task does not have."""
    task_id, options = task.task_id, task.options
    for name in ("if", "preconditions"):
        if row.get(name):
            raise DefinitionError(f"task {task_id!r} had {name}, which only the workflow file can hold: run that")
    hooks, new_hooks = row.get("hooks"), dict(options.hooks)
    names = ["run_if"] if row.get("run_if") is True and options.run_if is None else []
    names += (
        [name for name in hooks if name in HOOK_EVENTS and name not in new_hooks] if isinstance(hooks, list) else []
    )
    if names:
        raise DefinitionError(
            f"task {task_id!r} had {names[0]}, which is code and not in the state file; "
            f"give it again: dag.task(function, {task_id!r}, {names[0]}=…)"
        )
    if row.get("mapped") is True and task.expansion is None:
        raise DefinitionError(
            f"task {task_id!r} was mapped over a list, which is not in the state file; "
            f"give it again: dag.partial(function, {task_id!r}).expand(…)"
        )


# -- digests -----------------------------------------------------------------------------------------------------------


class _Digests:
    """Digests that change when the work of a task changes.

    The code and the constants of a function are hashed once, however many tasks call it.
    """

    def __init__(self) -> None:
        self._functions: dict[int, str] = {}  # by id: the bodies keep the functions alive meanwhile

    def of(self, body: Body) -> str:
        """Return the digest of a body."""
        if isinstance(body, Command):
            parts: list[object] = [body.argv, body.cwd, sorted(body.env.items())]
            parts += [body.output] if body.output else []
            return _hash([*parts, sorted(body.secrets)] if body.secrets else parts)
        code = self._functions.get(id(body.func))
        if code is None:
            code = self._functions[id(body.func)] = _hash(_code_parts(body.func))
        if not body.kwargs and not body.env:
            return code
        return _short_digest(f"{code}{_text_of(body.kwargs)}{sorted(body.env.items()) if body.env else ''}")


def _name_of(value: object) -> str:
    return repr(value) if isinstance(value, Secret | Item) else type(value).__qualname__


_encode = json.JSONEncoder(skipkeys=True, default=_name_of).encode


def _text_of(arguments: Mapping[str, Any]) -> str:
    """Return arguments as a text: the same for plain data that is equal and in the same order.

    Of another object its class counts.
    """
    try:
        return _encode(dict(arguments))
    except (ValueError, RecursionError):  # a list in itself, or too many in each other
        return repr(sorted(arguments))


def _hash(parts: list[object]) -> str:
    return _short_digest(repr(parts))


def _short_digest(text: str) -> str:
    return sha256_hex(text.encode("utf-8", "replace"))[:16]


def _code_parts(func: Callable[..., Any]) -> list[object]:
    if isinstance(func, RunIfFunction | HookFunction | SensorFunction):
        return [part for function in func.parts for part in _code_parts(function)]
    code = getattr(func, "__code__", None)
    name = getattr(func, "__qualname__", type(func).__qualname__)
    if code is None:
        return [name]
    constants = [constant for constant in code.co_consts if isinstance(constant, str | int | float | bytes | None)]
    return [name, code.co_code, constants, code.co_names]
