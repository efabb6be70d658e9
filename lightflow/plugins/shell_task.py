"""Tasks that are shell scripts: `run: echo hello`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from lightflow.parser.spec import TaskSpec
from lightflow.plugins.base import TaskType, absolute
from liteflow.work import Command

DEFAULT_SHELL: Final = ("/bin/sh", "-c")


class ShellTask(TaskType):
    """Gives the script to a shell as one argument. `/bin/sh`, as everywhere: a script of several lines
    goes on after a line that fails unless it begins with `set -e` (or `shell: [sh, -e, -c]` is given)."""

    name = "shell"
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Runs a shell script.",
        "properties": {
            "run": {
                "description": "The command, or a script of several lines.",
                "type": "string",
                "pattern": r"\S",
                "examples": ['echo "hello"', "set -e\nmake\nmake install\n"],
                "x-expects": "a command (text)",
                "x-aliases": ["command", "script", "cmd"],
            },
            "shell": {
                "description": "The shell: a name, or the words that come before the script.",
                "type": ["string", "array"],
                "pattern": r"^\S+$",
                "minItems": 1,
                "items": {"type": "string", "minLength": 1},
                "default": "/bin/sh",
                "examples": ["bash", ["bash", "-eu", "-c"]],
                "x-expects": 'the name of a shell such as bash, or a list of words such as ["bash", "-eu", "-c"]',
            },
            "output": {
                "description": "Take the task's value (`return_value`) from what it prints: `last_line`, the last line "
                "that is not blank, as a terminal shows it (of a progress bar what stands behind the last carriage "
                "return, no colors); `json`, all of it. What it writes to standard error is part of that. "
                "Values with names go into the file `$LIGHTFLOW_OUTPUT`, with or without this.",
                "enum": ["last_line", "json"],
                "examples": ["last_line"],
            },
        },
        "required": ["run"],
    }

    def build(self, task: TaskSpec) -> Command:
        config = task.config
        argv = (*shell_words(config.get("shell")), config["run"])
        return Command(argv, absolute(task.cwd), task.env, output=config.get("output"))


def shell_words(shell: str | list[str] | None) -> tuple[str, ...]:
    """The words before the script. A bare name is looked up on PATH now, so the task's own `env` cannot change it."""
    if shell is None:
        return DEFAULT_SHELL
    program, *rest = [shell, "-c"] if isinstance(shell, str) else shell
    if os.sep in program:
        return (program, *rest)
    import shutil  # with its compression formats, 10 ms that a workflow without `shell` need not pay

    return (shutil.which(program) or program, *rest)
