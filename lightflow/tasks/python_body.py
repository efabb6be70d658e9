"""A Python program of its own as the body of a task: in an environment, in a container, or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.tasks.bodies import ProgramEnvironment, call_of
from liteflow import Call, DefinitionError
from liteflow.api import EMPTY_MAPPING


def python(
    *,
    env: Mapping[str, Any] = EMPTY_MAPPING,
    secrets: Sequence[str] = (),
    cwd: str | None = None,
    **keys: Any,
) -> Call:
    """Return the body of a task: `python(call="prices:load", args=[day], environment={"packages": ["polars"]})`.

    The keywords are the keys of `type: python`: run (code), call or file, args, environment and container. `env` are
    the variables of the program, `secrets` the names of secrets of the dag: variables, or in a container files. A Task
    in `args` and `env` means its value. Arguments and the value of a function are JSON.

    Raises:
        DefinitionError: an invalid key; or nothing says that the program is not to run in the Python of the dag.
    """
    if not {"environment", "container", "file"} & keys.keys():
        raise DefinitionError("python(…): needs environment, container or file; a function is a task by itself: @task")
    return call_of("python", keys, ProgramEnvironment(env=env, secrets=secrets, cwd=cwd))
