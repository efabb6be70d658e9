"""Explain why a task is in its state, back to the first cause, with the rules of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from lightflow.service.child_views import child_approvals, child_views
from lightflow.service.lookup import find_instance, find_run, latest_run_with
from lightflow.service.mapped_instances import (
    MAX_LISTED,
    instance_name_of,
    is_hook,
    tally_by_task,
    tally_text,
    with_times,
)
from lightflow.service.pools import group_reason
from lightflow.service.queries import fire_text, request_text
from lightflow.service.run_tasks import RunTasks
from lightflow.service.stale import find_stale
from lightflow.service.tolerated_failures import reason_text
from lightflow.service.waiting import WAITS, WaitReasons
from lightflow.text import listed
from liteflow import Status
from liteflow.api import AttemptRecord, History, InstanceRecord, RunRecord, RunRequest, duration_text
from liteflow.planning.trigger_rules import explain

_REPEATED: Final = (Status.FAILED, Status.UPSTREAM_FAILED, Status.CANCELLED)  # a resume would run these
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
        stale = explainer.stale_reason(first)
        queued = group_reason(history, run.run_id) if run.status == Status.PENDING else None
        explanation.because.extend(_of_child_runs(history, run, first))
    if first.settled and run.status != Status.SUCCESS and first.status in _REPEATED:
        explanation.because.append("it stays as it is: only chosen tasks run again, until the run has ended")
    if run.request is not None and _was_left_out(first, run.request):
        verb = "succeeded" if first.status == Status.SUCCESS else "ended"
        explanation.because.append(f"the {run.request.action} did not run it again: it had {verb} before")
    if stale is not None:
        explanation.because.append(f"it is stale: {stale}")
    if tolerated is not None:
        explanation.because.append(f"the run is SUCCESS all the same: {tolerated}")
    if run.fire is not None:
        explanation.because.append(f"the run was started by trigger {fire_text(run.fire)}")
    if run.request is not None:
        explanation.because.append(f"the last request for the run was {request_text(run.request)}")
    run_reason = queued or run.reason
    if run.status != Status.SUCCESS and run_reason:
        explanation.because.append(f"the run is {run.status}: {run_reason}")
    return explanation


def _was_left_out(instance: InstanceRecord, request: RunRequest) -> bool:
    """Return whether the last request for a run runs tasks again, and the instance had ended before it."""
    runs_again = request.action in ("retry", "resume")
    return runs_again and instance.ended_at is not None and instance.ended_at < request.at


def _of_child_runs(history: History, run: RunRecord, instance: InstanceRecord) -> Iterator[str]:
    """Yield a sentence for each child run of a task that has not succeeded, and for what waits in it for a person.

    Only the last child run of an instance counts: a rerun or another iteration has replaced those before.
    """
    last_views = {
        view.run.parent_map_index: view
        for view in child_views(history, run.run_id)
        if view.run.parent_task_id == instance.task_id and instance.map_index in (-1, view.run.parent_map_index)
    }
    views = list(last_views.values())
    for view in [view for view in views if view.run.status != Status.SUCCESS][:_MAX_NAMED]:
        reason = f": {view.run.reason}" if view.run.reason else ""
        yield f"its child run of {view.run.dag_id} is {view.run.status}{reason}; `lightflow status {view.run.run_id}`"
    for run_id, name in child_approvals(views)[:_MAX_NAMED]:
        yield f"{name} of child run {run_id} waits for a decision: `lightflow approve {run_id} {name}`"


def _is_cause(effect: InstanceRecord, cause: InstanceRecord) -> bool:
    """Return whether the status of an instance follows from that of another one."""
    if effect.try_number:
        return False
    match effect.status:
        case Status.FAILED:
            return cause.status == Status.FAILED and (cause.task_id == effect.task_id or effect.kind == "group")
        case Status.UPSTREAM_FAILED:
            return cause.status in (Status.FAILED, Status.UPSTREAM_FAILED, Status.CANCELLED)
        case Status.SKIPPED:
            return cause.status == Status.SKIPPED
    return False


def _role_of_hook(hook: InstanceRecord) -> list[str]:
    """Return what the end of a hook changes for its task, or for the run."""
    owner = hook.dependencies[0] if hook.dependencies else None
    if hook.kind == "precondition":
        return [f"it is a precondition of {owner}, which starts only if it is met"]
    if hook.event == "on_start":
        return [
            f"it is a hook of {owner or 'the run'}, {'which starts' if owner else 'whose tasks start'} after its end"
        ]
    return [] if owner is None else [f"it is a hook of {owner}, and changes nothing for it"]


def _on_host(attempt: AttemptRecord) -> str:
    return "" if attempt.host is None else f" on {attempt.host}"


def _lost_output(attempt: AttemptRecord) -> str:
    return "" if attempt.log_lost is None else f"; not all of its output could be stored: {attempt.log_lost}"


class _Explainer:
    """The tasks and instances of one run, with the reasons for their statuses."""

    def __init__(self, history: History, run: RunRecord) -> None:
        self._history = history
        self._run = run
        self._records = records = [*history.instances(run.run_id), *history.groups(run.run_id)]
        self._tasks = RunTasks(history, run, records)
        self._waiting = WaitReasons(history, run, self._tasks)
        self._tallies = tally_by_task(records)

    def add_causes(self, first: InstanceRecord, explanation: Explanation) -> None:
        """Add a sentence for the instance, and for each cause before it."""
        seen: set[str] = set()
        instance: InstanceRecord | None = first
        while instance is not None and instance_name_of(instance) not in seen:
            seen.add(instance_name_of(instance))
            self._add(instance, explanation)
            waits = instance.status in WAITS
            if self._is_hook(instance):
                if instance.map_index < 0:
                    for hook in self._hooks_of_instances(instance.task_id):
                        self._add(hook, explanation)
                explanation.because.extend(_role_of_hook(instance))
                if not waits:
                    return
            instance = self._waiting.reason(instance).cause if waits else self._cause(instance)

    def _cause(self, instance: InstanceRecord) -> InstanceRecord | None:
        """Return the instance whose status led to that of an instance which has ended."""
        return next((cause for cause in self._possible_causes(instance) if _is_cause(instance, cause)), None)

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

    def stale_reason(self, instance: InstanceRecord) -> str | None:
        """Return why the result of an instance is out of date; None if it is not."""
        records = with_times(self._records)
        return find_stale(list(self._tasks.rows.values()), records).get((instance.task_id, instance.map_index))

    def _trace(self, instance: InstanceRecord) -> str | None:
        """Return where the last attempt failed in the user's code."""
        if instance.status not in (Status.FAILED, Status.UP_FOR_RETRY) or not instance.try_number:
            return None
        last = self._last_attempt(instance)
        return last.trace if last is not None else None

    def _last_attempt(self, instance: InstanceRecord) -> AttemptRecord | None:
        return self._history.attempt(self._run.run_id, instance.task_id, instance.map_index)

    def _hooks_of_instances(self, task_id: str) -> list[InstanceRecord]:
        """Return the hooks of this name of the instances of a mapped task; of many the unsuccessful ones first."""
        hooks = [hook for hook in self._tasks.hooks if hook.task_id == task_id and hook.map_index >= 0]
        if len(hooks) > MAX_LISTED:
            hooks = sorted(hooks, key=lambda hook: hook.status == Status.SUCCESS)[:MAX_LISTED]
        return hooks

    def _is_hook(self, instance: InstanceRecord) -> bool:
        return is_hook(instance)

    def _possible_causes(self, instance: InstanceRecord) -> Iterator[InstanceRecord]:
        """Yield the instances of a mapped task, then its upstream tasks with their instances."""
        if instance.map_index < 0:
            yield from self._tasks.instances.get(instance.task_id, ())
        yield from self._tasks.upstream(instance)

    # -- reasons -------------------------------------------------------------------------------------------------

    def _reason(self, instance: InstanceRecord) -> str:
        """Return why an instance has its status, without its name."""
        if instance.map_index < 0:
            if self._is_hook(instance) and (hooks := self._hooks_of_instances(instance.task_id)):
                return instance.reason or tally_text({instance.status: len(hooks)})
            if instance.task_id in self._tallies and instance.status != Status.PENDING:
                return self._mapped_reason(instance)
        last = self._last_attempt(instance)
        match instance.status:
            case Status.PENDING | Status.UP_FOR_RETRY | Status.QUEUED | Status.WAITING:
                return self._waiting.reason(instance).reason
            case Status.RUNNING if last is not None:
                lost = ", or was when its owner died" if self._run.status == Status.INTERRUPTED else ""
                result = "" if self._is_hook(instance) else f"; it {self._rule_result(instance)}"
                return f"attempt {last.attempt} is running{_on_host(last)}{lost}{result}"
            case Status.SUCCESS:
                return self._success_reason(instance, last)
            case Status.SKIPPED if last is not None and last.status == Status.SKIPPED:
                return f"it skipped itself: {instance.reason}" if instance.reason else "it skipped itself"
            case Status.FAILED if last is not None and instance.started_at is not None:
                log = f"; its output is in {last.log_path}" if last.log_path else ""
                reason = instance.reason or "no reason given"
                codes = f" ({', '.join(last.codes)})" if last.codes else ""
                ended = f"attempt {last.attempt}, its last, ended as {last.status}{codes}{_on_host(last)}"
                return f"{ended}: {reason}{log}{_lost_output(last)}"
            case Status.SKIPPED | Status.UPSTREAM_FAILED:
                return instance.reason or self._rule_result(instance)
            case _:
                return instance.reason or "no reason is known"

    @staticmethod
    def _success_reason(instance: InstanceRecord, last: AttemptRecord | None) -> str:
        if last is None or last.ended_at is None or last.status != Status.SUCCESS:  # it was marked, or done before
            return instance.reason or "it succeeded"
        took = duration_text(last.ended_at - last.started_at)
        text = f"attempt {last.attempt} succeeded in {took}{_on_host(last)}{_lost_output(last)}"
        return f"{text} ({instance.reason})" if instance.reason else text

    def _mapped_reason(self, instance: InstanceRecord) -> str:
        """Return why a mapped task has its status: the tally of its instances, and the failed ones."""
        failed = [each.map_index for each in self._tasks.instances[instance.task_id] if each.status == Status.FAILED]
        names = listed([f"{instance.task_id}[{index}]" for index in failed], _MAX_NAMED)
        return tally_text(self._tallies[instance.task_id]) + (f": {names}" if failed else "")

    def _rule_result(self, instance: InstanceRecord) -> str:
        """Return what the trigger rule decides."""
        return explain(*self._tasks.rule(instance))
