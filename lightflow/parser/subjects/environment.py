"""The environment of tasks: the keys `env`, `dotenv` and `secrets`. Files and secrets are read when a run starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import FREE, Schema, block, block_at, ids
from lightflow.parser.tree import Tree, list_or_empty
from lightflow.plugins.scripts import lines
from lightflow.spec.model import EnvFile, SecretSpec
from lightflow.text import did_you_mean, quoted
from liteflow import Secret
from liteflow.api import SECRET_NAME, VARIABLE_NAME, replace

#: The sources of a secret, and the key that each of them needs or allows.
_SOURCE_KEYS: Final = {"env": "key", "file": "path", "command": "run"}
_SECRET_NAME: Final[Schema] = {
    "type": "string",
    "pattern": f"^{SECRET_NAME}$",
    "x-expects": "a name of letters, digits and _",
}


def env(description: str) -> Schema:
    """Return the schema of a key `env`."""
    return {
        "description": f"{description} Values are taken as written: `08080` stays `08080`, `true` stays `true`.",
        "type": "object",
        "propertyNames": {"pattern": f"^{VARIABLE_NAME}$"},
        "additionalProperties": {"type": ["string", "number", "boolean", "null"], "x-expects": "text"},
        "examples": [{"STAGE": "production", "PORT": "8080"}],
        "x-expects": "a mapping of names to text",
        "x-as-written": True,
    }


def dotenv(description: str) -> Schema:
    """Return the schema of a key `dotenv`."""
    return {
        "description": f"{description} A path, or a list of paths, relative to the workflow file; "
        "`{path: local.env, required: false}` may be missing. Read when a run starts.",
        "type": ["array", "string"],
        "minLength": 1,
        "items": {
            "type": ["object", "string"],
            "minLength": 1,
            "properties": {
                "path": {"description": "The dotenv file.", "type": "string", "minLength": 1},
                "required": {"description": "Whether the file must exist.", "type": "boolean", "default": True},
            },
            "required": ["path"],
            "additionalProperties": False,
            "x-expects": "the path of a dotenv file",
        },
        "examples": [".env", [".env", {"path": "local.env", "required": False}]],
        "x-expects": 'the path of a dotenv file such as ".env", or a list of them',
        "x-aliases": ["env_file"],
        "x-list": True,
    }


SECRET: Final = block(
    "Secret",
    "A secret, and the source of its value.",
    {
        "name": {"description": "Its name, in a list of secrets.", **_SECRET_NAME, "examples": ["API_TOKEN"]},
        "from": {
            "description": "The source of its value; `file` if there is a `path`, `command` if there is a `run`.",
            "enum": list(_SOURCE_KEYS),
            "default": "env",
            "x-aliases": ["provider"],
        },
        "key": {
            "description": "The environment variable, if it has another name. Dotenv files of the workflow count.",
            "type": "string",
            "minLength": 1,
            "examples": ["STAGING_API_TOKEN"],
        },
        "path": {
            "description": "The file that holds it, relative to the workflow file, with `~` for the home. The last "
            "line break is removed.",
            "type": "string",
            "minLength": 1,
            "examples": ["~/.secrets/db-password"],
            "x-aliases": ["file"],
        },
        "run": {
            **lines(
                "The shell command that prints it, run by the workflow's `shell` in the folder of the workflow file, "
                "for a minute at most. The last line break is removed."
            ),
            "examples": ["pass show db/password"],
            "x-aliases": ["command"],
        },
        "description": {"description": "The purpose of the secret.", "type": "string"},
    },
)

SECRETS: Final[Schema] = {
    "description": "Secrets that a run reads when it starts, masks in all output, and never stores: a list of names "
    "of environment variables, or of mappings with their source.",
    "type": ["array", "object"],
    "propertyNames": {"pattern": f"^{SECRET_NAME}$"},
    "items": {
        "type": ["object", "string"],
        "pattern": f"^{SECRET_NAME}$",
        **block_at("secret"),
        "x-expects": "a name of letters, digits and _, or a mapping such as {name: TOKEN, path: token.txt}",
    },
    "patternProperties": FREE,
    "additionalProperties": {
        "type": ["object", "null"],
        **block_at("secret"),
        "x-expects": "nothing, or a mapping such as {path: token.txt}",
    },
    "examples": [["API_TOKEN"], {"DB_PASSWORD": {"from": "file", "path": "~/.secrets/db"}}],
    "x-expects": "a list of names of secrets, or a mapping of names to where they come from",
}

TASK_SECRETS: Final = ids(
    "Secrets of the workflow that the task has in its environment, by name. Expressions (`${{ secrets.NAME }}`) and "
    "Python tasks (`current_context().secrets`) do not need this key.",
    item="the name of a secret",
    default=[],
    examples=[["API_TOKEN"]],
    **{"x-expects": "a list of names of secrets"},
)


def secret_names(root: Mapping[str, Any]) -> list[str]:
    """Return the names of the declared secrets, as far as they are valid."""
    declared = root.get("secrets")
    if isinstance(declared, dict):
        return list(declared)
    names = [item.get("name") if isinstance(item, dict) else item for item in list_or_empty(declared)]
    return [name for name in names if isinstance(name, str)]


def read_secrets(tree: Tree) -> tuple[dict[str, SecretSpec], list[Problem]]:
    """Return the secrets of the file, and the problems that the schema cannot express."""
    secrets: dict[str, SecretSpec] = {}
    problems: list[Problem] = []
    folder = os.path.dirname(os.path.abspath(tree.source.file))
    for path, name, options in _declared(tree.root.get("secrets")):
        if not _is_usable(name, options):
            continue  # the schema reports it
        is_key = isinstance(path[-1], str)
        if name is None:
            problems.append(tree.problem(path, 'needs a "name"'))
        elif name in secrets:
            problems.append(tree.problem(path, f"the secret {quoted(name)} is declared twice", key=is_key))
        elif isinstance(secret := _secret(name, options, folder, tree.shell), str):
            problems.append(tree.problem(path, secret, key=is_key))
        else:
            secrets[name] = SecretSpec(
                secret=secret, location=replace(tree.location(path, key=is_key), path=f"secrets.{name}")
            )
    return secrets, problems


def _declared(secrets: Any) -> Iterator[tuple[list[Key], str | None, Mapping[str, Any]]]:
    """Return each secret with its path, its name, and its keys."""
    for name, options in secrets.items() if isinstance(secrets, dict) else ():
        if isinstance(options, dict | None):
            yield ["secrets", name], name, options or {}
    for index, item in enumerate(list_or_empty(secrets)):
        if isinstance(item, str):
            yield ["secrets", index], item, {}
        elif isinstance(item, dict):
            yield ["secrets", index], item.get("name"), item


def _is_usable(name: Any, options: Mapping[str, Any]) -> bool:
    """Return whether the schema accepts the secret."""
    is_name = name is None or (isinstance(name, str) and re.fullmatch(SECRET_NAME, name))
    texts = [options[key] for key in ("key", "path", "run", "name") if key in options]
    return (
        bool(is_name)
        and all(isinstance(text, str) and text for text in texts)
        and options.get("from", "env") in _SOURCE_KEYS
        and options.keys() <= SECRET["properties"].keys()
    )


def _secret(name: str, options: Mapping[str, Any], folder: str, shell: str | list[str] | None) -> Secret | str:
    """Return the secret, or a message."""
    if options.get("name", name) != name:
        return f"is called {quoted(name)} and {quoted(str(options['name']))}; keep one name"
    named_sources = [source for source, key in _SOURCE_KEYS.items() if key in options]
    source = options.get("from", named_sources[0] if named_sources else "env")
    key = _SOURCE_KEYS[source]
    other = next((named for named in named_sources if named != source), None)
    if other is not None:
        return f'"{_SOURCE_KEYS[other]}" is for secrets from {other}, and this secret is from {source}'
    if key not in options and source != "env":
        return f'a secret from {source} needs "{key}"'
    command_shell = tuple(shell) if isinstance(shell, list) else shell
    value = {source: options.get(key)}
    return Secret(name, **value, folder=folder, shell=command_shell if source == "command" else None)


def check_task_secrets(tree: Tree) -> Iterator[Problem]:
    """Report names in the tasks' `secrets` that are not declared, or are variables of their `env`."""
    if not any("secrets" in task for task in tree.tasks.values()):
        return
    declared = secret_names(tree.root)
    for task_id, task in tree.tasks.items():
        for index, name in enumerate(list_or_empty(task.get("secrets"))):
            if isinstance(name, str) and name not in declared:
                hint = did_you_mean(name, declared) or "; it has to be declared in the secrets of the workflow"
                yield tree.problem(["tasks", task_id, "secrets", index], f"no secret {quoted(name)}{hint}")
            elif isinstance(task.get("env"), dict) and name in task["env"]:
                message = f'{name} is in "env" too; keep one of them'
                yield tree.problem(["tasks", task_id, "secrets", index], message)


def build_env_files(tree: Tree, path: list[Key], keys: Mapping[str, Any]) -> tuple[EnvFile, ...]:
    """Return the dotenv files of the workflow or of a task; `path` is that of `dotenv`."""
    if not keys.get("dotenv"):
        return ()
    folder = os.path.dirname(os.path.abspath(tree.source.file))
    files = []
    for index, item in enumerate(keys["dotenv"]):
        options = item if isinstance(item, dict) else {"path": item}
        absolute = os.path.normpath(os.path.join(folder, os.path.expanduser(options["path"])))
        location = tree.location([*path, index])
        files.append(
            EnvFile(path=absolute, written=options["path"], required=options.get("required", True), location=location)
        )
    return tuple(files)
