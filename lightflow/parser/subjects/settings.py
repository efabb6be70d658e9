"""How the whole workflow runs: the keys `settings` and `shell`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.schema_pieces import ID_PATTERN, Schema, block, flag, integer
from lightflow.parser.subjects.limits import RETENTION
from lightflow.parser.subjects.retries import RETRIES
from lightflow.parser.tree import Tree
from lightflow.plugins.scripts import SHELL, shell_problem
from lightflow.spec.model import Settings
from liteflow.api import DEFAULT_MAX_LOST, DEFAULT_WORKERS, MAX_SLOTS

#: The modes of this machine.
MODES: Final = ("thread", "process", "async")
MODE: Final[Schema] = {
    "description": "Where tasks run: Python code in threads (`thread`), in worker processes (`process`) or on an event "
    "loop (`async`) of this machine, where commands are separate processes in every mode; or, with the name of a "
    "cluster in `clusters`, Python code and commands on its machines.",
    "type": "string",
    "pattern": ID_PATTERN,
    "examples": [*MODES],
    "x-expects": f"one of {', '.join(MODES)}, or the name of a cluster",
}


def _folder(description: str, default: str, **keywords: Any) -> Schema:
    return {"description": description, "type": "string", "minLength": 1, "default": default, **keywords}


SETTINGS: Final = block(
    "Settings",
    "How the whole workflow runs.",
    {
        "max_parallel_tasks": integer(
            "Maximum concurrent tasks.",
            1,
            100_000,
            default=DEFAULT_WORKERS,
            examples=[8],
            **{"x-aliases": ["max_active_tasks", "max_workers"]},
        ),
        "retries": RETRIES | {"description": "Number of retry attempts of tasks without a number of their own."},
        "log_dir": _folder("Directory for log files.", "logs/", examples=["logs/"]),
        "mode": MODE | {"default": "thread"},
        "max_lost": integer(
            "How often a task starts again because its process or its machine died; after that it has failed. Such an "
            "attempt uses none of its `retries`.",
            0,
            MAX_SLOTS,
            default=DEFAULT_MAX_LOST,
            examples=[10],
        ),
        "fail_fast": flag("Stop the run at the first failure; otherwise independent branches continue."),
        "resume": {
            "description": "`auto`: `run` continues an unfinished run; `manual`: it says how to continue it.",
            "enum": ["auto", "manual"],
            "default": "manual",
        },
        "container_engine": {
            "description": "The container engine. Without it, the first of docker and podman that answers.",
            "enum": ["docker", "podman"],
        },
        "containers": block(
            "Containers",
            "The rights of containers.",
            {"unsafe": flag("Allow `options` of containers, and volumes with the socket of an engine.")},
        ),
        "shell": {**SHELL, "description": "Another place for the key `shell` of the workflow."},
        "checkpoint_dir": _folder("Directory for checkpoint files.", ".lightflow-checkpoints"),
        "retention": RETENTION,
        "preload": {
            "description": "Import the libraries of task types once, before worker processes start. With false each "
            "worker imports them itself, which takes longer; use it if a library does not work then.",
            "type": "boolean",
            "default": True,
        },
    },
)


def check_shells(tree: Tree) -> Iterator[Problem]:
    """Report a shell that cannot take a script, and two shells of the workflow."""
    settings = tree.root.get("settings")
    inner = settings.get("shell") if isinstance(settings, dict) else None
    if inner is not None and "shell" in tree.root:
        message = '"shell" and "settings.shell" mean the same; keep one of them'
        yield tree.problem(["settings", "shell"], message, key=True)
    for path, shell in ((["shell"], tree.root.get("shell")), (["settings", "shell"], inner)):
        if problem := shell_problem(shell):
            yield tree.problem(path, problem)


def build_settings(root: Mapping[str, Any]) -> Settings:
    """Return the settings of a file."""
    values: dict[str, Any] = {  # 4.0 is a whole number for the schema
        key: int(value) if isinstance(value, float) else value for key, value in root.get("settings", {}).items()
    }
    for key in (
        "shell",
        "retention",
        "max_lost",
        "container_engine",
        "containers",
    ):  # parts of other records, or of task types
        values.pop(key, None)
    return Settings(**values)
