"""A dag in the form that the loop runs: tasks are numbers, what is said of them stands in tables."""

from __future__ import annotations

from collections.abc import Mapping

from liteflow.definition.snapshot import snapshot
from liteflow.definition.tasks import Task
from liteflow.definition.wiring import wired
from liteflow.errors import DefinitionError
from liteflow.limits import Pool, check_needs
from liteflow.planning.graph import Graph
from liteflow.planning.ready import PLAIN
from liteflow.planning.retry import NEVER
from liteflow.planning.rules import TriggerRule
from liteflow.program import Program
from liteflow.values.secrets import Secret, unknown
from liteflow.work import Body, Ref


def compiled(
    dag_id: str,
    description: str,
    source: str | None,
    tasks: Mapping[str, Task],
    graph: Graph,
    hooks: Mapping[str, Task],
    secrets: Mapping[str, Secret],
    pools: Mapping[str, Pool],
) -> Program:
    """The program of these tasks; `hooks` are the run's own, by event.

    Raises:
        DefinitionError: a task needs slots of a pool that is not there, or is too small; a secret that is not there.
    """
    bodies: dict[str, Body] = {}
    inputs, retries = {}, {}
    rules: dict[int, TriggerRule] = {}
    reads: dict[int, tuple[tuple[int, Ref], ...]] = {}
    timeouts, graces, modes, expansions, fail_fast, orders = {}, {}, {}, {}, {}, {}
    for node, (task_id, task) in enumerate(tasks.items()):
        body = bodies[task_id] = task.body()
        if body.late is not None and body.late.reads:
            reads[node] = tuple((graph.index[ref.task_id], ref) for ref in body.late.reads)
        for name in body.secrets:
            if name not in secrets:
                raise DefinitionError(f"task {task_id!r}: {unknown(name, secrets)}")
        wanted = task.inputs()
        if wanted:
            inputs[node] = tuple(graph.index[ref.task_id] for ref in wanted if ref.key == "return_value")
            others = [ref for ref in wanted if ref.key != "return_value"]
            if others:
                reads[node] = (*reads.get(node, ()), *[(graph.index[ref.task_id], ref) for ref in others])
        options = task.options
        if options.retries and (policy := options.policy) != NEVER:
            retries[node] = policy
        if options.teardown:
            rules[node] = "all_done_setup_success"
        elif options.trigger_rule != "all_success":
            rules[node] = options.trigger_rule
        if options.timeout is not None:
            timeouts[node] = float(options.timeout)
        if options.kill_grace is not None:
            graces[node] = float(options.kill_grace)
        if options.mode is not None:
            modes[task_id] = options.mode
        if task.expansion is not None:
            expansions[node], fail_fast[node] = task.expansion, options.fail_fast
        if (order := options.order) != PLAIN:
            orders[node] = order
    check_needs(
        {graph.ids[node]: order.needs for node, order in orders.items()},
        {name: pool.slots for name, pool in pools.items()},
    )
    digest, text = snapshot(tasks, graph, bodies)
    around = wired(tasks, hooks, graph)
    return Program(
        dag_id,
        around.graph,
        {**bodies, **around.bodies} if around.bodies else bodies,
        inputs,
        retries,
        rules,
        timeouts,
        graces,
        {**modes, **around.modes},
        digest,
        text,
        description,
        source,
        reads,
        expansions,
        fail_fast,
        orders,
        pools,
        around.control,
        around.deciders,
        around.gates,
        around.hooks,
        around.limits,
    )
