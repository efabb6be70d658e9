"""Stops a run: signals, cancel requests of other processes, the deadline, and the end of what still runs."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Final

from liteflow.definition.compiled import CompiledDag
from liteflow.executors import CANCEL_SIGNAL, Executor
from liteflow.planning.plan import Plan, StopCause
from liteflow.processes.forks import forget_handlers_in_forks, use_handlers_in_forks
from liteflow.running.ports import Clock
from liteflow.running.recorder import Recorder
from liteflow.running.waits import Waits
from liteflow.state.records import Request

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """The signals that a run has received."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.numbers: list[int] = []

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal and wake the loop. It runs between any two instructions, so it does nothing else."""
        self.numbers.append(number)
        self._wake()

    @property
    def first(self) -> int | None:
        """The number of the first signal."""
        return self.numbers[0] if self.numbers else None


class Stopping:
    """Stops one plan."""

    def __init__(
        self,
        *,
        compiled: CompiledDag,
        grace_s: float,
        plan: Plan,
        executor: Executor,
        recorder: Recorder,
        signals: StopSignals,
        clock: Clock,
        waits: Waits,
    ) -> None:
        self._tasks = compiled.tasks
        self._grace_s = grace_s  # of tasks without their own
        self._plan = plan
        self._executor = executor
        self._recorder = recorder
        self._signals = signals
        self._clock = clock
        self._waits = waits
        self._signals_seen = 0
        self._request_seen = 0
        self._ending: set[int] = set()  # running tasks that are being ended

    def check_signals(self) -> None:
        """Act on new signals: the first ends tasks gracefully and leaves the run to a resume, the second at once."""
        if len(self._signals.numbers) == self._signals_seen:
            return
        self._signals_seen = len(self._signals.numbers)
        reason = f"interrupted by {signal.Signals(self._signals.numbers[0]).name}"
        if self._plan.stopped is not None:
            self.stop(reason, "cancelled")
        elif CANCEL_SIGNAL in self._signals.numbers:
            self.stop("cancelled by the parent run", "cancelled")
        else:
            self._plan.pause(reason)
            self._waits.interrupt_child_runs()
        self.end_running(None if self._signals_seen == 1 else 0.0)

    def take_requests(self, requests: Iterable[Request]) -> None:
        """Act on new cancel requests of other processes: after the second, running tasks have no grace left."""
        for request in requests:
            if request.action == "cancel" and request.request_no > self._request_seen:
                is_first = self._request_seen == 0
                self._request_seen = request.request_no
                self.stop(request.detail or "cancelled", "cancelled")
                if not is_first:
                    self.end_running(0.0)

    def stop(self, reason: str, cause: StopCause) -> None:
        """Stop the run. A second call also ends what a stopped run still does: teardowns and hooks."""
        plan = self._plan
        if plan.stopped is not None:
            self._waits.end_child_runs()
        transitions = plan.stop(reason, cause) if plan.stopped is None else plan.halt(reason)
        self._recorder.record(transitions, self._clock.time())
        self.end_running()

    def end_running(self, grace_s: float | None = None) -> None:
        """End the running tasks that a stop ends: each after its own grace, or all after `grace_s`."""
        plan = self._plan
        if plan.stopped is None:
            return
        self._recorder.show_stop(plan.stopped.reason)
        for node in plan.running:
            if not plan.survives_stop(node):
                self.end(node, grace_s)
        if plan.table.waiting and plan.stopped.cause != "interrupted":  # an interrupted run is resumed, and waits on
            for node in list(plan.table.waiting):
                if not plan.survives_stop(node):
                    self.end(node)

    def end(self, node: int, grace_s: float | None = None) -> None:
        """End a running task, once; or again, when it has less time than before. End the wait of one that waits."""
        if node in self._plan.table.waiting:
            self._waits.end(node, "CANCELLED", "cancelled while it waited")
        elif grace_s is not None or node not in self._ending:
            self._ending.add(node)
            self._executor.cancel(node, self._grace_of(node) if grace_s is None else grace_s)

    def ended(self, node: int) -> None:
        """Note that an attempt has ended."""
        self._ending.discard(node)

    def _grace_of(self, node: int) -> float:
        """Return the seconds between the polite and the hard signal."""
        owner = self._plan.table.owner(node)
        grace_s = self._tasks[owner].settings.grace_s if owner < len(self._tasks) else None
        return self._grace_s if grace_s is None else grace_s


@contextlib.contextmanager
def stop_signals_handled(
    handler: Callable[[int, FrameType | None], None], *, of_child_run: bool = False
) -> Iterator[None]:
    """Let `handler` receive the signals that stop a program; processes forked meanwhile have the old handlers.

    A child run receives the signal of its parent run, too.

    Only a main thread may set handlers; in other threads signals are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # nohup ignores SIGHUP on purpose; and None is a handler that is not Python's, which could not be put back
    numbers = (*_STOP_SIGNALS, CANCEL_SIGNAL) if of_child_run else _STOP_SIGNALS
    handlers = {int(number): signal.getsignal(number) for number in numbers}
    before = {number: previous for number, previous in handlers.items() if previous not in (signal.SIG_IGN, None)}
    added = use_handlers_in_forks(before)
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        forget_handlers_in_forks(added)
