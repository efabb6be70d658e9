"""The click group: it reads what is not plain, and prints help, completions and what is wrong with a command line."""

from __future__ import annotations

import click

from lightflow.cli.commands import COMMANDS, SECTIONS, find
from lightflow.cli.declare import Command
from liteflow.version import __version__


class Commands(click.Group):
    """A group that imports a command's module when the command is wanted, and not for its line in `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = find(cmd_name)
        command: click.Command = found.to_click() if isinstance(found, Command) else found
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from lightflow.cli.synonyms import answer_to

            ctx.fail(answer_to(args[0], COMMANDS))
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
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Begin with:
  lightflow template hello
  lightflow run hello.yaml

\b
Every command says more with --help. Exit codes: 0 success, 1 a task failed, 2 bad input,
3 state file, 4 owned by another process, 5 resources, 70 a fault of ours, 124 timed out,
130 and 143 interrupted.""",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say which.")
def cli() -> None:
    """Run workflows: tasks that wait for each other, in parallel, kept in one SQLite file."""


def as_options(arguments: list[str]) -> list[str]:
    """The command line with the words `help` and `version`, and no words at all, as the options that they mean."""
    first, rest = arguments[:1], arguments[1:]
    if not arguments or first == ["help"]:
        return [*rest[:1], "--help"]
    return ["--version"] if first == ["version"] and not rest else arguments


def invoke(arguments: list[str]) -> int:
    """Run one command. Returns its exit code; errors are raised for `border.guard`."""
    arguments = as_options(arguments)
    code = cli.main(arguments, prog_name="lightflow", standalone_mode=False)
    return code if isinstance(code, int) else 0
