"""Starting a command: in a session of its own, with the null device as input and a pipe for its output.

`posix_spawn` takes the same time for a large caller, and needs no `subprocess`, whose import takes 18 ms.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Mapping, Sequence

#: Signals that Python or the guardian ignores or handles; a command starts with the defaults of the system.
TO_DEFAULT = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
#: The bytes that the kernel allows for an argument, or a variable with its name, including the NUL at its end: 128 KiB
#: where a page of memory has 4 KiB.
LONGEST_WORD = 32 * os.sysconf("SC_PAGE_SIZE")
_SHELLS = ("sh", "bash", "dash", "ash", "ksh", "mksh", "zsh")
_SCRIPT = 9  # the descriptor of a script that is too long for an argument; the highest that every shell can close
#: Without these options zsh would change `$0` to the name of the file that it reads: before reading, and in the file.
_ZSH_NAME_OPTIONS = ("unsetopt function_argzero; ", "setopt function_argzero; ")
#: Prefixes of the variables that only some tasks have; those that every task has are overridden anyway.
_OF_ONE_TASK = ("LIGHTFLOW_MAP_INDEX", "LIGHTFLOW_HOOK", "LIGHTFLOW_EXPR_")
_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"


class SpawnError(Exception):
    """A command could not be started. `exit_code` is 127 if it was not found, otherwise 126, as in a shell."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def encoded(text: str) -> bytes:
    """Return a text in the encoding that programs get: that of the locale, or UTF-8 for other characters.

    Raises:
        UnicodeEncodeError: the text has a lone surrogate that represents no byte.
    """
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def sayable(text: str) -> str:
    """Return a text, such as an error, with escapes for characters that cannot be passed to a program."""
    try:
        encoded(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def forget_own_task() -> None:
    """Remove the variables that this program has as a task of another run; they are not for the tasks of this run."""
    for name in list(os.environ):
        if name.startswith(_OF_ONE_TASK):
            del os.environ[name]


class Spawner:
    """Starts commands from a single-threaded process, whose current folder changes for the moment of the start."""

    def __init__(self) -> None:
        self._environ = dict(os.environb)
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def spawn(self, argv: Sequence[str], cwd: str | None, environ: Mapping[str, str], output: int | None) -> int:
        """Start a command and return its pid; `output` becomes its stdout and stderr (None: those of this process).

        Raises:
            SpawnError: the command cannot be started; the message is one line.
        """
        if cwd is None:
            return self._spawn(argv, environ, output)
        try:
            os.chdir(encoded(cwd))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SpawnError(f"cannot start in the folder {cwd!r}: {reason}", 126) from None
        try:
            return self._spawn(argv, environ, output)
        finally:
            os.fchdir(self._home)

    def _spawn(self, argv: Sequence[str], environ: Mapping[str, str], output: int | None) -> int:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        ]
        if output is not None:
            actions += [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        program, script = b"", -1
        full: dict[bytes, bytes] = {}
        try:
            full = self._environ | {encoded(k): encoded(v) for k, v in environ.items()}
            program = find_program(encoded(argv[0]), full.get(b"PATH", _DEFAULT_PATH))
            place = _long_script(argv)
            if place:
                before, after = _ZSH_NAME_OPTIONS if os.path.basename(argv[0]) == "zsh" else ("", "")
                script = _in_memory(after + argv[place])
                actions.append((os.POSIX_SPAWN_DUP2, script, _SCRIPT))
                argv = [*argv[:place], f"{before}. /dev/fd/{_SCRIPT}", *(argv[place + 1 :] or argv[:1])]
            return os.posix_spawn(
                program,
                [encoded(word) for word in argv],
                full,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=TO_DEFAULT,
            )
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise SpawnError(f"cannot start {argv[0]!r}: {_what_is_too_long(argv, full)}", 126) from None
            raise _explain(error, argv[0], program) from None
        except (ValueError, IndexError) as error:  # a NUL or an unpaired surrogate in an argument, no argument
            raise SpawnError(f"cannot start {argv[0] if argv else ''!r}: {error}", 126) from None
        finally:
            if script >= 0:
                os.close(script)


def _long_script(argv: Sequence[str]) -> int:
    """Return the index of a shell's script that is longer than the system allows for an argument; 0 otherwise."""
    if len(max(argv, key=len, default="")) * 4 < LONGEST_WORD or os.path.basename(argv[0]) not in _SHELLS:
        return 0
    for place in range(2, len(argv)):
        if argv[place - 1].startswith("-") and argv[place - 1].endswith("c"):
            return place if len(encoded(argv[place])) >= LONGEST_WORD else 0
    return 0


def _in_memory(script: str) -> int:
    """Return a descriptor of a file in memory that contains a script, which closes that descriptor first."""
    fd = os.memfd_create("script")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(f"exec {_SCRIPT}<&-; ".encode() + encoded(script))
    except OSError:
        os.close(fd)
        raise
    return fd


def _what_is_too_long(argv: Sequence[str], environ: Mapping[bytes, bytes]) -> str:
    """Return why the system refuses the arguments of a command as too long."""
    for name, value in environ.items():
        if len(name) + len(value) + 1 >= LONGEST_WORD:
            shown = os.fsdecode(name)
            return (
                f"the environment variable {shown} has {len(value):,} bytes; the system allows {LONGEST_WORD:,} for "
                "its name and value: pass large values in a file"
            )
    for number, word in enumerate(argv):
        size = len(encoded(word))
        if size >= LONGEST_WORD:
            return f"argument {number} has {size:,} bytes; the system allows {LONGEST_WORD - 1:,}: put it into a file"
    return "its arguments and environment are too long for the system"


def find_program(name: bytes, path: bytes) -> bytes:
    """Return the path at which a shell would find the program; raises OSError like an exec that fails."""
    if b"/" in name:
        return name
    refused = False
    for folder in path.split(b":"):
        candidate = os.path.join(folder or b".", name)
        try:
            mode = os.stat(candidate).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode):
            if os.access(candidate, os.X_OK):
                return candidate
            refused = True
    raise OSError(errno.EACCES if refused else errno.ENOENT, "")


def _explain(error: OSError, name: str, program: bytes) -> SpawnError:
    """Return the error of an exec as one line for the user."""
    code = error.errno
    if code == errno.ENOENT and program and os.path.lexists(program):
        reason = "the interpreter named in its first line, or its loader, does not exist"
        return SpawnError(f"cannot start {name!r}: {reason}", 126)
    if code in (errno.ENOENT, errno.ENOTDIR):
        return SpawnError(f"command not found: {name!r}", 127)
    reason = {
        errno.EACCES: "it is not executable (chmod +x), or its folder may not be entered",
        errno.ENOEXEC: "it is neither a program nor a script with a first line such as #!/bin/sh",
        errno.EAGAIN: "no more processes are allowed (ulimit -u)",
        errno.ENOMEM: "there is not enough memory",
        errno.EMFILE: "too many open files (ulimit -n)",
        errno.ENFILE: "the system has too many open files",
    }.get(code or 0, os.strerror(code or 0))
    return SpawnError(f"cannot start {name!r}: {reason}", 126)
