"""The reasons why a task has not started, from the state file.

The order of the reasons is that of the engine: the run as a whole, the trigger rule, setups, start checks, slots of
pools, `max_parallel`, a free worker. Where the file cannot distinguish two reasons, the sentence names both.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any, Final

from lightflow.service.mapped_instances import instance_name_of, is_hook
from lightflow.service.pools import group_reason, queue_reasons
from lightflow.service.run_tasks import RunTasks
from lightflow.text import listed
from liteflow import Status
from liteflow.api import (
    RUN_ENDED,
    TASK_ENDED,
    History,
    InstanceRecord,
    Record,
    RunRecord,
    instance_name,
    open_approvals,
)
from liteflow.limits import taken_resources
from liteflow.planning.trigger_rules import count_upstreams, decide, explain

#: The statuses of tasks and hooks that wait, most of them for their start.
WAITS: Final = (Status.PENDING, Status.UP_FOR_RETRY, Status.QUEUED, Status.WAITING)
_MAX_NAMED: Final = 3  # tasks that a sentence names
_LAST_S: Final = 1e11  # an epoch second, of a file that was altered, may be any number


class WaitReason(Record, kw_only=False):
    """The reason why a task waits, and the task or hook whose reason explains it further."""

    reason: str
    cause: InstanceRecord | None = None


class WaitReasons:
    """The reasons why the tasks of one run wait."""

    def __init__(self, history: History, run: RunRecord, tasks: RunTasks) -> None:
        self._history = history
        self._run = run
        self._tasks = tasks

    def reason(self, instance: InstanceRecord) -> WaitReason:
        """Return what a task, an instance or a hook waits for."""
        held = self._held_by_run(instance)
        if held is not None:
            return WaitReason(held)
        if instance.status == Status.QUEUED:
            return WaitReason(self._queued_text(instance))
        if instance.status == Status.WAITING:
            return WaitReason(self._wait_text(instance))
        slots = self.slots_reason(instance)
        if slots is not None:
            return WaitReason(slots)
        if instance.status == Status.UP_FOR_RETRY:
            since = _clock(instance.updated_at)
            return WaitReason(f"waits for its next attempt, since {since}: {instance.reason or 'no reason is known'}")
        return self._held(instance) or WaitReason(self._last_step(instance))

    def slots_reason(self, instance: InstanceRecord) -> str | None:
        """Return which slots of pools an instance waits for, or None.

        Of the tasks of a run that need the same slots only one at a time requests them; the others wait behind it.
        """
        reasons, key = self._queue_reasons, (instance.task_id, instance.map_index)
        if key in reasons or not reasons:
            return reasons.get(key)
        line = None if self._is_mapped(instance) else self._line(instance)
        if line is None or instance.status != Status.PENDING or self._held(instance) is not None:
            return None
        for first, reason in reasons.items():
            task = self._tasks.tasks.get(first[0])
            if task is not None and self._line(task) == line:
                return f"{reason}, behind {instance_name(*first)}"
        return None

    # -- the run as a whole ----------------------------------------------------------------------------------

    def _held_by_run(self, instance: InstanceRecord) -> str | None:
        """Return why the run as a whole starts nothing, or nothing more of this task."""
        run, rows = self._run, self._tasks.rows
        if not is_hook(instance) and rows and instance.task_id not in rows:
            return "the workflow no longer has it, so the run does not run it"
        if run.status in (Status.SUCCESS, "DELETED"):
            return f"the run is {run.status}"
        if run.status in RUN_ENDED:
            text = f"the run is {run.status}: `lightflow resume {run.run_id}` runs it"
            if instance.status == Status.QUEUED:
                return f"{text}; whether its attempt {instance.try_number} had started is unknown"
            if instance.status == Status.WAITING:
                return f"{text}; {self._wait_text(instance)}"
            retry = instance.status == Status.UP_FOR_RETRY and instance.reason
            return f"{text}; {instance.reason}" if retry else text
        if run.status == Status.PENDING:
            queued = group_reason(self._history, run.run_id)
            return "the run has not started" + (f": it is {queued}" if queued else "")
        if run.in_backoff:
            return "the run failed, and starts nothing before its next try"
        return None

    # -- what a task waits for -------------------------------------------------------------------------------

    def _held(self, instance: InstanceRecord) -> WaitReason | None:
        """Return what keeps an instance of a live run from starting, apart from other tasks that use the workers."""
        wait = self._before_checks(instance)
        if wait is None and not is_hook(instance) and instance.map_index < 0:
            wait = self._start_check(instance)
        if wait is None:
            wait = self._hook_of_run(instance)
        if wait is None and (at_limit := self._at_max_parallel(instance)) is not None:
            wait = WaitReason(at_limit)
        return wait

    def _before_checks(self, instance: InstanceRecord) -> WaitReason | None:
        """Return the wait for upstream tasks and setups, or of an instance for its task."""
        if is_hook(instance):
            return None
        if instance.map_index >= 0:
            task = self._tasks.tasks.get(instance.task_id)
            waits = task is not None and task.status == Status.PENDING
            return WaitReason(f"waits until the list of {instance.task_id} is read again", task) if waits else None
        for entry in self._tasks.upstream(instance):
            if entry.kind == "entry" and entry.status not in TASK_ENDED:
                return WaitReason(f"waits for {entry.task_id!r}, which decides whether its group runs", entry)
        rule, upstream = self._tasks.rule(instance)
        decision = decide(rule, count_upstreams(list(upstream.values())))
        if decision == "wait":
            above = self._tasks.upstream(instance)
            return WaitReason(
                explain(rule, upstream), next((each for each in above if each.status not in TASK_ENDED), None)
            )
        cut_short = self._cut_short_upstream(instance)
        if decision != "run" or cut_short is not None:  # only an interruption leaves a task PENDING then
            text = explain(rule, upstream) if cut_short is None else f"{cut_short!r} was cancelled"
            return WaitReason(f"the run is being interrupted: {text}; `lightflow resume {self._run.run_id}` runs it")
        for setup in self._tasks.needed_setups(instance.task_id):
            if setup.status not in TASK_ENDED:
                return WaitReason(f"waits for {setup.task_id!r}, a setup that it needs", setup)
        return None

    def _cut_short_upstream(self, instance: InstanceRecord) -> str | None:
        """Return an upstream task that was cancelled; a cancel of the run would leave only teardowns PENDING."""
        if self._row(instance).get("teardown") is True:
            return None
        above = (each for each in self._tasks.upstream(instance) if each.map_index < 0)
        return next((each.task_id for each in above if each.status == Status.CANCELLED), None)

    def _start_check(self, instance: InstanceRecord) -> WaitReason | None:
        """Return the wait for a precondition or the hook `on_start` of a task."""
        for hook in self._checks_of(instance.task_id):
            if hook.status not in TASK_ENDED:
                what = "precondition" if hook.kind == "precondition" else "hook"
                return WaitReason(f"waits for its {what} {hook.task_id}", hook)
        return None

    def _hook_of_run(self, instance: InstanceRecord) -> WaitReason | None:
        """Return the wait for the hook `on_start` of the run, before whose end nothing else starts."""
        for hook in self._tasks.hooks:
            blocks = not hook.dependencies and hook.event == "on_start" and hook.status not in TASK_ENDED
            if blocks and (not is_hook(instance) or instance.task_id != hook.task_id):
                return WaitReason(f"waits for the hook {hook.task_id} of the run", hook)
        return None

    def _at_max_parallel(self, instance: InstanceRecord) -> str | None:
        limit = self._row(instance).get("max_parallel")
        if instance.map_index < 0 or not isinstance(limit, int):
            return None
        running = self._running_instances.get(instance.task_id, [])
        if len(running) < limit:
            return None
        return f"waits for max_parallel of its task ({len(running)} of {limit} instances run: {_names(running)})"

    def _last_step(self, instance: InstanceRecord) -> str:
        """Return the wait for a worker, or for what the file does not show."""
        checks = self._unseen_checks(instance)
        if self._is_mapped(instance):
            text = " and ".join([*checks, "its list"])
            return f"waits until the run evaluates {text}{self._if_that_lasts()}"
        place = self._place(instance)
        if place is not None:
            return self._wait_for_slot(place, instance)
        workers, busy = self._run.settings.get("max_workers"), self._busy_here
        if isinstance(workers, int) and len(busy) < workers:
            text = f"it may start at once ({len(busy)} of {workers} workers in use){self._if_that_lasts()}"
        else:
            verb = "is" if len(busy) == 1 else "are"
            total = f"{len(busy)} of {workers} {verb} in use: " if isinstance(workers, int) else "in use: "
            text = f"waits for a free worker ({total}{_names(busy)})"
            if first := self._higher_priorities(instance):
                text += f"; tasks of higher priority start before it: {first}"
        if checks:
            verb = "is" if len(checks) == 1 and checks != ["its preconditions"] else "are"
            text += f", unless {' and '.join(checks)} {verb} still to be evaluated: the state file does not show it"
        return text

    def _queued_text(self, instance: InstanceRecord) -> str:
        """Return the wait of an attempt that its executor has, for a worker or for a slot of a cluster."""
        cluster = self._place(instance)
        if cluster is not None:
            return f"attempt {instance.try_number} was given to {cluster}, and {self._wait_for_slot(cluster, instance)}"
        busy = self._busy_here
        text = f"attempt {instance.try_number} has a place in its executor, and waits for a free worker"
        return f"{text} ({_names(busy)})" if busy else text

    def _wait_for_slot(self, cluster: str, instance: InstanceRecord) -> str:
        """Return the wait for a slot of a cluster, with the slots that its machines have now."""
        resources = self._taken_resources(cluster, instance)
        place = self._known_place(cluster, resources)
        missing_since, problem = place.get("missing_since"), place.get("problem")
        because = f": {problem}" if isinstance(problem, str) and problem else ""
        if isinstance(missing_since, float) and 0 <= missing_since < _LAST_S:
            return f"waits for a machine of {cluster}: none has answered since {_clock(missing_since)}{because}"
        slots, wanted = place.get("slots", self._clusters[cluster].get("slots")), place.get("wanted")
        with_resources = "".join(f", with {count} {name}" for name, count in resources)
        if slots == 0 and because:
            return f"waits for a slot of {cluster}{with_resources}{because}"
        on_cluster = (each for each in self._busy if self._place(each) == cluster)
        busy = [each for each in on_cluster if self._taken_resources(cluster, each) == resources]
        names = f": {_names(busy)}" if busy else ""
        verb = "is" if len(busy) == 1 else "are"
        text = f"waits for a slot of {cluster}{with_resources} ({len(busy)} of {slots} {verb} in use{names})"
        if isinstance(slots, int) and isinstance(wanted, int) and slots < wanted:
            text += f"; no machine has {wanted - slots} more that the run could use{because}"
        elif text_of_others := self._slots_of_others(cluster, slots):
            text += text_of_others
        elif isinstance(slots, int) and len(busy) < slots:
            text += self._if_that_lasts()
        first = self._higher_priorities(instance)
        return f"{text}; tasks of higher priority start before it: {first}" if first else text

    def _slots_of_others(self, cluster: str, slots: object) -> str:
        """Return how many slots of a cluster belong to tasks with other resources, where they have the rest."""
        most = self._clusters[cluster].get("slots")
        places = [place for place in self._run.places if isinstance(place, dict)]
        counts = [place.get("slots") for place in places if place.get("cluster") == cluster]
        total = sum(count for count in counts if isinstance(count, int))
        if not isinstance(slots, int) or not isinstance(most, int) or not slots < most <= total:
            return ""
        other_count = total - slots
        verb = "is" if other_count == 1 else "are"
        return f"; {other_count} of the {most} slots of {cluster} {verb} with tasks that take other resources"

    def _taken_resources(self, cluster: str, instance: InstanceRecord) -> tuple[tuple[str, int], ...]:
        """Return what a task takes of its machine of a cluster."""
        needs, resources = self._row(instance).get("resources"), self._clusters[cluster].get("resources")
        if not isinstance(needs, dict) or not isinstance(resources, dict):
            return ()
        counts = [(pool, count) for pool, count in needs.items() if isinstance(count, int)]
        return taken_resources(counts, {pool: name for pool, name in resources.items() if isinstance(name, str)})

    def _if_that_lasts(self) -> str:
        return f"; if that lasts, process {self._run.owner_pid}, which runs the run, is busy or stopped"

    def _unseen_checks(self, instance: InstanceRecord) -> list[str]:
        """Return the start checks of which the file does not show whether they have passed."""
        if is_hook(instance) or instance.map_index >= 0:
            return []
        row, checks = self._row(instance), self._checks_of(instance.task_id)
        conditions = [f"its condition (if: {row['if']})"] if row.get("if") else []
        preconditions = row.get("preconditions", 0)
        if isinstance(preconditions, int) and sum(hook.kind == "precondition" for hook in checks) < preconditions:
            conditions.append("its preconditions")
        return conditions

    def _higher_priorities(self, instance: InstanceRecord) -> str:
        """Return the tasks of higher priority that wait for a worker, too."""
        priority = self._priority(instance)
        names = [
            f"{instance_name_of(each)} ({self._priority(each)})"
            for each in self._prioritized
            if self._priority(each) > priority and self._held(each) is None and self.slots_reason(each) is None
        ]
        return listed(names, _MAX_NAMED)

    # -- facts -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def _queue_reasons(self) -> dict[tuple[str, int], str]:
        return queue_reasons(self._history, self._run.run_id)

    @functools.cached_property
    def _busy(self) -> list[InstanceRecord]:
        """The tasks, instances and hooks that run; a mapped task itself has no attempts."""
        each = [*self._tasks.tasks.values(), *_flat(self._tasks.instances.values()), *self._tasks.hooks]
        return [record for record in each if record.status == Status.RUNNING and record.try_number]

    @property
    def _busy_here(self) -> list[InstanceRecord]:
        """Those that run on the machine of the run."""
        return [each for each in self._busy if self._place(each) is None]

    @functools.cached_property
    def _running_instances(self) -> dict[str, list[InstanceRecord]]:
        return {
            task_id: [each for each in instances if each.status == Status.RUNNING]
            for task_id, instances in self._tasks.instances.items()
        }

    @functools.cached_property
    def _prioritized(self) -> list[InstanceRecord]:
        """The pending tasks and instances with a priority, the highest first."""
        records = [*self._tasks.tasks.values(), *_flat(self._tasks.instances.values())]
        pending = [each for each in records if each.status == Status.PENDING and self._priority(each) > 0]
        return sorted((each for each in pending if not self._is_mapped(each)), key=self._priority, reverse=True)

    @functools.cached_property
    def _clusters(self) -> dict[str, Any]:
        """The clusters of the run, by name."""
        clusters = self._run.settings.get("clusters")
        each = clusters.items() if isinstance(clusters, dict) else ()
        return {name: cluster for name, cluster in each if isinstance(cluster, dict)}

    def _known_place(self, cluster: str, resources: Sequence[tuple[str, int]]) -> dict[str, Any]:
        """Return what the owner knows of the machines of a cluster whose slots take resources; empty: nothing yet."""
        for place in self._run.places:
            if isinstance(place, dict) and (place.get("cluster"), place.get("resources")) == (cluster, dict(resources)):
                return place
        return {}

    def _place(self, instance: InstanceRecord) -> str | None:
        """Return the cluster on which a task runs; None: the machine of the run."""
        row = self._row(instance)
        if not self._clusters or is_hook(instance) or row.get("here") is True:
            return None
        options = row.get("options")
        mode = (options.get("mode") if isinstance(options, dict) else None) or self._run.settings.get("mode")
        return mode if isinstance(mode, str) and mode in self._clusters else None

    def _row(self, instance: InstanceRecord) -> dict[str, Any]:
        return self._tasks.rows.get(instance.task_id, {}) if not is_hook(instance) else {}

    def _priority(self, instance: InstanceRecord) -> int:
        priority = self._row(instance).get("priority", 0)
        return priority if isinstance(priority, int) else 0

    def _is_mapped(self, instance: InstanceRecord) -> bool:
        return instance.map_index < 0 and self._row(instance).get("mapped") is True

    def _checks_of(self, task_id: str) -> list[InstanceRecord]:
        """Return the preconditions and the hook `on_start` of a task that were triggered."""
        return [
            hook
            for hook in self._tasks.hooks
            if hook.dependencies == [task_id] and (hook.kind == "precondition" or hook.event == "on_start")
        ]

    def _wait_text(self, instance: InstanceRecord) -> str:
        """Return what an instance waits for without a worker, since when, and when that is looked at again."""
        since = "" if instance.started_at is None else f" since {_clock(instance.started_at)}"
        text = f"attempt {instance.try_number} waits{since}: {instance.reason or 'no reason is known'}"
        if instance.wake_at is not None and instance.wake_at > time.time():  # else the look is under way, or due
            text += f"; the next look is at {_clock(instance.wake_at)} or later"
        if instance.timeout is not None and instance.started_at is not None:
            text += f"; it times out at {_clock(instance.started_at + instance.timeout)}"
        name = instance_name_of(instance)
        if any(approval.name == name for approval in open_approvals(self._history, self._run, instance.task_id)):
            import shlex  # few tasks wait for a decision

            return (
                f"{text}; decide with `lightflow approve {self._run.run_id} {shlex.quote(name)}` or `lightflow reject`"
            )
        attempt = (instance.task_id, instance.map_index, instance.try_number)
        for answer in self._history.answers(self._run.run_id):
            if answer.attempt_key == attempt:
                return f"{text}; it was decided {answer.summary}, and the run acts on that when it continues"
        return text

    def _line(self, instance: InstanceRecord) -> tuple[str, tuple[tuple[str, int], ...]] | None:
        """Return a key that is equal for tasks of which one at a time requests its slots; None: it needs none."""
        row = self._row(instance)
        needs = row.get("resources")
        if not isinstance(needs, dict) or not needs:
            return None
        return (instance.task_id if row.get("max_parallel") else "", tuple(sorted(needs.items())))


def _clock(at: float) -> str:
    """Return a moment with the zone of this machine: a page shows it to people in other zones."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def _flat(lists: Any) -> list[InstanceRecord]:
    return [record for records in lists for record in records]


def _names(records: Sequence[InstanceRecord]) -> str:
    return listed([instance_name_of(record) for record in records], _MAX_NAMED)
