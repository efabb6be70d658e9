"""The routes that change something: start, continue, cancel, pause, pools. Each answers with a state or a problem."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from lightflow.engine.choices import RESUME, RerunOptions, SelectionOptions
from lightflow.scheduler import waking
from lightflow.scheduler.decisions import fork_id
from lightflow.server.answers import (
    CodeAnswer,
    DeletedPoolAnswer,
    LoginAnswer,
    PausedTriggerAnswer,
    PausedWorkflowAnswer,
    PoolSizeAnswer,
    ProblemsAnswer,
    StartedAnswer,
)
from lightflow.server.problems import RequestProblem
from lightflow.server.routing import Answer, CheckedRequest, name_in_path
from lightflow.server.services import Control, StartedRun
from lightflow.service import pools, queries, reruns, runs, state_files
from lightflow.service.approvals import DecisionArguments, decide_about
from lightflow.service.json_shapes import cancelled_run_shape, changed_tasks_shape, decision_shape, moment_of
from lightflow.service.shape_types import CancelledRunShape, ChangedTasksShape, DecisionShape, PruneShape, WakeShape
from lightflow.text import did_you_mean
from liteflow import DefinitionError, Retention, RunNotFound
from liteflow.api import RUN_ENDED, History, RequestKey, RunRecord, acting_for

_PRUNE_S: Final = 20.0  # shorter than clients wait for an answer
_HIDDEN_PROBLEM: Final = "has no value that the workflow takes; this server hides which it takes"


def login(request: CheckedRequest) -> Answer[LoginAnswer]:
    """Return the token for a login code."""
    role = request.services.codes.redeem(request.body["code"])
    if role is None:
        raise RequestProblem(401, "UNAUTHENTICATED", "the code is unknown, used or older than a minute; make another")
    tokens = request.services.tokens
    return Answer(body={"token": tokens.operator if role == "operator" else tokens.viewer, "role": role})


def make_code(request: CheckedRequest) -> Answer[CodeAnswer]:
    """Return a code with which a browser can log in once, within a minute."""
    return Answer(body={"code": request.services.codes.make(request.role), "expires_s": 60}, status=201)


def cancel_run(request: CheckedRequest) -> Answer[CancelledRunShape]:
    """Request the owner of a run to cancel it; a second request also ends its teardowns and hooks."""
    run_id = queries.run_record(request.services.db, request.path["run"]).run_id
    try:
        with acting_for(request.caller):
            record = runs.cancel(request.services.db, run_id, wait_s=0.0, caller=request.caller)
    except DefinitionError as error:
        raise RequestProblem(409, "CONFLICT", str(error)) from None
    return Answer(body=cancelled_run_shape(record), status=202)


def resume_run(request: CheckedRequest) -> Answer[StartedAnswer]:
    """Resume a run that has ended, in the folder in which it was started."""
    run, key = _run(request), _request_key(request, "resume")
    if _has_acted(request, run.run_id, key):
        return _answered_before(request, run.run_id)
    _check_ended(run)
    return _started(request, _control(request).rerun(run.run_id, RESUME, caller=request.caller, key=key))


def retry_run(request: CheckedRequest) -> Answer[StartedAnswer]:
    """Run tasks of a run again, and what follows them; without tasks all that did not succeed."""
    body = request.body
    rerun = RerunOptions(
        start=tuple(body.get("tasks") or ()),
        only=body.get("only", False),
        changed=body.get("changed", False),
        ignore_upstream=body.get("ignore_upstream", False),
    )
    _check_rerun(rerun)
    run, key = _run(request), _request_key(request, "retry")
    if _has_acted(request, run.run_id, key):
        return _answered_before(request, run.run_id)
    _check_ended(run)
    if run.status == "SUCCESS" and not rerun.start and not rerun.changed:
        raise RequestProblem(409, "CONFLICT", f"run {run.run_id} has succeeded: name the tasks to run again")
    reruns.preview(request.services.db, run.run_id, rerun)  # so that an unknown task is named
    return _started(request, _control(request).rerun(run.run_id, rerun, caller=request.caller, key=key))


def _check_rerun(rerun: RerunOptions) -> None:
    if rerun.only and rerun.changed:
        message = "goes with `changed` in no request: tasks that have changed run with what follows them"
        raise RequestProblem(422, "BAD_INPUT", f"only {message}", fields={"only": message})
    for name in ("only", "ignore_upstream"):
        if getattr(rerun, name) and not rerun.start:
            raise RequestProblem(422, "BAD_INPUT", f"{name} needs tasks", fields={name: "needs tasks"})


def fork_run(request: CheckedRequest) -> Answer[StartedAnswer]:
    """Start a new run that begins in the middle of another one, with some parameters changed."""
    body = request.body
    run, key = _run(request), _request_key(request, "fork")
    if key is not None and _has_acted(request, fork_id(run, key.key), key):
        return _answered_before(request, fork_id(run, key.key))
    reruns.preview(request.services.db, run.run_id, RerunOptions(start=tuple(body["tasks"])))
    params = _params(body)
    control = _control(request)
    _check_served(control, run.dag_id)
    _check_params(request, run.dag_id, {**run.params, **params})
    return _started(request, control.fork(run.run_id, body["tasks"], params, caller=request.caller, key=key))


def start_again(request: CheckedRequest) -> Answer[StartedAnswer]:
    """Start a new run with the parameters of another one."""
    control = _control(request)
    run = _run(request)
    _check_served(control, run.dag_id)
    _check_params(request, run.dag_id, run.params)
    return _started(request, control.start(run.dag_id, run.params, caller=request.caller, key=request.key))


def _run(request: CheckedRequest) -> RunRecord:
    return queries.run_record(request.services.db, request.path["run"])


def _request_key(request: CheckedRequest, action: str) -> RequestKey | None:
    """Return the key of a request with a digest of what it wants."""
    if request.key is None:
        return None
    content = json.dumps([action, request.body], sort_keys=True, separators=(",", ":"))
    return RequestKey(key=request.key, content=hashlib.sha256(content.encode()).hexdigest())


def _has_acted(request: CheckedRequest, run_id: str, key: RequestKey | None) -> bool:
    """Return whether a request with this key has changed a run.

    Raises:
        RequestProblem: it wanted something else.
    """
    if key is None:
        return False
    with History(request.services.db) as history:
        content = history.request_content(run_id, key.key)
    if content is not None and content != key.content:
        detail = f"this key has changed run {run_id} with other parameters; send another key"
        raise RequestProblem(422, "BAD_INPUT", detail)
    return content is not None


def _answered_before(request: CheckedRequest, run_id: str) -> Answer[StartedAnswer]:
    """Return the answer to a request that comes again."""
    return _started(request, StartedRun(run_id=run_id, fire_no=None, status="STARTED", reason=None))


def _check_ended(run: RunRecord) -> None:
    """Raise RequestProblem unless a run has ended."""
    if run.status not in RUN_ENDED:
        raise RequestProblem(409, "CONFLICT", f"run {run.run_id} is {run.status}")


def clear_tasks(request: CheckedRequest) -> Answer[ChangedTasksShape]:
    """Set tasks of a run, and what follows them, back to PENDING; the next resume runs them."""
    body = request.body
    with acting_for(request.caller):
        changed = reruns.clear(request.services.db, request.path["run"], body["tasks"], only=body.get("only", False))
    return _changed(changed)


def mark_tasks(request: CheckedRequest) -> Answer[ChangedTasksShape]:
    """Give tasks of a run a state by hand, and a success its values."""
    body = request.body
    with acting_for(request.caller):
        changed = reruns.mark(
            request.services.db,
            request.path["run"],
            body["tasks"],
            body["status"],
            reason=body.get("reason") or "",
            values=body.get("outputs") or {},
        )
    return _changed(changed)


def _changed(changed: reruns.ChangedTasks) -> Answer[ChangedTasksShape]:
    return Answer(body=changed_tasks_shape(changed.run, changed.names))


def decide(request: CheckedRequest) -> Answer[DecisionShape]:
    """Approve or reject a task that waits for a person; the first decision counts."""
    body = request.body
    arguments = DecisionArguments(
        approved=body["approved"],
        words=[f"{name}={_as_typed(value)}" for name, value in (body.get("fields") or {}).items()],
        comment=body.get("comment") or "",
        by=body.get("by") or request.caller,
    )
    decided = decide_about(request.services.db, request.path["run"], name_in_path(request), arguments)
    return Answer(body=decision_shape(decided[0]))


def _as_typed(value: Any) -> str:
    """Return a value of JSON as a person types it for a field."""
    return value if isinstance(value, str) else json.dumps(value)


def start_run(request: CheckedRequest) -> Answer[StartedAnswer]:
    """Start a run of a workflow that this server serves, or of a part of it."""
    control, workflow = _control(request), request.path["workflow"]
    _check_served(control, workflow)
    params, body = _params(request.body), request.body
    _check_params(request, workflow, params)
    selection = SelectionOptions(
        only=tuple(body.get("only", ())),
        start=tuple(body.get("from", ())),
        until=tuple(body.get("until", ())),
        skip=tuple(body.get("skip", ())),
        values_from=body.get("values_from"),
    )
    started = control.start(workflow, params, caller=request.caller, key=request.key, selection=selection)
    return _started(request, started)


def _param_problems(request: CheckedRequest, workflow: str, params: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the mistakes in the parameters of a run by their fields; a message may quote choices and limits."""
    problems = _control(request).check(workflow, params)
    hidden = request.services.hides_values
    return {each.field: _HIDDEN_PROBLEM if hidden else each.message for each in problems}


def _check_params(request: CheckedRequest, workflow: str, params: Mapping[str, Any]) -> None:
    """Check the parameters of a run. Raises RequestProblem with all mistakes."""
    fields = _param_problems(request, workflow, params)
    if fields:
        detail = "; ".join(f"{name}: {message}" for name, message in fields.items())
        raise RequestProblem(422, "BAD_INPUT", detail, fields=fields)


def check_params(request: CheckedRequest) -> Answer[ProblemsAnswer]:
    """Return the mistakes in the parameters of a run, with the checks of `lightflow run`."""
    workflow = request.path["workflow"]
    _check_served(_control(request), workflow)
    problems = _param_problems(request, workflow, _params(request.body))
    return Answer(body={"problems": [{"field": name, "message": message} for name, message in problems.items()]})


def pause_workflow(request: CheckedRequest) -> Answer[PausedWorkflowAnswer]:
    """Pause the triggers of a workflow."""
    return _set_workflow_paused(request, paused=True)


def unpause_workflow(request: CheckedRequest) -> Answer[PausedWorkflowAnswer]:
    """End the pause of a workflow. The instants of the pause do not run."""
    return _set_workflow_paused(request, paused=False)


def pause_trigger(request: CheckedRequest) -> Answer[PausedTriggerAnswer]:
    """Pause a trigger."""
    return _set_trigger_paused(request, paused=True)


def unpause_trigger(request: CheckedRequest) -> Answer[PausedTriggerAnswer]:
    """End the pause of a trigger. The instants of the pause do not run."""
    return _set_trigger_paused(request, paused=False)


def _set_workflow_paused(request: CheckedRequest, *, paused: bool) -> Answer[PausedWorkflowAnswer]:
    control, name = _control(request), request.path["workflow"]
    _check_served(control, name)
    control.pause(name, paused=paused, caller=request.caller, reason=request.body.get("reason"))
    return Answer(body={"workflow": name, "paused": paused})


def _set_trigger_paused(request: CheckedRequest, *, paused: bool) -> Answer[PausedTriggerAnswer]:
    control, name = _control(request), request.path["trigger"]
    control.pause(name, paused=paused, caller=request.caller, reason=request.body.get("reason"))
    return Answer(body={"trigger": name, "paused": paused})


def fire_trigger(request: CheckedRequest) -> Answer[StartedAnswer]:
    """Fire a trigger now; `at` is the moment that the run is for."""
    control, text = _control(request), request.body.get("at")
    moment = None if text is None else _moment(text)
    return _started(request, control.fire(request.path["trigger"], caller=request.caller, key=request.key, at=moment))


def _moment(text: str) -> float:
    """Return a moment of a request. Raises RequestProblem."""
    try:
        return moment_of(text)
    except ValueError:
        message = "must be a moment such as 2026-01-31T03:00:00Z"
        raise RequestProblem(422, "BAD_INPUT", f"at {message}", fields={"at": message}) from None


def wake_runs(request: CheckedRequest) -> Answer[WakeShape]:
    """Resume the parked runs that are due, of the workflows that this server serves; others have a `problem`."""
    db, dry_run = request.services.db, bool(request.body.get("dry_run"))
    if dry_run:
        woken = [waking.wake(db, run, dry_run=True) for run in waking.due_runs(db)]
        runs = [run for run in woken if run is not None]
    else:
        runs = list(_control(request).wake(caller=request.caller))
    return Answer(body=waking.wake_shape(db, runs, dry_run=dry_run))


def prune(request: CheckedRequest) -> Answer[PruneShape]:
    """Delete old runs with their logs, values and checkpoints, for 20 s: then `complete` says if more are to follow."""
    body, db = request.body, request.services.db
    dry_run = bool(body.get("dry_run"))
    retention = Retention(
        days=state_files.days_of(body.get("older_than", "90d"), "older_than"), runs=body.get("keep", 20)
    )
    with acting_for(request.caller):
        report = state_files.prune(
            db, retention, body.get("workflow"), dry_run=dry_run, orphans=bool(body.get("orphans")), limit_s=_PRUNE_S
        )
    return Answer(body=state_files.prune_shape(db, report, dry_run=dry_run))


def set_pool(request: CheckedRequest) -> Answer[PoolSizeAnswer]:
    """Set the number of slots of a pool; 0 pauses it."""
    name = request.path["pool"]
    with History(request.services.db):  # a file that was moved away is not created
        pass
    pools.resize(request.services.db, name, str(request.body["slots"]))
    return Answer(body={"pool": name, "slots": request.body["slots"]})


def delete_pool(request: CheckedRequest) -> Answer[DeletedPoolAnswer]:
    """Delete a pool that is not in use."""
    pools.delete(request.services.db, request.path["pool"])
    return Answer(body={"pool": request.path["pool"], "deleted": True})


def _control(request: CheckedRequest) -> Control:
    if request.services.control is None:
        raise RequestProblem(409, "CONFLICT", "this server starts nothing; `lightflow serve` starts runs")
    return request.services.control


def _check_served(control: Control, workflow: str) -> None:
    names = [each.name for each in control.workflows()]
    if workflow not in names:
        raise RunNotFound(f"this server does not serve a workflow {workflow!r}{did_you_mean(workflow, names)}")


def _params(body: Mapping[str, Any]) -> Mapping[str, Any]:
    params: Mapping[str, Any] = body.get("params") or {}
    return params


def _started(request: CheckedRequest, started: StartedRun) -> Answer[StartedAnswer]:
    body = started_answer(started, hides_values=request.services.hides_values)
    return Answer(body=body, status=201 if started.status == "STARTED" else 202)


def started_answer(started: StartedRun, *, hides_values: bool) -> StartedAnswer:
    """Return what has become of a request for a run; its reason may quote values of parameters."""
    return {
        "run_id": started.run_id,
        "fire_no": started.fire_no,
        "status": started.status,
        "pending": started.is_pending,
        "reason": None if hides_values else started.reason,
    }
