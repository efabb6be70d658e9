"""Included files: their tasks become tasks of the including file, in the group that has the key `include`.

An included file is read and checked by itself, with a tree of its own, so a mistake in it has its own file, line and
column. It means what it means alone: its variables, defaults, shell and relative paths hold for its tasks, and those of
the including file do not. It takes part in a run of another workflow, so its pools and secrets become those of that
workflow, its parameters get their values from the including file, and what starts or limits its own runs has no effect.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Location, Problem, WorkflowError
from lightflow.parser.files import split_reference
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import ID_PATTERN, is_expression
from lightflow.parser.tree import Inclusion, Tree, mapping_or_empty, workflow_values
from lightflow.plugins.registry import Registry
from lightflow.spec.grafts import grafted_includes, grafted_tasks
from lightflow.spec.model import IncludeSpec, SecretSpec, TaskSpec, Template, WorkflowSpec
from lightflow.text import did_you_mean, quoted
from liteflow import Param, Pool
from liteflow.api import EMPTY_MAPPING, HOOK_EVENTS, replace

#: Files that include each other, one in the other.
MAX_INCLUDES: Final = 10
_NO_HOOKS: Final = "has hooks of its run ({}), which do not run here: move them to this group, or to this file"


class Includer:
    """Adds the tasks of included files to the trees of a file and of those that it includes; each is read once."""

    def __init__(self, load: Callable[[str, Registry | None], Any], registry: Registry | None) -> None:
        self._load = load
        self._registry = registry
        self._results: dict[str, Any] = {}  # what `load` has returned or raised, by path
        self._chain: list[str] = []  # the files that are being read, each included by the one before it
        self.paths: set[str] = set()  #: of all files that are included, also of those that cannot be read

    def include(self, tree: Tree) -> None:
        """Add the tasks of the files that the groups of a tree include, and the problems that prevent it."""
        groups = [group for group in tree.groups if isinstance(tree.tasks[group].get("include"), str)]
        if not groups:
            return
        self._chain.append(os.path.realpath(tree.source.file))
        for group in groups:
            if problems := list(self._include(tree, group)):
                tree.not_included[group] = problems
        self._chain.pop()
        for task_id in tree.grafted:
            if task_id in tree.tasks:
                message = f"{quoted(task_id)} is a task of the included file, too; rename it"
                tree.problems.append(tree.problem(["tasks", task_id], message, key=True))

    def _include(self, tree: Tree, group: str) -> Iterator[Problem]:
        """Add the tasks of the file that a group includes; yield the problems that prevent it."""
        written = tree.tasks[group]["include"]
        file = os.path.normpath(os.path.join(os.path.dirname(tree.source.file), os.path.expanduser(written)))
        place: list[Key] = ["tasks", group, "include"]
        if message := self._path_problem(written, file):
            yield tree.problem(place, message)
            return
        result = self._result(file)
        if isinstance(result, WorkflowError):
            for problem in result.problems:
                yield problem if problem.line else tree.problem(place, f"{problem.file}: {problem.message}")
            return
        for message in _unsuitable_keys(result.tree):
            yield tree.problem(place, f"{written} {message}")
        inclusion = tree.includes[group] = _inclusion(tree, group, result)
        for task_id, task in inclusion.tasks.items():
            tree.parents[task_id] = task.group
            if not re.fullmatch(ID_PATTERN, task_id):
                yield tree.problem(place, f"{quoted(task_id)} is too long for a task id; shorten that of the group")

    def _result(self, file: str) -> Any:
        """Return what has been loaded from a file, or the error."""
        self.paths.add(os.path.abspath(split_reference(file)[0]))
        if file not in self._results:
            try:
                self._results[file] = self._load(file, self._registry)
            except WorkflowError as error:
                self._results[file] = error
        return self._results[file]

    def _path_problem(self, written: str, file: str) -> str:
        """Return why a path cannot be included; empty where it can be."""
        if is_expression(written):
            return "an expression is not allowed here: which tasks there are is decided before a run has parameters"
        path = split_reference(file)[0]
        if path.endswith(".py"):
            return "a Python file cannot be included; include a YAML or JSON file"
        if os.path.realpath(path) in self._chain:
            names = [os.path.basename(each) for each in (*self._chain, path)]
            return f"the files include each other: {' -> '.join(names[names.index(os.path.basename(path)) :])}"
        if len(self._chain) > MAX_INCLUDES:
            return f"more than {MAX_INCLUDES} files include each other, one in the other"
        if not os.path.exists(path):
            self.paths.add(os.path.abspath(path))
            return f"no such file: {written}{_similar(path)}; the path starts from the folder of this file"
        return ""


def _similar(path: str) -> str:
    folder = os.path.dirname(path) or "."
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return did_you_mean(os.path.basename(path), [name for name in names if name.endswith((".yaml", ".yml", ".json"))])


def _unsuitable_keys(tree: Tree) -> Iterator[str]:
    """Yield what is wrong with an included file that is valid alone."""
    hooks = [event for event in HOOK_EVENTS if event in tree.root]
    if hooks:
        yield _NO_HOOKS.format(", ".join(hooks))


def _inclusion(tree: Tree, group: str, loaded: Any) -> Inclusion:
    values = mapping_or_empty(tree.tasks[group].get("params"))
    tasks, include = _parts(loaded.tree, loaded.spec, group, values)
    return Inclusion(tree=loaded.tree, spec=loaded.spec, types=loaded.types, tasks=tasks, include=include)


def _parts(
    tree: Tree, spec: WorkflowSpec, group: str, values: Mapping[str, Any]
) -> tuple[dict[str, TaskSpec], IncludeSpec]:
    """Return the tasks of a file as those of a group, and what the group gives it."""
    mode = mapping_or_empty(tree.root.get("settings")).get("mode")
    include = IncludeSpec(path=spec.path, arguments=values, params=spec.params, env=spec.env, dotenv=spec.dotenv)
    return grafted_tasks(spec, group, values, mode), include


def in_group(tree: Tree, spec: WorkflowSpec, group: str, values: Mapping[str, Any]) -> WorkflowSpec:
    """Return a workflow of the tasks of a file as those of a group, which gives it these values of parameters.

    Raises:
        WorkflowError: the file cannot be included, or a value is not valid or missing.
    """
    file = tree.source.file
    problems = [Problem(file, 0, 0, "", message) for message in _unsuitable_keys(tree)]
    problems += [Problem(file, 0, 0, f"params.{name}", message) for name, message in _mistakes(spec.params, values)]
    if problems:
        raise WorkflowError(problems)
    tasks, include = _parts(tree, spec, group, values)
    place = Location(file, 0, 0, "params")
    return replace(
        spec,
        tasks=tasks,
        includes={group: replace(include, places={"": place}), **grafted_includes(spec, group)},
        secrets={name: _within(declared, group) for name, declared in spec.secrets.items()},
        env=EMPTY_MAPPING,
        dotenv=(),
        params=EMPTY_MAPPING,
    )


# -- what the including file gives ---------------------------------------------------------------------------------


def check_includes(tree: Tree) -> Iterator[Problem]:
    """Report values that an included file does not take, and those that it lacks."""
    for group, inclusion in tree.includes.items():
        declared, arguments = inclusion.spec.params, inclusion.include.arguments
        for name, message in _mistakes(declared, arguments):
            path: list[Key] = ["tasks", group, "params", name] if name in arguments else ["tasks", group, "include"]
            yield tree.problem(path, message, key=name in arguments and name not in declared)
        _, problems = _templates(tree, group)
        yield from problems


def _mistakes(declared: Mapping[str, Param], arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of parameters whose values are not valid or missing, with messages."""
    for name, value in arguments.items():
        if message := _value_problem(declared, name, value):
            yield name, message
    for name, param in declared.items():
        if param.required and name not in arguments:
            yield name, f"parameter {quoted(name)} needs a value: {param.wanted}; give it under `params`"


def _value_problem(declared: Mapping[str, Param], name: str, value: Any) -> str:
    if name not in declared:
        hint = did_you_mean(name, declared) or (f"; there are {', '.join(declared)}" if declared else "")
        return f"the included file has no parameter {quoted(name)}{hint}"
    if is_expression(value):
        return ""
    try:
        declared[name].value(value)
    except ValueError as error:
        return str(error)
    return ""


def _templates(tree: Tree, group: str) -> tuple[Mapping[str, Template], list[Problem]]:
    if "${{" not in repr(tree.includes[group].include.arguments):
        return EMPTY_MAPPING, []
    from lightflow.parser.expressions import read_arguments  # imports Jinja

    return read_arguments(tree, group)


# -- building ------------------------------------------------------------------------------------------------------


def with_includes(tree: Tree, spec: WorkflowSpec) -> WorkflowSpec:
    """Return the specification of a file without problems with what belongs to its included files.

    Raises:
        WorkflowError: a pool, a cluster or a secret is declared in two files, and not alike.
    """
    includes: dict[str, IncludeSpec] = {}
    pools, clusters, secrets = dict(spec.limits.pools), dict(spec.limits.clusters), dict(spec.secrets)
    plugins = dict.fromkeys(spec.plugins)
    problems: list[Problem] = []
    for group, inclusion in tree.includes.items():
        included, path = inclusion.spec, ["tasks", group, "include"]
        problems += [tree.problem(path, message) for message in _conflicts(pools, secrets, included)]
        problems += [
            tree.problem(path, f"cluster {quoted(name)} differs in the included file; a run has one cluster of a name")
            for name, cluster in included.limits.clusters.items()
            if clusters.get(name, cluster) != cluster
        ]
        clusters = {**included.limits.clusters, **clusters}
        pools = {**included.limits.pools, **pools}
        secrets = {**{name: _within(secret, group) for name, secret in included.secrets.items()}, **secrets}
        plugins |= dict.fromkeys(included.plugins)
        includes[group] = _complete(tree, group, inclusion)
        includes |= grafted_includes(included, group)
    if problems:
        raise WorkflowError(problems)
    return replace(
        spec,
        secrets=secrets,
        plugins=tuple(plugins),
        limits=replace(spec.limits, pools=pools, clusters=clusters),
        includes=includes,
    )


def _complete(tree: Tree, group: str, inclusion: Inclusion) -> IncludeSpec:
    arguments = inclusion.include.arguments
    return replace(
        inclusion.include,
        workflow=workflow_values(tree),
        templates=_templates(tree, group)[0],
        places={name: tree.location(["tasks", group, "params", name]) for name in arguments}
        | {"": tree.location(["tasks", group, "include"])},
    )


def _within(declared: SecretSpec, group: str) -> SecretSpec:
    return replace(declared, included=f"{group}.{declared.included}" if declared.included else group)


def _conflicts(pools: Mapping[str, Pool], secrets: Mapping[str, SecretSpec], included: WorkflowSpec) -> Iterator[str]:
    """Yield the declarations of an included file that differ from those before it."""
    for name, pool in included.limits.pools.items():
        if name in pools and pools[name].slots != pool.slots:
            yield (
                f"pool {quoted(name)} has {pool.slots} slots in the included file and {pools[name].slots} outside it; "
                "runs share it, so it needs one size"
            )
    for name, declared in included.secrets.items():
        if name in secrets and _source(secrets[name]) != _source(declared):
            at = declared.location
            yield (
                f"secret {quoted(name)} has another source in the included file (line {at.line}); "
                "a run has one secret of a name"
            )


def _source(declared: SecretSpec) -> tuple[Any, ...]:
    """Return what decides the value of a secret."""
    secret = declared.secret
    if secret.file is not None:
        return ("file", os.path.join(secret.folder or "", os.path.expanduser(secret.file)))
    if secret.command is not None:
        return ("command", secret.command, secret.folder, secret.shell)
    return ("env", secret.env or secret.name)
