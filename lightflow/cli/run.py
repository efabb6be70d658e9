"""`lightflow run`: run a workflow."""

from __future__ import annotations

from typing import Any

import click

from lightflow.cli.options import PATH, command
from lightflow.cli.run_arguments import EXIT_CODES, RunArguments, execution_options
from liteflow.api import replace


@command(
    epilog=f"""\b
Examples:
  lightflow run pipeline.yaml
  lightflow run pipeline.yaml --max-workers 8 --mode process
  lightflow run pipeline.yaml -p day=2026-01-31 -p rows=100
  lightflow run pipeline.yaml --date yesterday
  lightflow run pipeline.yaml --dry-run
  lightflow run pipeline.yaml --resume

{EXIT_CODES}"""
)
@click.argument("file", type=PATH)
@click.option("--resume", is_flag=True, help="Resume the last run, if it did not finish.")
@click.option("--run-id", metavar="ID", help="The id of the run, instead of a generated one.")
@execution_options
def run(file: str, *, resume: bool, run_id: str | None, **options: Any) -> int:
    """Run a workflow.

    FILE is a workflow in YAML or JSON, or a Python script that defines a dag.
    """
    from lightflow.service import runs

    arguments = RunArguments(**options)
    if arguments.dry_run:
        from lightflow.cli.dry_run import show_plan

        return show_plan(file, arguments, resume=resume)
    from lightflow.cli.execution import execute

    return execute(
        file,
        arguments,
        lambda choices, notify: runs.run(file, replace(choices, run_id=run_id), resume=resume, notify=notify),
    )
