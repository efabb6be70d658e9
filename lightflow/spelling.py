"""Typing errors: find the word that was meant."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from lightflow.text import quoted

#: A unit of time other than seconds at the end of a name.
_OTHER_UNIT: Final = re.compile(
    r"(?:(?<=[a-z0-9])(?=[A-Z])|[_-])(?i:ms|msecs?|millis|milliseconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)$"
)


def fold(word: str) -> str:
    """Return one spelling for `timeoutSec`, `timeout-sec` and `timeout_sec`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).replace("-", "_").replace(" ", "_").lower()


def typo_hint(word: str, names: Collection[str]) -> str:
    """Return `, did you mean "…"?` for a name that differs by a typing error, or nothing."""
    near = nearest(word, names)
    return f", did you mean {quoted(near)}?" if near else ""


def nearest(word: str, names: Collection[str]) -> str:
    """Return the name that differs by a typing error, or nothing.

    Words that only resemble each other, such as `stdout` and `timeout`, differ in meaning. So does `retry_delay_ms`
    from `retry_delay`, which is in seconds.
    """
    folded = fold(word)
    if len(word) > 60 or _OTHER_UNIT.search(word):
        return ""
    best = min(((_distance(folded, fold(name)), name) for name in names), default=(99, ""))
    allowed = 1 if len(folded) < 5 else 2 if len(folded) < 10 else 3
    return best[1] if best[0] <= allowed else ""


def _distance(word: str, other: str) -> int:
    """Return how many letters have to be added, removed, replaced, or exchanged with the next letter."""
    if abs(len(word) - len(other)) > 3:
        return 99
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(word, start=1):
        last, before = before, row
        row = [i]
        for j, b in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and word[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
