"""`lightflow token`: the token that requests to the server need."""

from __future__ import annotations

import click

from lightflow.cli.options import PATH, command, db_option, json_option
from lightflow.cli.output import say, say_json


@command(
    epilog="""\b
Examples:
  lightflow token
  curl -H "Authorization: Bearer $(lightflow token)" http://127.0.0.1:8787/api/v1/runs

\b
--json prints {role, token, file}."""
)
@click.option("--viewer", is_flag=True, help="Print the token of viewers, who may change nothing.")
@click.option("--token-file", type=PATH, help="The file with the tokens; by default in your state folder.")
@db_option
@json_option
def token(viewer: bool, token_file: str | None, db: str, as_json: bool) -> None:
    """Print the token of the server of a state file.

    The tokens are made when they are first needed. To make new ones, delete the file and start the server again.
    """
    from lightflow.page_address import token_path
    from lightflow.server.tokens import load_tokens

    path = token_file or token_path(db)
    tokens = load_tokens(path)
    text = tokens.viewer if viewer else tokens.operator
    if as_json:
        say_json({"role": "viewer" if viewer else "operator", "token": text, "file": path})
    else:
        say(text)
