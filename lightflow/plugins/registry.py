"""Which task types there are: built in, from plugin files, from installed packages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lightflow.errors import Problem, WorkflowError
from lightflow.plugins.base import TaskType, TypeInfo, TypeRef
from lightflow.plugins.python_task import PythonTask
from lightflow.plugins.shell_task import ShellTask

ENTRY_POINTS: Final = "lightflow.task_types"
BUILT_IN_ORIGIN: Final = "built in"
BUILT_IN: Final[tuple[type[TaskType], ...]] = (ShellTask, PythonTask)


class Registry:
    """Task types by name.

    Plugin files are read, not run, until `load`. Installed packages are asked for only when a name is met that
    nobody else knows (it takes some 50 ms), and imported only by `load`; until then their keys are not checked.
    """

    def __init__(self, built_in: Iterable[type[TaskType]] = BUILT_IN) -> None:
        self._classes = {kind.name: kind for kind in built_in}
        self._known: dict[str, TypeInfo] = {
            name: TypeInfo(name, kind.schema, TypeRef(kind.__qualname__, kind.__module__), BUILT_IN_ORIGIN)
            for name, kind in self._classes.items()
        }
        self._installed: dict[str, TypeInfo] | None = None

    def with_files(self, paths: Iterable[str]) -> Registry:
        """A registry that also knows the types of these plugin files (absolute paths).

        Raises:
            WorkflowError: a file cannot be read, or declares nothing usable.
        """
        registry = self.copy()
        problems = [problem for path in paths for problem in registry.declare(path, os.path.basename(path))]
        if problems:
            raise WorkflowError(problems)
        return registry

    def copy(self) -> Registry:
        registry = Registry(self._classes.values())
        registry._known = dict(self._known)
        registry._installed = self._installed
        return registry

    def declare(self, path: str, shown: str) -> list[Problem]:
        """Add the types that the plugin file at `path` declares; returns what is wrong with it."""
        from lightflow.plugins.declarations import read_declarations  # with `ast`: few workflows have plugins

        infos, problems = read_declarations(path, shown)
        for info in infos:
            other = self._known.get(info.name)
            if other is None or other.ref == info.ref:
                self._known[info.name] = info
            else:
                message = f'task type "{info.name}" exists already ({other.origin}); give yours another `name`'
                problems.append(Problem(shown, info.line, 1, "", message))
        return problems

    def forget(self, name: str) -> None:
        """Take a type's keys for unchecked, because its schema is unusable (and reported)."""
        info = self._known[name]
        self._known[name] = TypeInfo(info.name, None, info.ref, info.origin, info.line)

    def known(self) -> list[TypeInfo]:
        """The types known without asking the installed packages."""
        return list(self._known.values())

    def names(self) -> list[str]:
        """All names there are, installed packages included."""
        return sorted({*self._known, *self._from_packages()})

    def find(self, name: str) -> TypeInfo | None:
        return self._known.get(name) or self._from_packages().get(name)

    def built_in(self, name: str) -> TaskType | None:
        """A built-in type; its code is ours, so that `validate` may use its `check`."""
        kind = self._classes.get(name)
        return kind() if kind else None

    def load(self, name: str) -> TaskType:
        """The task type, imported. This runs the code of a plugin file or package: never for a mere look.

        Raises:
            WorkflowError: there is no such type, or its code cannot be imported.
        """
        ours = self.built_in(name)
        if ours is not None:
            return ours
        info = self.find(name)
        if info is None:
            raise WorkflowError([Problem("plugins", 0, 0, "", f'no task type "{name}"')])
        try:
            return info.ref.load()
        except Exception as error:
            import traceback

            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(frames) if frame.filename == info.ref.path), 0) or 0
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            message = f'task type "{name}" cannot be loaded: {reason}'
            raise WorkflowError([Problem(info.origin, line, 1, "", message)]) from error

    def _from_packages(self) -> Mapping[str, TypeInfo]:
        if self._installed is None:
            from importlib import metadata  # here, because it takes 50 ms that most runs need not spend

            self._installed = {}
            for point in metadata.entry_points(group=ENTRY_POINTS):
                package = point.dist.name if point.dist else point.module
                ref = TypeRef(point.attr, point.module)
                self._installed.setdefault(point.name, TypeInfo(point.name, None, ref, f"package {package}"))
        return self._installed


def schema_fragment_problem(schema: Mapping[str, Any], taken: Iterable[str]) -> str | None:
    """Why the schema of a task type cannot be used, apart from JSON Schema's own rules."""
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or not all(isinstance(key, str) for key in properties):
        return '"properties" must be a dict of keys'
    required = schema.get("required", [])
    if not isinstance(required, (list, tuple)) or not set(required) <= set(properties):
        return '"required" must be a list of keys of "properties"'
    clash = sorted(set(properties) & set(taken))
    return f'the key "{clash[0]}" belongs to every task; choose another name' if clash else None
