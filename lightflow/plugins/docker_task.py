"""Tasks that run the program of an image: `type: docker`, with docker or podman."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from lightflow.plugins.base import ConfigProblem, TaskType
from lightflow.plugins.container_keys import ANSWERS, KEYS, SHOWN, image_hints
from lightflow.plugins.container_task import container_call
from lightflow.spec.model import TaskSpec
from liteflow import Call


class DockerTask(TaskType):
    """Runs a container of an image to its end, with docker or podman."""

    name = "docker"
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Runs the program of an image in a container, by docker or podman.",
        "properties": {
            **KEYS,
            "args": {
                "description": "The arguments of the program, each one word. An expression is one word, or a part of "
                "it.",
                "type": "array",
                "items": {"type": ["string", "number"]},
                "examples": [["--day", "${{ params.day }}"]],
                "x-expects": "a list of words",
                **SHOWN,
            },
            "entrypoint": {
                "description": "The program, in place of that of the image.",
                "type": "string",
                "minLength": 1,
                "examples": ["/bin/sh"],
                **SHOWN,
            },
            "output": {
                "description": "Take the task's value (`return_value`) from its output: the `last_line`, or all of it "
                "as `json`.",
                "enum": ["last_line", "json"],
                "x-expressions": "none",
            },
        },
        "x-answers": {
            "command cmd run": "args",
            **ANSWERS,
            "name": "the name of the container is that of the attempt; remove it",
        },
        "required": ["image"],
    }

    def completed(
        self, config: dict[str, Any], *, workflow_shell: Any, is_branch: bool, container_engine: str | None
    ) -> dict[str, Any]:
        if container_engine is not None:
            config.setdefault("engine", container_engine)
        if is_branch:
            config.setdefault("output", "last_line")
        return config

    def hints(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        return image_hints(config, "image")

    def summary(self, config: Mapping[str, Any]) -> str:
        return " ".join(["docker", str(config["image"]), *map(str, config.get("args", ()))])

    def build(self, task: TaskSpec) -> Call:
        keys = {key: value for key, value in task.config.items() if key not in ("args", "output")}
        return container_call(task, keys, task.config.get("args", ()), output=task.config.get("output"))
