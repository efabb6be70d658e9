"""Syntax errors in scripts, as shells report them: `sh -n` reads a script and executes nothing."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from typing import Final, NamedTuple

#: The shells that are called, and their folders: never a program that the workflow has with it.
_SHELLS: Final = ("sh", "dash", "ash", "bash")
_FOLDERS: Final = ("/bin", "/usr/bin", "/usr/local/bin")
#: Scripts without syntax that could be wrong: the scripts of most small workflows need no process.
_PLAIN: Final = re.compile(r"[\w ./:,+@%^=\n-]*")
_RESERVED: Final = re.compile(r"\b(?:if|then|else|elif|fi|for|while|until|do|done|case|esac|function|select|in|time)\b")
_LONGEST_S: Final = 2.0


class SyntaxReport(NamedTuple):
    """A syntax error of a script."""

    line: int  #: from 1; 0 where the shell does not report it
    message: str


def syntax_error_of(script: str, shell: str, seconds: float = _LONGEST_S) -> SyntaxReport | None:
    """Return the syntax error that the shell reports; None where there is none, or the shell cannot be called.

    The shell gets the script as its input, and at most `seconds`.
    """
    if _PLAIN.fullmatch(script) and not _RESERVED.search(script):
        return None
    program = _program(shell)
    if program is None:
        return None
    options = ["-O", "extglob", "-n"] if os.path.basename(program) == "bash" else ["-n"]
    answer = _answer([program, *options], script.encode("utf-8", "surrogateescape"), seconds)
    if answer is None or not answer.strip():
        return None
    first = answer.decode("utf-8", "replace").strip().splitlines()[0]
    match = re.match(r"\S+: (?:line )?(\d+): (.*)", first)
    if match is None:
        return SyntaxReport(0, first)
    return SyntaxReport(int(match[1]), re.sub(r"^[Ss]yntax error:\s*", "", match[2]))


def _program(shell: str) -> str | None:
    folder, name = os.path.split(shell)
    if name not in _SHELLS or (folder and folder not in _FOLDERS):
        return None
    paths = [shell] if folder else [os.path.join(folder, name) for folder in _FOLDERS]
    return next((path for path in paths if os.path.isfile(path)), None)


def _answer(command: list[str], script: bytes, seconds: float) -> bytes | None:
    """Return what the command writes to standard error; None where it cannot start, or takes too long."""
    if not hasattr(os, "memfd_create"):
        return None  # the system has no such call
    read, write = os.pipe2(os.O_CLOEXEC)
    source = -1
    pid = 0
    try:
        source = os.memfd_create("script", os.MFD_CLOEXEC)
        os.write(source, script)
        os.lseek(source, 0, os.SEEK_SET)
        actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
            (os.POSIX_SPAWN_DUP2, source, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, write, 2),
        ]
        # Without the variables that make a shell read another file first.
        pid = os.posix_spawn(command[0], command, {"LC_ALL": "C"}, file_actions=actions, setsigmask=())
        os.close(write)
        write = -1
        return _read_until(read, time.monotonic() + seconds)
    except OSError:
        return None
    finally:
        for handle in (read, write, source):
            if handle >= 0:
                os.close(handle)
        if pid:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _read_until(read: int, until: float) -> bytes | None:
    output = b""
    while (pause := until - time.monotonic()) > 0:
        if not select.select([read], [], [], pause)[0]:
            return None
        data = os.read(read, 65536)
        if not data:
            return output
        if len(output) < 65536:
            output += data
    return None
