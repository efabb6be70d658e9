"""The JSON Schema (draft 2020-12) of workflow files: the single source of what a file may contain.

The validator runs it, editors complete from it, and the reference page is generated from it. It is put together from
the parts of the subjects, and every task type contributes its own keys. `schema_pieces` lists our annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lightflow.parser.positions import NAME_KEYS
from lightflow.parser.schema_pieces import FREE, ID_PATTERN, ID_WORDS, Schema
from lightflow.parser.subjects import (
    clusters,
    connections,
    control_flow,
    defaults,
    environment,
    groups,
    limits,
    outputs,
    params,
    repeats,
    retries,
    triggers,
)
from lightflow.parser.subjects.settings import SETTINGS
from lightflow.parser.subjects.tasks import COMMON, DEFAULT_TYPE, ITEM_ID, TASKS, cwd
from lightflow.plugins.base import TypeInfo
from lightflow.plugins.registry import BUILT_IN, Registry
from lightflow.plugins.scripts import SHELL
from lightflow.spec.model import GROUP

#: The keys at the top of a file.
TOP: Final[dict[str, Schema]] = {
    "workflow_name": {
        "description": "The name of the workflow. The default is the name of the file without its suffix.",
        "type": "string",
        "pattern": ID_PATTERN,
        "examples": ["daily_model_pipeline"],
        "x-expects": f"a name of {ID_WORDS}",
        "x-aliases": list(NAME_KEYS[1:]),
    },
    "description": {"description": "The purpose of the workflow.", "type": "string"},
    "tasks": TASKS,
    "params": params.PARAMS,
    "outputs": outputs.OUTPUTS,
    "settings": {"$ref": "#/$defs/settings"},
    "pools": limits.RUN_KEYS["pools"],
    "clusters": clusters.CLUSTERS,
    "timeout": limits.RUN_KEYS["timeout"],
    "retry": retries.RUN_KEY,
    "concurrency": limits.RUN_KEYS["concurrency"],
    **triggers.KEYS,
    "shell": SHELL,
    "cwd": cwd("The working directory of every task and hook that names none."),
    "env": environment.env("Environment variables of every task."),
    "dotenv": environment.dotenv("Files with environment variables of every task; `env` overrides them."),
    "secrets": environment.SECRETS,
    "connections": connections.CONNECTIONS,
    **control_flow.hook_keys(of_run=True),
    "defaults": defaults.DEFAULTS,
    "plugins": {
        "description": "Python files with task types, relative to the workflow file.",
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "examples": [["my_tasks.py"]],
        "x-expects": 'a list of Python files such as ["my_tasks.py"]',
    },
}

#: The keys of hooks of every type.
HOOK: Final[dict[str, Schema]] = {key: COMMON[key] for key in control_flow.KEYS_OF_HOOKS}


def normalized_schema(types: Iterable[TypeInfo]) -> Schema:
    """Return the schema of a normalized file, with one name for each key: the schema that the validator runs."""
    described = {info.name: info.schema for info in types if info.schema is not None}
    tasks = {**described, GROUP: {"properties": groups.GROUP_KEYS}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lightflow workflow",
        "description": "Tasks, their dependencies, and how they run.",
        "type": "object",
        "properties": TOP,
        "required": ["tasks"],
        "patternProperties": FREE,
        "additionalProperties": False,
        "$defs": {
            "settings": SETTINGS,
            "param": params.PARAM,
            "secret": environment.SECRET,
            "pool": limits.POOL,
            "cluster": clusters.CLUSTER,
            "concurrency": limits.CONCURRENCY,
            **triggers.DEFINITIONS,
            "precondition": control_flow.PRECONDITION,
            "repeat": repeats.REPEAT,
            **defaults.defaults_schemas(COMMON, described),
            **connections.connection_schemas(described),
            "task": {
                "title": "Task",
                "type": "object",
                "properties": COMMON,
                "patternProperties": FREE,
                "allOf": _branches(tasks, "task"),
                "x-expects": "a mapping with keys such as `run` and `depends_on`",
            },
            "hook": control_flow.hook_schema(COMMON, _branches(described, "hook")),
            **{_def_name(name): _type_schema(name, keys, COMMON) for name, keys in tasks.items()},
            **{_def_name(name, "hook"): _type_schema(name, keys, HOOK) for name, keys in described.items()},
        },
    }


def workflow_schema(registry: Registry | None = None) -> Schema:
    """Return the schema of a file as it may be written, with every alias: for editors and the reference page."""
    infos = (registry or Registry().use(BUILT_IN)).described()
    schema = normalized_schema(infos)
    described = {info.name: info.schema for info in infos if info.schema is not None}
    described[GROUP] = {"properties": _with_items(groups.GROUP_KEYS)}
    tasks = {**TASKS, "items": {"$ref": "#/$defs/item"}}
    task = schema["$defs"]["task"]
    definitions = {
        **schema["$defs"],
        "task": {**task, "allOf": _written_branches(described, "task")},
        "item": {**task, "title": "Task in a list", "allOf": _written_branches(described, "item")},
        _def_name(GROUP): _type_schema(GROUP, described[GROUP], COMMON),
        **{_def_name(name, "item"): _item_schema(_type_schema(name, keys, COMMON)) for name, keys in described.items()},
    }
    published: Schema = _with_aliases(
        {**schema, "properties": {**schema["properties"], "tasks": tasks}, "$defs": definitions}, {}
    )
    return published


def _item_schema(task: Schema) -> Schema:
    """Return the keys of a task in a list, which has its id among them."""
    return {**task, "properties": {**task["properties"], "id": ITEM_ID}, "required": [*task["required"], "id"]}


def _branches(types: Iterable[str], kind: str) -> list[Schema]:
    """Return the keys of each type, where a task (or item, or hook) is of that type."""
    return [
        {
            "if": {
                "type": "object",  # a hook that is only a command has no keys to check
                "properties": {"type": {"const": name}},
                **({} if name == DEFAULT_TYPE else {"required": ["type"]}),
            },
            "then": {"$ref": f"#/$defs/{_def_name(name, kind)}"},
        }
        for name in types
    ]


#: A task that has one of these and no type is a group.
_GROUP_HAS: Final = [{"required": ["tasks"]}, {"required": ["include"]}]


def _written_branches(types: Iterable[str], kind: str) -> list[Schema]:
    """Return the keys of each type as they are written: a group has `tasks` and no type."""
    branches = _branches(types, kind)
    for name, branch in zip(types, branches, strict=True):
        if name == GROUP:
            branch["if"] = {"type": "object", "anyOf": _GROUP_HAS, "not": {"required": ["type"]}}
        elif name == DEFAULT_TYPE:
            branch["if"]["anyOf"] = [{"required": ["type"]}, {"not": {"anyOf": _GROUP_HAS}}]
    return branches


def _with_items(keys: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the keys of groups, whose tasks may be a list."""
    return {**keys, "tasks": {**keys["tasks"], "items": {"$ref": "#/$defs/item"}}}


def _def_name(type_name: str, kind: str = "task") -> str:
    return f"{kind}_{type_name}"


def _type_schema(name: str, type_schema: Mapping[str, Any], common: Mapping[str, Schema]) -> Schema:
    """Return the keys of one task type with the common keys, whose values `task` and `hook` check."""
    rest = {key: value for key, value in type_schema.items() if key not in ("properties", "required", "type")}
    return {
        "title": f"Task of type {name}",
        **rest,
        "properties": {**type_schema.get("properties", {}), **dict.fromkeys(common, True)},
        "required": list(type_schema.get("required", ())),
        "patternProperties": FREE,
        "additionalProperties": False,
    }


def aliases_of(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return alias to name, for the keys of one mapping; the name of a key is never an alias."""
    return {
        alias: key
        for key, schema in properties.items()
        if isinstance(schema, Mapping)
        for alias in schema.get("x-aliases", ())
        if alias not in properties
    }


#: Keywords whose value is a mapping of names to schemas.
_NAMED_SCHEMAS: Final = ("properties", "patternProperties", "$defs", "dependentSchemas")
#: Keywords with schemas of the same value, and those with schemas of values inside it.
_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
_INNER_VALUES: Final = ("additionalProperties", "propertyNames", "items", "prefixItems", "contains")


def _with_aliases(schema: Any, names: Mapping[str, list[str]]) -> Any:
    """Return `schema` with the aliases as keys of their own. `names` are all names of each key of the same value."""
    if isinstance(schema, list):
        return [_with_aliases(part, names) for part in schema]
    if not isinstance(schema, dict):
        return schema
    properties = schema.get("properties", {})
    # In the schema of one task type the common keys are `true`; their aliases have to be named there too.
    common = {key: COMMON[key] for key, part in properties.items() if part is True and key in COMMON}
    aliases = aliases_of({**properties, **common})
    if properties:
        names = {key: [key, *(alias for alias, name in aliases.items() if name == key)] for key in properties}
    result: Schema = {}
    for keyword, rule in schema.items():
        if keyword in _NAMED_SCHEMAS:
            result[keyword] = {name: _with_aliases(part, {}) for name, part in rule.items()}
        elif keyword in _SAME_VALUE or keyword in _INNER_VALUES:
            result[keyword] = _with_aliases(rule, names if keyword in _SAME_VALUE else {})
        else:
            result[keyword] = rule
    for alias, key in aliases.items():
        part = result["properties"][key]
        note = {"description": f"Another name for `{key}`.", "x-aliases": []}
        result["properties"][alias] = {**part, **note} if isinstance(part, dict) else part
    needed = [key for key in schema.get("required", ()) if len(names.get(key, ())) > 1]
    if needed:
        result["required"] = [key for key in schema["required"] if key not in needed]
        choices = [{"anyOf": [{"required": [name]} for name in names[key]]} for key in needed]
        result["allOf"] = [*result.get("allOf", []), *choices]
    return result
