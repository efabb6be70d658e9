"""What a workflow file may hold: one JSON Schema (draft 2020-12), the single source of it.

The validator runs it, editors complete from it, the reference page is generated from it. Every task type
contributes its own keys. Three annotations are ours: `x-aliases` (other names of a key), `x-expects` (what a value must
be, in words) and `x-message` (what to say when a `oneOf` fails).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lightflow.parser.schema_env import SECRET, SECRETS, TASK_SECRETS, dotenv, env
from lightflow.parser.schema_fan import FOREACH, MATRIX, STRATEGY
from lightflow.parser.schema_flow import KEYS, OF_HOOKS, PRECONDITION, hooks
from lightflow.parser.schema_limits import CONCURRENCY, POOL, RUN_LIMITS, TASK_LIMITS
from lightflow.parser.schema_pieces import (
    BACKOFF,
    DELAY,
    DELAY_ALIASES,
    FREE,
    ID_PATTERN,
    ID_WORDS,
    JITTER,
    MAX_ALIASES,
    MAX_DELAY,
    MAX_DELAY_ALIASES,
    RETRIES,
    Schema,
    duration,
)
from lightflow.plugins.base import TypeInfo
from lightflow.plugins.registry import Registry
from lightflow.plugins.scripts import SHELL, lines
from liteflow.api import PARAM_NAME, PARAM_TYPES, TRIGGER_RULES

DEFAULT_TYPE: Final = "shell"


#: What stands for a value until the run begins.
_EXPRESSION: Final = r"\$\{\{"


def is_expression(value: object) -> bool:
    """Is the value one that is only known when the run begins?"""
    return isinstance(value, str) and "${{" in value


def _or_expression(schema: Schema) -> Schema:
    """A key whose value may come from an expression."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    pattern = f"{schema['pattern']}|{_EXPRESSION}" if "pattern" in schema else _EXPRESSION
    words = {"integer": "a whole number"}.get(kinds[0], "")
    return {"x-expects": words, **schema, "type": list(dict.fromkeys([*kinds, "string"])), "pattern": pattern}


def cwd(description: str) -> Schema:
    """The key for a working directory."""
    return {
        "description": f"{description} A relative path starts from the folder the run is started in; "
        "`${{ workflow.dir }}` is the folder of the file.",
        "type": "string",
        "minLength": 1,
        "examples": ["/srv/data", "reports", "${{ workflow.dir }}"],
        "x-aliases": ["working_dir", "working-directory", "dir"],
    }


_PARAM_VALUE: Final[Schema] = {"type": ["string", "number", "boolean", "array", "object", "null"]}
_LIMIT: Final[Schema] = {"type": ["number", "string"], "x-expects": "a number, or a date such as 2026-01-31"}

PARAM: Final[Schema] = {
    "title": "Parameter",
    "description": "A parameter, and which values it may have.",
    "type": "object",
    "properties": {
        "type": {
            "description": "What its values are; that of the default if it is not given, else text.",
            "enum": list(PARAM_TYPES),
            "examples": ["date"],
        },
        "default": {
            "description": "The value of runs that are given none. Of a date also `today` or `yesterday`, seen from "
            "the day that the run is for.",
            **_PARAM_VALUE,
            "examples": [100, "yesterday"],
        },
        "required": {
            "description": "Whether each run must be given a value; so it is where there is no default. With `false` "
            "and no default the value is nothing where none is given.",
            "type": "boolean",
        },
        "description": {"description": "What it is for.", "type": "string"},
        "values": {
            "description": "The values of an enum.",
            "type": "array",
            "items": {"type": ["string", "number", "boolean"]},
            "minItems": 1,
            "examples": [["staging", "production"]],
            "x-aliases": ["enum"],
        },
        "minimum": {
            "description": "The smallest number, or the earliest date (also `today` or `yesterday`).",
            **_LIMIT,
            "examples": [1],
        },
        "maximum": {
            "description": "The largest number, or the latest date (also `today` or `yesterday`).",
            **_LIMIT,
            "examples": [1000],
        },
        "min_length": {
            "description": "The least number of characters, or of items of a list.",
            "type": "integer",
            "minimum": 0,
            "maximum": 1_000_000,
        },
        "max_length": {
            "description": "The largest number of characters, or of items of a list.",
            "type": "integer",
            "minimum": 0,
            "maximum": 1_000_000,
        },
        "pattern": {
            "description": "A regular expression (Python's) that all of the text must match.",
            "type": "string",
            "examples": ["[a-z]+"],
        },
    },
    "patternProperties": FREE,
    "additionalProperties": False,
}

_MODE: Final[Schema] = {
    "description": "Where Python code runs. Commands are processes of their own in every mode.",
    "enum": ["thread", "process", "async"],
}

RETRY: Final[Schema] = {
    "title": "Retry",
    "description": "When and how often a failed task is tried again; the block form of the `retry_…` keys.",
    "type": "object",
    "properties": {
        "max": RETRIES | MAX_ALIASES,
        "delay": DELAY | DELAY_ALIASES,
        "backoff": BACKOFF,
        "max_delay": MAX_DELAY | MAX_DELAY_ALIASES,
        "jitter": JITTER,
        "on_exit_codes": {
            "description": "Try again only after these exit codes (or an exception of `on_exceptions`).",
            "type": "array",
            "items": {"type": "integer", "minimum": -64, "maximum": 255},
            "examples": [[75]],
            "x-aliases": ["exit_code", "exit_codes"],
        },
        "on_exceptions": {
            "description": "Try again only after these Python exceptions, by class name, subclasses included.",
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "examples": [["TimeoutError", "ConnectionError"]],
        },
    },
    "patternProperties": FREE,
    "additionalProperties": False,
}

# The keys of every task, whatever its type.
COMMON: Final[dict[str, Schema]] = {
    "type": {
        "description": "The kind of task: `shell`, `python`, or one from a plugin.",
        "type": "string",
        "default": DEFAULT_TYPE,
        "examples": ["shell", "python"],
    },
    "description": {"description": "What the task is for.", "type": "string", "examples": ["Fetch the day's orders"]},
    "depends_on": {
        "description": "The tasks to wait for: a list of ids, or a single id.",
        "type": ["array", "string"],
        "items": {"type": "string", "x-expects": "the id of a task (text; put a number in quotes)"},
        "default": [],
        "examples": [["fetch", "clean"], "fetch"],
        "x-expects": "a list of task ids, or one task id",
        "x-aliases": ["needs", "depends", "deps"],
    },
    "cwd": cwd("The working directory. It replaces the workflow's `cwd`."),
    "env": env("Environment variables, over those of the workflow."),
    "dotenv": dotenv("Files with environment variables, over those of the workflow, and below `env`."),
    "secrets": TASK_SECRETS,
    "timeout": _or_expression(
        duration(
            "The longest that one attempt may take.",
            zero=False,
            examples=[30, "5m"],
            **{"x-aliases": ["timeout_seconds"]},
        )
    ),
    "kill_grace": duration(
        "Time between the polite signal (SIGTERM) and the hard one when a task is stopped.",
        zero=True,
        default=10,
        examples=["30s"],
    ),
    "retries": _or_expression(
        RETRIES | {"description": "Extra attempts after a failure; goes before `settings.retries`."}
    ),
    "retry_delay": _or_expression(DELAY | {"x-aliases": ["retry_interval"]}),
    "retry_backoff": BACKOFF,
    "max_retry_delay": MAX_DELAY,
    "retry_jitter": JITTER,
    "retry": RETRY | {"x-aliases": ["retry_policy"], "x-expects": "a mapping such as {max: 3, delay: 5s, backoff: 2}"},
    "trigger_rule": {
        "description": "Whether the task runs, given how the tasks it waits for have ended.",
        "enum": list(TRIGGER_RULES),
        "default": "all_success",
        "examples": ["all_done"],
    },
    "mode": _MODE,
    **KEYS,
    **hooks(of_the_run=False),
    "matrix": MATRIX,
    "foreach": FOREACH,
    "strategy": STRATEGY,
    **TASK_LIMITS,
}

#: What a task in a list has besides.
ITEM_ID: Final[Schema] = {
    "description": "The id of the task.",
    "type": "string",
    "pattern": ID_PATTERN,
    "examples": ["fetch"],
    "x-expects": f"an id of {ID_WORDS}",
    "x-aliases": ["name"],
}

#: The keys of every hook, whatever its type.
HOOK: Final[dict[str, Schema]] = {key: COMMON[key] for key in OF_HOOKS}

SETTINGS: Final[Schema] = {
    "title": "Settings",
    "description": "How the whole workflow is run.",
    "type": "object",
    "properties": {
        "max_parallel_tasks": {
            "description": "Maximum concurrent tasks.",
            "type": "integer",
            "minimum": 1,
            "maximum": 100_000,
            "default": 4,
            "examples": [8],
            "x-aliases": ["max_active_tasks", "max_workers"],
        },
        "retries": RETRIES | {"description": "Number of retry attempts of tasks that do not say."},
        "log_dir": {
            "description": "Directory for log files.",
            "type": "string",
            "minLength": 1,
            "default": "logs/",
            "examples": ["logs/"],
        },
        "mode": _MODE | {"default": "thread"},
        "fail_fast": {
            "description": "Stop the run at the first failure; otherwise independent branches go on.",
            "type": "boolean",
            "default": False,
        },
        "resume": {
            "description": "`auto`: `run` continues a run that did not finish; `manual`: it says how to.",
            "enum": ["auto", "manual"],
            "default": "manual",
        },
        "shell": {**SHELL, "description": "Another place for the `shell` of the workflow, which says what it is."},
        "checkpoint_dir": {
            "description": "Directory for checkpoint files.",
            "type": "string",
            "minLength": 1,
            "default": ".lightflow-checkpoints",
        },
    },
    "patternProperties": FREE,
    "additionalProperties": False,
}


def workflow_schema(registry: Registry | None = None) -> Schema:
    """The schema of a file as it may be written, every alias included: for editors and the reference page."""
    infos = (registry or Registry()).known()
    schema = canonical_schema(infos)
    schema["properties"]["tasks"]["items"] = {"$ref": "#/$defs/item"}
    described = {info.name: info.schema for info in infos if info.schema is not None}
    task = {**schema["$defs"]["task"], "title": "Task in a list", "allOf": _branches(described, "item")}
    schema["$defs"] |= {
        "item": task,
        **{_def_name(name, "item"): _item_schema(_task_schema(name, own)) for name, own in described.items()},
    }
    written: Schema = _with_aliases(schema, {})
    return written


def _item_schema(task: Schema) -> Schema:
    """The keys of a task that stands in a list, and so has its id among them."""
    return {**task, "properties": {**task["properties"], "id": ITEM_ID}, "required": [*task["required"], "id"]}


def canonical_schema(types: Iterable[TypeInfo]) -> Schema:
    """The schema of a file whose aliases have been replaced: what the validator runs."""
    described = {info.name: info.schema for info in types if info.schema is not None}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lightflow workflow",
        "description": "Tasks, what each waits for, and how to run them.",
        "type": "object",
        "properties": {
            "workflow_name": {
                "description": "The name of the workflow; the file's name without its suffix if it is not given.",
                "type": "string",
                "pattern": ID_PATTERN,
                "examples": ["daily_model_pipeline"],
                "x-expects": f"a name of {ID_WORDS}",
                "x-aliases": ["name", "dag_id"],
            },
            "description": {"description": "What the workflow is for.", "type": "string"},
            "tasks": {
                "description": "The tasks by id: a mapping, or a list whose items have an `id`.",
                "type": ["object", "array"],
                "minProperties": 1,
                "minItems": 1,
                "propertyNames": {"pattern": ID_PATTERN},
                "patternProperties": FREE,
                "additionalProperties": {"$ref": "#/$defs/task"},
                "items": {"type": "object", "required": ["id"]},
                "examples": [{"hello": {"run": "echo hello"}}],
                "x-expects": "a mapping of task ids to tasks, or a list of tasks with an `id`",
                "x-aliases": ["steps"],
            },
            "params": {
                "description": "The parameters of a run, each with its default, or with more about it. Values are "
                "given by `-p name=value` and `--params-file`, and checked before anything runs.",
                "type": "object",
                "propertyNames": {"pattern": f"^{PARAM_NAME}$"},
                "patternProperties": FREE,
                "additionalProperties": {
                    **_PARAM_VALUE,
                    "if": {"type": "object"},
                    "then": {"$ref": "#/$defs/param"},
                },
                "examples": [{"rows": 100, "day": {"type": "date"}}],
                "x-expects": "a mapping of names to defaults",
                "x-aliases": ["parameters"],
            },
            "settings": {"$ref": "#/$defs/settings"},
            **RUN_LIMITS,
            "shell": SHELL,
            "cwd": cwd("The working directory of every task and hook that does not say its own."),
            "env": env("Environment variables of every task."),
            "dotenv": dotenv("Files with environment variables of every task, below `env`."),
            "secrets": SECRETS,
            **hooks(of_the_run=True),
            "plugins": {
                "description": "Python files with task types, relative to the workflow file.",
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "examples": [["my_tasks.py"]],
                "x-expects": 'a list of Python files such as ["my_tasks.py"]',
            },
        },
        "required": ["tasks"],
        "patternProperties": FREE,
        "additionalProperties": False,
        "$defs": {
            "settings": SETTINGS,
            "param": PARAM,
            "secret": SECRET,
            "pool": POOL,
            "concurrency": CONCURRENCY,
            "precondition": PRECONDITION,
            "task": {
                "title": "Task",
                "type": "object",
                "properties": COMMON,
                "allOf": _branches(described, "task"),
                "x-expects": "a mapping with keys such as `run` and `depends_on`",
            },
            "hook": {
                "title": "Hook",
                **lines("What runs at an event: a command, or a task of its own."),
                "type": ["object", "string", "array"],
                "properties": HOOK,
                "allOf": _branches(described, "hook"),
                "x-expects": "a command (text), a list of lines, or a mapping with `run` or `call`",
            },
            **{_def_name(name): _task_schema(name, own) for name, own in described.items()},
            **{_def_name(name, "hook"): _task_schema(name, own, HOOK) for name, own in described.items()},
        },
    }


def _branches(types: Iterable[str], kind: str) -> list[Schema]:
    """The keys of each type, where a task (or what `kind` says) is of that type."""
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


def _def_name(type_name: str, kind: str = "task") -> str:
    return f"{kind}_{type_name}"


def _task_schema(name: str, own: Mapping[str, Any], common: Mapping[str, Schema] = COMMON) -> Schema:
    """The keys of one task type with those of every task; values of the latter are checked by `task` already."""
    extra = {key: value for key, value in own.items() if key not in ("properties", "required", "type")}
    return {
        "title": f"Task of type {name}",
        **extra,
        "properties": {**own.get("properties", {}), **dict.fromkeys(common, True)},
        "required": list(own.get("required", ())),
        "patternProperties": FREE,
        "additionalProperties": False,
    }


def aliases_of(properties: Mapping[str, Any]) -> dict[str, str]:
    """Alias to canonical name, for the keys of one mapping; a key's own name is never taken for an alias."""
    return {
        alias: key
        for key, schema in properties.items()
        if isinstance(schema, Mapping)
        for alias in schema.get("x-aliases", ())
        if alias not in properties
    }


def _with_aliases(schema: Any, names: Mapping[str, list[str]]) -> Any:
    """`schema` with the aliases as keys of their own. `names` are all names of each key of the mapping around."""
    if isinstance(schema, list):
        return [_with_aliases(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    properties = schema.get("properties")
    aliases: dict[str, str] = {}
    if isinstance(properties, dict) and "if" not in schema:
        # In the schema of one task type the common keys are `true`; their aliases have to be named there too.
        common = {key: schema for key, schema in COMMON.items() if properties.get(key) is True}
        aliases = aliases_of({**properties, **common})
        names = {key: [key, *(alias for alias, of in aliases.items() if of == key)] for key in properties}
    result = {
        key: value if key == "examples" else _with_aliases(value, names) for key, value in schema.items()
    }  # an example is no schema
    for alias, key in aliases.items():
        value = properties[key] if properties else True
        note = {"description": f"Another name for `{key}`.", "x-aliases": []}
        result["properties"][alias] = {**value, **note} if isinstance(value, dict) else value
    needed = [key for key in schema.get("required", ()) if len(names.get(key, ())) > 1]
    if needed:
        result["required"] = [key for key in schema["required"] if key not in needed]
        choices = [{"anyOf": [{"required": [name]} for name in names[key]]} for key in needed]
        result["allOf"] = [*result.get("allOf", []), *choices]
    return result
