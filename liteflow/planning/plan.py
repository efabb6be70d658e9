"""The state machine of one run: which tasks may start, and what an outcome changes.

`Plan` is pure. It has no clock, file or thread: `now` is a monotonic reading in seconds that the caller passes. It
answers three questions: which task may start (`take`), what changes when an attempt ends (`finish`), and whether the
run is over (`finished`, `result`). Retries, skips, failures that spread downstream, and the handling of lost workers
are decided here. The plan cannot evaluate start checks or read lists. The caller polls `due_checks` and `due_lists`,
and reports each result with `pass_checks`, `end_unstarted`, `expand` or `reject_list`.

Tasks are numbers (see `TaskTable`). Every change of a state is returned as a `Transition`, in the order it happened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from liteflow.planning.control_flow import NO_CONTROL_FLOW, TOLERATED, ControlFlow
from liteflow.planning.graph import Graph
from liteflow.planning.ready_queue import QueueOptions, ReadyQueue
from liteflow.planning.retry import MAX_LOST, NEVER, NO_FAILURE, Failure, RetryPolicy, RetryTracker
from liteflow.planning.run_result import counting_failures, failure_counts, run_status
from liteflow.planning.start_queue import StartQueue
from liteflow.planning.task_table import TaskTable, Transition
from liteflow.planning.trigger_rules import Decision, TriggerRule
from liteflow.planning.upstream_tracker import UpstreamTracker
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.states import TASK_ENDED, RunStatus, TaskStatus, Verdict

_States = Mapping[int, TaskStatus]
StopCause = Literal["cancelled", "fail_fast", "timed_out", "interrupted"]
_RESULTS: Final[Mapping[StopCause, RunStatus]] = {
    "cancelled": "CANCELLED",
    "fail_fast": "FAILED",
    "timed_out": "FAILED",
    "interrupted": "INTERRUPTED",
}
_ENDS: Final[Mapping[Decision, TaskStatus]] = {"skip": "SKIPPED", "upstream_failed": "UPSTREAM_FAILED"}


class Stop(Record, kw_only=False):
    """Why a run starts nothing new, except teardowns and hooks."""

    reason: str
    cause: StopCause

    @property
    def result(self) -> RunStatus:
        """The state of the run, if the stop cut it short."""
        return _RESULTS[self.cause]


class PlanOptions(Record):
    """How the tasks of a run are planned. Mappings are by task number, and hold what differs from the default."""

    retries: Mapping[int, RetryPolicy] = EMPTY_MAPPING
    rules: Mapping[int, TriggerRule] = EMPTY_MAPPING
    queue: Mapping[int, QueueOptions] = EMPTY_MAPPING
    control: ControlFlow = NO_CONTROL_FLOW
    #: the tasks that are mapped over a list, and whether the first instance that FAILED cancels the others
    mapped: Mapping[int, bool] = EMPTY_MAPPING
    fail_fast: bool = False  # whether the first task that FAILED stops the run
    max_lost: int = MAX_LOST  # how often an instance is started again because its process or its place died
    seed: str = ""  # of the retry jitter: the run id, so that a resumed run waits equally long


class InstanceResult(NamedTuple):
    """The result of an instance of a mapped task in the previous part of a run."""

    status: TaskStatus
    attempts: int = 0
    tolerated: bool = False  # it counts as a success


class PreviousResults(Record):
    """The results of the previous part of a run that is resumed or retried, by task number."""

    done: _States = EMPTY_MAPPING  # tasks that ended and keep their state
    tolerated: Collection[int] = ()  # those of them that count as a success
    attempts: Mapping[int, int] = EMPTY_MAPPING  # further attempts continue the count
    #: the results of the instances of mapped tasks that are `done`, by index, in the order of the list
    instances: Mapping[int, Mapping[int, InstanceResult]] = EMPTY_MAPPING
    waiting: Collection[int] = ()  # tasks, and no instances, whose attempt waits or whose next iteration is due later
    #: the tasks that the decisions of branches and short circuits in `done` skip, with the reasons
    skips: Mapping[int, Mapping[int, str]] = EMPTY_MAPPING


NO_RESULTS: Final = PreviousResults()
_NOT_RUN: Final = InstanceResult("PENDING")
DEFAULT_OPTIONS: Final = PlanOptions()


class Plan:
    """One run of a graph."""

    def __init__(
        self, graph: Graph, options: PlanOptions = DEFAULT_OPTIONS, previous: PreviousResults = NO_RESULTS
    ) -> None:
        self.table = TaskTable(graph)  # written by the plan alone
        self.running: set[int] = set()
        #: transitions that follow from the previous results alone; the caller stores them first
        self.initial_transitions: list[Transition] = []
        self._options = options
        self._upstreams = UpstreamTracker(self.table, options.rules, options.control)
        self._starts = StartQueue(self.table, options.queue, options.mapped)
        self._retries = RetryTracker(options.retries, options.seed)
        self._stop: Stop | None = None
        self._halted = False  # whether even teardowns and hooks no longer start
        self._runs_after_stop: set[int] = set(options.control.teardowns)
        self._remaining = len(graph)  # how many tasks, instances and triggered hooks have not ended
        self._to_cancel: list[int] = []
        for node, count in previous.attempts.items():
            self.table.attempts[node] = count
        self._restore(previous)

    def _restore(self, previous: PreviousResults) -> None:
        """Restore the states of the previous part of the run, and apply what follows from them."""
        table, upstreams, transitions = self.table, self._upstreams, self.initial_transitions
        table.tolerated.update(previous.tolerated)
        table.ended_before = previous.done
        for node, status in previous.done.items():
            table.status[node] = status
            self._remaining -= 1
            ended = [node]
            if node in previous.instances:
                instances = previous.instances[node]
                ended = self._add_instances(node, list(instances), instances)
            for downstream in self._counted_by(node):
                for instance in ended:
                    upstreams.count(downstream, table.downstream_status(instance))
        for node in previous.waiting:
            self._wait_on(node)
        for skipped in previous.skips.values():
            self._skip(skipped, transitions)
        for node in table.graph.index.values():
            if table.status[node] == "PENDING" and upstreams.may_be_decided(node) and self._decide(node, transitions):
                self._propagate_end(node, transitions)

    # -- starting ------------------------------------------------------------------------------------------

    def take(self, now: float) -> int | None:
        """Return the next task to start, or None. It is RUNNING from here on; its attempt is `table.attempts[node]`."""
        node = None if self._halted else self._starts.pop(now)
        if node is not None:
            self.table.status[node] = "RUNNING"
            self.table.attempts[node] += 1
            self.running.add(node)
        return node

    def requeue_retries(self, now: float) -> None:
        """Queue the tasks whose back-off is over, so that only later retries count for `next_retry_at`."""
        self._starts.requeue(now)

    def put_back(self, node: int) -> None:
        """Undo `take` for a task that has not started, because it did not get its slots; it is the next to start."""
        self.running.discard(node)
        self.table.attempts[node] -= 1
        stored = self.stored_status(node)
        self.table.status[node] = "QUEUED" if stored == "PENDING" else stored
        self._starts.put_back(node)

    def is_retry(self, node: int) -> bool:
        """Return whether an attempt has failed or was lost since the run was started or resumed."""
        return self._retries.is_retry(node)

    def stored_status(self, node: int) -> TaskStatus:
        """Return the state that the state file has of an instance that has yet to start or start again."""
        if self.is_retry(node):
            return "UP_FOR_RETRY"
        return "WAITING" if self._retries.repeats(node) else "PENDING"

    def next_retry_at(self) -> float | None:
        """Return the monotonic second at which the next retry is due, if one is waiting."""
        return None if self._halted else self._starts.next_retry_at()

    @property
    def has_queue_options(self) -> bool:
        """Whether a task has a priority, a limit of parallel instances, or needs slots."""
        return self.ready.is_ordered

    @property
    def ready(self) -> ReadyQueue:
        """The tasks that may start. The caller sets the room of places in it, and says which tasks got slots."""
        return self._starts.ready

    # -- start checks and lists ----------------------------------------------------------------------------

    def due_checks(self) -> list[int]:
        """Return, once, the tasks whose start checks are to be evaluated.

        The caller reports each result with `pass_checks` or `end_unstarted`.
        """
        return self._starts.due_checks()

    def pass_checks(self, node: int) -> list[Transition]:
        """Let a task start whose start checks passed; the entry of a group ends and lets its group start."""
        if node in self._options.control.entries:
            return self.end_unstarted(node, "SUCCESS", None)
        if self.table.status[node] == "QUEUED":  # else it was cancelled
            self._starts.add(node, checked=True)
        return []

    def end_unstarted(self, node: int, status: TaskStatus, reason: str | None) -> list[Transition]:
        """End a task whose start checks did not pass, without an attempt."""
        transitions: list[Transition] = []
        if self.table.status[node] == "QUEUED":
            # The state file still has PENDING; QUEUED exists only in the plan here.
            self.table.status[node] = "PENDING"
            self._end(node, status, transitions, reason)
        return transitions

    def due_lists(self) -> list[int]:
        """Return, once, the mapped tasks whose list is to be read.

        The caller reports each result with `expand` or `reject_list`.
        """
        nodes = self._starts.due_lists()
        return [] if self._stop is not None else nodes

    def expand(
        self,
        node: int,
        indexes: Sequence[int],
        previous: Mapping[int, InstanceResult] | None = None,
        note: str = "",
    ) -> list[Transition]:
        """Add an instance with each of these indexes to a mapped task.

        `previous` are the results of instances of the previous part of the run, by index; those that have not ended
        run. `note` is added to the reason.
        """
        transitions: list[Transition] = []
        if self.table.status[node] != "QUEUED":
            return transitions  # it was cancelled
        count = len(indexes)
        if not count:
            self._end(node, "SKIPPED", transitions, "the list that it is mapped over is empty")
            return transitions
        reason = f"{count:,} instance{'s' if count > 1 else ''}"
        self._change(node, "RUNNING", transitions, f"{reason}; {note}" if note else reason)
        for ended in self._add_instances(node, indexes, previous or {}):
            self._finish_instance(ended, transitions)
            self._propagate_end(ended, transitions)
        return transitions

    def reject_list(self, node: int, reason: str) -> list[Transition]:
        """Fail a task that cannot be mapped over its list."""
        transitions: list[Transition] = []
        if self.table.status[node] == "QUEUED":  # else it was cancelled
            self._end(node, "FAILED", transitions, reason)
        return transitions

    def _add_instances(self, node: int, indexes: Sequence[int], previous: Mapping[int, InstanceResult]) -> list[int]:
        """Add instances. Return those that ended in the previous part of the run."""
        table, push = self.table, self._starts.ready.push
        instances = table.add_instances(node, indexes, fail_fast=self._options.mapped.get(node, False))
        self._upstreams.add_instances(node, len(indexes))
        self._remaining += len(indexes)
        ended = []
        for index, instance in zip(indexes, instances.nodes, strict=True):
            status, attempts, tolerated = previous.get(index, _NOT_RUN) if previous else _NOT_RUN
            if tolerated:
                table.tolerated.add(instance)
            if attempts:
                table.attempts[instance] = attempts
            if status in TASK_ENDED:
                table.status[instance] = status
                self._remaining -= 1
                ended.append(instance)
            elif status == "WAITING":
                self._wait_on(instance)
            else:
                push(instance)
        return ended

    def _finish_instance(self, node: int, transitions: list[Transition]) -> None:
        """Count the end of an instance: the last one ends its task; with `fail_fast` a failure cancels the others."""
        table = self.table
        owner = table.owners[node]
        instances, status = table.mapped[owner], table.status[node]
        instances.ended[status] = instances.ended.get(status, 0) + 1
        instances.remaining -= 1
        if not instances.remaining:
            failed = [each for each in instances.nodes if table.status[each] == "FAILED"] if table.tolerated else []
            reason = instances.reason
            if failed and table.tolerated.issuperset(failed):
                table.tolerated.add(owner)
                reason = f"{reason}; {TOLERATED}" if reason else TOLERATED
            self._change(owner, instances.status, transitions, reason)
            self._remaining -= 1
        elif status == "FAILED" and instances.fail_fast and node not in table.tolerated:
            instances.fail_fast = False  # the others are cancelled once
            reason = f"instance {table.map_indexes[node]} failed and fail_fast is set"
            for other in instances.nodes:
                if self._has_no_attempt(other):
                    self._end(other, "CANCELLED", transitions, reason)
                elif table.status[other] in ("RUNNING", "WAITING"):
                    self._to_cancel.append(other)

    def to_cancel(self) -> Sequence[int]:
        """Return, once, the running instances that the caller is to cancel, because another instance failed."""
        if not self._to_cancel:
            return ()
        nodes, self._to_cancel = self._to_cancel, []
        return nodes

    # -- waiting -------------------------------------------------------------------------------------------

    def wait(self, node: int, why: str) -> list[Transition]:
        """Let a running attempt wait without a worker; `finish` ends it. `why` is the reason."""
        transitions: list[Transition] = []
        self.running.discard(node)
        self.table.waiting.add(node)
        self._change(node, "WAITING", transitions, why or None)
        return transitions

    def explain_wait(self, node: int, why: str) -> list[Transition]:
        """Record that an attempt that waits now waits for something else."""
        transitions: list[Transition] = []
        self._change(node, "WAITING", transitions, why or None)
        return transitions

    def repeat_at(self, node: int, due: float) -> None:
        """Start the next iteration of an instance of the previous part of the run at this monotonic second."""
        self.table.waiting.discard(node)
        self._starts.ready.ended(node)
        self._retries.repeat(node)
        self._starts.add_retry(node, due)

    def _wait_on(self, node: int) -> None:
        """Restore an instance that was waiting in the previous part of the run."""
        self.table.status[node] = "WAITING"
        self.table.waiting.add(node)
        self._starts.ready.restored(node)

    def _has_no_attempt(self, node: int) -> bool:
        """Return whether the instance has not ended and has no attempt that has yet to end."""
        status = self.table.status[node]
        return status in ("PENDING", "QUEUED", "UP_FOR_RETRY") or (
            status == "WAITING" and node not in self.table.waiting
        )

    # -- hooks ---------------------------------------------------------------------------------------------

    def add_hook(
        self,
        task_id: str,
        map_index: int = -1,
        *,
        status: TaskStatus = "SUCCESS",
        attempts: int = 0,
        retries: RetryPolicy = NEVER,
        runs_after_stop: bool = False,
    ) -> int:
        """Add a hook that has ended as `status`, and return its number; `trigger` starts it."""
        node = self.table.add_hook(task_id, map_index, status, attempts)
        self._retries.set_policy(node, retries)
        if runs_after_stop:
            self._runs_after_stop.add(node)
        return node

    def trigger(self, node: int, *, blocking: bool = False) -> None:
        """Let a hook run, once more if it has run before; with `blocking` nothing else starts before its end."""
        self._retries.forget(node)
        self.table.status[node] = "QUEUED"
        self._remaining += 1
        if blocking:
            self._starts.add_blocking(node)
        else:
            self._starts.ready.push(node)

    # -- the end of an attempt -----------------------------------------------------------------------------

    def finish(
        self,
        node: int,
        verdict: Verdict,
        now: float,
        *,
        reason: str | None = None,
        failure: Failure = NO_FAILURE,
        skips: Mapping[int, str] | None = None,
        repeat_s: float = 0.0,
    ) -> list[Transition]:
        """End an attempt. Return every change that follows, the first of them the task's own.

        `skips` are the tasks that the task has decided to skip, each with the reason; `repeat_s` are the seconds before
        the next iteration of a task that is REPEATED.
        """
        self.running.discard(node)
        self.table.waiting.discard(node)
        self._retries.ended(node)
        self._starts.ready.ended(node)
        transitions: list[Transition] = []
        match verdict:
            case "CANCELLED" if self._halted and node in self.table.hooks:  # a resume runs it
                self._change(node, "PENDING", transitions, reason)
                self._remaining -= 1
            case "SUCCESS" | "SKIPPED" | "CANCELLED":
                self._end(node, verdict, transitions, reason, skips)
            case "REPEATED" if self._stop is not None and not self.survives_stop(node):
                self._end(node, "CANCELLED", transitions, self._stop.reason)
            case "REPEATED":
                self._repeat(node, now + repeat_s, transitions, reason)
            case "LOST":
                self._lost(node, now, transitions, reason, failure)
            case "FAILED" | "TIMED_OUT":
                self._failed(node, now, transitions, reason, failure)
        return transitions

    def _lost(self, node: int, now: float, transitions: list[Transition], reason: str | None, failure: Failure) -> None:
        """End an attempt whose process died: it does not count as a retry, up to a limit."""
        if self._stop is not None and node not in self._runs_after_stop:
            self._end(node, "CANCELLED", transitions, reason)
        elif (lost := self._retries.after_loss(node, failure)) > self._options.max_lost:
            self._end(node, "FAILED", transitions, f"lost {lost} times: {reason or 'its process died'}")
        else:
            self._retry(node, now, transitions, reason)

    def _failed(
        self, node: int, now: float, transitions: list[Transition], reason: str | None, failure: Failure
    ) -> None:
        """End an attempt that failed: there is a retry, or the task is FAILED."""
        table, task = self.table, self.table.owner(node)
        wait = self._retries.after_failure(node, task, table.name(node), failure)
        note = self._retries.explain(node, task, failure, wait)
        if wait is not None and (self._stop is None or self.survives_stop(node)):
            again = f"attempt {table.attempts[node] + 1} in {wait:.3g} s" if wait else "tried again at once"
            again = f"{again}, {note}" if note else again
            self._retry(node, now + wait, transitions, f"{reason}; {again}" if reason else again)
            return
        if wait is None and note:
            reason = f"{reason}; {note}" if reason else note
        tolerance = self._options.control.tolerances.get(task)
        if tolerance is not None and tolerance.covers(failure.error_types, failure.exit_code):
            table.tolerated.add(node)
            reason = f"{reason}; {TOLERATED}" if reason else TOLERATED
        self._end(node, "FAILED", transitions, reason)

    def _retry(self, node: int, due: float, transitions: list[Transition], reason: str | None) -> None:
        self._change(node, "UP_FOR_RETRY", transitions, reason)
        self._starts.add_retry(node, due)

    def _repeat(self, node: int, due: float, transitions: list[Transition], reason: str | None) -> None:
        """Let an instance wait for its next iteration, whose retries are counted from the start."""
        self._retries.repeat(node)
        self._change(node, "WAITING", transitions, reason)
        self._starts.add_retry(node, due)

    def _change(self, node: int, status: TaskStatus, transitions: list[Transition], reason: str | None = None) -> None:
        table = self.table
        tolerated = status == "FAILED" and node in table.tolerated
        transitions.append(Transition(node, table.status[node], status, table.attempts[node], reason, tolerated))
        table.status[node] = status

    def _end(
        self,
        node: int,
        status: TaskStatus,
        transitions: list[Transition],
        reason: str | None = None,
        skips: Mapping[int, str] | None = None,
    ) -> None:
        """End a task and every task whose end follows from it.

        A task that an interruption has ended will be run again by a resume, so its downstream tasks still wait.
        """
        self._change(node, status, transitions, reason)
        self._remaining -= 1
        if node in self.table.hooks:
            self._starts.unblock(node)
            return  # no task waits for it
        if status == "FAILED" and self._options.fail_fast and self._stop is None and self._counts(node):
            name = self.table.name(node)
            self._stop_tasks(Stop(f"task {name!r} failed and fail_fast is set", "fail_fast"), transitions)
        if status == "CANCELLED" and self._stop is not None and self._stop.cause == "interrupted":
            return
        if node in self.table.owners:
            self._finish_instance(node, transitions)
        if skips:
            self._skip(skips, transitions)
        self._propagate_end(node, transitions)

    def _counts(self, node: int) -> bool:
        return failure_counts(self.table, self._options.control, node)

    def _skip(self, skips: Mapping[int, str], transitions: list[Transition]) -> None:
        """Skip tasks that have not started, under any trigger rule."""
        ended = [node for node in skips if self.table.status[node] == "PENDING"]
        for node in ended:  # all of them first: the end of one must not let another run
            self._change(node, "SKIPPED", transitions, skips[node])
            self._remaining -= 1
        for node in ended:
            self._propagate_end(node, transitions)

    def _propagate_end(self, node: int, transitions: list[Transition]) -> None:
        """Decide about the downstream tasks of a task that has ended, and about those of each task that ends by that.

        Iterative, because a long chain would overflow the stack.
        """
        table, upstreams = self.table, self._upstreams
        status, owners, downstream_of = table.status, table.owners, table.graph.downstream
        entries, joins = self._options.control.entries, self._options.control.joins
        ended = [node]
        for upstream in ended:  # the body appends to this list
            if upstream in entries:
                ended += self._end_entry(upstream, transitions)
            upstream_status = table.downstream_status(upstream)
            task = owners.get(upstream, upstream)
            if upstreams.waiting_for_setup:
                ended += [
                    released
                    for released in upstreams.released_by(task)
                    if status[released] == "PENDING" and self._decide(released, transitions)
                ]
            is_entry = upstream in entries
            for downstream in downstream_of[task]:
                if not is_entry or downstream in joins:
                    upstreams.count(downstream, upstream_status)
                if status[downstream] == "PENDING" and self._decide(downstream, transitions):
                    ended.append(downstream)

    def _decide(self, node: int, transitions: list[Transition]) -> bool:
        """Apply the trigger rule of a PENDING task, and its setups. Return whether the task has ended by them."""
        control = self._options.control
        if node in control.joins:
            return self._join(node, transitions)
        if self._upstreams.waits_for_entry(node):
            return False
        decision, reason = self._upstreams.decide(node), ""
        if decision == "run" and (node in control.needed_setups or node in control.teardowns):
            decision, reason = self._upstreams.check_setups(node)
        if decision == "wait":
            return False
        status = _ENDS.get(decision)
        if status is None and self._stop is not None and self._has_nothing_to_tear_down(node):
            status, reason = "CANCELLED", "nothing that it tears down had started"
        if status is None and node in control.entries and node not in control.checked:
            status, reason = "SUCCESS", self._upstreams.explain(node)
        if status is None:
            self.table.status[node] = "QUEUED"
            self._starts.add(node, checked=node not in control.checked)
            return False
        self._change(node, status, transitions, reason or self._upstreams.explain(node))
        self._remaining -= 1
        return True

    def _join(self, node: int, transitions: list[Transition]) -> bool:
        """End the join of a group whose members have all ended. Return whether it has ended."""
        joined = self._upstreams.joined(node)
        if joined is None:
            return False
        status, reason = joined
        self._change(node, status, transitions, reason or None)
        self._remaining -= 1
        return True

    def _counted_by(self, node: int) -> Sequence[int]:
        """Return the downstream nodes whose trigger rules count a node: only joins count entries."""
        downstream, control = self.table.graph.downstream[node], self._options.control
        return [each for each in downstream if each in control.joins] if node in control.entries else downstream

    def _end_entry(self, entry: int, transitions: list[Transition]) -> list[int]:
        """Let the tasks of a group start whose entry has ended, or end them under any rule. Return those that ended."""
        table = self.table
        members = [node for node in self._options.control.entries[entry] if table.status[node] == "PENDING"]
        if table.status[entry] == "SUCCESS":
            return [node for node in members if table.status[node] == "PENDING" and self._decide(node, transitions)]
        status: TaskStatus = "SKIPPED" if table.status[entry] == "SKIPPED" else "UPSTREAM_FAILED"
        reason = next((each.reason for each in reversed(transitions) if each.node == entry), None)
        for node in members:
            self._change(node, status, transitions, reason)
            self._remaining -= 1
        return members

    def _has_nothing_to_tear_down(self, node: int) -> bool:
        """Return whether this is a teardown none of whose upstream tasks has started."""
        table, upstream = self.table, self.table.graph.upstream[node]
        return (
            node in self._options.control.teardowns
            and bool(upstream)
            and not any(table.attempts[task] or table.status[task] == "SUCCESS" for task in table.instances(upstream))
        )

    # -- stopping ------------------------------------------------------------------------------------------

    def stop(self, reason: str, cause: StopCause = "cancelled") -> list[Transition]:
        """Start nothing more and cancel what has not started, except teardowns and hooks.

        The caller ends the running tasks that do not run to their end (see `survives_stop`).
        """
        transitions: list[Transition] = []
        self._stop_tasks(Stop(reason, cause), transitions)
        return transitions

    def halt(self, reason: str) -> list[Transition]:
        """Start no teardowns and hooks either, and cancel those that have not started."""
        transitions: list[Transition] = []
        if not self._halted:
            self._halted = True
            self._cancel(reason, transitions, self._options.control.joins)
        return transitions

    def pause(self, reason: str) -> None:
        """Start nothing more because of an interruption; what has not started stays as it is, for a later resume."""
        if self._stop is None:
            self._stop = Stop(reason, "interrupted")
            self._halted = True

    def _stop_tasks(self, stop: Stop, transitions: list[Transition]) -> None:
        if self._stop is None:
            self._stop = stop
        self._cancel(stop.reason, transitions, self._runs_after_stop | self._options.control.joins)

    def _cancel(self, reason: str, transitions: list[Transition], exempt: Collection[int]) -> None:
        table = self.table
        ended = [
            node
            for node, status in enumerate(table.status)
            if status not in TASK_ENDED and node not in exempt and self._has_no_attempt(node)
        ]
        for node in ended:
            self._change(node, "CANCELLED", transitions, reason)
            self._remaining -= 1
            self._starts.unblock(node)
            if node in table.owners:
                self._finish_instance(node, transitions)
        for node in ended:
            if node not in table.hooks:
                self._propagate_end(node, transitions)  # to teardowns

    @property
    def stopped(self) -> Stop | None:
        """Why nothing new starts, or None."""
        return self._stop

    @property
    def halted(self) -> bool:
        """Whether nothing at all can start."""
        return self._halted

    def survives_stop(self, node: int) -> bool:
        """Return whether the task runs to its end although the run was stopped."""
        return node in self._runs_after_stop and not self._halted

    # -- the state of the run ------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will."""
        if self.running:
            return False
        leaves_waits = not self.table.waiting or (self._stop is not None and self._stop.cause == "interrupted")
        return (self._halted and leaves_waits) or not self._remaining

    def result(self) -> RunStatus:
        """Return the state of a finished run: that of the stop, if it cut the run short; else that of its tasks."""
        table, stop = self.table, self._stop
        if stop is not None:
            cut_short = any(
                status not in TASK_ENDED or (status == "CANCELLED" and node not in table.hooks)
                for node, status in enumerate(table.status)
            )
            if cut_short or stop.result == "FAILED":
                return stop.result
        return run_status(table, self._options.control, self._silent())

    def _silent(self) -> list[int]:
        """Return the tasks of the previous part of the run that would not have run after what has happened since."""
        status, tolerated = self.table.status, self.table.tolerated
        return [
            node
            for node in self.table.ended_before
            if (status[node] == "SKIPPED" and node in tolerated)
            or (status[node] == "SUCCESS" and self._upstreams.decide(node) == "upstream_failed")
        ]

    def failures(self) -> list[str]:
        """Return the ids of the tasks that FAILED and whose failure counts."""
        return counting_failures(self.table, self._options.control)

    def upstream_states(self, node: int) -> list[TaskStatus]:
        """Return the states of the upstream tasks, as the trigger rule sees them."""
        return self._upstreams.states(node)

    def explain(self, node: int) -> str:
        """Explain the decision of the trigger rule in one sentence."""
        return self._upstreams.explain(node)
