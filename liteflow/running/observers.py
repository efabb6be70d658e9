"""Observers: objects that are called when a run starts, when its tasks change their status, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from liteflow.processes.forks import ending_forks
from liteflow.record import Record
from liteflow.states import RunStatus, TaskStatus
from liteflow.work import Outcome


class RunStart(Record):
    """A run that starts, that is resumed, or that is retried as a whole."""

    run_id: str
    dag_id: str
    db_path: str  #: absolute
    log_dir: str | None  #: absolute; None: the output of tasks goes where the output of the program goes
    mode: str
    max_workers: int
    task_ids: Sequence[str]  #: all tasks, in the order of the graph
    mapped_tasks: frozenset[str]  #: the tasks that have an instance for each item of a list
    has_hooks: bool  #: whether the run or one of its tasks has hooks
    finished: Mapping[str, TaskStatus]  #: tasks that ended in an earlier part of the run, with their status


class Change(NamedTuple):
    """A task instance changed its state, and that is committed. `outcome` is there when an attempt ended."""

    task_id: str
    map_index: int
    attempt: int
    previous: TaskStatus
    status: TaskStatus
    reason: str | None
    at: float  # epoch seconds
    log_path: str | None = None
    outcome: Outcome | None = None
    instances: tuple[int, int] | None = None  # of a mapped task that begins: how many, and how many have not ended
    hook: str = ""  # of a hook the event that triggers it, or "precondition"; empty: it is a task
    map_key: str | None = None  # what people can tell an instance of a mapped task by


class ListChange(NamedTuple):
    """What is new in the list of a mapped task, and what is gone, since an earlier part of the run: names of items.

    What is in both lists keeps what it has done. With `kept` the task had succeeded: it stays as it is, and no new item
    is run.
    """

    new: tuple[str, ...]
    gone: tuple[str, ...]
    kept: bool = False

    def __str__(self) -> str:
        counts = [f"{len(self.new):,} new item{'' if len(self.new) == 1 else 's'}"] if self.new else []
        return ", ".join([*counts, *([f"{len(self.gone):,} gone"] if self.gone else [])])


class Observer:
    """Is told what happens, after it was stored, in the loop's thread: override what is of interest.

    An observer that raises is dropped; it cannot fail a run. `settings` are stored with those of a new run.
    """

    settings: Mapping[str, Any] = MappingProxyType({})

    def run_began(self, run: RunStart) -> None:
        """Handle the start of the run, which is stored; a run that is retried as a whole starts again."""

    def changed(self, changes: Sequence[Change]) -> None:
        """Task instances have changed their states."""

    def list_changed(self, task_id: str, change: ListChange) -> None:
        """The run goes on, and the list of a mapped task is not what it was."""

    def waiting(self, reason: str) -> None:
        """The run starts nothing for now: it waits for its turn in a group, or rests before another try."""

    def stopping(self, reason: str) -> None:
        """Nothing more starts, and what runs is being ended."""

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        """The run's verdict is stored."""


class Observers:
    """All who are told. `changes` are collected until `publish`, since nobody is told before the commit."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self.any = bool(observers)
        self.changes: list[Change] = []

    def publish(self) -> None:
        """Tell of what has changed."""
        if self.changes:
            changes, self.changes = self.changes, []
            self.tell("changed", changes)

    def tell(self, what: str, *arguments: object) -> None:
        """Call a method of each observer that has it; an observer that raises is told nothing more."""
        for observer in list(self._observers):
            try:
                if (method := getattr(observer, what, None)) is not None:
                    with ending_forks():
                        method(*arguments)
            except Exception as error:
                import logging  # 18 ms that a run without a fault need not pay

                log = logging.getLogger(__name__)
                log.warning("%s failed and is told nothing more: %s", type(observer).__name__, error)
                log.debug("this is how it failed", exc_info=True)
                self._observers.remove(observer)
