"""Reading the state file for people: what ran, how it went, and why. Changes and executes nothing."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar, cast

from lightflow.engine.checkpoint import Checkpoint, find
from lightflow.service.pools import waits
from liteflow import PayloadError, RunNotFound, Status
from liteflow.collector import collector_paused
from liteflow.control import effective
from liteflow.history import AttemptRecord, DagRecord, History, InstanceRecord, RunRecord, ValueRecord
from liteflow.payload import Payload, decode
from liteflow.picture import Picture
from liteflow.rules import TriggerRule
from liteflow.states import RUN_ENDED, TASK_ENDED
from liteflow.upstreams import explain

_T = TypeVar("_T")


class RunSummary(NamedTuple):
    """A run and how many of its tasks are in each state."""

    run: RunRecord
    counts: dict[str, int]


class WorkflowSummary(NamedTuple):
    """A workflow and its latest run."""

    dag: DagRecord
    latest: RunSummary | None  # its counts are empty where they were not asked for


class Page(NamedTuple, Generic[_T]):
    """The first of a long list."""

    found: list[_T]
    more: int  # are there


class RunView(NamedTuple):
    """A run with its tasks in the order of its graph, their attempts, and the hooks that were triggered. `standing` are
    the setups that have succeeded and were not taken down.
    """

    run: RunRecord
    instances: list[InstanceRecord]
    attempts: list[AttemptRecord]
    hooks: list[InstanceRecord]
    standing: list[str]


class Output(NamedTuple):
    """A stored value; `payload` is still encoded, and None where only what is known of it was asked for."""

    record: ValueRecord
    payload: Payload | None


class Outputs(NamedTuple):
    """The values of a run, or of one of its tasks, by task and key. `status` is the task's, else the run's."""

    run_id: str
    status: str
    found: list[Output]


class Explanation(NamedTuple):
    """Why a task is in its state: one sentence each, the nearest cause first."""

    run_id: str
    task_id: str
    status: str
    because: list[str]


def workflows(db: str, limit: int | None = None, *, counted: bool = False) -> Page[WorkflowSummary]:
    """The workflows that have run, by name: all, or those that were started last.

    With `counted` the tasks of their latest runs are counted, which takes the longer the larger those are.
    """
    with History(db) as history:
        found = []
        for dag in history.dags(limit):
            runs = history.runs(dag.dag_id, limit=1)
            latest = RunSummary(runs[0], history.counts(runs[0].run_id) if counted else {}) if runs else None
            found.append(WorkflowSummary(dag, latest))
        return Page(found, history.dag_count() - len(found) if len(found) == limit else 0)


def runs(db: str, workflow: str | None = None, limit: int = 20) -> Page[RunSummary]:
    """The newest runs first."""
    with History(db) as history:
        found = [RunSummary(run, history.counts(run.run_id)) for run in history.runs(workflow, limit=limit)]
        return Page(found, history.run_count(workflow) - len(found) if len(found) == limit else 0)


def newest(db: str, workflow: str | None = None, limit: int = 1) -> list[RunRecord]:
    """The newest runs first, themselves alone."""
    with History(db) as history:
        return history.runs(workflow, limit=limit)


def latest(db: str) -> RunRecord:
    """The newest run, itself alone.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        return history.latest()


def status(db: str, run_id: str | None = None) -> RunView:
    """A run, by default the latest one.

    Raises:
        RunNotFound: there is none.
    """
    with collector_paused(), History(db) as history:
        run = history.latest() if run_id is None else history.run(run_id)
        hooks = sorted(history.hooks(run.run_id), key=lambda one: (not one.dependencies, one.updated_at))
        rows = history.graph_tasks(run.graph_digest)
        instances = _in_order(history, run, rows)
        if run.status == Status.RUNNING and (waiting := waits(history, run.run_id)):
            instances = [
                one._replace(reason=waiting.get((one.task_id, one.map_index), one.reason)) for one in instances
            ]
        return RunView(run, instances, history.attempts(run.run_id), hooks, _standing(rows, instances))


def _in_order(history: History, run: RunRecord, rows: list[dict[str, Any]]) -> list[InstanceRecord]:
    place = {row["id"]: number for number, row in enumerate(rows)}
    instances = history.instances(run.run_id)
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
    return [one for one in wanted if states.get(one) == Status.SUCCESS]


def attempts_of(db: str, task_id: str, run_id: str | None = None, attempt: int | None = None) -> list[AttemptRecord]:
    """A task's attempts, in the run given or in the latest run that has the task.

    Raises:
        RunNotFound: no such run, task or attempt.
    """
    with History(db) as history:
        run = history.run(run_id) if run_id is not None else _latest_with(history, task_id)
        if history.instance(run.run_id, task_id) is None:
            known = [one.task_id for one in history.instances(run.run_id)]
            raise RunNotFound(f"run {run.run_id} has no task {task_id!r}{_near(task_id, known)}")
        found = history.attempts(run.run_id, task_id)
    if attempt is not None:
        found = [one for one in found if one.attempt == attempt]
        if not found:
            raise RunNotFound(f"task {task_id!r} has no attempt {attempt} in run {run.run_id}")
    return found


def run_of_task(db: str, task_id: str) -> str:
    """The id of the latest run that has a task.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        return _latest_with(history, task_id).run_id


def checkpoints(folder: str, workflow: str | None = None, limit: int | None = None) -> Page[Checkpoint]:
    """The readable checkpoint files in a folder, of one workflow or of all, newest first."""
    return Page(*find(folder, workflow, limit))


def _latest_with(history: History, task_id: str) -> RunRecord:
    """The latest run that has this task: see `History.latest_with`.

    Raises:
        RunNotFound: there is none among them.
    """
    run = history.latest_with(task_id)
    if run is not None:
        return run
    known = [one.task_id for run in history.runs(limit=3) for one in history.instances(run.run_id)]
    older = "; an older run is asked by its id" if history.run_count() > 100 else ""
    raise RunNotFound(f"no run has a task {task_id!r}{_near(task_id, known) or older}")


def _near(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known[:5000], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def instance(db: str, run_id: str, task_id: str) -> tuple[RunRecord, InstanceRecord]:
    """A task of a run as it is now.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        run = history.run(run_id)
        found = history.instance(run.run_id, task_id)
    if found is None:
        raise RunNotFound(f"run {run.run_id} has no task {task_id!r}")
    return run, found


def why(db: str, run_id: str | None, task_id: str) -> Explanation:
    """Why a task is in the state it is in, told by the code that decides it, back to the first cause.

    Raises:
        RunNotFound: there is no such run or task.
    """
    with History(db) as history:
        run = _latest_with(history, task_id) if run_id is None else history.run(run_id)
        rows = {row["id"]: row for row in history.graph_tasks(run.graph_digest)}
        instances = {one.task_id: one for one in (*history.hooks(run.run_id), *history.instances(run.run_id))}
        if task_id not in instances:
            raise RunNotFound(f"run {run.run_id} has no task {task_id!r}{_near(task_id, list(instances))}")
        because: list[str] = []
        seen: set[str] = set()
        following: str | None = task_id
        while following is not None and following not in seen:
            seen.add(following)
            one = instances[following]
            because.append(f"{following} is {one.status}: {_reason(history, run, one, rows, instances)}")
            if following not in rows and one.dependencies:
                because.append(f"it is a hook of {one.dependencies[0]}, and changes nothing for it")
                break
            following = next((name for name in one.dependencies if _is_cause(one, instances.get(name))), None)
    if run.status != Status.SUCCESS and run.reason:
        because.append(f"the run is {run.status}: {run.reason}")
    return Explanation(run.run_id, task_id, instances[task_id].status, because)


def _is_cause(one: InstanceRecord, above: InstanceRecord | None) -> bool:
    """Did the state of `above` put `one` where it is?"""
    if above is None or one.try_number:
        return False
    if one.status == Status.UPSTREAM_FAILED:
        return above.status in (Status.FAILED, Status.UPSTREAM_FAILED, Status.CANCELLED)
    if one.status == Status.SKIPPED:
        return above.status == Status.SKIPPED
    return one.status == Status.PENDING and above.status not in TASK_ENDED


def _reason(
    history: History,
    run: RunRecord,
    one: InstanceRecord,
    rows: dict[str, dict[str, object]],
    instances: dict[str, InstanceRecord],
) -> str:
    rule = cast(TriggerRule, rows.get(one.task_id, {}).get("rule", "all_success"))
    above = [instances[name] for name in one.dependencies if name in instances]
    upstream = {each.task_id: effective(each.status, each.reason) for each in above}
    attempts = history.attempts(run.run_id, one.task_id)
    last = attempts[-1] if attempts else None
    match one.status:
        case Status.PENDING if run.status in RUN_ENDED:
            return "the run stopped before it could start"
        case Status.PENDING if run.status == Status.PENDING:
            return "the run has not begun"
        case Status.PENDING | Status.UP_FOR_RETRY if wait := waits(history, run.run_id).get(_key(one)):
            return wait
        case Status.PENDING:
            decided = explain(rule, upstream)
            return f"{decided}; all slots are in use" if decided.startswith("may run") else decided
        case Status.RUNNING if last is not None:
            lost = ", or was when its owner died" if run.status == Status.INTERRUPTED else ""
            return f"attempt {last.attempt} is running{lost}; it {explain(rule, upstream)}"
        case Status.SUCCESS:
            if last is None or last.ended_at is None:
                return one.reason or "it succeeded"
            took = f"attempt {last.attempt} succeeded in {last.ended_at - last.started_at:.2f} s"
            return f"{took} ({one.reason})" if one.reason else took
        case Status.SKIPPED if one.try_number:
            return f"it skipped itself: {one.reason}" if one.reason else "it skipped itself"
        case Status.SKIPPED | Status.UPSTREAM_FAILED if one.reason:
            return one.reason
        case Status.FAILED if last is not None:
            log = f"; its output is in {last.log_path}" if last.log_path else ""
            return f"attempt {last.attempt}, its last, ended as {last.status}: {one.reason or 'no reason given'}{log}"
        case Status.SKIPPED | Status.UPSTREAM_FAILED:
            return explain(rule, upstream)
        case _:
            return one.reason or "no reason is known"


def _key(one: InstanceRecord) -> tuple[str, int]:
    return one.task_id, one.map_index


def outputs(db: str, run_id: str | None, task_id: str | None, largest: int | None = None) -> Outputs:
    """The values that a run's tasks have stored; those of more than `largest` bytes are not read.

    Without a run it is the latest that has the task, or the latest of all.

    Raises:
        RunNotFound: there is no such run or task.
    """
    with History(db) as history:
        if run_id is not None:
            run = history.run(run_id)
        else:
            run = history.latest() if task_id is None else _latest_with(history, task_id)
        status = run.status
        if task_id is not None:
            one = history.instance(run.run_id, task_id)
            if one is None:
                known = [one.task_id for one in history.instances(run.run_id)]
                raise RunNotFound(f"run {run.run_id} has no task {task_id!r}{_near(task_id, known)}")
            status = one.status
        found = []
        for record in history.values(run.run_id, task_id):
            small = largest is None or record.size <= largest
            where = (record.task_id, record.key, record.map_index)
            found.append(Output(record, history.value(run.run_id, *where) if small else None))
    return Outputs(run.run_id, status, found)


def output(db: str, run_id: str | None, task_id: str, key: str) -> object:
    """One value: text, or what JSON can say. Nothing is unpickled; a `tagged` value is its JSON.

    Raises:
        RunNotFound: there is no such run, task or value.
        PayloadError: it was pickled, or cannot be read.
    """
    view = outputs(db, run_id, task_id, largest=0)
    names = [one.record.key for one in view.found if one.record.map_index < 0]
    if key not in names:
        there = f"; it has {', '.join(names[:20])}" if names else f"; it is {view.status}"
        raise RunNotFound(f"task {task_id!r} of run {view.run_id} has no output {key!r}{there}")
    with History(db) as history:
        payload = history.value(view.run_id, task_id, key)
    assert payload is not None
    return readable(payload)


def readable(payload: Payload) -> object:
    """A stored value as far as JSON can say it.

    Raises:
        PayloadError: it was pickled, or cannot be read.
    """
    if payload.encoding not in ("json", "tagged"):
        raise PayloadError(
            "the value is not JSON: only a program that trusts the state file can read it, with XCom.load"
        )
    return decode(payload._replace(encoding="json"))


def picture(db: str, run_id: str | None = None) -> Picture:
    """A run as it went, on the graph it had.

    Raises:
        RunNotFound: there is no such run.
    """
    from liteflow.drawing import picture_of_run

    with History(db) as history:
        return picture_of_run(history, history.latest() if run_id is None else history.run(run_id))
