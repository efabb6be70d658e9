"""The triggers of the files that are served, and when each of them is due next."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, Final

from lightflow.instants import ScheduleClock
from lightflow.scheduler.file_watch import FileWatch
from lightflow.scheduler.workflow_files import WatchedWorkflow
from liteflow import FileTrigger, WorkflowTrigger
from liteflow.api import Record, TriggerRecord, replace

NEVER: Final = float("inf")


class ServedTrigger(Record):
    """A trigger of a file that is served."""

    row: TriggerRecord
    workflow: WatchedWorkflow
    trigger: Any
    clock: ScheduleClock | None  #: of a schedule


class Agenda:
    """The moments at which triggers are due, the soonest first. An entry that was replaced is dropped when it comes."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def set(self, trigger_id: str, moment: float) -> None:
        """Record when a trigger is due next; NEVER removes it."""
        if moment == NEVER:
            self._moments.pop(trigger_id, None)
        else:
            self._moments[trigger_id] = moment
            heapq.heappush(self._heap, (moment, trigger_id))

    def soonest(self) -> float:
        """Return the soonest moment, or NEVER."""
        while self._heap and self._moments.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def take(self, now: float) -> list[str]:
        """Remove the triggers that are due, and return them."""
        due = []
        while self.soonest() <= now:
            trigger_id = heapq.heappop(self._heap)[1]
            del self._moments[trigger_id]
            due.append(trigger_id)
        return due


class ServedTriggers:
    """The triggers that are served, by their ids."""

    def __init__(self) -> None:
        self.agenda = Agenda()
        self.watches: dict[str, FileWatch] = {}  # of file triggers that were looked at
        self.of_files: tuple[str, ...] = ()
        self.of_workflows: tuple[str, ...] = ()
        self._triggers: dict[str, ServedTrigger] = {}

    def replace(self, triggers: Mapping[str, ServedTrigger]) -> None:
        """Serve these triggers from now on. One that is new or was changed is due at once."""
        for trigger_id in self._triggers.keys() - triggers.keys():
            self._forget(trigger_id)
        for trigger_id, served in triggers.items():
            if served is not self._triggers.get(trigger_id):
                self._forget(trigger_id)
                if served.clock is not None and served.row.paused_at is None:
                    self.agenda.set(trigger_id, 0.0)
        self._triggers = dict(triggers)
        self.of_files = tuple(name for name, each in triggers.items() if isinstance(each.trigger, FileTrigger))
        self.of_workflows = tuple(name for name, each in triggers.items() if isinstance(each.trigger, WorkflowTrigger))

    def _forget(self, trigger_id: str) -> None:
        self.agenda.set(trigger_id, NEVER)
        self.watches.pop(trigger_id, None)

    def look_again(self) -> None:
        """Let all schedules be due: the clock was set, and what was due next is no longer true."""
        for trigger_id, served in self._triggers.items():
            if served.clock is not None and served.row.paused_at is None:
                self.agenda.set(trigger_id, 0.0)

    def __getitem__(self, trigger_id: str) -> ServedTrigger:
        return self._triggers[trigger_id]

    def get(self, trigger_id: str) -> ServedTrigger | None:
        """Return a trigger, or None."""
        return self._triggers.get(trigger_id)

    def ids(self) -> list[str]:
        """Return the ids of all triggers."""
        return list(self._triggers)

    def remember(self, trigger_id: str, **changes: Any) -> None:
        """Record what was decided about a trigger, before it is stored."""
        served = self._triggers[trigger_id]
        self._triggers[trigger_id] = replace(served, row=replace(served.row, **changes))
