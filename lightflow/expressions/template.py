"""Find the expressions in a text. Needs no Jinja."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

OPEN: Final = "${{"
_STEP: Final = re.compile(r"""[^'"{}\[\]()]+|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|.""", re.S)
_CLOSES: Final = {"}": "{", "]": "[", ")": "("}


class Part(NamedTuple):
    """An expression in a text: what stands between the braces, and where it begins and ends, braces included."""

    source: str
    start: int
    end: int


class UnclosedExpression(ValueError):
    """An expression has no end."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start


def split(text: str) -> list[str | Part]:
    """The text as literal text and expressions in turn; braces in an expression's own quotes do not end it.

    Raises:
        UnclosedExpression: `}}` is missing.
    """
    parts: list[str | Part] = []
    place = 0
    while (start := text.find(OPEN, place)) >= 0:
        end = _end(text, start)
        if start > place:
            parts.append(text[place:start])
        parts.append(Part(text[start + 3 : end - 2].strip(), start, end))
        place = end
    if place < len(text):
        parts.append(text[place:])
    return parts


def _end(text: str, start: int) -> int:
    place, open_brackets = start + 3, list[str]()
    while place < len(text):
        if not open_brackets and text.startswith("}}", place):
            return place + 2
        found = _STEP.match(text, place)
        assert found is not None
        char = found[0]
        if char in ("{", "[", "("):
            open_brackets.append(char)
        elif char in _CLOSES and open_brackets:
            open_brackets.pop()
        place = found.end()
    raise UnclosedExpression(start)
