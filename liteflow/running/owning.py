"""Becoming the owner of a run, and the plan of what is left to do in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import OwnerDied
from liteflow.planning.control import ControlFlow
from liteflow.planning.graph import Graph
from liteflow.planning.plan import EarlierPart, Plan, PlanOptions
from liteflow.planning.ready_queue import DEFAULT_QUEUE
from liteflow.planning.retry import NEVER
from liteflow.planning.setup_teardown import to_set_up_again
from liteflow.processes.tree import sweep_session
from liteflow.running.observers import RunConfig
from liteflow.state.records import NewInstance, NewRun, PreviousInstance, PreviousState, SharedLimits
from liteflow.state.store import Store
from liteflow.states import TaskStatus

_SWEEP_S: Final = 25.0  # how long a dead owner's guardian may take to end what it had started


class Owned(NamedTuple):
    """What a run has already: of each task, and of the instances of mapped ones by index."""

    tasks: Mapping[str, PreviousState]
    instances: Mapping[str, Mapping[int, PreviousInstance]] = {}

    def done(self, graph: Graph) -> dict[int, TaskStatus]:
        """The tasks that are kept as they are; one that was removed from the definition has only its history."""
        return {
            graph.index[task_id]: cast(TaskStatus, one.status)
            for task_id, one in self.tasks.items()
            if one.status in ("SUCCESS", "SKIPPED") and task_id in graph.index
        }


def make(program: CompiledDag, options: RunConfig, store: Store, session: int | None) -> Owned:
    """Store the new run as ours. Raises what `Store.create` does."""
    settings: dict[str, Any] = {"mode": options.mode, "max_workers": options.max_workers, "log_dir": options.log_dir}
    for observer in options.observers:
        settings |= getattr(observer, "settings", {})
    run = NewRun(
        options.run_id,
        program.dag_id,
        program.description,
        program.digest,
        program.snapshot,
        _instances(program),
        options.params,
        options.logical_date,
        source=program.source,
        settings=settings,
        done=options.done,
    )
    store.create(run, session, _bounds(program, options))
    return Owned({task_id: PreviousState("SUCCESS", 1) for task_id in options.done})


def take_over(program: CompiledDag, options: RunConfig, store: Store, session: int | None) -> Owned:
    """Take the run over; where its owner is dead and its guardian still at the killing, wait for that.

    Raises what `Store.claim` does.
    """
    give_up = time.monotonic() + _SWEEP_S
    definition, bounds = (program.digest, program.snapshot), _bounds(program, options)
    while True:
        try:
            tasks, instances, before = store.claim(options.run_id, _instances(program), definition, session, bounds)
            break
        except OwnerDied:
            if time.monotonic() >= give_up:
                raise
            time.sleep(0.01)
    if before is not None:
        # Had the last owner and its guardian been killed at the same instant, its tasks might still be alive.
        sweep_session(before)
    return Owned(tasks, instances)


def set_up_again(program: CompiledDag, owned: Owned, store: Store) -> Owned:
    """Of a run that goes on: what was taken down, and is needed once more, is to run again (see `control`)."""
    control, ids = program.control, program.graph.ids
    ended, succeeded, last = dict[str, int](), dict[str, int](), dict[str, str]()
    for number, (task_id, map_index, previous, status) in enumerate(store.task_events(), start=1):
        if status == "SUCCESS":  # of a mapped setup, each instance counts
            succeeded[task_id] = number
        if map_index < 0:
            last[task_id] = status
            if previous == "RUNNING" or (previous, status) == ("QUEUED", "LOST"):  # the latter may have started
                ended[task_id] = number
    down = [
        node
        for node, (setups, _) in control.teardowns.items()
        if setups and ended.get(ids[node], 0) > max(succeeded.get(ids[one], 0) for one in setups)
    ]
    if not down:
        return owned
    done = owned.done(program.graph)
    checked = {
        node
        for node in control.gated
        if any(step.hook and step.status_if_failed for step in program.tasks[node].settings.start_checks)
    }
    to_do = {  # what was skipped will be skipped again, save where that was for a precondition, which may hold now
        node
        for node, task_id in enumerate(ids)
        if node not in done and (last.get(task_id) != "SKIPPED" or node in checked)
    }
    again = to_set_up_again(
        control.setups,
        control.teardowns,
        program.graph.upstream,
        program.graph.downstream,
        to_do=to_do,
        torn_down=down,
    )
    undone = {
        ids[node]: _undone(node, control, ids, down)
        for node in sorted(again)
        if node in done or any(one.status != "PENDING" for one in owned.instances.get(ids[node], {}).values())
    }
    if not undone:
        return owned
    store.reset_tasks(undone)
    tasks = {**owned.tasks, **{task_id: PreviousState("PENDING", owned.tasks[task_id].attempts) for task_id in undone}}
    waiting = {
        task_id: {index: one._replace(status="PENDING") for index, one in instances.items()}
        for task_id, instances in owned.instances.items()
        if task_id in undone
    }
    return Owned(tasks, {**owned.instances, **waiting})


def _undone(node: int, control: ControlFlow, ids: Sequence[str], down: Sequence[int]) -> str:
    if node in control.teardowns:
        return "what it takes down is set up again"
    by = next((ids[one] for one in down if node in control.teardowns[one].setups), None)
    return "what it stands on is set up again" if by is None else f"{by} has taken it down, and it is needed again"


def planned(
    program: CompiledDag,
    options: RunConfig,
    owned: Owned,
    done: Mapping[int, TaskStatus],
    skips: Mapping[int, Mapping[int, str]] | None,
) -> Plan:
    """The plan of what is left; `skips` as in `Plan`."""
    index, special = program.graph.index, list(program.special())
    return Plan(
        program.graph,
        PlanOptions(
            retries={node: settings.retry for node, settings in special if settings.retry is not NEVER},
            rules={node: settings.trigger_rule for node, settings in special if settings.trigger_rule != "all_success"},
            queue={node: settings.queue for node, settings in special if settings.queue is not DEFAULT_QUEUE},
            fail_fast=options.fail_fast,
            seed=options.run_id,
            control=program.control,
            mapped={node: settings.fail_fast for node, settings in special if settings.expansion is not None},
        ),
        EarlierPart(
            done=done,
            attempts={index[task_id]: one.attempts for task_id, one in owned.tasks.items() if task_id in index},
            skips=skips or {},
            instances={
                index[task_id]: {number: cast(TaskStatus, one.status) for number, one in in_order(indexes)}
                for task_id, indexes in owned.instances.items()
                if index.get(task_id) in done
            },
        ),
    )


def in_order(instances: Mapping[int, PreviousInstance]) -> list[tuple[int, PreviousInstance]]:
    """The instances of a mapped task in the order of its list."""

    def place(indexed: tuple[int, PreviousInstance]) -> int:
        index, instance = indexed
        return index if instance.position is None else instance.position

    return sorted(instances.items(), key=place)


def _instances(program: CompiledDag) -> Iterator[NewInstance]:
    """Made one by one as they are stored."""
    graph = program.graph
    for node, task_id in enumerate(graph.ids):
        above = [graph.ids[one] for one in graph.upstream[node]]
        yield NewInstance(task_id, above, program.tasks[node].settings.timeout_s)


def _bounds(program: CompiledDag, options: RunConfig) -> SharedLimits:
    ids = program.graph.ids
    needs = {ids[node]: settings.queue.needs for node, settings in program.special() if settings.queue.needs}
    return SharedLimits(program.pools, needs, options.place)
