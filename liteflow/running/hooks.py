"""Hooks: work that runs because something happened to a task or to the run.

A triggered hook is a task instance of its own, with the id `TASK.on_failure` (a hook of the run: `on_failure`), its
attempts, log and row. The row is written in the transaction of the change that triggers the hook, and holds the events
that the hook has still to handle; so a hook has the guarantees of a task. A hook that is never triggered has no row.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, cast

from liteflow.definition.compiled import CompiledDag
from liteflow.hooks import RUN_OWNER, HookDef
from liteflow.planning.plan import Plan
from liteflow.planning.task_table import Transition
from liteflow.running.inputs import Inputs
from liteflow.running.ports import Batch
from liteflow.state.records import PreviousHook
from liteflow.states import TASK_ENDED, TaskStatus
from liteflow.work import HookEvent, Outcome, Work

_AFTER: Final[Mapping[str, str]] = {"SUCCESS": "on_success", "FAILED": "on_failure", "CANCELLED": "on_cancel"}
#: Hooks that follow a change: they run in a stopped run, too.
_FOLLOWING: Final = frozenset(["on_success", "on_failure", "on_retry", "on_cancel", "on_exit"])
#: Those of tasks that a resume runs if an interruption has left them. Other hooks are triggered again.
_RESUMED: Final = _FOLLOWING | {"on_wait"}
#: The types of the fields of a stored event, in which no log is an empty text.
_EVENT_TYPES: Final = [str, str, int, str, int, str, str]
_LONGEST_ERROR: Final = 4096  # characters; the error goes into an environment variable


class Hooks:
    """The hooks of one plan: which are triggered, and by which events.

    The end of a task triggers `on_success`, `on_failure` or `on_cancel`; after that, or instead of it, `on_exit`
    follows. The same holds for the hooks of the run, when all tasks have ended.
    """

    def __init__(self, compiled: CompiledDag, plan: Plan, batch: Batch) -> None:
        self.any = compiled.has_hooks()
        self._compiled = compiled
        self._plan = plan
        self._batch = batch
        self._has_run_tasks = False  # whether this process has run any task
        self._specs: dict[int, HookDef] = {}  # by number
        self._nodes: dict[tuple[str, int], int] = {}  # numbers by id and map index
        self._events: dict[int, deque[HookEvent]] = {}  # the first is what the hook handles now, or handled last
        self._run_ended = False

    # -- the beginning and the end of a run ------------------------------------------------------------------

    def open(self, previous: Sequence[PreviousHook], now: float) -> None:
        """Resume the hooks that the previous part of the run has left, and trigger the hook `on_start` of the run."""
        specs = {spec.task_id: spec for spec in self._compiled.hooks()}
        for task_id, map_index, status, attempts, stored in previous:
            spec, events = specs.get(task_id), _restored(stored)
            follows = spec is not None and spec.owner != RUN_OWNER and spec.event in _RESUMED
            resumes = status == "PENDING" and bool(events) and follows
            if spec is not None:
                node = self._add(spec, map_index, attempts, "CANCELLED" if status == "PENDING" else status)
                self._events[node].extend(events)
                if resumes:
                    self._plan.trigger(node)
            if status == "PENDING" and not resumes:  # a check of a task or the end of the run will trigger it again
                reason = "it will be triggered again" if spec is not None else "it is no longer defined"
                self._batch.change_status(task_id, map_index, attempts, "PENDING", "CANCELLED", reason, now)
        first = self._compiled.run_hooks.get("on_start")
        if first is not None and not self.has_run(first, -1):
            self.trigger(first, HookEvent("on_start", "", -1, "RUNNING", 0, "", None), now, blocking=True)

    def end_run(self, status: str, reason: str | None, now: float) -> bool:
        """Trigger the hooks of the run, once, when all tasks have ended. Return whether there is one.

        A run that was resumed with nothing left to do does not repeat them.
        """
        hooks = self._compiled.run_hooks
        if self._run_ended or not hooks:
            return False
        self._run_ended = True
        failed = self._plan.failures() if status == "FAILED" else []
        if failed and reason is None:
            reason = f"failed: {', '.join(failed[:5])}" + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        event = HookEvent(_AFTER.get(status, ""), "", -1, status, 0, (reason or "")[:_LONGEST_ERROR], None)
        if not self._has_run_tasks:
            if self._has_handled(hooks.get("on_exit"), status):
                return False
            if self._has_handled(hooks.get(event.event), status):
                event = event._replace(event="")
        return self._trigger_first(hooks, event, now)

    # -- during the run ------------------------------------------------------------------------------------

    def follow(self, transitions: Sequence[Transition], now: float, outcome: Outcome | None = None) -> None:
        """Trigger the hooks that follow these transitions."""
        plan, table = self._plan, self._plan.table
        for node, _, status, attempt, reason, _ in transitions:
            hooks = self._hooks_of(table.owner(node))
            self._has_run_tasks = self._has_run_tasks or (bool(attempt) and node not in self._specs)
            if not hooks or node in table.mapped:  # of a mapped task each instance has its own
                continue
            ended = outcome if outcome is not None and outcome.node == node else None
            if status == "WAITING":
                event = "on_wait" if ended is not None and ended.waiting is not None else ""
            elif status == "UP_FOR_RETRY":
                event = "on_retry" if ended is not None and ended.verdict != "LOST" else ""
            elif status == "CANCELLED" and (plan.halted or not attempt):
                event = ""  # it has not ended for good, or never started
            else:
                event = _AFTER.get(status, "")
            if event:
                error = (reason or "")[:_LONGEST_ERROR] if status != "SUCCESS" else ""
                log_path = None if ended is None else ended.log_path
                task_id, index = table.task_ids[node], table.map_indexes[node]
                self._trigger_first(hooks, HookEvent(event, task_id, index, status, attempt, error, log_path), now)

    def _trigger_first(self, hooks: Mapping[str, HookDef], event: HookEvent, now: float) -> bool:
        """Trigger the hook of the event if there is one, else `on_exit`, which follows any end."""
        spec = hooks.get(event.event)
        if spec is None and event.event not in ("on_retry", "on_wait") and (spec := hooks.get("on_exit")) is not None:
            event = event._replace(event="on_exit")
        if spec is not None:
            self.trigger(spec, event, now)
        return spec is not None

    def trigger(self, spec: HookDef, event: HookEvent, now: float, *, blocking: bool = False) -> int:
        """Trigger a hook: the event is stored at once, and the hook runs when it can. Return its number."""
        key = (spec.task_id, event.map_index)
        node = self._nodes[key] if key in self._nodes else self._add(spec, event.map_index, 0, "")
        idle = self._plan.table.status[node] in TASK_ENDED
        if idle:
            self._events[node].clear()
        self._events[node].append(event)
        self._store_events(node, now)
        if idle:
            self._start(node, now, blocking=blocking)
        return node

    def ended(self, node: int, now: float) -> None:
        """Start a hook again that has ended and has further events, and the hook `on_exit` that follows it."""
        if self._plan.table.status[node] not in TASK_ENDED:
            return
        spec, events = self._specs[node], self._events[node]
        handled = events[0]
        if len(events) > 1:
            events.popleft()
            self._store_events(node, now)
            self._start(node, now)
        hooks = self._hooks_of(spec.owner)
        if spec.event in _AFTER.values() and "on_exit" in hooks:
            self.trigger(hooks["on_exit"], handled._replace(event="on_exit"), now)

    def work(self, node: int, log_path: str | None, inputs: Inputs, grace_s: float) -> Work:
        """Build the work of an attempt of a hook."""
        spec, table = self._specs[node], self._plan.table
        index = table.map_indexes[node]
        return Work(
            node=node,
            task_id=spec.task_id,
            map_index=index,
            attempt=table.attempts[node],
            inputs=inputs.named(spec.reads) or None,
            items=inputs.items(spec.owner, index) if index >= 0 else None,
            timeout_s=spec.timeout_s,
            grace_s=grace_s if spec.grace_s is None else spec.grace_s,
            log_path=log_path,
            hook=self._events[node][0],
        )

    # -- queries and rows ----------------------------------------------------------------------------------

    def event(self, node: int) -> str:
        """Return the event that triggers the hook with this number."""
        return self._specs[node].event

    def has_run(self, spec: HookDef, map_index: int) -> bool:
        """Return whether the hook has succeeded or failed in this run."""
        node = self._nodes.get((spec.task_id, map_index))
        return node is not None and self._plan.table.status[node] in ("SUCCESS", "FAILED")

    def _hooks_of(self, owner: int) -> Mapping[str, HookDef]:
        """Return the hooks of a task or of the run by event; a hook has none."""
        if owner == RUN_OWNER:
            return self._compiled.run_hooks
        return self._compiled.tasks[owner].settings.hooks if owner < len(self._compiled.tasks) else {}

    def _has_handled(self, spec: HookDef | None, status: str) -> bool:
        """Return whether a hook of the run has run for this status of the run."""
        if spec is None or not self.has_run(spec, -1):
            return False
        events = self._events[self._nodes[spec.task_id, -1]]
        return bool(events) and events[0].status == status

    def _add(self, spec: HookDef, map_index: int, attempts: int, status: str) -> int:
        node = self._plan.add_hook(
            spec.task_id,
            map_index,
            status=cast(TaskStatus, status) if status in TASK_ENDED else "SUCCESS",
            attempts=attempts,
            retries=spec.retry,
            runs_after_stop=spec.event in _FOLLOWING or spec.owner in self._compiled.control.teardowns,
        )
        self._specs[node], self._events[node] = spec, deque()
        self._nodes[spec.task_id, map_index] = node
        return node

    def _store_events(self, node: int, now: float) -> None:
        """Write the events of a hook; the first write makes its row."""
        spec, table = self._specs[node], self._plan.table
        owner = table.task_ids[spec.owner] if spec.owner != RUN_OWNER else ""
        events = json.dumps([[*event[:6], event.log_path or ""] for event in self._events[node]], separators=(",", ":"))
        kind = "precondition" if spec.event == "precondition" else "hook"
        self._batch.trigger_hook(spec.task_id, table.map_indexes[node], owner, events, now, kind)

    def _start(self, node: int, now: float, *, blocking: bool = False) -> None:
        table = self._plan.table
        if table.attempts[node] or table.status[node] == "CANCELLED":  # its row has the state in which it ended last
            index, attempts = table.map_indexes[node], table.attempts[node]
            self._batch.retrigger_hook(self._specs[node].task_id, index, attempts, table.status[node], now)
        self._plan.trigger(node, blocking=blocking)


def _restored(text: str) -> list[HookEvent]:
    """Return the events of a stored row; a row that was altered has none."""
    try:
        rows = json.loads(text)
        return [HookEvent._make([*row[:6], row[6] or None]) for row in rows if [*map(type, row)] == _EVENT_TYPES]
    except (ValueError, TypeError, RecursionError):
        return []
