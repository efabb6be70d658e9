"""Printing for people: tables, colours, times; and JSON for programs. One place decides what a terminal gets."""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TextIO

from lightflow.cli.border import mute, reader_is_gone, shown
from lightflow.errors import printable
from lightflow.errors import tame as tame  # whoever prints what tasks printed looks for it here
from liteflow.pictures.picture import look_of, tally_text

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_STATE_STYLES: Final = {
    "SUCCESS": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "UPSTREAM_FAILED": "red",
    "RUNNING": "blue",
    "UP_FOR_RETRY": "yellow",
    "CANCELLED": "yellow",
    "INTERRUPTED": "yellow",
    "LOST": "yellow",
    "SKIPPED": "dim",
}
#: States that only runs and attempts have: the pictures do not know them.
_SIGNS: Final = {"INTERRUPTED": "■", "LOST": "■", "TIMED_OUT": "✗"}
_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")


def is_terminal(stream: TextIO) -> bool:
    """May the stream be painted on: a terminal that can do more than a typewriter?"""
    try:
        return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
    except ValueError:
        return False  # closed


def say(text: str = "", stream: TextIO | None = None) -> None:
    """Print lines. Once the reader is gone they go nowhere, and the program goes on with what it does."""
    stream = stream or sys.stdout
    try:
        stream.write(f"{shown(text, stream)}\n")
    except OSError as error:
        if not reader_is_gone(error, stream):
            raise
        mute(stream)


def say_more(number: int, what: str) -> None:
    """Under a list: how many it leaves out, and how to see them."""
    if number:
        say(f"… and {number:,} more {what}{'' if number == 1 else 's'}; --limit says how many are listed")


def can_show(text: str, stream: TextIO) -> bool:
    """Whether the encoding of a stream has all characters of a text."""
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def say_json(value: object) -> None:
    """Print one JSON value. What a terminal might obey, and what the encoding lacks, is an escape of JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not can_show(text, sys.stdout):
        text = json.dumps(value, indent=2)
    if not all(line.isprintable() for line in text.split("\n")):
        text = "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
    say(text)


class Painted(str):
    """Text with colours of our own; what stands in it is harmless."""

    __slots__ = ()


def paint(text: str, style: str, stream: TextIO | None = None) -> Painted:
    """`text`, harmless, in a colour, where the stream shows colours and the user has not said NO_COLOR."""
    text = _cell(text)
    if not style or os.environ.get("NO_COLOR") or not is_terminal(stream or sys.stdout):
        return Painted(text)
    return Painted(f"\x1b[{';'.join(_STYLES[one] for one in style.split())}m{text}\x1b[0m")


def _cell(text: str) -> str:
    """On one line, without anything that a terminal might obey but colours of our own."""
    return text if isinstance(text, Painted) else printable(text)


def sign(status: str, stream: TextIO | None = None) -> Painted:
    """The sign of a state, in its colour."""
    return paint(_SIGNS.get(status) or look_of(status).sign, _STATE_STYLES.get(status, ""), stream)


def state(status: str, stream: TextIO | None = None) -> Painted:
    """Sign and word of a state, in its colour."""
    look = look_of(status)
    text = f"{_SIGNS.get(status) or look.sign} {look.word or printable(status).lower()}"
    return paint(text, _STATE_STYLES.get(status, ""), stream)


def counted(counts: Mapping[str, int], instances: Mapping[str, int] | None = None) -> str:
    """`3 succeeded, 1 failed`: how many tasks are in each state; then the instances of mapped ones."""
    words = ", ".join(f"{number:,} {_word(status)}" for status, number in counts.items() if number) or "no tasks"
    return f"{words} ({tally_text(instances)})" if instances else words


def _word(status: str) -> str:
    return "succeeded" if status == "SUCCESS" else look_of(status).word or printable(status).lower()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: str = "", stream: TextIO | None = None) -> str:
    """Columns under headings, as wide as they must be; the last column is cut where the terminal ends.

    `right` names the columns (by heading) whose text stands at the right.
    """
    lines = [[_cell(cell) for cell in row] for row in rows]
    widths = [max([width(head), *(width(row[number]) for row in lines)]) for number, head in enumerate(heads)]
    numbers = {number for number, head in enumerate(heads) if head in right.split()}
    screen = columns_of(stream or sys.stdout)

    def join(cells: Sequence[str], style: str = "") -> str:
        last = len(cells) - 1
        padded = []
        for number, cell in enumerate(cells):
            space = " " * (widths[number] - width(cell))
            text = cell if number == last and number not in numbers else cell + space
            padded.append(paint(Painted(space + cell if number in numbers else text), style, stream))
        line = "  ".join(padded).rstrip()
        return line if screen is None else cut(line, screen)

    return "\n".join([join(heads, "dim"), *(join(row) for row in lines)])


def columns_of(stream: TextIO) -> int | None:
    """How many columns a terminal has; None: it is none."""
    return _columns_of_screen() if is_terminal(stream) else None


def _columns_of_screen() -> int:
    import shutil  # with its compression formats 5 ms, which what goes to a file or a pipe need not wait for

    return shutil.get_terminal_size().columns


def width(text: str) -> int:
    """Columns that text takes on a terminal."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    return sum(_columns(char) for char in _ANSI.sub("", text))


def _columns(char: str) -> int:
    import unicodedata

    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """`text` in at most so many columns; colours do not count and are ended."""
    if width(text) <= columns:
        return text
    kept, used, place = [], 0, 0
    while place < len(text):
        code = _ANSI.match(text, place)
        if code:
            kept.append(code.group())
            place = code.end()
            continue
        used += _columns(text[place])
        if used > columns - 1:
            break
        kept.append(text[place])
        place += 1
    return "".join(kept) + "…" + ("\x1b[0m" if "\x1b" in text else "")


def iso(at: float | None) -> str | None:
    """A time for programs: ISO 8601, UTC, to the millisecond."""
    if at is None:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    except (OverflowError, ValueError, OSError, TypeError):
        return None  # an altered file: no time is better than no answer
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: float | None) -> str:
    """A time for people: local, to the second."""
    try:
        return "" if at is None else datetime.datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError, TypeError):
        return "?"


def near_path(path: str) -> str:
    """A path as short as it can be said from here."""
    try:
        near = os.path.relpath(path)
    except (OSError, ValueError):
        return printable(path)  # the current folder is gone
    return printable(path if near.startswith("..") or len(near) > len(path) else near)


def rounded(seconds: float | None) -> float | None:
    """A duration for programs: seconds, to the microsecond."""
    return None if seconds is None else round(seconds, 6)


def as_lines(pairs: Iterable[tuple[str, str | None]], stream: TextIO | None = None) -> str:
    """`name  value` lines with the values under each other."""
    known = [(name, _cell(value if isinstance(value, str) else str(value))) for name, value in pairs if value]
    longest = max((len(name) for name, _ in known), default=0)
    return "\n".join(f"  {paint(name.ljust(longest), 'dim', stream)}  {value}" for name, value in known)
