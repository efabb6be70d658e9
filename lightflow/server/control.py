"""Starts, continues and pauses workflows for the web part of `lightflow serve`, by its scheduler."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.engine.choices import ALL_TASKS, RerunOptions, SelectionOptions
from lightflow.errors import WorkflowError
from lightflow.instants import instant_key
from lightflow.scheduler import overview
from lightflow.scheduler.decisions import fork_id, run_id_of
from lightflow.scheduler.failures import SchedulerState
from lightflow.scheduler.parked_runs import is_source, status_of, why_due
from lightflow.scheduler.scheduler import Scheduler
from lightflow.scheduler.starter import FORESTALLED, ProcessEnd, RerunOrder
from lightflow.scheduler.waking import DueRun, due_runs
from lightflow.scheduler.workflow_files import WatchedWorkflow
from lightflow.server.answers import ServedTriggerShape
from lightflow.server.problems import RequestProblem
from lightflow.server.services import ParamProblem, ServedWorkflow, StartedRun, started_by_fire
from lightflow.service.lookup import find_run
from lightflow.service.parameters import ParamArguments, new_run_values
from lightflow.service.workflows import declared_secret
from liteflow import DefinitionError, Param, RunNotFound, RunOwned
from liteflow.api import (
    EMPTY_MAPPING,
    History,
    RequestKey,
    RunRecord,
    TriggerRecord,
    current_day,
    read_triggers,
    replace,
    scheduler_is_active,
)

_ANSWER_S: Final = 5.0  # how long a request waits for its run
_PAUSE_S: Final = 0.02
_MOST_LATE: Final = 1000  # runs whose late starts are remembered
_NEXT: Final = 3
_JSON_TYPES: Final = {
    "string": "string", "path": "string", "date": "string", "integer": "integer", "number": "number",
    "boolean": "boolean", "list": "array", "object": "object",
}  # fmt: skip


_Owner = tuple[int | None, int | None] | None  # what changes when a process takes a run


class _ReadSecret(NamedTuple):
    """A secret that was read."""

    workflow: WatchedWorkflow  # of the file as it was then
    value: str
    at: float  # monotonic


class _Continuation:
    """A process that was ordered to continue or fork a run."""

    def __init__(self, before: _Owner, process: queue.SimpleQueue[ProcessEnd]) -> None:
        """Take the owner of the run before, and what gets the end of the process."""
        self.before = before
        self._process = process
        self._end: ProcessEnd | None = None

    def end(self, wait_s: float) -> ProcessEnd | None:
        """Return the end of the process, if there is one within so many seconds."""
        if self._end is None:
            with contextlib.suppress(queue.Empty):
                self._end = self._process.get(timeout=wait_s)
        return self._end


class SchedulerControl:
    """The control of a server that schedules. For any thread."""

    def __init__(self, db: str, scheduler: Scheduler) -> None:
        self._db = db
        self._scheduler = scheduler
        self._secrets: dict[tuple[str, str], _ReadSecret] = {}
        self._late: OrderedDict[str, _Continuation] = OrderedDict()  # by run id: those that no answer has ended

    def workflows(self) -> Sequence[ServedWorkflow]:
        """Return the workflows that are served, by name."""
        rows = {row.trigger_id: row for row in read_triggers(self._db)}
        problems = self._scheduler.view.problems
        served = sorted(self._scheduler.view.workflows.values(), key=lambda workflow: workflow.name)
        return [_served(workflow, rows, problems.get(workflow.path)) for workflow in served]

    def problems(self) -> Mapping[str, str]:
        """Return why files cannot be served, by their paths."""
        return self._scheduler.view.problems

    def scheduler_state(self) -> SchedulerState:
        """Return whether the scheduler works, and what fails in it."""
        return SchedulerState(is_active=self._scheduler.is_active, failures=self._scheduler.failures.texts)

    def check(self, workflow: str, params: Mapping[str, Any]) -> Sequence[ParamProblem]:
        """Return the mistakes in the parameters of a run, with the checks of `lightflow run`."""
        watched = self._scheduler.view.workflows[workflow]
        try:
            new_run_values(watched.params, ParamArguments(values=params), watched.path, current_day())
        except WorkflowError as error:
            return [
                ParamProblem(field=problem.path.removeprefix("params."), message=problem.message)
                for problem in error.problems
            ]
        return []

    def start(self, workflow: str, params: Mapping[str, Any], *, caller: str, key: str | None,
              selection: SelectionOptions = ALL_TASKS) -> StartedRun:  # fmt: skip
        """Start a run, or a part of one; the same key starts it once.

        It answers when the run exists or is refused, or after 5 s.
        """
        self._check_scheduler()
        trigger = f"{workflow}:manual"
        return self._started(overview.fire(self._db, trigger, by=caller, key=key, params=params, selection=selection))

    def fire(self, trigger_id: str, *, caller: str, key: str | None, at: float | None = None,
             params: Mapping[str, Any] = EMPTY_MAPPING) -> StartedRun:  # fmt: skip
        """Fire a trigger now, for a moment; the same key fires it once. It answers as `start` does."""
        self._check_scheduler()
        return self._started(overview.fire(self._db, trigger_id, by=caller, at=at, key=key, params=params))

    def secret(self, workflow: str, name: str, *, max_age_s: float) -> str:
        """Return the value of a secret that a workflow file declares, as a run of it would get it.

        A value that was read from the present file at most `max_age_s` ago is not read again.

        Raises:
            RunNotFound: the workflow is not served any longer.
            WorkflowError: the file or a secret cannot be read.
            DefinitionError: the workflow is a Python file, whose secrets are known to its runs only.
        """
        watched = self._scheduler.view.workflows.get(workflow)
        if watched is None:
            raise RunNotFound(f"this server does not serve a workflow {workflow!r}")
        if watched.path.endswith(".py"):
            raise DefinitionError(f"{watched.path}: webhooks of Python files are not received; declare it in YAML")
        read = self._secrets.get((workflow, name))
        if read is None or read.workflow is not watched or time.monotonic() - read.at > max_age_s:
            read = _ReadSecret(watched, declared_secret(watched.reference, name), time.monotonic())
            self._secrets[workflow, name] = read
        return read.value

    def _check_scheduler(self) -> None:
        """Refuse a start that nothing would follow. Raises RequestProblem."""
        if not self._scheduler.options.takes_over and not scheduler_is_active(self._db):
            detail = "this server was started with --no-scheduler, and no other one schedules: start `lightflow serve`"
            raise RequestProblem(409, "CONFLICT", detail)

    def _started(self, run_id: str) -> StartedRun:
        self._scheduler.notice()
        give_up = time.monotonic() + _ANSWER_S
        while (started := started_by_fire(self._db, run_id)) is not None:
            if not started.is_pending or time.monotonic() >= give_up:
                return started
            time.sleep(_PAUSE_S)
        raise RunNotFound(f"{self._db}: the request for run {run_id} is no longer in the state file; send it again")

    def rerun(self, run_id: str, rerun: RerunOptions, *, caller: str, key: RequestKey | None = None) -> StartedRun:
        """Resume a run, or run a part of it again, in the folder in which it was started."""
        run = self._served_run(run_id)
        order = self._order(run, tasks=tuple(rerun.start), only=rerun.only, changed=rerun.changed,
                            ignore_upstream=rerun.ignore_upstream, requested_by=caller,
                            request_detail=None if key is None else key.text())  # fmt: skip
        return self._continued(order)

    def fork(self, run_id: str, tasks: Sequence[str], params: Mapping[str, Any], *, caller: str,
             key: RequestKey | None = None) -> StartedRun:  # fmt: skip
        """Start a new run that begins in the middle of another one; of a key it is `fork_id`."""
        run = self._served_run(run_id)
        order = self._order(run, origin=run.run_id, tasks=tuple(tasks), params=params, requested_by=caller,
                            request_detail=None if key is None else key.text())  # fmt: skip
        new_id = run_id_of(run.run_id, order.key, time.time()) if key is None else fork_id(run, key.key)
        return self._continued(replace(order, run_id=new_id))

    def _served_run(self, run_id: str) -> RunRecord:
        """Return a run whose file is served.

        Raises:
            RunNotFound: there is no such run, or its workflow is not served.
            DefinitionError: it came from another file than the one that is served.
        """
        with History(self._db) as history:
            run = find_run(history, run_id)
        served = self._scheduler.view.workflows.get(run.dag_id)
        if served is None:
            raise RunNotFound(f"this server does not serve workflow {run.dag_id!r}; in a terminal: {_resume(run)}")
        if not is_source(served, run.source, run.cwd):
            raise DefinitionError(
                f"run {run.run_id} came from {run.source or 'a program'}, and this server serves {served.path}; "
                f"in a terminal: {_resume(run)}"
            )
        return run

    def _order(self, run: RunRecord, **details: Any) -> RerunOrder:
        folder = run.cwd if run.cwd is not None and os.path.isdir(run.cwd) else os.getcwd()
        return RerunOrder(
            key=secrets.token_hex(8), run_id=run.run_id, db=os.path.abspath(self._db), folder=folder, **details
        )

    def _continued(self, order: RerunOrder) -> StartedRun:
        """Order a run, and return when a process owns it, or has failed to; or after 5 s.

        Raises:
            DefinitionError, RunOwned: the process of the run has refused.
        """
        continuation = self._ordered(order)
        give_up = time.monotonic() + _ANSWER_S
        while time.monotonic() < give_up:
            end = continuation.end(_PAUSE_S)
            started = self._state(order.run_id, continuation)
            if started.status == "FAILED" and end is not None:
                raise (RunOwned if end.code == FORESTALLED else DefinitionError)(end.failure)
            if not started.is_pending:
                return started
        self._late[order.run_id] = continuation
        if len(self._late) > _MOST_LATE:
            self._late.popitem(last=False)
        return self._state(order.run_id, continuation)

    def wake(self, *, caller: str) -> Sequence[DueRun]:
        """Resume the parked runs that are due, and return what has become of each, within 5 s in all."""
        give_up, due = time.monotonic() + _ANSWER_S, due_runs(self._db)
        continuations: dict[str, _Continuation] = {}
        problems: dict[str, str | None] = {}
        for each in due:
            try:
                order = self._order(self._served_run(each.run_id), parks=True, requested_by=caller)
                continuations[each.run_id] = self._ordered(order)
            except (RunNotFound, DefinitionError) as error:
                problems[each.run_id] = str(error)
        for run_id, continuation in continuations.items():
            while (started := self._state(run_id, continuation)).is_pending and time.monotonic() < give_up:
                continuation.end(_PAUSE_S)
            problems[run_id] = started.reason if started.run_id is None else None
        with History(self._db) as history:
            statuses = {each.run_id: status_of(history, each.run_id) for each in due}
        return [
            DueRun(run_id=each.run_id, workflow=each.dag_id, due=why_due(each), status=status,
                   problem=problems[each.run_id])
            for each in due
            if (status := statuses[each.run_id]) is not None
        ]  # fmt: skip

    def late_start(self, run_id: str) -> StartedRun | None:
        """Return what has become of the last request to continue or fork a run that was answered before its start.

        None: there was none, or the run was started.
        """
        continuation = self._late.get(run_id)
        if continuation is None:
            return None
        started = self._state(run_id, continuation)
        if started.status == "STARTED":
            self._late.pop(run_id, None)
            return None
        return started

    def _ordered(self, order: RerunOrder) -> _Continuation:
        return _Continuation(self._owner(order.run_id), self._scheduler.request(order))

    def _state(self, run_id: str, continuation: _Continuation) -> StartedRun:
        end = continuation.end(0)  # first: a process that has ended has taken the run before
        if self._owner(run_id) != continuation.before:
            return StartedRun(run_id=run_id, fire_no=None, status="STARTED", reason=None)
        if end is None:
            reason = "its process has not started it yet"
            return StartedRun(run_id=run_id, fire_no=None, status="CLAIMED", reason=reason)
        if end.code == 0:
            return StartedRun(run_id=None, fire_no=None, status="SKIPPED", reason="there is nothing to run")
        return StartedRun(run_id=None, fire_no=None, status="FAILED", reason=end.failure)

    def _owner(self, run_id: str) -> _Owner:
        """Return what changes when a process takes a run; None before the first, as for a fork that was only stored."""
        try:
            with History(self._db) as history:
                run = history.run(run_id)
        except RunNotFound:
            return None
        return None if run.owner_pid is None else (run.owner_session, run.owner_pid)

    def pause(self, name: str, *, paused: bool, caller: str, reason: str | None) -> None:
        """Pause a trigger, or all triggers of a workflow, or end the pause."""
        if paused:
            overview.pause(self._db, name, caller if reason is None else f"{caller}: {reason}")
        else:
            overview.unpause(self._db, name)


def _resume(run: RunRecord) -> str:
    """Return the command that resumes a run."""
    return f"lightflow resume {run.run_id}"


def _served(workflow: WatchedWorkflow, rows: Mapping[str, TriggerRecord], problem: str | None) -> ServedWorkflow:
    stored = [rows[each.trigger_id] for each in workflow.triggers if each.trigger_id in rows and each.kind != "manual"]
    paused = [row.paused_by for row in stored if row.paused_at is not None]
    problems = [row.problem for row in stored if row.problem is not None]
    return ServedWorkflow(
        name=workflow.name,
        file=workflow.path,
        reference=workflow.reference,
        description=workflow.description,
        problem=problem or next(iter(problems), None),
        paused_by=paused[0] if paused and len(paused) == len(stored) else None,
        params_schema=_schema(workflow.params),
        triggers=[_shape(row) for row in stored],
    )


def _shape(row: TriggerRecord) -> ServedTriggerShape:
    view = overview.view_of(row)
    fires = [] if view.clock is None or view.state != "active" else overview.planned(
        {row.trigger_id: view.clock}, time.time(), _NEXT
    )  # fmt: skip
    return {
        "trigger": row.trigger_id,
        "kind": row.kind,
        "words": view.words,
        "state": view.state,
        "next": [instant_key(fire.instant) for fire in fires],
    }


def _schema(params: Mapping[str, Param] | None) -> Mapping[str, Any]:
    """Return the JSON Schema of the parameters of a run."""
    if params is None:
        return {"type": "object"}
    return {
        "type": "object",
        "properties": {name: _param_schema(param) for name, param in params.items()},
        "required": [name for name, param in params.items() if param.required],
        "additionalProperties": False,
    }


def _param_schema(param: Param) -> Mapping[str, Any]:
    schema: dict[str, Any] = {"enum": list(param.values)} if param.type == "enum" else {"type": _JSON_TYPES[param.type]}
    if param.type == "date":
        schema["format"] = "date"
    if param.description:
        schema["description"] = param.description
    if not param.required and isinstance(param.default, str | int | float | bool | list | dict):
        schema["default"] = param.default
    if param.type in ("integer", "number"):
        schema |= {key: getattr(param, key) for key in ("minimum", "maximum") if getattr(param, key) is not None}
    if param.type == "string" and param.pattern is not None:
        schema["pattern"] = f"^(?:{param.pattern})$"
    return schema
