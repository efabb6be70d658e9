"""Decide about the tasks of a run that wait for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightflow.engine.formatting import display_name
from lightflow.errors import Problem, WorkflowError
from lightflow.service.lookup import find_instance, find_run
from liteflow import DefinitionError, Param, RunNotFound
from liteflow.api import (
    Choice,
    History,
    OpenApproval,
    Record,
    RunRecord,
    current_day,
    decide,
    find_approval,
    open_approvals,
)
from liteflow.api import user_name as user_name_of_process
from liteflow.planning.targets import chosen_instances, split_target
from liteflow.values.params import unknown


class Decided(Record):
    """A decision that is stored."""

    approval: OpenApproval
    name: str  #: of the task or the instance, with its label
    choice: Choice
    state: Literal["done", "stored"]  #: "stored": the next process that resumes the run acts on it
    parked: bool  #: whether its run was parked


class DecisionArguments(Record):
    """A decision as a user types it."""

    approved: bool
    words: Sequence[str] = ()  #: fields, as `name=value`
    comment: str = ""
    by: str | None = None
    every: bool = False  #: whether all instances of the task are meant, or all tasks


def decide_about(db: str, run_id: str | None, name: str | None, arguments: DecisionArguments) -> list[Decided]:
    """Decide about a task, an instance such as `ok[3]`, or with `every` about all that wait.

    With `every`, an instance may be named by a pattern of its label: `ok[e*]`.

    Raises:
        RunNotFound: there is no such run or task, or it waits for no decision.
        DefinitionError: no task is named, or there is no such instance.
        AlreadyDecided: it has been decided, or its time is over.
        WorkflowError: a field is not valid.
    """
    with History(db) as history:
        run = history.last_active() if run_id is None else find_run(history, run_id)
        if name is None and not arguments.every:
            names = ", ".join(approval.name for approval in open_approvals(history, run)) or "none"
            raise DefinitionError(
                f"name the task, or write --all; in run {run.run_id} these wait for a decision: {names}"
            )
        if arguments.every:
            approvals = _all_named(history, run, name)
            if not approvals:
                what = "nothing" if name is None else f"nothing of {name}"
                raise RunNotFound(f"{what} in run {run.run_id} waits for a decision")
        else:
            assert name is not None
            approvals = [find_approval(history, run, find_instance(history, run, name))]
        parked = {each.run_id for each in approvals if history.parked_until(each.run_id) is not None}
        labels = {task_id: history.labels(run.run_id, task_id) for task_id in {each.task_id for each in approvals}}
    by = arguments.by or user_name_of_process()
    choices = [(approval, _choice(approval, arguments, by)) for approval in approvals]  # all are checked first
    return [
        Decided(
            approval=approval,
            name=display_name(approval.task_id, approval.map_index, labels[approval.task_id].get(approval.map_index)),
            choice=choice,
            state=decide(db, approval, choice),
            parked=approval.run_id in parked,
        )
        for approval, choice in choices
    ]


def _all_named(history: History, run: RunRecord, name: str | None) -> list[OpenApproval]:
    """Return all that waits in a run, in a task, or in the instances with an index, a label or a pattern of it."""
    if name is None:
        return open_approvals(history, run)
    task_id, key = split_target(name)
    approvals = open_approvals(history, run, task_id)
    if key is None:
        return approvals
    labels = history.labels(run.run_id, task_id)
    indexes = chosen_instances(task_id, key, labels, f"run {run.run_id}") if approvals else ()
    return [approval for approval in approvals if approval.map_index in indexes]


def _choice(approval: OpenApproval, arguments: DecisionArguments, by: str) -> Choice:
    """Return the checked decision. Raises WorkflowError."""
    fields: dict[str, Any] = {}
    problems, typed_names = [], [word.partition("=")[0] for word in arguments.words]
    for name, word in zip(typed_names, arguments.words, strict=True):
        text = word[len(name) + 1 :]
        message = "is given twice" if name in fields else _field_problem(name, "=" in word, approval.fields)
        if message is None:
            try:
                fields[name] = approval.fields[name].parse(text, current_day())
            except ValueError as error:
                message = str(error)
        if message is not None:
            problems.append(Problem(f"--field {name}", 0, 0, "", message))
    if arguments.approved:
        problems += [
            Problem(approval.name, 0, 0, "", f"needs the field {name}: {param.wanted}; give it with --field {name}=…")
            for name, param in approval.fields.items()
            if param.required and name not in typed_names
        ]
    if problems:
        raise WorkflowError(problems)
    return Choice(approved=arguments.approved, by=by, fields=fields, comment=arguments.comment)


def _field_problem(name: str, has_value: bool, fields: Mapping[str, Param]) -> str | None:
    if not has_value:
        return "write --field name=value"
    return None if name in fields else unknown(name, fields).replace("parameter", "field")
