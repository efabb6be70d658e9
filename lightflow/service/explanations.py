"""Why a task is in the state it is in, told by the code that decides it, back to the first cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, cast

from lightflow.engine.formatting import format_duration
from lightflow.service.mapped_instances import MAX_LISTED, instance_name_of, tally_by_task, tally_text
from lightflow.service.pools import waits
from lightflow.service.queries import find_instance, latest_with, run_called
from lightflow.service.tolerated_failures import because as because_of
from liteflow import Status
from liteflow.api import RUN_ENDED, TASK_ENDED, AttemptRecord, History, InstanceRecord, RunRecord, TriggerRule
from liteflow.planning.control import status_for_downstream
from liteflow.planning.trigger_rules import explain

_NAMED: Final = 5  # failed instances whose names are told


class Explanation(NamedTuple):
    """Why a task is in its state: one sentence each, the nearest cause first.

    `traces` say where in the user's code Python tasks failed (JSON, see `liteflow.traces`), by the number of the
    sentence that tells of the failure.
    """

    run_id: str
    task_id: str
    status: str
    because: list[str]
    traces: dict[int, str]


def why(db: str, run_id: str | None, name: str) -> Explanation:
    """Why a task, or an instance of a mapped one such as `fetch[3]`, is in the state it is in.

    Raises:
        RunNotFound: there is no such run or task.
    """
    with History(db) as history:
        run = latest_with(history, name) if run_id is None else run_called(history, run_id)
        first = find_instance(history, run, name)
        story = _Story(history, run)
        because: list[str] = []
        traces: dict[int, str] = {}
        seen: set[str] = set()
        one: InstanceRecord | None = first
        while one is not None and instance_name_of(one) not in seen:
            seen.add(instance_name_of(one))
            if (trace := story.trace(one)) is not None:
                traces[len(because)] = trace
            because.append(f"{instance_name_of(one)} is {one.status}: {story.reason(one)}")
            if story.is_hook(one) and one.map_index < 0:
                for each in story.hooks_of_instances(one.task_id):
                    if (trace := story.trace(each)) is not None:
                        traces[len(because)] = trace
                    because.append(f"{instance_name_of(each)} is {each.status}: {story.reason(each)}")
            if story.is_hook(one) and one.dependencies:
                because.append(f"it is a hook of {one.dependencies[0]}, and changes nothing for it")
                break
            one = next((above for above in story.candidates(one) if _is_cause(one, above)), None)
        aside = story.overlooked(first)
    if aside is not None:
        because.append(f"the run is SUCCESS all the same: {aside}")
    if run.status != Status.SUCCESS and run.reason:
        because.append(f"the run is {run.status}: {run.reason}")
    return Explanation(run.run_id, name, first.status, because, traces)


def _is_cause(one: InstanceRecord, above: InstanceRecord) -> bool:
    """Did the state of `above` put `one` where it is?"""
    if one.try_number:
        return False
    match one.status:
        case Status.FAILED:
            return above.task_id == one.task_id and above.status == Status.FAILED
        case Status.UPSTREAM_FAILED:
            return above.status in (Status.FAILED, Status.UPSTREAM_FAILED, Status.CANCELLED)
        case Status.SKIPPED:
            return above.status == Status.SKIPPED
        case Status.PENDING:
            return above.status not in TASK_ENDED
    return False


def _key(one: InstanceRecord) -> tuple[str, int]:
    return one.task_id, one.map_index


def _lost_output(attempt: AttemptRecord) -> str:
    return "" if attempt.log_lost is None else f"; not all of its output could be stored: {attempt.log_lost}"


class _Story:
    """What is known of one run."""

    def __init__(self, history: History, run: RunRecord) -> None:
        self._history = history
        self._run = run
        self._rows = {row["id"]: row for row in history.graph_tasks(run.graph_digest)}
        self._tasks: dict[str, InstanceRecord] = {}
        self._instances: dict[str, list[InstanceRecord]] = {}
        found = history.instances(run.run_id)
        for one in found:
            if one.map_index < 0:
                self._tasks[one.task_id] = one
            else:
                self._instances.setdefault(one.task_id, []).append(one)
        self._tallies = tally_by_task(found)

    def overlooked(self, one: InstanceRecord) -> str | None:
        """Why the failure of a task, or of an instance, has not failed the run; None: it has, or there was none."""
        if one.status != Status.FAILED:
            return None
        failures = self._history.overlooked(self._run)
        return next((because_of(failure) for failure in failures if failure.task_id == one.task_id), None)

    def trace(self, one: InstanceRecord) -> str | None:
        """Where in the user's code its last attempt failed."""
        if one.status not in (Status.FAILED, Status.UP_FOR_RETRY) or not one.try_number:
            return None
        attempts = self._history.attempts(self._run.run_id, one.task_id, one.map_index)
        return attempts[-1].trace if attempts else None

    def hooks_of_instances(self, task_id: str) -> list[InstanceRecord]:
        """The hooks of this name that instances of a mapped task have; of many those that have not succeeded first."""
        hooks = [one for one in self._history.hooks(self._run.run_id) if one.task_id == task_id and one.map_index >= 0]
        if len(hooks) > MAX_LISTED:
            hooks = sorted(hooks, key=lambda one: one.status == Status.SUCCESS)[:MAX_LISTED]
        return hooks

    def is_hook(self, one: InstanceRecord) -> bool:
        """Is it no task, but a hook?"""
        return one.task_id not in self._rows

    def candidates(self, one: InstanceRecord) -> Iterator[InstanceRecord]:
        """What may have put it into its state: its own instances, and what it waits for."""
        if one.map_index < 0:
            yield from self._instances.get(one.task_id, ())
        for above in one.dependencies:
            if above in self._tasks:
                yield self._tasks[above]
                yield from self._instances.get(above, ())

    def reason(self, one: InstanceRecord) -> str:
        """Why, in a sentence."""
        if self.is_hook(one) and one.map_index < 0 and (hooks := self.hooks_of_instances(one.task_id)):
            return one.reason or tally_text({one.status: len(hooks)})
        if one.map_index < 0 and one.task_id in self._tallies and one.status != Status.PENDING:
            return self._of_mapped(one)
        run = self._run
        attempts = self._history.attempts(run.run_id, one.task_id, one.map_index)
        last = attempts[-1] if attempts else None
        match one.status:
            case Status.PENDING if run.status in RUN_ENDED:
                return "the run stopped before it could start"
            case Status.PENDING if run.status == Status.PENDING:
                return "the run has not begun"
            case Status.PENDING | Status.UP_FOR_RETRY if wait := waits(self._history, run.run_id).get(_key(one)):
                return wait
            case Status.PENDING:
                decided = self._explained(one)
                return f"{decided}; all slots are in use" if decided.startswith("may run") else decided
            case Status.QUEUED:
                return f"attempt {one.try_number} waits for a slot"
            case Status.RUNNING if last is not None:
                lost = ", or was when its owner died" if run.status == Status.INTERRUPTED else ""
                return f"attempt {last.attempt} is running{lost}; it {self._explained(one)}"
            case Status.SUCCESS:
                if last is None or last.ended_at is None:
                    return one.reason or "it succeeded"
                took = format_duration(last.ended_at - last.started_at)
                took = f"attempt {last.attempt} succeeded in {took}{_lost_output(last)}"
                return f"{took} ({one.reason})" if one.reason else took
            case Status.SKIPPED if one.try_number:
                return f"it skipped itself: {one.reason}" if one.reason else "it skipped itself"
            case Status.FAILED if last is not None:
                log = f"; its output is in {last.log_path}" if last.log_path else ""
                return (
                    f"attempt {last.attempt}, its last, ended as {last.status}: {one.reason or 'no reason given'}{log}"
                    f"{_lost_output(last)}"
                )
            case Status.SKIPPED | Status.UPSTREAM_FAILED:
                return one.reason or self._explained(one)
            case _:
                return one.reason or "no reason is known"

    def _of_mapped(self, one: InstanceRecord) -> str:
        """Why the task that instances belong to is as it is: they are as they are."""
        failed = [each.map_index for each in self._instances[one.task_id] if each.status == Status.FAILED]
        names = ", ".join(f"{one.task_id}[{index}]" for index in failed[:_NAMED])
        more = f" and {len(failed) - _NAMED:,} more" if len(failed) > _NAMED else ""
        return tally_text(self._tallies[one.task_id]) + (f": {names}{more}" if failed else "")

    def _explained(self, one: InstanceRecord) -> str:
        """What the trigger rule makes of what the task waits for; of a mapped task, of each instance."""
        rule = cast(TriggerRule, self._rows.get(one.task_id, {}).get("rule", "all_success"))
        upstream: dict[str, str] = {}
        for above in one.dependencies:
            if above in self._instances:
                upstream |= {
                    instance_name_of(each): status_for_downstream(each.status, each.tolerated)
                    for each in self._instances[above]
                }
            elif above in self._tasks:
                upstream[above] = status_for_downstream(self._tasks[above].status, self._tasks[above].tolerated)
        return explain(rule, upstream)
