"""Between the program and the outside: standard streams that always work, errors as one line, exit codes.

Nothing but the cheapest part of the standard library is imported up here: this is on the path of `--version`.
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

#: 0 ok · 1 a task failed · 2 bad input · 3 state file · 4 owned by a live process · 5 resources · 70 our bug
RESOURCES: Final = 5
OUR_BUG: Final = 70
_INPUT: Final = 2
_INTERRUPTED: Final = 130
_EXHAUSTED: Final = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO}
#: What our own signs become where the locale cannot show them.
_ASCII: Final = {**dict(zip("✓✗▶○◔↻»⊘■│━─·", "+x>.o~>/#|=--", strict=True)), "…": "...", "→": "->"}


_COLLECTING: Final = gc.get_threshold()
_OF_START_UP: Final = 50_000  # more objects than any command makes before it begins with its work


def put_off_collecting() -> None:
    """Start-up makes 20,000 objects that all stay: to search them for garbage every 700 takes 4 ms."""
    gc.set_threshold(_OF_START_UP, *_COLLECTING[1:])


def settle() -> None:
    """What is there now, mostly code, is there to the end: leave it out of every collection, also of those at exit.

    13 ms (docs/adr/0016). To be called before code of the user's runs in this process: what that leaves behind is
    collected as in any program.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECTING)


def open_streams() -> None:
    """Make the three standard streams usable whatever they are.

    A descriptor closed by the caller is opened on the null device: else the state file could get its number, and
    whatever is printed would be written into it. What the encoding cannot express is shown as an escape.
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
    codecs.register_error("lightflow", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="lightflow")


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    shown = "".join(_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in bad)
    return shown, error.end


def guard(work: Callable[[], int], *, debug: bool = False) -> int:
    """The exit code of `work`; whatever it raises becomes a line on stderr and the code that stands for it."""
    try:
        code = work()
    except BrokenPipeError:
        code = 0  # the reader has seen enough: `| head`
        mute(sys.stdout)
    except KeyboardInterrupt:
        complain("\ninterrupted")  # on a line of its own, behind the ^C of the terminal
        code = _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the border: nothing may pass it as a traceback
        code = report(error, debug=debug)
    try:
        sys.stdout.flush()
    except OSError as error:
        gone = reader_is_gone(error, sys.stdout)
        mute(sys.stdout)
        if not gone:
            code = code or report(error)
    return code


def reader_is_gone(error: OSError, stream: TextIO) -> bool:
    """Has whoever read the stream left (`| head`, a terminal that was closed), or is it an error of a disk?"""
    if error.errno != errno.EIO:
        return isinstance(error, BrokenPipeError)
    try:
        return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def mute(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, to the null device."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass  # no real stream (a test's): there is nothing to protect


#: The colours and weights that `output.paint` writes; no text of anybody else's keeps them.
PAINT: Final = re.compile(r"(\x1b\[(?:0|[12]|[12];3[1-6]|3[1-6])m)")


def shown(text: str, stream: TextIO) -> str:
    """Lines as they may reach the stream: the one gate for all that is printed for people.

    Names and texts come from state files and tasks. What a terminal might obey is shown as an escape; our own colours
    pass, to a terminal alone.
    """
    from lightflow.errors import harmless

    try:
        painted = "\x1b" in text and stream.isatty()
    except ValueError:
        painted = False  # closed
    if not painted:
        return harmless(text)
    return "".join(part if number % 2 else harmless(part) for number, part in enumerate(PAINT.split(text)))


def complain(text: str) -> None:
    """Write lines to stderr. Where nobody can read them, nothing is left to be done."""
    try:
        sys.stdout.flush()
        sys.stderr.write(f"{shown(text, sys.stderr)}\n")
        sys.stderr.flush()
    except OSError:
        mute(sys.stderr)


def report(error: Exception, *, debug: bool = False) -> int:
    """Say what went wrong, and return the exit code."""
    text, code = _explain(error)
    if code == OUR_BUG:
        text += f"; this is a fault in lightflow, please report it with {_save_traceback(error)}"
        if debug:
            import traceback

            text = "".join(traceback.format_exception(error)) + text
    complain(text)
    return code


def _explain(error: Exception) -> tuple[str, int]:
    from lightflow.errors import WorkflowError, printable

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
        if error.errno == errno.ENOENT and error.filename is None and not _has_folder():
            message = "the current folder does not exist any more; change to one that does"
    elif isinstance(error, OverflowError) and "_PyTime_t" in message:
        code, message = RESOURCES, "the clock of this machine is set beyond the year 2262; set it right"
    elif isinstance(error, MemoryError):
        code, message = RESOURCES, "out of memory"
    if code == OUR_BUG or not isinstance(code, int):
        code, message = OUR_BUG, f"{type(error).__name__}: {message}"
    lines = [printable(line) for line in message.splitlines() if line.strip()] or [type(error).__name__]
    return "error: " + "\n       ".join(lines) + hint, code


def _has_folder() -> bool:
    """Is the current folder still there?"""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _save_traceback(error: Exception) -> str:
    import tempfile
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix="lightflow-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{sys.version}\n{sys.argv!r}\n")
            file.writelines(traceback.format_exception(error))
    except OSError:
        return "what --debug shows"
    return path
