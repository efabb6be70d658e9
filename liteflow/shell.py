"""The words of a command that gives a script to a shell.

A script stops at its first line that fails: `/bin/sh -e` where no shell is named, `bash -eo pipefail` where bash is.
A shell that is a list of words is taken as written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

DEFAULT_SHELL: Final = "/bin/sh"
#: What makes a shell stop at the first line that fails, by the shell's name without its version. Of those that also
#: have `pipefail`, a pipeline fails with any of its commands. Programs that are not here know neither option.
_STOPS: Final[Sequence[tuple[re.Pattern[str], tuple[str, ...]]]] = (
    (re.compile(r"(bash|rbash|zsh|ksh|mksh|oksh|yash)[-.\d]*"), ("-eo", "pipefail")),
    (re.compile(r"(sh|dash|ash|posh|csh|tcsh)[-.\d]*"), ("-e",)),
)


def shell_prefix(shell: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the words that come before the script.

    A bare name is looked up on PATH now, so that the environment of a task cannot change which program it is.
    """
    if shell is None:
        shell = DEFAULT_SHELL
    program, *rest = [shell, *_options(shell), "-c"] if isinstance(shell, str) else shell
    if os.sep in program:
        return (program, *rest)
    import shutil  # with its compression formats, 10 ms that a workflow without `shell` need not pay

    return (shutil.which(program) or program, *rest)


def shell_words(shell: str | Sequence[str] | None, script: str) -> tuple[str, ...]:
    """Return the words of the command that runs the script: `Command.argv`."""
    return (*shell_prefix(shell), script)


def _options(shell: str) -> tuple[str, ...]:
    name = os.path.basename(shell)
    return next((options for pattern, options in _STOPS if pattern.fullmatch(name)), ())
