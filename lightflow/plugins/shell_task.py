"""Tasks that are shell scripts: `run: echo hello`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from lightflow.plugins.base import ConfigProblem, TaskType, absolute
from lightflow.plugins.container_keys import CONTAINER, image_hints
from lightflow.plugins.scripts import SHELL, lines, shell_problem
from lightflow.spec.model import TaskSpec
from liteflow import Command
from liteflow.api import Body, shell_words


class ShellTask(TaskType):
    """Gives the script to a shell as one argument. The script ends at the first line that fails."""

    name = "shell"
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Runs a shell script. It stops at the first line that fails, and so does the task.",
        "properties": {
            "run": {
                **lines("The command, a script of several lines, or a list of lines."),
                "examples": ['echo "hello"', "make\nmake install\n", ["make", "make install"]],
                "x-expects": "a command (text), or a list of lines",
                "x-aliases": ["command", "script", "cmd"],
                "x-expressions": "shell",
            },
            "shell": {
                **SHELL,
                "description": f"{SHELL['description']} It replaces the workflow's `shell`.",
                "x-expressions": "none",
            },
            "output": {
                "description": "Take the task's value (`return_value`) from its output: `last_line`, the last line "
                "that is not blank, as a terminal shows it (of a progress bar the text after the last carriage return, "
                "without colors); `json`, all of it. Standard error is part of the output. Values with names go into "
                "the file `$LIGHTFLOW_OUTPUT`, with or without this key.",
                "enum": ["last_line", "json"],
                "examples": ["last_line"],
                "x-expressions": "none",
            },
            "container": CONTAINER,
        },
        "required": ["run"],
    }

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        if problem := shell_problem(config.get("shell")):
            yield ConfigProblem("shell", problem)

    def hints(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        return image_hints(config["container"], "container") if isinstance(config.get("container"), dict) else ()

    def completed(
        self, config: dict[str, Any], *, workflow_shell: Any, is_branch: bool, container_engine: str | None
    ) -> dict[str, Any]:
        if workflow_shell is not None:
            config.setdefault("shell", workflow_shell)
        if is_branch:
            config.setdefault("output", "last_line")
        if "container" in config and container_engine is not None:
            config["container"] = {"engine": container_engine, **config["container"]}
        return config

    def build(self, task: TaskSpec) -> Body:
        config = task.config
        argv = shell_words(config.get("shell"), config["run"])
        if "container" in config:
            from lightflow.plugins.container_task import container_call, with_program

            return container_call(task, *with_program(config["container"], argv), output=config.get("output"))
        return Command(argv, absolute(task.cwd), task.env, output=config.get("output"))
