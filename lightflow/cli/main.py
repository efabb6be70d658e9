"""The command; `lightflow` and `python -m lightflow` get here through `lightflow.start`.

Only what every command needs is imported here; a command's own module is imported when it is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from lightflow.cli.border import guard, open_streams, put_off_collecting, settle
from liteflow.version import __version__


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    given = _command_first(list(sys.argv[1:] if arguments is None else arguments))
    put_off_collecting()
    open_streams()
    code = guard(lambda: _dispatch(given), debug="--debug" in given or bool(os.environ.get("LIGHTFLOW_DEBUG")))
    if given[:1] not in (["run"], ["resume"]):  # which have done so before code of the user's ran
        settle()
    sys.exit(code)


def _command_first(arguments: list[str]) -> list[str]:
    """Put a folder before the command (`lightflow -C DIR run …`, as one types `make -C DIR all`) behind it."""
    if arguments[:1] in (["-C"], ["--directory"]) and len(arguments) > 2:
        return [arguments[2], *arguments[:2], *arguments[3:]]
    return arguments


def _dispatch(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        sys.stdout.write(f"lightflow {__version__}\n")  # not even click is needed for this
        return 0
    from lightflow.cli.commands import plain
    from lightflow.cli.declare import Misuse

    call = plain(arguments)
    if call is not None:
        try:
            return call() or 0
        except Misuse:  # click says it, with how to get help
            pass
    from lightflow.cli.app import invoke

    return invoke(arguments)


if __name__ == "__main__":
    main()
