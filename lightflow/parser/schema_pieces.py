"""Pieces that several parts of the schema are made of."""

from __future__ import annotations

from typing import Any, Final

from lightflow.spec.durations import LONGEST_S, PATTERN

Schema = dict[str, Any]

ID_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
ID_WORDS: Final = '1 to 128 letters (a to z), digits, "_", "." and "-", beginning with a letter, a digit or "_"'
FREE: Final = {"^x-": {"description": "Free for you: anchors, notes."}}


def duration(description: str, *, zero: bool, **more: Any) -> Schema:
    return {
        "description": description,
        "type": ["number", "string"],
        "minimum" if zero else "exclusiveMinimum": 0,
        "maximum": LONGEST_S,
        "minLength": 1,
        "pattern": PATTERN,
        "x-expects": 'a time: seconds such as 30, or text such as "30s", "5m", "1h30m" or "1d"',
        **more,
    }


RETRIES: Final[Schema] = {
    "description": "Extra attempts after a failure.",
    "type": "integer",
    "minimum": 0,
    "maximum": 1000,
    "default": 0,
    "examples": [2],
}
DELAY: Final = duration("Time to wait before a retry.", zero=True, default=0, examples=[5, "30s"])
BACKOFF: Final[Schema] = {
    "description": "Every further wait is this many times the one before.",
    "type": "number",
    "minimum": 1,
    "maximum": 100,
    "default": 1,
    "examples": [2],
}
MAX_DELAY: Final = duration("No wait before a retry is longer than this.", zero=True, examples=["10m"])
JITTER: Final[Schema] = {
    "description": "Lengthens each wait by up to this fraction, so that tasks do not come back all at once.",
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "default": 0,
    "examples": [0.2],
}
#: Dagu's names for the keys of a block of retries; its numbers are seconds, as ours are.
MAX_ALIASES: Final[Schema] = {"x-aliases": ["limit"]}
DELAY_ALIASES: Final[Schema] = {"x-aliases": ["interval_sec", "interval"]}
MAX_DELAY_ALIASES: Final[Schema] = {"x-aliases": ["max_interval_sec"]}
