"""The click group: it imports a command's module when the command is called, and prints help and completions."""

from __future__ import annotations

import os

import click

from lightflow.cli.commands import COMMANDS, SECTIONS, load
from lightflow.cli.options import change_directory, directory_option
from liteflow import __version__


class LazyGroup(click.Group):
    """A group that imports the module of a command to call it, and not to list it in `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from lightflow.cli.synonyms import unknown_command

            ctx.fail(unknown_command(args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, about) for name, (_, about) in section.items()], col_max=20)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"lightflow {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
To begin:
  lightflow template hello
  lightflow run hello.yaml

\b
`lightflow COMMAND --help` explains a command. Exit codes: 0 success, 1 a task failed, 2 bad input,
3 state file, 4 owned by another process, 5 resources, 70 a bug in lightflow, 124 timed out,
130 and 143 interrupted.""",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def cli(ctx: click.Context, directory: str | None) -> None:
    """Run workflows: tasks with dependencies, in parallel, with their state in one SQLite file."""
    change_directory(ctx, directory)


cli.params.append(directory_option())


def invoke(arguments: list[str]) -> int:
    """Run one command and return its exit code. Errors are raised for `error_boundary.guard`.

    Not by `cli.main`, which ends the process itself when the reader of a pipe is gone.
    """
    if "_LIGHTFLOW_COMPLETE" in os.environ:
        cli.main(prog_name="lightflow")  # prints completions and ends the process
    try:
        with cli.make_context("lightflow", _as_options(arguments)) as ctx:
            code = cli.invoke(ctx)
    except click.exceptions.Exit as end:  # of `--help` and `--version`
        return end.exit_code
    return code if isinstance(code, int) else 0


def _as_options(arguments: list[str]) -> list[str]:
    """Return the command line with the words `help` and `version`, and an empty line, as the options they mean."""
    first, rest = arguments[:1], arguments[1:]
    if not arguments or first == ["help"]:
        return [*rest[:1], "--help"]
    return ["--version"] if first == ["version"] and not rest else arguments
