"""Chooses the tasks of a stored run that run again, and clears or marks tasks of a run without an owner.

`Dag.retry` gives the set to `Store.claim`, which sets it back in the transaction that takes the run over. `clear`
sets it back and runs nothing; `mark` gives instances a status by hand. Each is one transaction.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from liteflow.errors import DefinitionError, PayloadError
from liteflow.hooks import HOOK_EVENTS
from liteflow.masking import Masker
from liteflow.planning.graph import Graph, reachable
from liteflow.planning.rerun import Indexes, Rerun
from liteflow.planning.targets import find_targets, groups_of
from liteflow.planning.task_table import MappedInstances, instance_name
from liteflow.state import transitions
from liteflow.state.admin import StateWriter, lock_out
from liteflow.state.child_rows import cancel_child_runs
from liteflow.state.history import History, RunRecord
from liteflow.state.new_run import insert_run
from liteflow.state.process_identity import user_name
from liteflow.state.records import InstanceKey, NewRun, PreviousInstance, PreviousState, Resets, TaskEvent
from liteflow.state.resets import ResetRules, chosen_resets, set_back
from liteflow.state.run_requests import record_request
from liteflow.state.transitions import RunKey
from liteflow.states import RUN_ENDED, TASK_ENDED
from liteflow.values.payload import Payload, encode, spill_dir, spill_root

#: The statuses that a task can be given by hand.
MARKS: Final = ("SUCCESS", "FAILED", "SKIPPED")
_MAX_NAMED: Final = 5  # tasks that a reason names
_CLOSE_S: Final = 20.0  # how long the owner of a run that has ended may take to end its processes
_PAUSE_S: Final = 0.01


def targets_of(
    history: History, run: RunRecord, names: Sequence[str], task_ids: Sequence[str] = ()
) -> dict[str, Indexes]:
    """Return the tasks and instances of a run with these names (see `find_targets`).

    `task_ids` are those of the current definition, where the run is executed again.

    Raises:
        DefinitionError: there is no such task or instance.
    """
    rows = history.graph_tasks(run.graph_digest)
    ids = task_ids or [row["id"] for row in rows]
    for name in names:
        owner, _, event = name.rpartition(".")
        if event in HOOK_EVENTS and owner in ids and name not in ids:
            raise DefinitionError(f"{name!r} is a hook, which runs when {owner!r} changes its state: name {owner!r}")

    labels = partial(history.labels, run.run_id)
    return find_targets(names, dict.fromkeys(ids), labels, f"run {run.run_id}", groups_of(rows))


def changed_tasks(history: History, run: RunRecord, snapshot: str) -> list[str]:
    """Return the tasks of a definition (its stored form) whose work is not that which the run has stored."""
    stored = {row["id"]: row.get("digest") for row in history.graph_tasks(run.graph_digest)}
    return [row["id"] for row in json.loads(snapshot)["tasks"] if stored.get(row["id"]) != row.get("digest")]


def rerun_of(chosen: Mapping[str, Indexes], words: str, *, follow: bool, ignore_upstream: bool = False) -> Rerun:
    """Return the request to run tasks again; `words` say how they were chosen, as `from` or `only`."""
    return Rerun(
        chosen=chosen, follow=follow, ignore_upstream=ignore_upstream, reason=reason_of(f"run again {words}", chosen)
    )


def reason_of(what: str, chosen: Mapping[str, Indexes]) -> str:
    """Return a reason that names tasks and the user: `run again from b by ann@host`."""
    names = [
        name
        for task_id, indexes in chosen.items()
        for name in ([task_id] if indexes is None else [instance_name(task_id, index) for index in sorted(indexes)])
    ]
    rest = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{what} {', '.join(names[:_MAX_NAMED])}{rest} by {user_name()}"


def await_owner(path: str, run_id: str) -> None:
    """Wait while the owner of a run that has ended still ends its processes: it holds the lock until then.

    Raises:
        RunNotFound: there is no such run.
    """
    give_up = time.monotonic() + _CLOSE_S
    with History(path) as history:
        while (run := history.run(run_id)).status in RUN_ENDED and history.is_owned(run.run_no):
            if time.monotonic() >= give_up:
                return
            time.sleep(_PAUSE_S)


def clear(path: str, run_id: str, rerun: Rerun) -> list[InstanceKey]:
    """Set tasks of a run back to PENDING, with what follows them, and run nothing: a resume does.

    Returns what was set back.

    Raises:
        DefinitionError: the upstream tasks of a chosen task do not let it run.
        RunNotFound, RunOwned: see `Store.claim`.
    """
    await_owner(path, run_id)
    with StateWriter(path) as connection:
        now = time.time()
        run, status, epoch = lock_out(connection, path, run_id)
        graph, rows = _stored_graph(connection, run)
        rules = {graph.index[row["id"]]: row["rule"] for row in rows if row.get("rule")}
        transitions.record_lost(connection, run_id, epoch, now)
        open_status = _interrupt_open(connection, run, status, now)
        keys: list[InstanceKey] = []

        def choose(
            tasks: Mapping[str, PreviousState],
            instances: Mapping[str, Mapping[int, PreviousInstance]],
            events: Iterable[TaskEvent],
        ) -> Resets:
            resets = chosen_resets(rerun, graph, rules, tasks, instances)
            keys.extend(resets.reasons)
            return resets

        set_back(connection, run_id, open_status, ResetRules(reason=rerun.reason, choose=choose, rerun=True), now)
        record_request(connection, run_id, "clear", now)
        _leave_interrupted(connection, run, open_status, rerun.reason, now)
    return keys


def mark(
    path: str,
    run_id: str,
    chosen: Mapping[str, Indexes],
    status: str,
    *,
    reason: str,
    values: Mapping[str, Payload],
) -> list[InstanceKey]:
    """Give tasks or instances a status by hand, and values of a success. Return them.

    Tasks that did not run because of them are PENDING again. The run is INTERRUPTED until it is resumed.

    Raises:
        DefinitionError: a mapped task as a whole is given values.
        RunNotFound, RunOwned: see `Store.claim`.
    """
    await_owner(path, run_id)
    with StateWriter(path) as connection:
        now = time.time()
        run, run_status, epoch = lock_out(connection, path, run_id)
        graph, _ = _stored_graph(connection, run)
        transitions.record_lost(connection, run_id, epoch, now)
        open_status = _interrupt_open(connection, run, run_status, now)
        transitions.reset_open(connection, run_id, "its owner died", now)
        if open_status != "INTERRUPTED":
            transitions.unsettle(connection, run_id)
        keys = _keys(connection, run_id, chosen)
        mapped = {task_id for task_id, index in keys if index >= 0}
        if values and any(task_id in mapped and index < 0 for task_id, index in keys):
            raise DefinitionError(f"a mapped task has a value for each instance: name one, such as {min(mapped)}[0]")
        transitions.mark(connection, run_id, keys, status, reason, now)
        cancel_child_runs(connection, run_id, keys, f"its task was {reason}", now)
        if status != "SUCCESS" or values:
            _replace_values(connection, path, run_id, keys, values, now)
        _end_mapped(connection, run_id, [task_id for task_id, indexes in chosen.items() if indexes is not None], now)
        _reset_followers(connection, run_id, graph, chosen, now)
        record_request(connection, run_id, "mark", now)
        _leave_interrupted(connection, run, open_status, reason, now)
    return keys


def results_of(history: History, origin: RunRecord, graph: Graph, again: Mapping[int, Indexes]) -> list[InstanceKey]:
    """Return the instances whose results a fork keeps: they succeeded or skipped themselves, and do not run again.

    So do those that are not selected in a partial run.
    """
    keys = []
    for each in history.instances(origin.run_id):
        node = graph.index.get(each.task_id)
        ended = each.status == "SUCCESS" or (each.status == "SKIPPED" and (each.try_number > 0 or each.tolerated))
        if node is None or not ended:
            continue
        indexes = again.get(node, frozenset())
        if node not in again or (each.map_index >= 0 and indexes is not None and each.map_index not in indexes):
            keys.append((each.task_id, each.map_index))
    return keys


def create_fork(path: str, run: NewRun, reason: str) -> None:
    """Store a new run with the results that it takes over, INTERRUPTED, so that a resume runs the rest.

    Raises:
        StoreError: there is a run with its id.
    """
    with StateWriter(path) as connection:
        now = time.time()
        key = insert_run(connection, path, run, now)
        transitions.change_run(connection, key, None, "INTERRUPTED", now, reason=reason)
        record_request(connection, run.run_id, "fork", now)
        transitions.add_tasks(connection, run.run_id, run.instances, now)
        if run.copied is not None:
            transitions.copy_results(connection, run.run_id, run.copied, now)


def checked_mark(
    path: str, run_id: str, status: str, values: Mapping[str, Any], masker: Masker | None = None
) -> tuple[str, dict[str, Payload]]:
    """Return the status that a word names, and the values encoded.

    Raises:
        DefinitionError: the status is none that a task can be given, or it has no values; a value holds a secret.
    """
    word = status.upper()
    if word not in MARKS:
        raise DefinitionError(f"a task can be marked {', '.join(each.lower() for each in MARKS)}, not {status!r}")
    if values and word != "SUCCESS":
        raise DefinitionError(f"a task that is marked {status} has no values")
    payloads = {}
    for key, value in values.items():
        try:
            payloads[key] = encode(value, spill_dir(path, run_id), masker)
        except PayloadError as error:
            raise DefinitionError(f"{key}: {error}") from None
    return word, payloads


def marked_reason(reason: str) -> str:
    """Return the reason of a task that was marked, which names the user."""
    return f"marked by {user_name()}" + (f": {reason}" if reason else "")


def _stored_graph(connection: sqlite3.Connection, run: RunKey) -> tuple[Graph, list[dict[str, Any]]]:
    (snapshot,) = connection.execute(
        "SELECT snapshot FROM liteflow_graphs JOIN liteflow_dag_runs ON digest=graph_digest WHERE run_no=?",
        (run.run_no,),
    ).fetchone()
    rows = json.loads(snapshot)["tasks"]
    return Graph({row["id"]: row.get("depends_on", ()) for row in rows}), rows


def _interrupt_open(connection: sqlite3.Connection, run: RunKey, status: str, now: float) -> str:
    """Make a run INTERRUPTED whose owner is dead. Return the status of the run then."""
    if status in RUN_ENDED:
        return status
    transitions.change_run(connection, run, status, "INTERRUPTED", now, reason="its owner died")
    return "INTERRUPTED"


def _leave_interrupted(connection: sqlite3.Connection, run: RunKey, status: str, reason: str, now: float) -> None:
    """Leave the run to a resume: a dead owner that still writes is refused, and old requests are answered."""
    transitions.change_run(connection, run, status, "INTERRUPTED", now, reason=reason)
    connection.execute(
        "UPDATE liteflow_dag_runs SET epoch=epoch+1, resumable=1, outputs=NULL WHERE run_no=?", (run.run_no,)
    )
    connection.execute(
        "UPDATE liteflow_requests SET handled_at=? WHERE run_id=? AND handled_at IS NULL", (now, run.run_id)
    )


def _keys(connection: sqlite3.Connection, run_id: str, chosen: Mapping[str, Indexes]) -> list[InstanceKey]:
    """Return the instances that are marked: of a whole mapped task all of them."""
    keys: list[InstanceKey] = []
    for task_id, indexes in chosen.items():
        if indexes is not None:
            keys += [(task_id, index) for index in sorted(indexes)]
            continue
        rows = connection.execute(
            "SELECT map_index FROM liteflow_task_instances WHERE run_id=? AND task_id=? AND kind='task' ORDER BY 1",
            (run_id, task_id),
        )
        keys += [(task_id, index) for (index,) in rows]
    return keys


def _replace_values(
    connection: sqlite3.Connection,
    path: str,
    run_id: str,
    keys: Sequence[InstanceKey],
    values: Mapping[str, Payload],
    now: float,
) -> None:
    for key in keys:
        if not values:
            connection.execute("DELETE FROM liteflow_xcom WHERE run_id=? AND task_id=? AND map_index=?", (run_id, *key))
        for name, payload in values.items():
            file = None if payload.file is None else os.path.relpath(payload.file, spill_root(path))
            row = (run_id, *key, name, payload.encoding, payload.data, payload.size, file, payload.sha256, now)
            connection.execute("INSERT OR REPLACE INTO liteflow_xcom VALUES (?,?,?,?,?,?,?,?,?,?)", row)


def _end_mapped(connection: sqlite3.Connection, run_id: str, task_ids: Sequence[str], now: float) -> None:
    """Give mapped tasks the status that follows from those of their instances, once all of these have ended."""
    for task_id in task_ids:
        rows = connection.execute(
            "SELECT map_index, status FROM liteflow_task_instances WHERE run_id=? AND task_id=?", (run_id, task_id)
        ).fetchall()
        whole = dict(rows)[-1]
        instances = MappedInstances(0, len(rows) - 1, fail_fast=False)
        for index, status in rows:
            if index >= 0:
                instances.ended[status] = instances.ended.get(status, 0) + 1
        if set(instances.ended) <= TASK_ENDED and instances.status != whole:
            transitions.mark(connection, run_id, [(task_id, -1)], instances.status, "an instance was marked", now)


def _reset_followers(
    connection: sqlite3.Connection, run_id: str, graph: Graph, chosen: Mapping[str, Indexes], now: float
) -> None:
    """Let tasks run that did not because of what was marked, with all that did not run because of those."""
    starts = [after for task_id in chosen for after in graph.downstream[graph.index[task_id]]]
    after_marked = {graph.ids[node] for node in reachable(starts, graph.downstream)}
    rows = connection.execute(
        "SELECT task_id, map_index FROM liteflow_task_instances WHERE run_id=? "
        f"AND (kind='group' OR ({transitions.OF_GRAPH} AND status='UPSTREAM_FAILED'))",
        (run_id,),
    ).fetchall()
    reasons = {(task_id, index): "an upstream task was marked" for task_id, index in rows if task_id in after_marked}
    transitions.reset_instances(connection, run_id, reasons, now)
