"""Parked runs: the scheduler has each resumed when a wait of it is due, or when a person has decided."""

from __future__ import annotations

import os
import secrets
from typing import Final

from lightflow.scheduler.starter import FORESTALLED, ProcessEnd, RerunOrder
from lightflow.scheduler.workflow_files import WatchedWorkflow
from lightflow.service.python_files import file_of
from liteflow import RunNotFound
from liteflow.api import RUN_ENDED, History, ParkedRun

_AGAIN_S: Final = 60.0  # until a run whose process has ended without parking it is tried once more
_EXIT_CODES_OF_RUNS: Final = (0, 1)


class ParkedRuns:
    """The parked runs of a state file. For one thread."""

    def __init__(self, db: str) -> None:
        self._db = os.path.abspath(db)
        self._version = -1
        self._runs: list[ParkedRun] = []
        self._not_before: dict[str, float] = {}  # by run id
        self._orders: dict[str, str] = {}  # run ids by the key of the order

    def due(self, version: int, now: float) -> list[ParkedRun]:
        """Return the runs that can continue and that no process runs; `version` changes with the state file."""
        if version != self._version:
            with History(self._db) as history:
                self._runs = history.parked_runs()
            self._version = version
        due = [run for run in self._runs if run.is_due(now) and self._not_before.get(run.run_id, 0.0) <= now]
        if not due:
            return []
        with History(self._db) as history:
            return [run for run in due if status_of(history, run.run_id) in RUN_ENDED]

    def order(self, run: ParkedRun, now: float) -> RerunOrder:
        """Return the order to resume a run, which is not ordered again at once."""
        key = secrets.token_hex(8)
        self._orders[key] = run.run_id
        self._not_before[run.run_id] = now + _AGAIN_S
        folder = folder_of(run)
        return RerunOrder(key=key, run_id=run.run_id, db=self._db, folder=folder, parks=True, requested_by="scheduler")

    def end(self, end: ProcessEnd) -> str | None:
        """Take the end of a process. Return the run and why it was not resumed; None: it was, or it is another's."""
        run_id = self._orders.pop(end.key, None)
        if run_id is None or end.code in (*_EXIT_CODES_OF_RUNS, FORESTALLED):
            self._not_before.pop(run_id or "", None)
            return None
        return f"run {run_id} was not resumed: {end.failure}"


def status_of(history: History, run_id: str) -> str | None:
    """Return the status of a run; None: it was deleted meanwhile."""
    try:
        return history.run(run_id).status
    except RunNotFound:
        return None


def folder_of(run: ParkedRun) -> str:
    """Return the folder in which a run is resumed: the one where it was started, if it exists."""
    return run.cwd if run.cwd is not None and os.path.isdir(run.cwd) else os.getcwd()


def why_due(run: ParkedRun) -> str:
    """Return why a run is due."""
    return "a person has decided" if run.has_answer else "a wait is due"


def is_source(workflow: WatchedWorkflow, source: str | None, cwd: str | None) -> bool:
    """Return whether a run came from the file of a workflow."""
    path = "" if source is None else os.path.join(cwd or "", file_of(source))
    return os.path.realpath(path) == os.path.realpath(workflow.path)
