"""How people call what runs, and how long it took: one spelling for views, lists and headings."""

from __future__ import annotations

from lightflow.text import printable
from liteflow.api import duration_text, instance_name

_KEY = 60  # characters of a key


def display_name(task_id: str, map_index: int, map_key: str | None = None) -> str:
    """`fetch`, or `fetch[3] gamma` where it is one of several that have keys; harmless to a terminal."""
    name = printable(instance_name(task_id, map_index))
    if map_key is None:
        return name
    key = printable(map_key)
    return f"{name} {key if len(key) <= _KEY else key[: _KEY - 1] + '…'}"


def format_duration(seconds: float | None) -> str:
    """How long something took; below a second in milliseconds, which tell short tasks apart."""
    if seconds is not None and -1 < seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    return duration_text(seconds)
