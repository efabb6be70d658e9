"""Looking at a script without running its dags: they note themselves here, and `Dag.run` stops the script."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

_found: ContextVar[list[Any] | None] = ContextVar("liteflow_found", default=None)


class Collected(BaseException):
    """Ends a script that is only being looked at when it comes to running its dag."""


def note(dag: object) -> None:
    """A dag has been made."""
    found = _found.get()
    if found is not None:
        found.append(dag)


def stop() -> None:
    """A dag would run now."""
    if _found.get() is not None:
        raise Collected


def collect(load: Callable[[], object]) -> list[Any]:
    """The dags that a script defines: `load` executes it, and is stopped where it would run one."""
    found: list[Any] = []
    token = _found.set(found)
    try:
        load()
    except Collected:
        pass
    finally:
        _found.reset(token)
    return found
