"""`lightflow resume`: resume a run."""

from __future__ import annotations

import os
from typing import Any

import click

from lightflow.cli.options import PATH, command, files_and_runs
from lightflow.cli.run_arguments import EXIT_CODES, RunArguments, execution_options


@command(
    epilog=f"""\b
Examples:
  lightflow resume pipeline.yaml
  lightflow resume 20260102T030405-1a2b3c4d
  lightflow resume pipeline.yaml --from-checkpoint saved.lightflow-checkpoint.json

{EXIT_CODES}"""
)
@click.argument("target", metavar="FILE|RUN", type=PATH, shell_complete=files_and_runs)
@click.option("--from-checkpoint", metavar="PATH", type=PATH, help="Start from a checkpoint file instead.")
@execution_options
def resume(target: str, *, from_checkpoint: str | None, **options: Any) -> int:
    """Resume a run; tasks that succeeded are not run again.

    A setup that was torn down runs again if a task that is left needs it.

    With FILE, the latest run of its workflow is resumed. RUN is the id of a run, the beginning of an id, or "latest".
    """
    from lightflow.service import queries, runs

    arguments = RunArguments(**options)
    if target == "latest" and not os.path.exists(target):
        target = queries.latest_run(arguments.db).run_id
    if arguments.dry_run:
        from lightflow.cli.dry_run import show_plan

        return show_plan(target, arguments, resume=True)
    from lightflow.cli.execution import execute

    return execute(
        target,
        arguments,
        lambda choices, notify: runs.resume(target, choices, from_checkpoint=from_checkpoint, notify=notify),
    )
