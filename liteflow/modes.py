"""Modes: where Python functions run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: How many tasks run at once in each mode, unless a run says otherwise.
DEFAULT_SLOTS: Final[Mapping[str, int]] = {"process": 4, "thread": 4, "async": 1000, "inline": 1}
#: The modes of the engine; `liteflow.executors.open` has a backend for each. A run may be given more.
MODES: Final = tuple(DEFAULT_SLOTS)
