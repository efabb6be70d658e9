"""A wait as the body of a task."""

from __future__ import annotations

from typing import Any

from lightflow.tasks.bodies import call_of
from liteflow import Call


def wait(**keys: Any) -> Call:
    """Return the body of a task that waits without a worker: `wait(file="in/*.csv", stable="10s")`.

    The keywords are the keys of `type: wait`: one of file, http, sql, command, until, duration and run, with stable,
    timezone, every and on_timeout. `dag.sensor` waits until a function of yours says so.

    Raises:
        DefinitionError: an invalid key.
    """
    return call_of("wait", keys)
