"""The table of commands: their names and one line about each; the rest is imported when one is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from lightflow.cli.declare import Command, NotPlain

#: name: (module and object, the first line of its help), under the headings of `--help`
SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "Run": {
        "run": ("run:run", "Run a workflow."),
        "resume": ("run:resume", "Go on where a run stopped; what succeeded is kept."),
        "cancel": ("cancel:cancel", "Stop a run."),
    },
    "Look": {
        "status": ("status:status", "Show a run and its tasks."),
        "logs": ("logs:logs", "Show what a task printed, or all tasks of a run."),
        "outputs": ("outputs:outputs", "Show the values that tasks have handed on."),
        "why": ("why:why", "Explain why a task is in its state."),
        "runs": ("status:runs", "List runs, the newest first."),
        "list": ("status:list_workflows", "List the workflows that have run."),
        "dag": ("dag:dag", "Draw a workflow, or a run as it went."),
        "pools": ("pools:pools", "List the pools with their use, or change one."),
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


def find(name: str) -> Any:
    """The command of that name: a `declare.Command`, or click's own."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(f"lightflow.cli.{module}"), attribute)


def plain(arguments: Sequence[str]) -> Callable[[], Any] | None:
    """What a plain command line calls (see `declare`); None where click has to read it.

    The call raises `Misuse`, before it has done anything, where click has to say what is wrong.
    """
    if not arguments or arguments[0] not in COMMANDS or "_LIGHTFLOW_COMPLETE" in os.environ:
        return None
    command = find(arguments[0])
    if not isinstance(command, Command):
        return None
    try:
        values = command.plain(arguments[1:])
    except NotPlain:
        return None
    return lambda: command.call(**values)
