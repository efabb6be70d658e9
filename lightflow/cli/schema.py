"""`lightflow schema`: the JSON Schema of workflow files."""

from __future__ import annotations

from lightflow.cli.options import command
from lightflow.cli.output import say_json


@command(
    epilog="""\b
Example:
  lightflow schema > lightflow.schema.json

\b
An editor completes and checks a file that begins with
  # yaml-language-server: $schema=lightflow.schema.json"""
)
def schema() -> None:
    """Print the JSON Schema of workflow files, for editors."""
    from lightflow.service import workflows

    say_json(workflows.schema())
