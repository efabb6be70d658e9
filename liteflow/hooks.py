"""The records of hooks and start checks. `running.start_checks` and `running.hooks` act on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

from liteflow.planning.retry import NEVER, RetryPolicy
from liteflow.record import Record
from liteflow.values.payload import Payload
from liteflow.work import Body, Ref, RunInfo

Event = Literal["on_start", "on_wait", "on_success", "on_failure", "on_retry", "on_cancel", "on_exit"]
HOOK_EVENTS: Final[tuple[Event, ...]] = (
    "on_start",
    "on_wait",
    "on_success",
    "on_failure",
    "on_retry",
    "on_cancel",
    "on_exit",
)
#: The owner of the hooks of the run, in place of the number of a task.
RUN_OWNER: Final = -1


class HookDef(Record):
    """A hook as the loop runs it."""

    #: the id of the task instance that it becomes
    task_id: str
    #: one of HOOK_EVENTS, or "precondition"
    event: str
    #: the number of its task, or `RUN_OWNER`
    owner: int
    body: Body
    retry: RetryPolicy = NEVER
    timeout_s: float | None = None
    grace_s: float | None = None
    #: the execution mode; None: as the run says
    mode: str | None = None
    #: the values of tasks that it takes, each with the number of the task
    reads: Sequence[tuple[int, Ref]] = ()


class ConditionInputs(Record):
    """The values that a condition may use."""

    info: RunInfo
    task_id: str
    map_index: int
    #: stored values of upstream tasks, by `work.input_name`
    inputs: Mapping[str, Payload]
    #: the states of the tasks in `Condition.states`
    states: Mapping[str, str]
    #: the states of the upstream tasks, as the trigger rule sees them
    upstream: Sequence[str]
    #: whether the run is being stopped
    stopping: bool


class Condition(Protocol):
    """A condition that the loop evaluates: it must neither wait nor run user code."""

    @property
    def text(self) -> str:
        """The condition as it was written."""

    @property
    def reads_status(self) -> bool:
        """Whether it depends on the states of upstream tasks. Then the task does not hide their failures."""

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of upstream tasks that it takes."""

    @property
    def states(self) -> Sequence[str]:
        """The ids of the tasks whose states it takes."""

    def holds(self, facts: ConditionInputs) -> bool:
        """Return whether the condition holds. Raises InputError with the reason and the place of the error."""


class StartCheck(Record):
    """A step between a satisfied trigger rule and the start of a task: a condition, or a hook."""

    condition: Condition | None = None
    hook: HookDef | None = None
    #: the state of the task where the check fails; None: the task starts anyway
    status_if_failed: Literal["SKIPPED", "FAILED"] | None = "SKIPPED"
    #: the reason of that state
    message: str = ""
