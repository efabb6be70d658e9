"""Read the state file for people: what ran, and how it went. Nothing is written or executed.

`pages` has the same for long lists, a page at a time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from lightflow.engine.checkpoint import Checkpoint, find
from lightflow.service.child_views import ChildView, child_views, waiting_for_people
from lightflow.service.groups import groups_around, groups_in
from lightflow.service.lookup import find_instance, find_run, latest_run_with
from lightflow.service.mapped_instances import with_times
from lightflow.service.stale import Stale, find_stale
from liteflow import PayloadError, RunNotFound, Status
from liteflow.api import (
    EMPTY_MAPPING,
    RUN_ENDED,
    AttemptRecord,
    DagRecord,
    History,
    InstanceRecord,
    LastAttempts,
    OverlookedFailure,
    Payload,
    Picture,
    Record,
    RunFire,
    RunRecord,
    RunRequest,
    ValueRecord,
    decode_value,
    gc_paused,
    replace,
)
from liteflow.values.payload import parts

ATTEMPTS_OF_EACH: Final = 1000  # attempts of an instance in one answer, if no other number is requested
MOST_ATTEMPTS: Final = 20_000  # attempts of a run in one answer
_T = TypeVar("_T")


class Page(NamedTuple, Generic[_T]):
    """The first entries of a list."""

    items: list[_T]
    remaining: int  #: how many further entries the list has


class RunSummary(NamedTuple):
    """A run, and how many of its tasks, and of the instances of mapped tasks, have each status."""

    run: RunRecord
    counts: dict[str, int]
    instances: dict[str, int]
    approvals: Sequence[str] = ()  #: the tasks and instances that wait for the decision of a person


class WorkflowSummary(Record):
    """A workflow and its latest run."""

    dag: DagRecord
    latest: RunSummary | None  #: its counts are empty if they were not requested
    next_at: float | None = None  #: when a schedule of it is due next


class RunView(Record):
    """A run with its tasks."""

    run: RunRecord
    instances: list[InstanceRecord]  #: in the order of the graph, each mapped task followed by its instances
    attempts: list[AttemptRecord]  #: of each instance the last one and those before it, `MOST_ATTEMPTS` in all
    earlier_attempts: bool  #: whether there are attempts before these
    hooks: list[InstanceRecord]  #: the hooks that were triggered
    standing: list[str]  #: setups that succeeded and were not torn down
    overlooked: list[OverlookedFailure]  #: failures that do not fail the run
    stale: Stale  #: results that are out of date
    groups: Sequence[InstanceRecord] = ()  #: in the order of the graph, with the times of their tasks
    parents: Mapping[str, str] = EMPTY_MAPPING  #: the innermost group of each task and group that is in one
    approvals: Sequence[str] = ()  #: the tasks and instances that wait for the decision of a person
    children: Sequence[ChildView] = ()  #: the child runs, the oldest first
    outputs: Mapping[str, object] = EMPTY_MAPPING  #: of the run by name; None: pickled or missing

    @property
    def tasks(self) -> list[InstanceRecord]:
        """Return the tasks without the instances of mapped tasks."""
        return [instance for instance in self.instances if instance.map_index < 0]

    def tally(self) -> tuple[Counter[str], Counter[str]]:
        """Return how many tasks, and how many instances of mapped tasks, have each status."""
        tasks = Counter(instance.status for instance in self.instances if instance.map_index < 0)
        return tasks, Counter(instance.status for instance in self.instances if instance.map_index >= 0)


class Output(Record):
    """A stored value."""

    record: ValueRecord
    payload: Payload | None  #: the encoded value; None if it was not read


class Outputs(Record):
    """The values of a run, or of one of its tasks, by task and key."""

    run_id: str
    status: str  #: of the task, otherwise of the run
    values: list[Output]
    of_run: dict[str, object]  #: the outputs of the run by name, where no task is named; null: pickled or missing


# -- workflows and runs ------------------------------------------------------------------------------------------------


def list_workflows(db: str, limit: int | None = None, *, counted: bool = False) -> Page[WorkflowSummary]:
    """Return the workflows that have run, by name: all, or the `limit` that were started last.

    With `counted` the tasks of their latest runs are counted, which takes longer for large runs.
    """
    with History(db) as history:
        summaries, next_at = [], history.next_fires()
        for dag in history.dags(limit):
            runs = history.runs(dag.dag_id, limit=1)
            latest = (summary_of(history, runs[0]) if counted else RunSummary(runs[0], {}, {})) if runs else None
            summaries.append(WorkflowSummary(dag=dag, latest=latest, next_at=next_at.get(dag.dag_id)))
        return Page(summaries, history.dag_count() - len(summaries) if len(summaries) == limit else 0)


def list_runs(
    db: str, workflow: str | None = None, limit: int = 20, *, with_children: bool = False
) -> Page[RunSummary]:
    """Return the newest runs, of one workflow or of all."""
    with History(db) as history:
        runs = history.runs(workflow, limit=limit, with_children=with_children)
        summaries = [summary_of(history, run) for run in runs]
        count = history.run_count(workflow, with_children=with_children) if len(runs) == limit else 0
        remaining = max(0, count - len(summaries))
        return Page(summaries, remaining)


def summary_of(history: History, run: RunRecord) -> RunSummary:
    """Return a run with what its tasks do."""
    tally = history.tally(run.run_id)
    return RunSummary(run, *tally, waiting_for_people(history, run, *tally))


def elapsed_s(run: RunRecord) -> float | None:
    """Return how many seconds a run took, or has been running; None if that is not known."""
    ended_at = run.ended_at if run.status in RUN_ENDED else time.time()
    return None if run.started_at is None or ended_at is None else ended_at - run.started_at


def fire_text(fire: RunFire) -> str:
    """Return the trigger that started a run, its instant and who requested it."""
    requested = "" if fire.started_by is None else f", requested by {fire.started_by}"
    return f"{fire.trigger_id}, for {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(fire.at))}{requested}"


def request_text(request: RunRequest) -> str:
    """Return the last change of a run that a person or program requested."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(request.at))
    return f"{request.action} at {at} by {request.requested_by}"


def newest_runs(db: str, workflow: str | None = None, limit: int = 1) -> list[RunRecord]:
    """Return the newest runs without counts."""
    with History(db) as history:
        return history.runs(workflow, limit=limit)


def latest_run(db: str) -> RunRecord:
    """Return the run that was started or resumed last.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        return history.last_active()


def run_record(db: str, run_id: str) -> RunRecord:
    """Return a run by its id, or by the beginning of its id.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        return find_run(history, run_id)


def latest_run_id(db: str, task_id: str) -> str:
    """Return the id of the latest run that has a task.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        return latest_run_with(history, task_id).run_id


def list_checkpoints(folder: str, workflow: str | None = None, limit: int | None = None) -> Page[Checkpoint]:
    """Return the readable checkpoint files in a folder, of one workflow or of all, newest first."""
    return Page(*find(folder, workflow, limit))


# -- one run -----------------------------------------------------------------------------------------------------------


def run_view(db: str, run_id: str | None = None, task_id: str | None = None) -> RunView:
    """Return a run, by default the latest, or the latest that has the task; with all its tasks, or with that task.

    Raises:
        RunNotFound: there is none.
    """
    with gc_paused(), History(db) as history:
        if task_id is not None:
            return _task_view(history, run_id, task_id)
        return _whole_view(history, history.last_active() if run_id is None else find_run(history, run_id))


def ended_view(db: str, run_id: str, since: float) -> tuple[RunView, float, float]:
    """Return a run, the present moment, and the seconds for which its attempts ran that started after a moment."""
    with gc_paused(), History(db) as history:
        view, until = _whole_view(history, find_run(history, run_id)), time.time()
        return view, until, history.work_s(view.run.run_id, since, until)


def _whole_view(history: History, run: RunRecord) -> RunView:
    """Return a run with all its tasks."""
    rows = history.graph_tasks(run.graph_digest)
    instances = _in_order(history, run, rows)
    groups = history.groups(run.run_id)
    hooks = sorted(history.hooks(run.run_id), key=lambda hook: (not hook.dependencies, hook.updated_at))
    if run.status not in RUN_ENDED:
        run, instances = _with_reasons(history, run, instances)
    attempts, earlier = _last_attempts(history, run.run_id)
    return RunView(
        run=run,
        instances=instances,
        attempts=attempts,
        earlier_attempts=earlier,
        hooks=hooks,
        standing=_standing(rows, instances),
        overlooked=history.overlooked(run),
        stale=find_stale(rows, [*instances, *groups]),
        approvals=_approvals(history, run, instances),
        children=child_views(history, run.run_id),
        outputs=run_outputs(history, run.run_id),
        **groups_in(groups, rows, ((each.task_id, each.started_at) for each in instances))._asdict(),
    )


def _with_reasons(
    history: History, run: RunRecord, instances: list[InstanceRecord]
) -> tuple[RunRecord, list[InstanceRecord]]:
    """Return a run that has not ended, and its instances, with the reasons why they wait for slots."""
    from lightflow.service.pools import group_reason, queue_reasons  # here, because a run that has ended has none
    from lightflow.service.run_tasks import RunTasks
    from lightflow.service.waiting import WaitReasons

    if run.status == Status.RUNNING and queue_reasons(history, run.run_id):
        waiting = WaitReasons(history, run, RunTasks(history, run, instances))
        instances = [each._replace(reason=waiting.slots_reason(each) or each.reason) for each in instances]
    elif run.status == Status.PENDING:
        run = replace(run, reason=group_reason(history, run.run_id) or run.reason)
    return run, instances


def _task_view(history: History, run_id: str | None, name: str) -> RunView:
    """Return a run with a task, an instance or the tasks of a group, their hooks, and their attempts."""
    run = latest_run_with(history, name) if run_id is None else find_run(history, run_id)
    rows = history.graph_tasks(run.graph_digest)
    task = find_instance(history, run, name)
    task_id, index = task.task_id, task.map_index
    if task.kind == "group":
        view = run_view(history.path, run.run_id)
        inside = {each for each in view.parents if task_id in groups_around(each, view.parents)}
        shown = [instance for instance in view.instances if instance.task_id in inside]
        names = {task_id, *inside}
        return replace(
            view,
            instances=shown,
            attempts=[attempt for attempt in view.attempts if attempt.task_id in names],
            hooks=[hook for hook in view.hooks if not names.isdisjoint(hook.dependencies)],
            groups=[group for group in view.groups if group.task_id in names],
        )
    hooks = [
        hook
        for hook in history.hooks(run.run_id)
        if task_id in (hook.task_id, *hook.dependencies) and index in (-1, hook.map_index)
    ]
    instances = _in_order(history, run, rows)
    # The task of an instance is shown with it.
    shown = [each for each in instances if each.task_id == task_id and (index < 0 or each.map_index in (-1, index))]
    places = [_place(task)]
    places += [(hook.task_id, hook.map_index) for hook in hooks if hook.task_id != task_id]
    lasts = [_last_attempts(history, run.run_id, *place) for place in places]
    return RunView(
        run=run,
        instances=shown,
        attempts=[attempt for last in lasts for attempt in last.records],
        earlier_attempts=any(last.earlier for last in lasts),
        hooks=hooks,
        standing=[],
        overlooked=[],
        stale=find_stale(rows, instances),
        approvals=_approvals(history, run, shown),
        children=[
            child
            for child in child_views(history, run.run_id)
            if child.run.parent_task_id == task_id and index in (-1, child.run.parent_map_index)
        ],
        outputs=run_outputs(history, run.run_id),
    )


def _approvals(history: History, run: RunRecord, instances: Sequence[InstanceRecord]) -> list[str]:
    """Return the names of those of the instances that wait for the decision of a person."""
    waiting = {(each.task_id, each.map_index) for each in instances if each.status == Status.WAITING}
    if not waiting:
        return []
    from liteflow.api import open_approvals

    return [each.name for each in open_approvals(history, run) if (each.task_id, each.map_index) in waiting]


def _in_order(history: History, run: RunRecord, rows: list[dict[str, Any]]) -> list[InstanceRecord]:
    """Return the instances of a run in the order of its graph."""
    places = {row["id"]: number for number, row in enumerate(rows)}
    instances = with_times(history.instances(run.run_id))
    return sorted(
        instances,
        key=lambda instance: (places.get(instance.task_id, len(places)), instance.task_id, instance.map_index),
    )


def _standing(rows: list[dict[str, Any]], instances: list[InstanceRecord]) -> list[str]:
    """Return the setups that succeeded and were not torn down."""
    teardowns = [row for row in rows if row.get("teardown") is True]
    if not teardowns:
        return []
    setups = {row["id"] for row in rows if row.get("setup") is True}
    statuses = {instance.task_id: instance.status for instance in instances if instance.map_index < 0}
    pending = [row for row in teardowns if statuses.get(row["id"]) != Status.SUCCESS]
    needed = dict.fromkeys(above for row in pending for above in row.get("depends_on", ()) if above in setups)
    # Of a mapped setup, one successful instance is enough.
    succeeded = {instance.task_id for instance in instances if instance.status == Status.SUCCESS}
    return [setup for setup in needed if setup in succeeded]


def run_picture(db: str, run_id: str | None = None) -> Picture:
    """Return a run, by default the latest, as a picture of its graph with statuses.

    Raises:
        RunNotFound: there is no such run.
    """
    from liteflow.api import picture_of_run

    with History(db) as history:
        return picture_of_run(history, history.last_active() if run_id is None else find_run(history, run_id))


# -- tasks and attempts ------------------------------------------------------------------------------------------------


def instance(db: str, run_id: str, name: str) -> tuple[RunRecord, InstanceRecord]:
    """Return a run, and one of its tasks or instances.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        run = find_run(history, run_id)
        return run, find_instance(history, run, name)


def task_attempts(db: str, name: str, run_id: str | None = None, attempt: int | None = None) -> LastAttempts:
    """Return the last attempts of a task and all its instances, or of an instance, or the attempt of a number of each.

    By default it is the latest run that has the task.

    Raises:
        RunNotFound: there is no such run, task or attempt.
    """
    with History(db) as history:
        run = find_run(history, run_id) if run_id is not None else latest_run_with(history, name)
        attempts = _chosen_attempts(history, run.run_id, attempt, *_place(find_instance(history, run, name)))
    if attempt is not None and not attempts.records:
        raise RunNotFound(f"task {name!r} has no attempt {attempt} in run {run.run_id}")
    return attempts


def run_attempts(db: str, run_id: str | None = None, attempt: int | None = None) -> tuple[RunRecord, LastAttempts]:
    """Return a run, by default the latest, and the last attempts of its tasks and hooks, or those of a number.

    They are in the order in which they started.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        run = history.last_active() if run_id is None else find_run(history, run_id)
        records, earlier = _chosen_attempts(history, run.run_id, attempt)
        return run, LastAttempts(sorted(records, key=lambda each: each.started_at or 0.0), earlier)


def _chosen_attempts(
    history: History, run_id: str, number: int | None, task_id: str | None = None, map_index: int | None = None
) -> LastAttempts:
    if number is None:
        return _last_attempts(history, run_id, task_id, map_index)
    return LastAttempts(history.numbered_attempts(run_id, number, task_id, map_index), earlier=False)


def _last_attempts(
    history: History, run_id: str, task_id: str | None = None, map_index: int | None = None
) -> LastAttempts:
    return history.last_attempts(run_id, task_id, map_index, of_each=ATTEMPTS_OF_EACH, most=MOST_ATTEMPTS, every=True)


def _place(record: InstanceRecord) -> tuple[str, int | None]:
    """Return the task and the index of an instance; without an index all instances of a task."""
    return record.task_id, record.map_index if record.map_index >= 0 else None


# -- values ------------------------------------------------------------------------------------------------------------


def outputs(db: str, run_id: str | None, name: str | None, largest: int | None = None) -> Outputs:
    """Return the stored values of a run, of one of its tasks, or of an instance.

    By default it is the latest run that has the task, or the latest of all. Values of more than `largest` bytes are not
    read.

    Raises:
        RunNotFound: there is no such run or task.
    """
    with History(db) as history:
        if run_id is not None:
            run = find_run(history, run_id)
        else:
            run = history.last_active() if name is None else latest_run_with(history, name)
        task = None if name is None else find_instance(history, run, name)
        values = []
        for record in history.values(run.run_id, None if task is None else task.task_id):
            if task is None or task.map_index in (-1, record.map_index):
                is_read = largest is None or record.size <= largest
                key = (record.task_id, record.key, record.map_index)
                values.append(Output(record=record, payload=history.value(run.run_id, *key) if is_read else None))
        of_run = run_outputs(history, run.run_id) if name is None else {}
    return Outputs(run_id=run.run_id, status=(task or run).status, values=values, of_run=of_run)


def run_outputs(history: History, run_id: str) -> dict[str, object]:
    """Return the outputs of a run by name, as values of JSON; None: pickled, or of a task without the value."""
    return {name: plain(payload) for name, payload in history.run_outputs(run_id).items()}


def run_output(db: str, run_id: str | None, key: str) -> object:
    """Return one output of a run, by default of the latest.

    Raises:
        RunNotFound: there is no such run, or it has no such output.
        PayloadError: the value was pickled, or cannot be read.
    """
    with History(db) as history:
        run = history.last_active() if run_id is None else find_run(history, run_id)
        payloads = history.run_outputs(run.run_id)
    if key not in payloads:
        hint = f"; it has {', '.join(list(payloads)[:20])}" if payloads else f"; it is {run.status}"
        raise RunNotFound(f"run {run.run_id} has no output {key!r}{hint}")
    payload = payloads[key]
    return None if payload is None else readable(payload)


def output(db: str, run_id: str | None, name: str, key: str) -> object:
    """Return one value: text, or a value of JSON; of a mapped task the list of the values of its instances.

    Nothing is unpickled; a `tagged` value is returned as its JSON.

    Raises:
        RunNotFound: there is no such run, task or value.
        PayloadError: the value was pickled, or cannot be read.
    """
    view = outputs(db, run_id, name, largest=0)
    keys = list(dict.fromkeys(value.record.key for value in view.values))
    if key not in keys:
        hint = f"; it has {', '.join(keys[:20])}" if keys else f"; it is {view.status}"
        raise RunNotFound(f"task {name!r} of run {view.run_id} has no output {key!r}{hint}")
    _, task = instance(db, view.run_id, name)
    with History(db) as history:
        payload = history.value(view.run_id, task.task_id, key, task.map_index)
    assert payload is not None
    return readable(payload)


def plain(payload: Payload | None) -> object:
    """Return a stored value as a value of JSON; None where it was pickled, is damaged or is not there."""
    try:
        return None if payload is None else readable(payload)
    except PayloadError:
        return None


def readable(payload: Payload) -> object:
    """Return a stored value as a value of JSON.

    Raises:
        PayloadError: it was pickled, or cannot be read.
    """
    if payload.encoding == "list":
        return [readable(part) for part in parts(payload)]
    if payload.encoding not in ("json", "tagged"):
        raise PayloadError(
            "the value is not JSON: only a program that trusts the state file can read it, with XCom.load"
        )
    return decode_value(payload._replace(encoding="json"))
