"""Discover the dags of a script without running them, and find the script that defines a dag."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

#: The dags that a script has defined so far, while `discover_dags` executes it; None at all other times.
discovered_dags: Final[ContextVar[list[Any] | None]] = ContextVar("liteflow_discovered_dags", default=None)


class ScriptStopped(BaseException):
    """Stops a script that `discover_dags` executes, where it would run a dag."""


def discover_dags(load: Callable[[], object]) -> list[Any]:
    """Return the dags that a script defines. `load` executes the script, which is stopped where it would run a dag."""
    dags: list[Any] = []
    token = discovered_dags.set(dags)
    try:
        load()
    except ScriptStopped:
        pass
    finally:
        discovered_dags.reset(token)
    return dags


def this_script() -> str | None:
    """Return the absolute path of the program that is running; None for an interactive session."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) else None
