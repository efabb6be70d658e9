"""Values of databases as JSON, and values of a workflow as arguments of a driver."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from lightflow.spec.model import Identifier

_PLAIN = (str, int, float, bool, type(None))


def stored(value: Any, number: Callable[[decimal.Decimal], Any] = str) -> Any:
    """Return a value of a database as JSON can hold it.

    Dates become ISO 8601, bytes base64, a decimal number what `number` makes of it, and an infinite number text.
    """
    if type(value) in _PLAIN:
        return value if type(value) is not float or math.isfinite(value) else str(value)
    if isinstance(value, decimal.Decimal):
        return number(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, list | tuple | set | frozenset):
        return [stored(item, number) for item in value]
    if isinstance(value, Mapping):
        return {str(name): stored(item, number) for name, item in value.items()}
    return str(value)  # a UUID, an address of a network, an interval


def argument(value: Any) -> Any:
    """Return a value of the workflow as an argument that every driver takes. Raises ValueError.

    A mapping becomes JSON.
    """
    if isinstance(value, Mapping):
        return json.dumps(stored(value), ensure_ascii=False)
    if isinstance(value, Identifier):
        return value
    if isinstance(value, list | tuple):
        return [argument(item) for item in value]
    if type(value) in _PLAIN or isinstance(
        value, decimal.Decimal | bytes | datetime.datetime | datetime.date | datetime.time
    ):
        return value
    if isinstance(value, str | int | float):  # of a subclass, such as an enumeration
        return value
    if hasattr(value, "__fspath__"):
        return str(value)
    raise ValueError(f"a value of the type {type(value).__name__} cannot be put into a statement")
