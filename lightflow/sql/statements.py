"""Divide a text into statements, find its parameters, and put values in their places.

A NUL character is the place of an expression `${{ }}`: it cannot be in SQL otherwise. Values never become text: each
is a parameter of the driver. Only `Identifier` becomes text, as a quoted name.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.spec.model import Identifier
from lightflow.sql.dialects import SQLITE, Dialect, tokens

#: The place of an expression in a text.
VALUE: Final = "\0"
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
#: The first words of statements that only read, unless a word of `_WRITING` follows.
_READING: Final = frozenset(["SELECT", "VALUES", "TABLE", "WITH", "FROM", "("])
_WRITING: Final = frozenset(["INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "INTO", "CALL", "LOCK"])
#: Statements that end the transaction of the task, or begin another.
_TRANSACTION: Final = re.compile(r"(BEGIN|START|COMMIT|END|ABORT|ROLLBACK)\b(?!( WORK| TRANSACTION)? TO\b)")
_ROUTINE: Final = re.compile(
    r"CREATE (OR (REPLACE|ALTER) )?(DEFINER \S+ )?(AGGREGATE )?(PROCEDURE|FUNCTION|TRIGGER|EVENT)\b"
)


class SqlTextError(ValueError):
    """A text cannot be divided into statements. `start` is the position of the mistake in the text."""

    def __init__(self, message: str, start: int) -> None:
        super().__init__(message)
        self.start = start


class Placeholder(NamedTuple):
    """The place of a value in a statement."""

    source: str | int  #: the name of a parameter, or the number of an expression in the text, from 0
    in_list: bool  #: whether it is between the parentheses of an IN


class Statement(NamedTuple):
    """One statement: literal text and the places of values in turn."""

    parts: tuple[str | Placeholder, ...]
    start: int  #: of its first word in the text
    words: tuple[str, ...]  #: the first words, in capitals
    reads: bool  #: whether it certainly is a query that changes nothing
    has_body: bool  #: whether it has the word BEGIN after its first word

    @property
    def shown(self) -> str:
        """The beginning of the statement, for people."""
        text = "".join(part if isinstance(part, str) else _name(part) for part in self.parts[:20])
        return textwrap.shorten(text, 60, placeholder="…")

    @property
    def ends_transaction(self) -> bool:
        """Whether it begins or ends a transaction."""
        return _TRANSACTION.match(" ".join(self.words)) is not None

    @property
    def is_routine(self) -> bool:
        """Whether it creates a routine, whose body has statements of its own."""
        return _ROUTINE.match(" ".join(self.words)) is not None


class _Builder:
    """Collects the tokens of one statement."""

    def __init__(self) -> None:
        self.parts: list[str | Placeholder] = []
        self.start = -1
        self.words: list[str] = []
        self._lists: list[bool] = []  # for each open parenthesis: whether it is that of an IN
        self._after_in = False
        self._writes = False
        self._has_body = False

    def add(self, kind: str, text: str, start: int, source: str | int) -> None:
        if kind in ("parameter", "value"):
            self.parts.append(Placeholder(source, any(self._lists[-1:])))
        elif self.parts and isinstance(self.parts[-1], str):
            self.parts[-1] += text
        else:
            self.parts.append(text)
        if kind in ("space", "line_comment", "block_comment"):
            return
        if self.start < 0:
            self.start = start
        if kind == "opening":
            self._lists.append(self._after_in)
        elif kind == "closing" and self._lists:
            self._lists.pop()
        word = text.upper() if kind == "word" else text
        self._after_in = word == "IN"
        self._writes = self._writes or word in _WRITING
        self._has_body = self._has_body or (word == "BEGIN" and bool(self.words))
        if len(self.words) < 8:
            self.words.append(word)

    def statement(self) -> Statement:
        reads = self.words[0] in _READING and not self._writes
        return Statement(tuple(self.parts), self.start, tuple(self.words), reads, self._has_body)


def statements(text: str, dialect: Dialect, *, split: bool = True) -> list[Statement]:
    """Return the statements of a text; with `split` false the text is one statement.

    Raises:
        SqlTextError: a quote or a comment is not closed, or an expression is in quotes or in a comment.
    """
    return list(_statements(text, dialect, split))


def _statements(text: str, dialect: Dialect, split: bool) -> Iterator[Statement]:
    builder, first, count = _Builder(), 0, 0
    for kind, start, end in _scan(text, dialect):
        token = text[start:end]
        source: str | int = token[1:]
        if kind == "value":
            source, count = count, count + 1
        if kind == "end" and split and _is_complete(text[first:end], dialect):
            if builder.start >= 0:
                yield builder.statement()
            builder, first = _Builder(), end
        else:
            builder.add(kind, token, start, source)
    if builder.start >= 0:
        yield builder.statement()


def _is_complete(text: str, dialect: Dialect) -> bool:
    """Return whether a semicolon ends the statement; in a trigger of SQLite it may end an inner statement."""
    if dialect is not SQLITE or "trigger" not in text.lower():
        return True
    import sqlite3

    return sqlite3.complete_statement(text.replace(VALUE, "?"))


def _scan(text: str, dialect: Dialect) -> Iterator[tuple[str, int, int]]:
    """Yield the tokens of a text: their kind, start and end. Raises SqlTextError."""
    pattern, place = tokens(dialect), 0
    while place < len(text):
        match = pattern.match(text, place)
        assert match is not None
        assert match.lastgroup is not None
        kind, start, end = match.lastgroup, place, match.end()
        if kind == "tag":
            kind = "quoted"
        if kind == "unclosed":
            raise SqlTextError(f"the quote {match[0]} is not closed", start)
        if kind == "block_comment":
            end = _end_of_comment(text, start, dialect)
        if kind in ("quoted", "line_comment", "block_comment") and VALUE in text[start:end]:
            where = "quotes, where it would be text" if kind == "quoted" else "a comment"
            raise SqlTextError(
                f"an expression is a value of its own and cannot be in {where}", text.index(VALUE, start)
            )
        yield kind, start, end
        place = end


def _end_of_comment(text: str, start: int, dialect: Dialect) -> int:
    depth, place = 1, start + 2
    while depth:
        edge = _COMMENT_EDGE.search(text, place)
        if edge is None:
            if dialect.open_comments:
                return len(text)
            raise SqlTextError("the comment /* is not closed", start)
        place = edge.end()
        if edge[0] == "*/":
            depth -= 1
        elif dialect.nested_comments:
            depth += 1
        else:
            place = edge.start() + 1  # `/*/`: the asterisk may end the comment
    return place


def parameter_names(text_statements: Sequence[Statement]) -> list[str]:
    """Return the names of the parameters, in order of their first use."""
    sources = [part.source for each in text_statements for part in each.parts if isinstance(part, Placeholder)]
    return list(dict.fromkeys(source for source in sources if isinstance(source, str)))


def parameter_problem(texts: Sequence[Statement], params: Mapping[str, Any]) -> str:
    """Return what is wrong with the names of the parameters; empty where nothing is."""
    names = parameter_names(texts)
    missing = [name for name in names if name not in params]
    if missing:
        return f"the parameter :{missing[0]} has no value; add it to `params`"
    unused = [name for name in params if name not in names]
    return f"the text has no parameter :{unused[0]}" if unused else ""


def bind(
    statement: Statement, params: Mapping[str, Any], values: Sequence[Any], dialect: Dialect
) -> tuple[str, dict[str, Any]]:
    """Return the text of a statement for the driver, and the arguments by their names in it.

    `params` are the values of the parameters, `values` those of the expressions.

    Raises:
        ValueError: a value cannot be at its place, such as a list outside IN (…).
    """
    texts: list[str] = []
    arguments: dict[str, Any] = {}
    names: dict[str | int, list[str]] = {}
    for part in statement.parts:
        if isinstance(part, str):
            texts.append(part.replace("%", "%%") if dialect.percent else part)
            continue
        value = params[part.source] if isinstance(part.source, str) else values[part.source]
        if isinstance(value, Identifier):
            texts.append(_identifier(value, dialect))
            continue
        items = _items(part, value, dialect)
        key = part.source
        if key not in names or len(names[key]) != len(items):
            names[key] = [f"v{len(arguments) + number}" for number in range(len(items))]
            arguments.update(zip(names[key], items, strict=True))
        texts.append(", ".join(dialect.parameter.format(name) for name in names[key]))
    return "".join(texts), arguments


def _identifier(value: Identifier, dialect: Dialect) -> str:
    if not value.name or "\0" in value.name or "" in value.name.split("."):
        raise ValueError(f"{value.name!r} is not a name of a table or a column")
    text = dialect.identifier(value.name)
    return text.replace("%", "%%") if dialect.percent else text


def _items(place: Placeholder, value: Any, dialect: Dialect) -> list[Any]:
    """Return the arguments for a place: the value, or the items of a list in IN (…)."""
    name = _name(place)
    if not isinstance(value, list | tuple):
        return [value]
    if place.in_list:
        if not value:
            raise ValueError(
                f"{name} is an empty list, and IN () is not SQL: skip the task with `if`, or test it first"
            )
        return list(value)
    if dialect.arrays:
        return [list(value)]
    raise ValueError(f"{name} is a list; {dialect.name} takes a list only in IN (…); as text, write `| json`")


def _name(place: Placeholder) -> str:
    return f":{place.source}" if isinstance(place.source, str) else "${{ … }}"
