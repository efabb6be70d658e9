"""Observers: objects that are called when a run starts, when its tasks change their state, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from liteflow.processes.forks import ending_forks
from liteflow.record import Record
from liteflow.states import RunStatus, TaskStatus
from liteflow.work import Outcome


class RunStart(Record):
    """A run that starts, that is resumed, or that is retried as a whole."""

    run_id: str
    dag_id: str
    db_path: str  #: absolute
    log_dir: str | None  #: absolute; None: the output of tasks goes where the output of the host program goes
    mode: str
    max_workers: int  #: how many tasks run at once in this mode; if it is a cluster, these are its slots
    task_ids: Sequence[str]  #: all tasks, in the order of the graph
    mapped_tasks: frozenset[str]  #: the tasks that have an instance for each item of a list
    has_hooks: bool  #: whether the run or one of its tasks has hooks
    finished: Mapping[str, TaskStatus]  #: tasks that ended in the previous part of the run, with their status


class Change(Record):
    """A committed change of the state of a task instance."""

    task_id: str
    map_index: int  #: -1: the task itself
    attempt: int
    previous: TaskStatus
    status: TaskStatus
    reason: str | None = None
    at: float  #: epoch seconds
    log_path: str | None = None
    outcome: Outcome | None = None  #: if an attempt ended
    instances: tuple[int, int] | None = None  #: of a mapped task that starts: how many, and how many have not ended
    hook: str = ""  #: of a hook the event that triggers it, or "precondition"; empty: it is a task
    map_key: str | None = None  #: the label of an instance of a mapped task
    gate: Literal["", "group", "entry"] = ""  #: a node without an attempt: a group, or its entry; empty: it is a task


class ListChange(Record, kw_only=False):
    """The change of the list of a mapped task since the previous part of the run, in names of items.

    Items in both lists keep their results. With `kept` the task had succeeded: it keeps its state, and new items do not
    run.
    """

    new: tuple[str, ...]
    gone: tuple[str, ...]
    kept: bool = False

    def __str__(self) -> str:
        counts = [f"{len(self.new):,} new item{'' if len(self.new) == 1 else 's'}"] if self.new else []
        return ", ".join([*counts, *([f"{len(self.gone):,} gone"] if self.gone else [])])


class Observer:
    """Base class of observers: override the methods of interest. They are called in the thread of the loop.

    An observer that raises is no longer called; it never fails a run. `settings` are stored with those of a new run.
    """

    settings: Mapping[str, Any] = MappingProxyType({})

    def run_began(self, run: RunStart) -> None:
        """Handle the start of the run, which is stored; a run that is retried as a whole starts again."""

    def changed(self, changes: Sequence[Change]) -> None:
        """Handle changes of the states of task instances."""

    def list_changed(self, task_id: str, change: ListChange) -> None:
        """Handle the list of a mapped task that has changed since the previous part of the run."""

    def waiting(self, reason: str) -> None:
        """Handle a run that starts nothing for now: it is queued in its group, or in back-off before a retry.

        A run that is resumed may also wait, before it begins, for what its dead owner had started on clusters.
        """

    def undo_failed(self, task_id: str, map_index: int, problem: str) -> None:
        """Handle an undo that has failed: what an attempt started outside the process tree may still run."""

    def stopping(self, reason: str) -> None:
        """Handle a run that is stopped: no further tasks start, and running tasks are ended."""

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        """Handle the end of the run, whose status is stored."""


class Observers:
    """The observers of a run. Changes are collected until `publish`, which is called after the commit."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self.any = bool(observers)
        self.changes: list[Change] = []
        self.failed_undos: list[tuple[str, int, str]] = []  # task, index, problem

    def publish(self) -> None:
        """Show the collected changes."""
        if self.changes:
            changes, self.changes = self.changes, []
            self.notify("changed", changes)
        while self.failed_undos:
            self.notify("undo_failed", *self.failed_undos.pop(0))

    def notify(self, method_name: str, *arguments: object) -> None:
        """Call a method of each observer that has it; do not call an observer again that raises."""
        for observer in list(self._observers):
            try:
                if (method := getattr(observer, method_name, None)) is not None:
                    with ending_forks():
                        method(*arguments)
            except Exception as error:  # an observer is code of others and must not end the run
                import logging  # 18 ms that a run without a fault need not pay

                log = logging.getLogger(__name__)
                log.warning("%s failed and is no longer called: %s", type(observer).__name__, error)
                log.debug("the traceback", exc_info=True)
                self._observers.remove(observer)
