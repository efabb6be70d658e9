"""The click group. It knows every command's name and one line about it; the rest is imported when it is called."""

from __future__ import annotations

import importlib
from typing import Final

import click

from liteflow.version import __version__

#: name: (module and object, the first line of its help), under the headings of `--help`
SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "Run": {
        "run": ("run:run", "Run a workflow."),
        "resume": ("run:resume", "Go on where a run stopped; what succeeded is kept."),
        "cancel": ("cancel:cancel", "Stop a run."),
    },
    "Look": {
        "status": ("status:status", "Show a run and its tasks."),
        "logs": ("logs:logs", "Show what a task printed."),
        "why": ("why:why", "Explain why a task is in its state."),
        "runs": ("status:runs", "List runs, the newest first."),
        "list": ("status:list_workflows", "List the workflows that have run."),
        "dag": ("dag:dag", "Draw a workflow, or a run as it went."),
    },
    "Write": {
        "template": ("author:template", "Write a small workflow to begin with."),
        "validate": ("author:validate", "Check workflow files; nothing of theirs is run."),
        "schema": ("author:schema", "Print the JSON Schema of workflow files, for editors."),
    },
    "Keep": {
        "list-checkpoints": ("checkpoints:list_checkpoints", "List the checkpoint files of a workflow."),
        "clear": ("checkpoints:clear", "Forget where the runs of a workflow stopped."),
        "doctor": ("doctor:doctor", "Check this machine and the state file."),
        "completion": ("completion:completion", "Print the completion script of a shell."),
    },
}
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Commands(click.Group):
    """A group that imports a command's module when the command is wanted, and not for its line in `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"lightflow.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"there is no command {args[0]!r}{hint}")
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
3 state file, 4 owned by another process, 5 resources, 70 a fault of ours, 130 and 143 interrupted.""",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say which.")
def cli() -> None:
    """Run workflows: tasks that wait for each other, in parallel, kept in one SQLite file."""


def invoke(arguments: list[str]) -> int:
    """Run one command. Returns its exit code; errors are raised for `border.guard`."""
    code = cli.main(arguments, prog_name="lightflow", standalone_mode=False)
    return code if isinstance(code, int) else 0
