"""Looking at a script: it is executed up to where it would run a dag."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

#: While a script is only looked at, dags note themselves here and `Dag.run` stops the script.
looking: ContextVar[list[Any] | None] = ContextVar("liteflow_looking", default=None)


class Collected(BaseException):
    """Ends a script that is only being looked at when it comes to running its dag."""


def collect(load: Callable[[], object]) -> list[Any]:
    """The dags that a script defines: `load` executes it, and is stopped where it would run one."""
    found: list[Any] = []
    token = looking.set(found)
    try:
        load()
    except Collected:
        pass
    finally:
        looking.reset(token)
    return found
