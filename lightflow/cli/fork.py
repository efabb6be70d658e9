"""`lightflow fork`: start a new run from the middle of another one."""

from __future__ import annotations

from typing import Any

import click

from lightflow.cli.options import PATH, command, run_ids
from lightflow.cli.run_arguments import EXIT_CODES, RunArguments, execution_options
from lightflow.service.runs import Notify, RunOptions
from liteflow import DagRun
from liteflow.api import replace


@command(
    epilog=f"""\b
Examples:
  lightflow fork latest --from transform
  lightflow fork 20260102T030405 --from transform --set params.rows=10
  lightflow fork latest --from load --file new_version.yaml

{EXIT_CODES}"""
)
@click.argument("run", shell_complete=run_ids)
@click.option("--from", "start", multiple=True, required=True, metavar="TASK", help="Run this task, and what follows.")
@click.option("--set", "changes", multiple=True, metavar="params.NAME=VALUE", help="Change a parameter, as -p does.")
@click.option("--file", type=PATH, help="The workflow file, instead of that of the run.")
@click.option("--run-id", metavar="ID", help="The id of the new run, instead of a generated one.")
@execution_options
def fork(
    run: str,
    *,
    start: tuple[str, ...],
    changes: tuple[str, ...],
    file: str | None,
    run_id: str | None,
    **options: Any,
) -> int:
    """Start a new run from the middle of another one.

    The tasks and all that follows them run with today's workflow file and with the parameters of the other run, which
    --set changes. So does what did not succeed. The results of the other tasks are copied, so the other run may be
    deleted; their logs are not.

    RUN is an id, the beginning of an id, or "latest".
    """
    from lightflow.cli.execution import execute
    from lightflow.service import queries, reruns

    arguments = RunArguments(**options)
    if arguments.dry_run:
        raise click.UsageError("fork has no --dry-run: `lightflow retry RUN --from TASK --dry-run` shows the tasks")
    for change in changes:
        if not change.startswith("params."):
            raise click.UsageError(f"--set {change!r}: write params.NAME=VALUE")
    words = tuple(change.removeprefix("params.") for change in changes)
    if run == "latest":
        run = queries.latest_run(arguments.db).run_id

    def fork_with(choices: RunOptions, notify: Notify) -> DagRun:
        params = replace(choices.params, changes=words)
        return reruns.fork(run, replace(choices, run_id=run_id, params=params), start, file=file, notify=notify)

    return execute(run, arguments, fork_with)
