"""The options of the web server."""

from __future__ import annotations

from collections.abc import Callable

from lightflow.page_address import DEFAULT_PORT
from lightflow.server.services import Control
from liteflow.api import Record


class WebOptions(Record):
    """The options of a server.

    Attributes:
        on_ready: called with the address once requests are answered.
        stop_on_signals: Whether SIGTERM and SIGINT end the server; otherwise its owner calls `WebServer.stop`.
    """

    db: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    socket_path: str | None = None
    base_path: str = ""
    allowed_hosts: tuple[str, ...] = ()
    token_file: str | None = None
    is_read_only: bool = False
    hides_values: bool = False
    control: Control | None = None
    opens: bool = False  #: whether the pages are opened in a browser
    on_ready: Callable[[str], None] | None = None
    stop_on_signals: bool = True
