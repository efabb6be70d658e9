"""Processes that tests started."""

from __future__ import annotations

from liteflow.processes import tree


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    row = tree.process(pid)
    return row is not None and row.state not in "ZX"
