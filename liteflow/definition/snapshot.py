"""The stored form of a graph: enough to draw it, and to tell whether a task has changed since."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from liteflow.definition.around import Guarded, HookCall
from liteflow.definition.options import NO_OPTIONS
from liteflow.definition.restoring import kept_options
from liteflow.definition.tasks import NO_HOOKS, Task
from liteflow.digest import sha256, sha256_hex
from liteflow.planning.graph import Graph
from liteflow.work import Body, Command


def snapshot(tasks: Mapping[str, Task], graph: Graph, bodies: Iterable[Body]) -> tuple[str, str]:
    """The digest of a graph and its JSON: `{"tasks": [{"id", "kind", "depends_on", …, "digest"}, …]}`.

    Some tasks at a time: all rows at once are larger than the dag.
    """
    rows, parts, hasher = _rows(tasks, graph, bodies), list[str](), sha256(b'{"tasks":[')
    while some := list(itertools.islice(rows, 1000)):
        part = json.dumps(some, separators=(",", ":"), default=str)[1:-1]
        hasher.update(("," + part if parts else part).encode("utf-8", "replace"))
        parts.append(part)
    hasher.update(b"]}")
    return str(hasher.hexdigest()), f'{{"tasks":[{",".join(parts)}]}}'


def _rows(tasks: Mapping[str, Task], graph: Graph, bodies: Iterable[Body]) -> Iterator[dict[str, Any]]:
    ids, digests = graph.ids, _Digests()
    for (task_id, task), above, body in zip(tasks.items(), graph.upstream, bodies, strict=True):
        options, meta = task.options, task.meta
        row: dict[str, Any] = {"id": task_id, "kind": "command" if isinstance(body, Command) else "python"}
        if above:
            row["depends_on"] = [ids[number] for number in above]
        if options.trigger_rule != "all_success":
            row["rule"] = options.trigger_rule
        elif options.teardown:
            row["rule"] = "all_done_setup_success"
        if options.timeout is not None:
            row["timeout"] = options.timeout
        if options.retries:
            row["retries"] = options.retries
        if options is not NO_OPTIONS or task.around is not NO_HOOKS:
            row |= _control(task)
        if options.priority:
            row["priority"] = options.priority
        if options.max_parallel is not None:
            row["max_parallel"] = options.max_parallel
        if needs := options.order.needs:
            row["resources"] = dict(needs)
        if task.expansion is not None:
            row["mapped"] = True
        if task.arg_dependencies:
            row["takes"] = dict(task.arg_dependencies)
        if options is not NO_OPTIONS and (kept := kept_options(options)):
            row["options"] = kept
        row["digest"] = digests.of(body) if meta is None or "digest" not in meta else meta["digest"]
        yield {**row, **meta} if meta else row


def _control(task: Task) -> dict[str, Any]:
    """What is special in how a task stands in the flow."""
    options, around = task.options, task.around
    marks: dict[str, Any] = {
        "if": around.condition.text if around.condition is not None else None,
        "preconditions": len(around.preconditions),
        "decides": "branch" if options.branch else "short_circuit" if options.short_circuit else None,
        "setup": options.setup,
        "teardown": options.teardown,
        "continue_on_error": bool(options.continue_on_error),
        "hooks": list(task.hooks()),
        "run_if": options.run_if is not None,
    }
    return {name: value for name, value in marks.items() if value}


class _Digests:
    """What changes when the work of a task does. A function's code and constants are hashed once, however many tasks
    call it, and so is a call with arguments of the same names.
    """

    def __init__(self) -> None:
        self._functions: dict[int, str] = {}  # by id: the bodies keep the functions alive meanwhile
        self._calls: dict[tuple[str, ...], str] = {}

    def of(self, body: Body) -> str:
        if isinstance(body, Command):
            parts: list[object] = [body.argv, body.cwd, sorted(body.env.items())]
            parts += [body.output] if body.output else []
            return _hash([*parts, sorted(body.secrets)] if body.secrets else parts)
        code = self._functions.get(id(body.func))
        if code is None:
            code = self._functions[id(body.func)] = _hash(_code_parts(body.func))
        if not body.kwargs:
            return code
        call = (code, *sorted(body.kwargs))
        digest = self._calls.get(call)
        if digest is None:
            digest = self._calls[call] = _hash([code, list(call[1:])])
        return digest


def _hash(parts: list[object]) -> str:
    return sha256_hex(repr(parts).encode("utf-8", "replace"))[:16]


def _code_parts(func: Callable[..., Any]) -> list[object]:
    if isinstance(func, Guarded | HookCall):
        return [part for one in func.parts for part in _code_parts(one)]
    code = getattr(func, "__code__", None)
    name = getattr(func, "__qualname__", type(func).__qualname__)
    if code is None:
        return [name]
    constants = [one for one in code.co_consts if isinstance(one, str | int | float | bytes | None)]
    return [name, code.co_code, constants, code.co_names]
