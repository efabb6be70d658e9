"""`lightflow retry`: run a part of a run again."""

from __future__ import annotations

import os
from typing import Any

import click

from lightflow.cli.options import PATH, command, files_and_runs
from lightflow.cli.run_arguments import EXIT_CODES, RunArguments, execution_options


@command(
    epilog=f"""\b
Examples:
  lightflow retry latest --from transform
  lightflow retry 20260102T030405 --only 'fetch[eu]'
  lightflow retry etl.yaml --changed
  lightflow retry latest --from 'load_*' --dry-run

A TASK is an id, a pattern, an instance of a mapped task by its index or label, or a group.

{EXIT_CODES}"""
)
@click.argument("target", metavar="RUN|FILE", type=PATH, shell_complete=files_and_runs)
@click.option("--failed", is_flag=True, help="Run all that did not succeed, as `resume` does: the default.")
@click.option("--from", "start", multiple=True, metavar="TASK", help="Run this task again, and all that follows it.")
@click.option("--only", multiple=True, metavar="TASK", help="Run this task again, and nothing that follows it.")
@click.option("--changed", is_flag=True, help="Run the tasks again whose definition has changed, and what follows.")
@click.option("--ignore-upstream", is_flag=True, help="Run the tasks although an upstream task did not succeed.")
@click.option("--wait", is_flag=True, help="Wait for the end of the run, if a process executes it.")
@execution_options
def retry(
    target: str,
    *,
    failed: bool,
    start: tuple[str, ...],
    only: tuple[str, ...],
    changed: bool,
    ignore_upstream: bool,
    wait: bool,
    **options: Any,
) -> int:
    """Run a part of a run again.

    The tasks run in the same run: earlier attempts and their logs stay. Other tasks that have ended keep their state.
    Without an option that chooses tasks, all that did not succeed runs.

    RUN is the id of a run, the beginning of an id, or "latest". With FILE, it is the latest run of its workflow.
    """
    from lightflow.engine.choices import RerunOptions
    from lightflow.service import queries, reruns

    chosen = [name for name, used in (("--failed", failed), ("--from", start), ("--only", only)) if used]
    if len(chosen) > 1 or (failed and changed) or (only and changed):
        raise click.UsageError("give one of --failed, --from, --only; --changed goes with --from alone")
    if ignore_upstream and not (start or only):
        raise click.UsageError("--ignore-upstream is for --from and --only")
    arguments = RunArguments(**options)
    if target == "latest" and not os.path.exists(target):
        target = queries.latest_run(arguments.db).run_id
    rerun = RerunOptions(start=start or only, only=bool(only), changed=changed, ignore_upstream=ignore_upstream)
    if arguments.dry_run:
        from lightflow.cli.dry_run import show_plan

        return show_plan(target, arguments, resume=True, rerun=rerun)
    from lightflow.cli.execution import execute

    return execute(
        target, arguments, lambda choices, notify: reruns.retry(target, choices, rerun, wait=wait, notify=notify)
    )
