"""Reads texts of the state file, which another program may have altered."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Final

from liteflow.identifiers import STORED_ID_PATTERN

_ESCAPED: Final = r"\\u(dc[89a-f][0-9a-f])"  # how `storable` escapes a byte that is not UTF-8


def path_as_named(path: str | None) -> str | None:
    """Return a stored path as the file system has it: bytes that are not UTF-8 are escaped (see `storable`)."""
    if path is None or "\\udc" not in path or os.path.lexists(path):
        return path
    return re.sub(_ESCAPED, lambda match: chr(int(match[1], 16)), path)


def is_id(value: object) -> bool:
    """Return whether a value is an id."""
    return isinstance(value, str) and STORED_ID_PATTERN.match(value) is not None


def is_task(row: object) -> bool:
    """Return whether a value is a task of a snapshot, as the engine writes it."""
    if not isinstance(row, dict) or not is_id(row.get("id")):
        return False
    above = row.get("depends_on", [])
    words = (row.get("kind", ""), row.get("rule", ""))
    return isinstance(above, list) and all(map(is_id, above)) and all(isinstance(word, str) for word in words)


def from_json(text: object, default: Any) -> Any:
    """Return the value of a text in JSON; the default where it is not valid, or of another type."""
    try:
        value = json.loads(text) if isinstance(text, str) else default
    except (ValueError, RecursionError):
        return default  # the file was altered: the rest can be shown
    return value if isinstance(value, type(default)) else default
