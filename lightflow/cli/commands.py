"""The table of commands: the name of each, where it is defined, and the first line of its help."""

from __future__ import annotations

import importlib
from typing import Any, Final

#: name: (module and object, first line of the help), under the headings of `--help`
SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "Run": {
        "run": ("run:run", "Run a workflow, or a part of it."),
        "resume": ("resume:resume", "Resume a run; tasks that succeeded are not run again."),
        "retry": ("retry:retry", "Run a part of a run again."),
        "task": ("task:task", "Run a single task."),
        "fork": ("fork:fork", "Start a new run from the middle of another one."),
        "mark": ("mark:mark", "Give tasks of a run a state by hand."),
        "wake": ("wake:wake", "Resume the parked runs that are due."),
        "cancel": ("cancel:cancel", "Cancel a run."),
        "approve": ("approve:approve", "Approve a task that waits for a decision."),
        "reject": ("approve:reject", "Reject a task that waits for a decision: it fails."),
    },
    "Look": {
        "status": ("status:status", "Show a run and its tasks."),
        "logs": ("logs:logs", "Show what a task printed, or all tasks of a run."),
        "outputs": ("outputs:outputs", "Show the outputs of a run, and the output values of its tasks."),
        "why": ("why:why", "Explain why a task is in its state."),
        "diff": (
            "diff:diff",
            "Compare two runs and their child runs: definitions, parameters, tasks and values.",
        ),
        "runs": ("runs:runs", "List runs, the newest first."),
        "list": ("list_workflows:list_workflows", "List the workflows that have run."),
        "dag": ("dag:dag", "Draw a workflow, or a run with its states."),
        "pools": ("pools:pools", "List the pools and their use, or change a pool."),
    },
    "Serve": {
        "serve": ("serve:serve", "Start runs by schedules and triggers, and show runs in a browser."),
        "schedule": ("schedule:schedule", "Show and change what starts runs."),
        "ui": ("ui:ui", "Serve the history in a state file to programs and browsers, read-only."),
        "open": ("open:open_pages", "Open the pages of the server in a browser."),
        "token": ("token:token", "Print the token of the server of a state file."),
    },
    "Write": {
        "template": ("template:template", "Write a small workflow file to start from."),
        "validate": ("validate:validate", "Check workflow files without running any task."),
        "schema": ("schema:schema", "Print the JSON Schema of workflow files, for editors."),
    },
    "Maintain": {
        "list-checkpoints": ("list_checkpoints:list_checkpoints", "List the checkpoint files of a workflow."),
        "clear": ("clear:clear", "Set tasks of a run back, or delete the checkpoints of a workflow."),
        "prune": ("prune:prune", "Delete old runs with their logs, values and checkpoints."),
        "db": ("db:db", "Check the state file, copy it, or give its free space back to the disk."),
        "doctor": ("doctor:doctor", "Check this machine and the state file, or the machines of a cluster."),
        "completion": ("completion:completion", "Print the completion script of a shell."),
    },
}
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


def load(name: str) -> Any:
    """Import and return the click command of that name."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(f"lightflow.cli.{module}"), attribute)
