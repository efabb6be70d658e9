"""The registry of task types: built-in types, and those of plugin files and installed packages."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lightflow.errors import Problem, WorkflowError
from lightflow.plugins.base import WAITS_HERE, TaskType, TypeInfo, TypeRef
from lightflow.plugins.expression_kinds import kind_problem
from liteflow.api import replace

ENTRY_POINTS: Final = "lightflow.task_types"
BUILT_IN_ORIGIN: Final = "built in"
#: The modules and classes of the built-in types by name. A module is imported when a workflow uses its type.
BUILT_IN: Final[Mapping[str, tuple[str, str]]] = {
    "shell": ("lightflow.plugins.shell_task", "ShellTask"),
    "python": ("lightflow.plugins.python_task", "PythonTask"),
    "docker": ("lightflow.plugins.docker_task", "DockerTask"),
    "http": ("lightflow.plugins.http_task", "HttpTask"),
    "wait": ("lightflow.plugins.wait_task", "WaitTask"),
    "workflow": ("lightflow.plugins.workflow_task", "WorkflowTask"),
    "approval": ("lightflow.plugins.approval_task", "ApprovalTask"),
    "notify": ("lightflow.plugins.notify_task", "NotifyTask"),
    "mail": ("lightflow.plugins.mail_task", "MailTask"),
    "lambda": ("lightflow.plugins.lambda_task", "LambdaTask"),
    "sql": ("lightflow.plugins.sql_task", "SqlTask"),
}
#: The types that are described for every workflow.
_ALWAYS: Final = ("shell", "python")


class Registry:
    """Task types by name.

    The types `shell` and `python` are described from the start, the other built-in types and those of installed
    packages by `use`, those of plugin files by `declare`. Plugin files and installed modules are read, not run, until
    `load`. Installed packages are searched, which takes 50 ms, only for a name that is neither built in nor in a plugin
    file.
    """

    def __init__(self) -> None:
        self._types: dict[str, TypeInfo] = {}
        self._installed: dict[str, TypeInfo] | None = None
        self.use(_ALWAYS)

    def use(self, names: Iterable[str]) -> Registry:
        """Describe the built-in and installed types with these names, if there are any. Return the registry."""
        for name in names:
            if name not in self._types and (info := self.find(name)) is not None:
                self._types[name] = info
        return self

    def with_files(self, paths: Iterable[str]) -> Registry:
        """Return a registry with the types of these plugin files (absolute paths) too.

        Raises:
            WorkflowError: a file cannot be read, or declares nothing usable.
        """
        registry = self.copy()
        problems = [problem for path in paths for problem in registry.declare(path, os.path.basename(path))]
        if problems:
            raise WorkflowError(problems)
        return registry

    def copy(self) -> Registry:
        registry = Registry()
        registry._types = dict(self._types)
        registry._installed = self._installed
        return registry

    def declare(self, path: str, shown: str) -> list[Problem]:
        """Add the types that the plugin file at `path` declares, and return the problems of the file."""
        from lightflow.plugins.declarations import read_declarations  # with `ast`: few workflows have plugins

        infos, problems = read_declarations(path, shown)
        for info in infos:
            other = self._types.get(info.name) or _built_in_info(info.name)
            if other is None or other.ref == info.ref:
                self._types[info.name] = info
            else:
                message = f'task type "{info.name}" exists already ({other.origin}); give yours another `name`'
                problems.append(Problem(shown, info.line, 1, "", message))
        return problems

    def forget(self, name: str) -> None:
        """Accept all keys of a type, because its schema cannot be used (which is reported)."""
        info = self._types[name]
        self._types[name] = replace(info, schema=None)

    def described(self) -> list[TypeInfo]:
        """Return the types that the workflow can use without a search: those of `use` and of `declare`."""
        return list(self._types.values())

    def names(self) -> list[str]:
        """Return the names of all types, installed packages included."""
        return sorted({*BUILT_IN, *self._types, *self._from_packages()})

    def find(self, name: str) -> TypeInfo | None:
        """Return the type with this name; the keys of an installed type are read from its source."""
        if (info := self._types.get(name) or _built_in_info(name)) is not None:
            return info
        installed = self._from_packages().get(name)
        return None if installed is None else _with_declaration(installed)

    def built_in(self, name: str) -> TaskType | None:
        """Return a built-in type; `validate` may use its code, which is not the user's."""
        kind = _built_in_class(name)
        return kind() if kind else None

    def reason_here(self, name: str, config: Mapping[str, Any]) -> str:
        """Return why a task of a type runs on the machine of its run, and on no cluster; empty: it may leave."""
        if (built_in := self.built_in(name)) is not None:
            return built_in.reason_here(config)
        info = self.find(name)
        return WAITS_HERE if info is not None and info.waits else ""

    def load(self, name: str) -> TaskType:
        """Return the task type. This runs the code of a plugin file or package, so only a run may call it.

        Raises:
            WorkflowError: there is no such type, or its code cannot be imported.
        """
        built_in = self.built_in(name)
        if built_in is not None:
            return built_in
        info = self.find(name)
        if info is None:
            raise WorkflowError([Problem("plugins", 0, 0, "", f'no task type "{name}"')])
        try:
            return info.ref.load()
        except Exception as error:  # the code of a plugin may raise anything
            import traceback

            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(frames) if frame.filename == info.ref.path), 0) or 0
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            message = f'task type "{name}" cannot be loaded: {reason}'
            raise WorkflowError([Problem(info.origin, line, 1, "", message)]) from error

    def _from_packages(self) -> Mapping[str, TypeInfo]:
        if self._installed is None:
            from importlib import metadata  # 50 ms, which most runs do not need

            self._installed = {}
            for point in metadata.entry_points(group=ENTRY_POINTS):
                package = point.dist.name if point.dist else point.module
                ref = TypeRef(attribute=point.attr, module=point.module)
                self._installed.setdefault(
                    point.name, TypeInfo(name=point.name, schema=None, ref=ref, origin=f"package {package}")
                )
        return self._installed


def _built_in_class(name: str) -> type[TaskType] | None:
    """Return the class of a built-in type, whose module is imported; None where there is no such type."""
    if name not in BUILT_IN:
        return None
    module, attribute = BUILT_IN[name]
    kind: type[TaskType] = getattr(importlib.import_module(module), attribute)
    return kind


def _built_in_info(name: str) -> TypeInfo | None:
    kind = _built_in_class(name)
    if kind is None:
        return None
    return TypeInfo(
        name=name,
        schema=kind.schema,
        ref=TypeRef(attribute=kind.__qualname__, module=kind.__module__),
        origin=BUILT_IN_ORIGIN,
        needs=kind.needs,
        extra=kind.extra,
    )


def _with_declaration(info: TypeInfo) -> TypeInfo:
    """Return an installed type with the keys that its source declares, if that can be read without running it."""
    from lightflow.plugins.declarations import read_declarations, source_of

    path = source_of(info.ref.module)
    declared = read_declarations(path, info.origin)[0] if path else []
    match = next((each for each in declared if each.ref.attribute == info.ref.attribute), None)
    if match is None or match.schema is None or schema_fragment_problem(match.schema, ()) is not None:
        return info
    return replace(info, schema=match.schema, waits=match.waits, needs=match.needs, extra=match.extra)


def schema_fragment_problem(schema: Mapping[str, Any], reserved_keys: Iterable[str]) -> str | None:
    """Return why the schema of a task type cannot be used, in addition to the rules of JSON Schema; None if it can."""
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or not all(isinstance(key, str) for key in properties):
        return '"properties" must be a dict of keys'
    required = schema.get("required", [])
    if not isinstance(required, (list, tuple)) or not set(required) <= set(properties):
        return '"required" must be a list of keys of "properties"'
    if (problem := kind_problem(schema)) is not None:
        return problem
    clash = sorted(set(properties) & set(reserved_keys))
    return f'the key "{clash[0]}" belongs to every task; choose another name' if clash else None
