"""Resumes parked runs that are due, where no server does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from lightflow.scheduler.parked_runs import ParkedRuns, folder_of, status_of, why_due
from lightflow.service.shape_types import DueRunShape, WakeShape
from liteflow.api import History, ParkedRun, Record

_HAS_OWNER: Final = 4  # the exit code of a resume where another process runs the run
_ENDED: Final = (0, 1, 124)  # exit codes of a run that was resumed


class DueRun(Record):
    """A run that was due, and what has become of it."""

    run_id: str
    workflow: str
    due: str  #: why it was due
    status: str  #: the state after it was resumed, or now
    problem: str | None  #: why it was not resumed


def due_runs(db: str) -> list[ParkedRun]:
    """Return the parked runs that are due.

    Raises:
        StoreError: there is no such state file, or it cannot be read.
    """
    return ParkedRuns(db).due(version=0, now=time.time())


def wake(db: str, run: ParkedRun, *, dry_run: bool = False) -> DueRun | None:
    """Resume a parked run, which parks again when only long waits are left. With `dry_run` nothing is resumed.

    It is resumed by a process of its own, in the folder where it was started. Returns None for a run that another
    process has taken over or deleted meanwhile.

    Raises:
        StoreError: the state file cannot be read.
    """
    problem = None if dry_run else _resume(run, db)
    with History(db) as history:
        status = status_of(history, run.run_id)
    if status is None or (status == "RUNNING" and problem is None):
        return None
    return DueRun(run_id=run.run_id, workflow=run.dag_id, due=why_due(run), status=status, problem=problem)


def wake_shape(db: str, runs: Sequence[DueRun], *, dry_run: bool) -> WakeShape:
    """Return runs that were due as JSON."""
    shapes: list[DueRunShape] = [
        {
            "run_id": run.run_id,
            "workflow": run.workflow,
            "due": run.due,
            "status": run.status,
            "problem": run.problem,
        }
        for run in runs
    ]
    return {"db": db, "dry_run": dry_run, "runs": shapes}


def _resume(run: ParkedRun, db: str) -> str | None:
    """Resume a run in a process of its own. Return why it was not resumed."""
    words = ["resume", run.run_id, "--park", "--quiet", "--db", os.path.abspath(db)]
    done = subprocess.run(
        [sys.executable, "-m", "lightflow", *words],
        cwd=folder_of(run),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode in (*_ENDED, _HAS_OWNER):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
