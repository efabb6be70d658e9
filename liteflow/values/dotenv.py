"""Dotenv files: `NAME=value` lines, parsed strictly, so that an error is reported with its line.

    # a comment
    NAME=value                       up to a ` #`, without leading and trailing blanks
    export NAME=value                the same, for files that shells read too
    NAME='as it "is", $HOME'         anything but ', also over several lines
    NAME="with \\n, \\t, \\", \\\\, \\$"    escapes, also over several lines

`$NAME` is not expanded. `${NAME}` outside single quotes is an error, because other parsers of such files disagree
about it.
"""

from __future__ import annotations

import re
from typing import Final

from liteflow.errors import DotenvError

#: The names that every shell accepts: dash drops variables with other names.
NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
NAME_WORDS: Final = "letters a to z, digits and _, and no digit first"
_LARGEST: Final = 1024 * 1024
_START: Final = r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*"
_SINGLE: Final = r"'([^']*)'"
_DOUBLE: Final = r'"((?:\\.|[^"\\])*)"'
_REST_OF_LINE: Final = r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)"
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "\n": ""}


def read_dotenv(path: str) -> dict[str, str]:
    """Return the variables of a dotenv file.

    Raises:
        DotenvError: all errors in the file; the message contains no value.
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
    """Return the variables of a text, the last value of a name that comes twice; and the errors, with their lines."""
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
        start = re.compile(_START).match(text, place, stop)
        if start is None:
            problems.append((number, "expected NAME=value"))
            place = stop + 1
            continue
        value, place = _value(text, start.end(), stop)
        if value is None:
            quote = text[start.end()]
            if not _quoted(quote).match(text, start.end()):
                problems.append((number, f"the {quote} is not closed"))
                break  # the rest may be part of the value
            problems.append((number, f"there is text after the closing {quote}"))
        elif "\0" in value:
            problems.append((number, "holds a NUL character, which no program can be given"))
        elif text[start.end() : start.end() + 1] != "'" and re.search(r"(?<!\\)\$\{", text[start.end() : place]):
            problems.append((number, "${…} is not expanded; put the value into single quotes if it is meant literally"))
        elif not re.fullmatch(NAME, start[1]):  # the name is not shown, because it may be a part of a value
            problems.append((number, f"the name is not a valid variable name: use {NAME_WORDS}"))
        else:
            values[start[1]] = value
    return values, problems


def _quoted(quote: str) -> re.Pattern[str]:
    return re.compile(_SINGLE) if quote == "'" else re.compile(_DOUBLE, re.S)


def _value(text: str, place: int, stop: int) -> tuple[str | None, int]:
    """Return the value that starts at `place`, None if its quotes are wrong, and the start of the next line."""
    quote = text[place : place + 1]
    if quote not in ("'", '"'):
        comment = re.search(r"(?:^|[ \t])#", text[place:stop])
        end = stop if comment is None else place + comment.start()
        return text[place:end].strip(), stop + 1
    quoted = _quoted(quote).match(text, place)
    rest = re.compile(_REST_OF_LINE).match(text, quoted.end()) if quoted is not None else None
    if quoted is None or rest is None:
        return None, stop + 1
    inside = quoted[1]
    if quote == '"':
        inside = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), inside, flags=re.S)
    return inside, rest.end()
