"""`lightflow clear`: delete the checkpoints of a workflow."""

from __future__ import annotations

import click

from lightflow.cli.options import checkpoint_dir_option, command, db_option, json_option, workflow_names
from lightflow.cli.output import many, say, say_json
from lightflow.text import printable


@command(
    epilog="""\b
Example:
  lightflow clear my_workflow

\b
--json prints {workflow, files, runs}: how many checkpoint files were deleted, and how many runs were
excluded from resume."""
)
@click.argument("name", shell_complete=workflow_names)
@checkpoint_dir_option
@db_option
@json_option
def clear(name: str, folder: str, db: str, as_json: bool) -> None:
    """Delete the checkpoints of a workflow, so that `resume` ignores its runs.

    Its checkpoint files are deleted, and `resume` with a file ignores its unfinished runs. The history stays: such a
    run can still be shown, and be resumed by its id.
    """
    from lightflow.service import runs

    files, dropped = runs.clear(db, name, folder)
    if as_json:
        say_json({"workflow": name, "files": files, "runs": dropped})
        return
    changes = [f"removed {many(files, 'checkpoint file')}"] if files else []
    changes += [f"excluded {many(dropped, 'unfinished run')} from resume"] if dropped else []
    say(f"{printable(name)}: {', '.join(changes)}" if changes else f"nothing to clear of {printable(name)}")
