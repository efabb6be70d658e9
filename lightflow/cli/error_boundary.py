"""The boundary of the program: standard streams that always work, errors as one line, exit codes.

It imports only the cheapest modules of the standard library, because every command needs it.
"""

from __future__ import annotations

import codecs
import errno
import gc
import os
import re
import stat
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

#: 0 success · 1 a task failed · 2 bad input · 3 state file · 4 owned by a live process · 5 resources · 70 a bug
RESOURCES: Final = 5
OUR_BUG: Final = 70
_INPUT: Final = 2
_INTERRUPTED: Final = 130
_EXHAUSTED: Final = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO}
#: The signs of lightflow in ASCII, for a locale that cannot show them.
_ASCII: Final = {**dict(zip("✓✗▶○◔↻»⊘■│━─·", "+x>.o~>/#|=--", strict=True)), "…": "...", "→": "->"}


_THRESHOLDS: Final = gc.get_threshold()
_START_UP_OBJECTS: Final = 50_000  # more objects than any command makes before it begins its work


def postpone_collection() -> None:
    """Postpone garbage collection: the 20,000 objects of a start all stay, and searching them takes 4 ms."""
    gc.set_threshold(_START_UP_OBJECTS, *_THRESHOLDS[1:])


def freeze_objects() -> None:
    """Exclude all objects allocated so far, mostly code, from garbage collection, also from that at exit.

    It saves 13 ms. Call it before user code runs in this process, so that the objects of that code are collected as in
    any program. Only the first call freezes.
    """
    if gc.get_threshold() != _THRESHOLDS:  # `gc.get_freeze_count` would count the objects for 1 ms
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)


def open_streams() -> None:
    """Make the three standard streams usable.

    A closed descriptor is opened on the null device: otherwise the state file could get its number, and everything that
    is printed would be written into it. Characters that the encoding does not have are shown as escapes.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    codecs.register_error("lightflow", _to_ascii)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="lightflow")


def _to_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    text = "".join(_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in part)
    return text, error.end


def guard(work: Callable[[], int], *, debug: bool = False) -> int:
    """Call `work` and return its exit code. An exception becomes a line on stderr and an exit code."""
    try:
        code = work()
    except BrokenPipeError:
        code = 0  # the reader of a pipe has read enough: `| head`
        mute(sys.stdout)
    except KeyboardInterrupt:
        complain("\ninterrupted")  # on a line of its own, after the ^C of the terminal
        code = _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - no traceback may reach the user
        code = report(error, debug=debug)
    try:
        sys.stdout.flush()
    except OSError as error:
        disk_failed = not reader_is_gone(error, sys.stdout)
        mute(sys.stdout)
        if disk_failed:
            code = code or report(error)
    return code


def reader_is_gone(error: OSError, stream: TextIO) -> bool:
    """Return whether the reader of a stream has closed it (`| head`, a closed terminal); else a disk failed."""
    if error.errno != errno.EIO:
        return isinstance(error, BrokenPipeError)
    try:
        return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def mute(stream: TextIO) -> None:
    """Send the buffered text of a stream, and everything that follows, to the null device."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass  # not a real stream (in a test): nothing to protect


#: The escape sequences that `output.paint` writes. They are removed from every other text.
PAINT: Final = r"(\x1b\[(?:0|[12]|[12];3[1-6]|3[1-6])m)"


def shown(text: str, stream: TextIO) -> str:
    """Return lines in the form in which they may be written to a stream. All text for people passes here.

    Names and texts come from state files and tasks. A character that a terminal might obey becomes an escape; only the
    colours of `output.paint` stay, and only on a terminal.
    """
    from lightflow.text import escape_controls

    try:
        painted = "\x1b" in text and stream.isatty()
    except ValueError:
        painted = False  # closed
    if not painted:
        return escape_controls(text)
    return "".join(part if number % 2 else escape_controls(part) for number, part in enumerate(re.split(PAINT, text)))


def complain(text: str) -> None:
    """Write lines to stderr, if it can be written."""
    try:
        sys.stdout.flush()
        sys.stderr.write(f"{shown(text, sys.stderr)}\n")
        sys.stderr.flush()
    except OSError:
        mute(sys.stderr)


def report(error: Exception, *, debug: bool = False) -> int:
    """Print an error and return its exit code."""
    text, code = _explain(error)
    if code == OUR_BUG:
        text += f"; this is a bug in lightflow, please report it with {_save_traceback(error)}"
        if debug:
            import traceback

            text = "".join(traceback.format_exception(error)) + text
    complain(text)
    return code


def _explain(error: Exception) -> tuple[str, int]:
    """Return the text of an error and its exit code."""
    from lightflow.errors import WorkflowError
    from lightflow.text import printable

    if isinstance(error, WorkflowError):
        return str(error), error.exit_code
    hint = ""
    code: Any = getattr(error, "exit_code", OUR_BUG)
    message = str(error)
    if "click" in sys.modules:
        from click import Abort, ClickException, UsageError

        if isinstance(error, Abort):
            return "interrupted", _INTERRUPTED
        if isinstance(error, ClickException):
            code, message = _INPUT, error.format_message()
            if isinstance(error, UsageError) and error.ctx is not None:
                hint = f"\nTry: {error.ctx.command_path} --help"
    if isinstance(error, OSError):
        code = RESOURCES if error.errno in _EXHAUSTED else _INPUT
        name = f"{error.filename}: " if error.filename is not None else ""
        message = f"{name}{error.strerror or error}"
        if error.errno == errno.ENOENT and error.filename is None and not _current_folder_exists():
            message = "the current folder no longer exists; change to one that does"
    elif isinstance(error, OverflowError) and "_PyTime_t" in message:
        code, message = RESOURCES, "the clock of this machine is set beyond the year 2262; set it right"
    elif isinstance(error, MemoryError):
        code, message = RESOURCES, "out of memory"
    if code == OUR_BUG or not isinstance(code, int):
        code, message = OUR_BUG, f"{type(error).__name__}: {message}"
    lines = [printable(line.expandtabs(2)) for line in message.splitlines() if line.strip()] or [type(error).__name__]
    return "error: " + "\n       ".join(lines) + hint, code


def _current_folder_exists() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _save_traceback(error: Exception) -> str:
    """Write the traceback to a file and return its path, or a hint if it cannot be written."""
    import tempfile
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix="lightflow-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{sys.version}\n{sys.argv!r}\n")
            file.writelines(traceback.format_exception(error))
    except OSError:
        return "the traceback that --debug prints"
    return path
