"""One spelling for everything: aliases replaced, lists made mappings or text, `env` as written, `x-` keys gone.

The raw tree is not changed (anchors share parts of it). `Tree.locate` leads from a place in the canonical
tree back to where it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightflow.errors import Problem
from lightflow.parser.positions import START, Key, Mark, Source, problem_at
from lightflow.parser.schema import COMMON, DEFAULT_TYPE, PARAM, RETRY, SETTINGS, aliases_of, canonical_schema
from lightflow.parser.schema_env import SECRET
from lightflow.parser.schema_fan import FOREACH, MATRIX, STRATEGY
from lightflow.parser.schema_flow import PRECONDITION
from lightflow.parser.schema_limits import CONCURRENCY, RUN_RETRY
from lightflow.plugins.registry import Registry
from lightflow.text import did_you_mean, quoted
from liteflow.api import HOOK_EVENTS

_TOP = canonical_schema(())["properties"]
_TOP_ALIASES = aliases_of(_TOP)
_SETTINGS_ALIASES = aliases_of(SETTINGS["properties"])
_PARAM_ALIASES = aliases_of(PARAM["properties"])
_BLOCKS = {"retry": aliases_of(RUN_RETRY["properties"]), "concurrency": aliases_of(CONCURRENCY["properties"])}
_RETRY_ALIASES = aliases_of(RETRY["properties"])
_SECRET_ALIASES = aliases_of(SECRET["properties"])
_PRECONDITION_ALIASES = aliases_of(PRECONDITION["properties"])
_FAN_ALIASES = {"matrix": aliases_of(MATRIX["properties"]), "foreach": aliases_of(FOREACH["properties"])}
_STRATEGY_ALIASES = aliases_of(STRATEGY["properties"])
_EVENTS = frozenset(HOOK_EVENTS)
_SCRIPTS = ("shell", "python")  # the types whose `run` may be a list of lines
_Rename = Callable[[dict[str, Any], tuple[str, ...]], dict[str, Any]]


class Tree:
    """The canonical tree of a source. `written[id(container)]` is the raw container a canonical one was made of."""

    __slots__ = ("items", "problems", "renamed", "root", "source", "unknown", "written")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.root: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self.written: dict[int, Any] = {}
        self.renamed: dict[tuple[int, str], str] = {}  # (canonical container, key) -> alias
        self.unknown: set[str] = set()  # the paths of keys that the schema does not know
        self.items: dict[str, int] = {}  # of a `tasks:` list: id -> index

    def locate(self, path: Sequence[Key], *, key: bool = False) -> Mark:
        """Where the value at `path` (or its key) begins; the nearest thing around it that has a place, if need be."""
        positions = self.source.positions
        node: Any = self.root
        found: Mark = START
        for depth, name in enumerate(path):
            raw = self.written.get(id(node), node)
            alias: Any = self.renamed.get((id(node), str(name)), name)
            if isinstance(raw, list) and name in self.items:
                alias = self.items[str(name)]
            last = depth == len(path) - 1
            place = positions.key(raw, alias) if last and key else positions.value(raw, alias)
            if place is None:
                break
            if not last and isinstance(raw, dict):
                found = positions.key(raw, alias) or place
            else:
                found = place
            node = _child(node, name)
        return found

    def problem(self, path: Sequence[Key], message: str, *, key: bool = False) -> Problem:
        shown = dotted(path[:-1] if key else path)
        return problem_at(self.source.file, self.locate(path, key=key), shown, message)


def canonical(source: Source, registry: Registry) -> Tree:
    """The canonical tree; what only shows while it is made (two names for one key) is in `problems`."""
    tree = Tree(source)
    tree.root = _renamed(tree, source.tree, _TOP_ALIASES, ())
    root = tree.root
    if isinstance(root.get("env"), dict):
        root["env"] = _texts(tree, root["env"])
    if isinstance(root.get("dotenv"), str):
        root["dotenv"] = [root["dotenv"]]
    if isinstance(root.get("secrets"), dict | list):
        root["secrets"] = _secrets(tree, root["secrets"])
    if isinstance(root.get("params"), dict):
        params = root["params"] = _renamed(tree, root["params"], {}, ("params",))
        for name, param in params.items():
            if isinstance(param, dict):
                params[name] = _renamed(tree, param, _PARAM_ALIASES, ("params", name))
    for name, aliases in _BLOCKS.items():
        if isinstance(root.get(name), dict):
            root[name] = _renamed(tree, root[name], aliases, (name,))
    if isinstance(root.get("pools"), dict):
        pools = root["pools"] = _renamed(tree, root["pools"], {}, ("pools",))
        for name, pool in pools.items():
            if isinstance(pool, dict):
                pools[name] = _renamed(tree, pool, {}, ("pools", name))
    if isinstance(root.get("settings"), dict):
        root["settings"] = _renamed(tree, root["settings"], _SETTINGS_ALIASES, ("settings",))
    if "jobs" in root and "tasks" not in root:  # the mistakes in them are found as well
        tree.problems.append(tree.problem(["jobs"], 'unknown key "jobs"; `jobs` are `tasks` here', key=True))
        root["tasks"] = root.pop("jobs")
        tree.renamed[id(root), "tasks"] = "jobs"
    if isinstance(root.get("tasks"), list):
        root["tasks"] = _by_id(tree, root["tasks"], registry)
    elif isinstance(root.get("tasks"), dict):
        raw = root["tasks"]
        root["tasks"] = {task_id: task for task_id, task in raw.items() if not task_id.startswith("x-")}
        tree.written[id(root["tasks"])] = raw
    if isinstance(root.get("tasks"), dict):
        _tasks(tree, root["tasks"], registry)
    return tree


def _tasks(tree: Tree, tasks: dict[str, Any], registry: Registry) -> None:
    common = aliases_of(COMMON)
    by_type = {
        info.name: aliases_of({**COMMON, **info.schema.get("properties", {})}) if info.schema else common
        for info in registry.known()
    }

    named = _types_with_names(registry)

    def renamed(raw: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        kind = raw.get("type", DEFAULT_TYPE)
        if isinstance(kind, str) and kind not in by_type:
            kind = _assumed(kind, registry)
        result = _renamed(tree, raw, by_type.get(kind, common) if isinstance(kind, str) else common, path)
        return _joined(result) if kind in _SCRIPTS else result

    _hooks(tree, tree.root, (), renamed)
    for task_id, raw in tasks.items():
        if not isinstance(raw, dict):
            continue
        task = renamed(raw, ("tasks", task_id))
        if raw is not task and isinstance(tree.root["tasks"], dict) and tree.items:
            task.pop("id", None)
            if "name" in task and str(task.get("type")) not in named:
                task.pop("name")
        task.setdefault("type", DEFAULT_TYPE)
        for key in ("depends_on", "dotenv", "secrets"):
            if isinstance(task.get(key), str):
                task[key] = [task[key]]
        if isinstance(task.get("env"), dict):
            task["env"] = _texts(tree, task["env"])
        if isinstance(task.get("retry"), dict):
            task["retry"] = _renamed(tree, task["retry"], _RETRY_ALIASES, ("tasks", task_id, "retry"))
        if isinstance(task.get("teardown_of"), str):
            task["teardown_of"] = [task["teardown_of"]]
        _hooks(tree, task, ("tasks", task_id), renamed)
        if "preconditions" in task:
            task["preconditions"] = _preconditions(tree, task["preconditions"], ("tasks", task_id, "preconditions"))
        for key, names in _FAN_ALIASES.items():
            if isinstance(task.get(key), dict):
                task[key] = _renamed(tree, task[key], names, ("tasks", task_id, key))
        if isinstance(task.get("strategy"), dict):
            _strategy(tree, task, ("tasks", task_id))
        tasks[task_id] = task


def _assumed(kind: str, registry: Registry) -> str:
    """The type that an unknown one is taken for, so that the other mistakes of its task are found too."""
    if registry.find(kind) is not None:
        return kind
    from lightflow.other_tools import assumed_type

    return assumed_type(kind, [info.name for info in registry.known()]) or kind


def _secrets(tree: Tree, raw: dict[str, Any] | list[Any]) -> dict[str, Any] | list[Any]:
    """Secrets as they are written, with one name for each key."""

    def one(value: Any, *path: str) -> Any:
        return _joined(_renamed(tree, value, _SECRET_ALIASES, ("secrets", *path))) if isinstance(value, dict) else value

    if isinstance(raw, list):
        listed = [one(value) for value in raw]
        tree.written[id(listed)] = raw
        return listed
    named = _renamed(tree, raw, {}, ("secrets",))
    for name, value in named.items():
        named[name] = one(value, name)
    return named


def _hooks(tree: Tree, around: dict[str, Any], path: tuple[str, ...], renamed: _Rename) -> None:
    """A hook that is only a command is a shell task."""
    if _EVENTS.isdisjoint(around):
        return
    for event in HOOK_EVENTS:
        raw = around.get(event)
        if isinstance(raw, str | list):
            around[event] = {"type": DEFAULT_TYPE, "run": _text(raw)}
        elif isinstance(raw, dict):
            hook = around[event] = renamed(raw, (*path, event))
            hook.setdefault("type", DEFAULT_TYPE)
            if isinstance(hook.get("env"), dict):
                hook["env"] = _texts(tree, hook["env"])


def _preconditions(tree: Tree, raw: Any, path: tuple[str, ...]) -> Any:
    """A list of mappings; one that is only a command has that under `run`."""
    listed = raw if isinstance(raw, list) else [raw]
    result = [
        {"run": one}
        if isinstance(one, str)
        else _joined(_renamed(tree, one, _PRECONDITION_ALIASES, path))
        if isinstance(one, dict)
        else one
        for one in listed
    ]
    if isinstance(raw, list):
        tree.written[id(result)] = raw
    return result


def _strategy(tree: Tree, task: dict[str, Any], path: tuple[str, ...]) -> None:
    """`strategy: {matrix: {…}}` is another spelling of `matrix`; where it has another shape, the schema says so."""
    block = task["strategy"] = _renamed(tree, task["strategy"], _STRATEGY_ALIASES, (*path, "strategy"))
    written = block.get("matrix")
    if not isinstance(written, dict) or block.keys() - STRATEGY["properties"].keys():
        return
    if "matrix" in task:
        message = '"strategy" and "matrix" mean the same; keep one of them'
        tree.problems.append(tree.problem([*path, "strategy"], message, key=True))
    else:
        matrix = _renamed(tree, written, _FAN_ALIASES["matrix"], (*path, "strategy", "matrix"))
        task["matrix"] = matrix
        matrix |= {key: value for key, value in block.items() if key != "matrix"}
        tree.renamed[id(task), "matrix"] = "strategy"
    del task["strategy"]


def _types_with_names(registry: Registry) -> set[str]:
    """The task types that may have a key `name` of their own, so that it is not the id of a task in a list."""
    known = registry.known()
    return {info.name for info in known if info.schema is None or "name" in info.schema.get("properties", ())}


def _by_id(tree: Tree, raw: list[Any], registry: Registry) -> dict[str, Any]:
    """The tasks of a list by their `id`, or their `name` where their type has no key of that name."""
    named = _types_with_names(registry)
    tasks: dict[str, Any] = {}
    tree.written[id(tasks)] = raw
    positions = tree.source.positions
    for index, item in enumerate(raw):
        path = f"tasks.{index}"
        mark = positions.value(raw, index)
        if not isinstance(item, dict):
            tree.problems.append(
                problem_at(
                    tree.source.file, mark, path, "must be a mapping with an `id`, such as {id: build, run: make}"
                )
            )
            continue
        is_named = "name" in item and str(item.get("type", DEFAULT_TYPE)) not in named
        key = "name" if is_named and "id" not in item else "id"
        task_id = item.get(key)
        place = positions.value(item, key)
        if is_named and key == "id":
            message = '"name" and "id" mean the same; keep "id", and put words for people under "description"'
            tree.problems.append(problem_at(tree.source.file, positions.key(item, "name"), path, message))
        if not isinstance(task_id, str):
            message = "needs an `id`" if key not in item else "the id must be text; put it in quotes"
            hint = "" if key in item else did_you_mean("id", (str(key) for key in item))
            tree.problems.append(problem_at(tree.source.file, place or mark, path, message + hint))
            stand_in = f"item_{index + 1}"
            if stand_in not in tasks:  # what else is wrong with it is found as well
                tasks[stand_in] = item
                tree.items[stand_in] = index
        elif task_id.startswith("x-"):
            message = f"the id {quoted(task_id)} begins with x-, which is kept for anchors and notes"
            tree.problems.append(problem_at(tree.source.file, place, path, message))
        elif task_id in tasks:
            first = raw[tree.items[task_id]]
            mark = positions.value(first, "id") or positions.value(first, "name")
            message = f"the id {quoted(task_id)} is given twice; the first is on line {mark.line + 1 if mark else '?'}"
            tree.problems.append(problem_at(tree.source.file, place, path, message))
        else:
            tasks[task_id] = item
            tree.items[task_id] = index
    return tasks


def _renamed(tree: Tree, raw: dict[str, Any], aliases: dict[str, str], path: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `raw` with canonical names and without `x-` keys."""
    result: dict[str, Any] = {}
    for name, value in raw.items():
        key = aliases.get(name, name)
        if key in result or (key is not name and key in raw):
            other = tree.renamed.get((id(result), key), key)
            mark = tree.source.positions.key(raw, name)
            message = f'"{name}" and "{other}" mean the same; keep one of them'
            tree.problems.append(problem_at(tree.source.file, mark, ".".join(path), message))
            continue
        if name.startswith("x-"):
            continue
        if key is not name:
            tree.renamed[id(result), key] = name
        result[key] = value
    tree.written[id(result)] = raw
    return result


def _joined(keys: dict[str, Any]) -> dict[str, Any]:
    """Put a script that is a list of lines together."""
    if isinstance(keys.get("run"), list):
        keys["run"] = _text(keys["run"])
    return keys


def _text(lines: Any) -> Any:
    """The text of a list of lines; what is no such list is left for the schema to refuse."""
    if isinstance(lines, list) and lines and all(isinstance(line, str) for line in lines):
        return "\n".join(lines)
    return lines


def _texts(tree: Tree, raw: dict[str, Any]) -> dict[str, Any]:
    """The values as they were written."""
    positions = tree.source.positions
    result = {}
    for name, value in raw.items():
        if isinstance(value, str):
            result[name] = value
        else:
            result[name] = positions.texts.get((id(raw), name), value)
            positions.doubts.pop((id(raw), name), None)
    tree.written[id(result)] = raw
    return result


def dotted(path: Sequence[Key]) -> str:
    """`tasks.train.depends_on`; the place of an item in a list is told by line and column."""
    end = len(path)
    while end and isinstance(path[end - 1], int):
        end -= 1
    return ".".join(str(name) for name in path[:end])


def _child(node: Any, name: Key) -> Any:
    if isinstance(node, dict):
        return node.get(name)
    return node[name] if isinstance(node, list) and isinstance(name, int) and 0 <= name < len(node) else None
