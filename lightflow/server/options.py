"""The options of the web server. Importing them loads no package of the extra `ui`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Final

from lightflow.server.services import Control
from liteflow import DefinitionError
from liteflow.api import Record

DEFAULT_PORT: Final = 8787
_NEEDS: Final = ("starlette", "uvicorn", "graphql")


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


def check_installed() -> None:
    """Check that the packages of the extra `ui` are installed.

    Raises:
        DefinitionError: one is missing.
    """
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise DefinitionError(f"the server needs {', '.join(missing)}: pip install 'lightflow-workflows[ui]'")
