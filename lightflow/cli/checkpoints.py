"""`lightflow list-checkpoints` and `clear`: where the runs of a workflow stopped."""

from __future__ import annotations

from lightflow.cli.declare import PATH, argument, command, option
from lightflow.cli.options import Decorated, db_option, json_option, limit_option, workflow_names
from lightflow.cli.output import moment, near_path, say, say_json, say_more, state, table
from lightflow.errors import printable


def _folder_option(function: Decorated) -> Decorated:
    return option(
        "--checkpoint-dir",
        "folder",
        type=PATH,
        default=".lightflow-checkpoints",
        show_default=True,
        help="The folder of checkpoint files.",
    )(function)


@command(
    epilog="""\b
Examples:
  lightflow list-checkpoints my_workflow
  lightflow list-checkpoints

\b
--json prints a list of {workflow, run_id, status, timestamp, completed, total, file}."""
)
@argument("name", required=False, shell_complete=workflow_names)
@limit_option(20, "How many at most, those written last.")
@_folder_option
@json_option
def list_checkpoints(name: str | None, limit: int, folder: str, as_json: bool) -> None:
    """List the checkpoint files of a workflow.

    A checkpoint says in JSON how a run ended. The state file knows more; `lightflow runs` reads that.
    """
    from lightflow.service import inspecting

    found, more = inspecting.checkpoints(folder, name, limit)
    if as_json:
        say_json(
            [
                {
                    "workflow": one.workflow_name,
                    "run_id": one.run_id,
                    "status": one.status,
                    "timestamp": one.timestamp,
                    "completed": len(one.succeeded),
                    "total": one.total_tasks,
                    "file": one.path,
                }
                for one in found
            ]
        )
        return
    rows = [
        (
            printable(one.workflow_name),
            state(one.status) if one.status else "-",
            f"{len(one.succeeded)}/{one.total_tasks}",
            moment(one.written_at or None) or printable(one.timestamp[:19]),
            near_path(one.path),
        )
        for one in found
    ]
    nothing = f"no checkpoints of {printable(name)}" if name else "no checkpoints"
    say(table(("WORKFLOW", "STATE", "DONE", "WRITTEN", "FILE"), rows, "DONE") if rows else f"{nothing} in {folder}")
    say_more(more, "file")


@command(
    epilog="""\b
Example:
  lightflow clear my_workflow

\b
--json prints {workflow, files, runs}: how many were removed, and passed over."""
)
@argument("name", shell_complete=workflow_names)
@_folder_option
@db_option
@json_option
def clear(name: str, folder: str, db: str, as_json: bool) -> None:
    """Forget where the runs of a workflow stopped.

    Its checkpoint files are removed, and `resume` passes over its unfinished runs. The history stays: such a run can
    still be looked at, and resumed by its id.
    """
    from lightflow.service import running

    files, runs = running.clear(db, name, folder)
    if as_json:
        say_json({"workflow": name, "files": files, "runs": runs})
        return
    if not files and not runs:
        say(f"nothing to forget of {printable(name)}")
        return
    say(f"{printable(name)}: removed {_many(files, 'checkpoint file')}, forgot {_many(runs, 'unfinished run')}")


def _many(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
