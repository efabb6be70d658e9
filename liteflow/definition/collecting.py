"""Looking at the dags of a script without running them, and where a dag comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

#: While a script is only looked at, dags note themselves here and `Dag.run` stops the script (see `collect`).
collector: Final[ContextVar[list[Any] | None]] = ContextVar("liteflow_collector", default=None)


class Collected(BaseException):
    """Ends a script that is only being looked at when it comes to running its dag."""


def collect(load: Callable[[], object]) -> list[Any]:
    """The dags that a script defines: `load` executes it, and is stopped where it would run one."""
    found: list[Any] = []
    token = collector.set(found)
    try:
        load()
    except Collected:
        pass
    finally:
        collector.reset(token)
    return found


def this_script() -> str | None:
    """The file of the program that is running."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) else None
