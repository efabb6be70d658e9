"""Starts tasks: takes them from the plan while there are workers, records the intent, and builds their work."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from liteflow.definition.compiled import CompiledDag
from liteflow.planning.plan import Plan
from liteflow.running.config import RunConfig
from liteflow.running.hooks import Hooks
from liteflow.running.inputs import Inputs
from liteflow.running.places import Places
from liteflow.running.recorder import Recorder
from liteflow.running.run_limits import RunLimits
from liteflow.states import TaskStatus
from liteflow.work import Work


class Start(NamedTuple):
    """An attempt that starts once its intent is committed."""

    node: int
    log_path: str | None


class DuePoll(NamedTuple):
    """A poll to start: its wait as a start, the handle, and the limit of its time in seconds."""

    start: Start
    handle: str
    limit_s: float | None


class Starter:
    """Takes tasks from the plan."""

    def __init__(
        self,
        *,
        compiled: CompiledDag,
        config: RunConfig,
        plan: Plan,
        recorder: Recorder,
        limits: RunLimits,
        places: Places,
    ) -> None:
        self._plan = plan
        self._compiled = compiled
        self._config = config
        self._recorder = recorder
        self._limits = limits
        self._places = places
        self._ordered = plan.has_queue_options
        self._candidates: list[Start] = []  # attempts that start if the store grants their slots
        self._stamp = (0, "")  # a second, and how the names of log files write it

    def take(self, monotonic: float, now: float) -> list[Start]:
        """Take the tasks that may start, and record the intent to start them."""
        plan, recorder, places, starts = self._plan, self._recorder, self._places, list[Start]()
        for queued, log_path in places.promoted():
            recorder.start(queued, "QUEUED", log_path, now)
        plan.requeue_retries(monotonic)  # even if there is no free worker: else the loop would not wait for one
        for _ in range(places.room()):
            node = plan.take(monotonic)
            if node is None:
                break
            start = Start(node, self._log_path(node, now))
            prefetch = places.prefetch(node)
            has_slot = prefetch.take_slot()
            if self._ordered and (needs := plan.ready.options(node).needs):
                recorder.request_slots(node, needs, plan.stored_status(node), start.log_path, now)
                self._candidates.append(start)
                continue
            status: TaskStatus = "RUNNING"
            if not has_slot:
                status, prefetch.queued[node] = "QUEUED", start.log_path
            recorder.start(node, plan.stored_status(node), start.log_path, now, status)
            starts.append(start)
        return starts

    def granted_starts(self, now: float) -> list[Start]:
        """Return the attempts that got their slots with the last commit; put the others back."""
        if not self._candidates:
            return []
        candidates, self._candidates, starts = self._candidates, [], list[Start]()
        for start, granted in zip(candidates, self._recorder.granted(), strict=True):
            if granted:
                self._plan.ready.admitted(start.node)
                self._recorder.show_start(start.node, self._plan.stored_status(start.node), start.log_path, now)
                starts.append(start)
            else:
                self._plan.put_back(start.node)
        self._limits.slots_answered(granted=bool(starts), refused=len(starts) < len(candidates))
        return starts

    def request_room(self) -> None:
        """Report to the executor how many tasks wait for each cluster, before it gets those that start.

        Those need slots as attempts; reported as waiting, too, they would have twice as many for a while.
        """
        self._places.request()

    def work(self, start: Start, inputs: Inputs, hooks: Hooks, poll: DuePoll | None = None) -> Work:
        """Build the work of an attempt, or of a poll of its wait, with what is stored of its upstream tasks."""
        node, table = start.node, self._plan.table
        if node in table.hooks:
            return hooks.work(node, start.log_path, inputs, self._config.grace_s)
        task, index = table.owner(node), table.map_indexes[node]
        settings = self._compiled.tasks[task].settings
        grace_s = self._config.grace_s if settings.grace_s is None else settings.grace_s
        return Work(
            node=node,
            task_id=table.task_ids[node],
            map_index=index,
            attempt=table.attempts[node],
            round=self._recorder.round_of(table.task_ids[node], index),
            inputs=inputs.of(node),
            items=inputs.items(task, index) if index >= 0 else None,
            timeout_s=settings.timeout_s if poll is None else poll.limit_s,
            grace_s=grace_s if poll is None else 0.0,
            log_path=start.log_path,
            handle=None if poll is None else poll.handle,
            place=self._places.place(node),
        )

    def _log_path(self, node: int, now: float) -> str | None:
        if self._config.log_dir is None:
            return None
        if int(now) != self._stamp[0]:  # formatted once a second: it takes longer than the rest of a start
            self._stamp = int(now), time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
        task_id, index = self._plan.table.task_ids[node], self._plan.table.map_indexes[node]
        instance = task_id if index < 0 else f"{task_id}.{index}"
        name = f"task_{instance}_{self._stamp[1]}_{int(now % 1 * 1e6):06d}.log"
        return os.path.join(self._config.log_dir, name)
