"""Dotenv files: `NAME=value` lines, read strictly, so that a mistake is told with its line.

    # a comment
    NAME=value                       up to a ` #`, without the blanks around it
    export NAME=value                the same, for files that shells read too
    NAME='as it "stands", $HOME'     anything but ', over several lines if need be
    NAME="with \\n, \\t, \\", \\\\, \\$"    escapes, over several lines if need be

Nothing is put in for `$NAME`: it stays as it is. `${NAME}` outside single quotes is a mistake, because other readers
of such files disagree about it.
"""

from __future__ import annotations

import re
from typing import Final

from liteflow.errors import DotenvError

#: The names that every shell takes over: dash drops variables of other names.
NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
NAME_WORDS: Final = "letters a to z, digits and _, and no digit first"
_LARGEST: Final = 1024 * 1024
_START: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"((?:\\.|[^"\\])*)"', re.S)
_BEHIND: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "\n": ""}


def read_dotenv(path: str) -> dict[str, str]:
    """The variables of a dotenv file.

    Raises:
        DotenvError: everything that is wrong with it; no value is shown.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DotenvError(path, [(0, f"cannot be read: {reason}")]) from None
    if len(raw) > _LARGEST:
        raise DotenvError(path, [(0, "is larger than 1 MiB")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DotenvError(path, [(raw.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")]) from None
    values, problems = parse_dotenv(text)
    if problems:
        raise DotenvError(path, problems)
    return values


def parse_dotenv(text: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """The variables in a text, of one that comes twice the last; and what is wrong, each with its line."""
    text = text.replace("\r\n", "\n")
    values: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    place = 0
    while place < len(text):
        stop = text.find("\n", place)
        stop = len(text) if stop < 0 else stop
        line = text[place:stop].strip()
        number = text.count("\n", 0, place) + 1
        if not line or line.startswith("#"):
            place = stop + 1
            continue
        start = _START.match(text, place, stop)
        if start is None:
            problems.append((number, "expected NAME=value"))
            place = stop + 1
            continue
        value, place = _value(text, start.end(), stop)
        if value is None:
            quote = text[start.end()]
            if not (_SINGLE if quote == "'" else _DOUBLE).match(text, start.end()):
                problems.append((number, f"the {quote} is not closed"))
                break  # whatever comes may be part of the value
            problems.append((number, f"something stands behind the closing {quote}"))
        elif "\0" in value:
            problems.append((number, "holds a NUL character, which no program can be given"))
        elif text[start.end() : start.end() + 1] != "'" and re.search(r"(?<!\\)\$\{", text[start.end() : place]):
            problems.append(
                (number, "nothing is put in for ${…}; put the value into single quotes if it stands for itself")
            )
        elif not re.fullmatch(NAME, start[1]):  # which is not shown: it may be a piece of a value that was broken
            problems.append((number, f"the name is no name of a variable: use {NAME_WORDS}"))
        else:
            values[start[1]] = value
    return values, problems


def _value(text: str, place: int, stop: int) -> tuple[str | None, int]:
    """The value that begins at `place`, and where the next line does; None: its quotes are wrong."""
    quote = text[place : place + 1]
    if quote not in ("'", '"'):
        comment = re.search(r"(?:^|[ \t])#", text[place:stop])
        end = stop if comment is None else place + comment.start()
        return text[place:end].strip(), stop + 1
    found = (_SINGLE if quote == "'" else _DOUBLE).match(text, place)
    behind = _BEHIND.match(text, found.end()) if found is not None else None
    if found is None or behind is None:
        return None, stop + 1
    inside = found[1]
    if quote == '"':
        inside = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), inside, flags=re.S)
    return inside, behind.end()
