"""`load_workflow`: from a workflow file to a `WorkflowSpec`, or to every mistake in the file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightflow.errors import Problem, WorkflowError
from lightflow.parser.files import parse_text, read_source, read_sources, split_reference
from lightflow.parser.includes import Includer, in_group, with_includes
from lightflow.parser.normalize import normalize
from lightflow.parser.plugin_files import declare_plugins
from lightflow.parser.positions import Source, UnreadableFile, problem_at
from lightflow.parser.schema import normalized_schema
from lightflow.parser.schema_pieces import ID_PATTERN
from lightflow.parser.subjects.clusters import build_clusters
from lightflow.parser.subjects.control_flow import build_hooks
from lightflow.parser.subjects.limits import build_limits
from lightflow.parser.subjects.settings import build_settings
from lightflow.parser.subjects.tasks import TaskBuilder
from lightflow.parser.subjects.triggers import build_triggers
from lightflow.parser.tree import Tree, hook_nodes
from lightflow.parser.validate import Checked, validate
from lightflow.plugins.registry import Registry
from lightflow.spec.model import CHILD_WORKFLOW, Ancestor, WorkflowSpec, digest_of
from liteflow.api import PARAM_TYPES, Record, gc_paused, replace


def load_workflow(path: str | os.PathLike[str], registry: Registry | None = None) -> WorkflowSpec:
    """Read and check a workflow file; `FILE#NAME` means a workflow of several. Runs and imports nothing of the user's.

    `registry` (the built-in and installed task types by default) is not changed; for the types of the
    file's own plugins, use `Registry().with_files(spec.plugins)` afterwards.

    Raises:
        WorkflowError: everything that is wrong with the file.
    """
    with gc_paused():
        return _load(read_source(path), registry).spec


def load_with_hints(
    path: str | os.PathLike[str], registry: Registry | None = None
) -> tuple[list[WorkflowSpec], list[Problem]]:
    """Read and check all workflows of a file, and return warnings about what is probably not meant.

    Raises:
        WorkflowError: everything that is wrong with the file.
    """
    from lightflow.parser.hints import find_hints  # only for `validate`

    with gc_paused():
        loaded = _load_all(path, registry)
        hints = [
            hint for each in loaded for part in each.parts() for hint in find_hints(part.tree, part.spec, part.types)
        ]
    return [each.spec for each in loaded], list(dict.fromkeys(hints))


def load_workflows(
    path: str | os.PathLike[str], registry: Registry | None = None, included: set[str] | None = None
) -> list[WorkflowSpec]:
    """Read and check all workflows of a file. The paths of included files are added to `included`, also after an error.

    Raises:
        WorkflowError: everything that is wrong with the file.
    """
    with gc_paused():
        return [each.spec for each in _load_all(path, registry, included)]


class Loaded(Record):
    """A workflow of a file, and what it was made from."""

    spec: WorkflowSpec
    tree: Tree
    types: Registry

    def parts(self) -> Iterator[Loaded]:
        """Yield it and the files that it includes."""
        yield self
        for inclusion in self.tree.includes.values():
            yield from Loaded(spec=inclusion.spec, tree=inclusion.tree, types=inclusion.types).parts()


def _load_all(
    path: str | os.PathLike[str], registry: Registry | None, included: set[str] | None = None
) -> list[Loaded]:
    file, name = split_reference(os.fspath(path))
    loaded, problems = [], list[Problem]()
    for source in [read_source(path)] if name else read_sources(file):
        try:
            loaded.append(_load(source, registry, included))
        except WorkflowError as error:
            problems += error.problems
    if problems:
        raise WorkflowError(problems)
    return loaded


def load_tree(path: str | os.PathLike[str], registry: Registry | None = None) -> Tree:
    """Read and check a workflow file as `load_workflow` does, and return its tree.

    Raises:
        WorkflowError: everything that is wrong with the file.
    """
    with gc_paused():
        return _load(read_source(path), registry).tree


def load_group(path: str | os.PathLike[str], group: str, params: Mapping[str, Any]) -> WorkflowSpec:
    """Read and check a workflow file, and return its tasks as those of a group, which gives it values of parameters.

    Raises:
        WorkflowError: everything that is wrong with the file or with the values.
    """
    with gc_paused():
        loaded = _load(read_source(path), None)
        return in_group(loaded.tree, loaded.spec, group, params)


def loads_workflow(text: str, file: str = "workflow.yaml", registry: Registry | None = None) -> WorkflowSpec:
    """Check the text of a workflow as `load_workflow` does. `file` is its name in messages; `.json` means JSON.

    Raises:
        WorkflowError: everything that is wrong with the text.
    """
    try:
        with gc_paused():
            return _load(parse_text(file, text)[0], registry).spec
    except UnreadableFile as error:
        raise WorkflowError([problem_at(file, error.mark, error.path, error.message)]) from None


def _load(
    source: Source,
    registry: Registry | None,
    included: set[str] | None = None,
    above: Sequence[Ancestor] = (),
) -> Loaded:
    """Take a source through the stages, with the files that it includes.

    `above` are the workflows that execute it in child runs, the nearest last.
    """
    below = (
        *above,
        Ancestor(os.path.abspath(source.file), source.name or os.path.basename(source.file).split(".")[0], None),
    )
    includer = Includer(lambda path, types: _load_source(read_source(path), types, includer, below), registry)
    try:
        return _load_source(source, registry, includer, above)
    finally:
        if included is not None:
            included |= includer.paths


def _load_source(source: Source, registry: Registry | None, includer: Includer, above: Sequence[Ancestor]) -> Loaded:
    """Take a source through the stages: declare its task types, normalize it, check it, build the specification."""
    types = registry.copy() if registry else Registry()
    plugins, plugin_problems = declare_plugins(source, types)
    types.use(_type_names(source.tree))
    schema = normalized_schema(types.described())
    tree = normalize(source, schema, types, includer.include)
    checked = validate(tree, schema, types)
    name, name_problems = _name(tree)
    included_problems = (problem for problems in tree.not_included.values() for problem in problems)
    problems = [*plugin_problems, *checked.problems, *name_problems, *included_problems]
    if problems:
        raise WorkflowError(problems)
    spec = _build(checked, name, plugins, types)
    if any(task.type == CHILD_WORKFLOW for task in spec.tasks.values()):
        from lightflow.parser.child_workflows import ChildWorkflows  # few workflows have child runs

        children = ChildWorkflows(spec, tree, above, lambda child, line: _load(child, registry, above=line).spec)
        if problems := list(children.problems()):
            raise WorkflowError(problems)
    return Loaded(spec=spec, tree=tree, types=types)


def _type_names(tree: Any) -> Iterator[str]:
    """Yield the names that may be task types: the values of all keys `type`, apart from the types of parameters."""
    remaining = [tree]
    while remaining:
        node = remaining.pop()
        if isinstance(node, dict):
            name = node.get("type")
            if isinstance(name, str) and name not in PARAM_TYPES:
                yield name
            remaining += node.values()
        elif isinstance(node, list):
            remaining += node


def _name(tree: Tree) -> tuple[str, list[Problem]]:
    """Return the name of the workflow: the one in the file, or the name of the file."""
    name = tree.root.get("workflow_name")
    if name is not None:
        return str(name), []
    name = os.path.basename(tree.source.file).split(".")[0]
    if re.fullmatch(ID_PATTERN, name):
        return name, []
    return name, [
        problem_at(tree.source.file, None, "", 'the file name is not a valid workflow name; add "workflow_name"')
    ]


def _build(checked: Checked, name: str, plugins: list[str], types: Registry) -> WorkflowSpec:
    """Return the specification of a file without problems."""
    tree, root = checked.tree, checked.tree.root
    path = os.path.abspath(tree.source.file)
    settings = build_settings(root)
    builder = TaskBuilder(
        tree,
        checked.expressions,
        checked.conditions,
        registry=types,
        path=path,
        default_retries=settings.retries,
    )
    tasks = {}
    for node in tree.task_nodes:
        if not node.is_hook:
            tasks[node.id] = builder.build(node)
            if node.id in tree.includes:
                tasks |= tree.includes[node.id].tasks
    spec = WorkflowSpec(
        name=name,
        tasks=tasks,
        settings=settings,
        path=path,
        reference=f"{path}#{name}" if tree.source.of_several else path,
        description=root.get("description", ""),
        env=builder.env,
        plugins=tuple(plugins),
        digest=digest_of([name, {task_id: task.digest for task_id, task in tasks.items()}]),
        params=checked.params,
        dotenv=builder.env_files,
        secrets=checked.secrets,
        hooks=build_hooks(hook_nodes("", root, root.get("cwd")), builder.build),
        limits=replace(
            build_limits(root), triggers=build_triggers(root), clusters=build_clusters(root, os.path.dirname(path))
        ),
        outputs=root.get("outputs", {}),
        output_expressions=checked.outputs,
    )
    return with_includes(tree, spec) if tree.includes else spec
