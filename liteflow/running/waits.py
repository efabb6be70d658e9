"""Waits: attempts that wait without a worker, until a poll, a decision or the clock ends them.

The handle of a wait is stored before anything else follows from it, so a run that is resumed polls on. A poll is work
of an executor, and not an attempt. The first answer ends a wait; a later answer is dropped.

Only the loop calls these methods. Times without a name are epoch seconds, because waits outlive processes; the pauses
between polls are monotonic, so that a clock which is set back does not lengthen them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import PayloadError
from liteflow.executors import Executor
from liteflow.planning.plan import Plan
from liteflow.record import Record, replace
from liteflow.running.ports import Clock
from liteflow.running.recorder import Recorder
from liteflow.running.starting import Start
from liteflow.state.answers import ANSWER, StoredAnswer
from liteflow.state.records import PreviousWait, Request
from liteflow.state.transitions import WaitRow
from liteflow.states import Verdict
from liteflow.work import Body, Call, ErrorInfo, Outcome, Poll, RunInfo, Waiting, Work

_LONGEST_PAUSE_S: Final = 30.0  # so that a wait ends in time although the clock was set, or the machine slept
_STORED_PAUSE_S: Final = 60.0  # the time of a poll is stored if it is later than that, or with another change
_NO_HANDLE: Final = "null"  # a poll that returns none leaves the last one
#: The class names of errors that are an answer; after another error, a poll has no answer.
_ANSWERS: Final = frozenset({"TaskFailed", "InputError", "PayloadError"})


class _Moment(Record, kw_only=False):
    """A time on two clocks: it is there when one of them has reached it."""

    monotonic: float
    epoch: float


_NO_TIME: Final = _Moment(inf, inf)


class _Origin(Record, kw_only=False):
    """The attempt that waits."""

    attempt: int
    started_at: float
    log_path: str | None


class _Wait:
    """An attempt that waits."""

    __slots__ = (
        "deadline",
        "due",
        "failures",
        "has_undo",
        "is_polled",
        "origin",
        "outcome",
        "poll",
        "reason",
        "waiting",
    )  # fmt: skip

    def __init__(self, poll: Poll, origin: _Origin, *, has_undo: bool) -> None:
        self.poll = poll
        self.has_undo = has_undo  # whether the attempt is undone unless it succeeds
        self.origin = origin
        self.deadline = inf
        self.due = _NO_TIME  # the next poll
        self.waiting = Waiting()  # the last answer
        self.reason = ""  # the stored reason: that of the last answer, or why the last poll had none
        self.failures = 0  # how many polls in a row had no answer
        self.is_polled = False  # whether a poll is with the executor
        self.outcome: Outcome | None = None  # the outcome, while the poll that it came before has still to end


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
        self._info = info
        self._plan = plan
        self._recorder = recorder
        self._executor = executor
        self._clock = clock
        self._waits: dict[int, _Wait] = {}  # by node
        self._heap: list[tuple[float, int]] = []  # when to look at a wait again (monotonic), and its node
        self._ended: list[Outcome] = []
        self._undos: list[tuple[Start, str, Outcome]] = []
        self._stored: dict[tuple[str, int], PreviousWait] = {}  # those of the previous part of the run
        self._answers: dict[int, StoredAnswer] = {}  # to be acted on, by the number of the request

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
        node, settings = outcome.node, self._compiled.tasks[self._plan.table.owner(outcome.node)].settings
        poll = self._poll_of(node)
        assert poll is not None
        started_at = outcome.ended_at if outcome.started_at is None else outcome.started_at
        wait = self._waits[node] = _Wait(
            poll, _Origin(outcome.attempt, started_at, outcome.log_path), has_undo=self._has_undo(node)
        )
        if settings.timeout_s is not None:
            wait.deadline = started_at + settings.timeout_s
        self._set(node, wait, waiting)
        wait.reason = waiting.why
        self._recorder.record(
            self._plan.wait(node, waiting.why), outcome.ended_at, outcome, wait=self._row(wait, is_event=True)
        )

    def can_wait(self, node: int) -> bool:
        """Return whether the task says how it is polled."""
        return self._poll_of(node) is not None

    def is_overdue(self) -> bool:
        """Return whether the time of an attempt may be over: a decision that was made before comes first."""
        now = self._clock.time()
        return any(wait.deadline <= now for wait in self._waits.values() if wait.outcome is None)

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
            self._adopt(node, stored, now)

    def _adopt(self, node: int, stored: PreviousWait, now: float) -> None:
        started_at = now if stored.started_at is None else stored.started_at
        poll = self._poll_of(node)
        wait = self._waits[node] = _Wait(
            poll or _NO_POLL,
            _Origin(stored.attempt, started_at, stored.log_path),
            has_undo=self._has_undo(node),
        )
        timeout_s = self._compiled.tasks[self._plan.table.owner(node)].settings.timeout_s
        if timeout_s is not None:
            wait.deadline = started_at + timeout_s
        pause_s = None if stored.wake_at is None else max(0.0, stored.wake_at - now)
        wait.reason = stored.reason or ""
        self._set(node, wait, Waiting(stored.handle, pause_s, wait.reason))
        if poll is None:
            self.end(node, "LOST", "its task no longer waits, because its definition has changed")

    def _poll_of(self, node: int) -> Poll | None:
        body = self._body(node)
        return body.poll if isinstance(body, Call) else None

    def _has_undo(self, node: int) -> bool:
        body = self._body(node)
        return body is not None and body.undo is not None

    def _body(self, node: int) -> Body | None:
        owner = self._plan.table.owner(node)
        return self._compiled.tasks[owner].body if owner < len(self._compiled.tasks) else None

    def _set(self, node: int, wait: _Wait, waiting: Waiting) -> None:
        """Note what an attempt waits for, and when it is looked at again."""
        pause_s = waiting.again_s
        wait.waiting = waiting
        wait.due = _NO_TIME
        if pause_s is not None:
            wait.due = _Moment(self._clock.monotonic() + pause_s, self._clock.time() + pause_s)
        self._push(node, wait)

    def _push(self, node: int, wait: _Wait) -> None:
        monotonic = self._clock.monotonic()
        left_s = min(wait.deadline - self._clock.time(), _LONGEST_PAUSE_S)
        heapq.heappush(self._heap, (min(wait.due.monotonic, monotonic + max(0.0, left_s)), node))

    # -- polls -----------------------------------------------------------------------------------------------

    def wake_at(self) -> float | None:
        """Return the epoch second of the next poll or timeout; None: there is none."""
        moments = [min(wait.due.epoch, wait.deadline) for wait in self._waits.values()]
        return min((moment for moment in moments if moment < inf), default=None)

    def are_idle(self) -> bool:
        """Return whether there are waits, and nothing is with the executor for them."""
        return bool(self._waits) and not self._ended and not any(wait.is_polled for wait in self._waits.values())

    def next_at(self) -> float | None:
        """Return the monotonic second at which there is something to do, if anything waits."""
        if self._ended or self._undos:
            return 0.0
        return self._heap[0][0] if self._heap else None

    def due(self) -> list[tuple[Start, str, float]]:
        """Return the polls to start now: each as a start, the handle and the limit of its time in seconds."""
        polls = []
        monotonic = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= monotonic:
            node = heapq.heappop(self._heap)[1]
            wait = self._waits.get(node)
            if wait is None or wait.outcome is not None:
                continue
            now = self._clock.time()
            if now >= wait.deadline:
                self._time_out(node, wait)
            elif wait.is_polled or (wait.due.monotonic > monotonic and wait.due.epoch > now):
                self._push(node, wait)
            else:
                wait.is_polled, wait.due = True, _NO_TIME
                self._push(node, wait)
                polls.append((Start(node, wait.origin.log_path), str(wait.waiting.handle), wait.poll.limit_s))
        return polls

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
            if waiting.handle == _NO_HANDLE:
                waiting = waiting._replace(handle=last.handle, why=waiting.why or last.why)
            self._wait_on(node, wait, waiting, waiting.why)
            return None
        if outcome.verdict in ("FAILED", "LOST", "TIMED_OUT") and not _is_answer(outcome):
            wait.failures += 1
            error = outcome.error or ErrorInfo(outcome.verdict)
            if wait.failures < wait.poll.failures:
                why = f"poll failed ({wait.failures} of {wait.poll.failures}): {error.message}"
                self._wait_on(node, wait, wait.waiting._replace(again_s=wait.waiting.again_s or 0.0), why)
                return None
            message = f"{wait.failures} polls in a row failed; the last: {error.message}"
            outcome = outcome._replace(verdict="FAILED", error=error._replace(message=message))
        return self._end(node, wait, outcome)

    def _wait_on(self, node: int, wait: _Wait, waiting: Waiting, reason: str) -> None:
        """Wait for the next poll, and store the changes that this one has made."""
        before, explained, wait.reason = wait.waiting, reason != wait.reason, reason
        self._set(node, wait, waiting)
        if explained or waiting.handle != before.handle or (waiting.again_s or 0.0) > _STORED_PAUSE_S:
            self._recorder.record(
                self._plan.explain_wait(node, reason),
                self._clock.time(),
                wait=self._row(wait, is_event=explained),
            )

    def _row(self, wait: _Wait, *, is_event: bool) -> WaitRow:
        wake_at = None if wait.due == _NO_TIME else wait.due.epoch
        return WaitRow(str(wait.waiting.handle), wake_at, wait.origin.started_at, wait.origin.log_path, is_event)

    # -- the end of a wait -----------------------------------------------------------------------------------

    def end(self, node: int, verdict: Verdict, message: str) -> None:
        """End the attempt of an instance that waits, unless it has an answer already."""
        wait = self._waits.get(node)
        if wait is None or wait.outcome is not None:
            return
        error = None if verdict == "SUCCESS" else ErrorInfo(message)
        self.decide(
            node,
            Outcome(
                node,
                wait.origin.attempt,
                verdict,
                None,
                None,
                error,
                None,
                wait.origin.started_at,
                self._clock.time(),
                None,
            ),
        )

    def decide(self, node: int, outcome: Outcome) -> bool:
        """End the attempt of an instance that waits with this outcome. Return whether this is the first answer."""
        wait = self._waits.get(node)
        if wait is None or wait.outcome is not None:
            return False
        if wait.is_polled:  # the node is free for a retry when its poll has ended
            wait.outcome = outcome
            self._executor.cancel(node, 0.0)
        elif (ended := self._end(node, wait, outcome)) is not None:
            self._ended.append(ended)
        return True

    def take_requests(self, requests: Iterable[Request]) -> None:
        """Act on the answers of people, the first one first. An answer to an instance without its list stays."""
        for request in requests:
            if request.action == ANSWER and request.request_no not in self._answers:
                self._answers[request.request_no] = StoredAnswer.of(request)
        if self._answers:
            self._act()

    def _act(self) -> None:
        table = self._plan.table
        nodes = {(table.task_ids[node], table.map_indexes[node]): node for node in table.waiting}
        for number, answer in sorted(self._answers.items()):
            key = (answer.task_id, answer.map_index)
            if key in self._stored:
                continue  # its list has still to be read
            node = nodes.get(key, -1)
            wait = self._waits.get(node)
            if wait is not None and wait.origin.attempt == answer.attempt:
                self.decide(node, self._outcome_of(node, wait, answer))  # the end of the wait handles the request
            elif number in self._answers:
                self._handle(number)

    def _handle(self, number: int) -> None:
        """Record that an answer was acted on, or came too late."""
        self._recorder.handle_request(number)
        del self._answers[number]

    def _outcome_of(self, node: int, wait: _Wait, answer: StoredAnswer) -> Outcome:
        """Return the outcome of an attempt that a person has decided about."""
        outcome = Outcome(
            node,
            wait.origin.attempt,
            answer.verdict,
            None,
            None,
            None,
            None,
            wait.origin.started_at,
            self._clock.time(),
            None,
        )
        if answer.verdict != "SUCCESS":
            error = ErrorInfo(self._info.masked(answer.reason), "", ("TaskFailed",), codes=answer.codes, final=True)
            return outcome._replace(error=error)
        try:
            values = {self._info.stored_name(name): self._info.encode(value) for name, value in answer.values.items()}
            return outcome._replace(value=self._info.encode(dict(answer.values)), pushed=values)
        except PayloadError as error:
            return outcome._replace(verdict="FAILED", error=ErrorInfo(f"the answer cannot be stored: {error}"))

    def take_ended(self) -> Iterable[Outcome]:
        """Return, once, the outcomes of attempts that were ended without a poll."""
        if not self._ended:
            return ()
        outcomes, self._ended = self._ended, []
        return outcomes

    def _time_out(self, node: int, wait: _Wait) -> None:
        waited_s = wait.deadline - wait.origin.started_at
        why = f"; it waited for: {wait.waiting.why}" if wait.waiting.why else ""
        self.end(node, wait.poll.on_timeout, f"timed out after {waited_s:g} s{why}")

    def _end(self, node: int, wait: _Wait, outcome: Outcome) -> Outcome | None:
        """End a wait. Return the outcome of its attempt; None: the attempt is undone first."""
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
        key = (self._plan.table.task_ids[node], self._plan.table.map_indexes[node], wait.origin.attempt)
        for number in [number for number, answer in self._answers.items() if answer.attempt_key == key]:
            self._handle(number)
        return outcome

    def due_undos(self) -> list[tuple[Start, str, Outcome]]:
        """Return, once, the attempts that have ended and are undone first: starts, handles and outcomes."""
        undos, self._undos = self._undos, []
        return undos


_NO_POLL: Final = Poll(func=print)


def polling(work: Work, handle: str, limit_s: float) -> Work:
    """Return the work of a poll, from the work of its attempt."""
    return replace(work, handle=handle, timeout_s=limit_s, grace_s=0.0)


def _is_answer(outcome: Outcome) -> bool:
    """Return whether a failed poll is an answer: that the attempt has failed."""
    return outcome.error is not None and not _ANSWERS.isdisjoint(outcome.error.types)
