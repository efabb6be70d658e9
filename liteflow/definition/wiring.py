"""From tasks to what the loop knows of them beside their work: control, gates, hooks. Nothing for those without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from liteflow.definition.options import NO_OPTIONS
from liteflow.definition.tasks import NOTHING_AROUND, Task
from liteflow.errors import DefinitionError, DuplicateTask
from liteflow.planning.control import Control, Decider, Teardown, Tolerance, between, needed_setups
from liteflow.planning.graph import Graph
from liteflow.planning.retry import NEVER
from liteflow.triggers import THE_RUN, HookSpec, Step
from liteflow.work import Body, Ref


class Wiring(NamedTuple):
    """What surrounds the tasks of a dag; the bodies, modes and timeouts are those of hooks, by their ids."""

    graph: Graph  # with what teardowns wait for
    control: Control
    deciders: Mapping[int, Decider]
    gates: Mapping[int, tuple[Step, ...]]
    hooks: Mapping[int, Mapping[str, HookSpec]]
    bodies: Mapping[str, Body]
    modes: Mapping[str, str]
    limits: Mapping[str, float]


def wired(tasks: Mapping[str, Task], own: Mapping[str, Task], graph: Graph) -> Wiring:
    """All of it. `own` are the run's hooks.

    Raises:
        DefinitionError, DuplicateTask: names the task.
    """
    wiring = _Wiring(tasks, graph)
    for node, task in enumerate(tasks.values()):
        if task.options is not NO_OPTIONS or task.around is not NOTHING_AROUND:
            wiring.add(node, task)
    if own:
        wiring.hooks[THE_RUN] = {event: wiring.hook(hook, event, THE_RUN) for event, hook in own.items()}
    return wiring.done()


class _Wiring:
    def __init__(self, tasks: Mapping[str, Task], graph: Graph) -> None:
        self._tasks = tasks
        self._graph = graph
        self._setups: set[int] = set()
        self._teardowns: dict[int, bool] = {}
        self._watchers: set[int] = set()
        self._tolerant: dict[int, Tolerance] = {}
        self._deciders: dict[int, Decider] = {}
        self._gates: dict[int, tuple[Step, ...]] = {}
        self.hooks: dict[int, Mapping[str, HookSpec]] = {}
        self._bodies: dict[str, Body] = {}
        self._modes: dict[str, str] = {}
        self._limits: dict[str, float] = {}

    def add(self, node: int, task: Task) -> None:
        options = task.options
        if options.setup:
            self._setups.add(node)
        if options.teardown:
            self._teardowns[node] = options.on_failure_fail_run
        if (options.branch or options.short_circuit or options.teardown) and task.expansion is not None:
            what = "a teardown" if options.teardown else "a branch or short circuit"
            raise DefinitionError(f"task {task.task_id!r} is mapped over a list, so it cannot be {what}")
        if options.branch or options.short_circuit:
            kind = "branch" if options.branch else "short_circuit"
            self._deciders[node] = Decider(kind, options.ignore_downstream_trigger_rules)  # type: ignore[arg-type]
        tolerated = options.continue_on_error
        if tolerated is True:
            self._tolerant[node] = Tolerance()
        elif tolerated:
            names = [one.__name__ if isinstance(one, type) else one for one in tolerated if not isinstance(one, int)]
            self._tolerant[node] = Tolerance(tuple(one for one in tolerated if isinstance(one, int)), tuple(names))
        specs = {event: self.hook(hook, event, node) for event, hook in task.hooks().items()}
        steps = self._steps(node, task, specs.get("on_start"))
        if steps:
            self._gates[node] = steps
            asked = [step.hook for step in steps if step.hook is not None and step.otherwise is not None]
            specs |= {f"precondition_{number}": hook for number, hook in enumerate(asked, start=1)}
        if specs:
            self.hooks[node] = specs

    def _steps(self, node: int, task: Task, start: HookSpec | None) -> tuple[Step, ...]:
        steps = []
        around = task.around
        if around.condition is not None:
            if around.condition.watches:
                self._watchers.add(node)
            steps.append(Step(around.condition, message=f"if: {around.condition.text} is false"))
        for one in around.preconditions:
            hook = None if one.task is None else self.hook(one.task, "precondition", node)
            text = "" if one.condition is None else f"precondition: {one.condition.text} is false"
            steps.append(Step(one.condition, hook, "FAILED" if one.fails else "SKIPPED", one.message or text))
        if start is not None:
            steps.append(Step(hook=start, otherwise=None))
        return tuple(steps)

    def hook(self, hook: Task, event: str, owner: int) -> HookSpec:
        """Make a hook known to the executors and to the loop."""
        task_id, options = hook.task_id, hook.options
        if task_id in self._tasks or task_id in self._bodies:
            raise DuplicateTask(
                f"a task cannot be called {task_id!r}: that is the id of a hook; choose another task id"
            )
        body = self._bodies[task_id] = hook.body()
        if options.mode is not None:
            self._modes[task_id] = options.mode
        if options.timeout is not None:
            self._limits[task_id] = float(options.timeout)
        reads: list[tuple[int, Ref]] = []
        for ref in body.late.reads if body.late is not None else ():
            if ref.task_id not in self._graph.index:
                raise DefinitionError(f"hook {task_id!r} reads a value of {ref.task_id!r}, which is no task")
            reads.append((self._graph.index[ref.task_id], ref))
        policy = options.policy if options.retries else NEVER
        return HookSpec(task_id, event, owner, policy, options.timeout, options.kill_grace, tuple(reads))

    def done(self) -> Wiring:
        graph, teardowns = self._graph, dict[int, Teardown]()
        more: dict[int, list[int]] = {}
        for node, counts in self._teardowns.items():
            setups = tuple(above for above in graph.upstream[node] if above in self._setups)
            teardowns[node] = Teardown(setups, counts)
            more[node] = between(setups, node, graph.upstream, graph.downstream)
        needs = needed_setups(self._setups, teardowns, graph.upstream, graph.downstream) if self._setups else {}
        if any(set(found) - set(graph.upstream[node]) for node, found in more.items()):
            ids = graph.ids
            graph = Graph(
                {
                    task_id: {ids[above] for above in (*graph.upstream[node], *more.get(node, ()))}
                    for node, task_id in enumerate(ids)
                }
            )
        control = Control(
            frozenset(self._gates), self._tolerant, teardowns, needs, frozenset(self._watchers), frozenset(self._setups)
        )
        return Wiring(graph, control, self._deciders, self._gates, self.hooks, self._bodies, self._modes, self._limits)
