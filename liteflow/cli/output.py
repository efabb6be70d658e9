"""Output of the command line: text, JSON and tables on stdout, and files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from liteflow.errors import LiteflowError, ResourceError
from liteflow.pictures.picture import clean


class UsageError(LiteflowError):
    """The command line is not valid."""

    exit_code = 2


def write(text: str) -> None:
    """Print text to stdout. The text is from this program, or already cleaned."""
    print(text, end="")  # not sys.stdout.write: sys.stdout is None if stdout was closed at the start


def write_json(value: Any) -> None:
    """Print JSON in ASCII, so that no control character of a stored name reaches the terminal."""
    write(json.dumps(value, indent=2) + "\n")


def write_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns as wide as their widest cells; the text of the cells is cleaned here."""
    lines = [list(headings), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def save(path: str, text: str) -> None:
    """Write a file completely or not at all.

    Raises:
        UsageError: the folder does not exist, or is not writable.
        ResourceError: the disk is full.
    """
    target = os.path.realpath(path)  # a link stays a link
    try:
        if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            with open(target, "w", encoding="utf-8") as device:  # a pipe or /dev/null cannot be replaced
                device.write(text)
            return
        temporary = os.path.join(os.path.dirname(target), f".liteflow-{os.urandom(6).hex()}.tmp")
        try:
            with open(temporary, "x", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (ResourceError if full else UsageError)(f"cannot write {path}: {error.strerror}") from None


def has_browser() -> bool:
    """Return whether a user would see a browser window open."""
    if os.environ.get("CI") or sys.stdout is None or not sys.stdout.isatty():
        return False
    # Without a display `webbrowser` would start a text browser over the shell that called us.
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
