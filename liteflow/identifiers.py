"""Ids of dags, runs, tasks and pools: safe in paths, shells and terminals."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from liteflow.errors import StoreError

#: Ids that users may choose; none of them leads out of a folder as part of a path.
NEW_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
#: Ids that are stored: the id of a hook is that of its task with a suffix.
STORED_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z")
#: A status; the set of them is open.
STATE_PATTERN: Final = re.compile(r"[A-Z][A-Z_]{0,31}\Z")
#: The file name of a log, made from the id of its task and the time of the attempt.
LOG_NAME_PATTERN: Final = re.compile(r"task_[A-Za-z0-9_][A-Za-z0-9_.-]*\.log\Z")

_MOST_COMPARED: Final = 5000  # a comparison is slow

#: The default folder of checkpoint files.
CHECKPOINT_DIR: Final = ".lightflow-checkpoints"
CHECKPOINT_SUFFIX: Final = ".lightflow-checkpoint.json"


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return `; did you mean '…'?` with the most similar of the names, or empty text."""
    import difflib  # here, because only mistakes need it

    near = difflib.get_close_matches(word, list(names)[:_MOST_COMPARED], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def checkpoint_name(dag_id: str, run_id: str) -> str:
    """Return the file name of a run's checkpoint."""
    return f"{dag_id}.{run_id}{CHECKPOINT_SUFFIX}"


def check_run_id(run_id: str) -> str:
    """Return a run id itself, which is to become part of a path.

    Raises:
        StoreError: the id is not valid, and could lead out of its folder.
    """
    if not STORED_ID_PATTERN.match(run_id):
        raise StoreError(f"{run_id!r} cannot be a run id: use letters, digits, '_', '.' and '-'")
    return run_id
