"""The interfaces of an executor and its backends.

The loop knows one `Executor`. Behind it each mode has a `Backend`, which runs the attempts of some tasks and posts
their outcomes into a queue that all backends of a run share.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from liteflow.executors.guardian_client import GuardianClient
from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.record import Record
from liteflow.work import Body, HostId, Outcome, RunInfo, Work

#: The signal by which a run cancels a child run; other signals interrupt a run, so that it can be resumed.
CANCEL_SIGNAL: Final = signal.SIGUSR1


class PlaceState(Record):
    """The facts that an executor has about a place that is a cluster."""

    slots: int  #: that its machines have now
    wanted: int  #: how many the run can use
    hosts: Mapping[int, str]  #: the machine of each attempt that runs there, by node
    problem: str = ""  #: why the last machine that was wanted could not be had; empty: it could


class Executor(Protocol):
    """Runs attempts; every submitted attempt comes back as exactly one Outcome, until `close`.

    One thread, always the same, calls these methods; `wake` may be called from signal handlers.
    """

    @property
    def queues(self) -> bool:
        """Whether attempts may be submitted beyond the slots: they start in order, each when a slot is free."""

    @property
    def session(self) -> int | None:
        """The guardian's number: `tree.sweep_session` finds by it the processes that a killed guardian left behind."""

    def submit(self, work: Work) -> None:
        """Start an attempt, or queue it where there is no slot and `queues` is true. Failures become Outcomes."""

    def flush(self) -> None:
        """Send what was submitted; `wait` does it, too. So the works of a turn go to another machine together."""

    def room(self) -> Mapping[str, int]:
        """Return the free slots of each place; the empty name is this machine. `wait` returns when another frees some.

        A place that is not named has no free slot. A number below zero says how many attempts have no slot yet.
        """

    def want(self, place: str, count: int) -> None:
        """Take the number of attempts that wait for a slot of a place, which may then grow, or give slots back."""

    def place_states(self) -> Mapping[str, PlaceState]:
        """Return what is known of each place that is a cluster."""

    def poll(self, works: Sequence[Work]) -> None:
        """Start the polls of attempts that wait: in one worker, one after the other, within the limit of the longest.

        Each has an Outcome. To cancel one ends the worker, and the others with it.
        """

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        """Return the outcomes that have arrived; none when the time is over or `wake` was called."""

    def cancel(self, node: int, grace_s: float) -> None:
        """End an attempt: SIGTERM, `grace_s` seconds, SIGKILL for all that it started; its Outcome is CANCELLED.

        A thread cannot be killed: after the grace it is abandoned, and its late result is dropped.
        """

    def interrupt(self, node: int) -> None:
        """Let the child run that a node executes end as INTERRUPTED; do nothing where it executes none."""

    def end_wait(self, work: Work, outcome: Outcome) -> None:
        """Undo an attempt that waited and has not succeeded; then return its outcome."""

    def undo(self, works: Sequence[Work]) -> list[str | None]:
        """Undo attempts whose processes are dead, each on its machine.

        Return for each why its undo has failed; None: it has not.
        """

    def undo_hosts(self) -> Sequence[tuple[int, HostId]]:
        """Return the nodes of attempts with an undo that another machine is about to get, each with the machine.

        They start there with the next `flush`, so that the caller can store before where they are.
        """

    def wake(self) -> None:
        """Make `wait` return."""

    def close(self, grace_s: float = 0.0) -> None:
        """End everything that runs, without outcomes; wait for nothing that may hang."""


class Backend:
    """One way of running attempts. Subclasses override `submit` and `cancel`, and what else they need.

    A backend posts exactly one Outcome for each attempt into `BackendContext.outcomes`, from any thread. The thread of
    the loop calls these methods; none of them may block.
    """

    #: Whether attempts may be submitted beyond the slots: they start in order, each when a slot is free.
    queues = False
    #: Whether functions run in this process, whose output, input and exits are then guarded.
    in_this_process = False
    #: Whether attempts run on other machines, and take no slot of this one.
    is_far = False

    def submit(self, work: Work) -> None:
        """Start an attempt of one of the backend's tasks."""
        raise NotImplementedError

    def submit_all(self, works: Sequence[Work]) -> None:
        """Start several attempts; a backend may run them in one process, one after the other."""
        for work in works:
            self.submit(work)

    def cancel(self, node: int, grace_s: float) -> None:
        """End the attempt of a node within `grace_s` seconds; do nothing when it has ended."""
        raise NotImplementedError

    def interrupt(self, node: int) -> None:
        """Let the child run that a node executes end as INTERRUPTED; do nothing where it executes none."""

    def close(self, grace_s: float) -> None:
        """End everything that runs, without outcomes."""

    def flush(self) -> None:
        """Send what was submitted."""

    def room(self) -> Mapping[str, int]:
        """Return the free slots of each place of a far backend; below zero: attempts that have no slot yet."""
        return {}

    def want(self, place: str, count: int) -> None:
        """Take the number of attempts that wait for a slot of a place of a far backend."""

    def undo_hosts(self) -> Sequence[tuple[int, HostId]]:
        """Return which attempts with an undo start on which machine with the next `flush`."""
        return ()

    def undo(self, works: Sequence[Work]) -> list[str | None]:
        """Undo attempts that ran on other machines. Return for each why its undo has failed; None: it has not."""
        return ["its task does not run on a cluster now: resume with the mode of the attempt"] * len(works)

    def place_states(self) -> Mapping[str, PlaceState]:
        """Return what is known of each place of a far backend."""
        return {}

    @property
    def attempt_count(self) -> int:
        """How many attempts a far backend has that have no outcome."""
        return 0

    @property
    def is_busy(self) -> bool:
        """Whether processes of attempts still run after `close`, so that the executor has to wait up to the grace."""
        return False

    def release(self) -> None:
        """Close descriptors, once no process of the run is left."""


class UndoRegister(Protocol):
    """The undos of the attempts of a run; see `executors.undo`."""

    def register(self, work: Work) -> None:
        """Register the undo of an attempt before it starts. Raises LiteflowError or ValueError when that fails."""

    def post(self, outcome: Outcome) -> None:
        """Post an outcome: a success at once, any other outcome after the undo of its attempt."""

    def start(self, undo: Work, on_end: Callable[[str | None], None]) -> None:
        """Start an undo of an attempt of a dead process. `on_end` gets why it has failed; None: it has not."""

    def undo(self, works: Sequence[Work]) -> list[str | None]:
        """Undo attempts of dead processes. Return for each why its undo has failed; None: it has not."""


class BackendContext(Record):
    """The facts that a backend gets when a run opens it."""

    outcomes: OutcomeQueue
    bodies: Mapping[str, Body]  # of the tasks that this backend runs, by task id
    info: RunInfo
    slots: int  # how many attempts run at once
    guardian: GuardianClient | None  # for backends whose attempts are processes
    undos: UndoRegister | None = None  # None: no task has an undo

    @property
    def post(self) -> Callable[[Outcome], None]:
        """The function that posts the outcome of an attempt, after its undo if it is to be undone."""
        return self.outcomes.post if self.undos is None else self.undos.post


#: Opens a backend for one run.
BackendFactory = Callable[[BackendContext], Backend]
