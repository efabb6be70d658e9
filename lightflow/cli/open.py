"""`lightflow open`: open the pages of the server in a browser."""

from __future__ import annotations

import os

import click

from lightflow.cli.options import PATH, command, db_option, json_option
from lightflow.cli.output import say, say_json


@command(
    "open",
    epilog="""\b
Examples:
  lightflow open
  lightflow open --print
  lightflow open --viewer --db history.db

\b
The link is valid once, for a minute. With --print it is printed instead, for a browser on
another machine that reaches the server by `ssh -L 8787:127.0.0.1:8787`. --json prints {role, link}
and opens no browser.""",
)
@click.option("--print", "prints", is_flag=True, help="Print the link instead of opening a browser.")
@click.option("--viewer", is_flag=True, help="Log in as a viewer, who may change nothing.")
@click.option("--token-file", type=PATH, help="The file with the tokens; by default in your state folder.")
@db_option
@json_option
def open_pages(*, prints: bool, viewer: bool, token_file: str | None, db: str, as_json: bool) -> None:
    """Open the pages of the server in a browser.

    The server of the state file must work: `lightflow serve`, or `lightflow ui`.
    """
    from lightflow.client import Client, ServerError
    from lightflow.page_address import token_path
    from lightflow.server.browser import link, open_browser, read_address
    from lightflow.server.tokens import load_tokens
    from liteflow import DefinitionError

    path = os.path.abspath(token_file or token_path(db))
    address, tokens = read_address(path), load_tokens(path)
    try:
        code = Client(address, tokens.viewer if viewer else tokens.operator, timeout_s=10).login_code()
    except ServerError as error:
        raise DefinitionError(f"{error}; start the server again: `lightflow serve`") from None
    if as_json:
        say_json({"role": "viewer" if viewer else "operator", "link": link(address, code)})
    elif prints or not open_browser(path, address, code):
        say(link(address, code))
