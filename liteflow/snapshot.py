"""The stored form of a graph: enough to draw it, and to tell whether a task has changed since."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from liteflow.digest import sha256, sha256_hex
from liteflow.graph import Graph
from liteflow.tasks import Task
from liteflow.work import Body, Command


def snapshot(tasks: Mapping[str, Task], graph: Graph, bodies: Mapping[str, Body]) -> tuple[str, str]:
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


def _rows(tasks: Mapping[str, Task], graph: Graph, bodies: Mapping[str, Body]) -> Iterator[dict[str, Any]]:
    ids, digests = graph.ids, _Digests()
    for (task_id, task), above in zip(tasks.items(), graph.upstream, strict=True):
        body, options, meta = bodies[task_id], task.options, task.meta
        row: dict[str, Any] = {"id": task_id, "kind": "command" if isinstance(body, Command) else "python"}
        if above:
            row["depends_on"] = [ids[number] for number in above]
        if options.trigger_rule != "all_success":
            row["rule"] = options.trigger_rule
        if options.timeout is not None:
            row["timeout"] = options.timeout
        if options.retries:
            row["retries"] = options.retries
        if options.priority:
            row["priority"] = options.priority
        if options.max_parallel is not None:
            row["max_parallel"] = options.max_parallel
        if needs := options.order.needs:
            row["resources"] = dict(needs)
        if task.expansion is not None:
            row["mapped"] = True
        row["digest"] = digests.of(body) if meta is None or "digest" not in meta else meta["digest"]
        yield {**row, **meta} if meta else row


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
            return _hash([*parts, body.output] if body.output else parts)
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
    code = getattr(func, "__code__", None)
    name = getattr(func, "__qualname__", type(func).__qualname__)
    if code is None:
        return [name]
    constants = [one for one in code.co_consts if isinstance(one, str | int | float | bytes | None)]
    return [name, code.co_code, constants, code.co_names]
