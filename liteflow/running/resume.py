"""Creates a run or resumes one, and plans what is left to do."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import OwnerDied
from liteflow.limits import pool_resources
from liteflow.planning.control_flow import ControlFlow
from liteflow.planning.graph import Graph
from liteflow.planning.plan import InstanceResult, Plan, PlanOptions, PreviousResults
from liteflow.planning.ready_queue import DEFAULT_QUEUE
from liteflow.planning.rerun import Rerun
from liteflow.planning.retry import NEVER
from liteflow.planning.setup_teardown import to_set_up_again
from liteflow.processes.tree import sweep_session
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.running.config import RunConfig
from liteflow.running.observers import Observers
from liteflow.running.places import FarTasks, with_places
from liteflow.running.ports import RunStore
from liteflow.state.records import (
    InstanceKey,
    NewInstance,
    NewRun,
    PreviousInstance,
    PreviousState,
    Resets,
    SharedLimits,
    TaskEvent,
)
from liteflow.state.resets import ResetRules, chosen_resets
from liteflow.states import TASK_ENDED, TaskStatus

_SWEEP_S: Final = 25.0  # how long the guardian of a dead owner may take to end what the owner had started


class PreviousRun(Record, kw_only=False):
    """The stored results of a run that is resumed: its tasks by id, and the instances of mapped tasks by index."""

    tasks: Mapping[str, PreviousState]
    instances: Mapping[str, Mapping[int, PreviousInstance]] = EMPTY_MAPPING

    def done(self, graph: Graph) -> dict[int, TaskStatus]:
        """Return the tasks that keep their state; a task that was removed from the definition has only its history."""
        return {
            graph.index[task_id]: cast(TaskStatus, task.status)
            for task_id, task in self.tasks.items()
            if task.status in TASK_ENDED and task_id in graph.index
        }


def create_run(compiled: CompiledDag, config: RunConfig, store: RunStore, session: int | None) -> PreviousRun:
    """Store a new run, owned by this process. Raises what `Store.create` does."""
    settings = {**_settings(compiled, config), "log_dir": config.log_dir}
    for observer in config.observers:
        settings |= getattr(observer, "settings", {})
    ids, selected = compiled.graph.ids, config.selected
    unselected = [] if selected is None else [ids[node] for node in range(len(ids)) if node not in selected]
    run = NewRun(
        run_id=config.run_id,
        dag_id=compiled.dag_id,
        description=compiled.description,
        graph_digest=compiled.digest,
        graph_snapshot=compiled.snapshot,
        instances=new_instances(compiled),
        params=config.params,
        logical_date=config.logical_date,
        source=compiled.source,
        settings=settings,
        parent=config.parent,
        done=config.done,
        selected=None if selected is None else [ids[node] for node in sorted(selected)],
        unselected=unselected,
        copied=config.copied,
    )
    instances = store.create(run, session, _shared_limits(compiled, config))
    tasks = {task_id: PreviousState("SUCCESS", 1) for task_id in config.done}
    tasks |= dict.fromkeys(unselected, PreviousState("SKIPPED", 0, tolerated=True, unselected=True))
    return PreviousRun(tasks, instances)


def _settings(compiled: CompiledDag, config: RunConfig) -> dict[str, Any]:
    """Return the settings of a run that each start and each resume stores."""
    settings: dict[str, Any] = {"mode": config.mode, "max_workers": config.max_workers}
    if config.clusters:
        resources = pool_resources(compiled.pools)
        settings["clusters"] = {
            name: {
                "slots": cluster.slots,
                "lease_s": cluster.lease_s,
                "resources": resources if cluster.takes_resources else {},
                "machines": cluster.machines,
            }
            for name, cluster in config.clusters.items()
        }
    if config.parent is not None:
        settings["parent_attempt"] = config.parent.attempt
    return settings


def claim_run(compiled: CompiledDag, config: RunConfig, store: RunStore, session: int | None) -> PreviousRun:
    """Take a run over to resume it; wait while the guardian or the agents of its dead owner still end processes.

    Raises what `Store.claim` does.
    """
    began, dead_s = time.monotonic(), 0.0
    graph, limits = (compiled.digest, compiled.snapshot), _shared_limits(compiled, config)
    while True:
        try:
            tasks, instances, previous_session = store.claim(
                config.run_id,
                new_instances(compiled),
                graph,
                session,
                limits,
                rules=reset_rules(compiled, config.rerun),
                settings=_settings(compiled, config),
                dead_s=dead_s,
            )
            break
        except OwnerDied as error:
            if error.lease_s:
                Observers(config.observers).notify("waiting", f"{error}, within {error.lease_s:.3g} s")
            elif time.monotonic() - began >= _SWEEP_S:
                raise
            time.sleep(max(0.01, error.lease_s))
            dead_s = time.monotonic() - began
    if previous_session is not None:
        # If the last owner and its guardian were killed at the same instant, their tasks may still be alive.
        sweep_session(previous_session)
    return PreviousRun(tasks, instances)


def reset_rules(compiled: CompiledDag, rerun: Rerun | None = None) -> ResetRules:
    """Return how a run is set back to be resumed or retried; with `rerun` only chosen tasks run again."""
    if rerun is None:
        return ResetRules(choose=partial(_chosen_again, compiled, None))
    return ResetRules(reason=rerun.reason, choose=partial(_chosen_again, compiled, rerun), rerun=True)


def _chosen_again(
    compiled: CompiledDag,
    rerun: Rerun | None,
    tasks: Mapping[str, PreviousState],
    instances: Mapping[str, Mapping[int, PreviousInstance]],
    events: Iterable[TaskEvent],
) -> Resets:
    """Return what has ended and runs again: what a rerun has chosen, and setups that were torn down and are needed.

    It is called within the transaction that claims or retries the run.
    """
    again = Resets({}) if rerun is None else chosen_resets(rerun, compiled.graph, compiled.rules(), tasks, instances)
    reasons = dict(again.reasons)
    for task_id, reason in _torn_down_to_repeat(compiled, tasks, instances, events, reasons).items():
        ended = [index for index, each in instances.get(task_id, {}).items() if each.status != "PENDING"]
        reasons |= dict.fromkeys([(task_id, -1), *((task_id, index) for index in ended)], reason)
    reasons |= _joins_again(compiled, tasks, {task_id for task_id, _ in reasons})
    return Resets(reasons, again.granted)


def _joins_again(
    compiled: CompiledDag, tasks: Mapping[str, PreviousState], again: Collection[str]
) -> dict[InstanceKey, str]:
    """Return the joins of groups that have ended, and of which a member has not ended or is `again` to run."""
    graph, joins, reasons = compiled.graph, compiled.control.joins, dict[InstanceKey, str]()
    if not joins:
        return reasons
    is_open = [
        task_id in again or task_id not in tasks or tasks[task_id].status not in TASK_ENDED for task_id in graph.ids
    ]
    for node in graph.order:  # the members of a group are before its join
        if node in joins and not is_open[node] and any(is_open[member] for member in graph.upstream[node]):
            is_open[node] = True
            reasons[graph.ids[node], -1] = "a task of the group runs again"
    return reasons


def _torn_down_to_repeat(
    compiled: CompiledDag,
    tasks: Mapping[str, PreviousState],
    instances: Mapping[str, Mapping[int, PreviousInstance]],
    events: Iterable[TaskEvent],
    again: Collection[InstanceKey],
) -> dict[str, str]:
    """Return the setups and teardowns that have ended and that a resumed run repeats, with the reason.

    `again` are the instances that run again in any case (see `setup_teardown.to_set_up_again`).
    """
    control, graph = compiled.control, compiled.graph
    ids = graph.ids
    if not control.teardowns:
        return {}
    torn_down, skipped = _history(control, ids, events)
    if not torn_down:
        return {}
    done = PreviousRun(tasks, instances).done(graph)
    checked = {
        node
        for node in control.checked
        if any(check.hook and check.status_if_failed for check in compiled.tasks[node].settings.start_checks)
    }
    to_do = {  # a skipped task will be skipped again, unless a precondition skipped it, which may hold now
        node
        for node, task_id in enumerate(ids)
        if (task_id, -1) in again or (node not in done and (task_id not in skipped or node in checked))
    }
    repeated = to_set_up_again(
        control.setups, control.teardowns, graph.upstream, graph.downstream, to_do=to_do, torn_down=torn_down
    )
    return {
        ids[node]: _repeat_reason(node, control, ids, torn_down)
        for node in sorted(repeated)
        if node in done or any(each.status != "PENDING" for each in instances.get(ids[node], {}).values())
    }


def _history(control: ControlFlow, ids: Sequence[str], events: Iterable[TaskEvent]) -> tuple[list[int], set[str]]:
    """Return the teardowns that ran after their setups had succeeded, and the tasks that were skipped last."""
    ended, succeeded, last = dict[str, int](), dict[str, int](), dict[str, str]()
    for number, event in enumerate(events, start=1):
        if event.status == "SUCCESS":  # of a mapped setup, each instance counts
            succeeded[event.task_id] = number
        if event.map_index < 0:
            last[event.task_id] = event.status
            # A queued attempt that was lost may have started.
            has_ended = event.previous == "RUNNING" and event.status != "RUNNING"  # else its machine was noted
            if has_ended or (event.previous, event.status) == ("QUEUED", "LOST"):
                ended[event.task_id] = number
    torn_down = [
        node
        for node, teardown in control.teardowns.items()
        if teardown.setups and ended.get(ids[node], 0) > max(succeeded.get(ids[setup], 0) for setup in teardown.setups)
    ]
    return torn_down, {task_id for task_id, status in last.items() if status == "SKIPPED"}


def _repeat_reason(node: int, control: ControlFlow, ids: Sequence[str], torn_down: Sequence[int]) -> str:
    if node in control.teardowns:
        return "a setup that it tears down runs again"
    by = next((ids[teardown] for teardown in torn_down if node in control.teardowns[teardown].setups), None)
    return "a setup that it needs runs again" if by is None else f"{by} has torn it down, and a task needs it again"


def make_plan(
    compiled: CompiledDag,
    config: RunConfig,
    far: FarTasks,
    previous: PreviousRun,
    done: Mapping[int, TaskStatus],
    skips: Mapping[int, Mapping[int, str]],
) -> Plan:
    """Plan what is left to do; `done` and `skips` as in `PreviousResults`."""
    index, special = compiled.graph.index, list(compiled.special())
    return Plan(
        compiled.graph,
        PlanOptions(
            retries={node: settings.retry for node, settings in special if settings.retry is not NEVER},
            rules=compiled.rules(),
            queue=with_places(
                {node: settings.queue for node, settings in special if settings.queue is not DEFAULT_QUEUE},
                far.places,
            ),
            max_lost=config.max_lost,
            fail_fast=config.fail_fast,
            seed=config.run_id,
            control=compiled.control,
            mapped={node: settings.fail_fast for node, settings in special if settings.expansion is not None},
        ),
        PreviousResults(
            done=done,
            tolerated=[
                index[task_id] for task_id, task in previous.tasks.items() if task.tolerated and task_id in index
            ],
            attempts={index[task_id]: task.attempts for task_id, task in previous.tasks.items() if task_id in index},
            skips=skips,
            waiting=[
                index[task_id]
                for task_id, task in previous.tasks.items()
                if task.status == "WAITING" and task_id in index
            ],
            instances={
                index[task_id]: {
                    number: InstanceResult(cast(TaskStatus, each.status), each.attempts, each.tolerated)
                    for number, each in _in_order(instances)
                }
                for task_id, instances in previous.instances.items()
                if index.get(task_id) in done
            },
        ),
    )


def _in_order(instances: Mapping[int, PreviousInstance]) -> list[tuple[int, PreviousInstance]]:
    """Return the instances of a mapped task in the order of its list."""

    def position(indexed: tuple[int, PreviousInstance]) -> int:
        index, instance = indexed
        return index if instance.position is None else instance.position

    return sorted(instances.items(), key=position)


def new_instances(compiled: CompiledDag) -> Iterator[NewInstance]:
    """Yield the rows of the tasks, made one by one as they are stored."""
    graph = compiled.graph
    for node, task_id in enumerate(graph.ids):
        upstream_ids = [graph.ids[upstream] for upstream in graph.upstream[node]]
        settings = compiled.tasks[node].settings
        yield NewInstance(task_id, upstream_ids, settings.timeout_s, settings.gate or "task")


def _shared_limits(compiled: CompiledDag, config: RunConfig) -> SharedLimits:
    ids = compiled.graph.ids
    needs = {ids[node]: settings.queue.needs for node, settings in compiled.special() if settings.queue.needs}
    return SharedLimits(pools=compiled.pools, needs=needs, concurrency=config.concurrency)
