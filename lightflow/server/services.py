"""The parts that handlers use: the state file, the feed, the tokens, the scheduler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lightflow.clock import ClockTimes, read_clock
from lightflow.engine.choices import ALL_TASKS, RerunOptions, SelectionOptions
from lightflow.scheduler.failures import SchedulerState
from lightflow.scheduler.waking import DueRun
from lightflow.server.answers import ServedTriggerShape
from lightflow.server.feed import Feed
from lightflow.server.frames import FrameBuilder
from lightflow.server.layouts import Layouts
from lightflow.server.metrics import Metrics
from lightflow.server.tokens import LoginCodes, Tokens
from liteflow.api import EMPTY_MAPPING, Record, RequestKey, read_fires, replace


class ServedWorkflow(Record):
    """A workflow file that the server watches and may start."""

    name: str
    file: str
    reference: str  #: the workflow in its file: the argument of `lightflow run`
    description: str
    problem: str | None  #: why it cannot be started
    paused_by: str | None  #: None: it is not paused
    params_schema: Mapping[str, Any]  #: the JSON Schema of its parameters
    triggers: Sequence[ServedTriggerShape]  #: in words, with the next fires


class StartedRun(Record):
    """The answer to a request for a run."""

    run_id: str | None  #: of a run that has not started: the id that it will have; None: it will not start
    fire_no: int | None
    status: str  #: of the fire: CLAIMED, STARTED, SKIPPED, WAITING, FAILED
    reason: str | None

    @property
    def is_pending(self) -> bool:
        """Whether it is still to be seen if the run starts."""
        return self.status in ("CLAIMED", "WAITING")


def started_by_fire(db: str, run_id: str) -> StartedRun | None:
    """Return what has become of the fire of a run; None: it has none."""
    for fire in read_fires(db, run_ids=[run_id]):
        started = StartedRun(run_id=run_id, fire_no=fire.fire_no, status=fire.status, reason=fire.reason)
        return started if started.is_pending or fire.status == "STARTED" else replace(started, run_id=None)
    return None


class ParamProblem(Record):
    """A parameter that cannot be used."""

    field: str
    message: str


class Control(Protocol):
    """Starts and pauses workflows, on behalf of `lightflow serve`. Every change has the name of its caller."""

    def workflows(self) -> Sequence[ServedWorkflow]:
        """Return the workflows that are served."""

    def problems(self) -> Mapping[str, str]:
        """Return why files cannot be served, by their paths."""

    def scheduler_state(self) -> SchedulerState:
        """Return whether the scheduler works, and what fails in it."""

    def check(self, workflow: str, params: Mapping[str, Any]) -> Sequence[ParamProblem]:
        """Return the mistakes in the parameters of a run."""

    def start(self, workflow: str, params: Mapping[str, Any], *, caller: str, key: str | None,
              selection: SelectionOptions = ALL_TASKS) -> StartedRun:  # fmt: skip
        """Start a run, or a part of one; the same key starts it once."""

    def rerun(self, run_id: str, rerun: RerunOptions, *, caller: str, key: RequestKey | None = None) -> StartedRun:
        """Resume a run, or run a part of it again, in the folder in which it was started."""

    def fork(self, run_id: str, tasks: Sequence[str], params: Mapping[str, Any], *, caller: str,
             key: RequestKey | None = None) -> StartedRun:  # fmt: skip
        """Start a new run that begins in the middle of another one; of a key it is `fork_id`."""

    def wake(self, *, caller: str) -> Sequence[DueRun]:
        """Resume the parked runs that are due, and return what has become of each."""

    def late_start(self, run_id: str) -> StartedRun | None:
        """Return what has become of the last request to continue or fork a run that was answered before its start.

        None: there was none, or the run was started.
        """

    def fire(self, trigger_id: str, *, caller: str, key: str | None, at: float | None = None,
             params: Mapping[str, Any] = EMPTY_MAPPING) -> StartedRun:  # fmt: skip
        """Fire a trigger now, for a moment; the same key fires it once."""

    def secret(self, workflow: str, name: str, *, max_age_s: float) -> str:
        """Return the value of a secret that a workflow declares; it was read at most so long ago."""

    def pause(self, name: str, *, paused: bool, caller: str, reason: str | None) -> None:
        """Pause a trigger, or all triggers of a workflow, or end the pause."""


class Services(Record):
    """The parts of a server."""

    db: str
    feed: Feed
    frames: FrameBuilder
    metrics: Metrics
    tokens: Tokens
    codes: LoginCodes
    layouts: Layouts
    control: Control | None  #: None: this server starts nothing
    is_read_only: bool = False
    hides_values: bool = False  #: Whether values and parameters are left out of all answers.
    started: ClockTimes

    @property
    def uptime_s(self) -> float:
        """Return how many seconds the server has been running."""
        return read_clock().since_boot_s - self.started.since_boot_s

    @property
    def clock_set_s(self) -> float:
        """Return by how many seconds the clock was set forward since the server has started; below 0: back."""
        return read_clock().offset_s - self.started.offset_s
