"""`lightflow list-checkpoints`: list the checkpoint files of a workflow."""

from __future__ import annotations

import click

from lightflow.cli.options import checkpoint_dir_option, command, json_option, limit_option, workflow_names
from lightflow.cli.output import moment, near_path, say, say_json, say_more, state, table
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow list-checkpoints my_workflow
  lightflow list-checkpoints

\b
--json prints a list of {workflow, run_id, status, timestamp, completed, total, file}."""
)
@click.argument("name", required=False, shell_complete=workflow_names)
@limit_option(20, "List at most so many, the newest first.")
@checkpoint_dir_option
@json_option
def list_checkpoints(name: str | None, limit: int, folder: str, as_json: bool) -> None:
    """List the checkpoint files of a workflow.

    A checkpoint is a JSON file about the end of a run. The state file knows more: see `lightflow runs`.
    """
    from lightflow.service import json_shapes, queries

    checkpoints, left_out = queries.list_checkpoints(folder, name, limit)
    if as_json:
        say_json([json_shapes.checkpoint_shape(checkpoint) for checkpoint in checkpoints])
        return
    rows = [
        (
            printable(checkpoint.workflow_name),
            state(checkpoint.status) if checkpoint.status else "-",
            f"{len(checkpoint.succeeded)}/{checkpoint.total_tasks}",
            moment(checkpoint.written_at or None) or printable(checkpoint.timestamp[:19]),
            near_path(checkpoint.path),
        )
        for checkpoint in checkpoints
    ]
    nothing = f"no checkpoints of {printable(name)}" if name else "no checkpoints"
    say(table(("WORKFLOW", "STATE", "DONE", "WRITTEN", "FILE"), rows, "DONE") if rows else f"{nothing} in {folder}")
    say_more(left_out, "file")
