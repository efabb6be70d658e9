"""Resumes parked runs that are due, where no server does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from lightflow.scheduler.parked_runs import ParkedRuns, folder_of, why_due
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


def wake(db: str, *, dry_run: bool = False) -> Iterator[DueRun]:
    """Resume the parked runs that are due, one after another; each parks again when only long waits are left.

    Each is resumed by a process of its own, in the folder where it was started. A run that another process has taken
    over meanwhile is left out. With `dry_run` nothing is resumed.

    Raises:
        StoreError: there is no such state file, or it cannot be read.
    """
    for run in ParkedRuns(db).due(version=0, now=time.time()):
        problem = None if dry_run else _resume(run, db)
        with History(db) as history:
            status = history.run(run.run_id).status
        if problem is not None or dry_run or status != "RUNNING":
            yield DueRun(run_id=run.run_id, workflow=run.dag_id, due=why_due(run), status=status, problem=problem)


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
