"""Waits: attempts that wait without a worker, until a poll, a decision or the clock ends them.

The handle of a wait is stored before anything else follows from it, so a run that is resumed polls on. A poll is work
of an executor, and not an attempt. The first answer ends a wait; a later answer is dropped.

Polls that are due together are one work, if each has taken a short time before. A work that ends without their outcomes
answers none of them: each is repeated alone.

Only the loop calls these methods. Times without a name are epoch seconds, because waits outlive processes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Final, NamedTuple

from liteflow.definition.compiled import CompiledDag
from liteflow.executors import Executor
from liteflow.planning.plan import Plan
from liteflow.running.answers import Answers
from liteflow.running.ports import Clock
from liteflow.running.recorder import Recorder
from liteflow.running.starting import DuePoll, Start
from liteflow.running.wait_times import WaitTimes
from liteflow.state.records import PreviousWait, Request
from liteflow.state.transitions import WaitRow
from liteflow.states import Verdict
from liteflow.work import Body, Call, ErrorInfo, Outcome, Poll, RunInfo, Waiting

_STORED_PAUSE_S: Final = 60.0  # the time of a poll is stored if it is later than that, or with another change
CHILD_DIED: Final = "workflow:died"
_SOON_S: Final = 1.0  # a poll after such a pause is not brought forward
_SHORT_S: Final = 0.05  # a poll that has taken less shares a work with others
_MOST_POLLS: Final = 200  # of a work
_NO_HANDLE: Final = "null"  # a poll that returns none leaves the last one
#: The class names of errors that are an answer; after another error, a poll has no answer.
_ANSWERS: Final = frozenset({"TaskFailed", "InputError", "PayloadError"})
#: Those after which a child run is continued.
_NO_ANSWERS: Final = frozenset({"StoreError", "ResourceError"})
_ERROR_PAUSE_S: Final = 1.0  # before a poll without a pause of its own that raised is repeated, for each in a row


class _Origin(NamedTuple):
    """The attempt that waits."""

    attempt: int
    started_at: float
    log_path: str | None


class _Wait:
    """An attempt that waits."""

    __slots__ = (
        "failures",
        "has_undo",
        "is_polled",
        "is_short",
        "origin",
        "outcome",
        "poll",
        "reason",
        "shares",
        "waiting",
    )  # fmt: skip

    def __init__(self, poll: Poll, origin: _Origin, *, has_undo: bool) -> None:
        self.poll = poll
        self.has_undo = has_undo  # whether the attempt is undone unless it succeeds
        self.origin = origin
        self.waiting = Waiting()  # the last answer
        self.reason = ""  # the stored reason: that of the last answer, or why the last poll had none
        self.failures = 0  # how many polls in a row had no answer
        self.is_short = False  # whether the last answer took a short time
        self.is_polled = False  # whether a poll is with the executor
        self.shares = False  # whether that poll shares its work with others
        self.outcome: Outcome | None = None  # the outcome, while the poll that it came before has still to end

    @property
    def may_share(self) -> bool:
        """Whether its next poll may share a work with others."""
        return self.is_short and self.poll.child is None


class Waits:
    """The waits of one plan."""

    def __init__(
        self,
        *,
        compiled: CompiledDag,
        plan: Plan,
        recorder: Recorder,
        executor: Executor,
        clock: Clock,
        info: RunInfo,
    ) -> None:
        self._compiled = compiled
        self._plan = plan
        self._recorder = recorder
        self._executor = executor
        self._clock = clock
        self._answers = Answers(plan.table, recorder, info)
        self._times = WaitTimes(clock)
        self._waits: dict[int, _Wait] = {}  # by node
        self._ended: list[Outcome] = []
        self._undos: list[tuple[Start, str, Outcome]] = []
        self._stored: dict[tuple[str, int], PreviousWait] = {}  # those of the previous part of the run

    # -- the beginning of a wait -----------------------------------------------------------------------------

    def open(self, previous: Sequence[PreviousWait]) -> None:
        """Take over the waits of the previous part of the run. Those of mapped tasks follow with their lists."""
        index = self._compiled.graph.index
        for wait in previous:
            if wait.task_id in index:
                self._stored[wait.task_id, wait.map_index] = wait
            else:
                self._recorder.abandon(
                    wait.task_id, wait.map_index, wait.attempt, "its task was removed", self._clock.time()
                )

    def begin(self, outcome: Outcome, waiting: Waiting) -> None:
        """Let the attempt of an outcome wait."""
        node = outcome.node
        started_at = outcome.ended_at if outcome.started_at is None else outcome.started_at
        wait = self._new(node, _Origin(outcome.attempt, started_at, outcome.log_path))
        wait.is_short = outcome.ended_at - started_at < _SHORT_S
        wait.waiting, wait.reason = waiting, waiting.why
        self._times.set_poll(node, waiting.again_s)
        self._recorder.record(
            self._plan.wait(node, waiting.why), outcome.ended_at, outcome, wait=self._row(node, wait, is_event=True)
        )

    def can_wait(self, node: int) -> bool:
        """Return whether the task says how it is polled."""
        return self._poll_of(node) is not None

    def adopt(self) -> None:
        """Take over the waits of instances that the plan has restored."""
        if len(self._plan.table.waiting) == len(self._waits) or not self._stored:
            return
        table, now, monotonic = self._plan.table, self._clock.time(), self._clock.monotonic()
        for node in [node for node in self._plan.table.waiting if node not in self._waits]:
            stored = self._stored.pop((table.task_ids[node], table.map_indexes[node]), None)
            if stored is None:
                continue
            if stored.handle is None:
                self._plan.repeat_at(node, monotonic + max(0.0, (stored.wake_at or now) - now))
                continue
            self._adopt(node, stored, stored.handle, now)

    def _adopt(self, node: int, stored: PreviousWait, handle: str, now: float) -> None:
        started_at = now if stored.started_at is None else stored.started_at
        wait = self._new(node, _Origin(stored.attempt, started_at, stored.log_path))
        pause_s = None if stored.wake_at is None else max(0.0, stored.wake_at - now)
        if wait.poll.child is not None:
            pause_s = 0.0  # a person may have decided in it meanwhile
        wait.reason = stored.reason or ""
        wait.waiting = Waiting(handle, pause_s, wait.reason)
        self._times.set_poll(node, pause_s)
        options = self._plan.ready.options(node)
        if options.holds:  # a run without an owner holds none
            self._recorder.hold_slots(node, options.needs)
        if self._poll_of(node) is None:
            self.end(node, "LOST", "its task no longer waits, because its definition has changed")

    def _new(self, node: int, origin: _Origin) -> _Wait:
        body = self._body(node)
        has_undo = body is not None and body.undo is not None
        wait = self._waits[node] = _Wait(self._poll_of(node) or _NO_POLL, origin, has_undo=has_undo)
        timeout_s = self._compiled.tasks[self._plan.table.owner(node)].settings.timeout_s
        if timeout_s is not None:
            self._times.set_deadline(node, origin.started_at + timeout_s)
        return wait

    def _poll_of(self, node: int) -> Poll | None:
        body = self._body(node)
        return body.poll if isinstance(body, Call) else None

    def _body(self, node: int) -> Body | None:
        owner = self._plan.table.owner(node)
        return self._compiled.tasks[owner].body if owner < len(self._compiled.tasks) else None

    # -- polls -----------------------------------------------------------------------------------------------

    def wake_at(self) -> float | None:
        """Return the epoch second of the next poll or timeout; None: there is none."""
        return self._times.first_epoch()

    def execute_child_runs(self) -> bool:
        """Return whether child runs are being executed."""
        return any(wait.is_polled and wait.poll.child is not None for wait in self._waits.values())

    def interrupt_child_runs(self) -> None:
        """Let the child runs that are being executed end so that they can be resumed: this run is interrupted."""
        for node, wait in self._waits.items():
            if wait.is_polled and wait.poll.child is not None:
                self._executor.interrupt(node)

    def end_child_runs(self) -> None:
        """End the processes of all child runs that are being executed, at once."""
        for node, wait in self._waits.items():
            if wait.is_polled and wait.poll.child is not None:
                self._executor.cancel(node, 0.0)

    def parked_child_runs(self) -> dict[str, int]:
        """Return the nodes of child runs that are looked at much later, or when a person has decided, by run id."""
        return {
            json.loads(str(wait.waiting.handle))["run"]: node
            for node, wait in self._waits.items()
            if wait.poll.child is not None and not wait.is_polled and wait.outcome is None
            if wait.waiting.again_s is None or wait.waiting.again_s > _SOON_S
        }

    def poll_now(self, node: int) -> None:
        """Poll a wait without its pause."""
        wait = self._waits[node]
        wait.waiting = wait.waiting._replace(again_s=0.0)
        self._times.set_poll(node, 0.0)

    def are_idle(self) -> bool:
        """Return whether there are waits, and nothing is with the executor for them."""
        return bool(self._waits) and not self._ended and not any(wait.is_polled for wait in self._waits.values())

    def holds_slots(self) -> bool:
        """Return whether an attempt holds slots while it waits."""
        return any(self._plan.ready.options(node).holds for node in self._waits)

    def is_overdue(self) -> bool:
        """Return whether the time of an attempt may be over: a decision that was made before comes first."""
        return self._times.is_overdue()

    def next_at(self) -> float | None:
        """Return the monotonic second at which there is something to do, if anything waits."""
        return 0.0 if self._ended or self._undos else self._times.next_at()

    def due(self) -> Iterator[list[DuePoll]]:
        """Yield the polls to start now, those of one work at a time. End the attempts whose time is over."""
        for node in self._times.take_overdue():
            self._time_out(node, self._waits[node])
        nodes = self._times.take_due()
        short = [node for node in nodes if self._waits[node].may_share]
        works = [short[first : first + _MOST_POLLS] for first in range(0, len(short), _MOST_POLLS)]
        works += [[node] for node in nodes if not self._waits[node].may_share]
        for work in works:
            yield [self._polled(node, shares=len(work) > 1) for node in work]

    def _polled(self, node: int, *, shares: bool) -> DuePoll:
        wait = self._waits[node]
        wait.is_polled, wait.shares = True, shares
        return DuePoll(Start(node, wait.origin.log_path), str(wait.waiting.handle), wait.poll.limit_s)

    def timed_out(self, outcome: Outcome) -> Outcome:
        """Return the outcome of an attempt that timed out before it waited: it ends as its wait would."""
        poll = self._poll_of(outcome.node)
        return outcome if poll is None else outcome._replace(verdict=poll.on_timeout)

    def answer(self, outcome: Outcome) -> Outcome | None:
        """Take the outcome of a poll. Return the outcome of the attempt; None: it waits on."""
        node = outcome.node
        wait = self._waits.get(node)
        if wait is None:
            return outcome  # it is the outcome of the attempt
        wait.is_polled = False
        if wait.outcome is not None:
            return self._end(node, wait, wait.outcome._replace(undo_error=outcome.undo_error))
        if outcome.waiting is not None:
            wait.failures, last, waiting = 0, wait.waiting, outcome.waiting
            wait.is_short = outcome.ended_at - (outcome.started_at or 0.0) < _SHORT_S
            if waiting.handle == _NO_HANDLE:
                waiting = waiting._replace(handle=last.handle, why=waiting.why or last.why)
            self._wait_on(node, wait, waiting, waiting.why)
            return None
        if outcome.verdict in ("FAILED", "LOST", "TIMED_OUT", "CANCELLED") and not _is_answer(outcome, wait.poll):
            wait.is_short = False
            error = outcome.error or ErrorInfo(outcome.verdict)
            shared_end = wait.shares and not error.types  # its work has ended, perhaps by another poll
            if shared_end or (wait.poll.child is not None and outcome.verdict == "CANCELLED"):  # it had not started
                self._times.set_poll(node, 0.0)
                return None
            wait.failures += 1
            if wait.failures < wait.poll.failures:
                why = f"poll failed ({wait.failures} of {wait.poll.failures}): {error.message}"
                pause_s = wait.waiting.again_s or (_ERROR_PAUSE_S * wait.failures if error.types else 0.0)
                self._wait_on(node, wait, wait.waiting._replace(again_s=pause_s), why)
                return None
            message = f"{wait.failures} polls in a row failed; the last: {error.message}"
            codes = error.codes if wait.poll.child is None else (CHILD_DIED,)
            outcome = outcome._replace(verdict="FAILED", error=error._replace(message=message, codes=codes))
        return self._end(node, wait, outcome)

    def _wait_on(self, node: int, wait: _Wait, waiting: Waiting, reason: str) -> None:
        """Wait for the next poll, and store the changes that this one has made."""
        before, explained, wait.reason = wait.waiting, reason != wait.reason, reason
        wait.waiting = waiting
        self._times.set_poll(node, waiting.again_s)
        if explained or waiting.handle != before.handle or (waiting.again_s or 0.0) > _STORED_PAUSE_S:
            self._recorder.record(
                self._plan.explain_wait(node, reason),
                self._clock.time(),
                wait=self._row(node, wait, is_event=explained),
            )

    def _row(self, node: int, wait: _Wait, *, is_event: bool) -> WaitRow:
        wake_at = self._times.poll_at(node)
        return WaitRow(str(wait.waiting.handle), wake_at, wait.origin.started_at, wait.origin.log_path, is_event)

    # -- the end of a wait -----------------------------------------------------------------------------------

    def end(self, node: int, verdict: Verdict, message: str) -> None:
        """End the attempt of an instance that waits, unless it has an answer already."""
        wait = self._waits.get(node)
        if wait is not None:
            error = None if verdict == "SUCCESS" else ErrorInfo(message)
            self.decide(node, self._ended_now(node, wait)._replace(verdict=verdict, error=error))

    def _ended_now(self, node: int, wait: _Wait) -> Outcome:
        """Return the outcome of a success that ends now."""
        origin, now = wait.origin, self._clock.time()
        return Outcome(node, origin.attempt, "SUCCESS", None, None, None, None, origin.started_at, now, None)

    def decide(self, node: int, outcome: Outcome) -> bool:
        """End the attempt of an instance that waits with this outcome. Return whether this is the first answer."""
        wait = self._waits.get(node)
        if wait is None or wait.outcome is not None:
            return False
        if wait.is_polled:  # the node is free for a retry when its poll has ended
            wait.outcome = outcome
            self._executor.cancel(node, 0.0 if wait.poll.child is None else inf)
        elif (ended := self._end(node, wait, outcome)) is not None:
            self._ended.append(ended)
        return True

    def take_requests(self, requests: Iterable[Request]) -> None:
        """Act on the answers of people, the first one first. An answer to an instance without its list stays."""
        self._answers.add(requests)
        for number, node, answer in self._answers.due(self._stored.keys()):
            wait = self._waits.get(node)
            if wait is not None and wait.origin.attempt == answer.attempt:  # its end handles the answers to it
                self.decide(node, self._answers.ended(self._ended_now(node, wait), answer))
            else:
                self._answers.handle(number)

    def take_ended(self) -> Iterable[Outcome]:
        """Return, once, the outcomes of attempts that were ended without a poll."""
        if not self._ended:
            return ()
        outcomes, self._ended = self._ended, []
        return outcomes

    def _time_out(self, node: int, wait: _Wait) -> None:
        timeout_s = self._compiled.tasks[self._plan.table.owner(node)].settings.timeout_s
        why = f"; it waited for: {wait.waiting.why}" if wait.waiting.why else ""
        self.end(node, wait.poll.on_timeout, f"timed out after {timeout_s:g} s{why}")

    def _end(self, node: int, wait: _Wait, outcome: Outcome) -> Outcome | None:
        """End a wait. Return the outcome of its attempt; None: the attempt is undone first."""
        self._times.remove(node)
        outcome = outcome._replace(
            attempt=wait.origin.attempt,
            started_at=wait.origin.started_at,
            log_path=outcome.log_path or wait.origin.log_path,
        )
        if outcome.verdict != "SUCCESS" and wait.has_undo:
            wait.outcome, wait.is_polled, wait.has_undo = outcome, True, False
            self._undos.append((Start(node, wait.origin.log_path), str(wait.waiting.handle), outcome))
            return None
        del self._waits[node]
        self._answers.handle_all(node, wait.origin.attempt)
        if wait.poll.child is not None and outcome.verdict in ("CANCELLED", "TIMED_OUT"):
            self._recorder.cancel_child_runs(node, outcome.ended_at)
        return outcome

    def due_undos(self) -> list[tuple[Start, str, Outcome]]:
        """Return, once, the attempts that have ended and are undone first: starts, handles and outcomes."""
        undos, self._undos = self._undos, []
        return undos


_NO_POLL: Final = Poll(func=print)


def _is_answer(outcome: Outcome, poll: Poll) -> bool:
    """Return whether a failed poll is an answer: that the attempt has failed.

    An exception before a child run, such as that its folder does not exist, is one; the death of its process is not,
    and neither is an error of the state file or of the machine, which may pass.
    """
    types = () if outcome.error is None else outcome.error.types
    if poll.child is not None:
        return bool(types) and types[0] not in _NO_ANSWERS
    return not _ANSWERS.isdisjoint(types)
