"""`lightflow task run`: run a single task of a workflow."""

from __future__ import annotations

from typing import Any

import click

from lightflow.cli.options import PATH, command
from lightflow.cli.run import start_run
from lightflow.cli.run_arguments import EXIT_CODES, RunArguments, execution_options
from lightflow.engine.choices import SelectionOptions


@command(
    epilog=f"""\b
Examples:
  lightflow task run pipeline.yaml load
  lightflow task run pipeline.yaml load --values-from latest

{EXIT_CODES}"""
)
@click.argument("action", metavar="run", type=click.Choice(["run"]))
@click.argument("file", type=PATH)
@click.argument("name", metavar="TASK")
@click.option("--values-from", metavar="RUN", help="The run whose values of other tasks are read, or latest.")
@execution_options
def task(action: str, file: str, name: str, *, values_from: str | None, **options: Any) -> int:
    """Run a single task.

    It runs with the setups that it needs, as with `lightflow run FILE --only TASK`.
    """
    return start_run(file, RunArguments(**options), SelectionOptions(only=[name], values_from=values_from))
