"""Hooks: work that is done because something happened to a task or to the run.

A hook that is triggered is a task instance of its own, with the id `TASK.on_failure` (the run's own: `on_failure`), its
attempts, log and row. The row is written in the transaction of the change that triggers it, and holds what the hook is
told; so a hook has the promises of a task. One that is never triggered has no row. In the plan it is an extra.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, cast

from liteflow.definition.compiled import CompiledDag
from liteflow.hooks import RUN_OWNER, HookDef, HookEvent
from liteflow.planning.plan import Plan
from liteflow.planning.task_table import Transition
from liteflow.running.inputs import Inputs
from liteflow.state.records import PreviousHook
from liteflow.state.write_batch import WriteBatch
from liteflow.states import TASK_ENDED, TaskStatus
from liteflow.work import Outcome, Work

_AFTER: Final[Mapping[str, str]] = {"SUCCESS": "on_success", "FAILED": "on_failure", "CANCELLED": "on_cancel"}
#: What comes after something: it is done in a stopped run too, and by whoever resumes an interrupted one.
_LATER: Final = frozenset(["on_success", "on_failure", "on_retry", "on_cancel", "on_exit"])
_LONGEST_ERROR: Final = 4096  # characters; it goes into an environment variable


class Hooks:
    """The hooks of one run: who has been triggered, and what each is told.

    What happened to a task triggers `on_success`, `on_failure` or `on_cancel`; when that has ended, or there is none,
    `on_exit` follows. So does the run's own, when all tasks have ended.
    """

    def __init__(self, program: CompiledDag, plan: Plan, batch: WriteBatch) -> None:
        self._program = program
        self._plan = plan
        self._batch = batch
        self._busy = False  # has this owner of the run run any task?
        self._spec: dict[int, HookDef] = {}  # by extra
        self._nodes: dict[tuple[str, int], int] = {}
        self._told: dict[int, deque[HookEvent]] = {}  # the first is what the extra is at, or was at last
        self._closed = False

    # -- beginning -----------------------------------------------------------------------------------------

    def open(self, kept: Sequence[PreviousHook], now: float) -> None:
        """Go on with what an earlier owner of the run has left, and begin with the run's `on_start`."""
        known = {spec.task_id: spec for spec in self._program.hooks()}
        for task_id, map_index, status, attempts, told in kept:
            spec = known.get(task_id)
            waiting = _restored(told)
            if spec is not None:
                abandoned = status == "PENDING" and not (waiting and spec.owner != RUN_OWNER and spec.event in _LATER)
                node = self._add(spec, map_index, attempts, "CANCELLED" if abandoned else status)
                self._told[node].extend(waiting)
                if status == "PENDING" and waiting and spec.owner != RUN_OWNER and spec.event in _LATER:
                    self._plan.trigger(node)  # it had been triggered, and has yet to end
                    continue
            if status == "PENDING":  # what is asked when a task is to start, or the run to end, is asked again then
                reason = "it is done again when its time has come" if spec is not None else "it is not defined any more"
                self._batch.change_status(task_id, map_index, attempts, "PENDING", "CANCELLED", reason, now)
        first = self._program.run_hooks.get("on_start")
        if first is not None and not self.has_run(first, -1):
            self.tell(first, HookEvent("on_start", "", -1, "RUNNING", 0, "", ""), now, hold=True)

    # -- while the run goes on -----------------------------------------------------------------------------

    def follow(self, moves: Sequence[Transition], now: float, outcome: Outcome | None = None) -> None:
        """Tasks have changed their states: trigger what is to follow."""
        for node, _, status, attempt, reason, _ in moves:
            own = self._hooks_of(self._plan.table.owner(node))
            self._busy = self._busy or (bool(attempt) and node not in self._spec)
            if not own or node in self._plan.table.mapped:  # of a mapped task each instance has its own
                continue
            ended = outcome if outcome is not None and outcome.node == node else None
            if status == "UP_FOR_RETRY":
                event = "on_retry" if ended is not None and ended.verdict != "LOST" else ""
            elif status == "CANCELLED" and (self._plan.halted or not attempt):
                event = ""  # it has not ended for good, or had not begun
            else:
                event = _AFTER.get(status, "")
            if event:
                error = (reason or "")[:_LONGEST_ERROR] if status != "SUCCESS" else ""
                log_path = "" if ended is None else ended.log_path or ""
                index = self._plan.table.map_indexes[node]
                self._trigger(
                    own, HookEvent(event, self._plan.table.task_ids[node], index, status, attempt, error, log_path), now
                )

    def close(self, verdict: str, reason: str | None, now: float) -> bool:
        """All tasks have ended: trigger the run's hooks, once. Returns whether there was one.

        A run that was resumed and found nothing to do does not repeat what it has done already.
        """
        own = self._program.run_hooks
        if self._closed or not own:
            return False
        self._closed = True
        failed = self._plan.failures() if verdict == "FAILED" else []
        if failed and reason is None:
            reason = f"failed: {', '.join(failed[:5])}" + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        told = HookEvent(_AFTER.get(verdict, ""), "", -1, verdict, 0, (reason or "")[:_LONGEST_ERROR], "")
        if not self._busy:
            if self._has_told(own.get("on_exit"), verdict):
                return False
            if self._has_told(own.get(told.event), verdict):
                told = told._replace(event="")
        return self._trigger(own, told, now)

    def _trigger(self, own: Mapping[str, HookDef], told: HookEvent, now: float) -> bool:
        """Tell the hook of the event, if there is one, else `on_exit`, which follows an end of any kind."""
        spec = own.get(told.event)
        if spec is None and told.event != "on_retry" and (spec := own.get("on_exit")) is not None:
            told = told._replace(event="on_exit")
        if spec is not None:
            self.tell(spec, told, now)
        return spec is not None

    def tell(self, spec: HookDef, told: HookEvent, now: float, *, hold: bool = False) -> int:
        """Trigger a hook: it is stored at once, and runs when it can. Returns its number."""
        key = (spec.task_id, told.map_index)
        node = self._nodes[key] if key in self._nodes else self._add(spec, told.map_index, 0, "")
        idle = self._plan.table.status[node] in TASK_ENDED
        if idle:
            self._told[node].clear()
        self._told[node].append(told)
        self._store(node, now)
        if idle:
            self._start(node, now, hold=hold)
        return node

    def ended(self, node: int, now: float) -> None:
        """A hook has ended: what it was told next follows, or `on_exit`."""
        if self._plan.table.status[node] not in TASK_ENDED:
            return
        spec, waiting = self._spec[node], self._told[node]
        done = waiting[0]
        if len(waiting) > 1:
            waiting.popleft()
            self._store(node, now)
            self._start(node, now)
        own = self._hooks_of(spec.owner)
        if spec.event in _AFTER.values() and "on_exit" in own:
            self.tell(own["on_exit"], done._replace(event="on_exit"), now)

    def work(self, node: int, log_path: str | None, inputs: Inputs, grace_s: float) -> Work:
        """An attempt of a hook."""
        spec, plan = self._spec[node], self._plan
        index = plan.table.map_indexes[node]
        items = inputs.items(spec.owner, index) if index >= 0 else {}
        return Work(
            node,
            spec.task_id,
            index,
            plan.table.attempts[node],
            {**inputs.named(spec.reads), **items} or None,
            spec.timeout_s,
            grace_s if spec.grace_s is None else spec.grace_s,
            log_path,
            self._told[node][0].variables(),
        )

    # -- what is known of them -----------------------------------------------------------------------------

    def event(self, node: int) -> str:
        """What triggers the hook with this number."""
        return self._spec[node].event

    def has_run(self, spec: HookDef, map_index: int) -> bool:
        """Has the hook ended before, in this run?"""
        node = self._nodes.get((spec.task_id, map_index))
        return node is not None and self._plan.table.status[node] in ("SUCCESS", "FAILED")

    def _hooks_of(self, owner: int) -> Mapping[str, HookDef]:
        """Return the hooks of a task or of the run by event; a hook has none."""
        if owner == RUN_OWNER:
            return self._program.run_hooks
        return self._program.tasks[owner].settings.hooks if owner < len(self._program.tasks) else {}

    def _has_told(self, spec: HookDef | None, verdict: str) -> bool:
        if spec is None or not self.has_run(spec, -1):
            return False
        told = self._told[self._nodes[spec.task_id, -1]]
        return bool(told) and told[0].status == verdict

    def _add(self, spec: HookDef, map_index: int, attempts: int, status: str) -> int:
        node = self._plan.add_hook(
            spec.task_id,
            map_index,
            status=cast(TaskStatus, status) if status in TASK_ENDED else "SUCCESS",
            attempts=attempts,
            retries=spec.retry,
            runs_after_stop=spec.event in _LATER or spec.owner in self._program.control.teardowns,
        )
        self._spec[node], self._told[node] = spec, deque()
        self._nodes[spec.task_id, map_index] = node
        return node

    def _store(self, node: int, now: float) -> None:
        """Write what the hook is told; its row is made by it."""
        spec, plan = self._spec[node], self._plan
        owner = plan.table.task_ids[spec.owner] if spec.owner != RUN_OWNER else ""
        told = json.dumps([list(one) for one in self._told[node]], separators=(",", ":"))
        self._batch.told(spec.task_id, plan.table.map_indexes[node], owner, told, now)

    def _start(self, node: int, now: float, *, hold: bool = False) -> None:
        plan = self._plan
        if plan.table.attempts[node]:  # its row says how it ended the last time
            index = plan.table.map_indexes[node]
            self._batch.again(self._spec[node].task_id, index, plan.table.attempts[node], plan.table.status[node], now)
        plan.trigger(node, blocking=hold)


def _restored(text: str) -> list[HookEvent]:
    """What a stored row says; the file may have been altered."""
    try:
        return [HookEvent(*one) for one in json.loads(text) if [*map(type, one)] == [str, str, int, str, int, str, str]]
    except (ValueError, TypeError, RecursionError):
        return []
