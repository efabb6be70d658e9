"""`Group`, the tasks of a `with dag.group(…)` block, and the nodes that the groups of a dag become.

`liteflow.planning.groups` says which nodes and edges these are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Protocol

from liteflow.definition.compiled import Gate
from liteflow.definition.options import DEFAULT_FLOW, NO_OPTIONS, TaskOptions, make_options
from liteflow.definition.task import NO_HOOKS, CurrentDag, Task, TaskHooks
from liteflow.errors import DefinitionError
from liteflow.planning.groups import Grouping, group_mistakes, group_nodes
from liteflow.record import EMPTY_MAPPING, Record, replace
from liteflow.work import KEYWORDS, Call

#: The hooks that a group may have: it has no attempts, so nothing starts, is retried, or is cancelled by itself.
GROUP_EVENTS: Final = ("on_success", "on_failure", "on_exit")
_INSTEAD: Final = {
    "retries": "set it on its tasks: a group is not tried again as a whole",
    "timeout": "set it on its tasks, or on the dag",
    "run_if": "put a short circuit before it",
}

_open_groups: ContextVar[tuple[Group, ...]] = ContextVar("liteflow_open_groups", default=())


def _no_work() -> None:
    """Do nothing: a group has no attempt."""


class Group(Task):
    """Tasks that belong together: `with dag.group("load") as load`. `a >> load >> b` connects them as a whole.

    Its state is the worst of its members': FAILED, CANCELLED, UPSTREAM_FAILED, SUCCESS; SKIPPED if all are.
    """

    __slots__ = ("dag",)

    def __init__(
        self,
        group_id: str,
        *,
        dag: CurrentDag | None = None,
        dependencies: Sequence[str] = (),
        options: TaskOptions = NO_OPTIONS,
        task_hooks: TaskHooks = NO_HOOKS,
        group: str = "",
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            group_id,
            body=Call(_no_work),
            dependencies=dependencies,
            options=options,
            task_hooks=task_hooks,
            group=group,
            meta=meta,
        )
        self.dag = dag

    def __enter__(self) -> Group:
        _open_groups.set((*_open_groups.get(), self))
        return self

    def __exit__(self, *_: object) -> None:
        _open_groups.set(_open_groups.get()[:-1])

    def __repr__(self) -> str:
        return f"<Group {self.task_id!r}>"

    def _refused(self, *_: object, **__: object) -> Any:
        raise DefinitionError(f"group {self.task_id!r} has no value, and is neither a setup nor a teardown")

    output = map = as_setup = as_teardown = _refused

    @property
    def is_conditional(self) -> bool:
        """Whether it has a trigger rule, a condition or preconditions, which are decided once for its members."""
        hooks = self.task_hooks
        return hooks.condition is not None or bool(hooks.preconditions) or self.trigger_rule != "all_success"

    def join(self) -> Group:
        """Return the join, which has the hooks of the group."""
        return Group(
            self.task_id,
            options=replace(self.options, flow=DEFAULT_FLOW),
            task_hooks=TaskHooks(hooks=self.task_hooks.hooks),
            group=self.group,
            meta=self.meta,
        )

    def entry(self, name: str) -> Task:
        """Return the entry, which has the trigger rule and the conditions of the group."""
        return Task(
            name,
            body=Call(_no_work),
            options=TaskOptions(flow=self.options.flow),
            task_hooks=replace(self.task_hooks, hooks=EMPTY_MAPPING),
            group=self.task_id,
        )


class TaskSource(Protocol):
    """Tasks that are defined elsewhere, for `Dag.include`."""

    def add_to(self, dag: Any, group: str) -> None:
        """Add the tasks to a dag, each with an id that begins with that of the group and a dot."""


def open_group(dag: CurrentDag) -> str:
    """Return the id of the innermost group of a dag whose `with` block is being executed; empty outside of one."""
    groups = _open_groups.get()
    return next((group.task_id for group in reversed(groups) if group.dag is dag), "") if groups else ""


def nearest_task(tasks: Mapping[str, Task], name: str, group: str) -> Task | None:
    """Return the task that a name means within a group: that of the group, or of the nearest group around it."""
    while group:
        if (task := tasks.get(f"{group}.{name}")) is not None:
            return task
        group = tasks[group].group
    return tasks.get(name)


def group_options(keywords: Mapping[str, Any], group_id: str) -> TaskOptions:
    """Return the options of a group. Raises DefinitionError for those that only tasks have."""
    for name in keywords:
        if name not in (*GROUP_EVENTS, "trigger_rule"):
            raise DefinitionError(f"group {group_id!r} takes no {name!r}; {_INSTEAD.get(name, 'set it on its tasks')}")
    return make_options(keywords, group_id)


class DagNodes(Record):
    """The nodes of a dag: its tasks, and those that its groups become."""

    tasks: Mapping[str, Task]
    dependencies: Mapping[str, Collection[str]]
    gates: Mapping[str, Gate] = EMPTY_MAPPING  #: the nodes without an attempt
    inside: Mapping[str, Sequence[str]] = EMPTY_MAPPING  #: by entry: the tasks and entries in its group


def dag_nodes(tasks: Mapping[str, Task]) -> DagNodes:
    """Return the nodes of a dag with these tasks and groups.

    Raises:
        DefinitionError: a group waits for its own member, or an id looks like that of a member or an entry.
    """
    groups = {task_id: task for task_id, task in tasks.items() if isinstance(task, Group)}
    if not groups:
        return DagNodes(tasks=tasks, dependencies={task_id: task.upstream_ids for task_id, task in tasks.items()})
    grouping = Grouping(
        dependencies={task_id: task.dependencies for task_id, task in tasks.items()},
        groups=groups,
        parents={task_id: task.group for task_id, task in tasks.items() if task.group},
        conditional={group_id for group_id, group in groups.items() if group.is_conditional},
        deciders={task_id for task_id, task in tasks.items() if _decides(task)},
    )
    for mistake in group_mistakes(grouping):
        raise DefinitionError(str(mistake))
    nodes = group_nodes(grouping)
    gates: dict[str, Gate] = {**dict.fromkeys(groups, "group"), **dict.fromkeys(nodes.entries.values(), "entry")}
    owners = {entry: group_id for group_id, entry in nodes.entries.items()}
    return DagNodes(
        tasks={
            name: groups[owners[name]].entry(name)
            if name in owners
            else groups[name].join()
            if name in groups
            else tasks[name]
            for name in nodes.dependencies
        },
        dependencies=nodes.dependencies,
        gates=gates,
        inside=nodes.inside,
    )


def _decides(task: Task) -> bool:
    return task.options.flow.branch or task.options.flow.short_circuit


def fill_parameters(task: Task, tasks: Mapping[str, Task]) -> frozenset[str]:
    """Bind parameters to the upstream tasks of the same names. Return the parameters that still have no value."""
    parameters = task.parameters
    if not parameters.names:
        return parameters.required
    for name in parameters.names:
        has_value = name in task.bound_args or name in task.arg_dependencies or KEYWORDS in task.bound_args
        if not has_value and (other := nearest_task(tasks, name, task.group)) is not None and other is not task:
            task.bind(name, other)
    if KEYWORDS in task.bound_args:
        return frozenset()  # the names of the arguments are only known with the rows of `expand_kwargs`
    return parameters.required - task.bound_args.keys() - task.arg_dependencies.keys()
