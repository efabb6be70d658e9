"""A shell script as the body of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.tasks.bodies import ProgramEnvironment, body_of
from liteflow import DefinitionError
from liteflow.api import EMPTY_MAPPING, Body, pasted_task


def shell(
    run: str | Sequence[str],
    *,
    env: Mapping[str, Any] = EMPTY_MAPPING,
    secrets: Sequence[str] = (),
    cwd: str | None = None,
    **keys: Any,
) -> Body:
    """Return the body of a shell task: `shell("python train.py", container="python:3.12-slim")`.

    `env` are the variables of the script, where a Task means its value, and `secrets` the names of secrets of the dag:
    variables, or in a container files. The other keywords are the keys of `type: shell`: shell, output, container.
    A script without a container is simpler with `dag.shell`.

    Raises:
        DefinitionError: an invalid key, or the value of a task in the text of the script.
    """
    if problem := pasted_task(run if isinstance(run, str) else "\n".join(map(str, run))):
        raise DefinitionError(f"shell(…): the script holds {problem}")
    return body_of(
        "shell",
        {"run": run if isinstance(run, str) else list(run), **keys},
        ProgramEnvironment(env=env, secrets=secrets, cwd=cwd),
    )
