"""Where in the file each key and value stands.

The tree itself is made of plain dicts and lists; this table, beside it, is asked only when there is
something to report. Containers are told apart by identity, so it must not outlive the tree.
"""

from __future__ import annotations

import bisect
from typing import Any, NamedTuple, Protocol

from lightflow.errors import Location, Problem

Key = str | int  # of a mapping, or the index in a list


class Mark(Protocol):
    """A place, counted from 0: a mark of PyYAML, or a `Place`."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class Place(NamedTuple):
    line: int
    column: int


START = Place(0, 0)


class Positions:
    """`marks[id(container)][key]` is where the key and its value begin.

    `texts` holds what was written for scalars that were read as something else than text (`08.50` for 8.5),
    `doubts` the values that only make sense as text (where text is wanted, the doubt is dropped), and `blocks` the
    keys whose value is a literal block (`|`): its first line is the one after the mark.
    """

    __slots__ = ("blocks", "doubts", "kept", "marks", "texts")

    def __init__(self) -> None:
        self.marks: dict[int, dict[Any, tuple[Mark, Mark]]] = {}
        self.texts: dict[tuple[int, Key], str] = {}
        self.doubts: dict[tuple[int, Key], Problem] = {}
        self.blocks: set[tuple[int, Key]] = set()
        self.kept: list[Any] = []  # dropped containers, alive so that no id is used twice

    def key(self, container: object, key: Key) -> Mark | None:
        found = self.marks.get(id(container), {}).get(key)
        return found[0] if found else None

    def value(self, container: object, key: Key) -> Mark | None:
        found = self.marks.get(id(container), {}).get(key)
        return found[1] if found else None

    def copy_key(self, source: object, target: object, key: Key) -> None:
        """`target[key]` came from `source` by a merge: it stands where it was written."""
        self.marks[id(target)][key] = self.marks[id(source)][key]
        old, new = (id(source), key), (id(target), key)
        if old in self.texts:
            self.texts[new] = self.texts[old]
        if old in self.doubts:
            self.doubts[new] = self.doubts[old]
        if old in self.blocks:
            self.blocks.add(new)


class Lines:
    """The lines of a text, for places in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def after(self, line: int, column: int, mark: str, number: int) -> tuple[int, int]:
        """Return line and column (from 1) of the `number`-th `mark` (from 0) after a place; else the place itself."""
        at = self._starts[line - 1] + column - 1
        for count in range(number + 1):
            at = self._text.find(mark, at + (len(mark) if count else 0))
            if at < 0:
                return line, column
        found = bisect.bisect_right(self._starts, at)
        return found, at - self._starts[found - 1] + 1


class Source(NamedTuple):
    """A file that has been read: its tree, where everything stands, and what was wrong so far."""

    file: str  # as the user named it: for messages
    text: str
    tree: dict[str, Any]
    positions: Positions
    problems: list[Problem]


class Unreadable(Exception):
    """Nothing can be built from the file; raised by the readers and turned into a `WorkflowError`."""

    def __init__(self, message: str, mark: Mark | None = None, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark
        self.path = path


def location_at(file: str, mark: Mark | None, path: str) -> Location:
    """Return the place of a mark; None stands for the whole file."""
    if mark is None:
        return Location(file, 0, 0, path)
    return Location(file, mark.line + 1, mark.column + 1, path)


def problem_at(file: str, mark: Mark | None, path: str, message: str) -> Problem:
    """Return a problem at a mark."""
    return location_at(file, mark, path).problem(message)
