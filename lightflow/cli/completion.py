"""`lightflow completion`: the completion script of a shell."""

from __future__ import annotations

import click

from lightflow.cli.output import say


@click.command(
    epilog="""\b
Examples:
  mkdir -p ~/.local/share/bash-completion/completions
  lightflow completion bash > ~/.local/share/bash-completion/completions/lightflow
  mkdir -p ~/.zfunc && lightflow completion zsh > ~/.zfunc/_lightflow
  mkdir -p ~/.config/fish/completions
  lightflow completion fish > ~/.config/fish/completions/lightflow.fish"""
)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options, files, and the ids of tasks, runs and workflows.
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    say(script(click.get_current_context().find_root().command, {}, "lightflow", "_LIGHTFLOW_COMPLETE").source())
