"""Read the text of one regular file; everything else that a path may name is an error."""

from __future__ import annotations

import codecs
import os
import re
import stat
from typing import Final, NamedTuple

from lightflow.parser.positions import Position, UnreadableFile


class FileKind(NamedTuple):
    """The purpose of a file, for messages."""

    name: str
    content: str


WORKFLOW_FILE: Final = FileKind("workflow file", "keys such as `workflow_name:` and `tasks:`")
PARAMS_FILE: Final = FileKind("file of parameters", "names of parameters and their values, such as `rows: 100`")

MAX_BYTES = 16 * 1024 * 1024
#: Levels of lists and mappings in a file.
MAX_DEPTH: Final = 32

_LINE_END = re.compile(r"\r\n|\r|\n")
# Everything that YAML does not count as printable, plus the characters that YAML 1.1 takes for line ends.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def read_text(path: str, kind: FileKind) -> str:
    """Return the text of a regular file in UTF-8, without its byte order mark.

    Raises:
        UnreadableFile: it does not exist, is not a regular file, is too large, or is not UTF-8.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnreadableFile(f"no such file{_similar(path)}") from None
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableFile(f"is a folder, not a {kind.name}")
        if not stat.S_ISREG(mode):
            raise UnreadableFile("is not a regular file")
        with open(descriptor, "rb", closefd=False) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise UnreadableFile(f"is larger than {MAX_BYTES // 1024 // 1024} MiB")
    return decode(data)


def decode(data: bytes) -> str:
    """Return the text of bytes in UTF-8.

    Raises:
        UnreadableFile: they are not UTF-8; with the position.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnreadableFile("is UTF-16; save it as UTF-8", Position(0, 0))
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        # `start` counts from after the byte order mark, if there is one.
        before = error.object[: error.start].decode("utf-8", "replace")
        raise UnreadableFile(
            f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8", position_after(before)
        ) from None
    return text


def check_characters(text: str) -> None:
    """Refuse characters that are invisible, or that only some readers count as line ends.

    Raises:
        UnreadableFile: with the position of the first such character.
    """
    if match := _FORBIDDEN.search(text):
        raise UnreadableFile(
            f"character U+{ord(match[0]):04X} is not allowed; remove it, or write it as an escape in double quotes",
            position_after(text[: match.start()]),
        )


def position_after(before: str) -> Position:
    """Return the position after the text `before`."""
    line, start = 0, 0
    for end in _LINE_END.finditer(before):
        line, start = line + 1, end.end()
    return Position(line, len(before) - start)


def _similar(path: str) -> str:
    import difflib

    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")[:10_000]
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f', did you mean "{os.path.join(folder, near[0])}"?' if near else ""
