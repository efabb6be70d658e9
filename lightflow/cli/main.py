"""The entry point of the command line: `lightflow` and `python -m lightflow` call it through `lightflow.start`.

It imports only what every command needs; the module of a command is imported when the command is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from lightflow.cli.error_boundary import freeze_objects, guard, open_streams, postpone_collection


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    postpone_collection()
    open_streams()
    code = guard(lambda: _invoke(line), debug="--debug" in line or bool(os.environ.get("LIGHTFLOW_DEBUG")))
    freeze_objects()
    sys.exit(code)


def _invoke(line: list[str]) -> int:
    from lightflow.cli.app import invoke  # inside `guard`: an interrupt during this import is not a traceback

    return invoke(line)


if __name__ == "__main__":
    main()
