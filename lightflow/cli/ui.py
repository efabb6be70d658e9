"""`lightflow ui`: the server on an existing history, read-only."""

from __future__ import annotations

import sys
from typing import Any

import click

from lightflow.cli.options import PATH, command
from lightflow.cli.output import say
from lightflow.cli.web_options import as_web_options, web_options


@command(
    epilog="""\b
Examples:
  lightflow ui lightflow.db
  lightflow ui old/lightflow.db --port 9000

\b
`lightflow token --db FILE.db` prints the token that requests need."""
)
@click.argument("db", metavar="FILE.db", type=PATH)
@web_options
def ui(db: str, **values: Any) -> None:
    """Serve the history in a state file to programs and browsers, read-only.

    Runs that other processes start appear live. The server starts nothing and changes nothing. It needs the extra `ui`.
    """
    from lightflow.server.extra import check_installed

    check_installed()
    from lightflow.server.web import WebServer
    from liteflow.api import History

    with History(db):  # a file that cannot be read is reported before anything starts
        pass
    server = WebServer(as_web_options(db, values, is_read_only=True, on_ready=_announce))
    server.run()


def _announce(address: str) -> None:
    say(f"serving on {address}, read-only; end with Ctrl-C")
    sys.stdout.flush()  # a pipe has to show it before the server ends
