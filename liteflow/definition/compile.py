"""Compile a dag: from tasks and options to one record per task, for the loop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from liteflow.definition.compiled import DEFAULT_SETTINGS, CompiledDag, TaskDef, TaskSettings
from liteflow.definition.graph_json import graph_json
from liteflow.definition.groups import DagNodes
from liteflow.definition.options import NO_OPTIONS, FlowOptions, TaskOptions
from liteflow.definition.task import NO_HOOKS, Task
from liteflow.errors import DefinitionError, DuplicateTask
from liteflow.hooks import RUN_OWNER, HookDef, StartCheck
from liteflow.limits import DagLimits, check_slot_needs, checked_mode
from liteflow.planning.branching import Branching
from liteflow.planning.control_flow import ControlFlow, Tolerance
from liteflow.planning.graph import Graph
from liteflow.planning.ready_queue import DEFAULT_QUEUE, QueueOptions
from liteflow.planning.retry import NEVER, RetryPolicy
from liteflow.planning.setup_teardown import Teardown, between, needed_setups
from liteflow.repeat import checked_repeat
from liteflow.values.secrets import Secret, unknown_secret_message
from liteflow.work import Body, Call, Ref, stays_here


def compile_dag(
    dag_id: str,
    nodes: DagNodes,
    graph: Graph,
    *,
    description: str = "",
    source: str | None = None,
    hooks: Mapping[str, Task],
    secrets: Mapping[str, Secret],
    limits: DagLimits,
) -> CompiledDag:
    """Return the compiled dag of these nodes; `hooks` are those of the run, by event.

    Raises:
        DefinitionError: a task needs slots of a pool that does not exist or is too small, or a secret that does not
            exist; an option does not fit the task.
        DuplicateTask: a hook has the id of a task.
    """
    tasks = nodes.tasks
    compiler = _Compiler(nodes, graph, secrets, limits.clusters)
    defs = [compiler.task(node, task) for node, task in enumerate(tasks.values())]
    needs = {
        task_id: task.settings.queue.needs
        for task_id, task in zip(tasks, defs, strict=True)
        if task.settings.queue is not DEFAULT_QUEUE
    }
    check_slot_needs(needs, {name: pool.slots for name, pool in limits.pools.items()})
    digest, text = graph_json(nodes, graph, (task.body for task in defs))
    control = compiler.control()
    return CompiledDag(
        dag_id=dag_id,
        graph=compiler.full_graph(control),
        tasks=defs,
        digest=digest,
        snapshot=text,
        description=description,
        source=source,
        pools=limits.pools,
        control=control,
        run_hooks={event: compiler.hook(hook, event, RUN_OWNER) for event, hook in hooks.items()},
    )


class _Compiler:
    """Compiles the tasks in order and collects the facts about the graph as a whole."""

    def __init__(self, nodes: DagNodes, graph: Graph, secrets: Mapping[str, Secret], clusters: Collection[str]) -> None:
        self._nodes = nodes
        self._tasks = nodes.tasks
        self._graph = graph
        self._secrets = secrets
        self._clusters = clusters
        self._hook_ids: set[str] = set()
        self._setups: set[int] = set()
        self._teardowns: dict[int, bool] = {}
        self._status_readers: set[int] = set()
        self._checked: set[int] = set()
        self._tolerances: dict[int, Tolerance] = {}
        self._shared: dict[int, TaskSettings] = {id(NO_OPTIONS): DEFAULT_SETTINGS}  # by the identity of options

    # -- one task --------------------------------------------------------------------------------------------

    def task(self, node: int, task: Task) -> TaskDef:
        """Return the record of a task."""
        options, body = task.options, task.body()
        for name in body.secrets:
            if name not in self._secrets:
                raise DefinitionError(f"task {task.task_id!r}: {unknown_secret_message(name, self._secrets)}")
        reads = self._reads_of(body)
        inputs: tuple[int, ...] = ()
        if wanted := task.inputs():
            index = self._graph.index
            inputs = tuple(index[ref.task_id] for ref in wanted if ref.key == "return_value")
            reads += tuple((index[ref.task_id], ref) for ref in wanted if ref.key != "return_value")
        is_gate = task.task_id in self._nodes.gates
        if (
            options is NO_OPTIONS
            and task.task_hooks is NO_HOOKS
            and task.expansion is None
            and not reads
            and not is_gate
        ):
            return TaskDef(body=body, inputs=inputs)
        return TaskDef(body=body, inputs=inputs, settings=self._settings(node, task, reads))

    def _reads_of(self, body: Body) -> tuple[tuple[int, Ref], ...]:
        """Return the values of tasks that a deferred body takes, each with the number of the task."""
        if body.late is None:
            return ()
        return tuple((self._graph.index[ref.task_id], ref) for ref in body.late.reads)

    def _settings(self, node: int, task: Task, reads: Sequence[tuple[int, Ref]]) -> TaskSettings:
        options, flow = task.options, task.options.flow
        self._collect_graph_facts(node, flow)
        gate = self._nodes.gates.get(task.task_id)
        special = bool(
            reads or options.hooks or task.task_hooks is not NO_HOOKS or task.expansion is not None or gate is not None
        )
        special = special or flow.branch  # the names of its downstream tasks belong to it alone
        if not special and (shared := self._shared.get(id(options))) is not None:
            return shared
        hooks = {event: self.hook(hook, event, node) for event, hook in task.hooks().items()}
        checks = self._start_checks(node, task, hooks.get("on_start"))
        if checks:
            self._checked.add(node)
            tasks = [check.hook for check in checks if check.hook is not None and check.status_if_failed is not None]
            hooks |= {f"precondition_{number}": hook for number, hook in enumerate(tasks, start=1)}
        settings = TaskSettings(
            trigger_rule="all_done_setup_success" if flow.teardown else flow.trigger_rule,
            retry=_retry(options),
            queue=self._queue(task),
            timeout_s=_seconds(options.timeout_s),
            grace_s=_seconds(options.grace_s),
            mode=self._mode(task),
            reads=reads,
            expansion=task.expansion,
            fail_fast=task.expansion is not None and options.fail_fast,
            decider=self._decider(node, task),
            start_checks=checks,
            repeat=checked_repeat(options.repeat, task.task_id),
            hooks=hooks,
            gate=gate,
        )
        if not special:
            self._shared[id(options)] = settings
        return settings

    def _queue(self, task: Task) -> QueueOptions:
        """Return when a task leaves the queue. Raises DefinitionError: it holds slots in a wait that it cannot have."""
        queue = task.options.queue
        if queue == DEFAULT_QUEUE:
            return DEFAULT_QUEUE
        if queue.holds:
            body = task.body()
            poll = body.poll if isinstance(body, Call) else None
            if poll is None:
                raise DefinitionError(
                    f"task {task.task_id!r}: pool_while_waiting is for a task that waits, such as a sensor"
                )
            if poll.child is not None:
                raise DefinitionError(
                    f"task {task.task_id!r}: pool_while_waiting is not for a child run, whose tasks might wait for "
                    "these slots without end; give these tasks the pool"
                )
        return queue

    def _mode(self, task: Task) -> str | None:
        """Return the mode of a task. Raises DefinitionError: there is none of that name, or the task cannot have it."""
        mode = checked_mode(task.options.mode, self._clusters, task.task_id)
        if mode in self._clusters and stays_here(task.body()):
            raise DefinitionError(
                f"task {task.task_id!r} cannot run on cluster {mode!r}: a task that waits without a worker, or whose "
                "call says so, runs on the machine of the run; remove its mode"
            )
        return mode

    def _collect_graph_facts(self, node: int, flow: FlowOptions) -> None:
        """Collect the facts about a task that concern other tasks."""
        if flow.setup:
            self._setups.add(node)
        if flow.teardown:
            self._teardowns[node] = flow.on_failure_fail_run
        if flow.tolerance is not None:
            self._tolerances[node] = flow.tolerance

    def _decider(self, node: int, task: Task) -> Branching | None:
        """Return how a branch or short circuit decides. Raises DefinitionError where the task is mapped."""
        flow = task.options.flow
        decides = flow.branch or flow.short_circuit
        if (decides or flow.teardown) and task.expansion is not None:
            what = "a teardown" if flow.teardown else "a branch or short circuit"
            raise DefinitionError(f"task {task.task_id!r} is mapped over a list, so it cannot be {what}")
        if not decides:
            return None
        return Branching(
            kind="branch" if flow.branch else "short_circuit",
            skips_all=flow.ignore_downstream_trigger_rules,
            names=self._other_names(node, task.group) if flow.branch else {},
        )

    def _other_names(self, node: int, group: str) -> dict[str, str]:
        """Return the names, besides their ids, by which a branch in a group can choose its direct downstream tasks."""
        names: dict[str, str] = {}
        for downstream in self._graph.downstream[node]:
            task_id = self._graph.ids[downstream]
            is_entry = self._nodes.gates.get(task_id) == "entry"
            name = self._tasks[task_id].group if is_entry else task_id
            names[name] = task_id
            if group and name.startswith(f"{group}."):
                names[name.removeprefix(f"{group}.")] = task_id
        return names

    def _start_checks(self, node: int, task: Task, on_start: HookDef | None) -> tuple[StartCheck, ...]:
        checks = []
        task_hooks = task.task_hooks
        if task_hooks.condition is not None:
            if task_hooks.condition.reads_status:
                self._status_readers.add(node)
            checks.append(
                StartCheck(condition=task_hooks.condition, message=f"if: {task_hooks.condition.text} is false")
            )
        for precondition in task_hooks.preconditions:
            condition = precondition.condition
            hook = None if precondition.task is None else self.hook(precondition.task, "precondition", node)
            text = "" if condition is None else f"precondition: {condition.text} is false"
            status: Literal["FAILED", "SKIPPED"] = "FAILED" if precondition.fails else "SKIPPED"
            checks.append(
                StartCheck(
                    condition=condition, hook=hook, status_if_failed=status, message=precondition.message or text
                )
            )
        if on_start is not None:
            checks.append(StartCheck(hook=on_start, status_if_failed=None))
        return tuple(checks)

    def hook(self, hook: Task, event: str, owner: int) -> HookDef:
        """Return the record of a hook; `owner` is the number of its task, or `RUN_OWNER`."""
        hook_id, options, body = hook.task_id, hook.options, hook.body()
        if hook_id in self._tasks or hook_id in self._hook_ids:
            raise DuplicateTask(
                f"a task cannot be called {hook_id!r}: that is the id of a hook; choose another task id"
            )
        if isinstance(body, Call) and body.poll is not None:
            raise DefinitionError(f"hook {hook_id!r} cannot wait: make it a task, which others depend on")
        self._hook_ids.add(hook_id)
        wanted = (*(body.late.reads if body.late is not None else ()), *sorted(hook.inputs()))
        for ref in wanted:
            if ref.task_id not in self._graph.index:
                raise DefinitionError(f"hook {hook_id!r} reads a value of {ref.task_id!r}, which is not a task")
        return HookDef(
            task_id=hook_id,
            event=event,
            owner=owner,
            body=body,
            retry=_retry(options),
            timeout_s=_seconds(options.timeout_s),
            grace_s=_seconds(options.grace_s),
            mode=checked_mode(options.mode, (), hook_id),
            reads=tuple((self._graph.index[ref.task_id], ref) for ref in wanted),
        )

    # -- the graph as a whole ----------------------------------------------------------------------------------

    def control(self) -> ControlFlow:
        """Return the facts about the graph beyond edges and trigger rules, once all tasks are compiled."""
        upstream, downstream = self._graph.upstream, self._graph.downstream
        teardowns = {
            node: Teardown(tuple(task for task in upstream[node] if task in self._setups), fails_run)
            for node, fails_run in self._teardowns.items()
        }
        needs = needed_setups(self._setups, teardowns, upstream, downstream) if self._setups else {}
        index = self._graph.index
        return ControlFlow(
            checked=frozenset(self._checked),
            tolerances=self._tolerances,
            setups=frozenset(self._setups),
            teardowns=teardowns,
            needed_setups=needs,
            status_readers=frozenset(self._status_readers),
            joins=frozenset(index[node] for node, gate in self._nodes.gates.items() if gate == "group"),
            entries={
                index[entry]: tuple(index[node] for node in inside if index[node] not in teardowns)
                for entry, inside in self._nodes.inside.items()
            },
        )

    def full_graph(self, control: ControlFlow) -> Graph:
        """Return the graph in which a teardown also waits for all tasks between its setups and itself."""
        graph, ids = self._graph, self._graph.ids
        scopes = {
            node: between(teardown.setups, node, graph.upstream, graph.downstream)
            for node, teardown in control.teardowns.items()
        }
        if all(set(scope) <= set(graph.upstream[node]) for node, scope in scopes.items()):
            return graph
        return Graph(
            {
                task_id: {ids[upstream] for upstream in (*graph.upstream[node], *scopes.get(node, ()))}
                for node, task_id in enumerate(ids)
            }
        )


def _retry(options: TaskOptions) -> RetryPolicy:
    return options.retry if options.retry.retries else NEVER


def _seconds(value: float | None) -> float | None:
    return None if value is None else float(value)
