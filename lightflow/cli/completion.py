"""`lightflow completion`: what a shell has to load to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

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
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options, files, and the ids of tasks, runs and workflows.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    say(kind(click.get_current_context().find_root().command, {}, "lightflow", "_LIGHTFLOW_COMPLETE").source())
