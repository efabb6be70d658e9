"""The beginning of the command: an interrupt that comes while it still imports itself is not a traceback."""

from __future__ import annotations

import os
from typing import NoReturn

_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command and exit with its code."""
    try:
        from lightflow.cli.main import main as run

        run()
    except KeyboardInterrupt:  # before, or after, the command itself takes care of that
        os.write(2, b"\ninterrupted\n")
        os._exit(_INTERRUPTED)
