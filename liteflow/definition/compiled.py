"""A compiled dag: the form in which the loop runs it. Tasks are numbers, and each has one record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

from liteflow.hooks import HookDef, StartCheck
from liteflow.limits import Pool
from liteflow.planning.branching import Branching
from liteflow.planning.control_flow import NO_CONTROL_FLOW, ControlFlow
from liteflow.planning.graph import Graph
from liteflow.planning.ready_queue import DEFAULT_QUEUE, QueueOptions
from liteflow.planning.retry import NEVER, RetryPolicy
from liteflow.planning.trigger_rules import TriggerRule
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.repeat import Repeat
from liteflow.work import Body, Expansion, Ref

#: A node without an attempt: the join of a group, which represents it, or its entry.
Gate = Literal["group", "entry"]


class TaskSettings(Record):
    """How a task runs. All tasks without options share `DEFAULT_SETTINGS`."""

    trigger_rule: TriggerRule = "all_success"
    retry: RetryPolicy = NEVER
    #: priority, parallel instances and pool slots
    queue: QueueOptions = DEFAULT_QUEUE
    #: seconds an attempt may take
    timeout_s: float | None = None
    #: seconds between the polite and the hard signal; None: as the run says
    grace_s: float | None = None
    #: the execution mode; None: as the run says
    mode: str | None = None
    #: values of upstream tasks beyond return values, each with the number of the task
    reads: Sequence[tuple[int, Ref]] = ()
    #: the lists that a mapped task is mapped over; None: it is not mapped
    expansion: Expansion | None = None
    #: whether the first failed instance of a mapped task ends the other instances
    fail_fast: bool = False
    #: how the return value of a branch or short circuit skips downstream tasks
    decider: Branching | None = None
    #: how the task is repeated; None: it runs once
    repeat: Repeat | None = None
    #: the steps between a satisfied trigger rule and the start: `if`, preconditions, the hook `on_start`
    start_checks: Sequence[StartCheck] = ()
    #: the role of a node without an attempt; None: it is a task
    gate: Gate | None = None
    #: the hooks by event; preconditions that are tasks count as `precondition_1` and so on
    hooks: Mapping[str, HookDef] = EMPTY_MAPPING


DEFAULT_SETTINGS: Final = TaskSettings()


class TaskDef(Record):
    """One task of a compiled dag, which may have 100,000 of them."""

    #: what executors run
    body: Body
    #: the numbers of the upstream tasks whose return values it takes
    inputs: Sequence[int] = ()
    settings: TaskSettings = DEFAULT_SETTINGS


class CompiledDag(Record):
    """A checked dag in the form that the loop runs: the number of a task is its place in `tasks`."""

    dag_id: str
    #: with the edges from the tasks of a setup's scope to its teardown
    graph: Graph
    tasks: Sequence[TaskDef]
    #: of the stored graph
    digest: str
    #: the stored graph as JSON
    snapshot: str
    description: str = ""
    #: the file that defines the dag
    source: str | None = None
    pools: Mapping[str, Pool]
    control: ControlFlow = NO_CONTROL_FLOW
    #: the hooks of the run by event
    run_hooks: Mapping[str, HookDef]

    def special(self) -> Iterator[tuple[int, TaskSettings]]:
        """Yield the settings of the tasks that do not run as all others, with the numbers of the tasks."""
        return ((node, task.settings) for node, task in enumerate(self.tasks) if task.settings is not DEFAULT_SETTINGS)

    def hooks(self) -> Iterator[HookDef]:
        """Yield all hooks: those of the tasks in order, then those of the run."""
        for _, settings in self.special():
            yield from settings.hooks.values()
        yield from self.run_hooks.values()

    def bodies(self) -> dict[str, Body]:
        """Return what executors run, by the ids of tasks and hooks. A node without an attempt is left out."""
        bodies = {
            task_id: task.body
            for task_id, task in zip(self.graph.ids, self.tasks, strict=True)
            if task.settings.gate is None
        }
        bodies.update((hook.task_id, hook.body) for hook in self.hooks())
        return bodies

    def with_undo(self) -> frozenset[str]:
        """Return the ids of the tasks and hooks that have an undo."""
        return frozenset(task_id for task_id, body in self.bodies().items() if body.undo is not None)

    def modes(self) -> dict[str, str]:
        """Return the execution modes of tasks and hooks that have their own, by id."""
        modes = {self.graph.ids[node]: settings.mode for node, settings in self.special() if settings.mode is not None}
        modes.update((hook.task_id, hook.mode) for hook in self.hooks() if hook.mode is not None)
        return modes

    def with_timeout(self) -> list[str]:
        """Return the ids of the tasks and hooks that have a timeout."""
        ids = [self.graph.ids[node] for node, settings in self.special() if settings.timeout_s is not None]
        return ids + [hook.task_id for hook in self.hooks() if hook.timeout_s is not None]

    def mapped(self) -> dict[int, Expansion]:
        """Return what the mapped tasks are mapped over, by number."""
        return {node: settings.expansion for node, settings in self.special() if settings.expansion is not None}

    def repeats(self) -> dict[int, Repeat]:
        """Return how the tasks are repeated that run more than once, by number."""
        return {node: settings.repeat for node, settings in self.special() if settings.repeat is not None}

    def deciders(self) -> dict[int, Branching]:
        """Return the branches and short circuits, by number."""
        return {node: settings.decider for node, settings in self.special() if settings.decider is not None}

    def gates(self) -> dict[int, Gate]:
        """Return the nodes without an attempt, by number."""
        return {node: settings.gate for node, settings in self.special() if settings.gate is not None}

    def rules(self) -> dict[int, TriggerRule]:
        """Return the trigger rules that are not `all_success`, by number."""
        return {node: each.trigger_rule for node, each in self.special() if each.trigger_rule != "all_success"}

    def has_hooks(self) -> bool:
        """Whether a task or the run has a hook."""
        return next(self.hooks(), None) is not None
