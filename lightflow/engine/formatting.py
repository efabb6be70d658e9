"""Names for people, the same in displays, tables and headings."""

from __future__ import annotations

from lightflow.text import printable
from liteflow.api import instance_name

_KEY_CHARACTERS = 60  # longer keys are cut


def display_name(task_id: str, map_index: int, map_key: str | None = None) -> str:
    """Return `fetch`, or `fetch[3] gamma` for an instance with a key, without control characters."""
    name = printable(instance_name(task_id, map_index))
    if map_key is None:
        return name
    key = printable(map_key)
    return f"{name} {key if len(key) <= _KEY_CHARACTERS else key[: _KEY_CHARACTERS - 1] + '…'}"
