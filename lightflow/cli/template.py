"""`lightflow template`: write a workflow file to start from."""

from __future__ import annotations

import click

from lightflow.cli.options import command, json_option
from lightflow.cli.output import as_lines, say, say_json


@command(
    epilog="""\b
Example:
  lightflow template my_workflow

\b
--json prints {file}."""
)
@click.argument("name")
@json_option
def template(name: str, as_json: bool) -> None:
    """Write a small workflow file to start from.

    The file is NAME.yaml in the current folder. An existing file is never overwritten.
    """
    from lightflow.service import workflow_template

    path = workflow_template.write_template(name).removeprefix("./")
    if as_json:
        say_json({"file": path})
        return
    say(f"wrote {path}")
    say(as_lines([("run it", f"lightflow run {path}"), ("draw it", f"lightflow dag {path}")]))
