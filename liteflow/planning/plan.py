"""What one run does next: the state machine, and nothing else.

`Plan` is pure. It never sees a clock, a file or a thread: `now` is a monotonic reading in seconds that the
caller passes in. It answers three questions: what may start (`take`), what an outcome changes (`finish`),
and whether all is over (`finished`, `result`). Retries, skips, failures that spread, and what a lost worker
means are decided here or nowhere. What only the world can tell it asks: `questions` and `asking` have the tasks
that want to know something, `answer`, `expand` and `refuse` take what was found out.

Tasks are numbers (see `nodes`); every change of state is returned as a `Move`, in the order it happened.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from liteflow.planning.control import FORGIVEN, NO_CONTROL, Control
from liteflow.planning.graph import Graph
from liteflow.planning.nodes import Move, Nodes
from liteflow.planning.ready import Order, Ready
from liteflow.planning.retry import NEVER, RetryPolicy
from liteflow.planning.rules import Decision, TriggerRule, decide
from liteflow.states import TASK_ENDED, RunStatus, TaskStatus, Verdict

_States = Mapping[int, TaskStatus]
_Skips = Mapping[int, Mapping[int, str]]

#: How often a task may be started again because a process of ours died under it; then it FAILED.
MAX_LOST: Final = 3


class Plan(Nodes):
    """One run of a graph.

    Args:
        graph: what waits for what.
        retries: the policies of the tasks that have one, by number.
        rules: the trigger rules of the tasks that differ from `all_success`, by number.
        done: tasks that ended in an earlier part of this run and are kept as they are, with their state.
        attempts: how many attempts each task has had before; new ones count on from there.
        orders: priorities and limits of the tasks that have some, by number.
        fail_fast: the first task that FAILED for good ends the run.
        mapped: the tasks that are mapped over a list; True: the first instance that FAILED ends the others.
        instances: how the instances ended of tasks that are `done` and were mapped, by index, in the order of the list.
        seed: makes the jitter of retries this run's own.
        control: what is known of the graph beside edges and rules.
        skips: what the decisions of branches and short circuits in `done` skip, and why.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        retries: Mapping[int, RetryPolicy] | None = None,
        rules: Mapping[int, TriggerRule] | None = None,
        done: Mapping[int, TaskStatus] | None = None,
        attempts: Mapping[int, int] | None = None,
        orders: Mapping[int, Order] | None = None,
        fail_fast: bool = False,
        seed: str = "",
        control: Control = NO_CONTROL,
        skips: _Skips | None = None,
        mapped: Mapping[int, bool] | None = None,
        instances: Mapping[int, _States] | None = None,
    ) -> None:
        size = len(graph)
        super().__init__(graph, rules or {}, control)
        #: running instances that are to end because another one failed; the caller ends them and empties this
        self.doomed: list[int] = []
        self._mapped = mapped or {}
        self._asking: list[int] = []
        self.running: set[int] = set()
        self._retries = dict(retries or {})
        self._fail_fast = fail_fast
        self._seed = seed
        self._tries: dict[int, int] = {}  # failed attempts that counted, since the run was started or resumed
        self._lost: dict[int, int] = {}
        self.ready = Ready(orders, self.owner)
        self._ordered = bool(orders)
        self._retry_at: list[tuple[float, int]] = []  # a heap: (monotonic seconds, task)
        self._stopped: str | None = None  # why nothing new starts any more, save what must go on nevertheless
        self._stop_result: RunStatus = "CANCELLED"
        self._halted = False  # … and not that either
        self._gated, self._tolerant = control.gated, control.tolerant
        self._exempt: set[int] = set(self.teardowns)  # what a stopped run still does
        self._hold: int | None = None  # an extra before which nothing starts
        self._questions: list[int] = []
        self._open = size  # tasks that have not ended
        for node, count in (attempts or {}).items():
            self.attempts[node] = count
        self._begin(done or {}, instances or {}, skips or {})

    def _begin(self, done: _States, instances: Mapping[int, _States], skips: _Skips) -> None:
        for node, status in done.items():
            self.status[node] = status
            self._open -= 1
            ended = [node]
            if node in instances:
                statuses = instances[node]
                ended = self._unfold(node, list(statuses), {index: (one, 0) for index, one in statuses.items()})
            for one in ended:
                for below in self.graph.downstream[node]:
                    self._count(below, self.status[one])
        #: changes that follow from `done` alone; the caller stores them first
        self.opening: list[Move] = []
        for skipped in skips.values():
            self._skip(skipped, self.opening)
        for node in range(len(self.graph)):
            # A task none of whose upstreams has ended waits, save where its rule does not ask them.
            if (
                self.status[node] == "PENDING"
                and (
                    self._unmet[node] < len(self.graph.upstream[node])
                    or not self.graph.upstream[node]
                    or node in self._rules
                )
                and self._settle(node, self.opening)
            ):
                self._spread(node, self.opening)

    # -- what may start ------------------------------------------------------------------------------------

    def take(self, now: float) -> int | None:
        """The next task to start, or None. It counts as RUNNING from here; its attempt is `attempts[node]`."""
        while self._retry_at and self._retry_at[0][0] <= now:
            due = heapq.heappop(self._retry_at)[1]
            if self.status[due] == "UP_FOR_RETRY":
                if due == self._hold:
                    self.status[due] = "QUEUED"
                else:
                    self.ready.push(due)
        if self._halted:
            return None
        while True:
            node = self.ready.pop() if self._hold is None else self._hold
            if node is None or (node == self._hold and self.status[node] != "QUEUED"):
                return None
            if self.status[node] != "CANCELLED":
                break
            if self._ordered:
                self.ready.drop(node)
        self.status[node] = "RUNNING"
        self.attempts[node] += 1
        self.running.add(node)
        return node

    def put_back(self, node: int) -> None:
        """A task that was taken has not begun after all; it is the next to start."""
        self.running.discard(node)
        self.attempts[node] -= 1
        self.status[node] = "QUEUED"
        if node != self._hold:
            self.ready.put_back(node)

    def is_retry(self, node: int) -> bool:
        """Has an attempt of the task failed or been lost since the run was started or resumed?"""
        return node in self._tries or node in self._lost

    def wakeup(self) -> float | None:
        """The monotonic second at which the next retry falls due, if one is waiting."""
        while self._retry_at and self.status[self._retry_at[0][1]] != "UP_FOR_RETRY":
            heapq.heappop(self._retry_at)  # cancelled meanwhile
        return self._retry_at[0][0] if self._retry_at and not self._halted else None

    @property
    def finished(self) -> bool:
        """Nothing runs, and nothing will."""
        return not self.running and (self._halted or not self._open)

    # -- questions -----------------------------------------------------------------------------------------

    def questions(self) -> list[int]:
        """The tasks with a gate that their rule lets run since the last call: each waits for an `answer`."""
        questions, self._questions = self._questions, []
        return [node for node in questions if self.status[node] == "QUEUED"]

    def answer(self, node: int, moves: list[Move], status: TaskStatus = "QUEUED", reason: str | None = None) -> None:
        """A task that asked may run; or it ends as `status`, SKIPPED or FAILED, without an attempt."""
        if self.status[node] != "QUEUED":
            return  # it was cancelled meanwhile
        if status == "QUEUED":
            self._line_up(node)
        else:
            self.status[node] = "PENDING"  # as it is stored
            self._end(node, status, moves, reason)

    # -- extras --------------------------------------------------------------------------------------------

    def add(
        self, name: str, map_index: int = -1, *, retries: RetryPolicy = NEVER, attempts: int = 0, exempt: bool = False
    ) -> int:
        """Add an extra; `start` starts it. With `exempt` a stopped run still does it."""
        node = len(self.status)
        self.task_ids.append(name)
        self.map_indexes.append(map_index)
        self.status.append("SUCCESS")
        self.attempts.append(attempts)
        self._extras.add(node)
        if retries != NEVER:
            self._retries[node] = retries
        if exempt:
            self._exempt.add(node)
        return node

    def start(self, node: int, *, hold: bool = False) -> None:
        """An extra is to run, once more if it has run before; with `hold` nothing else starts before it has ended."""
        self._tries.pop(node, None)
        self._lost.pop(node, None)
        self.status[node] = "QUEUED"
        self._open += 1
        if hold:
            self._hold = node
        else:
            self.ready.push(node)

    # -- fan-out -------------------------------------------------------------------------------------------

    def asking(self) -> list[int]:
        """Mapped tasks that may start and whose list is wanted now: answer each by `expand` or `refuse`."""
        asking, self._asking = self._asking, []
        return [] if self._stopped is not None else [node for node in asking if self.status[node] == "QUEUED"]

    def expand(
        self,
        node: int,
        indexes: Sequence[int],
        kept: Mapping[int, tuple[TaskStatus, int]] | None = None,
        note: str = "",
    ) -> list[Move]:
        """The list is known: each of its items becomes an instance with one of these indexes. `kept` are instances of
        an earlier part of this run by index, with their state and how many attempts they had; what has not ended starts
        anew. `note` is added to the reason."""
        moves: list[Move] = []
        count = len(indexes)
        if not count:
            self._end(node, "SKIPPED", moves, "the list that it is mapped over is empty")
            return moves
        reason = f"{count:,} instance{'s' if count > 1 else ''}"
        self._change(node, "RUNNING", moves, f"{reason}; {note}" if note else reason)
        for ended in self._unfold(node, indexes, kept or {}):
            self._fold(ended, moves)
            self._spread(ended, moves)
        return moves

    def refuse(self, node: int, reason: str) -> list[Move]:
        """The task cannot be mapped over what it was given."""
        moves: list[Move] = []
        self._end(node, "FAILED", moves, reason)
        return moves

    def _unfold(self, node: int, indexes: Sequence[int], kept: Mapping[int, tuple[TaskStatus, int]]) -> list[int]:
        """Make the instances; returns those that have ended before."""
        count, unfolded = len(indexes), self._numbered(node, indexes)
        self._open += count
        if not kept:
            self.status += ["QUEUED"] * count
            for one in unfolded.nodes:
                self.ready.push(one)
            return []
        ended = []
        for index, one in zip(indexes, unfolded.nodes, strict=True):
            status, self.attempts[one] = kept.get(index, ("PENDING", 0))
            if status in TASK_ENDED:
                self.status.append(status)
                self._open -= 1
                ended.append(one)
            else:
                self.status.append("QUEUED")
                self.ready.push(one)
        return ended

    def _fold(self, node: int, moves: list[Move]) -> None:
        """An instance has ended; with the last one so has its task. Where told to, a failure ends the others."""
        owner = self._owners[node]
        unfolded = self.unfolded[owner]
        unfolded.ended[self.status[node]] = unfolded.ended.get(self.status[node], 0) + 1
        unfolded.unended -= 1
        if not unfolded.unended:
            failed = [one for one in unfolded.nodes if self.status[one] == "FAILED"] if self._forgiven else []
            reason = unfolded.reason
            if failed and self._forgiven.issuperset(failed):
                self._forgiven.add(owner)
                reason = f"{reason}; {FORGIVEN}" if reason else FORGIVEN
            self._change(owner, unfolded.status, moves, reason)
            self._open -= 1
        elif self.status[node] == "FAILED" and self._mapped.get(owner) and node not in self._forgiven:
            self._mapped = {**self._mapped, owner: False}  # once
            reason = f"instance {self.map_indexes[node]} failed and fail_fast is set"
            for one in unfolded.nodes:
                if self.status[one] in ("QUEUED", "UP_FOR_RETRY"):
                    self._end(one, "CANCELLED", moves, reason)
                elif self.status[one] == "RUNNING":
                    self.doomed.append(one)

    # -- what an outcome changes ---------------------------------------------------------------------------

    def finish(
        self,
        node: int,
        verdict: Verdict,
        now: float,
        *,
        reason: str | None = None,
        error_types: Sequence[str] = (),
        exit_code: int | None = None,
        skips: Mapping[int, str] | None = None,
    ) -> list[Move]:
        """An attempt ended. Returns every change that follows, the task's own first.

        `skips` are the tasks that it has decided to skip, each with the reason.
        """
        self.running.discard(node)
        if self._ordered:
            self.ready.ended(node)
        moves: list[Move] = []
        match verdict:
            case "CANCELLED" if self._halted and node in self._extras:  # as a resume finds it, it has yet to run
                self._change(node, "PENDING", moves, reason)
                self._open -= 1
            case "SUCCESS" | "SKIPPED" | "CANCELLED":
                self._end(node, verdict, moves, reason, skips)
            case "LOST" if self._stopped is not None and node not in self._exempt:
                self._end(node, "CANCELLED", moves, reason)
            case "LOST":
                lost = self._lost[node] = self._lost.get(node, 0) + 1
                if lost > MAX_LOST:
                    self._end(node, "FAILED", moves, f"lost {lost} times: {reason or 'a process died under it'}")
                else:
                    self._retry(node, now, moves, reason)
            case "FAILED" | "TIMED_OUT":
                policy = self._retries.get(self.owner(node), NEVER)
                tries = self._tries[node] = self._tries.get(node, 0) + 1
                goes_on = self._stopped is None or (node in self._exempt and not self._halted)
                if tries <= policy.retries and policy.covers(error_types, exit_code) and goes_on:
                    wait = policy.wait_s(tries, f"{self._seed}:{self._name(node)}")
                    again = f"attempt {self.attempts[node] + 1} in {wait:.3g} s" if wait else "tried again at once"
                    self._retry(node, now + wait, moves, f"{reason}; {again}" if reason else again)
                else:
                    tolerance = self._tolerant.get(self.owner(node)) if self._tolerant else None
                    if tolerance is not None and tolerance.covers(error_types, exit_code):
                        self._forgiven.add(node)
                        reason = f"{reason}; {FORGIVEN}" if reason else FORGIVEN
                    self._end(node, "FAILED", moves, reason)
        return moves

    def _retry(self, node: int, due: float, moves: list[Move], reason: str | None) -> None:
        self._change(node, "UP_FOR_RETRY", moves, reason)
        heapq.heappush(self._retry_at, (due, node))

    def _change(self, node: int, status: TaskStatus, moves: list[Move], reason: str | None = None) -> None:
        moves.append(Move(node, self.status[node], status, self.attempts[node], reason))
        self.status[node] = status

    def _end(
        self,
        node: int,
        status: TaskStatus,
        moves: list[Move],
        reason: str | None = None,
        skips: Mapping[int, str] | None = None,
    ) -> None:
        """A task has ended for good: tell those below, and so on down.

        One that an interruption has ended has not: a resume runs it again, so those below go on waiting.
        """
        self._change(node, status, moves, reason)
        self._open -= 1
        if node in self._extras:
            self._hold = None if node == self._hold else self._hold
            return  # nothing waits for it
        if status == "FAILED" and self._fail_fast and self._stopped is None and self._matters(node):
            self.stop(f"task {self._name(node)!r} failed and fail_fast is set", moves, "FAILED")
        interrupted = status == "CANCELLED" and self._stopped is not None and self._stop_result == "INTERRUPTED"
        if not interrupted:
            if node in self._owners:
                self._fold(node, moves)
            if skips:
                self._skip(skips, moves)
            self._spread(node, moves)

    def _skip(self, skips: Mapping[int, str], moves: list[Move]) -> None:
        """Skip tasks that have not begun, whatever their rules say."""
        ended = [node for node in skips if self.status[node] == "PENDING"]
        for node in ended:  # all of them first: none may be let run by the end of another
            self._change(node, "SKIPPED", moves, skips[node])
            self._open -= 1
        for node in ended:
            self._spread(node, moves)

    def _spread(self, node: int, moves: list[Move]) -> None:
        """Tell those below that a task has ended, and so on down from those that end by it; without recursion."""
        told = [node]
        for above in told:  # grows meanwhile
            seen = self._seen(above)
            task = self._owners.get(above, above) if self._owners else above
            if self._held and self.status[task] in TASK_ENDED:
                held = self._held.pop(task, ())
                told += [one for one in held if self.status[one] == "PENDING" and self._settle(one, moves)]
            for below in self.graph.downstream[task]:
                self._count(below, seen)
                if self.status[below] == "PENDING" and self._settle(below, moves):
                    told.append(below)

    def _settle(self, node: int, moves: list[Move]) -> bool:
        """Ask the trigger rule. Returns whether the task ended by it."""
        rule = self._rules.get(node, "all_success")
        if self._unmet[node] and rule[:3] in ("all", "non"):
            return False  # these rules wait for every upstream: no need to count
        if rule == "all_success" and node not in self._troubled:
            decision: Decision = "run"  # as nearly always, and then there is no need to count either
        else:
            decision = decide(rule, self.counts(node))
        if decision == "run" and (node in self._needs or node in self.teardowns):
            decision = self._stands(node, moves)
        if decision == "run":
            self.status[node] = "QUEUED"
            if node in self._gated:
                self._questions.append(node)
            else:
                self._line_up(node)
        elif self.status[node] != "PENDING":
            pass  # it has ended by what it stands on
        elif decision != "wait":
            self._change(node, "SKIPPED" if decision == "skip" else "UPSTREAM_FAILED", moves, self.explain(node))
        if decision in ("run", "wait"):
            return False
        self._open -= 1
        return True

    def _line_up(self, node: int) -> None:
        (self._asking.append if node in self._mapped else self.ready.push)(node)

    def _stands(self, node: int, moves: list[Move]) -> Decision:
        """Do the setups stand that a task needs? Is there something to take down?"""
        decision, why = self._set_up(node)
        if why:
            self._change(node, "SKIPPED" if decision == "skip" else "UPSTREAM_FAILED", moves, why)
        if decision != "run":
            return decision
        if node in self.teardowns and self._stopped is not None:
            above = self.graph.upstream[node]
            if above and not any(self.attempts[one] or self.status[one] == "SUCCESS" for one in self._instances(above)):
                self._change(node, "CANCELLED", moves, "nothing had begun that it takes down")
                return "skip"
        return "run"

    # -- stopping ------------------------------------------------------------------------------------------

    def stop(self, reason: str, moves: list[Move], result: RunStatus = "CANCELLED") -> None:
        """Start nothing more and cancel what has not started, save teardowns. What runs is the caller's to end."""
        if self._stopped is None:
            self._stopped, self._stop_result = reason, result
        self._cancel(reason, moves, self._exempt)

    def halt(self, reason: str, moves: list[Move]) -> None:
        """A stopped run does not go on with what it still did either."""
        if not self._halted:
            self._halted = True
            self._cancel(reason, moves, frozenset())

    def _cancel(self, reason: str, moves: list[Move], exempt: Collection[int]) -> None:
        ended = [
            node
            for node, status in enumerate(self.status)
            if status in ("PENDING", "QUEUED", "UP_FOR_RETRY") and node not in exempt
        ]
        if self._hold in ended:
            self._hold = None
        for node in ended:
            self._change(node, "CANCELLED", moves, reason)
            self._open -= 1
            if node in self._owners:
                self._fold(node, moves)
        for node in ended:
            if node not in self._extras:
                self._spread(node, moves)  # to teardowns

    def pause(self, reason: str, result: RunStatus = "INTERRUPTED") -> None:
        """Start nothing more; what has not started stays as it is, for a later resume."""
        if self._stopped is None:
            self._stopped, self._stop_result = reason, result
            self._halted = True

    @property
    def halted(self) -> bool:
        """Does nothing at all start any more?"""
        return self._halted

    def goes_on(self, node: int) -> bool:
        """Is this, though the run was stopped, to be done to its end?"""
        return node in self._exempt and not self._halted

    @property
    def stopped(self) -> str | None:
        """Why nothing new starts, or None."""
        return self._stopped

    def result(self) -> RunStatus:
        """What a finished run is: what stopped it, if that cut it short or was a failure; else what the leaves say."""
        if self._stopped is not None:
            tasks = [status for node, status in enumerate(self.status) if node not in self._extras]
            cut_short = any(status == "CANCELLED" or status not in TASK_ENDED for status in tasks)
            if cut_short or self._stop_result == "FAILED":
                return self._stop_result
        return self.verdict()
