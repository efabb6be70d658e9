"""`lightflow clear`: set tasks of a run back, or delete the checkpoints of a workflow."""

from __future__ import annotations

import click

from lightflow.cli.options import (
    checkpoint_dir_option,
    command,
    db_option,
    json_option,
    run_or_latest,
    with_db,
    workflow_names,
)
from lightflow.cli.output import many, say, say_json
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow clear my_workflow
  lightflow clear latest --task transform
  lightflow clear 20260102T030405 --task 'fetch[eu]' --only

\b
--json prints {workflow, files, runs}: how many checkpoint files were deleted, and how many runs were
excluded from resume; with --task {run_id, workflow, status, tasks}."""
)
@click.argument("name", metavar="WORKFLOW|RUN", shell_complete=workflow_names)
@click.option("-t", "--task", "tasks", multiple=True, metavar="TASK", help="Set this task of a run back to pending.")
@click.option("--only", is_flag=True, help="With --task: leave what follows the task as it is.")
@checkpoint_dir_option
@db_option
@json_option
def clear(name: str, *, tasks: tuple[str, ...], only: bool, folder: str, db: str, as_json: bool) -> None:
    """Set tasks of a run back, or delete the checkpoints of a workflow.

    With --task, the tasks of a run and all that follows them are pending again, and nothing runs until `resume`. A TASK
    is an id, a pattern, an instance of a mapped task, or a group.

    With a workflow, its checkpoint files are deleted, and `resume` with a file ignores its unfinished runs. The history
    stays: such a run can still be shown, and be resumed by its id.
    """
    if tasks:
        _clear_tasks(name, tasks, only=only, db=db, as_json=as_json)
        return
    if only:
        raise click.UsageError("--only goes with --task")
    from lightflow.service import runs

    files, dropped = runs.clear(db, name, folder)
    if as_json:
        say_json({"workflow": name, "files": files, "runs": dropped})
        return
    changes = [f"removed {many(files, 'checkpoint file')}"] if files else []
    changes += [f"excluded {many(dropped, 'unfinished run')} from resume"] if dropped else []
    say(f"{printable(name)}: {', '.join(changes)}" if changes else f"nothing to clear of {printable(name)}")


def _clear_tasks(run: str, tasks: tuple[str, ...], *, only: bool, db: str, as_json: bool) -> None:
    """Set tasks of a run back, and print their names."""
    from lightflow.service import queries, reruns

    run_id = run_or_latest(run) or queries.latest_run(db).run_id
    changed = reruns.clear(db, run_id, tasks, only=only)
    if as_json:
        from lightflow.service.json_shapes import changed_tasks_shape

        say_json(changed_tasks_shape(changed.run, changed.names))
        return
    names = ", ".join(changed.shown)
    say(f"pending again: {names}" if names else "nothing to set back: they have still to run")
    say(f"to run them: {with_db(f'lightflow resume {printable(changed.run.run_id)}', db)}")
