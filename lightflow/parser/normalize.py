"""Normalize a tree: a single name for each key, and a single way to write each value.

Keywords of the schema select the work: `x-aliases`, `x-list`, `x-lines`, `x-shorthand`, `x-default` and `x-as-written`
(see `schema_pieces`). Only `tasks` and `strategy` have code of their own, because their values move to another place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from lightflow.parser.positions import Key, Source
from lightflow.parser.schema import aliases_of
from lightflow.parser.schema_pieces import Schema
from lightflow.parser.schema_validator import referenced
from lightflow.parser.subjects.connections import apply_connections
from lightflow.parser.subjects.defaults import apply_defaults
from lightflow.parser.subjects.fan_out import replace_strategy
from lightflow.parser.subjects.tasks import DEFAULT_TYPE
from lightflow.parser.task_collector import TaskTree
from lightflow.parser.tree import Origin, Tree
from lightflow.plugins.registry import Registry
from lightflow.spec.model import GROUP

_KEYWORDS: Final = frozenset(["x-list", "x-lines", "x-shorthand", "x-as-written"])
#: Keywords of schemas that may have something to normalize below them.
_RELEVANT: Final = frozenset(["$ref", "properties", "patternProperties", "then", *_KEYWORDS])
_CLASSES: Final[Mapping[str, type]] = {"string": str, "object": dict}


def normalize(
    source: Source, schema: Schema, registry: Registry, include: Callable[[Tree], object] = lambda tree: None
) -> Tree:
    """Return the normalized tree of a source; its `problems` are those that the normalization finds.

    `schema` is the normalized schema with the task types of the file; `include` adds the tasks of included files,
    whose names other keys may have.
    """
    tree = _Normalizer(Tree(source), registry).run(_PlaceSchema([schema], schema))
    include(tree)
    _resolve_names(tree)
    if any("defaults" in keys for keys in (tree.root, *(tree.tasks[group] for group in tree.groups))):
        apply_defaults(tree)
    if "connection" in source.text:
        apply_connections(tree, registry.described())
    return tree


class _PlaceSchema:
    """The schemas that apply at one place of the file, and what they say about normalization."""

    def __init__(self, schemas: Sequence[Schema], root: Schema) -> None:
        self._root = root
        self._schemas = [part for schema in schemas for part in _applied(schema, root)]
        self._children: dict[str, _PlaceSchema | None] = {}
        self._variants: dict[str, _PlaceSchema] = {}
        self.properties: dict[str, Any] = {}
        self.keywords: dict[str, Any] = {}
        for part in self._schemas:
            self.properties |= {key: inner for key, inner in part.get("properties", {}).items() if inner is not True}
            self.keywords |= {key: value for key, value in part.items() if key in _KEYWORDS}
        self.aliases = aliases_of(self.properties)
        self.has_free_keys = any("^x-" in part.get("patternProperties", ()) for part in self._schemas)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The values of missing keys."""
        return {key: part["x-default"] for key, part in self.properties.items() if "x-default" in part}

    @cached_property
    def single(self) -> tuple[type, ...]:
        """The classes of single values that mean a list."""
        kinds = self._schemas[0].get("type", ()) if "x-list" in self.keywords else ()
        return tuple(_CLASSES[kind] for kind in kinds if kind in _CLASSES)

    @cached_property
    def short(self) -> tuple[type, ...]:
        """The classes of values that mean a mapping with one key: texts, and lists of lines where they are allowed."""
        if "x-shorthand" not in self.keywords:
            return ()
        takes_lines = any("array" in part.get("type", ()) for part in self._schemas)  # the first may be a `$ref`
        return (str, list) if takes_lines else (str,)

    @cached_property
    def has_variants(self) -> bool:
        """Whether the keys depend on a task type."""
        return any("allOf" in part for part in self._schemas)

    @cached_property
    def item(self) -> _PlaceSchema | None:
        """The schema of the items of a list."""
        return self._inner("items")

    @cached_property
    def _other(self) -> _PlaceSchema | None:
        """The schema of the values of keys that have none themselves."""
        return self._inner("additionalProperties")

    def child(self, key: str) -> _PlaceSchema | None:
        """Return the schema of the value of a key; None if there is nothing to normalize."""
        if key not in self.properties:
            return self._other
        if key not in self._children:
            schema = self.properties[key]
            self._children[key] = _PlaceSchema([schema], self._root) if _is_relevant(schema) else None
        return self._children[key]

    def variant(self, task_type: str) -> _PlaceSchema:
        """Return the schema of a task or hook of a type, with the keys of that type."""
        if task_type not in self._variants:
            branches = [
                branch["then"]
                for part in self._schemas
                for branch in part.get("allOf", ())
                if branch["if"]["properties"]["type"]["const"] == task_type
            ]
            self._variants[task_type] = _PlaceSchema([*self._schemas, *branches], self._root)
        return self._variants[task_type]

    def _inner(self, keyword: str) -> _PlaceSchema | None:
        schemas = [part[keyword] for part in self._schemas if _is_relevant(part.get(keyword))]
        return _PlaceSchema(schemas, self._root) if schemas else None


def _applied(schema: Schema, root: Schema) -> Iterator[Schema]:
    """Return the schema and those that it applies to a mapping: its `$ref`, and `then` of `if: {type: object}`."""
    yield schema
    for part in (schema, schema.get("then", {})):
        if "$ref" in part:
            yield from _applied(referenced(root, part["$ref"]), root)


def _is_relevant(schema: Any) -> bool:
    """Return whether there is something to normalize at a schema or below it."""
    if not isinstance(schema, dict):
        return False
    inner = (schema.get("items"), schema.get("additionalProperties"))
    return not _RELEVANT.isdisjoint(schema) or any(map(_is_relevant, inner))


class _Normalizer:
    def __init__(self, tree: Tree, registry: Registry) -> None:
        self._tree = tree
        self._registry = registry
        self._described = {info.name for info in registry.described()}
        self._collector = TaskTree(self._tree, self._has_name)

    def run(self, schema: _PlaceSchema) -> Tree:
        """Fill the tree."""
        tree, raw = self._tree, self._tree.source.tree
        is_jobs = "jobs" in raw and "tasks" not in raw and "steps" not in raw
        if is_jobs:  # report the mistakes in them too
            schema.aliases["jobs"] = "tasks"
        tree.root = self._mapping(schema, raw, ())
        if is_jobs:
            tree.problems.append(tree.problem(["tasks"], 'unknown key "jobs"; `jobs` are `tasks` here', key=True))
        return tree

    def _value(self, schema: _PlaceSchema | None, raw: Any, path: tuple[Key, ...], written: Origin) -> Any:
        """Return a normalized value, which is written at a place."""
        if schema is None:
            return raw
        if "x-lines" in schema.keywords:
            is_text = isinstance(raw, list) and raw and all(isinstance(line, str) for line in raw)
            return "\n".join(raw) if is_text else raw  # the schema refuses other lists
        if isinstance(raw, schema.short):
            short = schema.keywords["x-shorthand"]
            mapping = self._mapping(schema, {short: raw}, path)
            self._tree.origins[id(mapping), short] = written
            return mapping
        if isinstance(raw, schema.single):
            items = [self._value(schema.item, raw, path, written)]
            self._tree.origins[id(items), 0] = written
            return items
        if isinstance(raw, dict):
            return self._as_written(raw) if "x-as-written" in schema.keywords else self._mapping(schema, raw, path)
        if isinstance(raw, list) and schema.item is not None:
            items = [
                self._value(schema.item, item, path, Origin(raw, index, (*path, index)))
                for index, item in enumerate(raw)
            ]
            self._tree.raw_containers[id(items)] = raw
            return items
        return raw

    def _mapping(self, schema: _PlaceSchema, raw: dict[str, Any], path: tuple[Key, ...]) -> dict[str, Any]:
        """Return a copy of a mapping with the names of keys and without free keys, its values normalized."""
        task_type, assumed = raw.get("type", DEFAULT_TYPE), ""
        if schema.has_variants and isinstance(task_type, str):
            assumed = self._assumed_type(task_type)
            schema = schema.variant(assumed or task_type)
        result = self._renamed(schema, raw, path)
        for key, default in schema.defaults.items():
            result.setdefault(key, default)
        if assumed:
            result["type"] = assumed
            self._tree.unknown_types[id(result)] = task_type
        for key in result:
            value = result[key]
            if not path and key == "tasks" and isinstance(value, dict | list):
                value = self._collector.collect(value)
            inner = schema.child(key)
            if inner is not None:
                place = (*path, key)
                result[key] = self._value(
                    inner, value, place, Origin(raw, self._tree.aliases.get((id(result), key), key), place)
                )
        if len(path) == 2 and path[0] == "tasks":
            self._finish_task(result, path)
        return result

    def _renamed(self, schema: _PlaceSchema, raw: dict[str, Any], path: tuple[Key, ...]) -> dict[str, Any]:
        tree, aliases = self._tree, schema.aliases
        result: dict[str, Any] = {}
        for name, value in raw.items():
            key = aliases.get(name, name)
            if key in result or (key is not name and key in raw):
                other = tree.aliases.get((id(result), key), key)
                message = f'"{name}" and "{other}" mean the same; keep one of them'
                tree.problems.append(tree.key_problem(raw, name, path, message))
                continue
            if schema.has_free_keys and name.startswith("x-"):
                continue
            if key is not name:
                tree.aliases[id(result), key] = name
            result[key] = value
        tree.raw_containers[id(result)] = tree.raw_containers.pop(id(raw), raw)
        return result

    def _as_written(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return a mapping with the text of its values, and drop the problems of values that are valid only as text."""
        positions = self._tree.source.positions
        result = {}
        for name, value in raw.items():
            if isinstance(value, str):
                result[name] = value
            else:
                result[name] = positions.texts.get((id(raw), name), value)
                positions.number_problems.pop((id(raw), name), None)
        self._tree.raw_containers[id(result)] = raw
        return result

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _assumed_type(self, task_type: str) -> str:
        """Return the type of which an unknown type is a known synonym, so that the other mistakes are reported too."""
        if task_type in self._described or task_type == GROUP or self._registry.find(task_type) is not None:
            return ""
        from lightflow.other_tools import assumed_type  # only for files with errors

        assumed = assumed_type(task_type, list(self._described))
        return assumed if assumed in self._described else ""

    def _finish_task(self, task: dict[str, Any], path: tuple[Key, ...]) -> None:
        if self._tree.is_in_list(str(path[1])):
            task.pop("id", None)
            if not self._has_name(task):
                task.pop("name", None)
        replace_strategy(self._tree, task, path)

    def _has_name(self, task: Mapping[str, Any]) -> bool:
        """Return whether the type of a task may have a key `name`, which then is not the id of a task in a list."""
        task_type = task.get("type", DEFAULT_TYPE)
        infos = [info for info in self._registry.described() if info.name == task_type]
        return any(info.schema is None or "name" in info.schema.get("properties", ()) for info in infos)


def _resolve_names(tree: Tree) -> None:
    """Replace the names of other tasks in groups by their ids: names of the group come first."""
    for task_id, group in tree.parents.items():
        task = tree.tasks.get(task_id, {})
        for key in ("depends_on", "teardown_of"):
            names = task.get(key)
            if isinstance(names, list):
                task[key] = [tree.task_named(name, group) for name in names]
                tree.replace_list(names, task[key])
