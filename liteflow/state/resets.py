"""Sets a run back for a resume, a retry or a clear, within the transaction of the caller.

Without a choice, all that did not succeed runs again. With a choice (see `planning.rerun`) the chosen instances run
again, and what has ended besides them is settled: it keeps its state until the run has ended, through any crash.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from liteflow.errors import DefinitionError
from liteflow.planning.control_flow import status_for_downstream
from liteflow.planning.graph import Graph
from liteflow.planning.rerun import Rerun, closure
from liteflow.planning.task_table import instance_name
from liteflow.planning.trigger_rules import TriggerRule, count_upstreams, decide, explain
from liteflow.record import Record, replace
from liteflow.state import transitions
from liteflow.state.child_rows import cancel_child_runs
from liteflow.state.records import (
    ChooseResets,
    InstanceKey,
    Previous,
    PreviousInstance,
    PreviousState,
    Resets,
    TaskEvent,
)
from liteflow.states import RUN_ENDED, TASK_ENDED


class ResetRules(Record):
    """How a run is set back."""

    reason: str = "resumed"  # of the run's event, and of the instances without a chosen reason
    choose: ChooseResets | None = None
    rerun: bool = False  # whether only the chosen instances run again, besides what has not ended


RESUME: Final = ResetRules()
_NEW_TASK: Final = PreviousState("PENDING", 0)


def set_back(connection: sqlite3.Connection, run_id: str, run_status: str, rules: ResetRules, now: float) -> Previous:
    """Set back to PENDING what is to run again, after `record_lost`. Return the tasks and instances as they are then.

    `run_status` is the status that the run had; an open run has none of the settled instances released.
    """
    if run_status in RUN_ENDED and run_status != "INTERRUPTED":
        transitions.unsettle(connection, run_id)
    if rules.rerun:
        transitions.settle(connection, run_id, but_cancelled=run_status == "INTERRUPTED")
    tasks, mapped = previous_results(connection, run_id)
    if rules.choose is not None:
        chosen = rules.choose(tasks, mapped, task_events(connection, run_id))
        reasons = chosen.reasons
        if rules.rerun:
            starts, ends = _hooks_of_rerun(connection, run_id, reasons)
            transitions.forget_hook_events(connection, run_id, ends if reasons else ())
            reasons = {**reasons, **starts}
        transitions.reset_instances(connection, run_id, reasons, now)
        if rules.rerun:
            cancel_child_runs(connection, run_id, reasons, f"its parent run was set back: {rules.reason}", now)
        transitions.grant(connection, run_id, chosen.granted)
        _apply(tasks, mapped, reasons)
        for task_id, index in chosen.granted:
            if index < 0:
                tasks[task_id] = tasks[task_id]._replace(tolerated=True)
            else:
                mapped[task_id][index] = replace(mapped[task_id][index], tolerated=True)
    transitions.reset(connection, run_id, rules.reason, now)
    return tasks, mapped


def skip_new_tasks(connection: sqlite3.Connection, run_id: str, tasks: dict[str, PreviousState], now: float) -> None:
    """Skip the tasks that were added to the definition of a partial run since: they are not selected."""
    rows = connection.execute(
        "SELECT task_id FROM liteflow_task_instances JOIN liteflow_dag_runs USING (run_id) "
        "WHERE run_id=? AND selection IS NOT NULL AND kind='task' AND map_index < 0",
        (run_id,),
    )
    new = [task_id for (task_id,) in rows.fetchall() if task_id not in tasks]
    transitions.record_unselected(connection, run_id, new, now)
    tasks |= dict.fromkeys(new, PreviousState("SKIPPED", 0, tolerated=True, unselected=True))


def previous_results(connection: sqlite3.Connection, run_id: str) -> Previous:
    """Return the tasks and instances; what will be reset in any case is PENDING already."""
    status = f"CASE WHEN {transitions.RESETS} THEN 'PENDING' ELSE status END"
    tolerated = f"tolerated AND NOT {transitions.RESETS}"
    of_run = f"FROM liteflow_task_instances AS instance WHERE run_id=? AND {transitions.OF_GRAPH}"
    tasks = {
        task_id: PreviousState(state, attempts, bool(counts), bool(unselected))
        for task_id, state, attempts, counts, unselected in connection.execute(
            f"SELECT task_id, {status}, try_number, {tolerated}, {transitions.UNSELECTED} {of_run} AND map_index < 0",
            (run_id,),
        )
    }
    mapped: dict[str, dict[int, PreviousInstance]] = {}
    for task_id, index, state, attempts, counts, item, label, position in connection.execute(
        f"SELECT task_id, map_index, {status}, try_number, {tolerated}, item, map_key, position {of_run} "
        "AND map_index >= 0",
        (run_id,),
    ):
        mapped.setdefault(task_id, {})[index] = PreviousInstance(
            status=state, attempts=attempts, item=item, label=label, position=position, tolerated=bool(counts)
        )
    return tasks, mapped


def chosen_resets(
    rerun: Rerun,
    graph: Graph,
    rules: Mapping[int, TriggerRule],
    tasks: Mapping[str, PreviousState],
    instances: Mapping[str, Mapping[int, PreviousInstance]],
) -> Resets:
    """Return what has ended and runs again because it was chosen, or follows what was chosen.

    Raises:
        DefinitionError: the upstream tasks of a chosen task do not let it run.
    """
    chosen = {graph.index[task_id]: indexes for task_id, indexes in rerun.chosen.items() if task_id in graph.index}
    again = closure(chosen, graph.downstream, follow=rerun.follow)
    reasons: dict[InstanceKey, str] = {}
    for node, (indexes, followed) in again.items():
        task_id = graph.ids[node]
        reason = rerun.reason if followed is None else f"follows {graph.ids[followed]}"
        if followed is not None and task_id in tasks and tasks[task_id].unselected:
            continue
        if task_id in tasks and tasks[task_id].status != "PENDING":
            reasons[task_id, -1] = reason
        for index, instance in instances.get(task_id, {}).items():
            if instance.status != "PENDING" and (indexes is None or index in indexes):
                reasons[task_id, index] = reason
    granted: dict[InstanceKey, None] = {}
    for node in chosen:
        upstream = [graph.ids[each] for each in graph.upstream[node] if each not in again]
        if len(upstream) == len(graph.upstream[node]):
            states = _states(upstream, tasks, instances)
            granted |= dict.fromkeys(_grants(graph.ids[node], rules.get(node, "all_success"), states, rerun))
    return Resets(reasons, list(granted))


def _states(
    task_ids: Iterable[str],
    tasks: Mapping[str, PreviousState],
    instances: Mapping[str, Mapping[int, PreviousInstance]],
) -> dict[InstanceKey, str]:
    """Return the states of tasks as those that depend on them see them; of mapped tasks those of the instances."""
    states: dict[InstanceKey, str] = {}
    for task_id in task_ids:
        task = tasks.get(task_id, _NEW_TASK)
        mapped = instances.get(task_id) if task.status in TASK_ENDED else None
        if not mapped:
            states[task_id, -1] = status_for_downstream(task.status, task.tolerated)
        for index, each in (mapped or {}).items():
            states[task_id, index] = status_for_downstream(each.status, each.tolerated)
    return states


def _grants(task_id: str, rule: TriggerRule, states: Mapping[InstanceKey, str], rerun: Rerun) -> Sequence[InstanceKey]:
    """Return the instances upstream of a chosen task that are to count as a success, so that it can run.

    Raises:
        DefinitionError: they do not let it run, and are not to be ignored.
    """
    if decide(rule, count_upstreams(list(states.values()))) in ("run", "wait"):
        return ()
    unsuccessful = [key for key, state in states.items() if state != "SUCCESS"]
    granted = ["SUCCESS"] * len(states)
    if rerun.ignore_upstream and decide(rule, count_upstreams(granted)) == "run":
        return unsuccessful
    names = {instance_name(*key): state for key, state in states.items()}
    if rerun.ignore_upstream:
        raise DefinitionError(
            f"task {task_id!r} cannot run again: it {explain(rule, names)}, also if they had succeeded"
        )
    raise DefinitionError(
        f"task {task_id!r} cannot run again: {explain(rule, names)}. Run again from there, or let it run in spite of "
        "that: `retry` with --ignore-upstream (`dag.retry` with ignore_upstream=True)"
    )


def _apply(
    tasks: dict[str, PreviousState], mapped: dict[str, dict[int, PreviousInstance]], reasons: Mapping[InstanceKey, str]
) -> None:
    """Make the tasks and instances PENDING for which there is a reason to run again."""
    for task_id, index in reasons:
        if index < 0 and task_id in tasks:
            tasks[task_id] = tasks[task_id]._replace(status="PENDING", tolerated=False)
        elif index >= 0 and index in mapped.get(task_id, {}):
            mapped[task_id][index] = replace(mapped[task_id][index], status="PENDING", tolerated=False)


def _hooks_of_rerun(
    connection: sqlite3.Connection, run_id: str, reasons: Mapping[InstanceKey, str]
) -> tuple[dict[InstanceKey, str], list[InstanceKey]]:
    """Return the hooks that run again at once, with reasons, and those that the new end of the run will trigger.

    The first are the hooks `on_start` of the run, and of the instances that run again; the second are the other hooks
    of the run.
    """
    rows = connection.execute(
        "SELECT task_id, map_index, dependencies, hook_events FROM liteflow_task_instances "
        "WHERE run_id=? AND kind='hook' AND status IN ('SUCCESS', 'FAILED')",
        (run_id,),
    ).fetchall()
    starts: dict[InstanceKey, str] = {}
    ends: list[InstanceKey] = []
    for task_id, index, dependencies, events in rows:
        try:
            owners, event = json.loads(dependencies), json.loads(events)[0][0]
        except (ValueError, LookupError, TypeError, RecursionError):
            continue  # a row that was altered
        if event == "on_start" and (not owners or (owners[0], index) in reasons):
            starts[task_id, index] = "its task runs again" if owners else "the run is run again"
        elif event != "on_start" and not owners:
            ends.append((task_id, index))
    return starts, ends


def task_events(connection: sqlite3.Connection, run_id: str) -> Iterator[TaskEvent]:
    """Yield the events of the tasks of a run, in order, and of instances of mapped tasks the successes."""
    rows = connection.execute(
        "SELECT task_id, map_index, previous, status FROM liteflow_events "
        "WHERE run_id=? AND task_id IS NOT NULL AND (map_index < 0 OR status='SUCCESS') ORDER BY seq",
        (run_id,),
    ).fetchall()
    yield from (TaskEvent(*row) for row in rows)
