"""The loop: it takes what may start from the plan, stores it, starts it, waits for outcomes, and stores those.

It is the only writer of its run, and the place where plan, store and executor meet. A turn is one transaction: nothing
starts, and no observer is called, before the commit that says so has returned.
"""

from __future__ import annotations

import time
from typing import Final

from liteflow.executors import Executor
from liteflow.outputs import remove_folder
from liteflow.planning.plan import Plan
from liteflow.record import Record
from liteflow.running.expansion import TaskExpander
from liteflow.running.hooks import Hooks
from liteflow.running.host_signals import SignalGate
from liteflow.running.inputs import Inputs
from liteflow.running.iterations import Iterations
from liteflow.running.machines import Machines
from liteflow.running.outcomes import OutcomeHandler
from liteflow.running.ports import Clock, RunStore
from liteflow.running.recorder import Recorder
from liteflow.running.run_limits import RunLimits
from liteflow.running.run_outputs import RunOutputs
from liteflow.running.start_checks import StartChecks
from liteflow.running.starting import DuePoll, Start, Starter
from liteflow.running.stopping import Stopping
from liteflow.running.waits import Waits
from liteflow.work import Work

_REQUEST_POLL_S: Final = 0.25  # seconds between checks for requests
_IDLE_POLL_S: Final = 1.0  # … while nothing runs: a run that waits for days costs less
_PARKED_S: Final = 60.0  # a shorter wait does not park the run


class Parts(Record):
    """The parts of a loop; each belongs to one plan."""

    plan: Plan
    recorder: Recorder
    starter: Starter
    inputs: Inputs
    hooks: Hooks
    checks: StartChecks
    expansion: TaskExpander
    outcomes: OutcomeHandler
    limits: RunLimits
    stopping: Stopping
    waits: Waits
    iterations: Iterations
    machines: Machines
    outputs: RunOutputs


class Loop:
    """Runs one plan to its end."""

    def __init__(
        self,
        parts: Parts,
        *,
        store: RunStore,
        executor: Executor,
        clock: Clock,
        signal_gate: SignalGate,
        inline_tasks: frozenset[str],
        outputs_dir: str,
        parks: bool = False,
    ) -> None:
        self._parts = parts
        self._plan = parts.plan
        self._store = store
        self._executor = executor
        self._clock = clock
        self._signal_gate = signal_gate  # open while the loop waits: only then handlers are called
        self._inline_tasks = inline_tasks  # the tasks that run in this thread, within `submit`
        self._outputs_dir = outputs_dir
        self._parks = parks  # whether the run ends when only long waits are left
        self._polled_at = 0.0  # monotonic; when requests were last read

    def run(self) -> bool:
        """Run the plan. Return whether the run has ended; else it is to be tried again."""
        plan, parts, clock = self._plan, self._parts, self._clock
        while True:
            # 1. Take the tasks that may start. When there are none left, the hooks of the run are the last ones.
            if plan.finished and not plan.halted and not self._end_tasks():
                return False
            starts = self._take()
            run_ended = plan.finished and not parts.waits.execute_child_runs()
            if run_ended:
                remove_folder(self._outputs_dir)  # before the run has ended: then another process may resume it
                parts.recorder.end_run(plan.result(), plan.stopped, clock.time(), parts.outputs)
            # 2. Commit in one transaction: the ends of the last turn, the starts of this one. Then show them.
            for node, host_id in self._executor.undo_hosts():
                parts.recorder.place_undo(node, host_id)
            if parts.recorder.commit():
                starts += parts.starter.granted_starts(clock.time())
                parts.recorder.publish()
            # 3. Start the tasks, with the stored values of their upstream tasks.
            parts.starter.request_room()
            self._submit(starts)
            if run_ended:
                return True
            self._submit_polls()
            # 4. Evaluate the start checks and read the lists of tasks that may start, now that their inputs are stored.
            prepared = self._prepare()
            if self._parks and not prepared and not starts:
                prepared = self._park()
            # 5. Wait for outcomes.
            with self._signal_gate:
                outcomes = self._executor.wait(0.0 if prepared else self._pause_s())
            # 6. Handle them, and those of attempts that waited.
            for outcome in (*parts.waits.take_ended(), *outcomes):
                parts.outcomes.finish(outcome, clock.monotonic())
            # 7. Check signals, requests of other processes, and the clock.
            self._check_signals_clock_requests()

    def _end_tasks(self) -> bool:
        """End a plan whose tasks have all ended: trigger the hooks of the run, unless the run is to be tried again."""
        plan, parts = self._plan, self._parts
        if parts.limits.retries_left(plan):
            if parts.recorder.commit():
                parts.recorder.publish()
            return False
        parts.hooks.end_run(plan.result(), plan.stopped.reason if plan.stopped else None, self._clock.time())
        return True

    @property
    def _may_start(self) -> bool:
        """Whether tasks may start. A stopped run starts only teardowns and hooks, which wait for no limit."""
        return self._parts.limits.may_start or self._plan.stopped is not None

    def _take(self) -> list[Start]:
        if not self._may_start:
            return []
        return self._parts.starter.take(self._clock.monotonic(), self._clock.time())

    def _park(self) -> bool:
        """End the run, to be resumed later, if only waits are left that last for a while. Return whether it ends."""
        plan, waits, now = self._plan, self._parts.waits, self._clock.time()
        if plan.running or plan.stopped is not None or plan.next_retry_at() is not None or not waits.are_idle():
            return False
        if waits.holds_slots():  # a parked run holds none
            return False
        if self._store.is_family_busy():  # the parent of a parked child run must not wait for long: it parks next
            return False
        wake_at = waits.wake_at()
        if not self._parts.limits.is_refused and (wake_at is None or wake_at - now >= _PARKED_S):
            until = "a decision" if wake_at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wake_at))
            self._take_requests()  # a decision may have been made while no process ran the run
            if not self._store.batch and waits.wake_at() == wake_at:
                plan.pause(f"parked: it waits until {until}")
                self._parts.recorder.park(wake_at)
        return plan.stopped is not None

    def _submit(self, starts: list[Start]) -> None:
        inline_works: list[Work] = []
        for start in starts:
            work = self._work(start)
            if work.task_id in self._inline_tasks:
                inline_works.append(work)
            else:
                self._executor.submit(work)
        self._executor.flush()
        for work in inline_works:  # last: each runs to its end here
            with self._signal_gate:
                self._executor.submit(work)

    def _work(self, start: Start, poll: DuePoll | None = None) -> Work:
        """Return the work of an attempt, or of a poll of its wait."""
        parts = self._parts
        work = parts.starter.work(start, parts.inputs, parts.hooks, poll)
        return parts.iterations.work(work) if parts.iterations.repeats else work

    def _submit_polls(self) -> None:
        """Poll the attempts that wait and are due, and undo those that have ended. Their handles are stored by now."""
        parts = self._parts
        parts.waits.adopt()
        if parts.waits.is_overdue():
            self._take_requests()
        for start, handle, outcome in parts.waits.due_undos():
            self._executor.end_wait(self._work(start, DuePoll(start, handle, 0.0)), outcome)
        if not self._may_start or self._plan.halted:
            return
        for polls in parts.waits.due():
            works = [self._work(poll.start, poll) for poll in polls]
            inline_works = [work for work in works if work.task_id in self._inline_tasks]
            for work in inline_works:
                with self._signal_gate:
                    self._executor.submit(work)
            if len(inline_works) < len(works):
                self._executor.poll([work for work in works if work.task_id not in self._inline_tasks])

    def _take_requests(self) -> None:
        """Act on the requests of other processes."""
        requests = self._store.requests()
        parts = self._parts
        parts.stopping.take_requests(requests)
        parts.waits.take_requests(requests)
        if parked := parts.waits.parked_child_runs():
            for run_id in self._store.due_child_runs(parked):
                parts.waits.poll_now(parked[run_id])
        for outcome in parts.waits.take_ended():  # in the transaction that says that their requests are handled
            parts.outcomes.finish(outcome, self._clock.monotonic())

    def _prepare(self) -> bool:
        """Evaluate start checks and expand mapped tasks. Return whether there was anything to do."""
        parts = self._parts
        if not self._may_start:
            return False
        now = self._clock.time()
        evaluated, transitions = parts.checks.evaluate(now)
        if transitions:
            parts.recorder.record(transitions, now)
            parts.stopping.end_running()
        return parts.expansion.expand_due(now) or evaluated

    def _pause_s(self) -> float:
        """Return how long to wait for outcomes."""
        due = (self._plan.next_retry_at(), None if self._plan.halted else self._parts.waits.next_at())
        next_at = min((second for second in due if second is not None), default=None)
        is_idle = self._plan.table.waiting and not self._plan.running and not self._parts.limits.is_refused
        longest_s = _IDLE_POLL_S if is_idle else _REQUEST_POLL_S
        return self._parts.limits.pause_s(self._clock.monotonic(), next_at, longest_s)

    def _check_signals_clock_requests(self) -> None:
        parts, store = self._parts, self._store
        parts.stopping.check_signals()
        now = self._clock.monotonic()
        timed_out = parts.limits.check_clock(now)
        if timed_out is not None:
            parts.stopping.stop(timed_out, "timed_out")
        if now - self._polled_at >= _REQUEST_POLL_S:
            self._polled_at = now
            store.check_file()
            store.renew_lock()
            store.sync_if_idle()
            self._take_requests()
            parts.limits.ask_again(now, self._plan)
            parts.machines.look(self._clock.time())
