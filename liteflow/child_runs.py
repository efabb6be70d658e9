"""Child runs: a task of a run executes another dag as a run of its own, in the same state file.

The task waits for it without a slot. The child run is executed by a worker of the parent run, as a long poll. If a
process dies, the next poll finds the child run by its id and continues it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from liteflow.context import current_context
from liteflow.dagrun import DagRun
from liteflow.definition.task import Task, reference
from liteflow.errors import (
    DefinitionError,
    LiteflowError,
    ResourceError,
    RunNotFound,
    RunOwned,
    SkipTask,
    StaleRun,
    StoreError,
    TaskFailed,
)
from liteflow.record import Record
from liteflow.state.history import History, RunRecord
from liteflow.state.records import ParentTask
from liteflow.states import Status
from liteflow.values.params import Param, unknown
from liteflow.values.payload import decode
from liteflow.values.secrets import reject_secrets_in
from liteflow.work import Call, Item, Poll, Ref, Waiting

#: How many runs may be above a child run.
MAX_DEPTH: Final = 10
#: How many times in a row the process of a child run may die.
_MAX_DEATHS: Final = 3
_OWNED_S: Final = 1.0  # the pause before a child run that another process executes is looked at again
_PLACEHOLDERS: Final = (Ref, Item, Task)

FAILED: Final = "workflow:failed"
CANCELLED: Final = "workflow:cancelled"
REFUSED: Final = "workflow:refused"


class ChildDag(Protocol):
    """A dag, as far as it is executed as a child run."""

    dag_id: str
    db_path: str
    params: dict[str, Param] | None
    tasks: dict[str, Task]

    @property
    def outputs(self) -> dict[str, Any]: ...

    def run(self, *arguments: Any, **options: Any) -> DagRun: ...

    def resume(self, *arguments: Any, **options: Any) -> DagRun: ...


class ChildRun(Record):
    """How a child run is started and resumed, and what it returns."""

    params: Mapping[str, Any]
    start: Callable[[str, ParentTask], DagRun]
    resume: Callable[[RunRecord, ParentTask], DagRun]
    outputs: Callable[[DagRun], Mapping[str, Any]]  #: of a run that has succeeded


def child_call(func: Callable[..., Any], kwargs: Mapping[str, Any], *, on_retry: str = "resume") -> Call:
    """Return the body of a task that executes a child run by `func`, which calls `execute`."""
    if on_retry not in ("resume", "new"):
        raise DefinitionError(f'on_retry is "resume" or "new", not {on_retry!r}')
    poll = Poll(func=func, limit_s=None, failures=_MAX_DEATHS, child="new" if on_retry == "new" else "resume")
    return Call(func, kwargs, poll=poll)


def execute(child: ChildRun) -> Any:
    """Execute the child run of the attempt that runs here, as far as it has not ended, and return its outputs.

    Raises:
        TaskFailed: it did not succeed, or cannot be started.
        SkipTask: it was not started, because of another run of its group.
    """
    context = current_context()
    run_id = str(context.handle["run"])
    parent = ParentTask(context.run_id, context.task_id, context.map_index, context.attempt)
    with History(context.db_path) as history:
        record = _stored(history, run_id)
        if record is None:
            _check_depth(history, parent)
    try:
        if record is None:
            reject_secrets_in(child.params, context.secrets)  # those of the parent, which the child run may not know
            run = child.start(run_id, parent)
        elif _has_ended(record, parent):
            run = DagRun.from_record(context.db_path, record)
        else:
            run = child.resume(record, parent)
    except RunOwned as error:
        if record is None:
            raise TaskFailed(str(error), codes=(REFUSED,)) from None
        return Waiting(None, _OWNED_S, str(error))
    except StaleRun as error:
        return Waiting(None, _OWNED_S, str(error))
    except LiteflowError as error:
        if type(error) in (StoreError, ResourceError):
            raise  # it may pass: the next poll continues the child run
        raise TaskFailed(f"child run {run_id}: {error}", codes=(REFUSED,), final=True) from None
    return _answer(run, child)


def _stored(history: History, run_id: str) -> RunRecord | None:
    try:
        record = history.run(run_id)
    except RunNotFound:
        return None
    return record if record.run_id == run_id else None


def _has_ended(record: RunRecord, parent: ParentTask) -> bool:
    """Return whether a child run needs nothing more: it has succeeded, or has ended in this attempt of its parent."""
    if record.status == Status.SUCCESS:
        return True
    ended = record.status in (Status.FAILED, Status.CANCELLED)
    return ended and record.settings.get("parent_attempt") == parent.attempt


def _check_depth(history: History, parent: ParentTask) -> None:
    line = [parent.run_id, *history.ancestors(parent.run_id)]
    if len(line) > MAX_DEPTH:
        message = f"there are {len(line)} runs above it, and at most {MAX_DEPTH} are allowed; the first is {line[-1]}"
        raise TaskFailed(message, codes=(REFUSED,), final=True)


def _answer(run: DagRun, child: ChildRun) -> Any:
    """Return what the parent learns of a child run."""
    if run.status == Status.SUCCESS:
        context, values = current_context(), dict(child.outputs(run))
        for name, value in values.items():
            context.xcom_push(name, value)
        return values
    if run.status == Status.SKIPPED:
        raise SkipTask(run.reason or "")
    if run.status == Status.INTERRUPTED:
        return _look_again(run)
    if run.status == Status.CANCELLED:
        raise TaskFailed(f"child run {run.run_id} is CANCELLED: {run.reason}", codes=(CANCELLED,))
    failures = run.failures()
    first = next(iter(failures.items()), None)
    why = run.reason or "failed" if first is None else f"{first[0]}: {first[1]}"
    raise TaskFailed(f"child run {run.run_id} is FAILED: {why}", codes=(FAILED,))


def _look_again(run: DagRun) -> Waiting:
    """Return when a child run that was interrupted is continued: at once, unless it is parked."""
    why = f"child run {run.run_id}, last {run.reason}"
    with History(run.db_path) as history:
        parked = history.parked_until(run.run_id)
    if parked is None:
        return Waiting(None, 0.0, why)
    return Waiting(None, None if parked.wake_at is None else max(0.0, parked.wake_at - time.time()), why)


# -- child runs of dags in Python ------------------------------------------------------------------------------------


def execute_dag(dag: ChildDag, params: Mapping[str, Any]) -> Any:
    """Execute a dag as the child run of the attempt that runs here."""
    context = current_context()
    dag.db_path = context.db_path
    options: dict[str, Any] = {"log_dir": context.log_dir, "raise_signals": False, "park": context.parks}

    def start(run_id: str, parent: ParentTask) -> DagRun:
        day = context.logical_date
        return dag.run(run_id=run_id, params=params, logical_date=day, parent=parent, **options)

    def resume(record: RunRecord, parent: ParentTask) -> DagRun:
        return dag.resume(record.run_id, parent=parent, **options)

    return execute(ChildRun(params=params, start=start, resume=resume, outputs=partial(outputs_of, dag)))


def outputs_of(dag: ChildDag, run: DagRun) -> dict[str, Any]:
    """Return the outputs of a run of a dag by name; that of a task without the value is None."""
    with History(run.db_path) as history:
        payloads = {name: history.value(run.run_id, *reference(value)) for name, value in dag.outputs.items()}
    return {name: None if payload is None else decode(payload) for name, payload in payloads.items()}


def dag_call(dag: ChildDag, params: Mapping[str, Any], on_retry: str) -> Call:
    """Return the body of a task that executes a dag as a child run."""
    return child_call(partial(execute_dag, dag), {"params": params}, on_retry=on_retry)


def executed_dags(dag: ChildDag) -> list[ChildDag]:
    """Return a dag, and those that its tasks execute, at any depth."""
    dags, remaining = list[ChildDag](), [dag]
    while remaining:
        each = remaining.pop()
        if each not in dags:
            dags.append(each)
            calls = [task.fixed_body for task in each.tasks.values() if isinstance(task.fixed_body, Call)]
            funcs = [call.func for call in calls]
            remaining += [func.args[0] for func in funcs if isinstance(func, partial) and func.func is execute_dag]
    return dags


def _is_known(value: Any) -> bool:
    """Return whether a value has no part that only a task will have."""
    if isinstance(value, _PLACEHOLDERS):
        return False
    if isinstance(value, Mapping):
        return all(map(_is_known, value.values()))
    return all(map(_is_known, value)) if isinstance(value, list | tuple) else True


def check_params(params: Mapping[str, Param], values: Mapping[str, Any], task_id: str) -> None:
    """Check the parameters of a child run as far as they are known.

    Raises:
        DefinitionError: one is unknown, missing or not valid.
    """
    for name, value in values.items():
        if name not in params:
            raise DefinitionError(f"task {task_id!r}: params.{name}: {unknown(name, params)}")
        try:
            if _is_known(value):
                params[name].value(value)
        except ValueError as error:
            raise DefinitionError(f"task {task_id!r}: params.{name}: {error}") from None
    for name, param in params.items():
        if param.required and name not in values:
            raise DefinitionError(f"task {task_id!r}: params.{name} needs a value: {param.wanted}")
