"""Read one regular file of text, whatever the path turns out to be."""

from __future__ import annotations

import codecs
import os
import re
import stat
from typing import Final, NamedTuple

from lightflow.parser.positions import Place, Unreadable


class FileKind(NamedTuple):
    """What a file is read as, for messages: what it is called, and what it holds."""

    name: str
    holds: str


WORKFLOW: Final = FileKind("workflow file", "keys such as `workflow_name:` and `tasks:`")
PARAMS_FILE: Final = FileKind("file of parameters", "names of parameters and their values, such as `rows: 100`")

MAX_BYTES = 16 * 1024 * 1024

_LINE_END = re.compile(r"\r\n|\r|\n")
# Everything that YAML does not count as printable, plus the characters that YAML 1.1 takes for line ends.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def read_text(path: str, kind: FileKind) -> str:
    """The text of a regular file in UTF-8, without its byte order mark.

    Raises:
        Unreadable: not there, not a regular file, too large, or not UTF-8; with the place where that shows.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unreadable(f"no such file{_similar(path)}") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise Unreadable(f"is a folder, not a {kind.name}")
        if not stat.S_ISREG(mode):
            raise Unreadable("is not a regular file")
        with open(descriptor, "rb", closefd=False) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise Unreadable(f"is larger than {MAX_BYTES // 1024 // 1024} MiB")
    return decode(data)


def decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("is UTF-16; save it as UTF-8", Place(0, 0))
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        # `start` counts from after the byte order mark, if there is one.
        before = error.object[: error.start].decode("utf-8", "replace")
        raise Unreadable(
            f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8", place_of(before)
        ) from None
    return text


def check_characters(text: str) -> None:
    """Refuse what is invisible, or a line end to some readers only: lines would be counted differently.

    Raises:
        Unreadable: with the place of the first such character.
    """
    found = _FORBIDDEN.search(text)
    if found:
        raise Unreadable(
            f"character U+{ord(found[0]):04X} is not allowed; remove it, or write it as an escape in double quotes",
            place_of(text[: found.start()]),
        )


def place_of(before: str) -> Place:
    """The place reached after the text `before`."""
    line, start = 0, 0
    for end in _LINE_END.finditer(before):
        line, start = line + 1, end.end()
    return Place(line, len(before) - start)


def _similar(path: str) -> str:
    import difflib

    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")[:10_000]
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f', did you mean "{os.path.join(folder, near[0])}"?' if near else ""
