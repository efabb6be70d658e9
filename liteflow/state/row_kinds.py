"""The types and words that each column of the state file may hold, for the checks of what is read.

SQLite ensures the types, except in a damaged file; another program may have written the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from liteflow.identifiers import STATE_PATTERN, STORED_ID_PATTERN


class _Id(str):
    """Marks a column of ids, which become parts of file names and are printed."""

    __slots__ = ()


class _State(str):
    """Marks a column of statuses."""

    __slots__ = ()


class _Positive(int):
    """Marks a column of numbers above 0."""

    __slots__ = ()


Kind = frozenset[type]
TEXT, TEXT_OR_NOT = Kind({str}), Kind({str, type(None)})
ID, ID_OR_NOT = Kind({str, _Id}), Kind({str, type(None), _Id})
STATE, STATE_OR_NOT = Kind({str, _State}), Kind({str, type(None), _State})
RUN_NO = Kind({int, _Positive})
INT, INT_OR_NOT = Kind({int}), Kind({int, type(None)})
REAL, REAL_OR_NOT = Kind({float}), Kind({float, type(None)})

#: The types and words that each column may hold, by query. SQLite ensures the types, except in a damaged file. Words
#: were checked when they were written, but another program may have written this file.
RUN_KINDS = (
    RUN_NO, ID, ID, STATE, REAL, REAL_OR_NOT, REAL_OR_NOT, REAL_OR_NOT, ID_OR_NOT, TEXT, TEXT,
    TEXT_OR_NOT, TEXT_OR_NOT, TEXT, INT_OR_NOT, TEXT_OR_NOT, INT_OR_NOT, INT, TEXT_OR_NOT, INT, ID_OR_NOT,
    TEXT_OR_NOT, TEXT_OR_NOT, ID_OR_NOT, INT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT,
)  # fmt: skip
INSTANCE_KINDS = (
    ID, INT, STATE, TEXT, REAL_OR_NOT, INT, TEXT_OR_NOT, TEXT_OR_NOT, REAL_OR_NOT, REAL_OR_NOT, REAL,
    TEXT_OR_NOT, TEXT_OR_NOT, TEXT, INT, REAL_OR_NOT, INT, TEXT_OR_NOT,
)  # fmt: skip
INSTANCE_STATE_KINDS = (
    ID, INT, TEXT_OR_NOT, STATE, INT, REAL_OR_NOT, REAL_OR_NOT, TEXT_OR_NOT, INT, TEXT, TEXT_OR_NOT,
)  # fmt: skip
ATTEMPT_KINDS = (
    ID, INT, INT, STATE, REAL, REAL_OR_NOT, INT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT,
    TEXT_OR_NOT, TEXT_OR_NOT,
)  # fmt: skip
EVENT_KINDS = (
    INT, ID, ID_OR_NOT, INT_OR_NOT, INT_OR_NOT, STATE_OR_NOT, STATE, TEXT_OR_NOT, REAL,
)  # fmt: skip
VALUE_KINDS = (TEXT, INT, TEXT, TEXT, INT, REAL)
PAYLOAD_KINDS = (TEXT, Kind({str, bytes, int, float, type(None)}), INT, TEXT_OR_NOT, TEXT_OR_NOT)
DAG_KINDS = (ID, TEXT, TEXT_OR_NOT, REAL, REAL)


def holds(column: Sequence[object], kind: Kind) -> bool:
    """Return whether all values of a column are valid. Checked by column: a large run has a million values."""
    types = set(map(type, column))
    if not types <= kind:
        return False
    words = STORED_ID_PATTERN if _Id in kind else STATE_PATTERN if _State in kind else None
    if words is not None:
        return all(map(words.match, {value for value in column if isinstance(value, str)}))
    if _Positive in kind:
        return all(isinstance(value, int) and value > 0 for value in column)
    return float not in types or all(map(isfinite, [value for value in column if isinstance(value, float)]))
