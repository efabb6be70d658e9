"""Split text into literal text and expressions, without Jinja."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

OPEN: Final = "${{"
_STEP: Final = re.compile(r"""[^'"{}\[\]()]+|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|.""", re.S)
_CLOSES: Final = {"}": "{", "]": "[", ")": "("}


class Part(NamedTuple):
    """An expression in a text."""

    source: str  #: the text between the braces
    start: int  #: of the opening braces in the text
    end: int  #: behind the closing braces


class UnclosedExpression(ValueError):
    """An expression is not closed. `start` is its position in the text."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start


def split(text: str) -> list[str | Part]:
    """Return the literal texts and the expressions of a text, in order. Braces in quotes do not end an expression.

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
        step = _STEP.match(text, place)
        assert step is not None
        char = step[0]
        if char in ("{", "[", "("):
            open_brackets.append(char)
        elif char in _CLOSES and open_brackets:
            open_brackets.pop()
        place = step.end()
    raise UnclosedExpression(start)
