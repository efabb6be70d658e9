"""The entry point: `lightflow`, `python -m lightflow` and `python -m lightflow.cli.main` are the same.

Only what every command needs is imported here; a command's own module is imported when it is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from lightflow.cli.border import guard, open_streams
from liteflow.version import __version__


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    open_streams()
    sys.exit(guard(lambda: _dispatch(given), debug="--debug" in given or bool(os.environ.get("LIGHTFLOW_DEBUG"))))


def _dispatch(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        sys.stdout.write(f"lightflow {__version__}\n")  # not even click is needed for this
        return 0
    from lightflow.cli.app import invoke

    return invoke(arguments)


if __name__ == "__main__":
    main()
