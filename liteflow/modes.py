"""Modes: where Python functions run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: How many tasks run at once by default: in worker processes, in threads, and in every mode of a workflow file.
DEFAULT_WORKERS: Final = 4
#: The default of `max_workers` in each mode. A coroutine costs no thread and no process, so there can be many.
DEFAULT_SLOTS: Final[Mapping[str, int]] = {
    "process": DEFAULT_WORKERS,
    "thread": DEFAULT_WORKERS,
    "async": 1000,
    "inline": 1,
}
#: The modes of the engine; `liteflow.executors.open` has a backend for each. A run may be given more.
MODES: Final = tuple(DEFAULT_SLOTS)
