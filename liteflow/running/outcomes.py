"""Handles the end of an attempt: what is recorded, what changes in the plan, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from liteflow.definition.compiled import CompiledDag
from liteflow.planning.plan import Plan
from liteflow.planning.retry import NO_FAILURE, Failure
from liteflow.record import Record
from liteflow.running.decisions import decided
from liteflow.running.inputs import Inputs
from liteflow.running.iterations import Iterations
from liteflow.running.places import Places
from liteflow.running.prefetch import Prefetch
from liteflow.running.recorder import Recorder
from liteflow.running.start_checks import StartChecks
from liteflow.running.stopping import Stopping
from liteflow.running.waits import Waits
from liteflow.state.records import AttemptKey, DueUndo
from liteflow.states import TaskStatus
from liteflow.work import ErrorInfo, Outcome, Waiting

_NO_ERROR: Final = ErrorInfo("")
_NO_POLL: Final = ErrorInfo(
    "it returned a Waiting, and its task does not say how it is polled: use dag.sensor, or Call(…, poll=…)",
    "",
    ("TypeError", "Exception"),
)


def _failure(outcome: Outcome) -> Failure:
    """Return what the retry of a failed attempt depends on."""
    error = outcome.error or _NO_ERROR
    return Failure(error.types, outcome.exit_code, error.codes, error.retry_after_s, error.final)


class Ends(Record):
    """The parts that may continue an attempt or a task instead of its end: a wait, or another iteration."""

    waits: Waits
    iterations: Iterations


class OutcomeHandler:
    """Handles the outcomes of one plan."""

    def __init__(
        self,
        *,
        compiled: CompiledDag,
        plan: Plan,
        recorder: Recorder,
        inputs: Inputs,
        checks: StartChecks,
        stopping: Stopping,
        places: Places,
        ends: Ends,
    ) -> None:
        self._compiled = compiled
        self._plan = plan
        self._recorder = recorder
        self._inputs = inputs if inputs.any else None
        self._checks = checks
        self._stopping = stopping
        self._places = places
        self._ends = ends
        self._waits = ends.waits
        self._repeats = set(compiled.control.setups) | set(compiled.control.teardowns)  # may succeed more than once
        self._deciders = compiled.deciders()
        self._ordered = plan.has_queue_options

    def finish(self, outcome: Outcome, monotonic: float) -> None:
        """Handle the end of an attempt, or the answer of a poll."""
        plan, recorder, node = self._plan, self._recorder, outcome.node
        previous: TaskStatus = "RUNNING"
        if outcome.waiting is not None or node in plan.table.waiting:
            answer = self._after_wait(outcome)
            if answer is None:
                return
            outcome, previous = answer
        elif outcome.verdict == "TIMED_OUT":
            outcome = self._waits.timed_out(outcome)
        outcome, skips, repeat_s = self._completed(outcome)
        self._stopping.ended(node)
        if previous == "RUNNING":
            prefetch = self._places.prefetch(node)
            prefetch.observe(outcome)
            if node in prefetch.queued:
                previous = self._dequeue(prefetch, outcome)
        is_hook = node in plan.table.hooks
        repeats = is_hook or (bool(self._repeats) and plan.table.owner(node) in self._repeats)
        recorder.end(outcome, repeats=repeats)
        if self._inputs is not None:
            self._inputs.cache(outcome)
        transitions = plan.finish(
            node,
            outcome.verdict,
            monotonic,
            reason=None if outcome.error is None else outcome.error.message or None,
            failure=NO_FAILURE if outcome.error is None and outcome.exit_code is None else _failure(outcome),
            skips=skips,
            repeat_s=repeat_s,
        )
        if self._ordered and plan.ready.options(node).needs:  # after the plan no longer counts the instance as running
            if previous != "WAITING" or plan.ready.options(node).holds:
                recorder.hold_slots(node, ())
            plan.ready.reopen()
        wait = self._ends.iterations.row(outcome, repeat_s) if transitions[0].status == "WAITING" else None
        recorder.record(transitions, outcome.ended_at, outcome, previous=previous, wait=wait)
        if outcome.undo_error is not None:
            key = AttemptKey(plan.table.task_ids[node], plan.table.map_indexes[node], outcome.attempt)
            undo = DueUndo(key, transitions[0].status, outcome.attempt)
            recorder.note_failed_undo(undo, outcome.undo_error, outcome.ended_at)
        if is_hook:
            recorder.record(self._checks.hook_ended(node, outcome), outcome.ended_at)
        if self._inputs is not None:
            self._inputs.release(transitions)
        for instance in plan.to_cancel():
            self._stopping.end(instance)
        if plan.stopped is not None:
            self._stopping.end_running()

    def _completed(self, outcome: Outcome) -> tuple[Outcome, Mapping[int, str] | None, float]:
        """Return the outcome of an attempt, the tasks that it skips, and the seconds until the next iteration."""
        if outcome.error is not None:
            outcome = outcome._replace(error=self._recorder.masked(outcome.error))
        skips: Mapping[int, str] | None = None
        repeat_s = 0.0
        if self._ends.iterations.repeats:
            outcome, repeat_s = self._ends.iterations.judge(outcome)
        if outcome.node in self._deciders:
            outcome, skips = decided(self._compiled, self._deciders[outcome.node], outcome)
        return outcome, skips, repeat_s

    def _after_wait(self, outcome: Outcome) -> tuple[Outcome, TaskStatus] | None:
        """Return the end of an attempt that waited, or that cannot wait, and its state before; None: it waits."""
        if outcome.node in self._plan.table.waiting:
            answer = self._waits.answer(outcome)
            return None if answer is None else (answer, "WAITING")
        if outcome.waiting is not None and self._begin_wait(outcome, outcome.waiting):
            return None
        return outcome._replace(verdict="FAILED", error=_NO_POLL, waiting=None), "RUNNING"

    def _begin_wait(self, outcome: Outcome, waiting: Waiting) -> bool:
        """Let an attempt wait without a worker. Return whether its task says how it is polled."""
        node = outcome.node
        if not self._waits.can_wait(node):
            return False
        self._stopping.ended(node)
        prefetch = self._places.prefetch(node)
        if node in prefetch.queued:
            self._dequeue(prefetch, outcome)
        self._waits.begin(outcome, waiting)
        if self._ordered and (options := self._plan.ready.options(node)).needs and not options.holds:
            self._recorder.hold_slots(node, ())
            self._plan.ready.reopen()
        if self._plan.stopped is not None:
            self._stopping.end_running()
        return True

    def _dequeue(self, prefetch: Prefetch, outcome: Outcome) -> TaskStatus:
        """Record the start of an attempt that is stored as QUEUED, if it has started. Return its stored state."""
        log_path = prefetch.queued.pop(outcome.node)
        if outcome.started_at is None:
            return "QUEUED"
        self._recorder.queued_start(outcome.node, outcome.started_at, log_path)
        return "RUNNING"
