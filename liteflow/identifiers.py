"""Ids of dags, runs, tasks and pools: nothing that a path, a shell or a terminal could stumble over."""

from __future__ import annotations

import re
from typing import Final

from liteflow.errors import StoreError

#: What people may choose. It never is a path, nor a part of one that leads out of its folder.
NEW_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
#: What is stored: ids of hooks are those of their tasks with more behind them.
STORED_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z")
#: A state: an open set of words.
STATE_PATTERN: Final = re.compile(r"[A-Z][A-Z_]{0,31}\Z")
#: The file name of a log, made from the id of its task and the time of the attempt.
LOG_NAME_PATTERN: Final = re.compile(r"task_[A-Za-z0-9_][A-Za-z0-9_.-]*\.log\Z")

#: The folder of checkpoint files, unless a workflow says another one.
CHECKPOINT_DIR: Final = ".lightflow-checkpoints"
CHECKPOINT_SUFFIX: Final = ".lightflow-checkpoint.json"


def checkpoint_name(dag_id: str, run_id: str) -> str:
    """The file name of a run's checkpoint."""
    return f"{dag_id}.{run_id}{CHECKPOINT_SUFFIX}"


def checked(run_id: str) -> str:
    """The run id itself, about to become part of a path.

    Raises:
        StoreError: it is no id, and could lead out of its folder.
    """
    if not STORED_ID_PATTERN.match(run_id):
        raise StoreError(f"{run_id!r} cannot be a run id: use letters, digits, '_', '.' and '-'")
    return run_id
