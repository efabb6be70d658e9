"""The positions of keys and values in a file.

The raw tree of a file has plain dicts and lists. A table next to it has the positions, which are needed only for
messages. It identifies containers by `id`, so it must not outlive the tree.
"""

from __future__ import annotations

import bisect
import re
from typing import Any, Final, NamedTuple, Protocol

from lightflow.errors import Location, Problem
from liteflow.api import Record

Key = str | int  # of a mapping, or the index in a list


class Mark(Protocol):
    """A position, counted from 0: a mark of PyYAML, or a `Position`."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class Position(NamedTuple):
    """A line and a column, counted from 0."""

    line: int
    column: int


START = Position(0, 0)
_LINE_END = re.compile(r"\r\n|\r|\n")


def position_after(before: str) -> Position:
    """Return the position after the text `before`."""
    line, start = 0, 0
    for end in _LINE_END.finditer(before):
        line, start = line + 1, end.end()
    return Position(line, len(before) - start)


class Positions:
    """The positions of the keys and values of one tree, and how some values are written.

    The keys of the tables are the `id` of a container with a key or index in it.
    """

    __slots__ = ("blocks", "dropped", "marks", "number_problems", "texts")

    def __init__(self) -> None:
        self.marks: dict[int, dict[Any, tuple[Mark, Mark]]] = {}  #: container -> key -> begin of the key, of the value
        self.texts: dict[tuple[int, Key], str] = {}  #: what was written for values that are not text: `08.50` for 8.5
        self.number_problems: dict[tuple[int, Key], Problem] = {}  #: problems of values that are valid only as text
        self.blocks: set[tuple[int, Key]] = set()  #: values that are literal blocks (`|`), which begin a line below
        self.dropped: list[Any] = []  #: containers that are not part of the tree, alive so that no `id` is used twice

    def key(self, container: object, key: Key) -> Mark | None:
        """Return where a key begins."""
        marks = self.marks.get(id(container), {}).get(key)
        return marks[0] if marks else None

    def value(self, container: object, key: Key) -> Mark | None:
        """Return where the value of a key begins."""
        marks = self.marks.get(id(container), {}).get(key)
        return marks[1] if marks else None

    def copy_key(self, source: object, target: object, key: Key) -> None:
        """Give `target[key]`, which a merge copied from `source`, its position there."""
        self.marks[id(target)][key] = self.marks[id(source)][key]
        old, new = (id(source), key), (id(target), key)
        if old in self.texts:
            self.texts[new] = self.texts[old]
        if old in self.number_problems:
            self.number_problems[new] = self.number_problems[old]
        if old in self.blocks:
            self.blocks.add(new)


class Lines:
    """The lines of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def after(self, line: int, column: int, mark: str, number: int) -> tuple[int, int]:
        """Return line and column (from 1) of the `number`-th `mark` (from 0) after a place; else the place itself."""
        offset = self._starts[line - 1] + column - 1
        for count in range(number + 1):
            offset = self._text.find(mark, offset + (len(mark) if count else 0))
            if offset < 0:
                return line, column
        mark_line = bisect.bisect_right(self._starts, offset)
        return mark_line, offset - self._starts[mark_line - 1] + 1


class FileKind(Record):
    """The purpose of a file, for messages."""

    name: str
    content: str


WORKFLOW_FILE: Final = FileKind(name="workflow file", content="keys such as `workflow_name:` and `tasks:`")
PARAMS_FILE: Final = FileKind(
    name="file of parameters", content="names of parameters and their values, such as `rows: 100`"
)

#: The names of the key with the name of a workflow.
NAME_KEYS: Final = ("workflow_name", "name", "dag_id")
#: Levels of lists and mappings in a file.
MAX_DEPTH: Final = 32


class Source(Record):
    """A file that has been read: its raw tree, the positions in it, and the problems so far."""

    file: str  #: the path that the user named, for messages
    text: str
    tree: dict[str, Any]
    positions: Positions
    problems: list[Problem]
    start: Mark = START  #: where the workflow begins
    of_several: bool = False  #: whether the file has further workflows

    @property
    def name(self) -> str:
        """The name of the workflow as it is written; empty where it has none."""
        return next((text for key in NAME_KEYS if isinstance(text := self.tree.get(key), str)), "")


class UnreadableFile(Exception):
    """A file has no tree. The readers raise it, and it becomes a `WorkflowError`."""

    def __init__(self, message: str, mark: Mark | None = None, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark
        self.path = path


def location_at(file: str, mark: Mark | None, path: str) -> Location:
    """Return the place of a mark; None means the whole file."""
    if mark is None:
        return Location(file, 0, 0, path)
    return Location(file, mark.line + 1, mark.column + 1, path)


def problem_at(file: str, mark: Mark | None, path: str, message: str) -> Problem:
    """Return a problem at a mark."""
    return location_at(file, mark, path).problem(message)
