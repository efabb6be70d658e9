"""What is asked before a task starts, and what is done because something happened to it: the words for it, no more.

`gates` asks, `hooks` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from liteflow.planning.retry import NEVER, RetryPolicy
from liteflow.record import Record
from liteflow.values.payload import Payload
from liteflow.work import Body, Ref, RunInfo

Event = Literal["on_start", "on_success", "on_failure", "on_retry", "on_cancel", "on_exit"]
HOOK_EVENTS: Final[tuple[Event, ...]] = ("on_start", "on_success", "on_failure", "on_retry", "on_cancel", "on_exit")
#: the number that stands for the run where those of tasks stand
RUN_OWNER: Final = -1


class HookDef(Record):
    """A hook as the loop runs it."""

    #: the id of the task instance that it becomes
    task_id: str
    #: one of EVENTS, or "precondition"
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


class ConditionInputs(NamedTuple):
    """What a condition may look at."""

    info: RunInfo
    task_id: str
    map_index: int
    inputs: Mapping[str, Payload]  # stored values, by `work.input_name`
    states: Mapping[str, str]  # of the tasks whose state it asks for
    upstream: Sequence[str]  # the states of what the task waits for, as its trigger rule sees them
    stopping: bool  # the run is being stopped


class Condition(Protocol):
    """A question to which the answer is yes or no, found out in the loop: it must neither wait nor run user code."""

    @property
    def text(self) -> str:
        """As it was written."""

    @property
    def reads_status(self) -> bool:
        """Does it ask how the tasks above have ended? Then what it lets run hides no failure of theirs."""

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of tasks that it takes."""

    @property
    def states(self) -> Sequence[str]:
        """The tasks whose state it asks for."""

    def holds(self, facts: ConditionInputs) -> bool:
        """The answer. Raises InputError: there is none; the message says why, and where."""


class StartCheck(NamedTuple):
    """A step of a gate: a condition, or a hook. If it fails, the task ends as `status_if_failed`; None: it goes on."""

    condition: Condition | None = None
    hook: HookDef | None = None
    status_if_failed: Literal["SKIPPED", "FAILED"] | None = "SKIPPED"
    message: str = ""  # why, where it is more than what was asked
