"""An invocation of AWS Lambda as the body of a task."""

from __future__ import annotations

from typing import Any

from lightflow.tasks.bodies import call_of
from liteflow import Call


def aws_lambda(function: Any, payload: Any = None, **keys: Any) -> Call:
    """Return the body of a task that invokes a function: `aws_lambda("score:prod", {"rows": count})`.

    The keywords are the keys of `type: lambda`: invoke, region, credentials, endpoint, proxy, log_tail,
    idempotent, connection.

    Raises:
        DefinitionError: an invalid key.
    """
    return call_of("lambda", {"function": function, "payload": payload, **keys})
