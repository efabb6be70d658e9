"""The `dotenv:` and `secrets:` of a workflow file: what they say, not what they hold. Called where there are any."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lightflow.errors import Problem
from lightflow.parser.canonical import Tree
from lightflow.parser.positions import Key
from lightflow.parser.schema_env import SECRET
from lightflow.parser.works import shell_of
from lightflow.spec.model import EnvFile, SecretSpec
from lightflow.text import did_you_mean, quoted
from liteflow import Secret
from liteflow.api import SECRET_NAME

#: where a secret comes from -> the key that tells more about it
_SOURCES = {"env": "key", "file": "path", "command": "run"}


def secret_names(root: Mapping[str, Any]) -> list[str]:
    """The names that are declared, as far as they can be told."""
    written = root.get("secrets")
    if isinstance(written, dict):
        return list(written)
    names = [one.get("name") if isinstance(one, dict) else one for one in written] if isinstance(written, list) else []
    return [name for name in names if isinstance(name, str)]


def read_secrets(tree: Tree) -> tuple[dict[str, SecretSpec], list[Problem]]:
    """The secrets that a canonical tree declares, and what the schema cannot say is wrong with them."""
    found: dict[str, SecretSpec] = {}
    problems: list[Problem] = []
    folder = os.path.dirname(os.path.abspath(tree.source.file))
    shell = shell_of(tree.root)
    for path, name, options in _declared(tree.root["secrets"]):
        if not _is_usable(name, options):
            continue  # the schema says so
        is_key = isinstance(path[-1], str)
        if name is None:
            problems.append(tree.problem(path, 'needs a "name"'))
        elif name in found:
            problems.append(tree.problem(path, f"the secret {quoted(name)} is declared twice", key=is_key))
        elif isinstance(wrong := _secret(name, options, folder, shell), str):
            problems.append(tree.problem(path, wrong, key=is_key))
        else:
            at = tree.problem(path, "", key=is_key)._replace(path=f"secrets.{name}")
            found[name] = SecretSpec(wrong, at)
    return found, problems


def _declared(written: Any) -> Iterator[tuple[list[Key], str | None, Mapping[str, Any]]]:
    """Each secret with its path, its name, and what else is said of it."""
    if isinstance(written, dict):
        for name, options in written.items():
            if isinstance(options, dict | None):
                yield ["secrets", name], name, options or {}
        return
    for index, one in enumerate(written):
        if isinstance(one, str):
            yield ["secrets", index], one, {}
        elif isinstance(one, dict):
            yield ["secrets", index], one.get("name"), one


def _is_usable(name: Any, options: Mapping[str, Any]) -> bool:
    """Whether the schema accepts the secret."""
    names = name is None or (isinstance(name, str) and re.fullmatch(SECRET_NAME, name))
    texts = all(
        isinstance(options[key], str) and options[key] for key in ("key", "path", "run", "name") if key in options
    )
    return (
        bool(names)
        and texts
        and options.get("from", "env") in _SOURCES
        and options.keys() <= SECRET["properties"].keys()
    )


def _secret(name: str, options: Mapping[str, Any], folder: str, shell: str | list[str] | None) -> Secret | str:
    """The declaration, or what is wrong with it."""
    if options.get("name", name) != name:
        return f"is called {quoted(name)} and {quoted(str(options['name']))}; keep one name"
    given = [source for source, key in _SOURCES.items() if key in options]
    source = options.get("from", given[0] if given else "env")
    needed = _SOURCES[source]
    other = next((one for one in given if one != source), None)
    if other is not None:
        return f'"{_SOURCES[other]}" is for secrets from {other}, and this one is from {source}'
    if needed not in options and source != "env":
        return f'a secret from {source} needs "{needed}"'
    value = options.get(needed)
    command_shell = tuple(shell) if isinstance(shell, list) else shell
    return Secret(name, **{source: value}, folder=folder, shell=command_shell if source == "command" else None)


def read_env_files(tree: Tree, path: list[Key], written: Any) -> tuple[EnvFile, ...]:
    """The dotenv files of the workflow or of a task."""
    folder = os.path.dirname(os.path.abspath(tree.source.file))
    found = []
    for index, one in enumerate(written or ()):
        name = one["path"] if isinstance(one, dict) else one
        required = one.get("required", True) if isinstance(one, dict) else True
        full = os.path.normpath(os.path.join(folder, os.path.expanduser(name)))
        found.append(EnvFile(full, name, required, tree.problem([*path, index], "")))
    return tuple(found)


def task_secrets(tree: Tree, tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Names in the tasks' `secrets` that are not declared, or are variables of their `env`."""
    known = secret_names(tree.root)
    for task_id, task in tasks.items():
        listed = task.get("secrets")
        for index, name in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(name, str) and name not in known:
                hint = did_you_mean(name, known) or "; it has to be declared in the secrets of the workflow"
                yield tree.problem(["tasks", task_id, "secrets", index], f"no secret {quoted(name)}{hint}")
            elif isinstance(task.get("env"), dict) and name in task["env"]:
                message = f'{name} is in "env" too; keep one of them'
                yield tree.problem(["tasks", task_id, "secrets", index], message)
