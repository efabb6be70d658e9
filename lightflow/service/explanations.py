"""Explain why a task is in its state, back to the first cause, with the rules of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, cast

from lightflow.engine.formatting import format_duration
from lightflow.service.lookup import find_instance, find_run, latest_run_with
from lightflow.service.mapped_instances import MAX_LISTED, instance_name_of, tally_by_task, tally_text
from lightflow.service.pools import queue_reasons
from lightflow.service.tolerated_failures import reason_text
from liteflow import Status
from liteflow.api import RUN_ENDED, TASK_ENDED, AttemptRecord, History, InstanceRecord, RunRecord, TriggerRule
from liteflow.planning.control_flow import status_for_downstream
from liteflow.planning.trigger_rules import count_upstreams, decide, explain

_MAX_NAMED: Final = 5  # failed instances that a sentence names


class Explanation(NamedTuple):
    """Why a task is in its state."""

    run_id: str
    task_id: str
    status: str
    because: list[str]  #: a sentence for each cause, the nearest one first
    traces: dict[int, str]  #: the traces of Python tasks (JSON, see `liteflow.traces`), by number of the sentence


def why(db: str, run_id: str | None, name: str) -> Explanation:
    """Explain why a task, or an instance of a mapped task such as `fetch[3]`, is in its state.

    Raises:
        RunNotFound: there is no such run or task.
    """
    with History(db) as history:
        run = latest_run_with(history, name) if run_id is None else find_run(history, run_id)
        first = find_instance(history, run, name)
        explainer = _Explainer(history, run)
        explanation = Explanation(run.run_id, name, first.status, [], {})
        explainer.add_causes(first, explanation)
        tolerated = explainer.tolerated_reason(first)
    if tolerated is not None:
        explanation.because.append(f"the run is SUCCESS all the same: {tolerated}")
    if run.status != Status.SUCCESS and run.reason:
        explanation.because.append(f"the run is {run.status}: {run.reason}")
    return explanation


def _is_cause(effect: InstanceRecord, cause: InstanceRecord) -> bool:
    """Return whether the status of an instance follows from that of another one."""
    if effect.try_number:
        return False
    match effect.status:
        case Status.FAILED:
            return cause.task_id == effect.task_id and cause.status == Status.FAILED
        case Status.UPSTREAM_FAILED:
            return cause.status in (Status.FAILED, Status.UPSTREAM_FAILED, Status.CANCELLED)
        case Status.SKIPPED:
            return cause.status == Status.SKIPPED
        case Status.PENDING:
            return cause.status not in TASK_ENDED
    return False


def _lost_output(attempt: AttemptRecord) -> str:
    return "" if attempt.log_lost is None else f"; not all of its output could be stored: {attempt.log_lost}"


class _Explainer:
    """The tasks and instances of one run, with the reasons for their statuses."""

    def __init__(self, history: History, run: RunRecord) -> None:
        self._history = history
        self._run = run
        self._rows = {row["id"]: row for row in history.graph_tasks(run.graph_digest)}
        self._tasks: dict[str, InstanceRecord] = {}
        self._instances: dict[str, list[InstanceRecord]] = {}
        records = history.instances(run.run_id)
        for record in records:
            if record.map_index < 0:
                self._tasks[record.task_id] = record
            else:
                self._instances.setdefault(record.task_id, []).append(record)
        self._tallies = tally_by_task(records)

    def add_causes(self, first: InstanceRecord, explanation: Explanation) -> None:
        """Add a sentence for the instance, and for each cause before it."""
        seen: set[str] = set()
        instance: InstanceRecord | None = first
        while instance is not None and instance_name_of(instance) not in seen:
            seen.add(instance_name_of(instance))
            self._add(instance, explanation)
            if self._is_hook(instance):
                if instance.map_index < 0:
                    for hook in self._hooks_of_instances(instance.task_id):
                        self._add(hook, explanation)
                if instance.dependencies:
                    owner = instance.dependencies[0]
                    explanation.because.append(f"it is a hook of {owner}, and changes nothing for it")
                    return
            instance = next((cause for cause in self._possible_causes(instance) if _is_cause(instance, cause)), None)

    def _add(self, instance: InstanceRecord, explanation: Explanation) -> None:
        trace = self._trace(instance)
        if trace is not None:
            explanation.traces[len(explanation.because)] = trace
        explanation.because.append(f"{instance_name_of(instance)} is {instance.status}: {self._reason(instance)}")

    def tolerated_reason(self, instance: InstanceRecord) -> str | None:
        """Return why the failure of a task or instance does not fail the run; None if it does, or has not failed."""
        if instance.status != Status.FAILED:
            return None
        failures = self._history.overlooked(self._run)
        return next((reason_text(failure) for failure in failures if failure.task_id == instance.task_id), None)

    def _trace(self, instance: InstanceRecord) -> str | None:
        """Return where the last attempt failed in the user's code."""
        if instance.status not in (Status.FAILED, Status.UP_FOR_RETRY) or not instance.try_number:
            return None
        attempts = self._history.attempts(self._run.run_id, instance.task_id, instance.map_index)
        return attempts[-1].trace if attempts else None

    def _hooks_of_instances(self, task_id: str) -> list[InstanceRecord]:
        """Return the hooks of this name of the instances of a mapped task; of many the unsuccessful ones first."""
        hooks = [
            hook for hook in self._history.hooks(self._run.run_id) if hook.task_id == task_id and hook.map_index >= 0
        ]
        if len(hooks) > MAX_LISTED:
            hooks = sorted(hooks, key=lambda hook: hook.status == Status.SUCCESS)[:MAX_LISTED]
        return hooks

    def _is_hook(self, instance: InstanceRecord) -> bool:
        return instance.task_id not in self._rows

    def _possible_causes(self, instance: InstanceRecord) -> Iterator[InstanceRecord]:
        """Yield the instances of a mapped task, then its upstream tasks with their instances."""
        if instance.map_index < 0:
            yield from self._instances.get(instance.task_id, ())
        for upstream in instance.dependencies:
            if upstream in self._tasks:
                yield self._tasks[upstream]
                yield from self._instances.get(upstream, ())

    # -- reasons -------------------------------------------------------------------------------------------------

    def _reason(self, instance: InstanceRecord) -> str:
        """Return why an instance has its status, without its name."""
        if instance.map_index < 0:
            if self._is_hook(instance) and (hooks := self._hooks_of_instances(instance.task_id)):
                return instance.reason or tally_text({instance.status: len(hooks)})
            if instance.task_id in self._tallies and instance.status != Status.PENDING:
                return self._mapped_reason(instance)
        attempts = self._history.attempts(self._run.run_id, instance.task_id, instance.map_index)
        last = attempts[-1] if attempts else None
        match instance.status:
            case Status.PENDING | Status.UP_FOR_RETRY:
                return self._waiting_reason(instance)
            case Status.RUNNING if last is not None:
                lost = ", or was when its owner died" if self._run.status == Status.INTERRUPTED else ""
                return f"attempt {last.attempt} is running{lost}; it {self._rule_result(instance)}"
            case Status.SUCCESS:
                return self._success_reason(instance, last)
            case Status.SKIPPED if instance.try_number:
                return f"it skipped itself: {instance.reason}" if instance.reason else "it skipped itself"
            case Status.FAILED if last is not None:
                log = f"; its output is in {last.log_path}" if last.log_path else ""
                reason = instance.reason or "no reason given"
                return f"attempt {last.attempt}, its last, ended as {last.status}: {reason}{log}{_lost_output(last)}"
            case Status.SKIPPED | Status.UPSTREAM_FAILED:
                return instance.reason or self._rule_result(instance)
            case _:
                return instance.reason or "no reason is known"

    def _waiting_reason(self, instance: InstanceRecord) -> str:
        if instance.status == Status.PENDING:
            if self._run.status in RUN_ENDED:
                return "the run stopped before it could start"
            if self._run.status == Status.PENDING:
                return "the run has not started"
        queued = queue_reasons(self._history, self._run.run_id).get((instance.task_id, instance.map_index))
        if queued is not None:
            return queued
        if instance.status != Status.PENDING:
            return instance.reason or "no reason is known"
        rule, upstream = self._rule(instance)
        may_run = decide(rule, count_upstreams(list(upstream.values()))) == "run"
        return explain(rule, upstream) + ("; all slots are in use" if may_run else "")

    @staticmethod
    def _success_reason(instance: InstanceRecord, last: AttemptRecord | None) -> str:
        if last is None or last.ended_at is None:
            return instance.reason or "it succeeded"
        took = format_duration(last.ended_at - last.started_at)
        text = f"attempt {last.attempt} succeeded in {took}{_lost_output(last)}"
        return f"{text} ({instance.reason})" if instance.reason else text

    def _mapped_reason(self, instance: InstanceRecord) -> str:
        """Return why a mapped task has its status: the tally of its instances, and the failed ones."""
        failed = [each.map_index for each in self._instances[instance.task_id] if each.status == Status.FAILED]
        names = ", ".join(f"{instance.task_id}[{index}]" for index in failed[:_MAX_NAMED])
        rest = f" and {len(failed) - _MAX_NAMED:,} more" if len(failed) > _MAX_NAMED else ""
        return tally_text(self._tallies[instance.task_id]) + (f": {names}{rest}" if failed else "")

    def _rule_result(self, instance: InstanceRecord) -> str:
        """Return what the trigger rule decides."""
        return explain(*self._rule(instance))

    def _rule(self, instance: InstanceRecord) -> tuple[TriggerRule, dict[str, str]]:
        """Return the trigger rule, and the statuses of the upstream tasks and instances as the rule sees them."""
        rule = cast(TriggerRule, self._rows.get(instance.task_id, {}).get("rule", "all_success"))
        upstream: dict[str, str] = {}
        for task_id in instance.dependencies:
            if task_id in self._instances:
                for each in self._instances[task_id]:
                    upstream[instance_name_of(each)] = status_for_downstream(each.status, each.tolerated)
            elif task_id in self._tasks:
                task = self._tasks[task_id]
                upstream[task_id] = status_for_downstream(task.status, task.tolerated)
        return rule, upstream
