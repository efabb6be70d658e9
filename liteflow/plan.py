"""What one run does next: the state machine, and nothing else.

`Plan` is pure. It never sees a clock, a file or a thread: `now` is a monotonic reading in seconds that the
caller passes in. It answers three questions: what may start (`take`), what an outcome changes (`finish`),
and whether all is over (`finished`, `result`). Retries, skips, failures that spread, and what a lost worker
means are decided here or nowhere.

Tasks are numbers (see `graph`); every change of state is returned as a `Move`, in the order it happened. A task that is
mapped over a list gets a further number for each of its instances once the list is known (`expand`); its own number
then stands for all of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from liteflow.graph import Graph
from liteflow.ready import Order, Ready
from liteflow.retry import NEVER, RetryPolicy
from liteflow.rules import Decision, TriggerRule, UpstreamCounts, decide
from liteflow.states import TASK_ENDED, RunStatus, TaskStatus, Verdict

#: How often a task may be started again because a process of ours died under it; then it FAILED.
MAX_LOST: Final = 3


class Move(NamedTuple):
    """A task instance changed its state. `reason` says why, where the state alone does not."""

    node: int
    previous: TaskStatus
    status: TaskStatus
    attempt: int  # how many attempts have begun
    reason: str | None = None


class Unfolded:
    """A mapped task whose list is known: its instances are the nodes `first`, `first + 1`, …, in the list's order."""

    __slots__ = ("count", "ended", "first", "unended")

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.count = count
        self.unended = count
        self.ended: dict[TaskStatus, int] = {}  # in which states instances have ended, and how many in each

    @property
    def nodes(self) -> range:
        return range(self.first, self.first + self.count)

    @property
    def status(self) -> TaskStatus:
        """What the task as a whole is, once all instances have ended: the worst of them; skipped if all are."""
        for status in ("FAILED", "UPSTREAM_FAILED", "CANCELLED", "SUCCESS"):
            if status in self.ended:
                return status
        return "SKIPPED"

    @property
    def reason(self) -> str | None:
        """Why, where that is not plain."""
        failed = self.ended.get("FAILED")
        return f"{failed:,} of {self.count:,} instances failed" if failed else None


class Plan:
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
        instances: how the instances ended of tasks that are `done` and were mapped.
        seed: makes the jitter of retries this run's own.
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
        mapped: Mapping[int, bool] | None = None,
        instances: Mapping[int, Sequence[TaskStatus]] | None = None,
    ) -> None:
        size = len(graph)
        self.graph = graph
        #: of every node: its task, and which of its instances it is (-1: it is the task itself)
        self.task_ids: list[str] = graph.ids.copy()
        self.map_indexes: list[int] = [-1] * size
        #: tasks whose list is known
        self.unfolded: dict[int, Unfolded] = {}
        #: running instances that are to end because another one failed; the caller ends them and empties this
        self.doomed: list[int] = []
        self._mapped = mapped or {}
        self._owners: dict[int, int] = {}  # of instances: the task that they are of
        self._added: dict[int, int] = {}  # by task: how many more it waits for than the graph says
        self._asking: list[int] = []
        self.status: list[TaskStatus] = ["PENDING"] * size
        self.attempts: list[int] = [0] * size
        self.running: set[int] = set()
        self._retries = retries or {}
        self._rules = rules or {}
        self._fail_fast = fail_fast
        self._seed = seed
        self._tries: dict[int, int] = {}  # failed attempts that counted, since the run was started or resumed
        self._lost: dict[int, int] = {}
        self._unmet: list[int] = [len(above) for above in graph.upstream]  # upstreams that have not ended
        self._troubled: set[int] = set()  # tasks of which an upstream has not succeeded
        self.ready = Ready(orders, self.owner)
        self._ordered = bool(orders)
        self._retry_at: list[tuple[float, int]] = []  # a heap: (monotonic seconds, task)
        self._tally: dict[int, list[int]] = {  # ended upstreams by kind, for the rules that may fire early
            node: [0, 0, 0, 0] for node, rule in self._rules.items() if rule.startswith("one_")
        }
        self._stopped: str | None = None  # why nothing new starts any more
        self._stop_result: RunStatus = "CANCELLED"
        self._open = size  # tasks that have not ended
        for node, count in (attempts or {}).items():
            self.attempts[node] = count
        self._begin(done or {}, instances or {})

    def _begin(self, done: Mapping[int, TaskStatus], instances: Mapping[int, Sequence[TaskStatus]]) -> None:
        for node, status in done.items():
            self.status[node] = status
            self._open -= 1
            ended = [node]
            if node in instances:
                statuses = instances[node]
                ended = self._unfold(node, len(statuses), {index: (one, 0) for index, one in enumerate(statuses)})
            for one in ended:
                for below in self.graph.downstream[node]:
                    self._count(below, self.status[one])
        #: changes that follow from `done` alone; the caller stores them first
        self.opening: list[Move] = []
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
                self.ready.push(due)
        if self._stopped is not None:
            return None
        while True:
            node = self.ready.pop()
            if node is None:
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
        self.ready.put_back(node)

    def is_retry(self, node: int) -> bool:
        """Has an attempt of the task failed or been lost since the run was started or resumed?"""
        return node in self._tries or node in self._lost

    def wakeup(self) -> float | None:
        """The monotonic second at which the next retry falls due, if one is waiting."""
        return self._retry_at[0][0] if self._retry_at and self._stopped is None else None

    @property
    def finished(self) -> bool:
        """Nothing runs, and nothing will."""
        return not self.running and (self._stopped is not None or not self._open)

    # -- fan-out -------------------------------------------------------------------------------------------

    def owner(self, node: int) -> int:
        """The task that a node is an instance of; itself where that is the only one."""
        return self._owners.get(node, node)

    def asking(self) -> list[int]:
        """Mapped tasks that may start and whose list is wanted now: answer each by `expand` or `refuse`."""
        asking, self._asking = self._asking, []
        return [] if self._stopped is not None else [node for node in asking if self.status[node] == "QUEUED"]

    def expand(self, node: int, count: int, kept: Mapping[int, tuple[TaskStatus, int]] | None = None) -> list[Move]:
        """The list has `count` items: each becomes an instance. `kept` are instances of an earlier part of this run
        by index, with their state and how many attempts they had; what has not ended starts anew."""
        moves: list[Move] = []
        if not count:
            self._change(node, "SKIPPED", moves, "the list that it is mapped over is empty")
            self._open -= 1
            self._spread(node, moves)
            return moves
        self._change(node, "RUNNING", moves, f"{count:,} instance{'s' if count > 1 else ''}")
        for ended in self._unfold(node, count, kept or {}):
            self._fold(ended, moves)
            self._spread(ended, moves)
        return moves

    def refuse(self, node: int, reason: str) -> list[Move]:
        """The task cannot be mapped over what it was given."""
        moves: list[Move] = []
        self._end(node, "FAILED", moves, reason)
        return moves

    def _unfold(self, node: int, count: int, kept: Mapping[int, tuple[TaskStatus, int]]) -> list[int]:
        """Make the instances; returns those that have ended before."""
        first = len(self.status)
        unfolded = self.unfolded[node] = Unfolded(first, count)
        self.task_ids += [self.graph.ids[node]] * count
        self.map_indexes += range(count)
        self.attempts += [0] * count
        self._owners.update(dict.fromkeys(unfolded.nodes, node))
        self._open += count
        for below in self.graph.downstream[node]:
            self._unmet[below] += count - 1
            self._added[below] = self._added.get(below, 0) + count - 1
        if not kept:
            self.status += ["QUEUED"] * count
            for one in unfolded.nodes:
                self.ready.push(one)
            return []
        ended = []
        for index, one in enumerate(unfolded.nodes):
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
            self._change(owner, unfolded.status, moves, unfolded.reason)
            self._open -= 1
        elif self.status[node] == "FAILED" and self._mapped.get(owner):
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
    ) -> list[Move]:
        """An attempt ended. Returns every change that follows, the task's own first."""
        self.running.discard(node)
        if self._ordered:
            self.ready.ended(node)
        moves: list[Move] = []
        match verdict:
            case "SUCCESS" | "SKIPPED" | "CANCELLED":
                self._end(node, verdict, moves, reason)
            case "LOST":
                lost = self._lost[node] = self._lost.get(node, 0) + 1
                if lost > MAX_LOST:
                    self._end(node, "FAILED", moves, f"lost {lost} times: {reason or 'a process died under it'}")
                else:
                    self._retry(node, now, moves, reason)
            case "FAILED" | "TIMED_OUT":
                policy = self._retries.get(self.owner(node), NEVER)
                tries = self._tries[node] = self._tries.get(node, 0) + 1
                if tries <= policy.retries and policy.covers(error_types, exit_code) and self._stopped is None:
                    wait = policy.wait_s(tries, f"{self._seed}:{self._name(node)}")
                    again = f"attempt {self.attempts[node] + 1} in {wait:.3g} s" if wait else "tried again at once"
                    self._retry(node, now + wait, moves, f"{reason}; {again}" if reason else again)
                else:
                    self._end(node, "FAILED", moves, reason)
        return moves

    def _retry(self, node: int, due: float, moves: list[Move], reason: str | None) -> None:
        self._change(node, "UP_FOR_RETRY", moves, reason)
        heapq.heappush(self._retry_at, (due, node))

    def _change(self, node: int, status: TaskStatus, moves: list[Move], reason: str | None = None) -> None:
        moves.append(Move(node, self.status[node], status, self.attempts[node], reason))
        self.status[node] = status

    def _end(self, node: int, status: TaskStatus, moves: list[Move], reason: str | None = None) -> None:
        """A task has ended for good: tell those below, and so on down.

        One that an interruption has ended has not: a resume runs it again, so those below go on waiting.
        """
        self._change(node, status, moves, reason)
        self._open -= 1
        if status == "FAILED" and self._fail_fast and self._stopped is None:
            self.stop(f"task {self._name(node)!r} failed and fail_fast is set", moves, "FAILED")
        interrupted = status == "CANCELLED" and self._stopped is not None and self._stop_result == "INTERRUPTED"
        if not interrupted:
            if node in self._owners:
                self._fold(node, moves)
            self._spread(node, moves)

    def _spread(self, node: int, moves: list[Move]) -> None:
        """Tell those below that a task has ended, and so on down from those that end by it; without recursion."""
        told = [node]
        for above in told:  # grows meanwhile
            for below in self.graph.downstream[self._owners.get(above, above) if self._owners else above]:
                self._count(below, self.status[above])
                if self.status[below] == "PENDING" and self._settle(below, moves):
                    told.append(below)

    def _count(self, node: int, status: TaskStatus) -> None:
        """One more upstream of the task has ended."""
        self._unmet[node] -= 1
        if status != "SUCCESS":
            self._troubled.add(node)
        if node in self._tally:
            self._tally[node][_KIND[status]] += 1

    def _settle(self, node: int, moves: list[Move]) -> bool:
        """Ask the trigger rule. Returns whether the task ended by it."""
        rule = self._rules.get(node, "all_success")
        if self._unmet[node] and rule[:3] in ("all", "non"):
            return False  # these rules wait for every upstream: no need to count
        if rule == "all_success" and node not in self._troubled:
            decision: Decision = "run"  # as nearly always, and then there is no need to count either
        else:
            decision = decide(rule, self.counts(node))
        if decision == "run":
            self.status[node] = "QUEUED"
            if node in self._mapped:
                self._asking.append(node)
            else:
                self.ready.push(node)
        elif decision == "skip":
            self._change(node, "SKIPPED", moves, self.explain(node))
        elif decision == "upstream_failed":
            self._change(node, "UPSTREAM_FAILED", moves, self.explain(node))
        if decision in ("run", "wait"):
            return False
        self._open -= 1
        return True

    def counts(self, node: int) -> UpstreamCounts:
        """How the direct upstreams of a task have ended so far."""
        above = self.graph.upstream[node]
        if node in self._tally:
            return UpstreamCounts(len(above) + self._added.get(node, 0), *self._tally[node])
        return count_upstreams([self.status[one] for one in self._instances(above)])

    def _instances(self, nodes: Iterable[int]) -> Iterator[int]:
        """The nodes, with the instances in place of tasks whose list is known."""
        for node in nodes:
            if node in self.unfolded:
                yield from self.unfolded[node].nodes
            else:
                yield node

    def _name(self, node: int) -> str:
        return instance_name(self.task_ids[node], self.map_indexes[node])

    def explain(self, node: int) -> str:
        """Why the trigger rule decided as it did, in one sentence."""
        upstream = {self._name(above): self.status[above] for above in self._instances(self.graph.upstream[node])}
        return explain(self._rules.get(node, "all_success"), upstream)

    # -- stopping ------------------------------------------------------------------------------------------

    def stop(self, reason: str, moves: list[Move], result: RunStatus = "CANCELLED") -> None:
        """Start nothing more and cancel what has not started. What runs is the caller's to end."""
        self.pause(reason, result)
        for node, status in enumerate(self.status):
            if status in ("PENDING", "QUEUED", "UP_FOR_RETRY"):
                self._change(node, "CANCELLED", moves, reason)
                self._open -= 1
                if node in self._owners:
                    self._fold(node, moves)

    def pause(self, reason: str, result: RunStatus = "INTERRUPTED") -> None:
        """Start nothing more; what has not started stays as it is, for a later resume."""
        if self._stopped is None:
            self._stopped, self._stop_result = reason, result

    @property
    def stopped(self) -> str | None:
        """Why nothing new starts, or None."""
        return self._stopped

    def result(self) -> RunStatus:
        """What a finished run is: FAILED if a task that nothing waits for failed, or a failure stopped the rest.

        A failed task whose dependants were told to go on (`all_done`, `one_failed`, …) does not fail the run.
        """
        cut_short = any(status == "CANCELLED" or status not in TASK_ENDED for status in self.status)
        if self._stopped is not None and (cut_short or self._stop_result == "FAILED"):
            return self._stop_result
        leaves = {self.status[node] for node in self.graph.leaves()}
        if leaves & {"FAILED", "UPSTREAM_FAILED"}:
            return "FAILED"
        return "CANCELLED" if "CANCELLED" in leaves else "SUCCESS"


_KIND: Final[Mapping[str, int]] = {"SUCCESS": 0, "FAILED": 1, "CANCELLED": 1, "SKIPPED": 2, "UPSTREAM_FAILED": 3}


def instance_name(task_id: str, map_index: int) -> str:
    """How people call a task instance: `fetch`, or `fetch[3]` where it is one of several."""
    return task_id if map_index < 0 else f"{task_id}[{map_index}]"


def count_upstreams(statuses: Sequence[str]) -> UpstreamCounts:
    """Count ended upstreams by what the trigger rules ask for."""
    tally = [0, 0, 0, 0]
    for status in statuses:
        kind = _KIND.get(status)
        if kind is not None:
            tally[kind] += 1
    return UpstreamCounts(len(statuses), *tally)


def explain(rule: TriggerRule, upstream: Mapping[str, str]) -> str:
    """What a trigger rule makes of these upstream states, for people; it asks `decide`, like the plan."""
    counts = count_upstreams(list(upstream.values()))
    decision = decide(rule, counts)
    if decision == "wait":
        return f"waits for {_names(upstream, lambda status: status not in TASK_ENDED)} (rule {rule})"
    if decision == "upstream_failed":
        bad = _names(upstream, lambda status: status in ("FAILED", "UPSTREAM_FAILED", "CANCELLED"))
        return f"{bad} did not succeed (rule {rule})"
    if decision == "skip" and counts.skipped and rule not in ("all_failed", "one_failed", "all_skipped"):
        return f"{_names(upstream, lambda status: status == 'SKIPPED')} was skipped (rule {rule})"
    states = ", ".join(f"{status} {name}" for name, status in list(upstream.items())[:4])
    more = "" if len(upstream) <= 4 else f" and {len(upstream) - 4} more"
    verb = "may run" if decision == "run" else "is skipped"
    return f"{verb} by rule {rule}" + (f" after {states}{more}" if upstream else ": it waits for nothing")


def _names(upstream: Mapping[str, str], wanted: Callable[[str], bool]) -> str:
    names = [repr(name) for name, status in upstream.items() if wanted(status)]
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
