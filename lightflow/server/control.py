"""Starts, continues and pauses workflows for the web part of `lightflow serve`, by its scheduler."""

from __future__ import annotations

import os
import queue
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.engine.choices import RerunOptions
from lightflow.errors import WorkflowError
from lightflow.instants import instant_key
from lightflow.scheduler import overview
from lightflow.scheduler.decisions import fork_id, run_id_of
from lightflow.scheduler.failures import SchedulerState
from lightflow.scheduler.parked_runs import is_source
from lightflow.scheduler.scheduler import Scheduler
from lightflow.scheduler.starter import FORESTALLED, RerunOrder
from lightflow.scheduler.workflow_files import WatchedWorkflow
from lightflow.server.answers import ServedTriggerShape
from lightflow.server.problems import RequestProblem
from lightflow.server.services import ParamProblem, ServedWorkflow, StartedRun
from lightflow.service.lookup import find_run
from lightflow.service.parameters import ParamArguments, new_run_values
from lightflow.service.workflows import declared_secret
from liteflow import DefinitionError, Param, RunNotFound, RunOwned
from liteflow.api import (
    EMPTY_MAPPING,
    FireRecord,
    History,
    RequestKey,
    RunRecord,
    TriggerRecord,
    current_day,
    read_fires,
    read_triggers,
    replace,
    scheduler_is_active,
)

_ANSWER_S: Final = 5.0  # how long a request waits for its run
_PAUSE_S: Final = 0.02
_STARTS_LATER: Final = ("CLAIMED", "WAITING")
_NEXT: Final = 3
_JSON_TYPES: Final = {
    "string": "string", "path": "string", "date": "string", "integer": "integer", "number": "number",
    "boolean": "boolean", "list": "array", "object": "object",
}  # fmt: skip


class _ReadSecret(NamedTuple):
    """A secret that was read."""

    workflow: WatchedWorkflow  # of the file as it was then
    value: str
    at: float  # monotonic


class SchedulerControl:
    """The control of a server that schedules. For any thread."""

    def __init__(self, db: str, scheduler: Scheduler) -> None:
        self._db = db
        self._scheduler = scheduler
        self._secrets: dict[tuple[str, str], _ReadSecret] = {}

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

    def start(self, workflow: str, params: Mapping[str, Any], *, caller: str, key: str | None) -> StartedRun:
        """Start a run; the same key starts it once. It answers when the run exists or is refused, or after 5 s."""
        self._check_scheduler()
        return self._started(overview.fire(self._db, f"{workflow}:manual", by=caller, key=key, params=params))

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
        while (fire := self._fire(run_id)).status in _STARTS_LATER and time.monotonic() < give_up:
            time.sleep(_PAUSE_S)
        is_refused = fire.status not in ("STARTED", *_STARTS_LATER)
        return StartedRun(
            run_id=None if is_refused else run_id, fire_no=fire.fire_no, status=fire.status, reason=fire.reason
        )

    def _fire(self, run_id: str) -> FireRecord:
        return read_fires(self._db, run_ids=[run_id])[0]

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
        before = self._owner(order.run_id)
        process = self._scheduler.request(order)
        give_up = time.monotonic() + _ANSWER_S
        while time.monotonic() < give_up:
            try:
                end = process.get(timeout=_PAUSE_S)
            except queue.Empty:
                end = None
            if self._owner(order.run_id) != before:
                return StartedRun(run_id=order.run_id, fire_no=None, status="STARTED", reason=None)
            if end is not None and end.code == 0:
                return StartedRun(run_id=None, fire_no=None, status="SKIPPED", reason="there is nothing to run")
            if end is not None:
                raise (RunOwned if end.code == FORESTALLED else DefinitionError)(end.failure)
        reason = "its process has not started it yet"
        return StartedRun(run_id=order.run_id, fire_no=None, status="CLAIMED", reason=reason)

    def _owner(self, run_id: str) -> tuple[int | None, int | None] | None:
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
