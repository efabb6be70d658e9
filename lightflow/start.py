"""The start of the command: an interrupt during its own imports ends it without a traceback."""

from __future__ import annotations

import os
from typing import NoReturn

_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command and exit with its code."""
    try:
        from lightflow.cli.main import main as run

        run()
    except KeyboardInterrupt:  # outside of `error_boundary.guard`
        os.write(2, b"\ninterrupted\n")
        os._exit(_INTERRUPTED)
