"""`lightflow task run`: run a single task of a workflow."""

from __future__ import annotations

from typing import Any

import click

from lightflow.cli.options import PATH, FolderCommand
from lightflow.cli.run import start_run
from lightflow.cli.run_arguments import EXIT_CODES, RunArguments, execution_options
from lightflow.engine.choices import SelectionOptions


@click.group()
def task() -> None:
    """Run a single task."""


@task.command(
    "run",
    cls=FolderCommand,
    epilog=f"""\b
Examples:
  lightflow task run pipeline.yaml load
  lightflow task run pipeline.yaml load --values-from latest

{EXIT_CODES}""",
)
@click.argument("file", type=PATH)
@click.argument("name", metavar="TASK")
@click.option("--values-from", metavar="RUN", help="The run whose values of other tasks are read, or latest.")
@execution_options
def task_run(file: str, name: str, *, values_from: str | None, **options: Any) -> int:
    """Run a single task of a workflow, with the setups that it needs.

    It is `lightflow run FILE --only TASK`.
    """
    return start_run(file, RunArguments(**options), SelectionOptions(only=[name], values_from=values_from))
