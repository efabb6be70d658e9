"""The arguments of a command that runs a script with a shell.

A script stops at its first line that fails: by default the shell is `/bin/sh -e`, and bash is `bash -eo pipefail`. A
shell that is a list of arguments is used as written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

DEFAULT_SHELL: Final = "/bin/sh"
#: The options that make a shell stop at the first line that fails, by the shell's name without its version. With
#: `pipefail` a pipeline fails with any of its commands. Other programs have neither option.
_STOPS: Final[Sequence[tuple[str, tuple[str, ...]]]] = (
    (r"(bash|rbash|zsh|ksh|mksh|oksh|yash)[-.\d]*", ("-eo", "pipefail")),
    (r"(sh|dash|ash|posh|csh|tcsh)[-.\d]*", ("-e",)),
)


def shell_prefix(shell: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the arguments before the script.

    A bare name is looked up on PATH now, so that the environment of a task cannot change the program.
    """
    if shell is None:
        shell = DEFAULT_SHELL
    program, *rest = [shell, *_options(shell), "-c"] if isinstance(shell, str) else shell
    if os.sep in program:
        return (program, *rest)
    import shutil  # 10 ms with its compression formats, which a workflow without `shell` does not need

    return (shutil.which(program) or program, *rest)


def shell_words(shell: str | Sequence[str] | None, script: str) -> tuple[str, ...]:
    """Return the arguments of the command that runs the script: `Command.argv`."""
    return (*shell_prefix(shell), script)


def _options(shell: str) -> tuple[str, ...]:
    name = os.path.basename(shell)
    return next((options for pattern, options in _STOPS if re.fullmatch(pattern, name)), ())
