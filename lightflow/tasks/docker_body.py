"""The program of an image as the body of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.tasks.bodies import ProgramEnvironment, call_of
from liteflow import Call
from liteflow.api import EMPTY_MAPPING


def docker(
    image: str,
    *,
    env: Mapping[str, Any] = EMPTY_MAPPING,
    secrets: Sequence[str] = (),
    cwd: str | None = None,
    **keys: Any,
) -> Call:
    """Return the body of a task in a container: `docker("python:3.12-slim", args=["python", "train.py"])`.

    `env` are the variables of the program, `secrets` the names of secrets of the dag that it reads as files, `cwd` is
    its folder. The other keywords are the keys of `type: docker`: args, entrypoint, output, pull, volumes, network,
    user, memory, cpus, shm_size, read_only, gpus, platform, workdir, secrets_as, engine, keep. A Task in `args` and
    `env` means its value.

    Raises:
        DefinitionError: an invalid key.
    """
    return call_of("docker", {"image": image, **keys}, ProgramEnvironment(env=env, secrets=secrets, cwd=cwd))
