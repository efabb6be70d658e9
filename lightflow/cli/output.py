"""Text for people (tables, colours, times) and JSON for programs: the only place that writes to standard output."""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TextIO

from lightflow.cli.error_boundary import mute, reader_is_gone, shown
from lightflow.text import plain_text as plain_text
from lightflow.text import printable
from liteflow.api import status_style, tally_text

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_STATE_STYLES: Final = {
    "SUCCESS": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "UPSTREAM_FAILED": "red",
    "RUNNING": "blue",
    "WAITING": "cyan",
    "UP_FOR_RETRY": "yellow",
    "CANCELLED": "yellow",
    "INTERRUPTED": "yellow",
    "LOST": "yellow",
    "SKIPPED": "dim",
}
#: States of runs and attempts only, which the pictures do not have.
_SIGNS: Final = {"INTERRUPTED": "■", "LOST": "■", "TIMED_OUT": "✗"}
_ANSI: Final = r"\x1b\[[0-9;]*m"


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that obeys control sequences."""
    try:
        return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
    except ValueError:
        return False  # closed


def say(text: str = "", stream: TextIO | None = None, *, at_once: bool = False) -> None:
    """Print lines, with `at_once` also to a file or a pipe before this returns.

    After the reader of a pipe has closed it they are dropped, and the program continues.
    """
    stream = stream or sys.stdout
    try:
        stream.write(f"{shown(text, stream)}\n")
        if at_once:
            stream.flush()
    except OSError as error:
        if not reader_is_gone(error, stream):
            raise
        mute(stream)


def say_more(number: int, what: str) -> None:
    """Print below a list how many entries it leaves out, and how to list them."""
    if number:
        say(f"… and {number:,} more {what}{'' if number == 1 else 's'}; --limit sets how many are listed")


def many(number: int, noun: str) -> str:
    """Return `1 task` or `1,000 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def can_show(text: str, stream: TextIO) -> bool:
    """Return whether the encoding of a stream has all characters of a text."""
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def say_json(value: object) -> None:
    """Print one JSON value. Control characters, and characters that the encoding does not have, are JSON escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not can_show(text, sys.stdout):
        text = json.dumps(value, indent=2)
    if not all(line.isprintable() for line in text.split("\n")):
        text = "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
    say(text)


class Painted(str):
    """Text with colours of `paint`, and without other control characters."""

    __slots__ = ()


def paint(text: str, style: str, stream: TextIO | None = None) -> Painted:
    """Return `text` without control characters, in a colour if the stream is a terminal and NO_COLOR is not set."""
    text = _cell(text)
    if not style or os.environ.get("NO_COLOR") or not is_terminal(stream or sys.stdout):
        return Painted(text)
    return Painted(f"\x1b[{';'.join(_STYLES[name] for name in style.split())}m{text}\x1b[0m")


def _cell(text: str) -> str:
    """Return text on one line, without control characters other than the colours of `paint`."""
    return text if isinstance(text, Painted) else printable(text)


def sign(status: str, stream: TextIO | None = None) -> Painted:
    """Return the sign of a state, in its colour."""
    return paint(_SIGNS.get(status) or status_style(status).sign, _STATE_STYLES.get(status, ""), stream)


def state(status: str, stream: TextIO | None = None) -> Painted:
    """Return the sign and the word of a state, in its colour."""
    look = status_style(status)
    text = f"{_SIGNS.get(status) or look.sign} {look.word or printable(status).lower()}"
    return paint(text, _STATE_STYLES.get(status, ""), stream)


def counted(counts: Mapping[str, int], instances: Mapping[str, int] | None = None) -> str:
    """Return `3 succeeded, 1 failed`: the number of tasks in each state, then of instances of mapped tasks."""
    words = ", ".join(f"{number:,} {_word(status)}" for status, number in counts.items() if number) or "no tasks"
    return f"{words} ({tally_text(instances)})" if instances else words


def _word(status: str) -> str:
    return "succeeded" if status == "SUCCESS" else status_style(status).word or printable(status).lower()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: str = "", stream: TextIO | None = None) -> str:
    """Return columns under headings, as wide as their text. The last column is cut at the edge of the terminal.

    `right` names the right-aligned columns by their headings.
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
    """Return how many columns a terminal has; None for a stream that is not a terminal."""
    return _columns_of_screen() if is_terminal(stream) else None


def _columns_of_screen() -> int:
    import shutil  # here, because it imports compression formats for 5 ms

    return shutil.get_terminal_size().columns


def width(text: str) -> int:
    """Return how many columns text takes on a terminal."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    return sum(_columns(char) for char in re.sub(_ANSI, "", text))


def _columns(char: str) -> int:
    import unicodedata

    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return `text` in at most so many columns, which colours do not take."""
    if width(text) <= columns:
        return text
    escape = re.compile(_ANSI)
    parts, used, place = [], 0, 0
    while place < len(text):
        code = escape.match(text, place)
        if code:
            parts.append(code.group())
            place = code.end()
            continue
        used += _columns(text[place])
        if used > columns - 1:
            break
        parts.append(text[place])
        place += 1
    return "".join(parts) + "…" + ("\x1b[0m" if "\x1b" in text else "")


def moment(at: float | None) -> str:
    """Return a time for people: local, to the second."""
    try:
        return "" if at is None else datetime.datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError, TypeError):
        return "?"


def near_path(path: str) -> str:
    """Return a path, relative to the current folder if that is shorter."""
    try:
        near = os.path.relpath(path)
    except (OSError, ValueError):
        return printable(path)  # the current folder is gone
    return printable(path if near.startswith("..") or len(near) > len(path) else near)


def as_lines(pairs: Iterable[tuple[str, str | None]], stream: TextIO | None = None) -> str:
    """Return `name  value` lines with the values under each other, without those that are empty."""
    lines = [(name, _cell(value)) for name, value in pairs if value]
    longest = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"  {paint(name.ljust(longest), 'dim', stream)}  {value}" for name, value in lines)
