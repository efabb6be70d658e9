"""The resolvers of the fields that change something. They use the actions of the REST routes.

The `problems` of an answer are those that a person can put right; everything else is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lightflow.errors import LightflowError
from lightflow.server import actions
from lightflow.server.bodies import BODIES
from lightflow.server.graphql.context import OperationContext
from lightflow.server.graphql.resolvers import Resolver, get_pool, get_run, get_task, get_workflow
from lightflow.server.graphql.trigger_resolvers import fire_of_run, get_trigger
from lightflow.server.problems import RequestProblem, problem_of
from lightflow.server.routing import Answer, CheckedRequest, Handler, check_body, is_request_key
from lightflow.service.json_shapes import iso
from liteflow import LiteflowError
from liteflow.api import EMPTY_MAPPING, replace

#: The codes of problems that a person can put right.
_REPAIRABLE: Final = frozenset({"BAD_INPUT", "NOT_FOUND", "CONFLICT"})


def _act(
    context: OperationContext,
    handler: Handler,
    path: Mapping[str, str],
    body: Mapping[str, Any] = EMPTY_MAPPING,
    *,
    key: str | None = None,
    arguments: Mapping[str, str] = EMPTY_MAPPING,
) -> dict[str, Any]:
    """Call an action. Return its `answer` and no `problems`, or no answer and the problems.

    The body is checked as that of a request to the route of the action. `arguments` has the arguments of GraphQL whose
    names differ from those of the fields of the body.
    """
    context.require("operator")
    schema = BODIES.get(handler)
    sent = None if schema is None else {name: value for name, value in body.items() if value is not None}
    request: CheckedRequest = replace(context.request, path=path, query={}, body=sent, key=key)
    try:
        if schema is not None:
            check_body(sent, schema)
        if key is not None and not is_request_key(key):
            message = "must be 1 to 200 printable ASCII characters"
            raise RequestProblem(400, "BAD_INPUT", f"requestKey {message}", fields={"requestKey": message})
        answer: Answer[Any] = handler(request)
    except (RequestProblem, LiteflowError, LightflowError) as error:
        problem = problem_of(error)
        if problem is None or problem.code not in _REPAIRABLE:
            raise
        return {"answer": None, "problems": _problems(problem, arguments)}
    return {"answer": answer.body, "problems": []}


def _problems(problem: RequestProblem, arguments: Mapping[str, str]) -> list[dict[str, Any]]:
    if problem.fields:
        return [
            {"message": message, "field": arguments.get(name, name).split("."), "code": problem.code}
            for name, message in problem.fields.items()
        ]
    return [{"message": problem.detail, "field": None, "code": problem.code}]


def start_run(_: object, context: OperationContext, input: Mapping[str, Any]) -> dict[str, Any]:  # noqa: A002 - its name
    """Start a run."""
    body, path = {"params": input.get("params")}, {"workflow": input["workflow"]}
    return _act(context, actions.start_run, path, body, key=input.get("requestKey"))


def resume_run(
    _: object,
    context: OperationContext,
    id: str,  # noqa: A002 - its name
    request_key: str | None = None,
) -> dict[str, Any]:
    """Resume a run."""
    return _act(context, actions.resume_run, {"run": id}, key=request_key)


def retry_run(
    _: object,
    context: OperationContext,
    *,
    id: str,  # noqa: A002 - its name
    tasks: Sequence[str] | None = None,
    request_key: str | None = None,
    **details: bool,
) -> dict[str, Any]:
    """Run a part of a run again."""
    body = {"tasks": None if tasks is None else list(tasks), **details}
    arguments = {"ignore_upstream": "ignoreUpstream"}
    return _act(context, actions.retry_run, {"run": id}, body, key=request_key, arguments=arguments)


def fork_run(
    _: object,
    context: OperationContext,
    id: str,  # noqa: A002 - its name
    tasks: Sequence[str],
    params: Any = None,
    request_key: str | None = None,
) -> dict[str, Any]:
    """Fork a run."""
    body = {"tasks": list(tasks), "params": params}
    return _act(context, actions.fork_run, {"run": id}, body, key=request_key)


def start_again(
    _: object,
    context: OperationContext,
    id: str,  # noqa: A002 - its name
    request_key: str | None = None,
) -> dict[str, Any]:
    """Start a run with the parameters of another one."""
    return _act(context, actions.start_again, {"run": id}, key=request_key)


def fire_trigger(
    _: object,
    context: OperationContext,
    id: str,  # noqa: A002 - its name
    at: float | None = None,
    request_key: str | None = None,
) -> dict[str, Any]:
    """Fire a trigger."""
    body = {} if at is None else {"at": iso(at) or str(at)}  # no moment after the year 9999 becomes the present
    return _act(context, actions.fire_trigger, {"trigger": id}, body, key=request_key)


def _set_trigger_paused(handler: Handler) -> Callable[..., dict[str, Any]]:
    def resolve(
        _: object,
        context: OperationContext,
        id: str,  # noqa: A002 - its name
        reason: str | None = None,
    ) -> dict[str, Any]:
        problems = _act(context, handler, {"trigger": id}, {"reason": reason})["problems"]
        return {"trigger": None if problems else get_trigger(context, id), "problems": problems}

    return resolve


def cancel_run(_: object, context: OperationContext, id: str) -> dict[str, Any]:  # noqa: A002 - its name
    """Request a run to end."""
    return _act(context, actions.cancel_run, {"run": id})


def clear_tasks(
    _: object, context: OperationContext, run: str, tasks: Sequence[str], only: bool | None = None
) -> dict[str, Any]:
    """Set tasks of a run back."""
    body = {"tasks": list(tasks), "only": only}
    return _act(context, actions.clear_tasks, {"run": run}, body)


def mark_tasks(
    _: object,
    context: OperationContext,
    *,
    run: str,
    tasks: Sequence[str],
    state: str,
    reason: str | None = None,
    outputs: Any = None,
) -> dict[str, Any]:
    """Give tasks of a run a state by hand."""
    body = {"tasks": list(tasks), "status": state, "reason": reason, "outputs": outputs}
    return _act(context, actions.mark_tasks, {"run": run}, body, arguments={"status": "state"})


def _decision(*, approved: bool) -> Callable[..., dict[str, Any]]:
    def resolve(
        _: object, context: OperationContext, *, run: str, task: str, index: int | None = None, **details: Any
    ) -> dict[str, Any]:
        path = {"run": run, "task": task} | ({} if index is None else {"index": str(index)})
        payload = _act(context, actions.decide, path, {"approved": approved, **details})
        record = None if payload["problems"] else get_run(None, context, run)
        node = None if record is None else get_task(record, context, task, index)
        return {"task": node, **payload}

    return resolve


def _set_paused(handler: Handler) -> Callable[..., dict[str, Any]]:
    def resolve(_: object, context: OperationContext, name: str, reason: str | None = None) -> dict[str, Any]:
        problems = _act(context, handler, {"workflow": name}, {"reason": reason})["problems"]
        return {"workflow": None if problems else get_workflow(None, context, name), "problems": problems}

    return resolve


def set_pool(_: object, context: OperationContext, name: str, slots: int) -> dict[str, Any]:
    """Set the size of a pool."""
    problems = _act(context, actions.set_pool, {"pool": name}, {"slots": slots})["problems"]
    return {"pool": None if problems else get_pool(context, name), "problems": problems}


def delete_pool(_: object, context: OperationContext, name: str) -> dict[str, Any]:
    """Delete a pool. The answer has it as it was."""
    pool = get_pool(context, name)
    problems = _act(context, actions.delete_pool, {"pool": name})["problems"]
    return {"pool": None if problems else pool, "problems": problems}


def _run(payload: Mapping[str, Any], context: OperationContext) -> Any:
    answer = payload["answer"]
    return None if answer is None or answer.get("run_id") is None else get_run(None, context, answer["run_id"])


def _names(payload: Mapping[str, Any], _: OperationContext) -> list[str]:
    return [] if payload["answer"] is None else list(payload["answer"]["tasks"])


def _answered(name: str) -> Resolver:
    """Return a resolver that reads a key of the answer of an action."""
    return lambda payload, context: None if payload["answer"] is None else payload["answer"].get(name)


def _fire(payload: Mapping[str, Any], context: OperationContext) -> Any:
    run_id = _answered("run_id")(payload, context)
    run = None if run_id is None else get_run(None, context, run_id)
    return None if run is None else fire_of_run(run, context)


def _part(name: str) -> Resolver:
    return lambda payload, context: payload[name]


RESOLVERS: Final[dict[str, Mapping[str, Resolver]]] = {
    "Mutation": {
        "startRun": start_run,
        "cancelRun": cancel_run,
        "resumeRun": resume_run,
        "retryRun": retry_run,
        "forkRun": fork_run,
        "startRunAgain": start_again,
        "clearTasks": clear_tasks,
        "markTasks": mark_tasks,
        "approve": _decision(approved=True),
        "reject": _decision(approved=False),
        "pauseWorkflow": _set_paused(actions.pause_workflow),
        "unpauseWorkflow": _set_paused(actions.unpause_workflow),
        "pauseTrigger": _set_trigger_paused(actions.pause_trigger),
        "unpauseTrigger": _set_trigger_paused(actions.unpause_trigger),
        "fireTrigger": fire_trigger,
        "setPool": set_pool,
        "deletePool": delete_pool,
    },
    "Problem": {name: _part(name) for name in ("message", "field", "code")},
    "StartRunPayload": {
        "run": _run,
        "status": _answered("status"),
        "reason": _answered("reason"),
        "fire": _fire,
        "problems": _part("problems"),
    },
    "TriggerPayload": {"trigger": _part("trigger"), "problems": _part("problems")},
    "RunPayload": {"run": _run, "problems": _part("problems")},
    "DecisionPayload": {
        "task": _part("task"),
        "atOnce": lambda payload, _: None if payload["answer"] is None else payload["answer"]["at_once"],
        "problems": _part("problems"),
    },
    "TasksPayload": {"run": _run, "tasks": _names, "problems": _part("problems")},
    "WorkflowPayload": {"workflow": _part("workflow"), "problems": _part("problems")},
    "PoolPayload": {"pool": _part("pool"), "problems": _part("problems")},
}
