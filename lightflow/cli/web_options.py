"""The options that `serve` and `ui` share: where the server listens, and who may use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lightflow.cli.options import PATH, Function, integer
from lightflow.page_address import DEFAULT_PORT


def web_options(function: Function) -> Function:
    """Add the options of the web server; the command receives them by the names of `WebOptions`."""
    options: list[Callable[[Function], Function]] = [
        click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on."),
        click.option("--port", type=integer(0, 65535), default=DEFAULT_PORT, show_default=True,
                     help="The port; 0 takes a free port."),
        click.option("--socket", "socket_path", type=PATH, help="Listen on this Unix socket instead."),
        click.option("--base-path", default="", metavar="PATH",
                     help="The start of all paths behind a proxy, such as /flows."),
        click.option("--allow-host", "allowed_hosts", multiple=True, metavar="NAME",
                     help="Another name of this server, as in the header Host. Repeatable."),
        click.option("--token-file", type=PATH, help="The file with the tokens; by default in your state folder."),
        click.option("--open", "opens", is_flag=True, help="Open the pages in a browser."),
        click.option("--hide-values", "hides_values", is_flag=True,
                     help="Leave values and parameters out of all answers."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def base_path_of(text: str) -> str:
    """Return a base path with a slash at its start and none at its end.

    Raises:
        click.BadParameter: it is not a path.
    """
    path = "/" + text.strip("/") if text.strip("/") else ""
    if any(character in path for character in "?#%\\ ") or "//" in path or not path.isascii():
        raise click.BadParameter(f"{text!r} is not a path such as /flows", param_hint="--base-path")
    return path


def as_web_options(db: str, values: dict[str, Any], **fixed: Any) -> Any:
    """Return the options of the server from those of the command line."""
    from lightflow.server.options import WebOptions

    return WebOptions(db=db, **{**values, "base_path": base_path_of(values["base_path"])}, **fixed)
