"""Reading the state file for people: what ran, how it went, and why. Changes and executes nothing."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final, Generic, NamedTuple, TypeVar

from lightflow.engine.checkpoint import Checkpoint, find
from lightflow.service.mapped_instances import split_name, whole_of, with_times
from liteflow import PayloadError, RunNotFound, Status
from liteflow.api import (
    RUN_ENDED,
    AttemptRecord,
    DagRecord,
    History,
    InstanceRecord,
    OverlookedFailure,
    Payload,
    Picture,
    RunRecord,
    ValueRecord,
    decode_value,
    gc_paused,
)
from liteflow.values.payload import parts

_T = TypeVar("_T")
_NAMED: Final = 20  # tasks named where one is not there


class RunSummary(NamedTuple):
    """A run, how many of its tasks are in each state, and how many instances of mapped ones."""

    run: RunRecord
    counts: dict[str, int]
    instances: dict[str, int]


class WorkflowSummary(NamedTuple):
    """A workflow and its latest run."""

    dag: DagRecord
    latest: RunSummary | None  # its counts are empty where they were not asked for


class Page(NamedTuple, Generic[_T]):
    """The first of a long list."""

    found: list[_T]
    more: int  # are there


class RunView(NamedTuple):
    """A run with its tasks in the order of its graph, each mapped one followed by its instances, their attempts, and
    the hooks that were triggered. `standing` are the setups that have succeeded and were not taken down, `overlooked`
    the tasks that failed although the run is SUCCESS.
    """

    run: RunRecord
    instances: list[InstanceRecord]
    attempts: list[AttemptRecord]
    hooks: list[InstanceRecord]
    standing: list[str]
    overlooked: list[OverlookedFailure]

    @property
    def tasks(self) -> list[InstanceRecord]:
        """The tasks alone."""
        return [one for one in self.instances if one.map_index < 0]

    def tally(self) -> tuple[Counter[str], Counter[str]]:
        """How many tasks are in each state, and how many instances of mapped ones."""
        tasks = Counter(one.status for one in self.instances if one.map_index < 0)
        return tasks, Counter(one.status for one in self.instances if one.map_index >= 0)


class Output(NamedTuple):
    """A stored value; `payload` is still encoded, and None where only what is known of it was asked for."""

    record: ValueRecord
    payload: Payload | None


class Outputs(NamedTuple):
    """The values of a run, or of one of its tasks, by task and key. `status` is the task's, else the run's."""

    run_id: str
    status: str
    found: list[Output]


def workflows(db: str, limit: int | None = None, *, counted: bool = False) -> Page[WorkflowSummary]:
    """The workflows that have run, by name: all, or those that were started last.

    With `counted` the tasks of their latest runs are counted, which takes the longer the larger those are.
    """
    with History(db) as history:
        found = []
        for dag in history.dags(limit):
            runs = history.runs(dag.dag_id, limit=1)
            tally = history.tally(runs[0].run_id) if runs and counted else ({}, {})
            latest = RunSummary(runs[0], *tally) if runs else None
            found.append(WorkflowSummary(dag, latest))
        return Page(found, history.dag_count() - len(found) if len(found) == limit else 0)


def runs(db: str, workflow: str | None = None, limit: int = 20) -> Page[RunSummary]:
    """The newest runs first."""
    with History(db) as history:
        found = [RunSummary(run, *history.tally(run.run_id)) for run in history.runs(workflow, limit=limit)]
        return Page(found, history.run_count(workflow) - len(found) if len(found) == limit else 0)


def elapsed_s(run: RunRecord) -> float | None:
    """Return how many seconds a run took, or has been running; None if that is not known."""
    ended_at = run.ended_at if run.status in RUN_ENDED else time.time()
    return None if run.started_at is None or ended_at is None else ended_at - run.started_at


def newest(db: str, workflow: str | None = None, limit: int = 1) -> list[RunRecord]:
    """The newest runs first, themselves alone."""
    with History(db) as history:
        return history.runs(workflow, limit=limit)


def latest(db: str) -> RunRecord:
    """The run that was started or resumed last, itself alone.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        return history.last_active()


def status(db: str, run_id: str | None = None, task_id: str | None = None) -> RunView:
    """A run, by default the latest one, or the latest that has the task; with all its tasks, or that one.

    Raises:
        RunNotFound: there is none.
    """
    with gc_paused(), History(db) as history:
        if task_id is not None:
            run = latest_with(history, task_id) if run_id is None else run_called(history, run_id)
            find_instance(history, run, task_id)
            rows = history.graph_tasks(run.graph_digest)
            own = [one for one in _in_order(history, run, rows) if one.task_id == task_id]
            hooks = [one for one in history.hooks(run.run_id) if task_id in (one.task_id, *one.dependencies)]
            others = [hook for hook in hooks if hook.task_id != task_id]
            attempts = [one for hook in others for one in history.attempts(run.run_id, hook.task_id, hook.map_index)]
            return RunView(run, own, [*history.attempts(run.run_id, task_id), *attempts], hooks, [], [])
        run = history.last_active() if run_id is None else run_called(history, run_id)
        hooks = sorted(history.hooks(run.run_id), key=lambda one: (not one.dependencies, one.updated_at))
        rows = history.graph_tasks(run.graph_digest)
        instances = _in_order(history, run, rows)
        if run.status == Status.RUNNING and (waiting := _waiting(history, run.run_id)):
            instances = [
                one._replace(reason=waiting.get((one.task_id, one.map_index), one.reason)) for one in instances
            ]
        attempts = history.attempts(run.run_id)
        return RunView(run, instances, attempts, hooks, _standing(rows, instances), history.overlooked(run))


def _waiting(history: History, run_id: str) -> dict[tuple[str, int], str]:
    """Return what the queued task instances of a run wait for, in words."""
    from lightflow.service.pools import waits  # here, because a run that has ended does not need it

    return waits(history, run_id)


def _in_order(history: History, run: RunRecord, rows: list[dict[str, Any]]) -> list[InstanceRecord]:
    place = {row["id"]: number for number, row in enumerate(rows)}
    instances = with_times(history.instances(run.run_id))
    return sorted(instances, key=lambda one: (place.get(one.task_id, len(place)), one.task_id, one.map_index))


def _standing(rows: list[dict[str, Any]], instances: list[InstanceRecord]) -> list[str]:
    """The setups that have succeeded and were not taken down."""
    downs = [row for row in rows if row.get("teardown") is True]
    if not downs:
        return []
    setups = {row["id"] for row in rows if row.get("setup") is True}
    states = {one.task_id: one.status for one in instances if one.map_index < 0}
    open_downs = [row for row in downs if states.get(row["id"]) != Status.SUCCESS]
    wanted = dict.fromkeys(above for row in open_downs for above in row.get("depends_on", ()) if above in setups)
    succeeded = {one.task_id for one in instances if one.status == Status.SUCCESS}  # of a mapped setup, any instance
    return [one for one in wanted if one in succeeded]


def attempts_of(db: str, name: str, run_id: str | None = None, attempt: int | None = None) -> list[AttemptRecord]:
    """The attempts of a task, with those of all its instances, or of one: in the run given or the latest that has it.

    Raises:
        RunNotFound: no such run, task or attempt.
    """
    task_id, index = split_name(name)
    with History(db) as history:
        run = run_called(history, run_id) if run_id is not None else latest_with(history, name)
        find_instance(history, run, name)
        found = history.attempts(run.run_id, task_id, index if index >= 0 else None)
    if attempt is not None:
        found = [one for one in found if one.attempt == attempt]
        if not found:
            raise RunNotFound(f"task {name!r} has no attempt {attempt} in run {run.run_id}")
    return found


def attempts_of_run(db: str, run_id: str | None = None) -> tuple[RunRecord, list[AttemptRecord]]:
    """A run, by default the latest, and all attempts of its tasks and hooks in the order in which they began.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        run = history.last_active() if run_id is None else run_called(history, run_id)
        return run, sorted(history.attempts(run.run_id), key=lambda one: one.started_at or 0.0)


def run_of_task(db: str, task_id: str) -> str:
    """The id of the latest run that has a task.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        return latest_with(history, task_id).run_id


def checkpoints(folder: str, workflow: str | None = None, limit: int | None = None) -> Page[Checkpoint]:
    """The readable checkpoint files in a folder, of one workflow or of all, newest first."""
    return Page(*find(folder, workflow, limit))


def run_called(history: History, run_id: str) -> RunRecord:
    """A run by its id, or by the beginning of its id.

    Raises:
        RunNotFound: there is none; the message says so where the name is that of a workflow or a task.
    """
    try:
        return history.run(run_id)
    except RunNotFound as error:
        if history.dag(run_id) is not None:
            latest = history.latest(run_id).run_id
            raise RunNotFound(f"{error}; it is a workflow, whose latest run is {latest}") from None
        if history.latest_with(split_name(run_id)[0]) is not None:
            raise RunNotFound(f"{error}; it is a task: `lightflow status --task {run_id}`") from None
        raise


def find_instance(history: History, run: RunRecord, name: str) -> InstanceRecord:
    """A task, or an instance of it such as `fetch[3]`, of a run.

    Raises:
        RunNotFound: there is none.
    """
    task_id, index = split_name(name)
    found = history.instance(run.run_id, task_id, index)
    if found is not None:
        return found
    hooks = history.hooks(run.run_id)
    own = [hook for hook in hooks if hook.task_id == task_id]
    if own and index < 0:
        return whole_of(own)  # hooks of the instances of a mapped task have an index each
    if index >= 0 and history.instance(run.run_id, task_id) is not None:
        count = sum(task == task_id and one >= 0 for task, one, _ in history.statuses(run.run_id))
        has = f"{count:,} instances: {task_id}[0] to {task_id}[{count - 1}]" if count else "no instances"
        raise RunNotFound(f"run {run.run_id} has no {name!r}; the task has {has}")
    known = [task for task, one, _ in history.statuses(run.run_id) if one < 0]
    known += dict.fromkeys(hook.task_id for hook in hooks)
    raise RunNotFound(f"run {run.run_id} has no task {task_id!r}{_near(task_id, known)}{_listed(known)}")


def latest_with(history: History, name: str) -> RunRecord:
    """The latest run that has this task: see `History.latest_with`.

    Raises:
        RunNotFound: there is none among them.
    """
    task_id, _ = split_name(name)
    run = history.latest_with(task_id)
    if run is not None:
        return run
    newest = [history.statuses(run.run_id) for run in history.runs(limit=3)]
    known = list(dict.fromkeys(task for statuses in newest for task, _, _ in statuses))
    latest = list(dict.fromkeys(task for statuses in newest[:1] for task, _, _ in statuses))
    older = "; an older run is asked by its id" if history.run_count() > 100 else ""
    near = _near(task_id, known) or older
    raise RunNotFound(f"no run has a task {task_id!r}{near}{_listed(latest, 'the latest run')}")


def _near(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known[:5000], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _listed(known: list[str], whose: str = "it") -> str:
    if not known:
        return ""
    more = f" and {len(known) - _NAMED:,} more" if len(known) > _NAMED else ""
    return f"\n{whose} has {', '.join(known[:_NAMED])}{more}"


def instance(db: str, run_id: str, name: str) -> tuple[RunRecord, InstanceRecord]:
    """A task of a run, or an instance of one, as it is now.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        run = run_called(history, run_id)
        return run, find_instance(history, run, name)


def outputs(db: str, run_id: str | None, name: str | None, largest: int | None = None) -> Outputs:
    """The values that the tasks of a run, one of them, or an instance of one have stored.

    Those of more than `largest` bytes are not read.

    Without a run it is the latest that has the task, or the latest of all.

    Raises:
        RunNotFound: there is no such run or task.
    """
    with History(db) as history:
        if run_id is not None:
            run = run_called(history, run_id)
        else:
            run = history.last_active() if name is None else latest_with(history, name)
        status = run.status if name is None else find_instance(history, run, name).status
        task_id, index = (None, -1) if name is None else split_name(name)
        found = []
        for record in history.values(run.run_id, task_id):
            if index not in (-1, record.map_index):
                continue
            small = largest is None or record.size <= largest
            where = (record.task_id, record.key, record.map_index)
            found.append(Output(record, history.value(run.run_id, *where) if small else None))
    return Outputs(run.run_id, status, found)


def output(db: str, run_id: str | None, name: str, key: str) -> object:
    """One value: text, or what JSON can say; of a mapped task the list of its instances' values.

    Nothing is unpickled; a `tagged` value is its JSON.

    Raises:
        RunNotFound: there is no such run, task or value.
        PayloadError: it was pickled, or cannot be read.
    """
    view = outputs(db, run_id, name, largest=0)
    names = list(dict.fromkeys(one.record.key for one in view.found))
    if key not in names:
        there = f"; it has {', '.join(names[:20])}" if names else f"; it is {view.status}"
        raise RunNotFound(f"task {name!r} of run {view.run_id} has no output {key!r}{there}")
    task_id, index = split_name(name)
    with History(db) as history:
        payload = history.value(view.run_id, task_id, key, index)
    assert payload is not None
    return readable(payload)


def readable(payload: Payload) -> object:
    """A stored value as far as JSON can say it.

    Raises:
        PayloadError: it was pickled, or cannot be read.
    """
    if payload.encoding == "list":
        return [readable(one) for one in parts(payload)]
    if payload.encoding not in ("json", "tagged"):
        raise PayloadError(
            "the value is not JSON: only a program that trusts the state file can read it, with XCom.load"
        )
    return decode_value(payload._replace(encoding="json"))


def picture(db: str, run_id: str | None = None) -> Picture:
    """A run as it went, on the graph it had.

    Raises:
        RunNotFound: there is no such run.
    """
    from liteflow.api import picture_of_run

    with History(db) as history:
        return picture_of_run(history, history.last_active() if run_id is None else run_called(history, run_id))
