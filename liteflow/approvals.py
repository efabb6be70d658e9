"""Approvals: tasks that wait for the decision of a person, and the decisions.

No decision in time is a failure or a skip, never an approval.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from liteflow.errors import AlreadyDecided, RunNotFound
from liteflow.planning.task_table import instance_name
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.state.admin import send_answer
from liteflow.state.answers import StoredAnswer
from liteflow.state.history import History, InstanceRecord, RunRecord
from liteflow.states import Status
from liteflow.values.params import Param, resolve
from liteflow.work import Waiting

#: The names of the values of every approval, which no field can have.
RESERVED_FIELDS: Final = ("decision", "by", "at", "comment", "return_value")
REJECTED: Final = "approval:rejected"
_POLL_S: Final = 0.05
_LONGEST_S: Final = 10.0  # how long an owner may take to act on a decision


def wait_for_approval(message: str, fields: Mapping[str, Mapping[str, Any]]) -> Waiting:
    """Return what a task waits for: `fields` are described parameters. It is its poll, too: only a decision ends it."""
    return Waiting({"approval": {"message": message, "fields": dict(fields)}}, None, f"approval: {message}")


class OpenApproval(Record):
    """An instance that waits for a decision."""

    run_id: str
    task_id: str
    map_index: int
    attempt: int
    message: str
    fields: Mapping[str, Param]
    since: float  #: epoch seconds

    @property
    def name(self) -> str:
        """The instance for people, such as `ok[3]`."""
        return instance_name(self.task_id, self.map_index)


class Choice(Record):
    """The decision of a person."""

    approved: bool
    by: str
    fields: Mapping[str, Any] = EMPTY_MAPPING
    comment: str = ""


def open_approvals(history: History, run: RunRecord, task_id: str | None = None) -> list[OpenApproval]:
    """Return the instances of a run, or of one of its tasks, that wait for a decision."""
    approvals, handles = [], history.handles(run.run_id)
    decided = {answer.attempt_key for answer in history.answers(run.run_id)} if handles else set()
    for name, index, handle in handles:
        described_approval = _approval_in(handle) if task_id in (None, name) else None
        if described_approval is None:
            continue
        record = history.instance(run.run_id, name, index)
        if record is None or (name, index, record.try_number) in decided:
            continue  # the run acts on the decision when it continues
        message, fields = described_approval
        approvals.append(
            OpenApproval(
                run_id=run.run_id,
                task_id=name,
                map_index=index,
                attempt=record.try_number,
                message=message,
                fields=fields,
                since=record.started_at or record.updated_at,
            )
        )
    return approvals


def _approval_in(handle: str | None) -> tuple[str, dict[str, Param]] | None:
    """Return the message and the fields in a handle; None: it waits for something else, or was altered."""
    try:
        approval = json.loads(handle or "null")["approval"]
        return str(approval["message"]), {name: Param(**keys) for name, keys in approval["fields"].items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def find_approval(history: History, run: RunRecord, instance: InstanceRecord) -> OpenApproval:
    """Return what an instance waits for.

    Raises:
        AlreadyDecided: it has been decided, or its time is over.
        RunNotFound: it does not wait for a decision, and never has.
    """
    name = instance_name(instance.task_id, instance.map_index)
    for approval in open_approvals(history, run, instance.task_id):
        if approval.map_index == instance.map_index:
            return approval
    key = (instance.task_id, instance.map_index)
    earlier = [other for other in history.answers(run.run_id) if other.attempt_key[:2] == key]
    if earlier:
        raise AlreadyDecided(f"{name} of run {run.run_id} was decided {earlier[-1].summary}")
    raise RunNotFound(
        f"{name} of run {run.run_id} waits for no decision: it is {instance.status}"
        + (f" ({instance.reason})" if instance.reason else "")
    )


def decide(db_path: str, approval: OpenApproval, choice: Choice) -> Literal["done", "stored"]:
    """Decide about a task that waits. The first decision counts.

    Returns "done", or "stored": no process runs the run, and the next one that resumes it acts on the decision.

    Raises:
        ParamError: fields are missing, or not valid.
        AlreadyDecided: another decision, or the timeout, was first.
    """
    at = time.time()
    fields = resolve(approval.fields, choice.fields, at) if choice.approved else {}
    shown_at = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(at))
    values = {"decision": "approved", "by": choice.by, "at": shown_at, "comment": choice.comment, **fields}
    reason = f"rejected by {choice.by}" + (f": {choice.comment}" if choice.comment else "")
    answer = StoredAnswer(
        task_id=approval.task_id,
        map_index=approval.map_index,
        attempt=approval.attempt,
        verdict="SUCCESS" if choice.approved else "FAILED",
        by=choice.by,
        at=at,
        reason="" if choice.approved else reason,
        codes=() if choice.approved else (REJECTED,),
        values=json.loads(json.dumps(values, default=str)) if choice.approved else {},
    )
    number, earlier = send_answer(db_path, approval.run_id, answer)
    if earlier is not None:
        raise AlreadyDecided(f"{approval.name} of run {approval.run_id} was decided {earlier.summary}")
    with History(db_path) as history:
        return _result(history, approval, answer, number)


def _result(history: History, approval: OpenApproval, answer: StoredAnswer, number: int) -> Literal["done", "stored"]:
    """Wait until the owner of the run has acted on an answer. Raises AlreadyDecided: something else was first."""
    give_up = time.monotonic() + _LONGEST_S
    while not history.is_handled(number):
        if history.run(approval.run_id).status != Status.RUNNING or time.monotonic() > give_up:
            return "stored"
        time.sleep(_POLL_S)
    ended = history.attempt(approval.run_id, approval.task_id, approval.map_index, approval.attempt)
    if ended is not None and ended.status != answer.verdict:
        raise AlreadyDecided(f"{approval.name} of run {approval.run_id} had ended before: it is {ended.status}")
    return "done"


def user_name() -> str:
    """Return the name of the user of this process, which is not a proof of identity."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def reserved_field(names: Sequence[str]) -> str | None:
    """Return the first name that a field cannot have."""
    return next((name for name in names if name in RESERVED_FIELDS), None)
